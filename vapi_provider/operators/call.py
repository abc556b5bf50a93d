# SPDX-License-Identifier: Apache-2.0
"""Operators that place and rename calls."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import conf
from vapi_provider.links.call import VapiCallLink
from vapi_provider.outlets import show_end
from vapi_provider.placing.masking import mask_customer, mask_values
from vapi_provider.placing.mixin import DEFAULT_LIMIT_TIMEOUT, REQUEST_FIELDS, PlacesCall
from vapi_provider.rendering import RendersFields, show_call_id
from vapi_provider.waiting.given import (
    DEFAULT_TIMEOUT,
    as_given,
    in_seconds,
    useless_without_wait,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context, XComArg
    from vapi_provider.models.outcome import CallOutcome
    from vapi_provider.models.summary import CallSummary, PlacedCallSummary
    from vapi_provider.placing.hours import CallingHours
    from vapi_provider.placing.request import Customer


class VapiUpdateCallOperator(RendersFields):
    """
    Set the name of a call, which identifies it in Vapi's dashboard.

    It sends ``PATCH /call/{id}`` with only the name (https://docs.vapi.ai/api-reference/calls/update). Running it twice
    has the same effect as running it once.

    :param call_id: the call's id, or its summary such as ``call.output``. (templated)
    :param name: the new name, 1 to 40 characters. (templated)
    :param vapi_conn_id: the connection's id. (templated)
    """

    template_fields: Sequence[str] = ("call_id", "name", "vapi_conn_id")
    shown_fields: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"call_id": show_call_id}
    operator_extra_links: Collection[BaseOperatorLink] = (VapiCallLink(),)
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

    def execute(self, context: Context) -> CallSummary:
        """
        Set the name.

        :param context: the context of the running task
        :raises VapiConfigurationError: if the id, name or connection is unusable; nothing is sent then
        :raises VapiError: if the name could not be set
        :return: the call's summary, see :class:`~vapi_provider.models.summary.CallSummary`
        """
        # Imported here, because DAG files are parsed every few seconds and need none of it.
        from vapi_provider.client.arguments import check_call_id
        from vapi_provider.hooks.vapi import VapiHook

        self.refuse_failed("call_id")
        call_id = check_call_id(self.call_id)
        self.refuse_missing("name", "vapi_conn_id")
        hook = VapiHook(self.vapi_conn_id)
        VapiCallLink().persist(context, hook.dashboard_url(call_id))
        # The hook refuses a name that is not a string.
        summary = hook.update_call(call_id, name=self.name).summary()  # type: ignore[arg-type]
        # The name may be a person's, so it is not logged.
        self.log.info("Renamed call %s.", call_id)
        return show_end(context, self.outlets, summary) if self.outlets else summary


_ONLY_WITH_ANOTHER = {
    "max_attempts": None,
    "outside_hours": "wait",
    "limit_timeout": DEFAULT_LIMIT_TIMEOUT,
}
"""Arguments that only affect a task with another argument, with their defaults."""


class VapiCreateCallOperator(PlacesCall):
    """
    Place an outbound call to one callee, and wait for its end.

    It sends ``POST /call`` (https://docs.vapi.ai/api-reference/calls/create). Without ``redial_on``, retries, killed
    workers, lost responses and cleared tasks do not make the phone ring a second time, because the call carries a token by
    which every try finds it again. Map the operator over your callees with ``expand`` or ``expand_kwargs``. The XCom
    ``call_id`` exists as soon as the call does.

    :param assistant_id: the id of the assistant that talks; pass exactly one of this, ``squad_id`` and ``assistant``.
        (templated)
    :param squad_id: the id of the squad that talks. (templated)
    :param assistant: an assistant for this call only, in the API's own format. (templated)
    :param phone_number_id: the id of your phone number to call from. (templated)
    :param customer: the callee: ``number`` in E.164 or ``sip_uri``, and more, see
        :class:`~vapi_provider.placing.request.Customer`. (templated)
    :param name: the call's name, at most 30 characters; the token is appended to it. (templated)
    :param assistant_overrides: changes to the assistant for this call, in the API's own format, such as
        ``{"variableValues": {"first_name": "Ada"}}`` for the assistant's script. (templated)
    :param schedule_plan: when to call: ``earliest_at`` and ``latest_at``, each with a time zone; at once by default.
        (templated)
    :param extra_body: other fields of the request in the API's own format; fields that have their own argument are
        refused. (templated)
    :param vapi_conn_id: the connection's id. (templated)
    :param wait_for_completion: whether to wait for the call's end, as the sensor does; True by default
    :param deferrable: whether to wait in the triggerer; Airflow's ``[operators] default_deferrable`` by default
    :param poll_interval: the seconds between two polls of the call, at least 5 when deferred; 15 by default
    :param timeout: the seconds after which the task fails, counted from the placement or, if later, from the
        ``latest_at`` (else the ``earliest_at``) of ``schedule_plan``; 12 hours by default, the longest that Vapi lets a
        call last
    :param fail_on: outcomes that fail the task without retries; none by default
    :param wait_for_analysis: whether to also wait for the results that ``include`` names after the end: the analysis or
        structured outputs or, if it names neither, whichever comes first
    :param analysis_timeout: how many seconds after the end to wait for them; 60 by default
    :param include: names of content to add to the summary, see :meth:`vapi_provider.models.call.Call.summary`
    :param hang_up_on_kill: whether to end the call when the task is killed; for a deferred task this needs Airflow 3.3
    :param hang_up_on_timeout: whether to end a call that is not over after ``timeout`` or ``execution_timeout``
    :param redial_on: outcomes after which a retry calls again; none by default
    :param max_attempts: the most calls to this callee; only ``retries`` limits them by default
    :param calling_hours: when the callee may be called, see :class:`~vapi_provider.placing.hours.CallingHours`; at any
        time by default. (templated)
    :param outside_hours: what to do outside the calling hours: ``"wait"`` (the default), ``"skip"`` or ``"fail"``
    :param on_limit: what to do over the organization's concurrency limit: ``"wait"`` for a free line (the default), or
        ``"fail"``
    :param limit_timeout: the seconds to wait for a free line before the task fails; 12 hours by default
    :raises VapiConfigurationError: at DAG parse time, when arguments are missing, exclude each other, or have no effect
    """

    template_fields: Sequence[str] = (*REQUEST_FIELDS, "vapi_conn_id")
    shown_fields: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "customer": mask_customer,
        "assistant_overrides": mask_values,
        "assistant": mask_values,
        "extra_body": mask_values,
    }
    template_fields_renderers: ClassVar[dict[str, str]] = {
        name: "json" for name in (*shown_fields, "schedule_plan", "calling_hours")
    }
    operator_extra_links: Collection[BaseOperatorLink] = (VapiCallLink(),)
    ui_color = "#d9f2ea"

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
        redial_on: Iterable[CallOutcome | str] = (),
        max_attempts: int | None = None,
        calling_hours: CallingHours | XComArg | None = None,
        outside_hours: Literal["wait", "skip", "fail"] = "wait",
        on_limit: Literal["wait", "fail"] = "wait",
        limit_timeout: float | timedelta = DEFAULT_LIMIT_TIMEOUT,
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
        self.deferrable = (
            conf.getboolean("operators", "default_deferrable", fallback=False)
            if deferrable is None
            else deferrable
        )
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.fail_on: Iterable[CallOutcome | str] = as_given(fail_on)
        self.wait_for_analysis = wait_for_analysis
        self.analysis_timeout = analysis_timeout
        self.include: Iterable[str] = as_given(include)
        self.hang_up_on_kill = hang_up_on_kill
        self.hang_up_on_timeout = hang_up_on_timeout
        self.redial_on: Iterable[CallOutcome | str] = as_given(redial_on)
        self.max_attempts = max_attempts
        self.calling_hours = calling_hours
        self.outside_hours = outside_hours
        self.on_limit = on_limit
        self.limit_timeout = limit_timeout
        # Airflow passes the merged default_args of the DAG and its task groups.
        self._refuse_misuse(kwargs.get("default_args") or {})

    def _refuse_misuse(self, default_args: Mapping[str, Any]) -> None:
        from vapi_provider.exceptions import VapiConfigurationError
        from vapi_provider.placing.request import find_misuse

        misuse = find_misuse(vars(self)) or self._find_conflict(default_args)
        useless = [] if self.wait_for_completion else useless_without_wait(self, default_args)
        if misuse is None and useless:
            verb = "has" if len(useless) == 1 else "have"
            misuse = f"{' and '.join(useless)} {verb} no effect with wait_for_completion=False"
        if misuse is not None:
            raise VapiConfigurationError(f"Task {self.task_id!r}: {misuse}.")

    def _find_conflict(self, default_args: Mapping[str, Any]) -> str | None:
        """Find arguments about attempts, hours and lines that have no effect."""
        given = {
            name
            for name, default in _ONLY_WITH_ANOTHER.items()
            if in_seconds(getattr(self, name)) not in (default, in_seconds(default_args.get(name)))
        }
        if self.redial_on and self.schedule_plan is not None:
            return "redial_on cannot be combined with schedule_plan"
        if self.redial_on and self.retries == 0:
            return "redial_on has no effect with retries=0, because each further attempt is a retry"
        if "max_attempts" in given and not self.redial_on:
            return "max_attempts has no effect without redial_on"
        if "outside_hours" in given and self.calling_hours is None:
            return "outside_hours has no effect without calling_hours"
        if "limit_timeout" in given and self.on_limit == "fail":
            return "limit_timeout has no effect with on_limit='fail'"
        return None

    def execute(self, context: Context) -> PlacedCallSummary:
        """
        Place the call, or find the one that an earlier try placed, and wait for its end.

        :param context: the context of the running task
        :raises VapiConfigurationError: if an argument or the connection is unusable; nothing is sent then
        :raises VapiConcurrencyLimitError: if no line was free in time; no call was placed
        :raises VapiCallInDoubtError: if it is unknown whether a call was placed
        :raises VapiCallFailedError: if the call ended in a way that fails the task
        :raises VapiNotReachedError: if the callee was not reached and the next retry calls again
        :raises VapiOutsideHoursError: outside the calling hours, if the task cannot wait for them; no call was placed
        :raises VapiError: if the call could not be placed
        :raises AirflowSensorTimeout: if the call had not ended after ``timeout`` seconds
        :return: the call's summary, see :class:`~vapi_provider.models.summary.PlacedCallSummary`
        """
        return self._execute(context)
