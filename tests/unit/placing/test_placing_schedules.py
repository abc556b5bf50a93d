# SPDX-License-Identifier: Apache-2.0
"""
Whatever goes wrong, and at whatever moment: each person's phone rings once.

A schedule that fails is reported with its seed, and with the value of ``PLACING_REPLAY`` that replays it alone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from airflow_model import NUMBER, AirflowModel, Slot
from depth import at_depth
from hypothesis import given, settings, strategies as st
from schedules import Chaos, Schedule, chaoses, rough
from ways import kill_at

from vapi_provider.exceptions import VapiPermanentError
from vapi_provider.simulator import Fault

SCHEDULES = at_depth(40, 200)
"""How many are played with a task state store, and again without."""

REPLAY = os.environ.get("PLACING_REPLAY")


@pytest.mark.searches
def test_every_callee_is_called_once(has_store: bool) -> None:
    played = 0

    @settings(max_examples=SCHEDULES, deadline=None, database=None, derandomize=True)
    @given(st.just(Chaos(**json.loads(REPLAY))) if REPLAY else chaoses())
    def play(chaos: Chaos) -> None:
        nonlocal played
        played += 1
        schedule = Schedule.play(chaos, has_store=has_store)
        assert not schedule.problems, schedule.report()

    play()
    print(f"{played} schedules were played.")
    assert REPLAY or played >= SCHEDULES


def test_schedule_plays_out_the_same_way_each_time(has_store: bool) -> None:
    chaos = rough(seed=7, clears=1, others=3)
    first, second = (
        # The ids of calls and the simulator's port are not drawn.
        [
            re.sub(r"[0-9a-f-]{36}|127\.0\.0\.1:\d+", "...", line)
            for line in Schedule.play(chaos, has_store=has_store).story
        ]
        for _ in range(2)
    )
    assert first == second
    assert len(first) > 50


# What schedules have found.


@pytest.fixture
def vapi_options() -> dict[str, Any]:
    return {"list_lag": 29}


def refuse(model: AirflowModel, slot: Slot) -> None:
    """Let Vapi refuse the call, which is recorded as not sent."""
    model.simulator.faults.add(Fault(method="POST", path="/call", status=400))
    with pytest.raises(VapiPermanentError):
        slot.attempt()


def end_undialled(model: AirflowModel, slot: Slot) -> None:
    """Let Vapi take the call, and end it before the phone rings."""
    model.simulator.end_call(slot.attempt()["id"], "call.start.error-get-transport")


def die_before_the_request(model: AirflowModel, slot: Slot) -> None:
    """Kill the try when it has recorded that it is about to send."""
    kill_at(model, slot, "send.POST")


@pytest.mark.parametrize("go_wrong", [refuse, end_undialled, die_before_the_request])
def test_record_from_before_a_clear_may_be_outdated(
    model: AirflowModel, go_wrong: Callable[[AirflowModel, Slot], None]
) -> None:
    run = model.run()
    second = model.slot(run, number=NUMBER, map_index=1)
    go_wrong(model, second)
    model.pass_time(300)
    # The list becomes shorter, and the person the first of it.
    run.clear_number += 1
    first = model.slot(run, number=NUMBER, map_index=0)
    first.until_done()
    # And long again.
    run.clear_number += 1
    second.until_done()
    model.assert_rang_once(second)
