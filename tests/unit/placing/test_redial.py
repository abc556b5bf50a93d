# SPDX-License-Identifier: Apache-2.0
"""A callee who was not reached is called again in Airflow's retries, at most once per attempt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from itertools import groupby
from typing import Any

import pytest
from airflow_model import NUMBER, AirflowModel, Slot
from placing_helpers import await_event, deferral, resume, wait_out
from ways import kill_at

from airflow.providers.common.compat.sdk import AirflowFailException
from vapi_provider.exceptions import (
    VapiCallFailedError,
    VapiConfigurationError,
    VapiNotReachedError,
    VapiTransientError,
)
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.simulator import Fault, Timeline

UNANSWERED = Timeline(
    ringing=1, answered=None, ended=30, analysis=None, ended_reason="customer-did-not-answer"
)
ANSWERED = Timeline()
UNDIALLED = Timeline(
    ringing=None, answered=None, ended=5, analysis=None, ended_reason="call.start.error-get-transport"
)

modes = pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferrable"])
WITH_STORE = pytest.mark.parametrize("has_store", [True])
WITHOUT_STORE = pytest.mark.parametrize("has_store", [False])


@pytest.fixture
def vapi_options() -> dict[str, Any]:
    return {"timeline": UNANSWERED}


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    # Airflow's own logger writes past pytest.
    monkeypatch.setattr(VapiCreateCallOperator, "log", logging.getLogger("task"))
    caplog.set_level(logging.INFO)


def redialling(model: AirflowModel, **arguments: Any) -> Slot:
    usual = {"redial_on": ["no_answer"], "retries": 5, "wait_for_completion": True}
    return model.slot(**{**usual, **arguments})


def not_reached(slot: Slot, **arguments: Any) -> VapiNotReachedError:
    """Run a try that must end with a callee who was not reached, and let its retry_delay pass."""
    with pytest.raises(VapiNotReachedError) as error:
        wait_out(slot, **arguments)
    slot.model.pass_time(3600)
    return error.value


def tokens(model: AirflowModel) -> list[str]:
    return [
        call["assistantOverrides"]["variableValues"]["airflow_token"]
        for call in model.simulator.calls.values()
    ]


def methods(model: AirflowModel) -> list[str]:
    return [request.method for request in model.simulator.requests]


@modes
def test_unreached_callee_is_called_again_in_a_retry(model: AirflowModel, deferrable: bool) -> None:
    slot = redialling(model, deferrable=deferrable)
    error = not_reached(slot)
    assert (error.call_id, error.outcome, error.attempt) == (slot.xcoms["call_id"], "no_answer", 1)
    assert isinstance(error, VapiTransientError)
    assert not isinstance(error, AirflowFailException)
    assert str(error) == (
        f"Call {error.call_id} ended with outcome no_answer, which is in redial_on (attempt 1). The next retry calls "
        "again."
    )
    model.simulator.timeline = ANSWERED
    summary = wait_out(slot)
    assert (summary["outcome"], summary["attempts"]) == ("completed", 2)
    assert model.rings() == {NUMBER: 2}
    assert len(set(tokens(model))) == 2


@modes
def test_reached_callee_is_called_once(model: AirflowModel, deferrable: bool) -> None:
    model.simulator.timeline = ANSWERED
    summary = wait_out(redialling(model, deferrable=deferrable))
    assert (summary["outcome"], summary["attempts"]) == ("completed", 1)


def test_outcome_that_is_not_listed_is_returned(model: AirflowModel) -> None:
    summary = wait_out(redialling(model, redial_on=["failed"]))
    assert (summary["outcome"], summary["attempts"]) == ("no_answer", 1)


@pytest.mark.parametrize("reason", ["call.forwarding.no-answer", "call.forwarding.operator-busy"])
def test_callee_whose_transfer_failed_is_not_called_again(model: AirflowModel, reason: str) -> None:
    model.simulator.timeline = Timeline(ended_reason=reason)
    summary = wait_out(redialling(model))
    assert (summary["outcome"], summary["attempts"]) == ("completed", 1)


@modes
def test_last_attempt_returns_its_call(model: AirflowModel, deferrable: bool) -> None:
    slot = redialling(model, max_attempts=2, deferrable=deferrable)
    not_reached(slot)
    summary = wait_out(slot)
    assert (summary["outcome"], summary["attempts"]) == ("no_answer", 2)
    assert model.rings() == {NUMBER: 2}


@modes
def test_last_try_returns_its_call(model: AirflowModel, deferrable: bool) -> None:
    slot = redialling(model, retries=1, deferrable=deferrable)
    not_reached(slot)
    assert wait_out(slot)["attempts"] == 2


def test_task_without_tries_left_is_called_once(model: AirflowModel) -> None:
    """Airflow's ``tasks test`` has no retries, whatever the DAG says."""
    slot = redialling(model)
    slot.cleared_at_try = -5
    assert wait_out(slot)["attempts"] == 1


@modes
def test_last_attempt_obeys_fail_on(model: AirflowModel, deferrable: bool) -> None:
    slot = redialling(model, max_attempts=2, fail_on=["no_answer"], deferrable=deferrable)
    not_reached(slot)
    with pytest.raises(VapiCallFailedError, match="which is in fail_on"):
        wait_out(slot)
    assert model.rings() == {NUMBER: 2}


@modes
def test_redial_does_not_wait_for_results(model: AirflowModel, deferrable: bool) -> None:
    model.simulator.timeline = Timeline(ended=15, analysis=None, ended_reason="voicemail")
    slot = redialling(model, deferrable=deferrable, wait_for_analysis=True, analysis_timeout=600)
    began_at = model.now
    with pytest.raises(VapiNotReachedError):
        wait_out(slot)
    assert model.now - began_at < 60


@WITH_STORE
def test_recorded_attempt_is_followed_without_a_search(model: AirflowModel) -> None:
    slot = redialling(model)
    not_reached(slot)
    begun = len(model.simulator.requests)
    not_reached(slot)
    assert methods(model)[begun] == "POST"
    assert "search" not in str(model.simulator.requests[begun:])


@WITHOUT_STORE
def test_attempts_are_found_in_one_reading_of_the_list(model: AirflowModel) -> None:
    slot = redialling(model)
    not_reached(slot)
    not_reached(slot)
    begun = len(model.simulator.requests)
    not_reached(slot)
    requests = [
        "list" if request.path == "/call" and request.method == "GET" else request.method
        for request in model.simulator.requests[begun:]
    ]
    # The second attempt is found and read, until the list is settled; then the third is placed.
    grouped = [each for each, _ in groupby(requests)]
    before = grouped[: grouped.index("POST")]
    assert before == ["list", "GET"] * (len(before) // 2)
    assert model.rings() == {NUMBER: 3}


def test_attempts_beyond_the_twentieth_are_found(model: AirflowModel) -> None:
    slot = redialling(model, retries=30)
    for number in range(1, 23):
        assert not_reached(slot).attempt == number
    assert model.rings() == {NUMBER: 22}


# A try is not an attempt.


@modes
def test_outage_uses_a_try_but_no_attempt(model: AirflowModel, deferrable: bool) -> None:
    slot = redialling(model, deferrable=deferrable, max_attempts=2)
    model.simulator.faults.add(Fault(method="POST", path="/call", reset="before"))
    with pytest.raises(VapiTransientError, match="so no phone rang"):
        wait_out(slot)
    model.pass_time(300)
    assert not_reached(slot).attempt == 1
    assert wait_out(slot)["attempts"] == 2
    assert model.rings() == {NUMBER: 2}


@pytest.mark.parametrize("point", ["send.POST", "sent.POST"])
def test_killed_worker_uses_no_attempt(model: AirflowModel, point: str) -> None:
    slot = redialling(model)
    kill_at(model, slot, point)
    model.pass_time(10)
    assert not_reached(slot).attempt == 1
    assert model.rings() == {NUMBER: 1}
    assert not_reached(slot).attempt == 2
    assert model.rings() == {NUMBER: 2}


def test_call_that_ended_after_a_kill_is_followed_once(model: AirflowModel) -> None:
    slot = redialling(model)
    kill_at(model, slot, "sent.POST")
    model.pass_time(60)
    if model.has_store:
        # Its end is recorded first, so that retry_delay applies.
        assert not_reached(slot).attempt == 1
        assert model.rings() == {NUMBER: 1}
    assert not_reached(slot).attempt == 2
    assert model.rings() == {NUMBER: 2}


@pytest.mark.parametrize("point", ["send.POST", "sent.POST"])
@modes
def test_worker_killed_in_the_second_attempt(model: AirflowModel, deferrable: bool, point: str) -> None:
    slot = redialling(model, deferrable=deferrable)
    not_reached(slot)
    if model.has_store:
        kill_at(model, slot, point)
    else:
        # The retry searches before it sends, and may be deferred for that.
        kill_at(model, slot, point, deferrable=False)
    model.pass_time(10)
    assert not_reached(slot).attempt == 2
    assert model.rings() == {NUMBER: 2}


@WITH_STORE
def test_kill_before_the_end_is_recorded_repeats_nothing(model: AirflowModel) -> None:
    slot = redialling(model)
    written = iter(range(2))

    def at(point: str) -> None:
        # Sending and placed; the third is the end.
        if point == "store.set" and next(written, None) is None:
            model.at = lambda _: None
            raise KeyboardInterrupt

    model.at = at
    with pytest.raises(KeyboardInterrupt):
        wait_out(slot)
    model.pass_time(60)
    # This try records the end, so that the next one calls again.
    assert not_reached(slot).attempt == 1
    assert model.rings() == {NUMBER: 1}
    assert not_reached(slot).attempt == 2
    assert model.rings() == {NUMBER: 2}


@WITH_STORE
def test_end_that_cannot_be_recorded_is_read_again(
    model: AirflowModel, caplog: pytest.LogCaptureFixture
) -> None:
    slot = redialling(model)
    written = iter(range(2))

    def at(point: str) -> None:
        if point == "store.set" and next(written, None) is None:
            raise OSError

    model.at = at
    error = not_reached(slot)
    assert (
        f"Could not record the end of call {error.call_id} (OSError). The next try reads the call again."
        in caplog.messages
    )
    model.at = lambda _: None
    assert not_reached(slot).attempt == 1
    assert not_reached(slot).attempt == 2
    assert model.rings() == {NUMBER: 2}


def lose_writes(model: AirflowModel, after: int, count: int) -> list[str]:
    """Let the store refuse some writes, and return its writes."""
    writes: list[str] = []

    def at(point: str) -> None:
        if point == "store.set":
            writes.append(point)
            if after < len(writes) <= after + count:
                raise OSError

    model.at = at
    return writes


@WITH_STORE
def test_end_of_a_task_is_recorded_once_more(model: AirflowModel, caplog: pytest.LogCaptureFixture) -> None:
    slot = redialling(model, max_attempts=1)
    writes = lose_writes(model, after=2, count=2)
    wait_out(slot)
    assert len(writes) == 5
    assert "Could not record" not in caplog.text
    slot.clear()
    assert wait_out(slot, max_attempts=5)["attempts"] == 1
    assert model.rings() == {NUMBER: 1}


@WITH_STORE
def test_log_names_what_an_unrecorded_end_means(
    model: AirflowModel, caplog: pytest.LogCaptureFixture
) -> None:
    slot = redialling(model, max_attempts=1)
    lose_writes(model, after=2, count=100)
    call_id = wait_out(slot)["id"]
    warning = f"Could not record the end of call {call_id} (OSError). With redial_on, clearing this task may call again."
    assert caplog.messages.count(warning) == 1


@WITH_STORE
@modes
@pytest.mark.parametrize("attempt", [1, 2])
def test_lost_record_of_a_call_costs_no_attempt(
    model: AirflowModel, caplog: pytest.LogCaptureFixture, deferrable: bool, attempt: int
) -> None:
    slot = redialling(model, retries=1, deferrable=deferrable)
    # Each attempt records that it sends, the call, and its end; a deferral saves its state in between.
    lose_writes(model, after=1 if attempt == 1 else 4 + deferrable, count=1)
    not_reached(slot)
    ended = wait_out(slot)
    assert "Could not record call" in caplog.text
    assert ended["attempts"] == 2
    slot.clear()
    assert wait_out(slot)["id"] == ended["id"]
    assert model.rings() == {NUMBER: 2}


@WITH_STORE
def test_log_names_an_end_without_a_record(model: AirflowModel, caplog: pytest.LogCaptureFixture) -> None:
    slot = redialling(model, max_attempts=1, deferrable=True)
    deferred = deferral(slot)
    slot.stored.pop("placing")
    call_id = resume(slot, deferred, await_event(model, deferred.trigger))["id"]
    assert (
        f"Could not record the end of call {call_id} (the task's state does not belong to this call). With redial_on, clearing "
        "this task may call again." in caplog.messages
    )


@WITH_STORE
@pytest.mark.parametrize(("waits", "count"), [(True, 3), (False, 2)])
def test_task_without_redial_writes_its_state_once_more(model: AirflowModel, waits: bool, count: int) -> None:
    writes = lose_writes(model, after=0, count=0)
    model.slot(wait_for_completion=waits).attempt()
    # The request that is about to be sent, the call, and its end.
    assert len(writes) == count


def test_call_that_was_never_dialled_is_no_attempt(model: AirflowModel) -> None:
    model.simulator.timeline = UNDIALLED
    slot = redialling(model, redial_on=["failed", "no_answer"], max_attempts=2)
    not_reached(slot)
    model.simulator.timeline = UNANSWERED
    assert not_reached(slot).attempt == 1
    assert wait_out(slot)["attempts"] == 2
    assert model.rings() == {NUMBER: 2}


@modes
def test_last_attempt_is_not_used_up_undialled(model: AirflowModel, deferrable: bool) -> None:
    slot = redialling(model, redial_on=["failed", "no_answer"], max_attempts=2, deferrable=deferrable)
    not_reached(slot)
    model.simulator.timeline = UNDIALLED
    not_reached(slot)
    not_reached(slot)
    model.simulator.timeline = UNANSWERED
    assert wait_out(slot)["attempts"] == 2
    assert model.rings() == {NUMBER: 2}


def test_call_returned_undialled_is_not_counted(model: AirflowModel) -> None:
    model.simulator.timeline = UNDIALLED
    summary = wait_out(redialling(model))
    assert (summary["outcome"], summary["attempts"]) == ("failed", 0)


# Clears


@pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferrable"])
def test_cleared_task_returns_the_call_it_ended_with(model: AirflowModel, deferrable: bool) -> None:
    slot = redialling(model, max_attempts=2, deferrable=deferrable)
    not_reached(slot)
    ended = wait_out(slot)
    slot.clear()
    again = wait_out(slot)
    assert (again["id"], again["outcome"], again["attempts"]) == (ended["id"], "no_answer", 2)
    assert model.rings() == {NUMBER: 2}


def test_cleared_task_that_failed_fails_again(model: AirflowModel) -> None:
    slot = redialling(model, retries=1, fail_on=["no_answer"])
    not_reached(slot)
    with pytest.raises(VapiCallFailedError):
        wait_out(slot)
    slot.clear()
    with pytest.raises(VapiCallFailedError):
        wait_out(slot)
    assert model.rings() == {NUMBER: 2}


def test_cleared_task_without_tries_left_before_redials_nothing(model: AirflowModel) -> None:
    """There was no limit but the retries, and a clear gives new ones."""
    slot = redialling(model, retries=1)
    not_reached(slot)
    wait_out(slot)
    slot.clear()
    assert wait_out(slot)["attempts"] == 2
    assert model.rings() == {NUMBER: 2}


@modes
@WITH_STORE
@pytest.mark.parametrize("fail_on", [[], ["no_answer"]], ids=["success", "failed"])
def test_redial_on_of_a_later_edit_redials_nothing(
    model: AirflowModel, deferrable: bool, fail_on: list[str]
) -> None:
    slot = redialling(model, deferrable=deferrable, fail_on=fail_on)
    with suppress(VapiCallFailedError):
        wait_out(slot, redial_on=[])
    slot.clear()
    with suppress(VapiCallFailedError):
        assert wait_out(slot)["attempts"] == 1
    assert model.rings() == {NUMBER: 1}


@pytest.mark.parametrize("redial_on", [[], ["no_answer"], ["failed"]], ids=["never", "no_answer", "failed"])
@pytest.mark.parametrize("fail_on", [[], ["failed"]], ids=["success", "failed"])
def test_undialled_call_is_placed_again_after_a_clear(
    model: AirflowModel, redial_on: list[str], fail_on: list[str]
) -> None:
    model.simulator.timeline = UNDIALLED
    slot = redialling(model, redial_on=redial_on, fail_on=fail_on)
    with suppress(VapiCallFailedError, VapiNotReachedError):
        wait_out(slot)
    model.pass_time(300)
    slot.clear()
    model.simulator.timeline = ANSWERED
    summary = wait_out(slot)
    assert (summary["outcome"], summary["attempts"]) == ("completed", 1)
    slot.clear()
    assert wait_out(slot)["id"] == summary["id"]
    assert model.rings() == {NUMBER: 1}


@WITH_STORE
def test_task_cleared_half_way_goes_on_with_its_attempts(model: AirflowModel) -> None:
    slot = redialling(model)
    not_reached(slot)
    slot.clear()
    begun = len(model.simulator.requests)
    assert not_reached(slot).attempt == 2
    # Another try may have sent the request of this attempt.
    assert methods(model)[begun] == "GET"
    assert not_reached(slot).attempt == 3
    assert model.rings() == {NUMBER: 3}


@WITHOUT_STORE
def test_task_cleared_half_way_redials_nothing_without_a_store(model: AirflowModel) -> None:
    slot = redialling(model)
    not_reached(slot)
    slot.clear()
    summary = wait_out(slot)
    assert (summary["outcome"], summary["attempts"]) == ("no_answer", 1)
    assert model.rings() == {NUMBER: 1}


@WITHOUT_STORE
def test_clear_is_noticed_by_the_tries_alone(model: AirflowModel) -> None:
    """Before 3.2, Airflow counts the clears of a run only when it is over."""
    slot = redialling(model)
    not_reached(slot)
    slot.clear()
    slot.run.clear_number = 0
    assert wait_out(slot)["attempts"] == 1
    assert model.rings() == {NUMBER: 1}


@modes
def test_log_names_that_a_clear_ends_redialling(
    model: AirflowModel, caplog: pytest.LogCaptureFixture, deferrable: bool
) -> None:
    """It ends it even for a task that had not run before: with another list, it may be about a former callee."""
    slot = redialling(model, deferrable=deferrable)
    slot.run.clear_number = 1
    if model.has_store:
        assert not_reached(slot).attempt == 1
    else:
        assert wait_out(slot)["attempts"] == 1
    messages = caplog.messages.count("After a clear, redial_on has no effect before Airflow 3.3.")
    assert messages == (0 if model.has_store else 1)


@WITH_STORE
def test_call_found_by_search_only_is_over_after_a_clear(model: AirflowModel) -> None:
    slot = redialling(model)
    not_reached(slot)
    slot.stored.clear()
    slot.clear()
    assert wait_out(slot)["attempts"] == 1
    # And that is recorded.
    assert wait_out(slot)["attempts"] == 1
    assert model.rings() == {NUMBER: 1}


@modes
@pytest.mark.parametrize("vapi_options", [{"timeline": UNANSWERED, "list_lag": 29}], ids=["lag"])
def test_cleared_task_returns_the_attempt_that_is_not_listed_yet(
    model: AirflowModel, deferrable: bool
) -> None:
    slot = redialling(model)
    not_reached(slot)
    model.simulator.timeline = Timeline(ended=300, analysis=None)
    kill_at(model, slot, "sent.POST")
    slot.stored.clear()
    slot.clear()
    summary = wait_out(slot, deferrable=deferrable)
    assert (summary["outcome"], summary["attempts"]) == ("completed", 2)
    assert model.rings() == {NUMBER: 2}


@WITH_STORE
def test_emptied_store_loses_no_attempt_of_a_retry(model: AirflowModel) -> None:
    slot = redialling(model)
    not_reached(slot)
    not_reached(slot)
    slot.stored.clear()
    assert not_reached(slot).attempt == 2
    assert not_reached(slot).attempt == 3
    assert model.rings() == {NUMBER: 3}


@WITH_STORE
def test_lost_response_after_a_clear_is_an_attempt_of_its_own(model: AirflowModel) -> None:
    slot = redialling(model)
    not_reached(slot)
    slot.clear()
    model.simulator.faults.add(Fault(method="POST", path="/call", reset="before", effect=True))
    assert not_reached(slot).attempt == 2
    assert not_reached(slot).attempt == 3


@WITH_STORE
def test_removed_redial_on_returns_the_recorded_call(model: AirflowModel) -> None:
    slot = redialling(model)
    error = not_reached(slot)
    assert wait_out(slot, redial_on=[])["id"] == error.call_id
    assert model.rings() == {NUMBER: 1}


@WITH_STORE
def test_cleared_task_of_another_callee_calls_that_one(model: AirflowModel) -> None:
    slot = redialling(model, map_index=0)
    not_reached(slot)
    slot.clear()
    slot.arguments["customer"] = {"number": "+12025550199"}
    assert not_reached(slot).attempt == 1
    assert model.rings() == {NUMBER: 1, "+12025550199": 1}


# What a deferral keeps


@WITH_STORE
@pytest.mark.parametrize("vapi_options", [{"timeline": UNANSWERED, "list_lag": 29}], ids=["lag"])
def test_deferred_doubt_keeps_the_attempt_it_is_about(model: AirflowModel) -> None:
    slot = redialling(model, deferrable=True)
    not_reached(slot)
    model.simulator.faults.add(Fault(method="POST", path="/call", reset="before", effect=True))
    deferred = deferral(slot)
    assert deferred.trigger.call_id is None
    # What the templates render now is another callee.
    other = {"number": "+12025550199"}
    with pytest.raises(VapiNotReachedError, match=r"\(attempt 2\)"):
        resume(slot, deferred, await_event(model, deferred.trigger), customer=other)
    assert model.rings() == {NUMBER: 2}


@WITHOUT_STORE
def test_deferred_search_goes_on_with_the_next_attempt(model: AirflowModel) -> None:
    slot = redialling(model, deferrable=True)
    not_reached(slot)
    deferred = deferral(slot)
    assert deferred.trigger.call_id is None
    assert model.posts() == 1
    again = resume(slot, deferred, await_event(model, deferred.trigger))
    assert len(set(tokens(model))) == 2
    with pytest.raises(VapiNotReachedError, match=r"\(attempt 2\)"):
        resume(slot, again, await_event(model, again.trigger))
    assert model.rings() == {NUMBER: 2}


# Arguments


CONFLICTS: dict[str, tuple[dict[str, Any], str]] = {
    "no retries": ({"redial_on": ["no_answer"], "retries": 0}, "redial_on has no effect with retries=0"),
    "no wait": (
        {"redial_on": ["no_answer"], "retries": 1, "wait_for_completion": False},
        "redial_on has no effect with wait_for_completion=False.",
    ),
    "schedule": (
        {"redial_on": ["no_answer"], "retries": 1, "schedule_plan": {"earliest_at": "{{ ts }}"}},
        "redial_on cannot be combined with schedule_plan",
    ),
    "max_attempts alone": ({"max_attempts": 3}, "max_attempts has no effect without redial_on"),
    "outside_hours alone": ({"outside_hours": "skip"}, "outside_hours has no effect without calling_hours"),
    "limit_timeout and fail": (
        {"on_limit": "fail", "limit_timeout": 60},
        "limit_timeout has no effect with on_limit='fail'",
    ),
}


def operator(**arguments: Any) -> VapiCreateCallOperator:
    call = {"assistant_id": "a", "phone_number_id": "p", "customer": {"number": NUMBER}}
    return VapiCreateCallOperator(task_id="call", **{**call, **arguments})


@pytest.mark.parametrize("case", CONFLICTS)
def test_argument_without_effect_is_refused_at_parse_time(case: str) -> None:
    arguments, message = CONFLICTS[case]
    with pytest.raises(ValueError, match=f"^Task 'call': {message}"):
        operator(**arguments)


@pytest.mark.parametrize(
    "arguments", [{"max_attempts": 3}, {"outside_hours": "skip"}, {"limit_timeout": 60, "on_limit": "fail"}]
)
def test_default_args_need_not_fit_each_task(arguments: dict[str, Any]) -> None:
    operator(default_args=arguments, **arguments)


VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "completed": ({"redial_on": ["completed"]}, "redial_on must not contain completed"),
    "unknown outcome": ({"redial_on": ["busy"]}, r"redial_on must be a list of known outcomes \(completed"),
    "text": ({"redial_on": "no_answer"}, "redial_on must be a list of known outcomes"),
    "zero": ({"max_attempts": 0}, "max_attempts must be an integer of at least 1, or None; got 0"),
    "bool": ({"max_attempts": True}, "max_attempts must be an integer of at least 1, or None; got True"),
    "text attempts": (
        {"max_attempts": "3"},
        "max_attempts must be an integer of at least 1, or None; got '3'",
    ),
    "on_limit": ({"on_limit": "hold"}, "on_limit must be one of wait, fail; got 'hold'"),
    "limit_timeout": (
        {"limit_timeout": -1},
        "limit_timeout must be a timedelta or a non-negative number of seconds",
    ),
}


@pytest.mark.parametrize("case", VALUES)
def test_unusable_value_is_refused_before_a_request(model: AirflowModel, case: str) -> None:
    arguments, message = VALUES[case]
    with pytest.raises(VapiConfigurationError, match=f"^{message}.*Nothing was sent"):
        redialling(model, **arguments).attempt()
    assert model.simulator.requests == []


def test_retries_given_as_none_are_airflows_default() -> None:
    with pytest.raises(ValueError, match="retries=0"):
        operator(redial_on=["no_answer"])


@pytest.mark.parametrize("make", [tuple, list, iter], ids=["tuple", "list", "iterator"])
def test_redial_on_takes_any_iterable(model: AirflowModel, make: Callable[[Any], Any]) -> None:
    assert not_reached(redialling(model, redial_on=make(["no_answer"]))).attempt == 1
