# SPDX-License-Identifier: Apache-2.0
"""Waiting for the results that ``include`` names, and ends that are still incomplete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from task_instances import reported
from waiting_helpers import Airflow, failure

from airflow.providers.common.compat.sdk import AirflowSkipException
from vapi_provider.exceptions import VapiCallFailedError
from vapi_provider.models.results import ARRIVED
from vapi_provider.simulator import StructuredOutput, Timeline, VapiSimulator

BOOKED = StructuredOutput("Booked", True, lag=3, id="so-1")
MOOD = StructuredOutput("Mood", "good", lag=12, id="so-2")
SKIPPED = StructuredOutput("Score", lag=12, is_skipped=True, id="so-2")
PLAN = {"artifactPlan": {"structuredOutputIds": ["so-1", "so-2"]}}

OUTPUTS = {"wait_for_analysis": True, "include": ["structured_outputs"]}
BOTH = {"wait_for_analysis": True, "include": ["structured_outputs", "analysis"]}
WHICHEVER = {"wait_for_analysis": True, "include": ["transcript"]}


def ends_at_20(*outputs: StructuredOutput, analysis: float | None = None, **more: Any) -> Timeline:
    return Timeline(ended=20, analysis=analysis, structured_outputs=outputs, **more)


@pytest.fixture
def wait(worker: Any, mode: str) -> Callable[..., Any]:
    return lambda call_id, **arguments: worker.run(
        call_id=call_id, **{"mode": mode, "poke_interval": 5, **arguments}
    )


@pytest.mark.parametrize(
    ("timeline", "body", "arguments", "outputs", "slept"),
    [
        pytest.param(
            ends_at_20(BOOKED, MOOD),
            {"assistant": PLAN},
            OUTPUTS,
            {"Booked": True, "Mood": "good"},
            35,
            id="plan",
        ),
        pytest.param(
            ends_at_20(BOOKED, SKIPPED), {"assistant": PLAN}, OUTPUTS, {"Booked": True}, 35, id="skipped"
        ),
        pytest.param(
            ends_at_20(BOOKED, analysis=60), {}, OUTPUTS, {"Booked": True}, 30, id="no-plan-late-analysis"
        ),
        pytest.param(
            ends_at_20(BOOKED, MOOD, analysis=21),
            {},
            OUTPUTS,
            {"Booked": True},
            30,
            id="no-plan-unchanged-too-soon",
        ),
        pytest.param(
            ends_at_20(BOOKED, StructuredOutput("Mood", "good", lag=7)),
            {},
            OUTPUTS,
            {"Booked": True, "Mood": "good"},
            35,
            id="no-plan",
        ),
        pytest.param(ends_at_20(BOOKED, analysis=32), {}, BOTH, {"Booked": True}, 40, id="both"),
        pytest.param(ends_at_20(BOOKED, analysis=None), {}, WHICHEVER, None, 30, id="whichever-outputs"),
        pytest.param(ends_at_20(analysis=23), {}, WHICHEVER, None, 30, id="whichever-analysis"),
        pytest.param(
            ends_at_20(BOOKED), {}, {**OUTPUTS, "wait_for_analysis": False}, None, 20, id="not-waited-for"
        ),
    ],
)
def test_included_results_are_waited_for(
    simulator: VapiSimulator,
    worker: Any,
    wait: Any,
    timeline: Timeline,
    body: dict[str, Any],
    arguments: dict[str, Any],
    outputs: Any,
    slept: float,
    warnings: Callable[[], list[str]],
) -> None:
    call_id = simulator.add_call(timeline=timeline, body=body)
    assert wait(call_id, **arguments).get("structured_outputs") == outputs
    assert round(worker.slept) == slept
    assert warnings() == []


@pytest.mark.parametrize(
    ("outputs", "body", "arguments", "missing"),
    [
        pytest.param(
            (BOOKED,), {"assistant": PLAN}, OUTPUTS, "structured outputs (so-2)", id="one-by-its-plan"
        ),
        pytest.param((), {}, OUTPUTS, "structured outputs", id="all"),
        pytest.param((), {}, BOTH, "analysis and structured outputs", id="both"),
        pytest.param((BOOKED,), {}, BOTH, "analysis", id="one-of-both"),
        pytest.param((), {}, WHICHEVER, "analysis or structured outputs", id="none-of-whichever"),
    ],
)
def test_warning_names_the_missing_results(
    simulator: VapiSimulator,
    worker: Any,
    wait: Any,
    outputs: tuple[StructuredOutput, ...],
    body: dict[str, Any],
    arguments: dict[str, Any],
    missing: str,
    warnings: Callable[[], list[str]],
) -> None:
    call_id = simulator.add_call(timeline=ends_at_20(*outputs), body=body)
    assert wait(call_id, **arguments, analysis_timeout=30)["status"] == "ended"
    assert round(worker.slept) == 50
    assert warnings() == [f"The {missing} of call {call_id} did not arrive in time and may never come."]


@pytest.mark.parametrize(
    ("reason", "answered", "slept"),
    [
        ("customer-did-not-answer", None, 20),
        ("customer-busy", 5, 20),
        ("manually-canceled", 5, 20),
        ("twilio-failed-to-connect-call", None, 20),
        ("voicemail", 5, 80),
        ("customer-ended-call", 5, 80),
    ],
)
def test_results_are_not_awaited_without_a_conversation(
    simulator: VapiSimulator,
    worker: Any,
    wait: Any,
    reason: str,
    answered: float | None,
    slept: float,
    warnings: Callable[[], list[str]],
) -> None:
    call_id = simulator.add_call(timeline=ends_at_20(ended_reason=reason, answered=answered))
    assert wait(call_id, **BOTH)["structured_outputs"] is None
    assert round(worker.slept) == slept
    assert len(warnings()) == (slept > 20)


def test_reschedule_before_3_3_waits_unless_plan_is_met(simulator: VapiSimulator, worker: Any) -> None:
    """Without stored state, only the plan or the timeout shows that no more results will arrive."""
    worker.keeps_state = False
    arguments = {"mode": "reschedule", "poke_interval": 5, **OUTPUTS, "analysis_timeout": 40}
    planned = simulator.add_call(timeline=ends_at_20(BOOKED, MOOD), body={"assistant": PLAN})
    assert len(worker.run(call_id=planned, **arguments)["structured_outputs"]) == 2
    assert round(worker.slept) == 35
    unplanned = simulator.add_call(timeline=ends_at_20(BOOKED))
    assert worker.run(call_id=unplanned, **arguments)["structured_outputs"] == {"Booked": True}
    assert round(worker.slept) == 60


# Ends without a reason, and ends with a live status.


def change(simulator: VapiSimulator, call_id: str, **fields: Any) -> Callable[[], None]:
    return lambda: simulator._store.drive(call_id, lambda record, now: record.change(now, fields))


def test_late_reason_is_waited_for(simulator: VapiSimulator, worker: Any, wait: Any) -> None:
    call_id = simulator.add_call(status="ringing")
    then = [
        lambda: (simulator.end_call(call_id), change(simulator, call_id, endedReason=None)()),
        change(simulator, call_id, endedReason="customer-busy"),
    ]
    summary = wait(call_id, then=then, fail_on=["unknown"])
    assert (summary["ended_reason"], summary["outcome"]) == ("customer-busy", "no_answer")
    assert round(worker.slept) == 10


@pytest.mark.parametrize("soft_fail", [False, True])
def test_end_without_a_reason_is_unknown_after_15_seconds(
    simulator: VapiSimulator, worker: Any, wait: Any, mode: str, soft_fail: bool
) -> None:
    call_id = simulator.add_call(timeline=ends_at_20(ended_reason=""))
    assert wait(call_id)["outcome"] == "unknown"
    assert round(worker.slept) == 35
    call_id = simulator.add_call(timeline=ends_at_20(ended_reason=""))
    arguments = {"fail_on": ["unknown"], "soft_fail": soft_fail, "poke_interval": 5, "mode": mode}
    failed = worker.failure(call_id=call_id, **arguments)
    assert type(failed) is (AirflowSkipException if soft_fail else VapiCallFailedError)
    assert round(worker.slept) == 35


@pytest.mark.parametrize("soft_fail", [False, True])
def test_timeout_before_the_reason_checks_the_end(
    simulator: VapiSimulator, worker: Any, mode: str, soft_fail: bool
) -> None:
    call_id = simulator.add_call(timeline=ends_at_20(ended_reason=""))
    arguments = {"mode": mode, "poke_interval": 5, "timeout": 25, "soft_fail": soft_fail}
    failed = worker.failure(call_id=call_id, fail_on=["unknown"], **arguments)
    assert type(failed) is (AirflowSkipException if soft_fail else VapiCallFailedError)
    assert round(worker.slept) == 25


def test_stuck_status_is_an_end_after_a_minute(simulator: VapiSimulator, worker: Any, wait: Any) -> None:
    call_id = simulator.add_call(status="in-progress")

    def end() -> None:
        simulator.end_call(call_id, "assistant-ended-call")
        change(simulator, call_id, status="in-progress")()

    then = [lambda: None, end]
    summary = wait(call_id, then=then, fail_on=["unknown"])
    assert (summary["status"], summary["outcome"]) == ("in-progress", "completed")
    assert round(worker.slept) == 70


# Deferred.


with_and_without_store = pytest.mark.parametrize(
    "store", [False, True], ids=["before-3.3", "from-3.3"], indirect=True
)


@with_and_without_store
def test_trigger_gets_the_results_to_wait_for(airflow: Airflow, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(timeline=ends_at_20(BOOKED))
    arguments = {"call_id": call_id, **OUTPUTS}
    deferral = airflow.deferral(**arguments)
    trigger = deferral.trigger
    assert (trigger.wait_for_analysis, trigger.results, trigger.results_before) == (
        True,
        ["structured_outputs"],
        None,
    )
    airflow.pass_time(30)
    again = airflow.resume(deferral, reported("done", call_id), **arguments)
    assert again.trigger.results_before == 1


@with_and_without_store
def test_results_that_the_trigger_saw_end_the_wait(airflow: Airflow, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(timeline=ends_at_20(BOOKED))
    arguments = {"call_id": call_id, **OUTPUTS}
    deferral = airflow.deferral(**arguments)
    airflow.pass_time(30)
    summary = airflow.resume(deferral, reported("done", call_id, ARRIVED.format(call_id)), **arguments)
    assert summary["structured_outputs"] == {"Booked": True}


@with_and_without_store
def test_results_unchanged_between_processes_end_the_wait(airflow: Airflow, simulator: VapiSimulator) -> None:
    """A triggerer of another version may send other messages."""
    call_id = simulator.add_call(timeline=ends_at_20(BOOKED))
    arguments = {"call_id": call_id, **OUTPUTS}
    deferral = airflow.deferral(**arguments)
    airflow.pass_time(30)
    deferral = airflow.resume(deferral, reported("done", call_id), **arguments)
    airflow.pass_time(5)
    summary = airflow.resume(deferral, reported("done", call_id), **arguments)
    assert summary["structured_outputs"] == {"Booked": True}


def test_fail_on_is_checked_before_the_results(airflow: Airflow, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(timeline=ends_at_20(ended_reason="", analysis=None))
    arguments = {"call_id": call_id, **OUTPUTS, "fail_on": ["unknown"]}
    deferral = airflow.deferral(**arguments)
    assert not deferral.trigger.wait_for_analysis
    airflow.pass_time(25)
    # The reason may still arrive, so the end is not checked yet.
    deferral = airflow.resume(deferral, reported("done", call_id), **arguments)
    assert not deferral.trigger.wait_for_analysis
    airflow.pass_time(15)
    assert (
        type(failure(airflow.resume, deferral, reported("done", call_id), **arguments)) is VapiCallFailedError
    )
