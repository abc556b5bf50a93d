# SPDX-License-Identifier: Apache-2.0
"""Over the concurrency limit: no call is placed, in whichever way Vapi refuses, and a later try gets through."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from airflow_model import NUMBER, AirflowModel, Slot
from placing_helpers import begin, wait_out
from task_instances import LINK

from airflow.providers.common.compat.sdk import AirflowFailException
from vapi_provider.exceptions import VapiCallFailedError, VapiConcurrencyLimitError, VapiTransientError
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import Fault, Timeline, VapiSimulator

LIMIT = 3
BLOCKED = "call.start.error-subscription-concurrency-limit-reached"
REFUSED = f"the limit is {LIMIT}, 0 left"

waits = pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferrable"])


@pytest.fixture
def vapi_options(over_limit: str) -> dict[str, Any]:
    return {"concurrency_limit": LIMIT, "over_limit": over_limit}


@pytest.fixture(autouse=True)
def _all_lines_are_taken(simulator: VapiSimulator) -> None:
    for _ in range(LIMIT):
        simulator.add_call(status="in-progress")


refuses = pytest.mark.parametrize("over_limit", ["refuse"])
ends = pytest.mark.parametrize("over_limit", ["end"])
queues = pytest.mark.parametrize("over_limit", ["queue"])


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch) -> None:
    # Airflow's own logger writes past pytest.
    monkeypatch.setattr(VapiCreateCallOperator, "log", logging.getLogger("task"))


def free_the_lines(model: AirflowModel) -> None:
    for call_id, call in model.simulator.calls.items():
        if call["status"] == "in-progress":
            model.simulator.end_call(call_id)


def in_front_of(model: AirflowModel, point: str, act: Callable[[], None]) -> None:
    """Let something happen the first time that the task comes to a point."""
    left = [act]

    def at(reached: str) -> None:
        if reached == point and left:
            left.pop()()

    model.at = at


def failing(model: AirflowModel, **arguments: Any) -> Slot:
    """Make a task instance that does not wait for a free line."""
    return model.slot(on_limit="fail", **arguments)


def placed_ids(model: AirflowModel) -> list[str]:
    return [call_id for call_id, call in model.simulator.calls.items() if "#" in call.get("name", "")]


# Refused


@refuses
def test_refusal_names_the_limit_and_is_retried(model: AirflowModel) -> None:
    slot = failing(model)
    with pytest.raises(VapiConcurrencyLimitError, match=REFUSED) as refusal:
        slot.attempt()
    assert isinstance(refusal.value, VapiTransientError)
    assert not isinstance(refusal.value, AirflowFailException)
    assert refusal.value.status_code == 400
    assert slot.xcoms == {}
    assert model.posts() == 1
    assert model.rings() == {}


@refuses
def test_refused_call_rings_once_when_a_line_is_free(model: AirflowModel) -> None:
    slot = failing(model)
    for _ in range(3):
        with pytest.raises(VapiConcurrencyLimitError):
            slot.attempt()
        model.pass_time(300)
    free_the_lines(model)
    assert slot.attempt()["status"] == "queued"
    assert model.posts() == 4
    assert model.rings() == {NUMBER: 1}


@refuses
@pytest.mark.parametrize("has_store", [True])
def test_retry_after_a_refusal_does_not_search(model: AirflowModel) -> None:
    slot = failing(model)
    with pytest.raises(VapiConcurrencyLimitError):
        slot.attempt()
    free_the_lines(model)
    slot.attempt()
    assert [request.method for request in model.simulator.requests] == ["POST", "POST"]


@refuses
@pytest.mark.parametrize(
    ("limits", "message"),
    [
        pytest.param({}, "does not report the limit", id="none"),
        pytest.param({"subscriptionLimits": None}, "does not report the limit", id="null"),
        pytest.param({"subscriptionLimits": {"concurrencyLimit": 7}}, "the limit is 7\\)", id="limit-only"),
        pytest.param({"subscriptionLimits": ["7"]}, "does not report the limit", id="list"),
    ],
)
def test_refusal_with_fewer_details_is_recognised(
    model: AirflowModel, limits: dict[str, Any], message: str
) -> None:
    body = {"message": "Over Concurrency Limit.", "error": "Bad Request", "statusCode": 400, **limits}
    model.simulator.faults.add(Fault(method="POST", status=400, body=json.dumps(body)))
    with pytest.raises(VapiConcurrencyLimitError, match=message):
        failing(model).attempt()


# Taken, and ended before it is dialled


@ends
@pytest.mark.parametrize("response_takes", [0, 2])
def test_call_that_ended_undialled_is_over_the_limit(
    model: AirflowModel, response_takes: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Vapi ends it a second after it has accepted it."""
    slot = failing(model)
    in_front_of(model, "sent.POST", lambda: model.pass_time(response_takes))
    with pytest.raises(VapiConcurrencyLimitError, match=rf"{BLOCKED}.*{REFUSED}"):
        slot.attempt()
    (call_id,) = placed_ids(model)
    assert slot.xcoms["call_id"] == call_id
    assert slot.xcoms[LINK].endswith(call_id)
    assert f"Vapi accepted call {call_id} although it exceeds the concurrency limit." in caplog.text
    free_the_lines(model)
    model.pass_time(300)
    assert slot.attempt()["status"] == "queued"
    assert len(placed_ids(model)) == 2
    assert model.rings() == {NUMBER: 1}


@ends
def test_undialled_call_found_by_search_is_over_the_limit(model: AirflowModel) -> None:
    """The response with the limits was lost."""
    model.simulator.faults.add(Fault(method="POST", path="/call", reset="before", effect=True))
    slot = failing(model)
    with pytest.raises(VapiConcurrencyLimitError, match=BLOCKED):
        slot.attempt()
    free_the_lines(model)
    model.pass_time(300)
    slot.attempt()
    assert model.rings() == {NUMBER: 1}


@ends
@pytest.mark.parametrize("status", [503, 401, 403, 404])
def test_accepted_call_that_cannot_be_read_counts_as_placed(
    model: AirflowModel, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    model.simulator.faults.add(Fault(method="GET", status=status, times=None))
    slot = failing(model)
    assert slot.attempt()["id"] == slot.xcoms["call_id"] == placed_ids(model)[0]
    assert f"returned {status}" in caplog.text


@waits
@ends
@pytest.mark.parametrize(
    "fail_on", [(), ("failed",), ("failed", "unknown")], ids=["no-fail_on", "failed", "more"]
)
def test_wait_reports_the_limit_and_a_retry_calls_once(
    model: AirflowModel, deferrable: bool, fail_on: tuple[str, ...]
) -> None:
    slot = failing(model, deferrable=deferrable, fail_on=fail_on)
    with pytest.raises(VapiConcurrencyLimitError, match=rf"{BLOCKED}.*{REFUSED}") as refusal:
        wait_out(slot)
    assert not isinstance(refusal.value, AirflowFailException)
    (blocked,) = placed_ids(model)
    assert blocked in str(refusal.value)
    free_the_lines(model)
    model.pass_time(300)
    summary = wait_out(slot)
    assert summary["outcome"] == "completed"
    assert summary["id"] == slot.xcoms["call_id"] != blocked
    assert model.rings() == {NUMBER: 1}


@waits
@ends
def test_each_try_reports_the_limit_while_no_line_is_free(model: AirflowModel, deferrable: bool) -> None:
    slot = failing(model, deferrable=deferrable)
    for _ in range(3):
        with pytest.raises(VapiConcurrencyLimitError, match=REFUSED):
            wait_out(slot)
        model.pass_time(300)
    assert model.posts() == 3
    assert model.rings() == {}


@ends
def test_message_is_the_same_in_each_mode(model: AirflowModel) -> None:
    messages = []
    for place, deferrable in enumerate((False, True)):
        slot = failing(model, number=f"+1202555010{place}", deferrable=deferrable)
        with pytest.raises(VapiConcurrencyLimitError) as refusal:
            wait_out(slot)
        messages.append(str(refusal.value).replace(slot.xcoms["call_id"], "ID"))
    assert messages[0] == messages[1]


@ends
def test_retry_places_an_undialled_call_again(model: AirflowModel) -> None:
    """Its state was read before the end, so that the task has succeeded and was cleared."""
    slot = failing(model)
    model.simulator.faults.add(Fault(method="GET", status=404))
    slot.attempt()
    model.pass_time(60)
    free_the_lines(model)
    summary = slot.attempt()
    assert (summary["status"], len(placed_ids(model))) == ("queued", 2)
    assert model.rings() == {NUMBER: 1}


# Taken, and dialled a little later


@queues
@pytest.mark.parametrize(
    ("rings_after", "looks", "status"), [(1, 1, "ringing"), (5, 2, "ringing"), (60, 3, "queued")]
)
def test_accepted_call_is_read_until_it_is_dialled(
    model: AirflowModel, rings_after: float, looks: int, status: str
) -> None:
    model.simulator.timeline = Timeline(ringing=rings_after, answered=90, ended=100, analysis=None)
    slot = failing(model)
    began_at = model.now
    assert slot.attempt()["status"] == status
    assert [request.method for request in model.simulator.requests] == ["POST", *["GET"] * looks]
    assert model.now - began_at <= 14
    assert model.rings() == {NUMBER: 1}


@waits
@queues
def test_call_dialled_later_is_waited_for(model: AirflowModel, deferrable: bool) -> None:
    slot = failing(model, deferrable=deferrable, fail_on=["failed"])
    assert wait_out(slot)["outcome"] == "completed"
    assert model.posts() == 1
    assert model.rings() == {NUMBER: 1}


@queues
def test_call_dialled_later_is_placed_once(model: AirflowModel) -> None:
    slot = failing(model)
    first = begin(slot)
    model.pass_time(300)
    assert begin(slot)["id"] == first["id"]
    assert model.rings() == {NUMBER: 1}


# A sensor has not placed the call, and cannot again.


@ends
def test_undialled_call_is_an_outcome_for_a_sensor(
    model: AirflowModel,
) -> None:
    slot = failing(model)
    with pytest.raises(VapiConcurrencyLimitError):
        slot.attempt()
    call_id = slot.xcoms["call_id"]
    context = failing(model, task_id="wait").context()
    assert VapiCallSensor(task_id="wait", call_id=call_id).execute(context)["outcome"] == "failed"
    with pytest.raises(VapiCallFailedError, match=BLOCKED):
        VapiCallSensor(task_id="wait", call_id=call_id, fail_on=["failed"]).execute(context)
