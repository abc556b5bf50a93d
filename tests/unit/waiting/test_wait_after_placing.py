# SPDX-License-Identifier: Apache-2.0
"""Waiting right after placing a call: Vapi may return 404 at first, and placing counts towards the try's timeout."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from task_instances import BACKSTOP, Deferral, reported
from waiting_helpers import RINGS_ON, Airflow, failure

from airflow.providers.common.compat.sdk import AirflowSkipException, AirflowTaskTimeout
from vapi_provider.exceptions import VapiCallNotFoundError, VapiConfigurationError
from vapi_provider.simulator import Fault, VapiSimulator
from vapi_provider.waiting.wait import READ_LAG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_FOUND = json.dumps({"message": "Call not found", "error": "Not Found", "statusCode": 404})
LIMIT = timedelta(seconds=100)

with_and_without_store = pytest.mark.parametrize(
    "store", [False, True], ids=["before-3.3", "from-3.3"], indirect=True
)


@pytest.fixture(autouse=True)
def _ring_on(simulator: VapiSimulator) -> None:
    simulator.timeline = RINGS_ON


def hide(simulator: VapiSimulator, times: int | None = 1) -> None:
    """Make Vapi return 404 for every call, like a read that lags behind a write."""
    simulator.faults.add(Fault(method="GET", status=404, body=NOT_FOUND, times=times))


def the_call(simulator: VapiSimulator) -> str:
    (call_id,) = simulator.calls
    return call_id


# A 404 right after the placement


def test_404_after_placing_is_waited_out_in_poke_mode(
    airflow: Airflow, simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float) -> None:
        airflow.pass_time(seconds)
        if len(simulator.requests) == 4:
            simulator.end_call(the_call(simulator))

    monkeypatch.setattr(airflow, "sleep", sleep)
    hide(simulator, times=2)
    assert airflow.first(deferrable=False, poll_interval=10)["status"] == "ended"
    assert [request.status for request in simulator.requests] == [201, 404, 404, 200, 200]


@with_and_without_store
def test_404_after_placing_is_waited_out_when_deferred(airflow: Airflow, simulator: VapiSimulator) -> None:
    hide(simulator, times=2)
    deferral = airflow.deferral()
    call_id = the_call(simulator)
    airflow.pass_time(10)
    # The triggerer did not find it either.
    again = airflow.resume(deferral, reported("error", call_id))
    assert again.trigger == deferral.trigger
    airflow.pass_time(10)
    simulator.end_call(call_id)
    assert airflow.resume(again, reported("done", call_id))["status"] == "ended"


@with_and_without_store
@pytest.mark.parametrize("passed", [READ_LAG_SECONDS - 1, READ_LAG_SECONDS], ids=["within-30-s", "at-30-s"])
def test_404_is_permanent_30_s_after_placing(
    airflow: Airflow, simulator: VapiSimulator, passed: float
) -> None:
    deferral = airflow.deferral()
    airflow.pass_time(passed)
    hide(simulator)
    call_id = the_call(simulator)
    if passed < READ_LAG_SECONDS:
        assert isinstance(airflow.resume(deferral, reported("done", call_id)), Deferral)
    else:
        assert type(failure(airflow.resume, deferral, reported("done", call_id))) is VapiCallNotFoundError


def test_404_that_lasts_fails_in_poke_mode(airflow: Airflow, simulator: VapiSimulator) -> None:
    hide(simulator, times=None)
    failed = failure(airflow.first, deferrable=False, poll_interval=10)
    assert type(failed) is VapiCallNotFoundError
    assert the_call(simulator) in str(failed)
    # At 0, 10 and 20 s it may be lag; at 30 s it is not.
    assert [request.status for request in simulator.requests] == [201, 404, 404, 404, 404]


@pytest.mark.parametrize("how", ["poke", "reschedule", "deferrable"])
@pytest.mark.parametrize("soft_fail", [False, True])
def test_404_is_permanent_for_a_sensor_at_once(
    simulator: VapiSimulator, worker: Any, how: str, soft_fail: bool
) -> None:
    """Its call was placed by another task, which has already read it."""
    call_id = simulator.add_call(status="ringing")
    hide(simulator)
    waits = {"deferrable": True} if how == "deferrable" else {"mode": how}
    failed = worker.failure(call_id=call_id, soft_fail=soft_fail, **waits)
    assert type(failed) is (AirflowSkipException if soft_fail else VapiCallNotFoundError)
    assert len(simulator.requests) == 1


@with_and_without_store
def test_triggerer_errors_count_after_30_s(airflow: Airflow, simulator: VapiSimulator) -> None:
    """The triggerer's read may still lag when this worker already finds the call."""
    deferral = airflow.deferral()
    call_id = the_call(simulator)
    refusal = reported("error", call_id, "GET /call returned 404.")
    for _ in range(5):
        airflow.pass_time(5)
        deferral = airflow.resume(deferral, refusal)
    airflow.pass_time(5)
    deferral = airflow.resume(deferral, refusal)
    airflow.pass_time(5)
    failed = failure(airflow.resume, deferral, refusal)
    assert type(failed) is VapiConfigurationError
    assert f"The triggerer cannot read call {call_id} but this worker can." in str(failed)


# Its execution_timeout


@pytest.fixture
def take_20_s_to_place(
    airflow: Airflow,
    simulator: VapiSimulator,
    set_connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], None]:
    """Make the next placement repeat after the 20 seconds that Vapi requests."""
    set_connection(simulator, extra={"max_retries": 1})
    monkeypatch.setattr("vapi_provider.client.transport.random.uniform", lambda low, high: low)

    def add() -> None:
        simulator.faults.add(Fault(method="POST", status=429, headers={"Retry-After": "20"}))

    return add


@with_and_without_store
def test_execution_timeout_counts_from_start_of_the_try(
    airflow: Airflow, simulator: VapiSimulator, take_20_s_to_place: Callable[[], None]
) -> None:
    take_20_s_to_place()
    began_at = airflow.now
    deferral = airflow.deferral(execution_timeout=LIMIT)
    assert airflow.now == began_at + 20
    assert deferral.trigger.end_time == began_at + 100
    assert deferral.timeout == timedelta(seconds=80 + 120)
    call_id = the_call(simulator)
    airflow.pass_time(40)
    again = airflow.resume(deferral, reported("done", call_id), execution_timeout=LIMIT)
    assert again.trigger.end_time == began_at + 100
    airflow.pass_time(40)
    failed = failure(airflow.resume, again, reported("timeout", call_id), execution_timeout=LIMIT)
    assert type(failed) is AirflowTaskTimeout
    assert str(failed).startswith(f"Call {call_id} had not ended after 1 min 40 s (execution_timeout=100):")


@with_and_without_store
def test_timeout_counts_from_the_placement(
    airflow: Airflow, simulator: VapiSimulator, take_20_s_to_place: Callable[[], None]
) -> None:
    take_20_s_to_place()
    began_at = airflow.now
    deferral = airflow.deferral(timeout=LIMIT)
    assert deferral.trigger.end_time == began_at + 20 + 100


@with_and_without_store
def test_backstop_keeps_the_execution_timeout_of_the_try(
    airflow: Airflow, simulator: VapiSimulator, take_20_s_to_place: Callable[[], None]
) -> None:
    take_20_s_to_place()
    airflow.deferral(execution_timeout=LIMIT)
    airflow.pass_time(80 + 120)
    failed = failure(airflow.resume_with, *BACKSTOP, execution_timeout=LIMIT)
    assert type(failed) is AirflowTaskTimeout


def test_execution_timeout_restarts_with_each_retry(
    airflow: Airflow, simulator: VapiSimulator, take_20_s_to_place: Callable[[], None]
) -> None:
    take_20_s_to_place()
    airflow.deferral(execution_timeout=LIMIT)
    airflow.pass_time(500)
    airflow.task_instance.try_number = 2
    deferral = airflow.deferral(execution_timeout=LIMIT)
    assert deferral.trigger.end_time == airflow.now + 100
    assert len(simulator.calls) == 1
