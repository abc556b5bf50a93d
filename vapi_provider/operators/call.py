# SPDX-License-Identifier: Apache-2.0
"""Operators that place a call, or work on one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, BaseOperator, conf
from vapi_provider.links.call import VapiCallLink
from vapi_provider.models.outcome import CallOutcome, check_fail_on
from vapi_provider.models.summary import check_include
from vapi_provider.placing.masking import mask_customer, mask_values
from vapi_provider.waiting.mixin import WaitsForCall, check_analysis_timeout, check_limits

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from vapi_provider.hooks.vapi import VapiHook
    from vapi_provider.models.call import Call
    from vapi_provider.waiting.wait import CallWait, WaitState


class VapiUpdateCallOperator(BaseOperator):
    """
    Set the name of a call, by which people find it in Vapi's dashboard.

    It sends ``PATCH /call/{id}`` with nothing but the name (https://docs.vapi.ai/api-reference/calls/update). Running
    it twice has the effect of running it once.

    :param call_id: the call's id. (templated)
    :param name: the new name, 1 to 40 characters. (templated)
    :param vapi_conn_id: the connection's id. (templated)
    """

    template_fields: Sequence[str] = ("call_id", "name", "vapi_conn_id")
    operator_extra_links = (VapiCallLink(),)
    ui_color = "#d9f2ea"

    def __init__(
        self,
        *,
        call_id: str,
        name: str,
        vapi_conn_id: str = "vapi_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.call_id = call_id
        self.name = name
        self.vapi_conn_id = vapi_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Set the name.

        :param context: the context of the running task
        :raises VapiConfigurationError: when id, name or connection is unusable; nothing is sent then
        :raises VapiError: when the name could not be set
        :return: the call's summary, see :meth:`vapi_provider.models.call.Call.summary`
        """
        # Here, not at the top: a DAG file is parsed every few seconds and needs none of it.
        from vapi_provider.client.arguments import check_call_id
        from vapi_provider.hooks.vapi import VapiHook

        call_id = check_call_id(self.call_id)
        VapiCallLink().persist(context, call_id)
        call = VapiHook(self.vapi_conn_id).update_call(call_id, name=self.name)
        summary = call.summary()
        self.log.info("Call %s has the name %r.", call_id, summary["name"])
        return summary


_DEFAULT_TIMEOUT = conf.getfloat("sensors", "default_timeout", fallback=7 * 24 * 60 * 60)
_CALL_ID = "call_id"
"""The key of the XCom that has the call's id from the moment on at which the call exists."""

_REQUEST_ARGUMENTS = (
    "assistant_id",
    "squad_id",
    "workflow_id",
    "assistant",
    "phone_number_id",
    "customer",
    "name",
    "assistant_overrides",
    "schedule_plan",
    "request",
)
_MASKED = {
    "customer": mask_customer,
    "assistant_overrides": mask_values,
    "assistant": mask_values,
    "request": mask_values,
}
"""Arguments that hold what is personal or secret, and what Airflow stores and shows of them once they are rendered."""


class VapiCreateCallOperator(WaitsForCall):
    """
    Place a call to one person, whose phone rings once, however often the task is tried, cleared or killed.

    It sends ``POST /call`` (https://docs.vapi.ai/api-reference/calls/create). The call carries a token, in its name and
    in its variable values, by which every later try of the same task finds it again: what was sent is not sent again
    unless it is certain that nobody was called. A campaign is
    ``VapiCreateCallOperator.partial(...).expand(customer=[...])``.

    The XCom ``call_id`` is there as soon as the call exists.

    :param assistant_id: the assistant that talks; this, ``squad_id``, ``workflow_id`` or ``assistant``. (templated)
    :param squad_id: the squad that talks. (templated)
    :param workflow_id: the workflow that talks. (templated)
    :param assistant: an assistant made for this call, as the API takes it. (templated)
    :param phone_number_id: the phone number of yours to call from. (templated)
    :param customer: whom to call: ``number`` in E.164 or ``sip_uri``, and ``name``, ``extension``, ``email``,
        ``external_id``. (templated)
    :param name: the call's name, at most 30 characters; the token follows it. (templated)
    :param assistant_overrides: what is different for this call, as the API takes it, such as
        ``{"variableValues": {"first_name": "Ada"}}`` for the assistant's script. (templated)
    :param schedule_plan: when to call: ``earliest_at`` and ``latest_at``, datetimes with a time zone or ISO 8601; at once
        by default. (templated)
    :param request: more of the request, under the API's own names; what has an argument here is refused. (templated)
    :param vapi_conn_id: the connection's id. (templated)
    :param wait_for_completion: whether to wait for the call's end, as
        :class:`~vapi_provider.sensors.call.VapiCallSensor` does
    :param deferrable: wait in the triggerer; Airflow's ``[operators] default_deferrable`` by default
    :param poke_interval: the seconds between two looks; at least 5 when deferrable
    :param timeout: the seconds of waiting after which the task fails; Airflow's ``[sensors] default_timeout`` by default
    :param fail_on: outcomes that fail the task without retries; none by default
    :param wait_for_analysis: whether to go on after the end until Vapi's analysis of the call is there
    :param analysis_timeout: how many seconds after the call's end to wait for the analysis
    :param include: content to add to the summary, by name, see :meth:`vapi_provider.models.call.Call.summary`
    :param hang_up_on_kill: whether to end the call when the task is killed; not the default, since missed heartbeats and
        evictions kill tasks, too. Deferred tasks see to that from Airflow 3.3 on
    :param hang_up_on_timeout: whether to end a call that is not over after ``timeout``
    """

    template_fields: Sequence[str] = (*_REQUEST_ARGUMENTS, "vapi_conn_id")
    template_fields_renderers = {name: "json" for name in (*_MASKED, "schedule_plan")}
    operator_extra_links = (VapiCallLink(),)
    ui_color = "#d9f2ea"
    places_call = True

    def __init__(
        self,
        *,
        assistant_id: str | None = None,
        squad_id: str | None = None,
        workflow_id: str | None = None,
        assistant: Mapping[str, Any] | None = None,
        phone_number_id: str | None = None,
        customer: Mapping[str, str | None] | None = None,
        name: str | None = None,
        assistant_overrides: Mapping[str, Any] | None = None,
        schedule_plan: Mapping[str, datetime | str] | None = None,
        request: Mapping[str, Any] | None = None,
        vapi_conn_id: str = "vapi_default",
        wait_for_completion: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: float | timedelta = 15,
        timeout: float | timedelta = _DEFAULT_TIMEOUT,
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
        self.workflow_id = workflow_id
        self.assistant = assistant
        self.phone_number_id = phone_number_id
        self.customer = customer
        self.name = name
        self.assistant_overrides = assistant_overrides
        self.schedule_plan = schedule_plan
        self.request = request
        self.vapi_conn_id = vapi_conn_id
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poke_interval = _seconds(poke_interval)
        self.timeout = _seconds(timeout)
        check_limits(self.poke_interval, self.timeout)
        self.fail_on = check_fail_on(fail_on)
        self.wait_for_analysis = wait_for_analysis
        self.analysis_timeout = check_analysis_timeout(analysis_timeout)
        self.include = check_include(include)
        self.hang_up_on_kill = hang_up_on_kill
        self.hang_up_on_timeout = hang_up_on_timeout
        self._rendered: dict[str, Any] | None = None
        self._hook: VapiHook | None = None
        self._call_id: str | None = None
        self._is_stopped = False
        self._check_request()

    def _check_request(self) -> None:
        # Not at the top: a DAG file that has no such task needs none of it.
        from vapi_provider.placing.request import check_arguments

        check_arguments(self._request_arguments())

    def _request_arguments(self) -> dict[str, Any]:
        return self._rendered or {name: getattr(self, name) for name in _REQUEST_ARGUMENTS}

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        super()._do_render_template_fields(parent, *args, **kwargs)
        if parent is not self:
            return
        # Airflow stores and shows what stands in the attributes now.
        self._rendered = {name: getattr(self, name) for name in _REQUEST_ARGUMENTS}
        for name, mask in _MASKED.items():
            setattr(self, name, mask(self._rendered[name]))

    def execute(self, context: Context) -> Any:
        """
        Place the call, or find the one that an earlier try has placed, and wait for its end if that was asked for.

        :param context: the context of the running task
        :raises VapiConfigurationError: when an argument or the connection is unusable; nothing is sent then
        :raises VapiConcurrencyLimitError: when the organization has too many calls at once; nobody was called
        :raises VapiCallInDoubtError: when a call may have been placed and nobody can tell
        :raises VapiCallFailedError: when the call ended in a way that fails the task
        :raises VapiError: when the call could not be placed
        :raises AirflowSensorTimeout: when the call had not ended after ``timeout`` seconds
        :return: the call's summary, see :meth:`vapi_provider.models.call.Call.summary`
        """
        return self._place_and_wait(context)

    def _place_and_wait(self, context: Context) -> Any:
        from vapi_provider.waiting.wait import WaitState

        placed = self._place(context)
        call = self._check_dialled(placed)
        if not self.wait_for_completion:
            return call.summary(self.include)
        # The first look is not the first request, so that whatever passes is waited out. Only the answer to POST tells
        # the limits.
        memory = WaitState(started_at=time.time(), limits=placed.limits, try_number=context["ti"].try_number)
        wait = self._begin_wait(context, memory, is_first=False, makes_one_look=False)
        if self.deferrable:
            return wait.look() or self._defer_wait(context, wait)
        try:
            return self._poke(wait)
        except AirflowTaskTimeout:
            self._hang_up_at_limit(wait)
            raise

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """
        Go on after the deferral; what Airflow 3.0 takes for that in a retry begins anew.

        :param next_method: what to go on with
        :param next_kwargs: its arguments
        :param context: the context of the running task
        :return: the call's summary
        """
        try_number = context["ti"].try_number
        # A first try that resumes has placed its call, whatever is left of what it kept.
        if try_number > 1 and self._recall(context).try_number != try_number:
            return self._place_and_wait(context)
        return super().resume_execution(next_method, next_kwargs, context)

    def _place(self, context: Context) -> Call:
        from vapi_provider.hooks.vapi import VapiHook
        from vapi_provider.placing.placement import CallPlacement
        from vapi_provider.placing.request import build_request

        request = build_request(self._request_arguments())
        self._hook = VapiHook(self.vapi_conn_id)
        placement = CallPlacement(
            context,
            request,
            self._hook,
            self.log,
            is_stopped=lambda: self._is_stopped,
            tell_id=lambda call_id: self._tell_id(context, call_id),
        )
        call = placement.run()
        self.log.info("Call %s is %s. Its token is %s.", call.id, call.status, placement.token)
        return call

    def _check_dialled(self, call: Call) -> Call:
        """See whether a call was dialled of which Vapi said at once that it may not be."""
        from vapi_provider.exceptions import VapiConcurrencyLimitError, VapiError
        from vapi_provider.models.limits import is_blocked
        from vapi_provider.waiting.policy import check_dialled

        limits = call.limits
        if self._hook is None or not is_blocked(limits):
            return call
        self.log.warning(
            "Vapi has taken call %s, though the organization has as many at once as it may.", call.id
        )
        try:
            call = self._hook.get_call(call.id)
            check_dialled(call, limits)
        except VapiConcurrencyLimitError:
            raise
        except VapiError as error:
            # The call was placed, whatever keeps us from looking at it.
            self.log.warning("%s", error)
        return call

    def _tell_id(self, context: Context, call_id: str) -> None:
        self._call_id = call_id
        try:
            context["ti"].xcom_push(_CALL_ID, call_id)
            VapiCallLink().persist(context, call_id)
        finally:
            if self._is_stopped:
                # The task was told to stop while the request was under way.
                self._hang_up_if_killed()

    def _begin_wait(self, context: Context, memory: WaitState, **how: Any) -> CallWait:
        wait = super()._begin_wait(context, memory, **how)
        self._call_id, self._hook = wait.call_id, self._hook or wait.hook
        return wait

    def _poke(self, wait: CallWait) -> dict[str, Any]:
        while True:
            summary = wait.look()
            if summary is not None:
                return summary
            left = self.timeout - wait.waited
            if left <= 0:
                return self._time_out(wait)
            time.sleep(min(self.poke_interval, left))

    def _awaited_call_id(self, context: Context) -> Any:
        ti = context["ti"]
        return self._call_id or ti.xcom_pull(task_ids=ti.task_id, key=_CALL_ID, map_indexes=ti.map_index)

    def _time_out(self, wait: CallWait) -> dict[str, Any]:
        self._hang_up_at_limit(wait)
        return super()._time_out(wait)

    def _hang_up_at_limit(self, wait: CallWait) -> None:
        from vapi_provider.client.hang_up import hang_up
        from vapi_provider.hooks.vapi import VapiHook

        if self.hang_up_on_timeout and not wait.memory.has_ended:
            self.log.warning("%s", hang_up(VapiHook(self.vapi_conn_id), wait.call_id))

    def on_kill(self) -> None:
        """Send nothing more, and end the call if that was asked for, within 3 seconds."""
        self._is_stopped = True
        self._hang_up_if_killed()

    def _hang_up_if_killed(self) -> None:
        # In a signal handler nobody can be asked for the connection.
        if (
            not self.hang_up_on_kill
            or self._call_id is None
            or not (self._hook and self._hook.has_connection)
        ):
            return
        from vapi_provider.client.hang_up import hang_up_soon

        self.log.warning("The task was stopped. %s", hang_up_soon(self._hook, self._call_id))


def _seconds(span: float | timedelta) -> float:
    return span.total_seconds() if isinstance(span, timedelta) else span
