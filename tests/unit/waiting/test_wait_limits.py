# SPDX-License-Identifier: Apache-2.0
"""The limits of a deferred wait: timeout, backstop and execution_timeout."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from task_instances import BACKSTOP, reported
from waiting_helpers import Airflow, failure

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from vapi_provider.exceptions import VapiAuthenticationError
from vapi_provider.simulator import Fault, Timeline, VapiSimulator

with_and_without_store = pytest.mark.parametrize(
    "store", [False, True], ids=["before-3.3", "from-3.3"], indirect=True
)


@pytest.mark.parametrize("by", ["trigger", "task", "backstop"])
@pytest.mark.parametrize("soft_fail", [False, True])
@with_and_without_store
def test_timeout_message_is_the_same_from_every_source(
    airflow: Airflow, simulator: VapiSimulator, worker: Any, soft_fail: bool, by: str
) -> None:
    call_id = simulator.add_call(status="ringing")
    arguments = {"call_id": call_id, "timeout": 30, "soft_fail": soft_fail}
    deferral = airflow.deferral(**arguments)
    airflow.pass_time(150 if by == "backstop" else 30)
    if by == "backstop":
        failed = failure(airflow.resume_with, *BACKSTOP, **arguments)
    else:
        status = "timeout" if by == "trigger" else "done"
        failed = failure(airflow.resume, deferral, reported(status, call_id), **arguments)
    assert type(failed) is (AirflowSkipException if soft_fail else AirflowSensorTimeout)
    assert str(failed) == (
        f"Call {call_id} had not ended after 30 s (timeout=30): its last status was 'ringing'. "
        f"See {simulator.url}/calls/{call_id}, or raise the timeout."
    )
    assert str(failed) == str(worker.failure(**arguments, poke_interval=10))


@pytest.mark.parametrize("soft_fail", [False, True])
def test_backstop_pokes_once_more(airflow: Airflow, simulator: VapiSimulator, soft_fail: bool) -> None:
    call_id = simulator.add_call(status="ringing")
    arguments = {"call_id": call_id, "timeout": 30, "soft_fail": soft_fail}
    airflow.deferral(**arguments)
    airflow.pass_time(150)
    simulator.end_call(call_id)
    assert airflow.resume_with(*BACKSTOP, **arguments)["status"] == "ended"


@pytest.mark.parametrize("soft_fail", [False, True])
@with_and_without_store
def test_backstop_in_an_outage_names_the_error(
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
    assert "returned 502" in str(failed)


@pytest.mark.parametrize("soft_fail", [False, True])
def test_backstop_reports_a_permanent_error(
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
def test_tighter_execution_timeout_ends_the_wait(
    airflow: Airflow, simulator: VapiSimulator, soft_fail: bool, by: str
) -> None:
    """Airflow does not enforce it while a task is deferred; as in other modes, it always fails the task."""
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
        status = "timeout" if by == "trigger" else "done"
        failed = failure(airflow.resume, deferral, reported(status, call_id), **arguments)
    assert type(failed) is AirflowTaskTimeout
    assert str(failed) == (
        f"Call {call_id} had not ended after 40 s (execution_timeout=40): its last status was 'ringing'. "
        f"See {simulator.url}/calls/{call_id}, or raise the execution_timeout."
    )


@pytest.mark.parametrize("by", ["trigger", "backstop"])
@pytest.mark.parametrize("soft_fail", [False, True])
@with_and_without_store
def test_execution_timeout_ends_a_wait_for_the_analysis(
    airflow: Airflow, simulator: VapiSimulator, soft_fail: bool, by: str
) -> None:
    """Unlike ``timeout``, which lets the task succeed without the analysis."""
    call_id = simulator.add_call(timeline=Timeline(ended=20, analysis=None))
    limits = {"timeout": 600, "execution_timeout": timedelta(seconds=40)}
    arguments = {"call_id": call_id, "soft_fail": soft_fail, **limits}
    arguments.update(wait_for_analysis=True, include=["analysis"], analysis_timeout=900)
    deferral = airflow.deferral(**arguments)
    airflow.pass_time(30)
    deferral = airflow.resume(deferral, reported("done", call_id), **arguments)
    airflow.pass_time(10 if by == "trigger" else 130)
    method, kwargs = BACKSTOP
    if by == "trigger":
        method, kwargs = deferral.method, {"event": reported("timeout", call_id)}
    failed = failure(airflow.resume_with, method, kwargs, **arguments)
    assert type(failed) is AirflowTaskTimeout
    assert str(failed).startswith(
        f"The analysis of call {call_id} had not arrived after 40 s (execution_timeout=40): its last status was 'ended'."
    )


def test_longer_execution_timeout_changes_nothing(airflow: Airflow, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="ringing")
    arguments = {"call_id": call_id, "timeout": 30, "execution_timeout": timedelta(seconds=40)}
    deferral = airflow.deferral(**arguments)
    assert deferral.trigger.end_time == airflow.now + 30
    airflow.pass_time(30)
    with pytest.raises(AirflowSensorTimeout, match=r"\(timeout=30\).* raise the timeout\."):
        airflow.resume(deferral, reported("timeout", call_id), **arguments)


@with_and_without_store
def test_log_shows_the_time_waited_after_the_backstop(
    airflow: Airflow, simulator: VapiSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(status="ringing")
    arguments = {"call_id": call_id, "timeout": 86_400, "execution_timeout": timedelta(seconds=40)}
    airflow.deferral(**arguments)
    airflow.pass_time(160)
    simulator.end_call(call_id)
    caplog.set_level("INFO", logger="task")
    airflow.resume_with(*BACKSTOP, **arguments)
    assert f"Done waiting for call {call_id} (2 min 40 s of timeout used)." in caplog.text


def test_clock_set_back_never_shows_a_negative_wait(
    airflow: Airflow, simulator: VapiSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id, timeout=600)
    airflow.now -= 3600
    simulator.end_call(call_id)
    caplog.set_level("INFO", logger="task")
    airflow.resume(deferral, reported("done", call_id), call_id=call_id, timeout=600)
    assert re.search(rf"Done waiting for call {call_id} \(\d\.\d s of timeout used\)\.", caplog.text)


@pytest.mark.parametrize("timeout", [timedelta.max, timedelta(days=365 * 9000)], ids=["longest", "very-long"])
def test_very_long_timeout_can_be_deferred(
    airflow: Airflow, simulator: VapiSimulator, timeout: timedelta
) -> None:
    """Airflow adds the limit to the current time, and dates end in the year 9999."""
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id, timeout=timeout)
    assert datetime.now(timezone.utc) + deferral.timeout > datetime(3000, 1, 1, tzinfo=timezone.utc)
    simulator.end_call(call_id)
    assert airflow.resume(deferral, reported("done", call_id), call_id=call_id, timeout=timeout)


@pytest.mark.parametrize("by", ["trigger", "backstop"])
@with_and_without_store
def test_timeout_without_a_connection_names_no_url(
    airflow: Airflow, simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """The URL depends on the connection, which Airflow may not find at that moment."""
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id, timeout=30)
    airflow.pass_time(150 if by == "backstop" else 30)
    monkeypatch.delenv("AIRFLOW_CONN_VAPI_DEFAULT")
    method, kwargs = (
        BACKSTOP if by == "backstop" else (deferral.method, {"event": reported("timeout", call_id)})
    )
    failed = failure(airflow.resume_with, method, kwargs, call_id=call_id, timeout=30)
    assert type(failed) is AirflowSensorTimeout
    assert str(failed).startswith(
        f"Call {call_id} had not ended after 30 s (timeout=30): its last status was 'ringing'. "
        "The last error was: Airflow found no connection 'vapi_default'."
    )
    assert str(failed).endswith(" Raise the timeout.")
