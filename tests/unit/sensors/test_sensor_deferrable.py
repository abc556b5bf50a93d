# SPDX-License-Identifier: Apache-2.0
"""The deferrable sensor, process by process: what it leaves to the triggerer, and what it makes of what comes back."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiCallFailedError,
    VapiCallNotFoundError,
    VapiConfigurationError,
    VapiTransientError,
)
from vapi_provider.sensors import call as sensor_module
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import Fault, Timeline, VapiSimulator
from vapi_provider.triggers.call import VapiCallTrigger

LINK = "_link_VapiCallLink"
OTHER_ID = "019a7c2e-5f00-7000-8000-0000000000bb"
PERSONAL = "what the customer said"

BACKSTOP = "__fail__", {"error": "Trigger timeout"}
TRIGGER_FAILED = "__fail__", {"error": "Trigger failure", "traceback": ["Traceback: ...", "boom"]}


@dataclass
class Deferral:
    """What Airflow stores of a deferred task."""

    trigger: VapiCallTrigger
    method: str
    kwargs: dict[str, Any]
    timeout: timedelta


class StateStore:
    """Keeps what a task leaves for its next process, as Airflow does from 3.3 on."""

    def __init__(self) -> None:
        self.stored: dict[str, str] = {}

    def set(self, key: str, value: Any) -> None:
        self.stored[key] = json.dumps(value, allow_nan=False)

    def get(self, key: str) -> Any:
        return json.loads(self.stored.get(key, "null"))


class Airflow:
    """Runs each process of a deferrable task with a sensor of its own, as Airflow's workers do."""

    def __init__(self, worker: Any, simulator: VapiSimulator, store: StateStore | None) -> None:
        self.simulator = simulator
        self.task_instance = worker.task_instance
        self.store = store
        self.now = float(int(time.time())) + 0.25

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.simulator.clock.advance(seconds)  # type: ignore[attr-defined]

    def first(self, **arguments: Any) -> Any:
        """Run the first process."""
        return self._run(lambda sensor, context: sensor.execute(context), arguments)

    def deferral(self, **arguments: Any) -> Deferral:
        """Run the first process, which must defer."""
        deferral = self.first(**arguments)
        assert isinstance(deferral, Deferral), deferral
        return deferral

    def resume(self, deferral: Deferral, event: Any, **arguments: Any) -> Any:
        """Run the process that a trigger's event starts."""
        kwargs = {**deferral.kwargs, "event": event}
        return self.resume_with(deferral.method, kwargs, **arguments)

    def resume_with(self, method: str, kwargs: dict[str, Any] | None, **arguments: Any) -> Any:
        return self._run(lambda sensor, context: sensor.resume_execution(method, kwargs, context), arguments)

    def kept(self) -> str:
        """Return all that is stored of the task, but for its link."""
        xcoms = {key: value for key, value in self.task_instance.xcoms.items() if key != LINK}
        return json.dumps([xcoms, self.store and self.store.stored], allow_nan=False)

    def _run(self, process: Callable[[VapiCallSensor, Any], Any], arguments: dict[str, Any]) -> Any:
        sensor = VapiCallSensor(**{"task_id": "wait", "deferrable": True, **arguments})
        context: Any = {"ti": self.task_instance}
        if self.store is not None:
            context["task_state_store"] = self.store
        try:
            return process(sensor, context)
        except TaskDeferred as deferred:
            deferral = deferred
        return _store(deferral)


def _store(deferred: TaskDeferred) -> Deferral:
    """Take a deferral through Airflow's database: all of it is plain JSON, with nothing but finite numbers in it."""
    path, stored = deferred.trigger.serialize()
    assert path == "vapi_provider.triggers.call.VapiCallTrigger"
    assert isinstance(deferred.timeout, timedelta)
    trigger = VapiCallTrigger(**_stored(stored))
    assert trigger == deferred.trigger
    return Deferral(trigger, deferred.method_name, _stored(deferred.kwargs or {}), deferred.timeout)


def _stored(value: dict[str, Any]) -> dict[str, Any]:
    restored: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    assert restored == value
    return restored


def event(kind: str, call_id: str, message: str = "So it is.") -> dict[str, Any]:
    return {"status": kind, "call_id": call_id, "message": message}


@pytest.fixture
def store(request: pytest.FixtureRequest) -> StateStore | None:
    """Airflow's task state store, which older versions have none of."""
    return StateStore() if getattr(request, "param", True) else None


with_and_without_store = pytest.mark.parametrize(
    "store", [False, True], ids=["before-3.3", "from-3.3"], indirect=True
)


@pytest.fixture
def airflow(
    worker: Any, simulator: VapiSimulator, store: StateStore | None, monkeypatch: pytest.MonkeyPatch
) -> Airflow:
    airflow = Airflow(worker, simulator, store)
    clock = SimpleNamespace(time=lambda: airflow.now, monotonic=time.monotonic)
    monkeypatch.setattr("vapi_provider.sensors.call.time", clock)
    monkeypatch.setattr("vapi_provider.waiting.mixin.time", clock)
    monkeypatch.setattr("vapi_provider.waiting.wait.time", clock)
    return airflow


def failure(run: Callable[..., Any], *args: Any, **arguments: Any) -> BaseException:
    """Return what a process raised."""
    try:
        result = run(*args, **arguments)
    except (Exception, AirflowTaskTimeout) as error:
        return error
    raise AssertionError(f"the process ended with {result}")


# Whether it defers


@pytest.mark.parametrize(("default", "deferrable"), [("True", True), ("False", False), (None, False)])
def test_airflows_setting_is_the_default(
    monkeypatch: pytest.MonkeyPatch, default: str | None, deferrable: bool
) -> None:
    if default is not None:
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", default)
    # A second copy: the default is read when the module is imported, and others use the first.
    spec = importlib.util.find_spec("vapi_provider.sensors.call")
    assert spec is not None
    assert spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    arguments = {"task_id": "wait", "call_id": OTHER_ID}
    assert fresh.VapiCallSensor(**arguments).deferrable is deferrable
    assert fresh.VapiCallSensor(**arguments, deferrable=not deferrable).deferrable is not deferrable
    assert sys.modules["vapi_provider.sensors.call"] is sensor_module


def test_a_call_that_is_over_at_the_first_look_needs_no_triggerer(
    airflow: Airflow, simulator: VapiSimulator
) -> None:
    call_id = simulator.add_call(status="ended")
    assert airflow.first(call_id=call_id)["id"] == call_id
    assert airflow.task_instance.xcoms == {LINK: f"https://dashboard.vapi.ai/calls/{call_id}"}
    assert not airflow.store or not airflow.store.stored


def test_a_passing_error_at_the_first_look_is_left_to_airflows_retries(
    airflow: Airflow, simulator: VapiSimulator
) -> None:
    simulator.faults.add(Fault(status=503))
    with pytest.raises(VapiTransientError, match="503"):
        airflow.first(call_id=simulator.add_call(), soft_fail=True)


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@with_and_without_store
def test_the_mode_does_not_matter_to_a_deferrable_sensor(
    airflow: Airflow, simulator: VapiSimulator, mode: str
) -> None:
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id, mode=mode)
    airflow.pass_time(60)
    simulator.end_call(call_id)
    assert airflow.resume(deferral, event("done", call_id), call_id=call_id, mode=mode)["status"] == "ended"


def test_the_link_is_there_before_the_task_defers(airflow: Airflow, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="ringing")
    airflow.deferral(call_id=call_id)
    assert airflow.task_instance.xcoms[LINK] == f"https://dashboard.vapi.ai/calls/{call_id}"


# What it leaves to the triggerer


def test_the_trigger_gets_what_it_needs(airflow: Airflow, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="ringing", body={"updatedAt": "2026-08-01T10:00:00.123Z"})
    deferral = airflow.deferral(
        call_id=f" {call_id.upper()}\n",
        poke_interval=timedelta(seconds=20),
        timeout=600,
        wait_for_analysis=True,
        analysis_timeout=timedelta(minutes=2),
    )
    assert deferral.trigger == VapiCallTrigger(
        vapi_conn_id="vapi_default",
        call_id=call_id,
        poll_interval=20,
        end_time=airflow.now + 600,
        since="2026-08-01T10:00:00.123000+00:00",
        wait_for_analysis=True,
        analysis_timeout=120,
    )
    assert deferral.method == "execute_complete"


def test_airflows_own_limit_comes_two_minutes_after_the_triggers(
    airflow: Airflow, simulator: VapiSimulator
) -> None:
    deferral = airflow.deferral(call_id=simulator.add_call(), timeout=600)
    assert deferral.trigger.end_time == airflow.now + 600
    assert deferral.timeout == timedelta(seconds=720)


@with_and_without_store
def test_nothing_secret_and_nothing_of_the_call_is_stored(airflow: Airflow, simulator: VapiSimulator) -> None:
    body = {"transcript": PERSONAL, "name": "Ada's reminder", "customer": {"number": "+12025550123"}}
    deferral = airflow.deferral(call_id=simulator.add_call(status="in-progress", body=body))
    stored = json.dumps([deferral.trigger.serialize(), deferral.kwargs, airflow.kept()])
    assert "in-progress" in stored
    for content in (simulator.api_key, simulator.url, PERSONAL, "Ada", "0123", "monitor", "controlUrl"):
        assert content not in stored


@pytest.mark.parametrize(
    "endless", [math.inf, timedelta.max, 1e300], ids=["infinity", "longest-span", "huge-number"]
)
def test_an_endless_wait_for_the_analysis_can_be_stored(
    airflow: Airflow, simulator: VapiSimulator, endless: Any
) -> None:
    arguments = {"wait_for_analysis": True, "analysis_timeout": endless}
    call_id = simulator.add_call(status="ended")
    deferral = airflow.deferral(call_id=call_id, **arguments)
    assert deferral.trigger.analysis_timeout > 1e12
    airflow.pass_time(86_400)
    again = airflow.resume(deferral, event("done", call_id), call_id=call_id, **arguments)
    assert again.trigger == deferral.trigger


def test_a_call_without_a_status_or_an_instant_can_be_waited_for(
    airflow: Airflow, simulator: VapiSimulator
) -> None:
    call_id = simulator.add_call(body={"status": None, "updatedAt": "some day"})
    deferral = airflow.deferral(call_id=call_id)
    assert deferral.trigger.since is None
    airflow.pass_time(30)
    simulator.end_call(call_id)
    assert airflow.resume(deferral, event("done", call_id), call_id=call_id)["status"] == "ended"


def test_a_timeout_of_nothing_is_one_at_the_first_look(airflow: Airflow, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="ringing")
    with pytest.raises(AirflowSensorTimeout, match=f"Call {call_id} had not ended after .*'ringing'"):
        airflow.first(call_id=call_id, timeout=0)


# What it makes of what comes back: the same as without the triggerer


def end(simulator: VapiSimulator, call_id: str) -> None:
    simulator.end_call(call_id, "customer-did-not-answer", transcript=PERSONAL, analysis={"summary": "None."})


def erase(simulator: VapiSimulator, call_id: str) -> None:
    simulator.set_status(call_id, "not-found")


def revoke(simulator: VapiSimulator, call_id: str) -> None:
    simulator.faults.add(Fault(status=401))


def lose(simulator: VapiSimulator, call_id: str) -> None:
    simulator.faults.add(Fault(status=404))


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize("kind", ["done", "timeout", "error"])
@pytest.mark.parametrize(
    ("happen", "arguments", "error"),
    [
        pytest.param(end, {}, None, id="ended"),
        pytest.param(end, {"include": ["transcript"]}, None, id="ended-with-content"),
        pytest.param(end, {"wait_for_analysis": True}, None, id="analysed"),
        pytest.param(end, {"fail_on": ["no_answer"]}, VapiCallFailedError, id="fail-on"),
        pytest.param(erase, {}, VapiCallFailedError, id="erased"),
        pytest.param(revoke, {}, VapiAuthenticationError, id="401"),
        pytest.param(lose, {}, VapiCallNotFoundError, id="404"),
    ],
)
def test_whatever_the_event_the_call_decides(
    airflow: Airflow,
    simulator: VapiSimulator,
    worker: Any,
    happen: Callable[[VapiSimulator, str], None],
    arguments: dict[str, Any],
    error: type[Exception] | None,
    kind: str,
    soft_fail: bool,
) -> None:
    """Its state, its XCom and its message are those of a sensor that pokes."""
    call_id = simulator.add_call(status="ringing")
    arguments = {"call_id": call_id, "soft_fail": soft_fail, **arguments}
    deferral = airflow.deferral(**arguments)
    airflow.pass_time(60)
    happen(simulator, call_id)

    if error is None:
        result = airflow.resume(deferral, event(kind, call_id), **arguments)
        assert result == worker.run(**arguments)
        assert (result["outcome"], result.get("transcript")) == (
            "no_answer",
            PERSONAL if "include" in arguments else None,
        )
        return
    failed = failure(airflow.resume, deferral, event(kind, call_id), **arguments)
    assert type(failed) is (AirflowSkipException if soft_fail else error)
    simulator.set_status(call_id, "ringing")
    expected = worker.failure(**arguments, then=[lambda: happen(simulator, call_id)])
    assert type(expected) is type(failed)
    assert str(expected) == str(failed)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(status=503), id="503"),
        pytest.param(Fault(status=429, headers={"Retry-After": "3600"}), id="429"),
        pytest.param(Fault(reset="before"), id="reset"),
        pytest.param(Fault(body="<html></html>", content_type="text/html"), id="html"),
    ],
)
@pytest.mark.parametrize("kind", ["done", "error"])
@pytest.mark.parametrize("soft_fail", [False, True])
@with_and_without_store
def test_after_a_look_that_fails_for_now_it_defers_again_and_forgets_nothing(
    airflow: Airflow,
    simulator: VapiSimulator,
    fault: Fault,
    kind: str,
    soft_fail: bool,
    warnings: Callable[[], list[str]],
) -> None:
    call_id = simulator.add_call(status="ringing")
    arguments = {"call_id": call_id, "timeout": 600, "soft_fail": soft_fail}
    deferral = airflow.deferral(**arguments)
    airflow.pass_time(60)
    simulator.faults.add(fault)
    kept = airflow.kept()
    again = airflow.resume(deferral, event(kind, call_id), **arguments)
    assert again.trigger == deferral.trigger
    assert airflow.kept() == kept
    assert again.timeout == timedelta(seconds=660)
    assert [" Waiting goes on, after 1 min 0 s." in warning for warning in warnings()] == [True]


@with_and_without_store
def test_a_call_that_is_not_over_after_all_is_waited_for_on_with_what_is_new(
    airflow: Airflow, simulator: VapiSimulator
) -> None:
    call_id = simulator.add_call(status="ringing")
    arguments = {"call_id": call_id, "timeout": 600}
    deferral = airflow.deferral(**arguments)
    for status in ("in-progress", "forwarding"):
        airflow.pass_time(100)
        simulator.set_status(call_id, status)
        again = airflow.resume(deferral, event("done", call_id), **arguments)
        assert again.trigger.end_time == deferral.trigger.end_time
        assert again.trigger.since > deferral.trigger.since
        deferral = again
    assert deferral.timeout == timedelta(seconds=400 + 120)
    # What an earlier process saw is told by a later one that sees nothing.
    airflow.pass_time(400)
    simulator.faults.add(Fault(status=503))
    with pytest.raises(AirflowSensorTimeout, match="its last status was 'forwarding'"):
        airflow.resume(deferral, event("timeout", call_id), **arguments)


@with_and_without_store
def test_a_call_whose_analysis_is_missing_is_waited_for_on_and_in_the_end_without(
    airflow: Airflow, simulator: VapiSimulator, warnings: Callable[[], list[str]]
) -> None:
    call_id = simulator.add_call(timeline=Timeline(ended=20, analysis=None))
    arguments = {"call_id": call_id, "wait_for_analysis": True, "analysis_timeout": 60}
    deferral = airflow.deferral(**arguments)
    airflow.pass_time(30)
    deferral = airflow.resume(deferral, event("done", call_id), **arguments)
    airflow.pass_time(60)
    assert airflow.resume(deferral, event("done", call_id), **arguments)["status"] == "ended"
    assert [f"analysis of call {call_id} did not arrive" in warning for warning in warnings()] == [True]


def test_an_early_end_of_time_is_success_when_only_the_analysis_is_missing(
    airflow: Airflow, simulator: VapiSimulator
) -> None:
    call_id = simulator.add_call(timeline=Timeline(ended=20, analysis=None))
    arguments = {"call_id": call_id, "wait_for_analysis": True, "analysis_timeout": 600, "timeout": 60}
    deferral = airflow.deferral(**arguments)
    airflow.pass_time(60)
    assert airflow.resume(deferral, event("timeout", call_id), **arguments)["status"] == "ended"


# Events that make no sense


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda call_id: None, id="none"),
        pytest.param(lambda call_id: "done", id="text"),
        pytest.param(lambda call_id: ["done", call_id], id="list"),
        pytest.param(lambda call_id: {}, id="empty"),
        pytest.param(lambda call_id: {"call_id": call_id, "event": PERSONAL}, id="no-kind"),
        pytest.param(lambda call_id: event("transferred", call_id, PERSONAL), id="unknown-kind"),
        pytest.param(lambda call_id: event("DONE", call_id, PERSONAL), id="another-case"),
        pytest.param(lambda call_id: {"status": ["done"], "call_id": call_id}, id="kind-in-a-list"),
        pytest.param(lambda call_id: {"status": "done", "message": PERSONAL}, id="no-call"),
        pytest.param(lambda call_id: event("done", OTHER_ID, PERSONAL), id="another-call"),
        pytest.param(lambda call_id: event("error", OTHER_ID, PERSONAL), id="error-of-another-call"),
    ],
)
def test_an_event_that_makes_no_sense_fails_the_task_and_sends_nothing(
    airflow: Airflow, simulator: VapiSimulator, make: Callable[[str], Any], soft_fail: bool
) -> None:
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id, soft_fail=soft_fail)
    asked = len(simulator.requests)
    simulator.end_call(call_id)
    failed = failure(airflow.resume, deferral, make(call_id), call_id=call_id, soft_fail=soft_fail)
    assert type(failed) is VapiConfigurationError
    assert str(failed).startswith(f"Call {call_id}: the triggerer sent ")
    assert "airflow-provider-vapi" in str(failed)
    assert PERSONAL not in str(failed)
    assert OTHER_ID not in str(failed)
    assert len(simulator.requests) == asked


# The trigger cannot go on


@with_and_without_store
def test_what_only_the_triggerer_cannot_do_fails_the_task_in_its_words_at_the_second_time(
    airflow: Airflow, simulator: VapiSimulator
) -> None:
    """Once may have been a key that was just being replaced."""
    call_id = simulator.add_call(status="ringing")
    told = event("error", call_id, "The triggerer finds no connection 'vapi_default'.")
    deferral = airflow.deferral(call_id=call_id)
    for _ in range(2):
        # One that could wait for a while makes it a first time again.
        deferral = airflow.resume(deferral, event("done", call_id), call_id=call_id)
        airflow.pass_time(10)
        deferral = airflow.resume(deferral, told, call_id=call_id)
    airflow.pass_time(10)
    kept = copy.deepcopy((airflow.store, airflow.task_instance.xcoms))
    failed = failure(airflow.resume, deferral, told, call_id=call_id)
    assert type(failed) is VapiConfigurationError
    for part in (call_id, "The triggerer finds no connection 'vapi_default'.", "This task can read the call"):
        assert part in str(failed)

    airflow.store, airflow.task_instance.xcoms = kept
    skipped = failure(airflow.resume, deferral, told, call_id=call_id, soft_fail=True)
    assert type(skipped) is AirflowSkipException
    assert str(skipped) == str(failed)


def test_a_connection_that_airflow_cannot_find_for_now_is_waited_out(
    airflow: Airflow, simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there at the first look; Airflow says the same while it cannot reach its database."""
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id)
    airflow.pass_time(60)
    with monkeypatch.context() as patch:
        patch.delenv("AIRFLOW_CONN_VAPI_DEFAULT")
        again = airflow.resume(deferral, event("error", call_id), call_id=call_id)
    assert again.trigger == deferral.trigger
    simulator.end_call(call_id)
    assert airflow.resume(again, event("done", call_id), call_id=call_id)["status"] == "ended"


def test_an_error_is_forgotten_when_the_time_is_over_anyway(
    airflow: Airflow, simulator: VapiSimulator
) -> None:
    """In an outage nobody can say whether the triggerer was right."""
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id, timeout=60)
    airflow.pass_time(70)
    simulator.faults.add(Fault(status=503))
    failed = failure(airflow.resume, deferral, event("error", call_id), call_id=call_id, timeout=60)
    assert type(failed) is AirflowSensorTimeout
    assert "its last status was 'ringing'. The last error was: GET" in str(failed)


@with_and_without_store
def test_after_what_was_kept_is_lost_the_wait_begins_anew(airflow: Airflow, simulator: VapiSimulator) -> None:
    """A person can delete an XCom at any time."""
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id, timeout=600)
    airflow.task_instance.xcoms.clear()
    airflow.store = airflow.store and StateStore()
    airflow.pass_time(60)
    again = airflow.resume(deferral, event("done", call_id), call_id=call_id, timeout=600)
    assert again.trigger.end_time == airflow.now + 600


@with_and_without_store
def test_a_further_try_begins_anew(airflow: Airflow, simulator: VapiSimulator) -> None:
    """What is kept can outlive a try."""
    call_id = simulator.add_call(status="ringing")
    airflow.deferral(call_id=call_id, timeout=600)
    airflow.pass_time(500)
    assert airflow.deferral(call_id=call_id, timeout=600).trigger.end_time == airflow.now + 600


@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_trigger_that_broke_is_airflows_own_error(
    airflow: Airflow, simulator: VapiSimulator, soft_fail: bool
) -> None:
    """That is a defect, and no verdict on the call; Airflow's retries apply."""
    call_id = simulator.add_call(status="ringing")
    asked = len(simulator.requests)
    failed = failure(airflow.resume_with, *TRIGGER_FAILED, call_id=call_id, soft_fail=soft_fail)
    assert type(failed).__name__ == "TaskDeferralError"
    assert str(failed) == "Trigger failure"
    assert len(simulator.requests) == asked


# Its limits


@pytest.mark.parametrize("by", ["trigger", "task", "backstop"])
@pytest.mark.parametrize("soft_fail", [False, True])
@with_and_without_store
def test_the_timeout_is_told_in_the_same_words_by_whoever_notices(
    airflow: Airflow, simulator: VapiSimulator, worker: Any, soft_fail: bool, by: str
) -> None:
    call_id = simulator.add_call(status="ringing")
    arguments = {"call_id": call_id, "timeout": 30, "soft_fail": soft_fail}
    deferral = airflow.deferral(**arguments)
    airflow.pass_time(150 if by == "backstop" else 30)
    if by == "backstop":
        failed = failure(airflow.resume_with, *BACKSTOP, **arguments)
    else:
        kind = "timeout" if by == "trigger" else "done"
        failed = failure(airflow.resume, deferral, event(kind, call_id), **arguments)
    assert type(failed) is (AirflowSkipException if soft_fail else AirflowSensorTimeout)
    assert str(failed) == (
        f"Call {call_id} had not ended after 30 s (timeout=30): its last status was 'ringing'. "
        f"See https://dashboard.vapi.ai/calls/{call_id}, or raise the timeout."
    )
    assert str(failed) == str(worker.failure(**arguments, poke_interval=10))


@pytest.mark.parametrize("soft_fail", [False, True])
def test_the_backstop_looks_once_more(airflow: Airflow, simulator: VapiSimulator, soft_fail: bool) -> None:
    call_id = simulator.add_call(status="ringing")
    arguments = {"call_id": call_id, "timeout": 30, "soft_fail": soft_fail}
    airflow.deferral(**arguments)
    airflow.pass_time(150)
    simulator.end_call(call_id)
    assert airflow.resume_with(*BACKSTOP, **arguments)["status"] == "ended"


@pytest.mark.parametrize("soft_fail", [False, True])
@with_and_without_store
def test_a_backstop_in_an_outage_is_a_timeout_that_names_the_error(
    airflow: Airflow, simulator: VapiSimulator, soft_fail: bool
) -> None:
    call_id = simulator.add_call(status="ringing")
    arguments = {"call_id": call_id, "timeout": 30, "soft_fail": soft_fail}
    airflow.deferral(**arguments)
    airflow.pass_time(150)
    simulator.faults.add(Fault(status=502))
    failed = failure(airflow.resume_with, *BACKSTOP, **arguments)
    assert type(failed) is (AirflowSkipException if soft_fail else AirflowSensorTimeout)
    assert f"Call {call_id} had not ended after 30 s (timeout=30): its last status was 'ringing'." in str(
        failed
    )
    assert "answered 502" in str(failed)


@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_backstop_finds_that_vapi_refuses(
    airflow: Airflow, simulator: VapiSimulator, soft_fail: bool
) -> None:
    call_id = simulator.add_call(status="ringing")
    simulator.faults.add(Fault(status=401))
    failed = failure(airflow.resume_with, *BACKSTOP, call_id=call_id, soft_fail=soft_fail)
    assert type(failed) is (AirflowSkipException if soft_fail else VapiAuthenticationError)
    assert "401" in str(failed)


@pytest.mark.parametrize("by", ["trigger", "task", "backstop"])
@pytest.mark.parametrize("soft_fail", [False, True])
@with_and_without_store
def test_an_execution_timeout_that_is_tighter_counts_and_is_named(
    airflow: Airflow, simulator: VapiSimulator, soft_fail: bool, by: str
) -> None:
    """Airflow itself forgets it while a task is deferred; as in other modes it fails the task, come what may."""
    call_id = simulator.add_call(status="ringing")
    limit = timedelta(seconds=40)
    arguments = {"call_id": call_id, "timeout": 600, "execution_timeout": limit, "soft_fail": soft_fail}
    deferral = airflow.deferral(**arguments)
    assert deferral.trigger.end_time == airflow.now + 40
    assert deferral.timeout == timedelta(seconds=160)
    airflow.pass_time(160 if by == "backstop" else 40)
    if by == "backstop":
        failed = failure(airflow.resume_with, *BACKSTOP, **arguments)
    else:
        kind = "timeout" if by == "trigger" else "done"
        failed = failure(airflow.resume, deferral, event(kind, call_id), **arguments)
    assert type(failed) is AirflowTaskTimeout
    assert str(failed) == (
        f"Call {call_id} had not ended after 40 s (execution_timeout=40): its last status was 'ringing'. "
        f"See https://dashboard.vapi.ai/calls/{call_id}, or raise the execution_timeout."
    )


def test_an_execution_timeout_that_is_longer_changes_nothing(
    airflow: Airflow, simulator: VapiSimulator
) -> None:
    call_id = simulator.add_call(status="ringing")
    arguments = {"call_id": call_id, "timeout": 30, "execution_timeout": timedelta(seconds=40)}
    deferral = airflow.deferral(**arguments)
    assert deferral.trigger.end_time == airflow.now + 30
    airflow.pass_time(30)
    with pytest.raises(AirflowSensorTimeout, match=r"\(timeout=30\).* raise the timeout\."):
        airflow.resume(deferral, event("timeout", call_id), **arguments)


@with_and_without_store
def test_after_the_backstop_the_log_tells_for_how_long_it_was_waited(
    airflow: Airflow, simulator: VapiSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(status="ringing")
    arguments = {"call_id": call_id, "timeout": 86_400, "execution_timeout": timedelta(seconds=40)}
    airflow.deferral(**arguments)
    airflow.pass_time(160)
    simulator.end_call(call_id)
    caplog.set_level("INFO", logger="task")
    airflow.resume_with(*BACKSTOP, **arguments)
    assert f"Waited 2 min 40 s for call {call_id}." in caplog.text


def test_a_wall_clock_that_was_set_back_makes_no_negative_wait(
    airflow: Airflow, simulator: VapiSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id, timeout=600)
    airflow.now -= 3600
    simulator.end_call(call_id)
    caplog.set_level("INFO", logger="task")
    airflow.resume(deferral, event("done", call_id), call_id=call_id, timeout=600)
    assert re.search(rf"Waited \d\.\d s for call {call_id}\.", caplog.text)


@with_and_without_store
def test_a_call_id_that_makes_no_sense_defers_nothing(airflow: Airflow, simulator: VapiSimulator) -> None:
    failed = failure(airflow.first, call_id="None")
    assert type(failed) is VapiConfigurationError
    assert airflow.kept() == json.dumps([{}, airflow.store and {}])
    assert LINK not in airflow.task_instance.xcoms
    assert simulator.requests == []


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize("by", ["event", "backstop"])
def test_a_call_id_that_makes_no_sense_any_more_is_told_so(
    airflow: Airflow, simulator: VapiSimulator, by: str, soft_fail: bool
) -> None:
    """Templates are rendered anew in every process."""
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id)
    asked = len(simulator.requests)
    method, kwargs = BACKSTOP if by == "backstop" else (deferral.method, deferral.kwargs)
    failed = failure(airflow.resume_with, method, {**kwargs}, call_id="None", soft_fail=soft_fail)
    assert type(failed) is (AirflowSkipException if soft_fail else VapiConfigurationError)
    assert "call_id is 'None'" in str(failed)
    assert len(simulator.requests) == asked


@pytest.mark.parametrize("timeout", [timedelta.max, timedelta(days=365 * 9000)], ids=["longest", "very-long"])
def test_a_wait_without_an_end_can_be_deferred(
    airflow: Airflow, simulator: VapiSimulator, timeout: timedelta
) -> None:
    """Airflow adds the limit to the time of day; there is no year 10,000."""
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id, timeout=timeout)
    assert datetime.now(timezone.utc) + deferral.timeout > datetime(3000, 1, 1, tzinfo=timezone.utc)
    simulator.end_call(call_id)
    assert airflow.resume(deferral, event("done", call_id), call_id=call_id, timeout=timeout)
