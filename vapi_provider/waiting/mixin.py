# SPDX-License-Identifier: Apache-2.0
"""What all tasks that wait for a call have in common: how they defer, and how they resume."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator
from vapi_provider.links.call import VapiCallLink
from vapi_provider.rendering import RendersFields

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from vapi_provider.hooks.vapi import VapiHook
    from vapi_provider.models.outcome import CallOutcome
    from vapi_provider.models.summary import CallSummary
    from vapi_provider.waiting.policy import WaitPolicy
    from vapi_provider.waiting.wait import CallWait, WaitState

BACKSTOP_SECONDS = 120.0
"""How long after its end time the trigger may be silent; a killed triggerer is replaced within this time."""

_LONGEST_DEFERRAL = timedelta(days=365_000)
"""Airflow adds it to the time of day, and a calendar ends with the year 9999."""

DEFAULT_TIMEOUT = 12 * 60 * 60
"""The longest that Vapi lets a call last, in seconds."""

_ONLY_WHILE_WAITING = {
    "poll_interval": 15,
    "timeout": DEFAULT_TIMEOUT,
    "fail_on": (),
    "wait_for_analysis": False,
    "analysis_timeout": 60,
    "hang_up_on_timeout": False,
    "redial_on": (),
    "max_attempts": None,
}
"""Arguments that have an effect only while a task waits, and their defaults."""

_STATE = "wait"
"""The key under which the processes of a waiting task keep their state."""


class StopFlag:
    """Whether the task was stopped; a plain bool, since a lock or event can deadlock in a signal handler."""

    is_set = False


class WaitsForCall(RendersFields):
    """
    Base of operators that wait for a call, in the mode that their arguments ask for.

    Its attributes are what :class:`~vapi_provider.sensors.call.VapiCallSensor` documents as its arguments.
    """

    vapi_conn_id: str
    fail_on: Iterable[CallOutcome | str]
    wait_for_analysis: bool
    analysis_timeout: float | timedelta
    include: Iterable[str]
    deferrable: bool
    timeout: Any
    soft_fail: bool = False
    hang_up_on_kill: bool = False
    """Whether to end the call when the task is stopped while it is deferred."""
    places_call: bool = False
    """Whether the task has placed the call itself, and so can place it again."""
    interval_argument: str = "poll_interval"
    """The name of the argument with the pause between two reads of the call."""
    _hook: VapiHook | None = None
    _has_link: bool = False

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the deferral, see :meth:`execute_complete`; what Airflow 3.0 takes for that in a retry begins anew."""
        begun_by, try_number = self._load_state(context).try_number, context["ti"].try_number
        # In what version 0.1.0 has kept of a sensor there is no try.
        if try_number > 1 and begun_by != try_number and (begun_by or self.places_call):
            return self._begin_anew(context)
        try:
            from airflow.sdk.exceptions import TaskDeferralTimeout
        except ImportError:
            # Its home before Airflow 3.2.
            from airflow.exceptions import TaskDeferralTimeout  # type: ignore[no-redef]

        try:
            # Not BaseSensorOperator's own: with soft_fail its message names no call.
            return BaseOperator.resume_execution(self, next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            pass
        return self._end_unreported(context)

    def execute_complete(self, context: Context, event: Any = None) -> CallSummary:
        """
        Read the call again, after the trigger has reported.

        It raises and returns what :meth:`execute` does.
        """
        from vapi_provider.exceptions import VapiConfigurationError
        from vapi_provider.waiting.policy import refused
        from vapi_provider.waiting.report import read_report
        from vapi_provider.waiting.wait import is_read_too_soon

        wait = self._resume_wait(context, event)
        report = read_report(event, wait.call_id)
        wait.results_are_complete = report.says_complete
        if report.says_missing(self.vapi_conn_id):
            wait.miss_connection()
        summary = wait.poke()
        if summary is not None:
            return summary
        if report.status == "timeout":
            return self._time_out(wait)
        # Right after the placement, a 404 may be a read that lags behind.
        is_refused = report.status == "error" and wait.saw_call and not is_read_too_soon(wait.state.placed_at)
        wait.state.refusals = wait.state.refusals + 1 if is_refused else 0
        if wait.state.refusals > 1:
            # Once may have been chance, or a key that was being replaced.
            problem = VapiConfigurationError(
                f"The triggerer cannot read call {wait.call_id} but this worker can: {report.message} Compare their "
                "environment variables, secrets backend and network."
            )
            raise refused(problem, soft_fail=self.soft_fail)
        return self._defer_wait(context, wait)

    def on_kill(self) -> None:
        """End the process if a trigger runs in it, as in ``dag.test()``, where Airflow leaves it at this."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        self.log.warning("The task was stopped, and with it the trigger in this process.")
        raise SystemExit(128 + signal.SIGTERM)

    def _end_unreported(self, context: Context) -> CallSummary:
        """End a wait of which no trigger has reported in time."""
        wait = self._resume_wait(context)
        return wait.poke() or self._time_out(wait)

    def _begin_anew(self, context: Context) -> CallSummary:
        """Do what :meth:`execute` does in a deferrable task."""
        raise NotImplementedError

    def _awaited_call_id(self, context: Context) -> Any:
        """Return the id of the call, as the task has it."""
        raise NotImplementedError

    def _time_out(self, wait: CallWait) -> CallSummary:
        """End the wait at its limit."""
        return wait.time_out()

    def _defer_wait(self, context: Context, wait: CallWait) -> CallSummary:
        """Leave the rest of the wait to the triggerer, if there is any left."""
        from vapi_provider.triggers.call import VapiCallTrigger

        left = min(wait.ends_at - time.time(), _LONGEST_DEFERRAL.total_seconds())
        if left <= 0:
            return self._time_out(wait)
        self._save_state(context, wait.state)
        policy = wait.policy
        self.defer(
            trigger=VapiCallTrigger(
                vapi_conn_id=self.vapi_conn_id,
                call_id=wait.call_id,
                poll_interval=self._interval_seconds(),
                end_time=wait.ends_at,
                since=wait.state.since,
                # Some ends are not worth the wait for results, so the end is reported first.
                wait_for_analysis=policy.wait_for_analysis
                and (not policy.judges_end or wait.state.results is not None),
                # Plain JSON has no infinity.
                analysis_timeout=min(policy.analysis_timeout, timedelta.max.total_seconds()),
                hang_up_on_kill=self.hang_up_on_kill,
                results=policy.results,
                results_before=wait.state.results,
            ),
            method_name="execute_complete",
            timeout=min(timedelta(seconds=left + BACKSTOP_SECONDS), _LONGEST_DEFERRAL),
        )

    def _resume_wait(self, context: Context, event: Any = None) -> CallWait:
        from vapi_provider.waiting.report import reported_call_id

        state = self._load_state(context)
        state.call_id = state.call_id or reported_call_id(event)
        return self._begin_wait(context, state, self._wait_policy(), is_first=False, pokes_once=True)

    def _wait_policy(self) -> WaitPolicy:
        """
        Check the values of the arguments that every wait has; the one place for that.

        :raises VapiConfigurationError: naming the argument; nothing is sent then
        :raises AirflowSkipException: in place of that, with ``soft_fail``
        """
        from vapi_provider.exceptions import VapiConfigurationError
        from vapi_provider.waiting.policy import refused

        try:
            return self._checked_policy()
        except VapiConfigurationError as error:
            raise refused(error, soft_fail=self.soft_fail) from None

    def _checked_policy(self) -> WaitPolicy:
        from vapi_provider.exceptions import VapiConfigurationError
        from vapi_provider.models.outcome import check_outcomes
        from vapi_provider.models.summary import check_include
        from vapi_provider.waiting.policy import WaitPolicy, seconds_of

        if self._interval_seconds() <= 0:
            raise VapiConfigurationError(
                f"{self.interval_argument} must be more than 0 seconds. Nothing was sent."
            )
        return WaitPolicy(
            fail_on=check_outcomes("fail_on", self.fail_on),
            wait_for_analysis=self.wait_for_analysis,
            analysis_timeout=seconds_of("analysis_timeout", self.analysis_timeout, may_be_infinite=True),
            timeout=seconds_of("timeout", self.timeout),
            soft_fail=self.soft_fail,
            execution_timeout=self._execution_timeout(),
            places_call=self.places_call,
            include=check_include(self.include),
        )

    def _begin_wait(
        self, context: Context, state: WaitState, policy: WaitPolicy, *, is_first: bool, pokes_once: bool
    ) -> CallWait:
        # Here, not at the top: a DAG file is parsed every few seconds and needs none of it.
        from vapi_provider.client.arguments import check_call_id
        from vapi_provider.exceptions import VapiConfigurationError
        from vapi_provider.hooks.vapi import VapiHook
        from vapi_provider.waiting.policy import refused
        from vapi_provider.waiting.wait import CallWait

        try:
            # Not what a template renders by now.
            call_id = state.call_id = check_call_id(state.call_id or self._awaited_call_id(context))
        except VapiConfigurationError as error:
            raise refused(error, soft_fail=self.soft_fail) from None
        self.vapi_conn_id = state.vapi_conn_id = state.vapi_conn_id or self.vapi_conn_id
        self._hook = self._hook or VapiHook(self.vapi_conn_id)
        self._publish_link(context, self._hook, call_id)
        return CallWait(
            call_id=call_id,
            policy=policy,
            hook=self._hook,
            log=self.log,
            state=state,
            is_first=is_first,
            pokes_once=pokes_once,
        )

    def _publish_link(self, context: Context, hook: VapiHook, call_id: str) -> None:
        from vapi_provider.exceptions import VapiError

        if self._has_link:
            return
        try:
            url = hook.dashboard_url(call_id)
        except VapiError:
            # The poke that follows fails for the same reason, and decides what that means.
            return
        VapiCallLink().persist(context, url)
        self._has_link = True

    def _interval_seconds(self) -> float:
        from vapi_provider.waiting.policy import seconds_of

        return seconds_of(self.interval_argument, getattr(self, self.interval_argument))

    def _execution_timeout(self) -> float:
        """Return the limit that Airflow forgets while a task is deferred, in seconds."""
        if not self.deferrable or self.execution_timeout is None:
            return math.inf
        return self.execution_timeout.total_seconds()

    def _save_state(self, context: Context, wait_state: WaitState) -> None:
        """Keep the state for the next process of this task."""
        # Not among the arguments of ``defer``: Airflow loses those in ``dag.test()`` and when no trigger reports.
        state, store = dataclasses.asdict(wait_state), context.get("task_state_store")
        if store is not None:
            store.set(_STATE, state)
        elif self.deferrable:
            # Before Airflow 3.3, an XCom outlives a deferral, though not a reschedule.
            context["ti"].xcom_push(_STATE, state)

    def _load_state(self, context: Context) -> WaitState:
        """Return what the process before this one left."""
        from vapi_provider.waiting.wait import WaitState

        ti, store = context["ti"], context.get("task_state_store")
        stored: Any
        if store is not None:
            stored = store.get(_STATE)
        elif self.deferrable:
            stored = ti.xcom_pull(task_ids=ti.task_id, key=_STATE, map_indexes=ti.map_index)
        else:
            first = ti.get_first_reschedule_date(context)
            stored = {"started_at": first.timestamp()} if first else None
        return WaitState.of(stored)


def as_given(values: Iterable[Any]) -> Iterable[Any]:
    """Keep an argument as it was given, and the values of an iterator, which could be read only once."""
    return tuple(values) if isinstance(values, Iterator) else values


def useless_without_wait(task: WaitsForCall, default_args: Mapping[str, Any]) -> list[str]:
    """Return the arguments that were given to a task and have no effect, since it does not wait."""
    return [
        name
        for name, default in _ONLY_WHILE_WAITING.items()
        if _is_given(value := in_seconds(getattr(task, name)))
        and value not in (default, in_seconds(default_args.get(name)))
    ]


def in_seconds(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _is_given(value: Any) -> bool:
    return bool(value) or (value == 0 and value is not False)
