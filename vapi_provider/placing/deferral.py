# SPDX-License-Identifier: Apache-2.0
"""Leaving to the triggerer the time until a search can show whether a call was placed."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout
from vapi_provider.waiting.mixin import BACKSTOP_SECONDS, WaitsForCall

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from vapi_provider.models.summary import CallSummary
    from vapi_provider.placing.placement import CallPlacement
    from vapi_provider.waiting.wait import WaitState


class DefersPlacing(WaitsForCall):
    """Base of operators that place a call, in a try that may be deferred before it is known whether there is one."""

    _try_started_at: float
    """When this try began, in seconds since 1970."""

    def execute_complete(self, context: Context, event: Any = None) -> CallSummary:
        """
        Go on after the trigger has reported: read the call, or place it.

        It raises and returns what :meth:`execute` does.
        """
        state = self._load_state(context)
        if self._is_placing(context, state, event):
            return self._go_on_placing(context, state)
        return super().execute_complete(context, event)

    def _end_unreported(self, context: Context) -> CallSummary:
        state = self._load_state(context)
        if self._is_placing(context, state, None):
            return self._go_on_placing(context, state)
        return super()._end_unreported(context)

    def _is_placing(self, context: Context, state: WaitState, event: Any) -> bool:
        """Return whether the try was deferred before it had a call."""
        from vapi_provider.waiting.report import reported_call_id

        if state.sent_at is not None:
            return True
        # Whatever is left of its state.
        return not (state.call_id or reported_call_id(event) or self._awaited_call_id(context))

    def _go_on_placing(self, context: Context, state: WaitState) -> CallSummary:
        self.vapi_conn_id = state.vapi_conn_id or self.vapi_conn_id
        self._try_started_at = state.try_started_at or time.time()
        self._check_execution_timeout()
        return self._place_and_wait(context, state)

    def _begin_anew(self, context: Context) -> CallSummary:
        self._try_started_at = time.time()
        return self._place_and_wait(context, None)

    def _place_and_wait(self, context: Context, resumed: WaitState | None) -> CallSummary:
        """
        Place the call, or find the one that was placed before, and wait for its end if that was asked for.

        :param resumed: what the same try has left when it was deferred before it had a call; None when it begins
        """
        raise NotImplementedError

    def _defer_placing(self, context: Context, placement: CallPlacement, until: float) -> None:
        """Leave the rest of this try to a later process."""
        from vapi_provider.triggers.call import VapiCallTrigger
        from vapi_provider.waiting.wait import WaitState

        self._check_execution_timeout()
        now = time.time()
        end_time = min(until, self._try_started_at + self._execution_timeout())
        state = WaitState(
            started_at=now,
            try_number=context["ti"].try_number,
            try_started_at=self._try_started_at,
            vapi_conn_id=self.vapi_conn_id,
            sent_at=placement.sent_at,
            has_sent=placement.has_sent,
            token=placement.state.token,
            assistant_id=placement.state.assistant_id,
            phone_number_id=placement.state.phone_number_id,
        )
        self._save_state(context, state)
        self.defer(
            trigger=VapiCallTrigger(vapi_conn_id=self.vapi_conn_id, end_time=end_time),
            method_name="execute_complete",
            timeout=timedelta(seconds=end_time - now + BACKSTOP_SECONDS),
        )

    def _check_execution_timeout(self) -> None:
        from vapi_provider.waiting.policy import duration

        limit = self._execution_timeout()
        if time.time() >= self._try_started_at + limit:
            raise AirflowTaskTimeout(
                f"It was not certain after {duration(limit)} (execution_timeout={limit:.15g}) whether a call was placed. "
                "A retry searches for it again."
            )
