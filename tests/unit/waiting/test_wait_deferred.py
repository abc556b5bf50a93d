# SPDX-License-Identifier: Apache-2.0
"""A deferred wait, process by process: the trigger's arguments, and the handling of its event."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from task_instances import LINK, TaskStateStore, reported
from waiting_helpers import TRIGGER_FAILED, Airflow, failure

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException
from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiCallFailedError,
    VapiCallNotFoundError,
    VapiConfigurationError,
    VapiTransientError,
)
from vapi_provider.sensors import call as sensor_module
from vapi_provider.simulator import Fault, Timeline, VapiSimulator
from vapi_provider.triggers.call import VapiCallTrigger

OTHER_ID = "019a7c2e-5f00-7000-8000-0000000000bb"
PERSONAL = "what the customer said"

with_and_without_store = pytest.mark.parametrize(
    "store", [False, True], ids=["before-3.3", "from-3.3"], indirect=True
)


# When it defers


@pytest.mark.parametrize(("default", "deferrable"), [("True", True), ("False", False), (None, False)])
def test_deferrable_defaults_to_airflows_setting(
    monkeypatch: pytest.MonkeyPatch, default: str | None, deferrable: bool
) -> None:
    if default is not None:
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", default)
    # A second copy, because the default is read at import and other tests use the first.
    spec = importlib.util.find_spec("vapi_provider.sensors.call")
    assert spec is not None
    assert spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    arguments = {"task_id": "wait", "call_id": OTHER_ID}
    assert fresh.VapiCallSensor(**arguments).deferrable is deferrable
    assert fresh.VapiCallSensor(**arguments, deferrable=not deferrable).deferrable is not deferrable
    assert sys.modules["vapi_provider.sensors.call"] is sensor_module


def test_call_that_has_ended_is_not_deferred(airflow: Airflow, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="ended")
    assert airflow.first(call_id=call_id)["id"] == call_id
    assert airflow.task_instance.xcoms == {LINK: f"{simulator.url}/calls/{call_id}"}
    assert not airflow.store or not airflow.store.stored


def test_transient_error_is_not_deferred(airflow: Airflow, simulator: VapiSimulator) -> None:
    simulator.faults.add(Fault(status=503))
    with pytest.raises(VapiTransientError, match="503"):
        airflow.first(call_id=simulator.add_call(), soft_fail=True)


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@with_and_without_store
def test_deferrable_sensor_ignores_the_mode(airflow: Airflow, simulator: VapiSimulator, mode: str) -> None:
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id, mode=mode)
    airflow.pass_time(60)
    simulator.end_call(call_id)
    assert (
        airflow.resume(deferral, reported("done", call_id), call_id=call_id, mode=mode)["status"] == "ended"
    )


def test_link_is_published_before_the_task_defers(airflow: Airflow, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="ringing")
    airflow.deferral(call_id=call_id)
    assert airflow.task_instance.xcoms[LINK] == f"{simulator.url}/calls/{call_id}"


# What it passes to the triggerer


def test_trigger_gets_what_it_needs(airflow: Airflow, simulator: VapiSimulator) -> None:
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


def test_backstop_fires_two_minutes_after_the_end_time(airflow: Airflow, simulator: VapiSimulator) -> None:
    deferral = airflow.deferral(call_id=simulator.add_call(), timeout=600)
    assert deferral.trigger.end_time == airflow.now + 600
    assert deferral.timeout == timedelta(seconds=720)


@with_and_without_store
def test_no_secret_or_call_content_is_stored(airflow: Airflow, simulator: VapiSimulator) -> None:
    body = {"transcript": PERSONAL, "name": "Ada's reminder", "customer": {"number": "+12025550123"}}
    deferral = airflow.deferral(call_id=simulator.add_call(status="in-progress", body=body))
    stored = json.dumps([deferral.trigger.serialize(), deferral.kwargs, airflow.kept()])
    assert "in-progress" in stored
    for content in (simulator.api_key, simulator.url, PERSONAL, "Ada", "0123", "monitor", "controlUrl"):
        assert content not in stored


@pytest.mark.parametrize(
    "endless", [math.inf, timedelta.max, 1e300], ids=["infinity", "longest-span", "huge-number"]
)
def test_infinite_analysis_timeout_can_be_stored(
    airflow: Airflow, simulator: VapiSimulator, endless: Any
) -> None:
    arguments = {"wait_for_analysis": True, "analysis_timeout": endless}
    call_id = simulator.add_call(status="ended")
    deferral = airflow.deferral(call_id=call_id, **arguments)
    assert deferral.trigger.analysis_timeout > 1e12
    airflow.pass_time(86_400)
    again = airflow.resume(deferral, reported("done", call_id), call_id=call_id, **arguments)
    assert again.trigger == deferral.trigger


def test_call_without_status_or_update_time_is_waited_for(airflow: Airflow, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(body={"status": None, "updatedAt": "some day"})
    deferral = airflow.deferral(call_id=call_id)
    assert deferral.trigger.since is None
    airflow.pass_time(30)
    simulator.end_call(call_id)
    assert airflow.resume(deferral, reported("done", call_id), call_id=call_id)["status"] == "ended"


def test_timeout_of_0_fails_at_the_first_poke(airflow: Airflow, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="ringing")
    with pytest.raises(AirflowSensorTimeout, match=f"Call {call_id} had not ended after .*'ringing'"):
        airflow.first(call_id=call_id, timeout=0)


# How it handles the event: the same as without a triggerer


def end(simulator: VapiSimulator, call_id: str) -> None:
    simulator.end_call(call_id, "customer-did-not-answer", transcript=PERSONAL, analysis={"summary": "None."})


def erase(simulator: VapiSimulator, call_id: str) -> None:
    simulator.set_status(call_id, "not-found")


def revoke(simulator: VapiSimulator, call_id: str) -> None:
    simulator.faults.add(Fault(status=401))


def lose(simulator: VapiSimulator, call_id: str) -> None:
    simulator.faults.add(Fault(status=404))


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize("status", ["done", "timeout", "error"])
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
def test_call_decides_instead_of_the_event(
    airflow: Airflow,
    simulator: VapiSimulator,
    worker: Any,
    happen: Callable[[VapiSimulator, str], None],
    arguments: dict[str, Any],
    error: type[Exception] | None,
    status: str,
    soft_fail: bool,
) -> None:
    """State, XCom and message are the same as in poke mode."""
    call_id = simulator.add_call(status="ringing")
    arguments = {"call_id": call_id, "soft_fail": soft_fail, **arguments}
    deferral = airflow.deferral(**arguments)
    airflow.pass_time(60)
    happen(simulator, call_id)

    if error is None:
        result = airflow.resume(deferral, reported(status, call_id), **arguments)
        assert result == worker.run(**arguments)
        assert (result["outcome"], result.get("transcript")) == (
            "no_answer",
            PERSONAL if "include" in arguments else None,
        )
        return
    failed = failure(airflow.resume, deferral, reported(status, call_id), **arguments)
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
@pytest.mark.parametrize("status", ["done", "error"])
@pytest.mark.parametrize("soft_fail", [False, True])
@with_and_without_store
def test_transient_error_on_resume_defers_again(
    airflow: Airflow,
    simulator: VapiSimulator,
    fault: Fault,
    status: str,
    soft_fail: bool,
    warnings: Callable[[], list[str]],
) -> None:
    call_id = simulator.add_call(status="ringing")
    arguments = {"call_id": call_id, "timeout": 600, "soft_fail": soft_fail}
    deferral = airflow.deferral(**arguments)
    airflow.pass_time(60)
    simulator.faults.add(fault)
    kept = airflow.kept()
    again = airflow.resume(deferral, reported(status, call_id), **arguments)
    assert again.trigger == deferral.trigger
    assert airflow.kept() == kept
    assert again.timeout == timedelta(seconds=660)
    assert [" Still waiting (1 min 0 s of timeout used)." in warning for warning in warnings()] == [True]


@with_and_without_store
def test_live_call_on_resume_is_deferred_again(airflow: Airflow, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="ringing")
    arguments = {"call_id": call_id, "timeout": 600}
    deferral = airflow.deferral(**arguments)
    for status in ("in-progress", "forwarding"):
        airflow.pass_time(100)
        simulator.set_status(call_id, status)
        again = airflow.resume(deferral, reported("done", call_id), **arguments)
        assert again.trigger.end_time == deferral.trigger.end_time
        assert again.trigger.since > deferral.trigger.since
        deferral = again
    assert deferral.timeout == timedelta(seconds=400 + 120)
    # A later process that cannot read the call reports the last known status.
    airflow.pass_time(400)
    simulator.faults.add(Fault(status=503))
    with pytest.raises(AirflowSensorTimeout, match="its last status was 'forwarding'"):
        airflow.resume(deferral, reported("timeout", call_id), **arguments)


@with_and_without_store
def test_missing_analysis_on_resume_is_waited_for(
    airflow: Airflow, simulator: VapiSimulator, warnings: Callable[[], list[str]]
) -> None:
    call_id = simulator.add_call(timeline=Timeline(ended=20, analysis=None))
    arguments = {"call_id": call_id, "wait_for_analysis": True, "include": ["analysis"]}
    deferral = airflow.deferral(**arguments)
    airflow.pass_time(30)
    deferral = airflow.resume(deferral, reported("done", call_id), **arguments)
    airflow.pass_time(60)
    assert airflow.resume(deferral, reported("done", call_id), **arguments)["status"] == "ended"
    assert [f"analysis of call {call_id} did not arrive" in warning for warning in warnings()] == [True]


def test_timeout_event_before_analysis_is_success(airflow: Airflow, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(timeline=Timeline(ended=20, analysis=None))
    arguments = {"call_id": call_id, "wait_for_analysis": True, "analysis_timeout": 600, "timeout": 60}
    deferral = airflow.deferral(**arguments)
    airflow.pass_time(60)
    assert airflow.resume(deferral, reported("timeout", call_id), **arguments)["status"] == "ended"


# Unknown events


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda call_id: None, id="none"),
        pytest.param(lambda call_id: "done", id="text"),
        pytest.param(lambda call_id: ["done", call_id], id="list"),
        pytest.param(lambda call_id: {}, id="empty"),
        pytest.param(lambda call_id: {"call_id": call_id, "event": "done"}, id="no-status"),
        pytest.param(lambda call_id: reported("transferred", call_id, PERSONAL), id="unknown-status"),
        pytest.param(lambda call_id: reported("DONE", call_id, PERSONAL), id="another-case"),
        pytest.param(lambda call_id: {"status": ["done"], "call_id": call_id}, id="status-in-a-list"),
        pytest.param(lambda call_id: reported("done", OTHER_ID, PERSONAL), id="another-call"),
        pytest.param(lambda call_id: reported("error", OTHER_ID, PERSONAL), id="error-of-another-call"),
    ],
)
def test_unknown_event_fails_the_task_and_sends_nothing(
    airflow: Airflow, simulator: VapiSimulator, make: Callable[[str], Any], soft_fail: bool
) -> None:
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id, soft_fail=soft_fail)
    asked = len(simulator.requests)
    simulator.end_call(call_id)
    failed = failure(airflow.resume, deferral, make(call_id), call_id=call_id, soft_fail=soft_fail)
    assert type(failed) is VapiConfigurationError
    assert str(failed).startswith(f"Call {call_id}: this worker does not understand the triggerer's event (")
    assert "airflow-provider-vapi" in str(failed)
    assert PERSONAL not in str(failed)
    assert OTHER_ID not in str(failed)
    assert len(simulator.requests) == asked


# Errors of the trigger


@with_and_without_store
def test_second_error_in_the_triggerer_only_fails_the_task(
    airflow: Airflow, simulator: VapiSimulator
) -> None:
    """The first time, the key may just have been replaced."""
    call_id = simulator.add_call(status="ringing")
    refusal = reported("error", call_id, "Airflow found no connection 'vapi_default'.")
    deferral = airflow.deferral(call_id=call_id)
    for _ in range(2):
        # A trigger that worked in between resets the count.
        deferral = airflow.resume(deferral, reported("done", call_id), call_id=call_id)
        airflow.pass_time(10)
        deferral = airflow.resume(deferral, refusal, call_id=call_id)
    airflow.pass_time(10)
    kept = copy.deepcopy((airflow.store, airflow.task_instance.xcoms))
    failed = failure(airflow.resume, deferral, refusal, call_id=call_id)
    assert type(failed) is VapiConfigurationError
    assert str(failed) == (
        f"The triggerer cannot read call {call_id} but this worker can. Compare their environment variables, secrets "
        "backend and network. The triggerer reported: Airflow found no connection 'vapi_default'."
    )

    airflow.store, airflow.task_instance.xcoms = kept
    skipped = failure(airflow.resume, deferral, refusal, call_id=call_id, soft_fail=True)
    assert type(skipped) is AirflowSkipException
    assert str(skipped) == str(failed)


def test_connection_that_is_lost_later_is_waited_out(
    airflow: Airflow, simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow raises the same error while it cannot reach its database."""
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id)
    airflow.pass_time(60)
    with monkeypatch.context() as patch:
        patch.delenv("AIRFLOW_CONN_VAPI_DEFAULT")
        again = airflow.resume(deferral, reported("error", call_id), call_id=call_id)
    assert again.trigger == deferral.trigger
    simulator.end_call(call_id)
    assert airflow.resume(again, reported("done", call_id), call_id=call_id)["status"] == "ended"


def test_error_event_after_the_timeout_is_a_timeout(airflow: Airflow, simulator: VapiSimulator) -> None:
    """In an outage, the task cannot verify the triggerer's error."""
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id, timeout=60)
    airflow.pass_time(70)
    simulator.faults.add(Fault(status=503))
    failed = failure(airflow.resume, deferral, reported("error", call_id), call_id=call_id, timeout=60)
    assert type(failed) is AirflowSensorTimeout
    assert "its last status was 'ringing'. The last error was: GET" in str(failed)


@with_and_without_store
def test_wait_without_state_starts_over(airflow: Airflow, simulator: VapiSimulator) -> None:
    """A user can delete an XCom at any time."""
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id, timeout=600)
    airflow.task_instance.xcoms.clear()
    airflow.store = airflow.store and TaskStateStore()
    airflow.pass_time(60)
    again = airflow.resume(deferral, reported("done", call_id), call_id=call_id, timeout=600)
    assert again.trigger.end_time == airflow.now + 600


@with_and_without_store
def test_retry_starts_a_new_wait(airflow: Airflow, simulator: VapiSimulator) -> None:
    """Stored state can outlive a try."""
    call_id = simulator.add_call(status="ringing")
    airflow.deferral(call_id=call_id, timeout=600)
    airflow.pass_time(500)
    assert airflow.deferral(call_id=call_id, timeout=600).trigger.end_time == airflow.now + 600


@pytest.mark.parametrize("soft_fail", [False, True])
def test_broken_trigger_is_airflows_own_error(
    airflow: Airflow, simulator: VapiSimulator, soft_fail: bool
) -> None:
    """It indicates a defect and says nothing about the call, so Airflow's retries apply."""
    call_id = simulator.add_call(status="ringing")
    asked = len(simulator.requests)
    failed = failure(airflow.resume_with, *TRIGGER_FAILED, call_id=call_id, soft_fail=soft_fail)
    assert type(failed).__name__ == "TaskDeferralError"
    assert str(failed) == "Trigger failure"
    assert len(simulator.requests) == asked


# Bad ids


@with_and_without_store
def test_invalid_call_id_is_not_deferred(airflow: Airflow, simulator: VapiSimulator) -> None:
    failed = failure(airflow.first, call_id="None")
    assert type(failed) is VapiConfigurationError
    assert airflow.kept() == json.dumps([{}, airflow.store and {}])
    assert LINK not in airflow.task_instance.xcoms
    assert simulator.requests == []
