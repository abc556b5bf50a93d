# SPDX-License-Identifier: Apache-2.0
"""Call: any response of Vapi is parsed, and its summary is safe to store."""

from __future__ import annotations

import json
import pickle
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.models.call import Call
from vapi_provider.models.fields import parse_instant

ID = "0198a3f0-0000-7000-8000-000000000001"

SHAPE_OF_2024: dict[str, Any] = {
    "id": ID,
    "orgId": "org",
    "type": "outboundPhoneCall",
    "phoneCallProvider": "twilio",
    "status": "ended",
    "endedReason": "assistant-error",
    "createdAt": "2024-03-01T08:00:00.000Z",
    "updatedAt": "2024-03-01T08:05:00.000Z",
    "startedAt": "2024-03-01T08:00:10.000Z",
    "endedAt": "2024-03-01T08:01:40.500Z",
    "cost": 1,
    "costBreakdown": {"transport": 0.1, "total": 1, "analysisCostBreakdown": {"summary": 0.01}},
    "messages": [{"role": "bot", "message": "Hello", "time": 1, "endTime": 2, "secondsFromStart": 0.5}],
    "transcript": "AI: Hello",
    "recordingUrl": "https://storage.example/mono.wav",
    "stereoRecordingUrl": "https://storage.example/stereo.wav",
    "artifact": {"videoRecordingUrl": "https://storage.example/video.mp4"},
    "analysis": {"summary": "A greeting.", "structuredData": {"greeted": True}, "successEvaluation": "true"},
    "forwardedPhoneNumber": "+12025550111",
    "assistantId": "assistant",
    "phoneNumberId": "phone-number",
    "customer": {"number": "+12025550143", "name": "Ada"},
    "name": "Reminder",
}

SHAPE_OF_TODAY: dict[str, Any] = {
    "id": ID,
    "status": "ended",
    "endedReason": "customer-ended-call",
    "artifact": {
        "transcript": "AI: Good morning",
        "recordingUrl": "https://storage.example/new-mono.wav",
        "stereoRecordingUrl": "https://storage.example/new-stereo.wav",
        "messages": [{"role": "system", "message": "You are Riley."}, {"role": "user", "message": "Hi"}],
        "structuredOutputs": {"out-1": {"name": "mood", "result": "good", "secret": "no"}},
    },
}


def call_of(**fields: Any) -> Call:
    return Call.model_validate({"id": ID, **fields})


def test_2024_shape_is_read() -> None:
    call = Call.model_validate(SHAPE_OF_2024)
    assert call.is_terminal
    assert call.outcome == "failed"
    assert call.transcript == "AI: Hello"
    assert call.recording_url == "https://storage.example/mono.wav"
    assert call.stereo_recording_url == "https://storage.example/stereo.wav"
    assert call.model_extra is not None
    assert call.model_extra["forwardedPhoneNumber"] == "+12025550111"
    assert call.summary() == {
        "id": ID,
        "status": "ended",
        "type": "outboundPhoneCall",
        "name": "Reminder",
        "ended_reason": "assistant-error",
        "outcome": "failed",
        "created_at": "2024-03-01T08:00:00+00:00",
        "started_at": "2024-03-01T08:00:10+00:00",
        "ended_at": "2024-03-01T08:01:40.500000+00:00",
        "duration_seconds": 90.5,
        "cost": 1.0,
        "assistant_id": "assistant",
        "phone_number_id": "phone-number",
    }


def test_current_shape_is_read() -> None:
    call = Call.model_validate(SHAPE_OF_TODAY)
    assert call.transcript == "AI: Good morning"
    assert call.recording_url == "https://storage.example/new-mono.wav"
    assert call.stereo_recording_url == "https://storage.example/new-stereo.wav"
    assert call.summary(include=["messages", "structured_outputs"])["messages"] == [
        {
            "role": "user",
            "message": "Hi",
            "time": None,
            "end_time": None,
            "seconds_from_start": None,
            "duration": None,
        }
    ]


def test_artifact_takes_precedence_over_old_fields() -> None:
    call = call_of(transcript="old", artifact={"transcript": "new"})
    assert call.transcript == "new"


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("transcript", "AI: Hello"),
        (
            "customer",
            {
                "number": "+12025550143",
                "sip_uri": None,
                "name": "Ada",
                "extension": None,
                "email": None,
                "external_id": None,
            },
        ),
        (
            "analysis",
            {
                "summary": "A greeting.",
                "structured_data": {"greeted": True},
                "structured_data_multi": None,
                "success_evaluation": "true",
            },
        ),
        ("structured_outputs", None),
    ],
)
def test_include_adds_only_what_it_names(part: str, expected: Any) -> None:
    call = Call.model_validate(SHAPE_OF_2024)
    summary = call.summary(include=[part])
    assert summary.pop(part) == expected
    assert summary == call.summary()


def test_included_costs_are_numbers() -> None:
    costs = Call.model_validate(SHAPE_OF_2024).summary(include=["cost_breakdown"])["cost_breakdown"]
    assert costs["transport"] == 0.1
    assert costs["analysis_cost_breakdown"]["summary"] == 0.01
    assert (
        call_of(costBreakdown={"total": "text"}).summary(["cost_breakdown"])["cost_breakdown"]["total"]
        is None
    )


@pytest.mark.parametrize(
    ("outputs", "included"),
    [
        pytest.param({"a": {"name": "mood", "result": "good", "secret": "no"}}, {"mood": "good"}, id="name"),
        pytest.param(
            {"a": {"result": 8}, "b": {"name": " ", "result": False}}, {"a": 8, "b": False}, id="id"
        ),
        pytest.param({"a": {"name": "\x00", "result": 1}}, {"a": 1}, id="name-of-control-characters"),
        pytest.param({"a": {"name": ["x"], "result": 1}}, {"a": 1}, id="name-of-another-type"),
        pytest.param(
            {id_: {"name": "mood", "result": id_} for id_ in "abc"},
            {"mood": "a", "mood (2)": "b", "mood (3)": "c"},
            id="one-name-thrice",
        ),
        pytest.param(
            {
                "a": {"name": "x (2)", "result": 1},
                "b": {"name": "x", "result": 2},
                "c": {"name": "x", "result": 3},
            },
            {"x (2)": 1, "x": 2, "x (3)": 3},
            id="numbered-name-is-taken",
        ),
        pytest.param({"a": {"name": "mood", "result": None}}, {"mood": None}, id="not-extracted"),
        pytest.param(
            {"a": {"name": "mood"}, "b": None, "c": "x"}, {"mood": None, "b": None, "c": None}, id="odd"
        ),
        pytest.param(
            {"a": {"name": "mood", "result": {"\x00why": ["\x07"]}}}, {"mood": {"why": [""]}}, id="clean"
        ),
        pytest.param({}, {}, id="empty"),
        pytest.param(None, None, id="none"),
        pytest.param("text", None, id="another-type"),
    ],
)
def test_structured_outputs_are_included_by_name(outputs: Any, included: Any) -> None:
    call = call_of(artifact={"structuredOutputs": outputs})
    assert call.summary(include=["structured_outputs"])["structured_outputs"] == included


def test_skipped_structured_outputs_are_not_included() -> None:
    skipped = {"b": {"name": "mood", "unmetCondition": {"type": "minMessages", "count": 4}}}
    call = call_of(
        artifact={
            "structuredOutputs": {"a": {"name": "booked", "result": True}},
            "skippedStructuredOutputs": skipped,
        }
    )
    assert call.summary(["structured_outputs"])["structured_outputs"] == {"booked": True}
    assert call.skipped_structured_outputs == skipped


def test_dumped_call_has_its_outputs_once() -> None:
    dumped = Call.model_validate(SHAPE_OF_TODAY).model_dump()
    assert dumped["artifact"]["structuredOutputs"] == SHAPE_OF_TODAY["artifact"]["structuredOutputs"]
    assert "structured_outputs" not in dumped


@pytest.mark.parametrize("include", [["secrets"], "analysis", ["analysis", "artifact"]])
def test_unknown_include_is_refused(include: Any) -> None:
    with pytest.raises(
        VapiConfigurationError, match=r"include must be a list of known names \(analysis"
    ) as error:
        call_of().summary(include=include)
    # The call was read, so "Nothing was sent." would be wrong.
    assert "sent" not in str(error.value)


@pytest.mark.parametrize("value", [None, 5, True, "text", [1], {"a": 1}, float("nan"), float("inf")])
def test_fields_of_any_type_are_read(value: Any) -> None:
    names = [
        "status",
        "type",
        "name",
        "endedReason",
        "createdAt",
        "startedAt",
        "endedAt",
        "cost",
        "costBreakdown",
        "assistantId",
        "customer",
        "analysis",
        "artifact",
        "messages",
        "transcript",
    ]
    call = call_of(**dict.fromkeys(names, value))
    everything = ["analysis", "cost_breakdown", "customer", "messages", "structured_outputs", "transcript"]
    assert json.loads(json.dumps(call.summary(include=everything), allow_nan=False))["id"] == ID


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), -float("inf"), True, "0.5", 10**400])
def test_cost_that_is_not_a_number_is_none(cost: Any) -> None:
    assert call_of(cost=cost).summary()["cost"] is None


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-11-22T10:00:00Z", datetime(2026, 11, 22, 10, tzinfo=timezone.utc)),
        ("2026-11-22T10:00:00.123Z", datetime(2026, 11, 22, 10, 0, 0, 123000, tzinfo=timezone.utc)),
        ("2026-11-22T12:00:00+02:00", datetime(2026, 11, 22, 10, tzinfo=timezone.utc)),
        ("2026-11-22T10:00:00", datetime(2026, 11, 22, 10, tzinfo=timezone.utc)),
        ("1700000000", None),
        (1700000000, None),
        ("-5", None),
        ("1.5e-3", None),
        (True, None),
        (["2026-11-22T10:00:00Z"], None),
        (datetime(2026, 11, 22), None),
        ("yesterday-ish", None),
        ("", None),
    ],
)
def test_instants_are_read_with_their_offset(written: Any, read: datetime | None) -> None:
    assert call_of(createdAt=written).created_at == read


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-11-22T10:00:00Z", datetime(2026, 11, 22, 10, tzinfo=timezone.utc)),
        ("2026-11-22 10:00:00+00:00", datetime(2026, 11, 22, 10, tzinfo=timezone.utc)),
        ("2026-11-22T10:00:00", datetime(2026, 11, 22, 10)),
        ("2026-11-22", datetime(2026, 11, 22)),
        ("1700000000", None),
        ("-1700000000", None),
        (1700000000, None),
    ],
)
def test_parsed_instant_may_have_no_time_zone(text: Any, read: datetime | None) -> None:
    parsed = parse_instant(text)
    assert parsed == read
    assert (parsed and parsed.tzinfo) == (read and read.tzinfo)


def test_only_id_is_required_and_errors_hide_content() -> None:
    with pytest.raises(ValidationError) as raised:
        Call.model_validate({"name": "words of a caller"})
    assert "words of a caller" not in str(raised.value)


def test_unknown_properties_are_kept_unchanged() -> None:
    call = call_of(orgId="org", somethingNew={"deepKey": [1]})
    assert call.model_extra == {"orgId": "org", "somethingNew": {"deepKey": [1]}}


def test_lone_surrogate_in_a_property_name_is_removed() -> None:
    call = Call.model_validate(json.loads('{"id": "1", "\\ud800x": 1, "caf\\u00e9": 2}'))
    assert call.model_extra == {"x": 1, "café": 2}


def test_repr_and_str_show_only_id_and_status() -> None:
    call = Call.model_validate(SHAPE_OF_2024)
    assert repr(call) == str(call) == f"{call}" == f"Call(id='{ID}', status='ended')"


def test_call_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Call.model_validate(SHAPE_OF_TODAY))).transcript == "AI: Good morning"


@pytest.mark.parametrize(
    ("fields", "is_terminal", "has_ended"),
    [
        ({"status": "queued"}, False, False),
        ({"status": "scheduled"}, False, False),
        ({"status": "forwarding"}, False, False),
        ({"status": "ended"}, True, True),
        ({"status": "ENDED"}, True, True),
        ({"status": "not-found"}, True, False),
        ({"status": "deletion-failed"}, True, False),
        ({"status": "on-hold"}, False, False),
        ({"status": "on-hold", "endedAt": "2026-01-01T00:00:00Z"}, True, True),
        ({"status": "in-progress", "endedAt": "2026-01-01T00:00:00Z"}, False, False),
        ({}, False, False),
        ({"status": None, "endedAt": "2026-01-01T00:00:00Z"}, False, False),
    ],
)
def test_status_shows_whether_a_call_is_over(
    fields: dict[str, Any], is_terminal: bool, has_ended: bool
) -> None:
    call = call_of(**fields)
    assert (call.is_terminal, call.has_ended) == (is_terminal, has_ended)


@pytest.mark.parametrize(
    ("analysis", "there"),
    [
        (None, False),
        ({}, False),
        ({"summary": None, "structuredData": {}}, False),
        ({"summary": ""}, False),
        ({"summary": "Yes."}, True),
        ({"successEvaluation": "false"}, True),
    ],
)
def test_analysis_has_arrived_once_a_part_has(analysis: Any, there: bool) -> None:
    assert call_of(analysis=analysis).has_analysis is there


def test_duration_is_never_negative_and_needs_both_ends() -> None:
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    early = (start - timedelta(seconds=5)).isoformat()
    assert call_of(startedAt=start.isoformat(), endedAt=early).duration_seconds == 0
    assert call_of(endedAt=early).duration_seconds is None


UNSAFE = "a\x00b\x07c\x85d\ud800e"


def test_lines_of_a_summary_have_no_control_characters() -> None:
    fields = ("name", "endedReason", "status", "type", "assistantId", "phoneNumberId")
    summary = call_of(**dict.fromkeys(fields, f"{UNSAFE}\n")).summary()
    for key in ("name", "ended_reason", "status", "type", "assistant_id", "phone_number_id"):
        assert summary[key] == "abcde"


def test_included_content_is_cleaned_at_every_depth() -> None:
    call = call_of(
        transcript=f"AI: {UNSAFE}\nUser: ok\t!",
        analysis={"summary": UNSAFE, "structuredData": {UNSAFE: [UNSAFE, {"x": float("nan")}]}},
    )
    summary = call.summary(include=["analysis", "transcript"])
    assert summary["transcript"] == "AI: abcde\nUser: ok\t!"
    assert summary["analysis"]["summary"] == "abcde"
    assert summary["analysis"]["structured_data"] == {"abcde": ["abcde", {"x": None}]}


def test_deeply_nested_data_is_cut() -> None:
    deep: Any = "bottom"
    for _ in range(300):
        deep = {"down": deep}
    summary = call_of(analysis={"structuredData": deep}).summary(include=["analysis"])
    assert json.dumps(summary).count("down") == 50


def test_huge_costs_are_none() -> None:
    call = call_of(costBreakdown={"total": 10**400, "analysisCostBreakdown": {"summary": 10**400}})
    costs = call.summary(["cost_breakdown"])["cost_breakdown"]
    assert costs["total"] is None
    assert costs["analysis_cost_breakdown"]["summary"] is None


def test_call_can_be_dumped_as_json_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    dumped = json.loads(Call.model_validate(SHAPE_OF_2024).model_dump_json())
    assert dumped["ended_at"] == "2024-03-01T08:01:40.500000+00:00"
    assert len(recwarn) == 0
