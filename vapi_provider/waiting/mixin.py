# SPDX-License-Identifier: Apache-2.0
"""The base class of operators that wait for a call, with deferring and resuming."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import signal
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import BaseOperator
from vapi_provider.links.call import VapiCallLink
from vapi_provider.outlets import show_end
from vapi_provider.rendering import RendersFields

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from vapi_provider.hooks.vapi import VapiHook
    from vapi_provider.models.outcome import CallOutcome
    from vapi_provider.models.summary import CallSummary
    from vapi_provider.waiting.policy import WaitPolicy
    from vapi_provider.waiting.wait import CallWait, WaitState

BACKSTOP_SECONDS = 120.0
"""How long after its end time a trigger may report, in seconds; enough to replace a killed triggerer."""

_LONGEST_DEFERRAL = timedelta(days=365_000)
"""Airflow adds the deferral to the current time, and Python's dates end in the year 9999."""

_STATE = "wait"
"""The key of the state that the processes of a waiting task share."""


def backstop_after(seconds: float) -> timedelta:
    """
    Return the limit of a deferral, after which Airflow resumes the task without an event.

    :param seconds: how long the trigger may wait
    """
    seconds = min(seconds, _LONGEST_DEFERRAL.total_seconds())
    return min(timedelta(seconds=seconds + BACKSTOP_SECONDS), _LONGEST_DEFERRAL)


class StopFlag:
    """Whether the task was stopped."""

    # Not an Event, whose lock can deadlock in a signal handler.
    is_set = False


class WaitsForCall(RendersFields):
    """
    Base class of operators that wait for a call, in any mode.

    :class:`~vapi_provider.sensors.call.VapiCallSensor` documents the attributes as its arguments.
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
    """Whether to end the call if the task is stopped, deferred or not."""
    places_call: bool = False
    """Whether this task placed the call, so that a retry can place it again."""
    interval_argument: str = "poll_interval"
    """The name of the argument for the pause between two reads of the call."""
    _hook: VapiHook | None = None
    _has_link: bool = False
    _saved: WaitState
    """What the previous process of this task has saved, read once when the task resumes."""

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the deferral, see :meth:`execute_complete`."""
        summary = self._resume(next_method, next_kwargs, context)
        return show_end(context, self.outlets, summary) if self.outlets else summary

    def _resume(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> CallSummary:
        # Airflow 3.0 also resumes the retry of a deferred task, which must start over.
        self._saved = self._load_state(context)
        begun_by, try_number = self._saved.try_number, context["ti"].try_number
        # A sensor's state has no try number if it was lost, or if an older version saved it.
        if try_number > 1 and begun_by != try_number and (begun_by or self.places_call):
            return self._begin_anew(context)
        try:
            from airflow.sdk.exceptions import TaskDeferralTimeout
        except ImportError:
            # Before Airflow 3.2.
            from airflow.exceptions import TaskDeferralTimeout  # type: ignore[no-redef]

        try:
            # Not BaseSensorOperator's own: with soft_fail, its message does not name the call.
            return cast("CallSummary", BaseOperator.resume_execution(self, next_method, next_kwargs, context))
        except TaskDeferralTimeout:
            pass
        return self._end_unreported(context)

    def execute_complete(self, context: Context, event: Any = None) -> CallSummary:
        """Read the call again after the trigger's event; raises and returns the same as :meth:`execute`."""
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
        # Right after the placement, a 404 may be a stale read.
        is_refused = report.status == "error" and wait.saw_call and not is_read_too_soon(wait.state.placed_at)
        wait.state.refusals = wait.state.refusals + 1 if is_refused else 0
        if wait.state.refusals > 1:
            # The first time may be a coincidence, such as a key that was just being replaced.
            problem = VapiConfigurationError(
                f"The triggerer cannot read call {wait.call_id} but this worker can. Compare their environment variables, "
                f"secrets backend and network. The triggerer reported: {report.message}"
            )
            raise refused(problem, soft_fail=self.soft_fail)
        return self._defer_wait(context, wait)

    def on_kill(self) -> None:
        """End the process if a trigger runs in it, as in ``dag.test()``, where Airflow does not."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        self.log.warning("The task was stopped; also stopping the trigger that runs in this process.")
        raise SystemExit(128 + signal.SIGTERM)

    def _end_unreported(self, context: Context) -> CallSummary:
        """End a wait whose trigger did not report in time."""
        wait = self._resume_wait(context)
        return wait.poke() or self._time_out(wait)

    def _begin_anew(self, context: Context) -> CallSummary:
        """Start over, as :meth:`execute` does in a deferrable task."""
        raise NotImplementedError

    def _awaited_call_id(self, context: Context) -> Any:
        """Return the id of the call to wait for, not yet validated."""
        raise NotImplementedError

    def _time_out(self, wait: CallWait) -> CallSummary:
        """End the wait after a timeout."""
        return wait.time_out()

    def _defer_wait(self, context: Context, wait: CallWait) -> CallSummary:
        """Defer the rest of the wait to the triggerer, if any time is left."""
        from vapi_provider.triggers.call import VapiCallTrigger

        left = wait.ends_at - time.time()
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
                # With fail_on or redial_on, the outcome is checked before waiting for results.
                wait_for_analysis=policy.wait_for_analysis
                and (not policy.judges_end or wait.state.results is not None),
                # Plain JSON has no infinity.
                analysis_timeout=min(policy.analysis_timeout, timedelta.max.total_seconds()),
                hang_up_on_kill=self.hang_up_on_kill,
                results=policy.results,
                results_before=wait.state.results,
            ),
            method_name="execute_complete",
            timeout=backstop_after(left),
        )

    def _resume_wait(self, context: Context, event: Any = None) -> CallWait:
        from vapi_provider.waiting.report import reported_call_id

        state = self._saved
        state.call_id = state.call_id or reported_call_id(event)
        return self._begin_wait(context, state, self._wait_policy(), is_first=False, pokes_once=True)

    def _wait_policy(self) -> WaitPolicy:
        """
        Validate the arguments that all waits share.

        :raises VapiConfigurationError: if one is invalid; nothing was sent
        :raises AirflowSkipException: instead, with ``soft_fail``
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
        # Imported here to keep the parsing of DAG files fast.
        from vapi_provider.client.arguments import check_call_id
        from vapi_provider.exceptions import VapiConfigurationError
        from vapi_provider.hooks.vapi import VapiHook
        from vapi_provider.waiting.policy import refused
        from vapi_provider.waiting.wait import CallWait

        try:
            # Keep waiting for the same call, whatever the template renders now.
            call_id = state.call_id = check_call_id(state.call_id or self._awaited_call_id(context))
            if state.vapi_conn_id is None:
                self.refuse_missing("vapi_conn_id")
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
            # The next poke fails for the same reason and handles the error.
            return
        VapiCallLink().persist(context, url)
        self._has_link = True

    def _interval_seconds(self) -> float:
        from vapi_provider.waiting.policy import seconds_of

        return seconds_of(self.interval_argument, getattr(self, self.interval_argument))

    def _execution_timeout(self) -> float:
        """Return the limit that Airflow does not enforce while a task is deferred, in seconds."""
        if not self.deferrable or self.execution_timeout is None:
            return math.inf
        return self.execution_timeout.total_seconds()

    def _save_state(self, context: Context, wait_state: WaitState) -> None:
        """Save the state for the next process of this task."""
        # Not in the kwargs of ``defer``: Airflow loses them in ``dag.test()`` and if no trigger reports.
        state, store = dataclasses.asdict(wait_state), context.get("task_state_store")
        if store is not None:
            store.set(_STATE, state)
        elif self.deferrable:
            # Before Airflow 3.3, an XCom survives a deferral but not a reschedule.
            context["ti"].xcom_push(_STATE, state)

    def _load_state(self, context: Context) -> WaitState:
        """Return the state that the previous process saved."""
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
