# SPDX-License-Identifier: Apache-2.0
"""What all tasks that wait for a call have in common: how they defer, and how they go on after it."""

from __future__ import annotations

import dataclasses
import math
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator
from vapi_provider.links.call import VapiCallLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from vapi_provider.models.outcome import CallOutcome
    from vapi_provider.waiting.wait import CallWait, WaitState

BACKSTOP_SECONDS = 120.0
"""How long after its own end the trigger may be silent: a triggerer that was killed is replaced within this time."""

_LONGEST_DEFERRAL = timedelta(days=365_000)
"""Airflow adds it to the time of day, and a calendar ends with the year 9999."""

_MEMORY = "wait"
"""The key under which the processes of a task that waits hand on what they know."""


class WaitsForCall(BaseOperator):
    """
    Waits for a call in the way that its arguments ask for; the base of whatever does.

    Its attributes are what :class:`~vapi_provider.sensors.call.VapiCallSensor` documents as its arguments.
    """

    vapi_conn_id: str
    fail_on: tuple[CallOutcome, ...]
    wait_for_analysis: bool
    analysis_timeout: float
    include: tuple[str, ...]
    deferrable: bool
    poke_interval: float
    timeout: float
    soft_fail: bool = False
    hang_up_on_kill: bool = False
    """Whether to end the call when the task is stopped while it is deferred."""
    places_call: bool = False
    """Whether the task has placed the call itself, and so can place it again."""

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
            return BaseOperator.resume_execution(self, next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            pass
        # No trigger has reported in time.
        wait = self._resume_wait(context)
        return wait.look() or self._time_out(wait)

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """
        Look at the call again, after the trigger has said that it is time to.

        It raises and returns what :meth:`execute` does.

        :param context: the context of the running task
        :param event: the trigger's event
        :return: the call's summary
        """
        from vapi_provider.exceptions import VapiConfigurationError

        wait = self._resume_wait(context)
        kind, message = _read_event(event, wait.call_id)
        summary = wait.look()
        if summary is not None:
            return summary
        if kind == "timeout":
            return self._time_out(wait)
        wait.memory.refusals = wait.memory.refusals + 1 if kind == "error" and wait.saw_call else 0
        if wait.memory.refusals > 1:
            # Once may have been chance, or a key that was being replaced.
            problem = VapiConfigurationError(
                f"Call {wait.call_id} cannot be waited for in the triggerer: {message} This task can read the call, so "
                "look for what is different there: environment variables, secrets backend, network."
            )
            raise wait.policy.refused(problem)
        return self._defer_wait(context, wait)

    def _awaited_call_id(self, context: Context) -> Any:
        """Return the id of the call, as the task has it."""
        raise NotImplementedError

    def _time_out(self, wait: CallWait) -> dict[str, Any]:
        """End the wait at its limit."""
        return wait.time_out()

    def _defer_wait(self, context: Context, wait: CallWait) -> Any:
        """Leave the rest of the wait to the triggerer, if there is any left."""
        from vapi_provider.triggers.call import VapiCallTrigger

        end_time = wait.memory.started_at + wait.policy.longest_wait
        left = min(end_time - time.time(), _LONGEST_DEFERRAL.total_seconds())
        if left <= 0:
            return self._time_out(wait)
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
                hang_up_on_kill=self.hang_up_on_kill,
            ),
            method_name="execute_complete",
            timeout=min(timedelta(seconds=left + BACKSTOP_SECONDS), _LONGEST_DEFERRAL),
        )

    def _resume_wait(self, context: Context) -> CallWait:
        return self._begin_wait(context, self._recall(context), is_first=False, makes_one_look=True)

    def _begin_wait(
        self, context: Context, memory: WaitState, *, is_first: bool, makes_one_look: bool
    ) -> CallWait:
        # Here, not at the top: a DAG file is parsed every few seconds and needs none of it.
        from vapi_provider.client.arguments import check_call_id
        from vapi_provider.exceptions import VapiConfigurationError
        from vapi_provider.waiting.policy import WaitPolicy
        from vapi_provider.waiting.wait import CallWait

        policy = WaitPolicy(
            fail_on=self.fail_on,
            wait_for_analysis=self.wait_for_analysis,
            analysis_timeout=self.analysis_timeout,
            timeout=self.timeout,
            soft_fail=self.soft_fail,
            execution_timeout=self._execution_timeout(),
            places_call=self.places_call,
        )
        try:
            call_id = check_call_id(self._awaited_call_id(context))
        except VapiConfigurationError as error:
            raise policy.refused(error) from None
        VapiCallLink().persist(context, call_id)
        return CallWait(
            call_id=call_id,
            policy=policy,
            vapi_conn_id=self.vapi_conn_id,
            include=self.include,
            log=self.log,
            memory=memory,
            is_first=is_first,
            makes_one_look=makes_one_look,
        )

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

    def _recall(self, context: Context) -> WaitState:
        """Return what the process before this one has left."""
        from vapi_provider.waiting.wait import WaitState

        ti, store = context["ti"], context.get("task_state_store")
        memory: Any
        if store is not None:
            memory = store.get(_MEMORY)
        elif self.deferrable:
            memory = ti.xcom_pull(task_ids=ti.task_id, key=_MEMORY, map_indexes=ti.map_index)
        else:
            first = ti.get_first_reschedule_date(context)
            memory = {"started_at": first.timestamp()} if first else None
        return WaitState(**(memory or {"started_at": time.time()}))


def _read_event(event: Any, call_id: str) -> tuple[str, str]:
    """Return the status and message of a trigger's event; any other event fails the task."""
    from vapi_provider.exceptions import VapiConfigurationError

    status = event.get("status") if isinstance(event, dict) else None
    if status in ("done", "timeout", "error") and event.get("call_id") == call_id:
        return str(status), str(event.get("message") or "")
    shown = (
        f"an event with status {str(status)[:50]!r}" if status else f"an event of type {type(event).__name__}"
    )
    raise VapiConfigurationError(
        f"Call {call_id}: the triggerer sent {shown} that this task does not know. Install the same version of "
        "airflow-provider-vapi on triggerers and workers, then clear the task."
    )


def check_analysis_timeout(span: float | timedelta) -> float:
    """
    Check how long to wait for an analysis.

    :param span: a timedelta or a number of seconds
    :raises ValueError: for anything else, or a negative one
    :return: the seconds
    """
    seconds = span.total_seconds() if isinstance(span, timedelta) else span
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise ValueError(f"analysis_timeout must be a timedelta or a number of seconds from 0; got {span!r}")
    return seconds


def check_limits(poke_interval: float, timeout: float) -> None:
    """
    Check the times that bound a wait.

    :param poke_interval: the seconds between two looks
    :param timeout: the seconds after which the wait ends
    :raises ValueError: for an interval that is not above 0, a timeout below 0, and whatever is not a finite number
    """
    for name, seconds in (("poke_interval", poke_interval), ("timeout", timeout)):
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
            raise ValueError(f"{name} must be a timedelta or a finite number of seconds; got {seconds!r}")
    if poke_interval <= 0:
        raise ValueError("poke_interval must be above 0 seconds")
    if timeout < 0:
        raise ValueError("timeout must not be below 0 seconds")
