# SPDX-License-Identifier: Apache-2.0
"""The life of a call, on a timeline or by hand."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from vapi_provider.simulator import ManualClock, Timeline, VapiSimulator
from vapi_provider.simulator.timestamps import read_timestamp, write_timestamp


def seconds_after_creation(call, name):
    return (read_timestamp(call[name]) - read_timestamp(call["createdAt"])).total_seconds()


def test_new_call_has_the_shape_of_the_api(simulator, clock):
    call_id = simulator.add_call()
    call = simulator.get_call(call_id)
    assert uuid.UUID(call_id).version == 7
    assert uuid.UUID(call_id).variant == uuid.RFC_4122
    assert call["createdAt"] == call["updatedAt"] == write_timestamp(clock.now())
    assert call["createdAt"].endswith("Z")
    assert {"id", "orgId", "type", "status", "customer", "assistantId", "phoneNumberId"} <= set(call)
    assert not {"startedAt", "endedAt", "endedReason", "analysis", "cost", "artifact"} & set(call)


@pytest.mark.parametrize(
    ("status", "has"),
    [
        ("ringing", set()),
        ("in-progress", {"startedAt"}),
        ("forwarding", {"startedAt"}),
        ("ended", {"startedAt", "endedAt", "endedReason"}),
        ("not-found", set()),
    ],
)
def test_added_call_has_the_fields_of_its_status(simulator, status, has):
    call = simulator.get_call(simulator.add_call(status=status))
    assert {"startedAt", "endedAt", "endedReason"} & set(call) == has


def test_ids_sort_by_their_time(simulator, clock):
    first = simulator.add_call()
    clock.advance(0.001)
    assert first < simulator.add_call()


@pytest.mark.parametrize(
    ("seconds", "status"), [(0, "queued"), (0.9, "queued"), (1, "ringing"), (3, "in-progress"), (10, "ended")]
)
def test_call_follows_its_timeline(simulator, clock, seconds, status):
    call_id = simulator.add_call(timeline=Timeline())
    clock.advance(seconds)
    assert simulator.get_call(call_id)["status"] == status


def test_each_step_has_its_own_instant(simulator, clock):
    call_id = simulator.add_call(timeline=Timeline(ended_reason="assistant-ended-call"))
    clock.advance(11)
    call = simulator.get_call(call_id)
    assert seconds_after_creation(call, "startedAt") == 3
    assert seconds_after_creation(call, "endedAt") == 10
    assert seconds_after_creation(call, "updatedAt") == 10
    assert call["endedReason"] == "assistant-ended-call"
    assert "analysis" not in call
    assert "cost" not in call


def test_results_arrive_after_the_end(simulator, clock):
    timeline = Timeline(transcript="AI: Hello.\nUser: Hi.\nsomething else", summary="Short.", cost=0.25)
    call_id = simulator.add_call(timeline=timeline)
    clock.advance(500)
    call = simulator.get_call(call_id)
    assert seconds_after_creation(call, "updatedAt") == 12
    assert call["analysis"] == {"summary": "Short.", "successEvaluation": "true"}
    assert call["artifact"]["transcript"] == timeline.transcript
    assert [message["role"] for message in call["artifact"]["messages"]] == ["bot", "user", "system"]
    assert call["artifact"]["recordingUrl"].startswith("https://")
    assert call["cost"] == call["costBreakdown"]["total"] == 0.25


def test_transcript_can_be_empty(simulator, clock):
    call_id = simulator.add_call(timeline=Timeline(answered=None, transcript=None))
    clock.advance(20)
    call = simulator.get_call(call_id)
    assert call["artifact"] == {"messages": []}
    assert "startedAt" not in call


def test_steps_of_none_never_happen(simulator, clock):
    endless = simulator.add_call(timeline=Timeline(ended=None))
    unanalysed = simulator.add_call(timeline=Timeline(analysis=None))
    clock.advance(10**6)
    assert simulator.get_call(endless)["status"] == "in-progress"
    assert "analysis" not in simulator.get_call(unanalysed)


@pytest.mark.parametrize("times", [{"ringing": -1}, {"ringing": 5, "answered": 4}, {"analysis": 9}])
def test_timeline_goes_forward(times):
    with pytest.raises(ValueError, match="follow one another"):
        Timeline(**times)


def test_raw_fields_replace_made_up_ones(simulator):
    body = {
        "id": "0198A3F0-0000-7000-8000-00000000000A",
        "createdAt": "2024-01-01T10:00:00+02:00",
        "status": "brand-new-status",
        "customer": None,
        "serverUrlSecret": "hidden",
        "monitor": {"controlUrl": "https://control.example.invalid/1"},
        "note": "lone \ud800 surrogate",
    }
    call_id = simulator.add_call(status="in-progress", body=body)
    call = simulator.get_call(call_id.lower())
    assert call_id == body["id"]
    assert {**call, **body} == call
    assert call["updatedAt"] == "2024-01-01T08:00:00.000Z"


def test_timeline_begins_at_the_creation_that_was_given(simulator, clock):
    created_at = write_timestamp(clock.now() - timedelta(days=1))
    call_id = simulator.add_call(timeline=Timeline(), body={"createdAt": created_at})
    call = simulator.get_call(call_id)
    assert call["status"] == "ended"
    assert seconds_after_creation(call, "endedAt") == 10


def test_unreadable_creation_counts_as_now(simulator, api):
    call_id = simulator.add_call(body={"createdAt": "yesterday"})
    assert simulator.get_call(call_id)["createdAt"] == "yesterday"
    assert api("GET", "/call").json()[0]["id"] == call_id


def test_ids_are_unique(simulator):
    call_id = simulator.add_call()
    with pytest.raises(ValueError, match="already exists"):
        simulator.add_call(body={"id": call_id.upper()})


def test_call_without_a_timeline_stays_as_it_is(simulator, clock):
    call_id = simulator.add_call(status="forwarding")
    before = simulator.get_call(call_id)
    clock.advance(10**6)
    assert simulator.get_call(call_id) == before


def test_call_is_driven_by_hand(simulator, clock):
    call_id = simulator.add_call(timeline=Timeline())
    clock.advance(2)
    simulator.set_status(call_id, "in-progress")
    clock.advance(5)
    simulator.set_status(call_id, "in-progress")
    clock.advance(100)
    call = simulator.get_call(call_id)
    assert call["status"] == "in-progress"
    assert seconds_after_creation(call, "startedAt") == 2
    assert seconds_after_creation(call, "updatedAt") == 7


def test_call_is_ended_by_hand(simulator, clock):
    call_id = simulator.add_call(status="in-progress")
    clock.advance(4)
    simulator.end_call(call_id, "voicemail", transcript="AI: Hello?", analysis={"summary": "No."}, cost=1.5)
    call = simulator.get_call(call_id)
    assert (call["status"], call["endedReason"], call["cost"]) == ("ended", "voicemail", 1.5)
    assert seconds_after_creation(call, "endedAt") == seconds_after_creation(call, "updatedAt") == 4
    assert call["analysis"] == {"summary": "No."}
    assert call["artifact"]["transcript"] == "AI: Hello?"
    assert "monitor" not in call


def test_end_by_hand_adds_only_given_results(simulator, clock):
    call_id = simulator.add_call(timeline=Timeline())
    simulator.end_call(call_id)
    clock.advance(100)
    call = simulator.get_call(call_id)
    assert call["endedReason"] == "customer-ended-call"
    assert not {"analysis", "artifact"} & set(call)


@pytest.mark.parametrize(("moves", "seconds"), [(True, 30), (False, 0)])
def test_analysis_is_added_later(simulator, clock, moves, seconds):
    call_id = simulator.add_call()
    simulator.end_call(call_id)
    clock.advance(30)
    simulator.add_analysis(call_id, {"summary": "Late."}, moves_updated_at=moves)
    call = simulator.get_call(call_id)
    assert call["analysis"] == {"summary": "Late."}
    assert seconds_after_creation(call, "updatedAt") == seconds


def test_changing_a_copy_changes_no_call(simulator):
    given = {"metadata": {"a": 1}}
    call_id = simulator.add_call(body=given)
    given["metadata"]["a"] = 2
    simulator.get_call(call_id)["metadata"]["a"] = 3
    simulator.calls[call_id]["metadata"]["a"] = 4
    assert simulator.get_call(call_id)["metadata"] == {"a": 1}


@pytest.mark.parametrize("act", ["get_call", "end_call"])
def test_unknown_call_is_a_key_error(simulator, act):
    with pytest.raises(KeyError):
        getattr(simulator, act)("0198a3f0-0000-7000-8000-00000000000a")


def test_time_is_real_by_default(client):
    with VapiSimulator(timeline=Timeline(ringing=0, answered=0, ended=0, analysis=0)) as simulator:
        call_id = simulator.add_call(timeline=simulator.timeline)
        assert client(simulator)("GET", f"/call/{call_id}").json()["status"] == "ended"


def test_manual_clock_stands_still_and_never_goes_back():
    clock = ManualClock()
    before = clock.now()
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1)
    assert clock.now() == before


def test_manual_clock_starts_at_the_given_instant():
    start = read_timestamp("2026-02-03T10:00:00+02:00")
    assert write_timestamp(ManualClock(start).now()) == "2026-02-03T08:00:00.000Z"
    with pytest.raises(ValueError, match="timezone"):
        ManualClock(start.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-02-03", "2026-02-03T00:00:00.000Z"),
        ("2026-02-03T10:20", "2026-02-03T10:20:00.000Z"),
        ("2026-02-03T10:20:30.123456789Z", "2026-02-03T10:20:30.123Z"),
        ("2026-02-03T00:20:30.5-0530", "2026-02-03T05:50:30.500Z"),
        ("2026-02-30T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:00", None),
        ("2026-02-03T10:20:30 00:00", None),
        (20260203, None),
    ],
)
def test_timestamps_are_read(text, read):
    instant = read_timestamp(text)
    assert (instant and write_timestamp(instant)) == read
