# SPDX-License-Identifier: Apache-2.0
"""What version 0.1.0 has left in Airflow is taken over: records of placements, states of waits, and triggers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow_model import NUMBER, AirflowModel, Slot
from task_instances import BACKSTOP, LINK, TaskInstance, TaskStateStore, stored

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import Timeline
from vapi_provider.triggers.call import VapiCallTrigger

STATE = json.loads((Path(__file__).parents[2] / "state_of_0_1_0.json").read_text(encoding="utf-8"))
CALL_ID = STATE["call_id"]
TOKEN = STATE["placing"]["placed"]["token"]
OTHER_ID = "019a7c2e-5f00-7000-8000-0000000000bb"

INSTANTS = ("started_at", "try_started_at", "placed_at", "at", "end_time")


def since_then(kept: dict[str, Any], model: AirflowModel) -> dict[str, Any]:
    """Return what was kept as if it were written now."""
    ahead = model.now - STATE["written_at"]
    return {name: value + ahead if name in INSTANTS and value else value for name, value in kept.items()}


def newer(kept: dict[str, Any]) -> dict[str, Any]:
    """Add what a later version may."""
    return {**kept, "something_new": {"a": [1]}}


as_kept = pytest.mark.parametrize("change", [dict, newer], ids=["0.1.0", "with-an-unknown-field"])
Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def vapi_options() -> dict[str, Any]:
    return {"timeline": Timeline(ended=None, analysis=None)}


def add_call(model: AirflowModel, **fields: Any) -> None:
    """Add the call that the other version has placed."""
    body = {"id": CALL_ID, "name": f"Reminder #{TOKEN}", "customer": {"number": NUMBER}, **fields}
    ids = {"assistantId": STATE["placing"]["placed"]["assistant_id"]}
    ids["phoneNumberId"] = STATE["placing"]["placed"]["phone_number_id"]
    model.simulator.add_call(status="in-progress", body={**ids, **body})


def retry(model: AirflowModel, state: str, change: Change) -> Slot:
    """Make a task instance whose first try was run by the other version."""
    slot = model.slot()
    slot.try_number = 1
    slot.stored["placing"] = json.dumps(change(since_then(STATE["placing"][state], model)))
    return slot


@pytest.mark.parametrize("has_store", [True])
@pytest.mark.parametrize("state", ["placed", "sending"])
@as_kept
def test_retry_adopts_a_call_of_0_1_0(model: AirflowModel, state: str, change: Change) -> None:
    add_call(model)
    slot = retry(model, state, change)
    assert slot.attempt()["id"] == slot.xcoms["call_id"] == CALL_ID
    assert slot.xcoms[LINK].endswith(CALL_ID)
    assert model.posts() == 0


@pytest.mark.parametrize("has_store", [True])
@pytest.mark.parametrize("state", ["not sent", "sending"])
@as_kept
def test_retry_places_what_0_1_0_did_not(model: AirflowModel, state: str, change: Change) -> None:
    slot = retry(model, state, change)
    began_at = model.now
    slot.attempt()
    assert model.now - began_at == pytest.approx(65 if state == "sending" else 0, abs=0.2)
    assert model.posts() == 1
    assert model.simulator.get_call(slot.xcoms["call_id"])["name"].endswith(f"#{TOKEN}")
    model.assert_rang_once(slot)


def resume_operator(model: AirflowModel, change: Change, method: str, kwargs: Any, **arguments: Any) -> Any:
    slot = model.slot()
    slot.try_number = 1
    slot.xcoms["call_id"] = CALL_ID
    wait = change(since_then(STATE["wait"]["operator"], model))
    if model.has_store:
        slot.stored["wait"] = json.dumps(wait)
    else:
        slot.xcoms["wait"] = wait
    model.pass_time(arguments.pop("after", 0))
    try:
        return slot.resume(method, kwargs, deferrable=True, wait_for_completion=True, **arguments)
    except TaskDeferred as deferred:
        return stored(deferred).trigger


@as_kept
@pytest.mark.parametrize("by", ["event", "backstop"])
def test_operator_resumes_a_wait_of_0_1_0(model: AirflowModel, by: str, change: Change) -> None:
    add_call(model)
    method, kwargs = BACKSTOP if by == "backstop" else (STATE["next_method"], STATE["next_kwargs"])
    model.simulator.end_call(CALL_ID)
    assert resume_operator(model, change, method, kwargs)["id"] == CALL_ID
    assert model.posts() == 0


@as_kept
def test_deferral_of_0_1_0_keeps_its_end_time(model: AirflowModel, change: Change) -> None:
    add_call(model)
    end_time = since_then(STATE["trigger"], model)["end_time"]
    event = change(STATE["next_kwargs"]["event"])
    trigger = resume_operator(model, change, STATE["next_method"], {"event": event}, timeout=600, after=100)
    assert trigger.end_time == pytest.approx(end_time)
    assert trigger.call_id == CALL_ID


def test_execution_timeout_counts_from_the_try_of_0_1_0(model: AirflowModel) -> None:
    add_call(model)
    limit = timedelta(seconds=100)
    with pytest.raises(AirflowTaskTimeout):
        resume_operator(
            model,
            dict,
            STATE["next_method"],
            {"event": {**STATE["next_kwargs"]["event"], "status": "timeout"}},
            execution_timeout=limit,
            after=100,
        )


@as_kept
@pytest.mark.parametrize("rendered", [CALL_ID, OTHER_ID])
def test_sensor_resumes_a_wait_of_0_1_0(model: AirflowModel, rendered: str, change: Change) -> None:
    add_call(model)
    store = TaskStateStore()
    store.set("wait", change(since_then(STATE["wait"]["sensor"], model)))
    context = TaskInstance(task_id="wait").context(task_state_store=store)

    def resume() -> Any:
        sensor = VapiCallSensor(task_id="wait", call_id=rendered, deferrable=True, timeout=600)
        return sensor.resume_execution(STATE["next_method"], STATE["next_kwargs"], context)

    with pytest.raises(TaskDeferred) as deferred:
        resume()
    assert deferred.value.trigger.call_id == CALL_ID
    assert deferred.value.trigger.end_time == pytest.approx(model.now + 600, abs=1)
    model.simulator.end_call(CALL_ID)
    assert resume()["id"] == CALL_ID


@as_kept
def test_trigger_of_0_1_0_is_restored(change: Change) -> None:
    trigger = VapiCallTrigger(**change(STATE["trigger"]))
    kept = trigger.serialize()[1]
    assert {name: kept[name] for name in STATE["trigger"]} == STATE["trigger"]
    assert "something_new" not in kept


@pytest.mark.parametrize("name", STATE["trigger"])
def test_trigger_argument_of_0_1_0_that_is_gone_has_a_default(name: str) -> None:
    kept = {key: value for key, value in STATE["trigger"].items() if key != name}
    trigger = VapiCallTrigger(**kept)
    assert {key: trigger.serialize()[1][key] for key in kept} == kept
    assert json.dumps(trigger.serialize()[1], allow_nan=False)
