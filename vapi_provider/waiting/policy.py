# SPDX-License-Identifier: Apache-2.0
"""Decides how a wait for a call ends, in every mode."""

from __future__ import annotations

import logging
import math
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException
from vapi_provider.exceptions import (
    VapiCallFailedError,
    VapiConcurrencyLimitError,
    VapiConfigurationError,
    VapiNotReachedError,
)
from vapi_provider.models.call import over_limit_message
from vapi_provider.models.cleaning import clean_line
from vapi_provider.models.outcome import count_attempts, is_over_limit, was_never_dialled
from vapi_provider.models.results import in_words, wanted_results

if TYPE_CHECKING:
    from vapi_provider.exceptions import VapiPermanentError
    from vapi_provider.models.call import Call
    from vapi_provider.models.outcome import CallOutcome

_unknown_statuses: set[str] = set()
"""Statuses that this process has already warned about."""


@dataclass(frozen=True)
class WaitPolicy:
    """
    Decides what a call's state means for the task that waits for it.

    :param fail_on: outcomes that fail the task
    :param wait_for_analysis: whether to wait for Vapi's results after the end
    :param analysis_timeout: how long after the call's end to wait for them, in seconds
    :param timeout: the time limit for the whole wait, in seconds
    :param soft_fail: whether to skip the task instead of failing it permanently
    :param execution_timeout: the task's ``execution_timeout`` in seconds, if Airflow itself does not enforce it
    :param places_call: whether this task placed the call, so that a retry can place it again if it never rang
    :param include: the validated names of the content that the task returns
    :param redial_on: outcomes after which the task calls again
    :param attempt: the number of the attempt to reach the callee, from 1
    :param max_attempts: the most attempts; None for no limit
    """

    fail_on: tuple[CallOutcome, ...]
    wait_for_analysis: bool
    analysis_timeout: float
    timeout: float
    soft_fail: bool
    execution_timeout: float = math.inf
    places_call: bool = False
    include: tuple[str, ...] = ()
    redial_on: tuple[CallOutcome, ...] = ()
    attempt: int = 1
    max_attempts: int | None = None

    @property
    def judges_end(self) -> bool:
        """Whether an end can be final before any results are there."""
        return bool(self.fail_on or self.redial_on)

    @property
    def results(self) -> tuple[str, ...]:
        """The results to wait for; empty means whichever arrives first."""
        return wanted_results(self.include)

    def is_over(self, call: Call, url: str, limits: Any = None, *, results_before: int | None = None) -> bool:
        """
        Return whether the wait is over.

        :param results_before: the number of result parts at the previous poke; None if unknown
        :raises VapiCallFailedError: if the call's end fails the task
        :raises VapiConcurrencyLimitError: if the call was not dialled and a retry can place it again
        """
        if not call.is_terminal:
            self._warn_of_unknown_status(call)
            return False
        if call.reason_due_in > 0:
            # Without a reason there is no outcome yet.
            return False
        self.check_end(call, url, limits)
        if not self.wait_for_analysis:
            return True
        return call.results_due_in(self.results, self.analysis_timeout, results_before) == 0

    def awaited(self, call: Call) -> str:
        """Return what the task is waiting for, as its log names it."""
        if not call.has_ended:
            return "end"
        return self.awaited_after_end if call.reason_due_in == 0 else "ended reason"

    @property
    def awaited_after_end(self) -> str:
        """What the task is waiting for once the call has ended, as messages name it."""
        return in_words(self.results) if self.wait_for_analysis else "ended reason"

    def check_end(self, call: Call, url: str, limits: Any = None) -> None:
        """
        Raise an error if the call's end fails the task.

        :raises VapiCallFailedError: if it does
        :raises VapiConcurrencyLimitError: if the call was not dialled and a retry can place it again
        :raises VapiNotReachedError: if the next retry calls the callee again
        """
        if self.places_call:
            check_dialled(call, limits)
        status, reason = clean_line(call.status), clean_line(call.ended_reason)
        if not call.has_ended:
            raise VapiCallFailedError(
                f"Call {call.id} has status {status!r}: it never took place or was erased, so there is nothing to wait for. "
                f"See {url}"
            )
        attempts = count_attempts(self.attempt, call.ended_reason)
        if call.outcome in self.redial_on and (self.max_attempts is None or attempts < self.max_attempts):
            not_reached = VapiNotReachedError(call.id, str(call.outcome), self.attempt)
            not_reached.was_dialled = not was_never_dialled(call.ended_reason)
            raise not_reached
        if call.outcome in self.fail_on:
            raise VapiCallFailedError(
                f"Call {call.id} ended with outcome {call.outcome} ({reason or 'no reason given'}), which is in fail_on. "
                f"See {url}"
            )

    def _warn_of_unknown_status(self, call: Call) -> None:
        status = clean_line(call.status) or "(none)"
        if call.has_known_status or status in _unknown_statuses:
            return
        _unknown_statuses.add(status)
        logging.getLogger(__name__).warning(
            "Call %s has status %s, which this version of the provider does not know. Still waiting.",
            call.id,
            status,
        )


def refused(error: VapiPermanentError, *, soft_fail: bool) -> Exception:
    """Return the exception that ends a task after a permanent error."""
    return AirflowSkipException(str(error)) if soft_fail else error


def check_dialled(call: Call, limits: Any) -> None:
    """
    Raise an error if Vapi accepted a call but did not dial it.

    :raises VapiConcurrencyLimitError: if the concurrency limit was the reason, as for a 400 response to the placement
    """
    if call.has_ended and is_over_limit(call.ended_reason):
        raise VapiConcurrencyLimitError(
            f"Call {call.id} ended before it was dialled ({clean_line(call.ended_reason)}). "
            f"{over_limit_message(limits)}"
        )


def seconds_of(name: str, span: Any, *, may_be_infinite: bool = False) -> float:
    """
    Return a time span in seconds.

    :raises VapiConfigurationError: if it is negative or not a time span
    """
    seconds = span.total_seconds() if isinstance(span, timedelta) else span
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
        is_valid = False
    else:
        # An int can be too large for a float.
        is_valid = seconds <= sys.float_info.max or may_be_infinite
    if not is_valid:
        raise VapiConfigurationError(
            f"{name} must be a timedelta or a non-negative number of seconds; got {span!r}. Nothing was sent."
        )
    return math.inf if seconds > sys.float_info.max else float(seconds)


def duration(seconds: float) -> str:
    """Format a time span for messages."""
    whole = int(seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
