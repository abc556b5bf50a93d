# SPDX-License-Identifier: Apache-2.0
"""Waiting for the analysis, which arrives after the end or never, by Vapi's clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException
from vapi_provider.exceptions import VapiCallFailedError
from vapi_provider.simulator import Fault, ManualClock, Timeline, VapiSimulator

MISSING = "analysis of call {} did not arrive in time"
ANALYSIS = {"summary": "Confirmed."}


vapis_clock_is_off = pytest.mark.parametrize(
    "clock", [-365, 0, 365], ids=["vapi-a-year-behind", "same-time", "vapi-a-year-ahead"], indirect=True
)


@pytest.fixture
def wait(worker: Any, mode: str) -> Callable[..., Any]:
    def run(call_id: str, **arguments: Any) -> Any:
        defaults = {"mode": mode, "wait_for_analysis": True, "include": ["analysis"], "poke_interval": 10}
        return worker.run(call_id=call_id, **{**defaults, **arguments})

    return run


@vapis_clock_is_off
def test_late_analysis_is_waited_for(
    simulator: VapiSimulator, worker: Any, wait: Any, warnings: Callable[[], list[str]]
) -> None:
    call_id = simulator.add_call(timeline=Timeline(ended=20, analysis=45, summary="Confirmed."))
    assert wait(call_id)["analysis"]["summary"] == "Confirmed."
    # It arrives at 50 s and is unchanged at the next poke.
    assert worker.slept == 60
    assert warnings() == []


def test_analysis_is_not_waited_for_by_default(simulator: VapiSimulator, worker: Any, wait: Any) -> None:
    call_id = simulator.add_call(timeline=Timeline(ended=20, analysis=45))
    assert wait(call_id, wait_for_analysis=False)["analysis"] is None
    assert worker.slept == 20


@vapis_clock_is_off
@pytest.mark.parametrize("analysis_timeout", [60, timedelta(minutes=1)], ids=["seconds", "span"])
def test_missing_analysis_is_success_with_a_warning(
    simulator: VapiSimulator, worker: Any, wait: Any, analysis_timeout: Any, warnings: Callable[[], list[str]]
) -> None:
    call_id = simulator.add_call(timeline=Timeline(ended=20, analysis=None))
    summary = wait(call_id, analysis_timeout=analysis_timeout)
    assert summary["status"] == "ended"
    assert summary["analysis"] is None
    assert worker.slept == 80
    assert [MISSING.format(call_id) in warning for warning in warnings()] == [True]


@vapis_clock_is_off
def test_analysis_timeout_counts_from_the_end_of_the_call(
    simulator: VapiSimulator, worker: Any, wait: Any, clock: ManualClock
) -> None:
    call_id = simulator.add_call(timeline=Timeline(ended=20, analysis=None))
    clock.advance(3600)
    assert wait(call_id)["analysis"] is None
    assert worker.pauses == 0


def test_end_without_timestamp_does_not_wait_for_analysis(
    simulator: VapiSimulator, worker: Any, wait: Any
) -> None:
    body = {"endedAt": None, "updatedAt": "some day", "startedAt": None}
    call_id = simulator.add_call(status="ended", body=body)
    assert wait(call_id)["status"] == "ended"
    assert worker.pauses == 0


def test_empty_analysis_has_not_arrived(simulator: VapiSimulator, worker: Any, wait: Any) -> None:
    call_id = simulator.add_call(status="ringing")

    def end() -> None:
        simulator.end_call(call_id, analysis={"summary": ""})

    def analyse() -> None:
        simulator.add_analysis(call_id, ANALYSIS, moves_updated_at=False)

    assert wait(call_id, then=[end, lambda: None, analyse])["analysis"]["summary"] == "Confirmed."
    assert worker.pauses == 4


def test_transient_error_before_the_analysis_is_waited_out(
    simulator: VapiSimulator, worker: Any, wait: Any
) -> None:
    call_id = simulator.add_call(timeline=Timeline(ended=20, analysis=45))
    then = [lambda: None, lambda: None, lambda: simulator.faults.add(Fault(status=503))]
    assert wait(call_id, then=then)["analysis"]
    assert worker.slept == 60


@pytest.mark.parametrize("soft_fail", [False, True])
def test_timeout_before_analysis_succeeds_with_warning(
    simulator: VapiSimulator, worker: Any, wait: Any, soft_fail: bool, warnings: Callable[[], list[str]]
) -> None:
    call_id = simulator.add_call(timeline=Timeline(ended=20, analysis=None))
    summary = wait(call_id, analysis_timeout=3600, timeout=40, soft_fail=soft_fail)
    assert summary["status"] == "ended"
    assert worker.slept == 40
    assert [MISSING.format(call_id) in warning for warning in warnings()] == [True]


@pytest.mark.parametrize("mode", ["poke"])
def test_timeout_in_outage_reports_missing_analysis(simulator: VapiSimulator, wait: Any) -> None:
    call_id = simulator.add_call(status="ringing")
    then = [lambda: simulator.end_call(call_id), lambda: simulator.faults.add(Fault(status=502, times=None))]
    with pytest.raises(AirflowSensorTimeout) as timed_out:
        wait(call_id, analysis_timeout=3600, timeout=40, then=then)
    assert str(timed_out.value).startswith(f"The analysis of call {call_id} had not arrived after 40 s")
    assert "returned 502" in str(timed_out.value)


def test_fail_on_does_not_wait_for_the_analysis(simulator: VapiSimulator, worker: Any, wait: Any) -> None:
    call_id = simulator.add_call(status="ended", body={"endedReason": "voicemail"})
    with pytest.raises(VapiCallFailedError, match="voicemail"):
        wait(call_id, fail_on=["no_answer"])
    with pytest.raises(AirflowSkipException, match="voicemail"):
        wait(call_id, fail_on=["no_answer"], soft_fail=True)
    assert worker.pauses == 0


@pytest.mark.parametrize("analysis_timeout", [float("inf"), timedelta.max], ids=["inf", "max"])
def test_analysis_timeout_may_be_infinite(
    simulator: VapiSimulator, worker: Any, wait: Any, analysis_timeout: Any
) -> None:
    call_id = simulator.add_call(timeline=Timeline(ended=20, analysis=200))
    assert wait(call_id, analysis_timeout=analysis_timeout)["analysis"]
    assert worker.slept == 210


def test_analysis_timeout_of_0_does_not_wait(simulator: VapiSimulator, worker: Any, wait: Any) -> None:
    call_id = simulator.add_call(timeline=Timeline(ended=20, analysis=25))
    assert wait(call_id, analysis_timeout=0)["analysis"] is None
    assert worker.slept == 20
