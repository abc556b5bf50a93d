# SPDX-License-Identifier: Apache-2.0
"""The log of a waiting task: enough to follow the call, without a line per poke."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from vapi_provider.simulator import Fault, Timeline, VapiSimulator

END = [
    r"Done waiting for call {id} \(1 min 0 s of timeout used\)\.",
    r"Call {id} ended \(customer-ended-call\): completed\.",
    r"Success criteria met\. Exiting\.",
]


@pytest.fixture(autouse=True)
def _from_info(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield


def assert_log(caplog: pytest.LogCaptureFixture, call_id: str, expected: list[str]) -> None:
    lines = [record.getMessage() for record in caplog.records if record.name == "task"]
    assert len(lines) == len(expected), lines
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern.replace("{id}", call_id), line), line


def test_poke_mode_logs_each_change_of_status_once(
    simulator: VapiSimulator, worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(timeline=Timeline(ringing=20, answered=40, ended=60, analysis=None))
    worker.run(call_id=call_id, mode="poke", poke_interval=5)
    assert worker.pauses == 12
    assert_log(
        caplog,
        call_id,
        [
            r"Call {id} is queued\b.*",
            r"Call {id} is ringing \(20 s of timeout used\)\.",
            r"Call {id} is in-progress \(40 s of timeout used\)\.",
            *END,
        ],
    )


def test_reschedule_mode_logs_one_line_per_poke(
    simulator: VapiSimulator, worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(timeline=Timeline(ringing=15, answered=None, ended=60, analysis=None))
    worker.run(call_id=call_id, mode="reschedule", poke_interval=20)
    assert_log(
        caplog,
        call_id,
        [
            r"Call {id} is queued \([\d.]+ s of timeout used\)\.",
            r"Call {id} is ringing \(20 s of timeout used\)\.",
            r"Call {id} is ringing \(40 s of timeout used\)\.",
            *END,
        ],
    )


def test_transient_errors_are_logged_with_the_time_waited(
    simulator: VapiSimulator, worker: Any, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(status="ringing")

    def fail() -> None:
        simulator.faults.add(Fault(status=503))

    worker.run(
        call_id=call_id, mode=mode, poke_interval=20, then=[fail, fail, lambda: simulator.end_call(call_id)]
    )
    error = r"GET /call/{id} returned 503: .* Still waiting \(%s s of timeout used\)\."
    assert_log(caplog, call_id, [r"Call {id} is ringing.*", error % 20, error % 40, *END])


def test_long_wait_is_logged_in_hours(
    simulator: VapiSimulator, worker: Any, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(timeline=Timeline(ended=9000, analysis=None))
    worker.run(call_id=call_id, mode=mode, poke_interval=4500)
    assert f"Done waiting for call {call_id} (2 h 30 min of timeout used)." in caplog.messages


@pytest.mark.parametrize(
    ("reason", "logged"),
    [
        pytest.param("voicemail", "(voicemail): no_answer.", id="no-answer"),
        pytest.param("a-new-reason", "(a-new-reason): unknown.", id="unknown-reason"),
        pytest.param(None, "(no reason given): unknown.", id="no-reason"),
        pytest.param(
            "silence\r\n\x1b[2Jtimed-out", "(silence[2Jtimed-out): unknown.", id="control-characters"
        ),
    ],
)
def test_outcome_is_logged_at_the_end(
    simulator: VapiSimulator,
    worker: Any,
    mode: str,
    reason: str | None,
    logged: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    call_id = simulator.add_call(status="ended", body={"endedReason": reason})
    worker.run(call_id=call_id, mode=mode)
    assert f"Call {call_id} ended {logged}" in caplog.messages


def test_log_distinguishes_the_end_from_the_analysis(
    simulator: VapiSimulator, worker: Any, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(status="ended")
    then = [lambda: simulator.add_analysis(call_id, {"summary": "Confirmed."})]
    worker.run(call_id=call_id, mode=mode, wait_for_analysis=True, then=then)
    assert f"Call {call_id} is ended" in caplog.text
    assert "its end" not in caplog.text
