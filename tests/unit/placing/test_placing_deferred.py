# SPDX-License-Identifier: Apache-2.0
"""A deferrable task leaves to the triggerer the time until a search can show whether a call was placed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from airflow_model import NUMBER, AirflowModel, Slot
from placing_helpers import await_event, begin, deferral, resume
from task_instances import BACKSTOP, Deferral
from ways import kill_at

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred
from vapi_provider.exceptions import VapiTransientError
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.simulator import Fault, Timeline

GRACE_SECONDS = 65
"""The time limit of a request, the time that a killed process goes on for, and the lag of the list."""

WOKEN = {"status": "timeout", "call_id": None, "message": "The time has come."}

RINGS_ON = Timeline(ended=None, analysis=None)


@pytest.fixture
def vapi_options() -> dict[str, Any]:
    return {"timeline": RINGS_ON, "list_lag": 29}


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch) -> None:
    # Airflow's own logger writes past pytest.
    monkeypatch.setattr(VapiCreateCallOperator, "log", logging.getLogger("task"))


def lose_worker(model: AirflowModel, *, point: str, **arguments: Any) -> Slot:
    """Let the worker of a first try die at a point, and its successor begin a second later."""
    slot = model.slot(**arguments)
    kill_at(model, slot, point, wait_for_completion=True)
    model.pass_time(1)
    return slot


def lose_response(model: AirflowModel, *, effect: bool, **arguments: Any) -> Slot:
    """Let the response to the request of the first try be lost, and the request too unless it takes effect."""
    model.simulator.faults.add(Fault(method="POST", path="/call", reset="before", effect=effect))
    return model.slot(**arguments)


def placing(slot: Slot, **arguments: Any) -> Deferral:
    """Run the first process of a try, which must defer before it has a call."""
    deferred = deferral(slot, **arguments)
    assert deferred.trigger.call_id is None
    assert "call_id" not in slot.xcoms
    return deferred


def go_on(slot: Slot, deferred: Deferral, **arguments: Any) -> Any:
    return resume(slot, deferred, await_event(slot.model, deferred.trigger), **arguments)


def until_placed(slot: Slot) -> Deferral:
    """Run another try until it has a call and waits for its end."""
    deferred = deferral(slot)
    while deferred.trigger.call_id is None:
        deferred = go_on(slot, deferred)
    return deferred


# After a lost worker


@pytest.mark.parametrize("point", ["send.POST", "sent.POST"])
def test_retry_after_a_lost_worker_is_deferred(
    model: AirflowModel, point: str, caplog: pytest.LogCaptureFixture
) -> None:
    slot = lose_worker(model, point=point)
    caplog.set_level(logging.INFO)
    began_at = model.now
    deferred = placing(slot, hang_up_on_kill=True)
    assert model.now == began_at
    # Without a record, the last request may have been sent up to now.
    assert deferred.trigger.end_time == began_at + GRACE_SECONDS - (1 if model.has_store else 0)
    assert deferred.timeout == timedelta(seconds=deferred.trigger.end_time - began_at + 120)
    advice = [line for line in caplog.messages if "stopping the task does not end it" in line]
    assert len(advice) == 1
    assert "python -m vapi_provider find" in advice[0]
    again = go_on(slot, deferred)
    assert again.trigger.call_id == slot.xcoms["call_id"]
    assert model.posts() == 1
    model.assert_rang_once(slot)


@pytest.mark.parametrize("deferrable", [False, True])
def test_search_that_takes_a_minute_logs_one_line(
    model: AirflowModel, deferrable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    slot = lose_worker(model, point="send.POST")
    caplog.set_level(logging.INFO)
    begin(slot, deferrable=deferrable, wait_for_completion=deferrable)
    seconds = GRACE_SECONDS - model.has_store
    lines = [line for line in caplog.messages if "searching" in line or "checking" in line]
    assert lines == [f"A request may have been sent; searching for its call, for up to {seconds} s."]


@pytest.mark.parametrize("point", ["send.POST", "sent.POST"])
def test_token_and_search_are_logged_once_in_a_try(
    model: AirflowModel, point: str, caplog: pytest.LogCaptureFixture
) -> None:
    slot = lose_worker(model, point=point)
    caplog.set_level(logging.INFO)
    caplog.clear()
    go_on(slot, placing(slot))
    for start in ("The call's token is ", "A request may have been sent"):
        assert len([line for line in caplog.messages if line.startswith(start)]) == 1


@pytest.mark.parametrize("has_store", [True])
def test_short_wait_is_not_deferred(model: AirflowModel) -> None:
    slot = lose_worker(model, point="send.POST")
    model.pass_time(GRACE_SECONDS - 11)
    began_at = model.now
    assert deferral(slot).trigger.call_id is not None
    assert model.now == began_at + 10
    model.assert_rang_once(slot)


def test_call_that_is_listed_is_adopted_at_once(model: AirflowModel) -> None:
    slot = lose_worker(model, point="sent.POST")
    model.pass_time(30)
    began_at = model.now
    assert deferral(slot).trigger.call_id == next(iter(model.simulator.calls))
    assert model.now == began_at


# After a lost response


def test_lost_request_is_not_repeated_in_its_try(model: AirflowModel) -> None:
    slot = lose_response(model, effect=False)
    with pytest.raises(
        VapiTransientError, match="Vapi lists no dialled call with the token, so no phone rang"
    ):
        go_on(slot, placing(slot))
    assert model.posts() == 1
    assert until_placed(slot).trigger.call_id == slot.xcoms["call_id"]
    assert model.posts() == 2
    model.assert_rang_once(slot)


def test_call_whose_response_was_lost_is_adopted(model: AirflowModel) -> None:
    slot = lose_response(model, effect=True)
    again = go_on(slot, placing(slot))
    assert again.trigger.call_id == slot.xcoms["call_id"]
    assert model.posts() == 1
    model.assert_rang_once(slot)


def test_doubt_goes_on_with_the_request_that_was_sent(model: AirflowModel) -> None:
    slot = lose_response(model, effect=True)
    deferred = placing(slot)
    # What the templates render now is another callee, called over another number.
    changed = {
        "customer": {"number": "+12025550199"},
        "phone_number_id": "0198a3f0-0000-7000-8000-00000000000f",
    }
    again = go_on(slot, deferred, **changed)
    assert again.trigger.call_id == next(iter(model.simulator.calls))
    assert model.posts() == 1
    assert model.rings() == {NUMBER: 1}


def test_not_found_after_a_late_search_is_read_again(model: AirflowModel) -> None:
    slot = lose_response(model, effect=True)
    deferred = placing(slot)
    (call_id,) = model.simulator.calls
    message = '{"message": "Call not found", "error": "Not Found", "statusCode": 404}'
    fault = Fault(
        method="GET", path=f"/call/{call_id}", status=404, body=message, content_type="application/json"
    )
    model.simulator.faults.add(fault)
    with pytest.raises(VapiTransientError, match="placed moments ago"):
        go_on(slot, deferred)
    assert until_placed(slot).trigger.call_id == call_id
    assert model.posts() == 1
    model.assert_rang_once(slot)


# What is left of a try


@pytest.mark.parametrize("by", ["event", "backstop", "another version's event"])
@pytest.mark.parametrize("lose", [lose_worker, lose_response], ids=["worker", "response"])
def test_try_that_lost_its_state_sends_nothing_more(
    model: AirflowModel, lose: Callable[..., Slot], by: str
) -> None:
    """A user has deleted it; a first try would take itself for one that has sent nothing yet."""
    slot = lose(model, **({"point": "sent.POST"} if lose is lose_worker else {"effect": True}))
    deferred = placing(slot)
    slot.xcoms.clear()
    slot.stored.clear()
    model.pass_time(5)
    method, kwargs = BACKSTOP
    if by != "backstop":
        method, kwargs = deferred.method, {"event": WOKEN if by == "event" else {"status": "transferred"}}
    with suppress(VapiTransientError, TaskDeferred):
        slot.resume(method, kwargs, deferrable=True, wait_for_completion=True)
    assert model.posts() == 1
    assert model.rings() == {NUMBER: 1}


def test_try_without_a_trigger_goes_on_at_the_backstop(model: AirflowModel) -> None:
    slot = lose_worker(model, point="send.POST")
    placing(slot)
    model.pass_time(GRACE_SECONDS + 120)
    with pytest.raises(TaskDeferred) as deferred:
        slot.resume(*BACKSTOP, deferrable=True, wait_for_completion=True)
    assert deferred.value.trigger.call_id == slot.xcoms["call_id"]
    model.assert_rang_once(slot)


def test_resumed_try_uses_the_connection_it_began_with(
    model: AirflowModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = lose_worker(model, point="send.POST")
    deferred = placing(slot)
    again = go_on(slot, deferred, vapi_conn_id="vapi_of_another_organization")
    assert again.trigger.vapi_conn_id == "vapi_default"
    model.assert_rang_once(slot)


def test_retry_resumed_with_an_old_event_begins_anew(model: AirflowModel) -> None:
    """Airflow 3.0 does so."""
    slot = lose_response(model, effect=False)
    deferred = placing(slot)
    slot.try_number += 1
    model.pass_time(300)
    again = resume(slot, deferred, WOKEN)
    if not model.has_store:
        again = go_on(slot, again)
    assert again.trigger.call_id == slot.xcoms["call_id"]
    assert model.posts() == 2
    model.assert_rang_once(slot)


# Limits


def test_execution_timeout_counts_while_placing_is_deferred(model: AirflowModel) -> None:
    slot = lose_worker(model, point="sent.POST", execution_timeout=timedelta(seconds=40))
    began_at = model.now
    deferred = placing(slot)
    assert deferred.trigger.end_time == began_at + 40
    with pytest.raises(AirflowTaskTimeout, match=r"\(execution_timeout=40\) whether a call was placed"):
        go_on(slot, deferred)
    assert until_placed(slot).trigger.call_id == slot.xcoms["call_id"]
    assert model.posts() == 1


def test_stopped_task_is_not_deferred(model: AirflowModel) -> None:
    slot = lose_worker(model, point="send.POST")
    run = slot.prepare(deferrable=True, wait_for_completion=True)
    assert slot.operator is not None
    slot.operator.on_kill()
    with pytest.raises(VapiTransientError, match="was stopped, so it sends nothing more"):
        run()
    assert model.posts() == 0
