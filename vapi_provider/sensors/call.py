# SPDX-License-Identifier: Apache-2.0
"""Sensors that wait for one call."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)
from vapi_provider.links.call import VapiCallLink
from vapi_provider.models.outcome import CallOutcome, check_fail_on
from vapi_provider.models.summary import check_include

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from vapi_provider.sensors.wait import CallWait

_REFUSED = {
    "exponential_backoff": "a call's end would be noticed later the longer the call took; raise poke_interval instead",
    "never_fail": "it would hide that a call could not be waited for; use soft_fail",
    "silent_fail": "passing errors are waited out anyway, and others can not be",
}
"""Arguments of Airflow's sensors that this one does not take, and why."""

BACKSTOP_SECONDS = 120.0
"""How long after its own end the trigger may be silent: a triggerer that was killed is replaced within this time."""

_LONGEST_DEFERRAL = timedelta(days=365_000)
"""Airflow adds it to the time of day, and a calendar ends with the year 9999."""

_MEMORY = "wait"
"""The key under which the processes of a task that waits hand on what they know."""


class VapiCallSensor(BaseSensorOperator):
    """
    Wait for a call to end, and return its summary.

    It reads ``GET /call/{id}`` (https://docs.vapi.ai/api-reference/calls/get) until the call's status is ``ended``. A
    call that was erased or never took place, and anything that Vapi refuses, fails the task without retries; a passing
    error fails the first look only, and later ones keep waiting.

    :param call_id: the call's id. (templated)
    :param vapi_conn_id: the connection's id. (templated)
    :param fail_on: outcomes that fail the task without retries, such as ``["failed", "no_answer"]``; none by default
    :param wait_for_analysis: whether to go on after the end until Vapi's analysis of the call is there
    :param analysis_timeout: how many seconds after the call's end to wait for the analysis; without one by then the
        task succeeds with a warning
    :param include: content to add to the summary, by name, see :meth:`vapi_provider.models.call.Call.summary`
    :param deferrable: wait in the triggerer, which takes no worker slot and shares its requests among all who wait;
        Airflow's ``[operators] default_deferrable`` by default
    :param poke_interval: the seconds between two looks; at least 5 when deferrable
    :param timeout: the seconds after which the task fails; Airflow's ``[sensors] default_timeout`` by default
    :param soft_fail: skip the task where it would fail for good
    :param mode: unless deferrable, ``poke`` keeps a worker slot between two looks, ``reschedule`` gives it back
    """

    template_fields: Sequence[str] = ("call_id", "vapi_conn_id")
    operator_extra_links = (VapiCallLink(),)
    ui_color = "#d9f2ea"

    def __init__(
        self,
        *,
        call_id: str,
        vapi_conn_id: str = "vapi_default",
        fail_on: Iterable[CallOutcome | str] = (),
        wait_for_analysis: bool = False,
        analysis_timeout: float | timedelta = 60,
        include: Iterable[str] = (),
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: float | timedelta = 15,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self._check_arguments()
        self.call_id = call_id
        self.vapi_conn_id = vapi_conn_id
        self.fail_on = check_fail_on(fail_on)
        self.wait_for_analysis = wait_for_analysis
        self.analysis_timeout = _seconds(analysis_timeout)
        self.include = check_include(include)
        self.deferrable = deferrable
        self._wait: CallWait | None = None

    def execute(self, context: Context) -> Any:
        """
        Wait for the end.

        :param context: the context of the running task
        :raises VapiConfigurationError: when id or connection is unusable; nothing is sent then
        :raises VapiCallFailedError: when the call ended in a way that fails the task
        :raises VapiError: when the call could not be read
        :raises AirflowSensorTimeout: when the call had not ended after ``timeout`` seconds
        :raises AirflowSkipException: in place of the above, but for passing errors, with ``soft_fail``
        :return: the call's summary
        """
        wait = self._begin(context)
        if self.deferrable:
            return wait.look() or self._defer_wait(context, wait)
        try:
            return super().execute(context)
        except (AirflowSensorTimeout, AirflowSkipException) as error:
            if error is wait.verdict:
                raise
            if isinstance(error.__cause__, AirflowTaskTimeout):
                # execution_timeout struck in the middle of a look: it fails the task as it does between two.
                raise error.__cause__ from None
        # Airflow's own words for a timeout name neither the call nor what became of it.
        return wait.time_out()

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """
        Go on after the deferral, see :meth:`execute_complete`.

        :param next_method: what to go on with
        :param next_kwargs: its arguments
        :param context: the context of the running task
        :return: the call's summary
        """
        try:
            from airflow.sdk.exceptions import TaskDeferralTimeout
        except ImportError:
            # Its home before Airflow 3.2.
            from airflow.exceptions import TaskDeferralTimeout  # type: ignore[no-redef]

        try:
            # Not BaseSensorOperator's own: with soft_fail it puts words that name no call in the place of ours.
            return super(BaseSensorOperator, self).resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            pass
        # No trigger has reported in time.
        wait = self._begin(context, is_resumed=True)
        return wait.look() or wait.time_out()

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """
        Look at the call again, after the trigger has said that it is time to.

        It raises and returns what :meth:`execute` does.

        :param context: the context of the running task
        :param event: the trigger's event
        :return: the call's summary
        """
        from vapi_provider.exceptions import VapiConfigurationError

        wait = self._begin(context, is_resumed=True)
        kind, message = _read_event(event, wait.call_id)
        summary = wait.look()
        if summary is not None:
            return summary
        if kind == "timeout":
            return wait.time_out()
        wait.memory.refusals = wait.memory.refusals + 1 if kind == "error" and wait.saw_call else 0
        if wait.memory.refusals > 1:
            # Once may have been chance, or a key that was being replaced.
            problem = VapiConfigurationError(
                f"Call {wait.call_id} cannot be waited for in the triggerer: {message} This task can read the call, so "
                "look for what is different there: environment variables, secrets backend, network."
            )
            raise wait.policy.refused(problem)
        return self._defer_wait(context, wait)

    def _defer_wait(self, context: Context, wait: CallWait) -> Any:
        """Leave the rest of the wait to the triggerer, if there is any left."""
        from vapi_provider.triggers.call import VapiCallTrigger

        end_time = wait.memory.started_at + wait.policy.longest_wait
        left = min(end_time - time.time(), _LONGEST_DEFERRAL.total_seconds())
        if left <= 0:
            return wait.time_out()
        self._remember(context, wait)
        self.defer(
            trigger=VapiCallTrigger(
                vapi_conn_id=self.vapi_conn_id,
                call_id=wait.call_id,
                poll_interval=self.poke_interval,
                end_time=end_time,
                since=wait.memory.since,
                # An end that is in fail_on is not worth the wait for an analysis, so the end is looked at first.
                wait_for_analysis=self.wait_for_analysis and (not self.fail_on or wait.memory.has_ended),
                # Plain JSON knows no infinity.
                analysis_timeout=min(self.analysis_timeout, timedelta.max.total_seconds()),
            ),
            method_name="execute_complete",
            timeout=min(timedelta(seconds=left + BACKSTOP_SECONDS), _LONGEST_DEFERRAL),
        )

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """
        Look at the call once.

        :param context: the context of the running task
        :return: False to go on waiting, or the summary
        """
        wait = self._wait or self._begin(context)
        summary = wait.look()
        if summary is not None:
            return PokeReturnValue(is_done=True, xcom_value=summary)
        if self.reschedule and wait.saw_call:
            self._remember(context, wait)
        return False

    def _begin(self, context: Context, *, is_resumed: bool = False) -> CallWait:
        # Here, not at the top: a DAG file is parsed every few seconds and needs none of it.
        from vapi_provider.exceptions import VapiConfigurationError
        from vapi_provider.hooks.arguments import check_call_id
        from vapi_provider.sensors.policy import WaitPolicy
        from vapi_provider.sensors.wait import CallWait, WaitMemory

        # In reschedule mode every look is another process of the task.
        is_first = not is_resumed and context.get("task_reschedule_count", 0) == 0
        known = {"started_at": time.time()} if is_first else self._recall(context)
        policy = WaitPolicy(
            fail_on=self.fail_on,
            wait_for_analysis=self.wait_for_analysis,
            analysis_timeout=self.analysis_timeout,
            timeout=self.timeout,
            soft_fail=self.soft_fail,
            execution_timeout=self._execution_timeout(),
        )
        try:
            call_id = check_call_id(self.call_id)
        except VapiConfigurationError as error:
            raise policy.refused(error) from None
        VapiCallLink().persist(context, call_id)
        self._wait = CallWait(
            call_id=call_id,
            policy=policy,
            vapi_conn_id=self.vapi_conn_id,
            include=self.include,
            log=self.log,
            memory=WaitMemory(**known),
            is_first=is_first,
            makes_one_look=is_resumed or (self.reschedule and not self.deferrable),
        )
        return self._wait

    def _execution_timeout(self) -> float:
        """Return the limit that Airflow forgets while a task is deferred, in seconds."""
        if not self.deferrable or self.execution_timeout is None:
            return math.inf
        return self.execution_timeout.total_seconds()

    def _remember(self, context: Context, wait: CallWait) -> None:
        """Leave word for the next process of this task."""
        # Not among the arguments of ``defer``: Airflow loses those in ``dag.test()`` and when no trigger reports.
        memory, store = dataclasses.asdict(wait.memory), context.get("task_state_store")
        if store is not None:
            store.set(_MEMORY, memory)
        elif self.deferrable:
            # Before Airflow 3.3, an XCom outlives a deferral, though not a reschedule.
            context["ti"].xcom_push(_MEMORY, memory)

    def _recall(self, context: Context) -> dict[str, Any]:
        """Return what the process before this one has left."""
        ti, store = context["ti"], context.get("task_state_store")
        memory: Any
        if store is not None:
            memory = store.get(_MEMORY)
        elif self.deferrable:
            memory = ti.xcom_pull(task_ids=ti.task_id, key=_MEMORY, map_indexes=ti.map_index)
        else:
            first = ti.get_first_reschedule_date(context)
            memory = {"started_at": first.timestamp()} if first else None
        return memory or {"started_at": time.time()}

    def _check_arguments(self) -> None:
        for argument, reason in _REFUSED.items():
            if getattr(self, argument, False):
                raise ValueError(f"{type(self).__name__} does not take {argument}: {reason}.")
        if self.poke_interval <= 0:
            raise ValueError("poke_interval must be above 0 seconds")
        if not math.isfinite(self.timeout):
            raise ValueError("timeout must be a finite number of seconds")


def _read_event(event: Any, call_id: str) -> tuple[str, str]:
    """Return the kind of a trigger's event, and its message; anything else fails the task, for who knows what it means."""
    from vapi_provider.exceptions import VapiConfigurationError

    kind = event.get("event") if isinstance(event, dict) else None
    if kind in ("done", "timeout", "error") and event.get("call_id") == call_id:
        return str(kind), str(event.get("message") or "")
    shown = f"an event {str(kind)[:50]!r}" if kind else f"{type(event).__name__} in place of an event"
    raise VapiConfigurationError(
        f"Call {call_id}: the triggerer sent {shown} that this task does not know. Let triggerer and workers have the "
        "same version of airflow-provider-vapi, and clear the task."
    )


def _seconds(span: float | timedelta) -> float:
    seconds = span.total_seconds() if isinstance(span, timedelta) else span
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise ValueError(f"analysis_timeout must be a timedelta or a number of seconds from 0; got {span!r}")
    return seconds
