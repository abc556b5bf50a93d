# SPDX-License-Identifier: Apache-2.0
"""Waiting before there is a call: for certainty, for calling hours, and for a free line."""

from __future__ import annotations

import dataclasses
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, AirflowTaskTimeout
from vapi_provider.placing.line import SHORT_SECONDS, delay_after_opening, pause_for_line
from vapi_provider.waiting.mixin import StopFlag, WaitsForCall, backstop_after

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from vapi_provider.exceptions import VapiConcurrencyLimitError, VapiOutsideHoursError
    from vapi_provider.models.summary import CallSummary
    from vapi_provider.placing.placement import CallPlacement
    from vapi_provider.waiting.wait import WaitState


class DefersPlacing(WaitsForCall):
    """Base of operators that place a call, in a try that may wait, or be deferred, before it has one."""

    outside_hours: str
    on_limit: str
    limit_timeout: float | timedelta
    _stop: StopFlag
    _placement: CallPlacement | None
    _try_started_at: float
    """When this try began, in seconds since 1970."""
    _attempt: int = 1
    """Which attempt to reach the callee this try makes."""
    _limit_since: float | None = None
    """Since when this try has waited for a free line, in seconds since 1970."""
    _limit_waits: int = 0

    def execute_complete(self, context: Context, event: Any = None) -> CallSummary:
        """
        Go on after the trigger has reported: read the call, or place it.

        It raises and returns what :meth:`execute` does.
        """
        state = self._load_try()
        if self._is_placing(context, state, event):
            return self._go_on_placing(context, state)
        return super().execute_complete(context, event)

    def _end_unreported(self, context: Context) -> CallSummary:
        state = self._load_try()
        if self._is_placing(context, state, None):
            return self._go_on_placing(context, state)
        return super()._end_unreported(context)

    def _load_try(self) -> WaitState:
        state = self._saved
        self._try_started_at = state.try_started_at or time.time()
        self._attempt = state.attempt
        self._limit_since, self._limit_waits = state.limit_since, state.limit_waits
        return state

    def _is_placing(self, context: Context, state: WaitState, event: Any) -> bool:
        """Return whether the try was deferred before it had a call."""
        from vapi_provider.waiting.report import reported_call_id

        if state.is_placing:
            return True
        # Its state may be lost; then a known call id shows that there was a call.
        return not (state.call_id or reported_call_id(event) or self._awaited_call_id(context))

    def _go_on_placing(self, context: Context, state: WaitState) -> CallSummary:
        self.vapi_conn_id = state.vapi_conn_id or self.vapi_conn_id
        self._check_execution_timeout(is_unsent=state.is_unsent)
        return self._place_and_wait(context, state)

    def _place_and_wait(self, context: Context, resumed: WaitState | None) -> CallSummary:
        """
        Place the call, or find the one that was placed before, and wait for its end if that was asked for.

        :param resumed: what the same try has left when it waited before it had a call; None when it begins
        """
        raise NotImplementedError

    def _opening_to_wait_for(self, error: VapiOutsideHoursError) -> float:
        """Return when to go on in the calling hours, in seconds since 1970, or end a try that cannot wait for them."""
        from vapi_provider.exceptions import VapiConfigurationError, VapiOutsideHoursError

        if self._limit_since is not None:
            self.log.info("No line became free within the calling hours.")
        if self.outside_hours == "skip":
            raise AirflowSkipException(str(error)) from None
        if self.outside_hours == "fail":
            raise VapiConfigurationError(str(error)) from None
        opening = error.opening.timestamp()
        is_short = opening - time.time() <= SHORT_SECONDS
        if not (self.deferrable or is_short) or opening > self._execution_ends_at:
            reason = "execution_timeout ends before that" if self.deferrable else "the task is not deferrable"
            raise VapiOutsideHoursError(
                f"{error} This try cannot wait, because {reason}. A retry within the hours places the call; set "
                "retries and retry_delay so that one starts within them.",
                opening=error.opening,
            ) from None
        self._limit_since, self._limit_waits = None, 0
        self.log.info("%s Waiting for the calling hours to open.", error)
        return opening if is_short else opening + delay_after_opening(self._execution_ends_at - opening)

    def _next_try_for_a_line(self, error: VapiConcurrencyLimitError) -> float:
        """Return when to try again to place the call, in seconds since 1970, or end a try that waited long enough."""
        from vapi_provider.waiting.policy import duration, seconds_of

        limit, now = seconds_of("limit_timeout", self.limit_timeout), time.time()
        began_at = now if self._limit_since is None else self._limit_since
        if self.on_limit == "fail" or now >= began_at + limit:
            raise error
        if self._limit_since is None:
            self.log.info("%s Waiting for a free line, for up to %s.", error, duration(limit))
        pause = pause_for_line(self._limit_waits, error.retry_after)
        self._limit_since, self._limit_waits = began_at, self._limit_waits + 1
        return min(now + pause, began_at + limit)

    def _pause(self, context: Context, until: float) -> WaitState:
        """Wait while it is certain that there is no call; a longer wait is left to the triggerer."""
        from vapi_provider.exceptions import VapiTransientError

        if self._stop.is_set:
            raise VapiTransientError("The task was stopped, so it sends nothing more.")
        state = self._try_state(context, is_unsent=True, has_sent=False)
        if self.deferrable and until - time.time() > SHORT_SECONDS:
            self._defer_until(context, state, until)
        time.sleep(max(0.0, until - time.time()))
        return state

    def _defer_placing(self, context: Context, placement: CallPlacement, until: float) -> None:
        """Leave the rest of this try to a later process, until it can be certain whether there is a call."""
        if self.hang_up_on_kill:
            self.log.info(
                "While it is unknown whether a call was placed, stopping the task does not end it. %s",
                placement.advice,
            )
        state = self._try_state(
            context,
            sent_at=placement.sent_at,
            has_sent=placement.has_sent,
            token=placement.state.token,
            assistant_id=placement.state.assistant_id,
            phone_number_id=placement.state.phone_number_id,
        )
        self._defer_until(context, state, until)

    def _try_state(self, context: Context, **known: Any) -> WaitState:
        from vapi_provider.waiting.wait import WaitState

        state = WaitState(
            started_at=time.time(),
            try_number=context["ti"].try_number,
            try_started_at=self._try_started_at,
            vapi_conn_id=self.vapi_conn_id,
            attempt=self._attempt,
            limit_since=self._limit_since,
            limit_waits=self._limit_waits,
            logged_token=self._placement.state.token if self._placement else None,
        )
        return dataclasses.replace(state, **known)

    def _defer_until(self, context: Context, state: WaitState, until: float) -> None:
        from vapi_provider.triggers.call import VapiCallTrigger

        self._check_execution_timeout(is_unsent=state.is_unsent)
        end_time = min(until, self._execution_ends_at)
        self._save_state(context, state)
        self.defer(
            trigger=VapiCallTrigger(vapi_conn_id=self.vapi_conn_id, end_time=end_time),
            method_name="execute_complete",
            timeout=backstop_after(end_time - state.started_at),
        )

    @property
    def _execution_ends_at(self) -> float:
        return self._try_started_at + self._execution_timeout()

    def _check_execution_timeout(self, *, is_unsent: bool) -> None:
        from vapi_provider.waiting.policy import duration

        if time.time() < self._execution_ends_at:
            return
        limit = self._execution_timeout()
        limited = f"{duration(limit)} (execution_timeout={limit:.15g})"
        if is_unsent:
            raise AirflowTaskTimeout(
                f"No call was placed within {limited}: no line was free in time, or the calling hours opened too late. A retry may place it."
            )
        raise AirflowTaskTimeout(
            f"Could not determine within {limited} whether a call was placed. A retry searches for it again."
        )
