# SPDX-License-Identifier: Apache-2.0
"""A task's wait for a call: pokes, logs and applies the policy."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from vapi_provider.client.hang_up import NOT_ENDED, hang_up
from vapi_provider.exceptions import (
    VapiCallNotFoundError,
    VapiConcurrencyLimitError,
    VapiConnectionNotFoundError,
    VapiError,
    VapiNotReachedError,
    VapiPermanentError,
    VapiTransientError,
)
from vapi_provider.models.cleaning import clean_line
from vapi_provider.polling.connection import MISSING_SECONDS
from vapi_provider.waiting.policy import WaitPolicy, duration, refused

if TYPE_CHECKING:
    from vapi_provider.hooks.vapi import VapiHook
    from vapi_provider.models.call import Call
    from vapi_provider.models.summary import CallSummary

READ_LAG_SECONDS = 30.0
"""How long after a placement Vapi may still return 404 for the call, in seconds."""


@dataclass
class WaitState:
    """
    The state that one process of a waiting task saves for the next.

    :param started_at: when the wait began or, for a scheduled call, when the call was due, in seconds since 1970
    :param status: the call's status at the last read
    :param has_ended: whether the call had ended by then
    :param since: the call's ``updatedAt`` at the last read, ISO 8601
    :param results: how many parts of the results had arrived by then; None before the end was checked
    :param refusals: how many times in a row the triggerer could not read a call that the worker could read
    :param limits: the organization's limits, if this task placed the call
    :param try_number: the try that began the wait
    :param try_started_at: when that try began, in seconds since 1970
    :param placed_at: when this task placed the call, in seconds since 1970
    :param call_id: the call's id, because templates may render another one when the task resumes
    :param vapi_conn_id: the connection's id, for the same reason
    :param sent_at: while it is unknown whether a call exists, when the last request for it may have been sent, in
        seconds since 1970
    :param has_sent: whether this try sent that request
    :param token: the token of the request for the call
    :param logged_token: the token that the log has shown
    :param assistant_id: its assistant, to search for the call
    :param phone_number_id: its phone number, to search for the call
    :param is_unsent: whether the task waits for calling hours or a free line, certain that no call was placed
    :param attempt: the number of the attempt to reach the callee, from 1
    :param may_redial: whether another attempt may follow
    :param limit_since: when the wait for a free line began, in seconds since 1970
    :param limit_waits: how many pauses that wait has had
    :param missing_since: when Airflow first failed to find the connection, in seconds since 1970
    """

    started_at: float
    status: str | None = None
    has_ended: bool = False
    since: str | None = None
    results: int | None = None
    refusals: int = 0
    limits: dict[str, Any] | None = None
    try_number: int | None = None
    try_started_at: float | None = None
    placed_at: float | None = None
    call_id: str | None = None
    vapi_conn_id: str | None = None
    sent_at: float | None = None
    # If unknown, assume that it did, so that this try sends nothing more.
    has_sent: bool = True
    token: str | None = None
    logged_token: str | None = None
    assistant_id: str | None = None
    phone_number_id: str | None = None
    missing_since: float | None = None
    is_unsent: bool = False
    attempt: int = 1
    may_redial: bool = False
    limit_since: float | None = None
    limit_waits: int = 0

    @property
    def is_placing(self) -> bool:
        """Whether the try was deferred before it had a call."""
        return self.is_unsent or self.sent_at is not None

    @classmethod
    def of(cls, stored: Any) -> WaitState:
        """Restore saved state, perhaps from another version of this package."""
        fields = stored if isinstance(stored, Mapping) else {}
        known = {name: value for name, value in fields.items() if name in _FIELDS and value is not None}
        return cls(**{"started_at": time.time(), **known})


_FIELDS = frozenset(each.name for each in dataclasses.fields(WaitState))


@dataclass
class CallWait:
    """The wait for a call in one process of a task."""

    call_id: str
    policy: WaitPolicy
    hook: VapiHook
    log: Any
    state: WaitState
    is_first: bool = True
    """Whether its first poke is the task's first request, at which a transient error is raised, not waited out."""
    pokes_once: bool = False
    """Whether this process pokes only once, so that it has no earlier status to compare with."""
    results_are_complete: bool = False
    """Whether the triggerer reported that all results have arrived."""

    fate: str = field(default="", init=False)
    """A sentence on what was done to the call after a timeout; empty if nothing was."""
    verdict: Exception | None = field(default=None, init=False)
    """The exception that the policy chose; any other that ends the sensor is Airflow's own."""
    _last_call: Call | None = field(default=None, init=False)
    _last_error: Exception | None = field(default=None, init=False)
    _pokes: int = field(default=0, init=False)

    @property
    def timeout_used(self) -> float:
        """How much of ``timeout`` is used, in seconds: none before the time that a call is scheduled for."""
        return max(0.0, time.time() - self.state.started_at)

    @property
    def ends_at(self) -> float:
        """When the earlier of the two limits ends the wait, in seconds since 1970."""
        return min(self.state.started_at + self.policy.timeout, self._execution_ends_at)

    @property
    def _execution_ends_at(self) -> float:
        began_at = self.state.started_at if self.state.try_started_at is None else self.state.try_started_at
        return began_at + self.policy.execution_timeout

    @property
    def saw_call(self) -> bool:
        """Whether the last poke returned the call."""
        return self._last_call is not None and self._last_error is None

    def poke(self) -> CallSummary | None:
        """
        Read the call once.

        :raises VapiTransientError: for a transient error at the task's first poke; later ones are waited out
        :raises VapiConcurrencyLimitError: if the call was not dialled and a retry can place it again
        :raises VapiPermanentError: if Vapi refuses the request, or the call's end fails the task
        :raises AirflowSkipException: instead of a permanent error, with ``soft_fail``
        """
        self._pokes += 1
        try:
            call = self.hook.get_call(self.call_id)
            self.state.missing_since = None
            is_over = self._is_over(call)
        except (VapiConcurrencyLimitError, VapiNotReachedError):
            # This ends the wait; the call is placed again.
            raise
        except VapiError as error:
            if self._is_waited_out(error):
                self._last_error = error
                self.log.warning("%s Still waiting (%s of timeout used).", error, duration(self.timeout_used))
                return None
            if isinstance(error, VapiPermanentError):
                self.verdict = refused(error, soft_fail=self.policy.soft_fail)
                raise self.verdict from None
            raise
        if is_over:
            return self._finish(call)
        self._log_progress(call)
        self._last_call, self._last_error = call, None
        self.state.status, self.state.has_ended = clean_line(call.status), call.has_ended
        self.state.since = call.updated_at.isoformat() if call.updated_at else self.state.since
        return None

    def _is_over(self, call: Call) -> bool:
        policy, state = self.policy, self.state
        arrived = call.results(policy.results).arrived
        before = arrived if self.results_are_complete else state.results
        url = self.hook.dashboard_url(self.call_id)
        is_over = policy.is_over(call, url, state.limits, results_before=before)
        state.results = arrived if call.has_ended and call.reason_due_in == 0 else None
        return is_over

    def poke_until_over(self, interval: float) -> CallSummary | None:
        """Poke until the wait is over, or until it times out."""
        while True:
            summary = self.poke()
            left = self.ends_at - time.time()
            if summary is not None or left <= 0:
                return summary
            time.sleep(min(interval, left))

    def time_out(self) -> CallSummary:
        """
        End the wait after a timeout.

        :raises AirflowSensorTimeout: if the call did not end within ``timeout``
        :raises AirflowSkipException: instead, with ``soft_fail``
        :raises AirflowTaskTimeout: if the wait did not end within ``execution_timeout``
        """
        policy, state, url = self.policy, self.state, self._url()
        is_execution_timeout = self._execution_ends_at < state.started_at + policy.timeout
        call = self._last_call
        # Only the last poke counts, because in other modes this process would have no earlier one.
        has_ended = call is not None and call.has_ended and self._last_error is None
        if call is not None and has_ended and not is_execution_timeout:
            self._check_end(call)
            return self._finish(call)
        name = "execution_timeout" if is_execution_timeout else "timeout"
        seconds = policy.execution_timeout if is_execution_timeout else policy.timeout
        missing = "Call {} had not ended"
        if state.has_ended:
            missing = f"The {policy.awaited_after_end} of call {{}} had not arrived"
        seen = f"its last status was {state.status!r}." if state.status else "its last status is unknown."
        error = f" The last error was: {self._last_error}" if self._last_error else ""
        advice = f"See {url}, or raise the {name}." if url else f"Raise the {name}."
        message = f"{missing.format(self.call_id)} after {duration(seconds)} ({name}={seconds:.15g}): {seen}{error} {advice}"
        message += f" {self.fate}" if self.fate else ""
        if is_execution_timeout:
            raise AirflowTaskTimeout(message)
        raise (AirflowSkipException if policy.soft_fail else AirflowSensorTimeout)(message)

    def _check_end(self, call: Call) -> None:
        """Check an end that may still lack its reason."""
        try:
            self.policy.check_end(call, self.hook.dashboard_url(self.call_id), self.state.limits)
        except VapiPermanentError as error:
            raise refused(error, soft_fail=self.policy.soft_fail) from None

    def miss_connection(self) -> None:
        """Record that the triggerer could not find the connection for five minutes."""
        self.state.missing_since = time.time() - MISSING_SECONDS

    def hang_up(self) -> None:
        """
        End the call, and record the result for the timeout message.

        Never raises.
        """
        try:
            self.fate = hang_up(self.hook.client, self.call_id)
        except VapiError as error:
            self.fate = f"{NOT_ENDED.format(self.call_id)} {error}"

    def _url(self) -> str | None:
        try:
            return self.hook.dashboard_url(self.call_id)
        except VapiError:
            # The last error already reports that the connection cannot be read.
            return None

    def _is_waited_out(self, error: VapiError) -> bool:
        """Return whether to wait out an error, which the very first poke never does."""
        if isinstance(error, VapiCallNotFoundError):
            return is_read_too_soon(self.state.placed_at)
        if self._pokes == 1 and self.is_first:
            return False
        if isinstance(error, VapiConnectionNotFoundError):
            return not self._is_connection_gone()
        return isinstance(error, VapiTransientError)

    def _is_connection_gone(self) -> bool:
        """Return whether the connection has been missing for long enough to count as deleted."""
        now = time.time()
        self.state.missing_since = self.state.missing_since or now
        return now - self.state.missing_since >= MISSING_SECONDS

    def _log_progress(self, call: Call) -> None:
        status, used = clean_line(call.status) or "without a status", duration(self.timeout_used)
        if self.pokes_once:
            self.log.info("Call %s is %s (%s of timeout used).", self.call_id, status, used)
        elif self._last_call is None:
            awaited = self.policy.awaited(call)
            self.log.info("Call %s is %s; waiting for its %s.", self.call_id, status, awaited)
        elif self._last_call.status != call.status:
            self.log.info("Call %s is %s (%s of timeout used).", self.call_id, status, used)

    def _finish(self, call: Call) -> CallSummary:
        summary = call.summary(self.policy.include)
        self.log.info(
            "Done waiting for call %s (%s of timeout used).", self.call_id, duration(self.timeout_used)
        )
        missing = call.results(self.policy.results).missing if self.policy.wait_for_analysis else ""
        if missing and call.had_conversation:
            self.log.warning(
                "The %s of call %s did not arrive in time and may never come.", missing, self.call_id
            )
        self.log.info(
            "Call %s ended (%s): %s.",
            self.call_id,
            summary["ended_reason"] or "no reason given",
            summary["outcome"],
        )
        return summary


def is_read_too_soon(placed_at: float | None) -> bool:
    """Return whether a call was placed so recently that a 404 for it proves nothing."""
    return placed_at is not None and time.time() - placed_at < READ_LAG_SECONDS
