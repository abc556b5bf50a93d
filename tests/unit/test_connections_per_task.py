# SPDX-License-Identifier: Apache-2.0
"""Each process of a task looks up its connection once, and opens one session with the API key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from task_instances import SENSOR_MODULE, Deferral, TaskInstance, reported, stored, use_worker_clock

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    TaskDeferred,
)
from vapi_provider.client import session, transport
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.operators.call import VapiCreateCallOperator, VapiUpdateCallOperator
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import Fault, ManualClock, Timeline, VapiSimulator

ONCE = Counter(look_ups=1, sessions=1)

CALL: dict[str, Any] = {
    "task_id": "call",
    "assistant_id": "0198a3f0-0000-7000-8000-000000000002",
    "phone_number_id": "0198a3f0-0000-7000-8000-000000000003",
    "customer": {"number": "+12025550143"},
}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """A clock that advances during pauses."""
    clock = ManualClock(datetime.now(timezone.utc).replace(microsecond=0))
    now = lambda: clock.now().timestamp()
    time = SimpleNamespace(time=now, monotonic=now, sleep=clock.advance)
    use_worker_clock(time, monkeypatch)
    return clock


@pytest.fixture
def opened(simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the process's connection look-ups and sessions."""
    counted: Counter[str] = Counter()
    look_up, open_session = VapiHook.get_connection, session.open_session

    def counting_look_up(conn_id: str) -> Any:
        counted["look_ups"] += 1
        return look_up(conn_id)

    def counting_open(*args: Any, with_key: bool = True) -> Any:
        counted["sessions"] += with_key
        return open_session(*args, with_key=with_key)

    monkeypatch.setattr(VapiHook, "get_connection", staticmethod(counting_look_up))
    for module in (session, transport):
        monkeypatch.setattr(module, "open_session", counting_open)
    return counted


def defer(execute: Callable[[], Any]) -> Deferral:
    """Run a process of a task that must defer."""
    with pytest.raises(TaskDeferred) as deferred:
        execute()
    return stored(deferred.value)


def resume(operator: Any, ti: TaskInstance, deferral: Deferral, status: str) -> Any:
    """Run the process after a deferral."""
    event = reported(status, deferral.trigger.call_id)
    return operator.resume_execution(deferral.method, {**deferral.kwargs, "event": event}, ti.context())


# The operator that places a call


def create(**arguments: Any) -> VapiCreateCallOperator:
    return VapiCreateCallOperator(**{**CALL, **arguments})


def test_create_without_waiting(opened: Counter[str]) -> None:
    create(wait_for_completion=False).execute(TaskInstance().context())
    assert opened == ONCE


def test_create_and_wait(opened: Counter[str], simulator: VapiSimulator) -> None:
    assert create().execute(TaskInstance().context())["outcome"] == "completed"
    assert sum(request.method == "GET" for request in simulator.requests) > 1
    assert opened == ONCE


def test_create_and_wait_until_the_timeout(opened: Counter[str], simulator: VapiSimulator) -> None:
    simulator.timeline = Timeline(ended=None)
    with pytest.raises(AirflowSensorTimeout):
        create(timeout=60, hang_up_on_timeout=True).execute(TaskInstance().context())
    assert [call["endedReason"] for call in simulator.calls.values()] == ["manually-canceled"]
    # The control URL has its own session, without the key.
    assert opened == ONCE


def test_create_with_a_lost_response(opened: Counter[str], simulator: VapiSimulator) -> None:
    simulator.faults.add(Fault(method="POST", path="/call", reset="before", effect=True))
    create().execute(TaskInstance().context())
    assert len(simulator.calls) == 1
    assert opened == ONCE


def test_create_with_a_repetition(opened: Counter[str], simulator: VapiSimulator) -> None:
    simulator.faults.add(Fault(method="POST", path="/call", status=429, headers={"Retry-After": "10"}))
    create().execute(TaskInstance().context())
    assert opened == ONCE


@pytest.mark.parametrize("status", ["done", "timeout"])
def test_create_and_defer(
    opened: Counter[str], simulator: VapiSimulator, clock: ManualClock, status: str
) -> None:
    simulator.timeline = Timeline(ended=100, analysis=None)
    ti = TaskInstance()
    arguments: dict[str, Any] = {"deferrable": True, "timeout": 60, "hang_up_on_timeout": True}
    deferred = defer(lambda: create(**arguments).execute(ti.context()))
    assert opened == ONCE
    opened.clear()
    clock.advance(60 if status == "timeout" else 120)
    if status == "timeout":
        with pytest.raises(AirflowSensorTimeout):
            resume(create(**arguments), ti, deferred, status)
    else:
        assert resume(create(**arguments), ti, deferred, status)["status"] == "ended"
    assert opened == ONCE


def test_create_that_defers_again(opened: Counter[str], simulator: VapiSimulator) -> None:
    simulator.timeline = Timeline(ended=None)
    ti = TaskInstance()
    deferred = defer(lambda: create(deferrable=True).execute(ti.context()))
    opened.clear()
    defer(lambda: resume(create(deferrable=True), ti, deferred, "done"))
    assert opened == ONCE


def test_create_in_a_retry(opened: Counter[str]) -> None:
    ti = TaskInstance()
    create().execute(ti.context())
    opened.clear()
    ti.try_number = 2
    create().execute(ti.context())
    assert opened == ONCE


def test_create_that_is_refused(opened: Counter[str]) -> None:
    with pytest.raises(ValueError, match="E.164"):
        create(customer={"number": "1001"}).execute(TaskInstance().context())
    assert opened == Counter()


# The operator that names a call


def test_update(opened: Counter[str], simulator: VapiSimulator) -> None:
    update = VapiUpdateCallOperator(task_id="name", call_id=simulator.add_call(status="ended"), name="Called")
    assert update.execute(TaskInstance().context())["name"] == "Called"
    assert opened == ONCE


# The sensor


def sense(call_id: str, **arguments: Any) -> VapiCallSensor:
    return VapiCallSensor(task_id="wait", call_id=call_id, **arguments)


@pytest.fixture
def call_id(simulator: VapiSimulator) -> str:
    return simulator.add_call(timeline=Timeline(ended=100, analysis=None))


def test_sensor_that_pokes(opened: Counter[str], simulator: VapiSimulator, call_id: str) -> None:
    assert sense(call_id).execute(TaskInstance().context())["status"] == "ended"
    assert len(simulator.requests) > 1
    assert opened == ONCE


def test_sensor_that_times_out(opened: Counter[str], call_id: str) -> None:
    with pytest.raises(AirflowSensorTimeout):
        sense(call_id, timeout=60).execute(TaskInstance().context())
    assert opened == ONCE


def test_sensor_that_reschedules(opened: Counter[str], clock: ManualClock, call_id: str) -> None:
    ti, first_at = TaskInstance(), clock.now()
    for poke in range(3):
        opened.clear()
        # Its module differs between Airflow versions.
        with pytest.raises(SENSOR_MODULE.AirflowRescheduleException):
            sense(call_id, mode="reschedule").execute(ti.context(task_reschedule_count=poke))
        assert opened == ONCE
        ti.first_reschedule_date = first_at
        clock.advance(15)
    opened.clear()
    clock.advance(100)
    summary = sense(call_id, mode="reschedule").execute(ti.context(task_reschedule_count=3))
    assert summary["status"] == "ended"
    assert opened == ONCE


@pytest.mark.parametrize("status", ["done", "timeout"])
def test_sensor_that_defers(opened: Counter[str], clock: ManualClock, call_id: str, status: str) -> None:
    ti = TaskInstance()
    deferred = defer(lambda: sense(call_id, deferrable=True, timeout=60).execute(ti.context()))
    assert opened == ONCE
    opened.clear()
    clock.advance(60 if status == "timeout" else 120)
    resumed = sense(call_id, deferrable=True, timeout=60)
    if status == "timeout":
        with pytest.raises(AirflowSensorTimeout):
            resume(resumed, ti, deferred, status)
    else:
        assert resume(resumed, ti, deferred, status)["status"] == "ended"
    assert opened == ONCE
