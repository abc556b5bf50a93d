# SPDX-License-Identifier: Apache-2.0
"""The stored state of a wait, perhaps from another version of the package."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from task_instances import reported
from waiting_helpers import RINGS_ON, Airflow, failure

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowTaskTimeout
from vapi_provider.waiting.wait import WaitState

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator

FIELDS = [each.name for each in dataclasses.fields(WaitState)]
OPTIONAL = [name for name in FIELDS if name != "started_at"]

with_and_without_store = pytest.mark.parametrize(
    "store", [False, True], ids=["before-3.3", "from-3.3"], indirect=True
)


def add_unknown(state: dict[str, Any]) -> None:
    state["something_new"] = {"a": [1]}


def drop(*names: str) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        for name in names:
            del state[name]

    return change


@pytest.fixture
def call_id(simulator: VapiSimulator) -> str:
    return simulator.add_call(status="ringing")


def test_state_survives_being_stored() -> None:
    state = WaitState(1.5, "ringing", True, "2026-08-01T10:00:00+00:00", 1, {"limit": 10}, 2, 1.0, 1.25)
    assert WaitState.of(dataclasses.asdict(state)) == state


def test_unknown_state_fields_are_ignored() -> None:
    assert WaitState.of({"started_at": 1.5, "status": "ringing", "something_new": 1}) == WaitState(
        1.5, "ringing"
    )


@pytest.mark.parametrize("name", OPTIONAL)
def test_missing_state_field_gets_its_default(name: str) -> None:
    whole = WaitState(1.5, "ringing", True, "2026-08-01T10:00:00+00:00", 1, {"limit": 10}, 2, 1.0, 1.25)
    stored = dataclasses.asdict(whole)
    del stored[name]
    default = getattr(WaitState(1.5), name)
    assert WaitState.of(stored) == dataclasses.replace(whole, **{name: default})


@pytest.mark.parametrize("stored", [None, {}, {"something_new": 1}], ids=str)
def test_state_without_start_time_starts_now(stored: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vapi_provider.waiting.wait.time.time", lambda: 1234.5)
    assert WaitState.of(stored) == WaitState(1234.5)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(add_unknown, id="unknown-field"),
        *(pytest.param(drop(name), id=f"without-{name}") for name in OPTIONAL),
        pytest.param(drop(*OPTIONAL), id="nothing-but-the-start"),
    ],
)
@with_and_without_store
def test_deferred_wait_resumes_across_versions(
    airflow: Airflow, simulator: VapiSimulator, call_id: str, change: Callable[[dict[str, Any]], None]
) -> None:
    arguments = {"call_id": call_id, "timeout": 600}
    deferral = airflow.deferral(**arguments)
    airflow.change_state(change)
    airflow.pass_time(100)
    again = airflow.resume(deferral, reported("done", call_id), **arguments)
    assert again.trigger.end_time == deferral.trigger.end_time
    airflow.change_state(change)
    simulator.end_call(call_id)
    assert airflow.resume(again, reported("done", call_id), **arguments)["id"] == call_id


@with_and_without_store
def test_deferred_wait_without_start_time_starts_over(airflow: Airflow, call_id: str) -> None:
    arguments = {"call_id": call_id, "timeout": 600}
    deferral = airflow.deferral(**arguments)
    airflow.change_state(drop(*FIELDS))
    airflow.pass_time(100)
    again = airflow.resume(deferral, reported("done", call_id), **arguments)
    assert again.trigger.end_time == airflow.now + 600


@with_and_without_store
def test_placing_operator_resumes_across_versions(airflow: Airflow, simulator: VapiSimulator) -> None:
    """Without ``try_started_at``, execution_timeout counts from the start of the wait."""
    simulator.timeline = RINGS_ON
    limit = timedelta(seconds=600)
    deferral = airflow.deferral(execution_timeout=limit)
    airflow.change_state(drop("try_started_at", "placed_at", "limits"))
    airflow.change_state(add_unknown)
    airflow.pass_time(100)
    again = airflow.resume(deferral, reported("done", deferral.trigger.call_id), execution_timeout=limit)
    assert again.trigger.end_time == deferral.trigger.end_time
    airflow.pass_time(500)
    failed = failure(
        airflow.resume, again, reported("timeout", again.trigger.call_id), execution_timeout=limit
    )
    assert type(failed) is AirflowTaskTimeout
    assert len(simulator.calls) == 1


@pytest.mark.parametrize("change", [add_unknown, drop(*OPTIONAL)], ids=["unknown-field", "missing-fields"])
def test_rescheduled_wait_resumes_across_versions(
    simulator: VapiSimulator, worker: Any, call_id: str, change: Callable[[dict[str, Any]], None]
) -> None:
    def alter() -> None:
        state = worker.store.get("wait")
        change(state)
        worker.store.set("wait", state)

    arguments = {"call_id": call_id, "mode": "reschedule", "poke_interval": 10}
    then = [alter, alter, lambda: simulator.end_call(call_id)]
    assert worker.run(**arguments, then=then)["status"] == "ended"
    simulator.set_status(call_id, "ringing")
    failed = worker.failure(**arguments, timeout=30, then=[alter, alter, alter])
    assert type(failed) is AirflowSensorTimeout
    assert f"Call {call_id} had not ended after 30 s (timeout=30)" in str(failed)
