# SPDX-License-Identifier: Apache-2.0
"""One task's wait for one call: it looks, tells what it sees, and asks the policy what that means."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vapi_provider.exceptions import (
    VapiConcurrencyLimitError,
    VapiConnectionNotFoundError,
    VapiError,
    VapiPermanentError,
    VapiTransientError,
)
from vapi_provider.models.summary import clean_line
from vapi_provider.waiting.policy import WaitPolicy, duration

if TYPE_CHECKING:
    from vapi_provider.hooks.vapi import VapiHook
    from vapi_provider.models.call import Call


@dataclass
class WaitState:
    """
    What the processes of a task that waits hand on to one another.

    :param started_at: when the task began to wait, in seconds since 1970
    :param status: the call's status when it was last read
    :param has_ended: whether the call had ended then
    :param since: the call's ``updatedAt`` then, ISO 8601
    :param refusals: how many times in a row the triggerer could not wait for a call that the task could read
    :param limits: what Vapi said of the organization's limits, if the task has placed the call itself
    :param try_number: the try of the task that has placed the call
    """

    started_at: float
    status: str | None = None
    has_ended: bool = False
    since: str | None = None
    refusals: int = 0
    limits: dict[str, Any] | None = None
    try_number: int | None = None


@dataclass
class CallWait:
    """
    The wait of one process of a task.

    :param call_id: the call's id, checked
    :param policy: what the looks mean
    :param vapi_conn_id: the connection's id
    :param include: content to add to the summary
    :param log: the task's log
    :param memory: what is known of the wait so far
    :param is_first: whether this process of the task is the first
    :param makes_one_look: whether this process makes one look only, so that it has nothing to compare it with
    """

    call_id: str
    policy: WaitPolicy
    vapi_conn_id: str
    include: tuple[str, ...]
    log: Any
    memory: WaitState
    is_first: bool = True
    makes_one_look: bool = False

    verdict: Exception | None = field(default=None, init=False)
    """What the policy made of a failure; any other exception that ends the sensor is Airflow's own."""
    _last_call: Call | None = field(default=None, init=False)
    _last_error: Exception | None = field(default=None, init=False)
    _looks: int = field(default=0, init=False)

    @cached_property
    def hook(self) -> VapiHook:
        """The hook that the looks go through."""
        # Here, not at the top: a DAG file is parsed every few seconds and needs none of it.
        from vapi_provider.hooks.vapi import VapiHook

        return VapiHook(self.vapi_conn_id)

    @property
    def waited(self) -> float:
        """The seconds that the task has waited."""
        return max(0.0, time.time() - self.memory.started_at)

    @property
    def saw_call(self) -> bool:
        """Whether the last look brought the call."""
        return self._last_call is not None and self._last_error is None

    def look(self) -> dict[str, Any] | None:
        """
        Look at the call once.

        :raises VapiTransientError: for a passing error at the task's first look; later ones are waited out
        :raises VapiConcurrencyLimitError: when the call was not dialled, and the task can place it again
        :raises VapiPermanentError: when Vapi refuses, or the call's end fails the task
        :raises AirflowSkipException: in place of that, with ``soft_fail``
        :return: the call's summary when the wait is over, None when it goes on
        """
        self._looks += 1
        try:
            call = self.hook.get_call(self.call_id)
            is_over = self.policy.is_over(call, self.memory.limits)
        except VapiConcurrencyLimitError:
            # The wait is over, and Airflow's retries begin it anew.
            raise
        except VapiError as error:
            if self._is_passing(error):
                self._last_error = error
                self.log.warning("%s Waiting goes on, after %s.", error, duration(self.waited))
                return None
            if isinstance(error, VapiPermanentError):
                self.verdict = self.policy.refused(error)
                raise self.verdict from None
            raise
        if is_over:
            return self._finish(call)
        self._tell(call)
        self._last_call, self._last_error = call, None
        self.memory.status, self.memory.has_ended = clean_line(call.status), call.has_ended
        self.memory.since = call.updated_at.isoformat() if call.updated_at else self.memory.since
        return None

    def time_out(self) -> dict[str, Any]:
        """
        End the wait at its limit.

        :raises AirflowSensorTimeout: when the call has not ended within ``timeout``
        :raises AirflowSkipException: in place of that, with ``soft_fail``
        :raises AirflowTaskTimeout: when it has not ended within ``execution_timeout``
        :return: the call's summary, when it has ended and only the analysis is missing
        """
        call = self._last_call
        # Only the last look counts: a process of its own, in another mode, would have no other.
        if call is not None and call.has_ended and self._last_error is None:
            return self._finish(call)
        memory = self.memory
        raise self.policy.timed_out(self.call_id, memory.status, self._last_error, has_ended=memory.has_ended)

    def _is_passing(self, error: VapiError) -> bool:
        """Say whether to wait an error out; at the first look of all, nothing is."""
        if self._looks == 1 and self.is_first:
            return False
        # A connection that was there before is more likely out of Airflow's own reach for the moment than gone.
        return isinstance(error, (VapiTransientError, VapiConnectionNotFoundError))

    def _tell(self, call: Call) -> None:
        status, waited = clean_line(call.status) or "without a status", duration(self.waited)
        if self.makes_one_look:
            self.log.info("Call %s is %s; waited %s so far.", self.call_id, status, waited)
        elif self._last_call is None:
            awaited = "analysis" if call.has_ended else "end"
            self.log.info("Call %s is %s; waiting for its %s.", self.call_id, status, awaited)
        elif self._last_call.status != call.status:
            self.log.info("Call %s is %s, after %s of waiting.", self.call_id, status, waited)

    def _finish(self, call: Call) -> dict[str, Any]:
        summary = call.summary(self.include)
        self.log.info("Waited %s for call %s.", duration(self.waited), self.call_id)
        if self.policy.wait_for_analysis and not call.has_analysis:
            self.log.warning(
                "Vapi's analysis of call %s did not arrive in time, and may never come.", self.call_id
            )
        self.log.info(
            "Call %s ended (%s): %s.",
            self.call_id,
            summary["ended_reason"] or "no reason given",
            summary["outcome"],
        )
        return summary
