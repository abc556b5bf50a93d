# SPDX-License-Identifier: Apache-2.0
"""Over the concurrency limit: no call is placed, in whichever way Vapi refuses, and a later try gets through."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow_model import NUMBER, AirflowModel
from placing_helpers import LINK, begin, wait_out

from airflow.providers.common.compat.sdk import AirflowFailException
from vapi_provider.exceptions import VapiCallFailedError, VapiConcurrencyLimitError, VapiTransientError
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import Fault, ManualClock, VapiSimulator

LIMIT = 3
BLOCKED = "call.start.error-subscription-concurrency-limit-reached"
REFUSED = f"no call was placed: the limit is {LIMIT}, 0 left"

waits = pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferrable"])


@pytest.fixture
def simulator(
    clock: ManualClock, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[VapiSimulator]:
    """A Vapi with few lines, which are all taken."""
    with VapiSimulator(clock=clock, concurrency_limit=LIMIT, over_limit=request.param) as running:
        monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", running.connection)
        for _ in range(LIMIT):
            running.add_call(status="in-progress")
        yield running


refuses = pytest.mark.parametrize("simulator", ["refuse"], indirect=True)
ends = pytest.mark.parametrize("simulator", ["end"], indirect=True)
queues = pytest.mark.parametrize("simulator", ["queue"], indirect=True)


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


def placed_ids(model: AirflowModel) -> list[str]:
    return [call_id for call_id, call in model.simulator.calls.items() if "#" in call.get("name", "")]


# Refused


@refuses
def test_a_refusal_names_the_limit_and_is_retried(model: AirflowModel) -> None:
    slot = model.slot()
    with pytest.raises(VapiConcurrencyLimitError, match=REFUSED) as refusal:
        slot.attempt()
    assert isinstance(refusal.value, VapiTransientError)
    assert not isinstance(refusal.value, AirflowFailException)
    assert refusal.value.status_code == 400
    assert "pool, max_active_tis_per_dag" in str(refusal.value)
    assert slot.xcoms == {}
    assert model.posts() == 1
    assert model.rings() == {}


@refuses
def test_a_refused_call_rings_once_when_a_line_is_free(model: AirflowModel) -> None:
    slot = model.slot()
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
def test_a_retry_after_a_refusal_does_not_search(model: AirflowModel) -> None:
    slot = model.slot()
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
        pytest.param({"subscriptionLimits": {"concurrencyLimit": 7}}, "the limit is 7\\.", id="limit-only"),
        pytest.param({"subscriptionLimits": ["7"]}, "does not report the limit", id="list"),
    ],
)
def test_a_refusal_with_fewer_details_is_a_refusal_too(
    model: AirflowModel, limits: dict[str, Any], message: str
) -> None:
    body = {"message": "Over Concurrency Limit.", "error": "Bad Request", "statusCode": 400, **limits}
    model.simulator.faults.add(Fault(method="POST", status=400, body=json.dumps(body)))
    with pytest.raises(VapiConcurrencyLimitError, match=message):
        model.slot().attempt()


# Taken, and ended before it is dialled


@ends
def test_an_accepted_call_counts_as_placed(model: AirflowModel, caplog: pytest.LogCaptureFixture) -> None:
    slot = model.slot()
    summary = slot.attempt()
    (call_id,) = placed_ids(model)
    assert (summary["id"], summary["status"]) == (call_id, "queued")
    assert slot.xcoms["call_id"] == call_id
    assert slot.xcoms[LINK].endswith(call_id)
    assert f"Vapi accepted call {call_id}, over the organization's concurrency limit." in caplog.text


@ends
def test_a_call_that_ended_undialled_is_over_the_limit(model: AirflowModel) -> None:
    slot = model.slot()
    in_front_of(model, "sent.POST", lambda: model.pass_time(2))
    with pytest.raises(VapiConcurrencyLimitError, match=rf"{BLOCKED}.*{REFUSED}"):
        slot.attempt()
    free_the_lines(model)
    model.pass_time(300)
    assert slot.attempt()["status"] == "queued"
    assert len(placed_ids(model)) == 2
    assert model.rings() == {NUMBER: 1}


@ends
@pytest.mark.parametrize("status", [503, 401, 403, 404])
def test_an_accepted_call_that_cannot_be_read_counts_as_placed(
    model: AirflowModel, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    model.simulator.faults.add(Fault(method="GET", status=status, times=None))
    slot = model.slot()
    assert slot.attempt()["id"] == slot.xcoms["call_id"] == placed_ids(model)[0]
    assert f"returned {status}" in caplog.text


@waits
@ends
@pytest.mark.parametrize(
    "fail_on", [(), ("failed",), ("failed", "unknown")], ids=["no-fail_on", "failed", "more"]
)
def test_a_wait_reports_the_limit_and_a_retry_calls_once(
    model: AirflowModel, deferrable: bool, fail_on: tuple[str, ...]
) -> None:
    slot = model.slot(deferrable=deferrable, fail_on=fail_on)
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
    slot = model.slot(deferrable=deferrable)
    for _ in range(3):
        with pytest.raises(VapiConcurrencyLimitError, match=REFUSED):
            wait_out(slot)
        model.pass_time(300)
    assert model.posts() == 3
    assert model.rings() == {}


@ends
def test_the_message_is_the_same_in_each_mode(model: AirflowModel) -> None:
    messages = []
    for place, deferrable in enumerate((False, True)):
        slot = model.slot(number=f"+1202555010{place}", deferrable=deferrable)
        with pytest.raises(VapiConcurrencyLimitError) as refusal:
            wait_out(slot)
        messages.append(str(refusal.value).replace(slot.xcoms["call_id"], "ID"))
    assert messages[0] == messages[1]


@ends
def test_a_retry_places_an_undialled_call_again(model: AirflowModel) -> None:
    """As when a task whose call was taken is cleared after it has succeeded."""
    slot = model.slot()
    slot.attempt()
    model.pass_time(60)
    free_the_lines(model)
    summary = slot.attempt()
    assert (summary["status"], len(placed_ids(model))) == ("queued", 2)
    assert model.rings() == {NUMBER: 1}


# Taken, and dialled a little later


@waits
@queues
def test_a_call_dialled_later_is_waited_for(model: AirflowModel, deferrable: bool) -> None:
    slot = model.slot(deferrable=deferrable, fail_on=["failed"])
    assert wait_out(slot)["outcome"] == "completed"
    assert model.posts() == 1
    assert model.rings() == {NUMBER: 1}


@queues
def test_a_call_dialled_later_is_placed_once(model: AirflowModel) -> None:
    slot = model.slot()
    first = begin(slot)
    model.pass_time(300)
    assert begin(slot)["id"] == first["id"]
    assert model.rings() == {NUMBER: 1}


# A sensor has not placed the call, and cannot again.


@ends
def test_for_a_sensor_such_an_end_is_an_outcome(
    model: AirflowModel,
) -> None:
    call_id = begin(model.slot())["id"]
    model.pass_time(60)
    context = model.slot(task_id="wait").context()
    assert VapiCallSensor(task_id="wait", call_id=call_id).execute(context)["outcome"] == "failed"
    with pytest.raises(VapiCallFailedError, match=BLOCKED):
        VapiCallSensor(task_id="wait", call_id=call_id, fail_on=["failed"]).execute(context)
