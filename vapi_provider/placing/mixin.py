# SPDX-License-Identifier: Apache-2.0
"""What a task does with the call that it places: publish it, wait for it, record its end, and hang up."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout
from vapi_provider.links.call import VapiCallLink
from vapi_provider.outlets import show_end
from vapi_provider.placing.deferral import DefersPlacing
from vapi_provider.waiting.mixin import StopFlag

if TYPE_CHECKING:
    from typing_extensions import Self

    from airflow.providers.common.compat.sdk import Context
    from vapi_provider.hooks.vapi import VapiHook
    from vapi_provider.models.call import Call
    from vapi_provider.models.outcome import CallOutcome
    from vapi_provider.models.summary import CallSummary, PlacedCallSummary
    from vapi_provider.placing.decision import Recorded
    from vapi_provider.placing.placement import CallPlacement
    from vapi_provider.placing.redial import Redial
    from vapi_provider.waiting.policy import WaitPolicy
    from vapi_provider.waiting.wait import CallWait, WaitState

DEFAULT_LIMIT_TIMEOUT = 12 * 60 * 60
"""How long to wait for a free line, in seconds."""

REQUEST_FIELDS = (
    "assistant_id",
    "squad_id",
    "assistant",
    "phone_number_id",
    "customer",
    "name",
    "assistant_overrides",
    "schedule_plan",
    "extra_body",
    "calling_hours",
)
"""The arguments that describe the call."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "outside_hours": ("wait", "skip", "fail"),
    "on_limit": ("wait", "fail"),
}

_RECORD_PAUSES = (1.0, 4.0, 10.0)
"""The seconds before each further attempt to record an end."""

_UNRECORDED = {
    "not reached": "The next try reads the call again.",
    "over": "With redial_on, clearing this task may call again.",
}
"""What follows from an end that is not recorded."""

_CALL_ID = "call_id"
"""The key of the XCom with the call's id, which is there as soon as the call exists."""


class PlacesCall(DefersPlacing):
    """
    Base of operators that place a call.

    Its attributes are what :class:`~vapi_provider.operators.call.VapiCreateCallOperator` documents as its arguments.
    """

    wait_for_completion: bool
    hang_up_on_timeout: bool
    redial_on: Iterable[CallOutcome | str]
    max_attempts: int | None
    places_call = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._stop = StopFlag()
        self._wait: CallWait | None = None
        self._placement: CallPlacement | None = None

    def prepare_for_execution(self) -> Self:
        """Return the operator of one try, which another try in the same process must not have stopped."""
        other = super().prepare_for_execution()
        other._stop = StopFlag()
        return other

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral, see :meth:`execute_complete`."""
        return self._run(context, functools.partial(self._resume, next_method, next_kwargs, context))

    def _execute(self, context: Context) -> PlacedCallSummary:
        return self._run(context, functools.partial(self._begin_anew, context))

    def _begin_anew(self, context: Context) -> CallSummary:
        self._try_started_at = time.time()
        return self._place_and_wait(context, None)

    def _run(self, context: Context, begin: Callable[[], CallSummary]) -> PlacedCallSummary:
        """Run the try, and record how its call ended."""
        from vapi_provider.exceptions import VapiCallFailedError, VapiNotReachedError
        from vapi_provider.models.outcome import count_attempts
        from vapi_provider.placing.decision import Recorded

        try:
            summary = self._place_until_over(context, begin)
        except AirflowTaskTimeout as error:
            raise self._hung_up_at(error) from None
        except VapiNotReachedError as error:
            if error.was_dialled:
                self._record_end(context, Recorded.NOT_REACHED)
            raise
        except VapiCallFailedError:
            self._record_end(context, Recorded.OVER)
            raise
        self._record_end(context, Recorded.OVER)
        reason = summary["ended_reason"]
        # Without an end there is no rule to look up.
        attempts = self._attempt if reason is None else count_attempts(self._attempt, reason)
        placed: PlacedCallSummary = {**summary, "attempts": attempts}
        return show_end(context, self.outlets, placed) if self.outlets else placed

    def _place_until_over(self, context: Context, begin: Callable[[], CallSummary]) -> CallSummary:
        """Place the call and wait for its end, all of it again after each wait for calling hours or a free line."""
        from vapi_provider.exceptions import VapiConcurrencyLimitError, VapiOutsideHoursError

        while True:
            try:
                return begin()
            except VapiOutsideHoursError as error:
                until = self._opening_to_wait_for(error)
            except VapiConcurrencyLimitError as error:
                until = self._next_try_for_a_line(error)
            resumed = self._pause(context, until)
            begin = functools.partial(self._place_and_wait, context, resumed)

    def _record_end(self, context: Context, state: Recorded) -> None:
        from vapi_provider.placing.attempts import PlacementStore

        if not self.wait_for_completion or self._call_id is None:
            return
        store = PlacementStore(context)
        for pause in (*_RECORD_PAUSES, 0.0):
            try:
                if store.record_end(self._call_id, self._wait.state.token if self._wait else None, state):
                    return
            except Exception as error:
                problem = type(error).__name__
            else:
                problem = "the task's state does not belong to this call"
                break
            if self._stop.is_set:
                break
            time.sleep(pause)
        self.log.warning(
            "Could not record the end of call %s (%s). %s", self._call_id, problem, _UNRECORDED[state.value]
        )

    def _redial(self) -> Redial:
        from vapi_provider.placing.redial import check_redial

        return check_redial(self.redial_on, self.max_attempts, self.retries or 0)

    def _check_waits(self) -> None:
        """
        Check the values of the arguments about hours and lines.

        :raises VapiConfigurationError: naming the argument; nothing is sent then
        """
        from vapi_provider.exceptions import VapiConfigurationError
        from vapi_provider.waiting.policy import seconds_of

        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise VapiConfigurationError(
                    f"{name} must be one of {', '.join(choices)}; got {value!r:.40}. Nothing was sent."
                )
        # The default is valid.
        if self.limit_timeout != DEFAULT_LIMIT_TIMEOUT:
            seconds_of("limit_timeout", self.limit_timeout)

    def _place_and_wait(self, context: Context, resumed: WaitState | None) -> CallSummary:
        from vapi_provider.hooks.vapi import VapiHook
        from vapi_provider.models.summary import check_include
        from vapi_provider.placing.dialling import watch_dialling
        from vapi_provider.placing.placement import CallPlacement
        from vapi_provider.placing.request import build_request
        from vapi_provider.placing.schedule import latest_ring

        self._wait = None
        include = check_include(self.include)
        policy = self._wait_policy() if self.wait_for_completion else None
        redial = self._redial() if self.wait_for_completion else None
        self._check_waits()
        self.refuse_missing(*REQUEST_FIELDS, "vapi_conn_id")
        self.refuse_none("calling_hours", "schedule_plan")
        request = build_request({**vars(self), **self.rendered_fields})
        self._hook = self._hook or VapiHook(self.vapi_conn_id)
        client = self._hook.client
        placement = CallPlacement(context, request, client, self.log, self._stop, resumed, redial)
        self._placement = placement
        if resumed is None and (earlier := placement.state.earlier_call_id):
            self._publish(context, self._hook, earlier)
        # A try that has lost its state might defer for ever.
        may_defer = self.deferrable and (resumed is None or resumed.is_placing)
        call = placed = self._place(context, self._hook, placement, may_defer=may_defer)
        is_within_limit = (call.limits or {}).get("concurrencyBlocked") is False
        # Vapi may accept a call over the limit and end it undialled. A wait would see that, but not log when a line is free.
        must_watch = not is_within_limit if policy is None else self._limit_since is not None
        if must_watch:
            call = watch_dialling(client, call, self.log)
        if redial and redial.outcomes and placement.attempts.are_lost:
            self.log.warning("After a clear, redial_on has no effect before Airflow 3.3.")
        if not call.is_queued or (policy is None and is_within_limit):
            self._end_wait_for_line()
        if policy is None:
            return call.summary(include)
        due_at = latest_ring(call, request.body.get("schedulePlan"), placement.sent_plan, request.hours)
        state = self._try_state(
            context,
            started_at=max(time.time(), due_at),
            limits=placed.limits,
            placed_at=placement.placed_at or placement.state.at,
            token=placement.state.token,
            may_redial=placement.attempts.may_follow(placement.state),
        )
        # The first poke is not the first request, so transient errors are waited out.
        wait = self._begin_wait(context, state, policy, is_first=False, pokes_once=False)
        if self.deferrable:
            return wait.poke() or self._defer_wait(context, wait)
        return wait.poke_until_over(self._interval_seconds()) or self._time_out(wait)

    def _place(self, context: Context, hook: VapiHook, placement: CallPlacement, *, may_defer: bool) -> Call:
        """Return the call as it was placed or read; its id is published before it is read."""
        call = None
        while call is None:
            try:
                until = placement.run(may_defer=may_defer)
            finally:
                self._attempt = placement.attempts.number
            if until is not None:
                self._defer_placing(context, placement, until)
            self._publish(context, hook, str(placement.call_id))
            call = placement.read()
        return call

    def _end_wait_for_line(self) -> None:
        from vapi_provider.waiting.policy import duration

        if self._limit_since is not None:
            self.log.info("A line became free after %s.", duration(time.time() - self._limit_since))
            self._limit_since, self._limit_waits = None, 0

    def _publish(self, context: Context, hook: VapiHook, call_id: str) -> None:
        try:
            context["ti"].xcom_push(_CALL_ID, call_id)
            VapiCallLink().persist(context, hook.dashboard_url(call_id))
            self._has_link = True
        finally:
            if self._stop.is_set:
                # The task was stopped while the request was under way.
                self._hang_up_if_killed()

    def _awaited_call_id(self, context: Context) -> Any:
        ti = context["ti"]
        return self._call_id or ti.xcom_pull(task_ids=ti.task_id, key=_CALL_ID, map_indexes=ti.map_index)

    @property
    def _call_id(self) -> str | None:
        known = self._wait or self._placement
        return known.call_id if known else None

    def _begin_wait(self, context: Context, state: WaitState, policy: WaitPolicy, **kwargs: Any) -> CallWait:
        if state.may_redial:
            redial = self._redial()
            policy = dataclasses.replace(
                policy,
                redial_on=redial.outcomes,
                max_attempts=redial.max_attempts,
                attempt=state.attempt,
            )
        self._wait = super()._begin_wait(context, state, policy, **kwargs)
        return self._wait

    def _time_out(self, wait: CallWait) -> CallSummary:
        if self.hang_up_on_timeout and not wait.state.has_ended:
            wait.hang_up()
        return super()._time_out(wait)

    def _hung_up_at(self, error: AirflowTaskTimeout) -> AirflowTaskTimeout:
        """End the call if Airflow's own timer has struck, and return the error that says so."""
        from vapi_provider.client.hang_up import hang_up

        wait, call_id = self._wait, self._call_id
        is_done = wait is not None and (wait.fate or wait.state.has_ended)
        if is_done or not self.hang_up_on_timeout or self._hook is None or call_id is None:
            return error
        return AirflowTaskTimeout(f"{error}. {hang_up(self._hook.client, call_id)}")

    def on_kill(self) -> None:
        """Send nothing more, and end the call if that was asked for, within 3 seconds."""
        self._stop.is_set = True
        self._hang_up_if_killed()
        super().on_kill()

    def _hang_up_if_killed(self) -> None:
        from vapi_provider.client.hang_up import hang_up_soon

        # A signal handler must not look the connection up.
        client = vars(self._hook).get("client") if self._hook else None
        if self.hang_up_on_kill and client is not None and self._call_id is not None:
            self.log.warning("The task was stopped. %s", hang_up_soon(client, self._call_id))
