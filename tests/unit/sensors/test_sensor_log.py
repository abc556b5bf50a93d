# SPDX-License-Identifier: Apache-2.0
"""What a waiting task tells in its log: enough to follow the call, not a line for each look."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from vapi_provider.simulator import Fault, Timeline, VapiSimulator

END = [
    r"Waited 1 min 0 s for call {id}\.",
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


def test_poking_tells_each_change_of_the_status_once(
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
            r"Call {id} is ringing\b.* 20 s\b.*",
            r"Call {id} is in-progress\b.* 40 s\b.*",
            *END,
        ],
    )


def test_rescheduling_tells_one_line_a_look(
    simulator: VapiSimulator, worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(timeline=Timeline(ringing=15, answered=None, ended=60, analysis=None))
    worker.run(call_id=call_id, mode="reschedule", poke_interval=20)
    assert_log(
        caplog,
        call_id,
        [
            r"Call {id} is queued\b.* [\d.]+ s\b.*",
            r"Call {id} is ringing\b.* 20 s\b.*",
            r"Call {id} is ringing\b.* 40 s\b.*",
            *END,
        ],
    )


def test_each_passing_error_is_told_with_the_time_waited(
    simulator: VapiSimulator, worker: Any, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(status="ringing")

    def fail() -> None:
        simulator.faults.add(Fault(status=503))

    worker.run(
        call_id=call_id, mode=mode, poke_interval=20, then=[fail, fail, lambda: simulator.end_call(call_id)]
    )
    error = r"GET /call/{id} was answered 503: .* Waiting goes on, after %s s\."
    assert_log(caplog, call_id, [r"Call {id} is ringing.*", error % 20, error % 40, *END])


def test_a_long_wait_is_told_in_hours(
    simulator: VapiSimulator, worker: Any, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(timeline=Timeline(ended=9000, analysis=None))
    worker.run(call_id=call_id, mode=mode, poke_interval=4500)
    assert f"Waited 2 h 30 min for call {call_id}." in caplog.messages


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        pytest.param("voicemail", "(voicemail): no_answer.", id="no-answer"),
        pytest.param("a-new-reason", "(a-new-reason): unknown.", id="unknown-reason"),
        pytest.param(None, "(no reason given): unknown.", id="no-reason"),
        pytest.param(
            "silence\r\n\x1b[2Jtimed-out", "(silence[2Jtimed-out): unknown.", id="control-characters"
        ),
    ],
)
def test_the_outcome_is_told_at_the_end(
    simulator: VapiSimulator,
    worker: Any,
    mode: str,
    reason: str | None,
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    call_id = simulator.add_call(status="ended", body={"endedReason": reason})
    worker.run(call_id=call_id, mode=mode)
    assert f"Call {call_id} ended {told}" in caplog.messages


def test_a_wait_for_the_analysis_is_not_told_as_one_for_the_end(
    simulator: VapiSimulator, worker: Any, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(status="ended")
    then = [lambda: simulator.add_analysis(call_id, {"summary": "Confirmed."})]
    worker.run(call_id=call_id, mode=mode, wait_for_analysis=True, then=then)
    assert f"Call {call_id} is ended" in caplog.text
    assert "its end" not in caplog.text
