# SPDX-License-Identifier: Apache-2.0
"""What a wait for a call means, decided in one place for every mode."""

from __future__ import annotations

import logging
import math
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
from vapi_provider.models.outcome import is_over_limit, was_never_dialled
from vapi_provider.models.results import in_words, wanted_results

if TYPE_CHECKING:
    from vapi_provider.exceptions import VapiPermanentError
    from vapi_provider.models.call import Call
    from vapi_provider.models.outcome import CallOutcome

_unknown_statuses: set[str] = set()
"""Statuses that this process has warned about."""


@dataclass(frozen=True)
class WaitPolicy:
    """
    Decides what the state of a call means for the task that waits for its end.

    :param fail_on: outcomes that fail the task
    :param wait_for_analysis: whether to go on until Vapi's results are there
    :param analysis_timeout: how long after the call's end to wait for them, in seconds
    :param timeout: how long the task waits in all, in seconds
    :param soft_fail: whether the task is skipped where it would fail permanently
    :param execution_timeout: how long Airflow lets the task run, in seconds, where Airflow itself does not enforce it
    :param places_call: whether the task has placed the call itself, so that a retry can place it again if it never rang
    :param include: the content that the task returns, by name, checked
    :param redial_on: outcomes after which the task calls again
    :param attempt: which attempt to reach the callee the call is, from 1
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

    @property
    def judges_end(self) -> bool:
        """Whether an end can be final before any results are there."""
        return bool(self.fail_on or self.redial_on)

    @property
    def results(self) -> tuple[str, ...]:
        """The results to wait for; none for whichever comes first."""
        return wanted_results(self.include)

    def is_over(self, call: Call, url: str, limits: Any = None, *, results_before: int | None = None) -> bool:
        """
        Return whether there is nothing more to wait for.

        :param results_before: how many parts of the results were there at the poke before; None when that is not known
        :raises VapiCallFailedError: when the call's end fails the task
        :raises VapiConcurrencyLimitError: when it was not dialled and the task can place it again
        """
        if not call.is_terminal:
            self._warn_of_unknown_status(call)
            return False
        if call.reason_due_in > 0:
            # Without the reason there is no outcome to judge.
            return False
        self.check_end(call, url, limits)
        if not self.wait_for_analysis:
            return True
        return call.results_due_in(self.results, self.analysis_timeout, results_before) == 0

    def awaited(self, call: Call) -> str:
        """Name what a task waits for that has read the call, for its log."""
        if not call.has_ended:
            return "end"
        return self.awaited_after_end if call.reason_due_in == 0 else "ended reason"

    @property
    def awaited_after_end(self) -> str:
        """What a task waits for once the call has ended, in words."""
        return in_words(self.results) if self.wait_for_analysis else "ended reason"

    def check_end(self, call: Call, url: str, limits: Any = None) -> None:
        """
        Refuse an end that fails the task.

        :raises VapiCallFailedError: when it does
        :raises VapiConcurrencyLimitError: when the call was not dialled and the task can place it again
        :raises VapiNotReachedError: when the callee is to be called again
        """
        if self.places_call:
            check_dialled(call, limits)
        status, reason = clean_line(call.status), clean_line(call.ended_reason)
        if not call.has_ended:
            raise VapiCallFailedError(
                f"Call {call.id} has status {status!r}: it never took place or was erased, and will not end. "
                f"See {url}"
            )
        if call.outcome in self.redial_on:
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
            "Call %s has status %s, which this version of the provider does not know; still waiting.",
            call.id,
            status,
        )


def refused(error: VapiPermanentError, *, soft_fail: bool) -> Exception:
    """Build the exception for a permanent error."""
    return AirflowSkipException(str(error)) if soft_fail else error


def check_dialled(call: Call, limits: Any) -> None:
    """
    Refuse a call that Vapi accepted and then did not dial, over the concurrency limit.

    :raises VapiConcurrencyLimitError: for such a call, as for a 400 to the placement
    """
    if call.has_ended and is_over_limit(call.ended_reason):
        raise VapiConcurrencyLimitError(
            f"Call {call.id} ended before it was dialled ({clean_line(call.ended_reason)}). "
            f"{over_limit_message(limits)}"
        )


def seconds_of(name: str, span: Any, *, may_be_infinite: bool = False) -> float:
    """
    Check a time span.

    :raises VapiConfigurationError: for anything else, or a negative one
    """
    seconds = span.total_seconds() if isinstance(span, timedelta) else span
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
        is_valid = False
    else:
        is_valid = math.isfinite(seconds) or may_be_infinite
    if not is_valid:
        raise VapiConfigurationError(
            f"{name} must be a timedelta or a number of seconds from 0; got {span!r}. Nothing was sent."
        )
    return float(seconds)


def duration(seconds: float) -> str:
    """Format a time span for people."""
    whole = int(seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
