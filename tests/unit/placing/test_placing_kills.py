# SPDX-License-Identifier: Apache-2.0
"""
A kill -9 at every step of a try, and one ring all the same after the tries that follow.

The steps of a first try are each line of the package that it runs from the moment on at which it does something to the
world outside, each 20th line before that, and, while its request is under way, each 40th line of requests, urllib3 and
http.client: there are too many to walk them all. The steps of longer ways, with an answer that is lost or a call to
adopt, are the points between which nothing reaches the world outside.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import pytest
from airflow_model import NUMBER, AirflowModel, Killed, Slot
from depth import at_depth
from placing_helpers import wait_out
from task_instances import ignore
from ways import FIRST, SECOND, Way, at_nth, be_killed, caller

from vapi_provider.exceptions import VapiTransientError
from vapi_provider.simulator import Timeline

QUIET_STRIDE = 20
LIBRARY_STRIDE = 40
LIBRARIES = ("requests", "urllib3", "http")

PARTS = 4
"""A walk is so many tests, each of which takes its share of the steps."""

CAMPAIGN_STRIDE = 50
"""The steps from one kill to the next in the tries of a campaign, of which there are thousands; twice as many take four times as long."""

STRIDE = at_depth(3, 1)
"""``make test`` kills at every third step, ``make test-deep`` at each."""


@dataclass
class Walker:
    """
    Runs a try up to a step, and kills it there.

    What is raised in a process is not what ends one from outside: ``finally`` still runs. So nothing that is dead gets
    through to the world outside any more.

    :param model: the Airflow
    :param last_step: the number of the step that is the last one, from 0
    """

    model: AirflowModel
    last_step: int
    died_at: str | None = None
    _stride: int = QUIET_STRIDE
    _lines: int = 0
    _library_lines: int = 0
    _steps: int = 0
    _is_under_way: bool = False

    def walk(self, run: Callable[[], Any]) -> None:
        """Run a try until it is killed, or over."""
        others = sys.gettrace()
        self.model.at = self._pass
        sys.settrace(self._enter)
        try:
            run()
        except Killed:
            pass
        finally:
            sys.settrace(others)
            self.model.at = ignore

    def _pass(self, point: str) -> None:
        if self.died_at is not None:
            raise Killed
        if point in ("store.set", "send.POST"):
            self._stride = 1
        if point == "send.POST":
            self._is_under_way = True
        elif point in ("store.set", "xcom.push"):
            self._is_under_way = False

    def _enter(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        parts = frame.f_code.co_filename.split("/")
        if "simulator" in parts:
            # A kill while the model moves its clocks would move only one of them.
            return None
        if "vapi_provider" in parts:
            return self._package_line
        is_library = self._is_under_way and any(name in parts for name in LIBRARIES)
        return self._library_line if is_library else None

    def _package_line(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "line":
            self._lines += 1
            if self._lines % self._stride == 0:
                self._step(frame)
        return self._package_line

    def _library_line(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "line" and self._is_under_way:
            self._library_lines += 1
            if self._library_lines % LIBRARY_STRIDE == 0:
                self._step(frame)
        return self._library_line

    def _step(self, frame: FrameType) -> None:
        if self._steps == self.last_step:
            self.died_at = f"{frame.f_code.co_filename}:{frame.f_lineno}"
            # It ends the tracing, too.
            raise Killed
        self._steps += 1


@pytest.mark.searches
@pytest.mark.parametrize("part", range(PARTS))
def test_kill_at_any_line_causes_no_second_call(model: AirflowModel, part: int) -> None:
    # What is imported or compiled at first use would be steps that no other try has.
    caller(model, 0).attempt()
    for step in range(part * STRIDE, 10_000, PARTS * STRIDE):
        model.rings()
        slot, walker = caller(model, step + 1), Walker(model, step)
        walker.walk(slot.prepare())
        if walker.died_at is None:
            break
        # Both a next try that follows at once and one that follows in minutes.
        model.pass_time(step // (PARTS * STRIDE) % 2 * 300)
        slot.until_done()
        model.assert_rang_once(slot, after=f"a kill at {walker.died_at}")
        assert slot.try_number == 2, walker.died_at
    assert step > 200


WAYS = {**FIRST, **SECOND}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_kill_at_any_point_causes_no_second_call(model: AirflowModel, way: Way) -> None:
    for number, point in enumerate(way.points(model)):
        model.rings()
        slot = way.prepare(model, number + 1)
        tries = slot.try_number
        at_nth(model, number, be_killed)
        with pytest.raises(Killed):
            slot.attempt()
        slot.until_done()
        model.assert_rang_once(slot, after=f"a kill at point {number}, {point}")
        assert slot.try_number <= tries + 3, point


def test_two_kills_in_a_row_cause_no_second_call(model: AirflowModel) -> None:
    """Any point of the first, and every second one of the second, by turns."""
    extensions = itertools.count(1)
    for first in range(len(Way().points(model))):
        for second in itertools.count(first % 2, 2):
            model.rings()
            slot = caller(model, next(extensions))
            at_nth(model, first, be_killed)
            with pytest.raises(Killed):
                slot.attempt()
            at_nth(model, second, be_killed)
            try:
                slot.attempt()
            except Killed:
                slot.until_done()
                model.assert_rang_once(slot, after=f"kills at points {first} and {second}")
            else:
                model.at = ignore
                break
        assert second > 1


# A campaign: two attempts, and a wait for calling hours before each

HOURS = {"opens": "09:00", "closes": "09:10", "timezone": "UTC"}
DAY, SEVEN = 86_400, 7 * 3600


def campaign_call(model: AirflowModel, extension: int) -> Slot:
    """Make a task instance that waits for its hours, and calls twice if need be."""
    return model.slot(
        model.run(run_id=f"run {extension}"),
        customer={"number": NUMBER, "extension": str(extension)},
        calling_hours=HOURS,
        redial_on=["no_answer"],
        max_attempts=2,
        retries=8,
        wait_for_completion=True,
        deferrable=True,
    )


def run_campaign(slot: Slot) -> Any:
    """Run tries until one succeeds, each later than the hours that the one before was called in."""
    while True:
        try:
            return wait_out(slot)
        except VapiTransientError:
            slot.model.pass_time(900)


@pytest.mark.deep
def test_kill_at_any_line_of_a_campaign_repeats_no_attempt(model: AirflowModel) -> None:
    placed: Counter[str] = Counter()

    def timeline(request: Any) -> Timeline:
        placed[extension := request["customer"]["extension"]] += 1
        unanswered = Timeline(
            ringing=1, answered=None, ended=20, analysis=None, ended_reason="customer-did-not-answer"
        )
        return unanswered if placed[extension] == 1 else Timeline(ended=20, analysis=None)

    model.simulator.timeline = timeline
    run_campaign(campaign_call(model, 0))
    for step in range(0, 100_000, CAMPAIGN_STRIDE):
        model.pass_time(DAY - (model.now - SEVEN) % DAY)
        slot, walker = campaign_call(model, step + 1), Walker(model, step)
        walker.walk(lambda slot=slot: run_campaign(slot))  # type: ignore[misc]
        if walker.died_at is None:
            break
        summary, at = run_campaign(slot), f"a kill at {walker.died_at}, step {step}"
        calls = [
            call for call in model.simulator.calls.values() if call["customer"]["extension"] == str(step + 1)
        ]
        tokens = {call["assistantOverrides"]["variableValues"]["airflow_token"] for call in calls}
        assert len(calls) == len(tokens) == 2, f"{len(calls)} calls of {len(tokens)} attempts after {at}"
        assert (summary["outcome"], summary["attempts"]) == ("completed", 2), at
        assert slot.xcoms["call_id"] == summary["id"], at
        assert {call["createdAt"][11:15] for call in calls} == {"09:0"}, at
    assert step > 800
