# SPDX-License-Identifier: Apache-2.0
"""Structured outputs: each arrives after its own lag, is skipped, or never arrives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from vapi_provider.simulator import ManualClock, StructuredOutput, Timeline, VapiSimulator

BOOKED = StructuredOutput("Booked", True, lag=2)
MOOD = StructuredOutput("Mood", {"mood": "good"}, lag=5, id="so-mood")
SKIPPED = StructuredOutput("Score", lag=3, is_skipped=True)
NEVER = StructuredOutput("Address", "unheard", lag=None)


def outputs(simulator: VapiSimulator, call_id: str) -> tuple[Any, Any]:
    artifact = simulator.get_call(call_id).get("artifact") or {}
    return artifact.get("structuredOutputs"), artifact.get("skippedStructuredOutputs")


def test_each_output_has_its_own_lag(simulator: VapiSimulator, clock: ManualClock) -> None:
    timeline = Timeline(ended=10, analysis=14, structured_outputs=(MOOD, BOOKED, SKIPPED, NEVER))
    call_id = simulator.add_call(timeline=timeline)
    booked = {BOOKED.id: {"name": "Booked", "result": True}}
    clock.advance(11.9)
    assert outputs(simulator, call_id) == (None, None)
    clock.advance(0.1)
    assert outputs(simulator, call_id) == (booked, None)
    clock.advance(1)
    skipped = {SKIPPED.id: {"name": "Score", "unmetCondition": {"type": "minMessages", "count": 4}}}
    assert outputs(simulator, call_id) == (booked, skipped)
    clock.advance(1)
    # The artifact that arrives with the analysis keeps them.
    assert simulator.get_call(call_id)["artifact"]["transcript"]
    assert outputs(simulator, call_id) == (booked, skipped)
    clock.advance(600)
    everything = {**booked, "so-mood": {"name": "Mood", "result": {"mood": "good"}}}
    assert outputs(simulator, call_id) == (everything, skipped)
    call = simulator.get_call(call_id)
    assert call["updatedAt"] == call["artifact"]["structuredOutputsLastUpdatedAt"]


def test_outputs_are_none_by_default(simulator: VapiSimulator, clock: ManualClock) -> None:
    call_id = simulator.add_call(timeline=Timeline())
    clock.advance(60)
    assert outputs(simulator, call_id) == (None, None)


def test_outputs_follow_a_hang_up(
    simulator: VapiSimulator, clock: ManualClock, api: Callable[..., Any], request_body: dict[str, Any]
) -> None:
    simulator.timeline = Timeline(ended=600, analysis=None, structured_outputs=(BOOKED,))
    call = api("POST", "/call", json=request_body).json()
    clock.advance(5)
    hung_up = requests.post(call["monitor"]["controlUrl"], json={"type": "end-call"}, timeout=20)
    assert hung_up.ok
    clock.advance(2)
    assert outputs(simulator, call["id"])[0] == {BOOKED.id: {"name": "Booked", "result": True}}


@pytest.mark.parametrize("moves", [True, False])
def test_outputs_are_added_by_hand(simulator: VapiSimulator, clock: ManualClock, moves: bool) -> None:
    call_id = simulator.add_call(status="ended")
    before = simulator.get_call(call_id)["updatedAt"]
    clock.advance(5)
    simulator.add_structured_output(call_id, MOOD, moves_updated_at=moves)
    simulator.add_structured_output(call_id, SKIPPED, moves_updated_at=moves)
    there, skipped = outputs(simulator, call_id)
    assert (list(there), list(skipped)) == (["so-mood"], [SKIPPED.id])
    assert (simulator.get_call(call_id)["updatedAt"] != before) is moves


def test_output_id_follows_its_name_and_lag_is_checked() -> None:
    assert StructuredOutput("Booked").id == BOOKED.id != SKIPPED.id
    with pytest.raises(ValueError, match="before the end"):
        StructuredOutput("Booked", lag=-1)
