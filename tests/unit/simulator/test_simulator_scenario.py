# SPDX-License-Identifier: Apache-2.0
"""Scenarios: outcomes by callee, and the results that a request asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from vapi_provider.models.call import Call
from vapi_provider.simulator import ManualClock, Scenario, StructuredOutput, VapiSimulator
from vapi_provider.simulator.scenario import sample

Api = Callable[..., requests.Response]

OUTCOMES = {
    "+12025550101": "customer-did-not-answer",
    "+12025550102": "call.start.error-get-assistant",
    "+12025550103": "voicemail",
    "+12025550105": "sip-outbound-unallocated-number",
    "+1202555010*": "customer-busy",
    "*;ext=12": "assistant-ended-call",
}
MOOD = {"name": "Mood", "schema": {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}}}


@pytest.fixture
def vapi_options() -> dict[str, Any]:
    return {"timeline": Scenario(outcomes=OUTCOMES)}


@pytest.fixture
def place(api: Api, clock: ManualClock, simulator: VapiSimulator) -> Callable[..., dict[str, Any]]:
    """Return a function that places a call and returns it once its life is over."""

    def place_and_wait(body: dict[str, Any], **fields: Any) -> dict[str, Any]:
        body = {name: value for name, value in (body | fields).items() if value is not None}
        response = api("POST", "/call", json=body)
        assert response.status_code == 201, response.text
        clock.advance(3600)
        return simulator.get_call(response.json()["id"])

    return place_and_wait


@pytest.mark.parametrize(
    ("customer", "reason", "rings", "is_answered"),
    [
        ({"number": "+12025550101"}, "customer-did-not-answer", 1, False),
        ({"number": "+12025550102"}, "call.start.error-get-assistant", 0, False),
        ({"number": "+12025550103"}, "voicemail", 1, True),
        ({"number": "+12025550104"}, "customer-busy", 1, False),
        ({"number": "+12025550105"}, "sip-outbound-unallocated-number", 1, False),
        ({"number": "+12025550143", "extension": "12"}, "assistant-ended-call", 1, True),
        ({"number": "+12025550143"}, "customer-ended-call", 1, True),
    ],
)
def test_outcome_follows_the_callee(
    simulator: VapiSimulator,
    place: Callable[..., dict[str, Any]],
    request_body: dict[str, Any],
    customer: dict[str, str],
    reason: str,
    rings: int,
    is_answered: bool,
) -> None:
    call = place(request_body, customer=customer)
    assert (call["status"], call["endedReason"]) == ("ended", reason)
    assert simulator.rings.total() == rings
    assert ("startedAt" in call, "analysis" in call) == (is_answered, is_answered)


@pytest.mark.parametrize(
    ("request_fields", "outputs"),
    [
        ({}, {"Appointment confirmed": True}),
        ({"assistantId": None, "assistant": {}}, {}),
        ({"assistantOverrides": {"artifactPlan": {"structuredOutputIds": ["so-1", "so-2"]}}}, {"so-1": True, "so-2": True}),
        (
            {"assistantId": None, "assistant": {"artifactPlan": {"structuredOutputs": [MOOD]}}},
            {"Mood": {"mood": "good"}},
        ),
        (
            {
                "assistantId": None,
                "assistant": {"artifactPlan": {"structuredOutputIds": ["so-1"], "structuredOutputs": [MOOD]}},
                "assistantOverrides": {"artifactPlan": {"structuredOutputIds": ["so-2"]}},
            },
            {"so-2": True, "Mood": {"mood": "good"}},
        ),
        (
            {"assistantOverrides": {"artifactPlan": {"structuredOutputIds": 5, "structuredOutputs": [None, {}]}}},
            {},
        ),
    ],
    ids=["saved", "no plan", "ids", "inline", "overridden", "garbage"],
)  # fmt: skip
def test_outputs_follow_the_plan(
    place: Callable[..., dict[str, Any]],
    request_body: dict[str, Any],
    request_fields: dict[str, Any],
    outputs: dict[str, Any],
) -> None:
    call = place(request_body, **request_fields)
    there = call["artifact"].get("structuredOutputs", {})
    assert {output["name"]: output["result"] for output in there.values()} == outputs
    # A task that waits for these outputs does not wait for its timeout.
    assert Call.model_validate(call).results(("structured_outputs",)).missing == (
        "" if outputs else "structured outputs"
    )


def test_voicemail_skips_outputs(place: Callable[..., dict[str, Any]], request_body: dict[str, Any]) -> None:
    plan = {"artifactPlan": {"structuredOutputIds": ["so-1"], "structuredOutputs": [MOOD]}}
    call = place(request_body, customer={"number": "+12025550103"}, assistantOverrides=plan)
    assert "structuredOutputs" not in call["artifact"]
    assert list(call["artifact"]["skippedStructuredOutputs"]) == ["so-1", StructuredOutput("Mood").id]
    assert call["analysis"]["successEvaluation"] == "false"


@pytest.mark.parametrize(("enabled", "data"), [(True, {"day": "Tuesday"}), (False, None), (None, None)])
def test_structured_data_follows_the_plan(
    place: Callable[..., dict[str, Any]], request_body: dict[str, Any], enabled: bool | None, data: Any
) -> None:
    schema = {"type": "object", "properties": {"day": {"type": "string", "default": "Tuesday"}}}
    plan = {"structuredDataPlan": {"enabled": enabled, "schema": schema}}
    call = place(request_body, assistantId=None, assistant={"analysisPlan": plan})
    assert call["analysis"].get("structuredData") == data
    assert {"summary", "successEvaluation"} <= call["analysis"].keys()


def test_speed_divides_all_times(
    clock: ManualClock, api: Api, simulator: VapiSimulator, request_body: dict[str, Any]
) -> None:
    simulator.timeline = Scenario(answer_after=20, end_after=40, analysis_after=10, speed=10)
    call_id = api("POST", "/call", json=request_body).json()["id"]
    seen = []
    for seconds in (0.1, 2, 4, 1):
        clock.advance(seconds - 0.001)
        before = simulator.get_call(call_id)
        clock.advance(0.001)
        after = simulator.get_call(call_id)
        seen.append((before["status"], after["status"], "analysis" in before, "analysis" in after))
    assert seen == [
        ("queued", "ringing", False, False),
        ("ringing", "in-progress", False, False),
        ("in-progress", "ended", False, False),
        ("ended", "ended", False, True),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"speed": 0},
        {"speed": float("inf")},
        {"speed": 1e-320},
        {"end_after": -1},
        {"end_after": 1e12},
        {"answer_after": float("nan")},
    ],
)
def test_impossible_scenario_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="of a scenario must"):
        Scenario(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "boolean"}, True),
        ({"type": "integer"}, 1),
        ({"type": "number", "minimum": 2.5}, 2.5),
        ({"type": ["null", "string"]}, None),
        ({"const": 0}, 0),
        ({"examples": ["Ada"]}, "Ada"),
        ({"type": "array", "items": {"type": "string"}}, ["example"]),
        ({"properties": {"a": {"type": "integer"}}}, {"a": 1}),
        ({"type": "unheard-of"}, "example"),
        ("no schema", "example"),
    ],
)
def test_sample_fits_its_schema(schema: object, value: object) -> None:
    assert sample(schema) == value


def test_sample_of_a_deep_schema_ends() -> None:
    deep: dict[str, Any] = {"type": "array"}
    deep["items"] = deep
    assert str(sample(deep)).count("[") == 11
