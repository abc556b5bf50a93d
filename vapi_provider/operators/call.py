# SPDX-License-Identifier: Apache-2.0
"""Operators that place a call, or work on one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, conf
from vapi_provider.links.call import VapiCallLink
from vapi_provider.placing.deferral import DefersPlacing
from vapi_provider.placing.masking import mask_customer, mask_values
from vapi_provider.rendering import RendersFields, show_call_id
from vapi_provider.waiting.mixin import (
    DEFAULT_TIMEOUT,
    StopFlag,
    as_given,
    useless_without_wait,
)
from vapi_provider.waiting.outlets import shows_end

if TYPE_CHECKING:
    from typing_extensions import Self

    from airflow.providers.common.compat.sdk import Context, XComArg
    from vapi_provider.hooks.vapi import VapiHook
    from vapi_provider.models.call import Call
    from vapi_provider.models.outcome import CallOutcome
    from vapi_provider.models.summary import CallSummary
    from vapi_provider.placing.placement import CallPlacement
    from vapi_provider.placing.request import Customer
    from vapi_provider.waiting.wait import CallWait, WaitState


class VapiUpdateCallOperator(RendersFields):
    """
    Set the name of a call, which identifies it in Vapi's dashboard.

    It sends ``PATCH /call/{id}`` with nothing but the name (https://docs.vapi.ai/api-reference/calls/update). Running
    it twice has the effect of running it once.

    :param call_id: the call's id, or its summary such as ``call.output``. (templated)
    :param name: the new name, 1 to 40 characters. (templated)
    :param vapi_conn_id: the connection's id. (templated)
    """

    template_fields: Sequence[str] = ("call_id", "name", "vapi_conn_id")
    shown_fields = {"call_id": show_call_id}
    operator_extra_links = (VapiCallLink(),)
    ui_color = "#d9f2ea"

    def __init__(
        self,
        *,
        call_id: str | CallSummary | XComArg,
        name: str | XComArg,
        vapi_conn_id: str = "vapi_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.call_id = call_id
        self.name = name
        self.vapi_conn_id = vapi_conn_id

    @shows_end
    def execute(self, context: Context) -> CallSummary:
        """
        Set the name.

        :param context: the context of the running task
        :raises VapiConfigurationError: when id, name or connection is unusable; nothing is sent then
        :raises VapiError: when the name could not be set
        :return: the call's summary, see :class:`~vapi_provider.models.summary.CallSummary`
        """
        # Here, not at the top: a DAG file is parsed every few seconds and needs none of it.
        from vapi_provider.client.arguments import check_call_id
        from vapi_provider.hooks.vapi import VapiHook

        call_id = check_call_id(self.call_id)
        self.refuse_missing("name")
        hook = VapiHook(self.vapi_conn_id)
        VapiCallLink().persist(context, hook.dashboard_url(call_id))
        summary = hook.update_call(call_id, name=self.name).summary()  # type: ignore[arg-type]
        # The name can be a person's.
        self.log.info("Call %s has its new name.", call_id)
        return summary


_CALL_ID = "call_id"
"""The key of the XCom with the call's id, which is there as soon as the call exists."""

_TALKERS = ("assistant_id", "squad_id", "assistant")
_CALL = ("phone_number_id", "customer", "name", "assistant_overrides", "schedule_plan", "extra_body")


class VapiCreateCallOperator(DefersPlacing):
    """
    Place an outbound call to one callee, and wait for its end.

    It sends ``POST /call`` (https://docs.vapi.ai/api-reference/calls/create). The phone rings once, however often the
    task is retried, cleared or killed: the call carries a token by which every later try finds it again. A campaign is
    ``VapiCreateCallOperator.partial(...).expand(customer=[...])``. The XCom ``call_id`` exists as soon as the call does.

    :param assistant_id: the assistant that talks; this, ``squad_id`` or ``assistant``. (templated)
    :param squad_id: the squad that talks. (templated)
    :param assistant: an assistant made for this call, as the API takes it. (templated)
    :param phone_number_id: the phone number of yours to call from. (templated)
    :param customer: the callee: ``number`` in E.164 or ``sip_uri``, and more, see
        :class:`~vapi_provider.placing.request.Customer`. (templated)
    :param name: the call's name, at most 30 characters; the token follows it. (templated)
    :param assistant_overrides: what differs from the assistant for this call, as the API takes it, such as
        ``{"variableValues": {"first_name": "Ada"}}`` for the assistant's script. (templated)
    :param schedule_plan: when to call: ``earliest_at`` and ``latest_at``, with a time zone; at once by default. (templated)
    :param extra_body: more of the request, under the API's own names; what has an argument here is refused. (templated)
    :param vapi_conn_id: the connection's id. (templated)
    :param wait_for_completion: whether to wait for the call's end, as the sensor does; True by default
    :param deferrable: wait in the triggerer; Airflow's ``[operators] default_deferrable`` by default
    :param poll_interval: the seconds between two reads of the call; at least 5 when deferrable. 15 by default
    :param timeout: the seconds after which the task fails, counted from the placement or, if later, from the
        ``latest_at`` (else the ``earliest_at``) of ``schedule_plan``; 12 hours by default, the longest that Vapi lets a
        call last
    :param fail_on: outcomes that fail the task without retries; none by default
    :param wait_for_analysis: whether to go on after the end until the results that ``include`` names are there, the
        analysis or structured outputs; if it names neither, whichever comes first
    :param analysis_timeout: how many seconds after the call's end to wait for them; 60 by default
    :param include: content to add to the summary, by name, see :meth:`vapi_provider.models.call.Call.summary`
    :param hang_up_on_kill: whether to end the call when the task is killed; deferred tasks need Airflow 3.3 for it
    :param hang_up_on_timeout: whether to end a call that is not over after ``timeout``
    :raises VapiConfigurationError: at DAG parse time, when arguments are missing, exclude each other, or have no effect
    """

    template_fields: Sequence[str] = (*_TALKERS, *_CALL, "vapi_conn_id")
    shown_fields = {
        "customer": mask_customer,
        "assistant_overrides": mask_values,
        "assistant": mask_values,
        "extra_body": mask_values,
    }
    template_fields_renderers = {name: "json" for name in (*shown_fields, "schedule_plan")}
    operator_extra_links = (VapiCallLink(),)
    ui_color = "#d9f2ea"
    places_call = True

    def __init__(
        self,
        *,
        assistant_id: str | XComArg | None = None,
        squad_id: str | XComArg | None = None,
        assistant: Mapping[str, Any] | XComArg | None = None,
        phone_number_id: str | XComArg | None = None,
        customer: Customer | XComArg | None = None,
        name: str | XComArg | None = None,
        assistant_overrides: Mapping[str, Any] | XComArg | None = None,
        schedule_plan: Mapping[str, datetime | str] | XComArg | None = None,
        extra_body: Mapping[str, Any] | XComArg | None = None,
        vapi_conn_id: str = "vapi_default",
        wait_for_completion: bool = True,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = 15,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        fail_on: Iterable[CallOutcome | str] = (),
        wait_for_analysis: bool = False,
        analysis_timeout: float | timedelta = 60,
        include: Iterable[str] = (),
        hang_up_on_kill: bool = False,
        hang_up_on_timeout: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.assistant_id = assistant_id
        self.squad_id = squad_id
        self.assistant = assistant
        self.phone_number_id = phone_number_id
        self.customer = customer
        self.name = name
        self.assistant_overrides = assistant_overrides
        self.schedule_plan = schedule_plan
        self.extra_body = extra_body
        self.vapi_conn_id = vapi_conn_id
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable  # type: ignore[assignment]
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.fail_on = as_given(fail_on)
        self.wait_for_analysis = wait_for_analysis
        self.analysis_timeout = analysis_timeout
        self.include = as_given(include)
        self.hang_up_on_kill = hang_up_on_kill
        self.hang_up_on_timeout = hang_up_on_timeout
        # Airflow passes the merged default_args of the DAG and its task groups.
        self._refuse_misuse(kwargs.get("default_args") or {})
        if deferrable is None:
            self.deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self._stop = StopFlag()
        self._wait_call_id: str | None = None
        self._placement: CallPlacement | None = None

    def _refuse_misuse(self, default_args: Mapping[str, Any]) -> None:
        from vapi_provider.exceptions import VapiConfigurationError
        from vapi_provider.placing.request import find_misuse

        misuse = find_misuse(vars(self))
        useless = [] if self.wait_for_completion else useless_without_wait(self, default_args)
        if misuse is None and useless:
            verb = "has" if len(useless) == 1 else "have"
            misuse = f"{' and '.join(useless)} {verb} no effect with wait_for_completion=False"
        if misuse is not None:
            raise VapiConfigurationError(f"Task {self.task_id!r}: {misuse}.")

    def prepare_for_execution(self) -> Self:
        """Return the operator of one try, which another try in the same process must not have stopped."""
        other = super().prepare_for_execution()
        other._stop = StopFlag()
        return other

    @shows_end
    def execute(self, context: Context) -> CallSummary:
        """
        Place the call, or find the one that an earlier try has placed, and wait for its end unless told otherwise.

        :param context: the context of the running task
        :raises VapiConfigurationError: when an argument or the connection is unusable; nothing is sent then
        :raises VapiConcurrencyLimitError: when the organization is over its concurrency limit; no call was placed
        :raises VapiCallInDoubtError: when it is unknown whether a call was placed
        :raises VapiCallFailedError: when the call ended in a way that fails the task
        :raises VapiError: when the call could not be placed
        :raises AirflowSensorTimeout: when the call had not ended after ``timeout`` seconds
        :return: the call's summary, see :class:`~vapi_provider.models.summary.CallSummary`
        """
        self._try_started_at = time.time()
        return self._place_and_wait(context, None)

    def _place_and_wait(self, context: Context, resumed: WaitState | None) -> CallSummary:
        from vapi_provider.hooks.vapi import VapiHook
        from vapi_provider.models.summary import check_include
        from vapi_provider.placing.dialling import watch_dialling
        from vapi_provider.placing.placement import CallPlacement
        from vapi_provider.placing.request import build_request
        from vapi_provider.waiting.wait import WaitState

        self._wait_call_id = None
        include = check_include(self.include)
        policy = self._wait_policy() if self.wait_for_completion else None
        self.refuse_missing(*_TALKERS, *_CALL)
        request = build_request({**vars(self), **self.rendered_fields})
        self._hook = VapiHook(self.vapi_conn_id)
        placement = CallPlacement(context, request, self._hook.client, self.log, self._stop, resumed)
        self._placement = placement
        # A try that has lost its state might defer for ever.
        may_defer = self.deferrable and (resumed is None or resumed.sent_at is not None)
        call = self._place(context, self._hook, placement, may_defer=may_defer)
        if policy is None:
            if (placement.limits or {}).get("concurrencyBlocked") is not False:
                call = watch_dialling(self._hook.client, call, placement.limits, self.log)
            return call.summary(include)
        state = WaitState(
            started_at=max(time.time(), request.due_at or 0.0),
            limits=placement.limits,
            try_number=context["ti"].try_number,
            try_started_at=self._try_started_at,
            placed_at=placement.placed_at or placement.state.at,
        )
        # The first poke is not the first request, so transient errors are waited out.
        wait = self._begin_wait(context, state, policy, is_first=False, pokes_once=False)
        if self.deferrable:
            return wait.poke() or self._defer_wait(context, wait)
        try:
            return wait.poke_until_over(self._interval_seconds()) or self._time_out(wait)
        except AirflowTaskTimeout as error:
            self._hang_up_at_limit(wait)
            if not wait.fate:
                raise
            raise AirflowTaskTimeout(f"{error}. {wait.fate}") from None

    def _place(self, context: Context, hook: VapiHook, placement: CallPlacement, *, may_defer: bool) -> Call:
        """Return the call as it was placed or read; its id is published before it is read."""
        call = None
        while call is None:
            until = placement.run(may_defer=may_defer)
            if until is not None:
                self._defer_placing(context, placement, until)
            self._publish(context, hook, str(placement.call_id))
            call = placement.read()
        return call

    def _publish(self, context: Context, hook: VapiHook, call_id: str) -> None:
        try:
            context["ti"].xcom_push(_CALL_ID, call_id)
            VapiCallLink().persist(context, hook.dashboard_url(call_id))
            self._has_link = True
        finally:
            if self._stop.is_set:
                self._hang_up_if_killed()

    def _awaited_call_id(self, context: Context) -> Any:
        ti = context["ti"]
        return self._call_id or ti.xcom_pull(task_ids=ti.task_id, key=_CALL_ID, map_indexes=ti.map_index)

    @property
    def _call_id(self) -> str | None:
        return self._wait_call_id or (self._placement.call_id if self._placement else None)

    def _begin_wait(self, *args: Any, **kwargs: Any) -> CallWait:
        wait = super()._begin_wait(*args, **kwargs)
        self._wait_call_id = wait.call_id
        return wait

    def _time_out(self, wait: CallWait) -> CallSummary:
        self._hang_up_at_limit(wait)
        return super()._time_out(wait)

    def _hang_up_at_limit(self, wait: CallWait) -> None:
        if self.hang_up_on_timeout and not wait.state.has_ended:
            wait.hang_up()

    def on_kill(self) -> None:
        """Send nothing more, and end the call if that was asked for, within 3 seconds."""
        self._stop.is_set = True
        self._hang_up_if_killed()
        super().on_kill()

    def _hang_up_if_killed(self) -> None:
        from vapi_provider.client.hang_up import hang_up_soon

        # A signal handler must not look the connection up.
        client = vars(self._hook).get("client") if self._hook else None
        if self.hang_up_on_kill and client is not None and self._call_id is not None:
            self.log.warning("The task was stopped. %s", hang_up_soon(client, self._call_id))
