# SPDX-License-Identifier: Apache-2.0
"""Every call that ends is reported, in any order of events, against a model of what is true at Vapi."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from depth import at_depth
from end_listening import AssetStore, Listening
from hypothesis import HealthCheck, Phase, given, note, settings, strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from triggerer_model import CONN_ID, FakeCall, FakeVapi, Triggerer, reset, seconds, timeout, virtual_world
from virtual_time import run_virtually

from vapi_provider.triggers.ended import VapiCallEndedTrigger

# What it learns of the code it keeps in a folder; one that goes away with the run.
set_hypothesis_home_dir(os.environ["AIRFLOW_HOME"])

INTERVAL = 30
LOOKBACK = 900
LONGEST_PAUSE = 601 + 600 + 3 * INTERVAL
"""What Vapi asks for, what the pauses grow to, and three intervals."""
CALLS = 12
"""As many as fit on a page, so that a list in another order still shows all of them."""

ONE_OF_THEM = st.integers(0, CALLS - 1)
FAULTS: dict[str, Callable[[], dict[str, Any]]] = {
    "429 for a while": lambda: {"status": 429, "headers": {"Retry-After": "60"}},
    "503 for long": lambda: {"status": 503, "headers": {"Retry-After": "600"}},
    "500": lambda: {"status": 500},
    "reset": reset,
    "timeout": timeout,
    "html": lambda: {"status": 200, "body": b"<html></html>"},
    "list 500": lambda: {"status": 500, "list": True},
    "list 400": lambda: {"status": 400, "list": True},
    "call 500": lambda: {"status": 500, "only": "/call/"},
    "401": lambda: {"status": 401},
    "403": lambda: {"status": 403},
}
LIES = ("unsorted", "repeating", "ignoring-filters", "timeless")
steps = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.04, 5.0, 12.0, 40.0, 70.0, 130.0])),
    st.tuples(st.just("wait"), st.sampled_from([31.0, 70.0, 400.0, 3_700.0])),
    st.tuples(st.just("end"), ONE_OF_THEM, st.sampled_from([True, True, False])),
    st.tuples(st.just("end"), ONE_OF_THEM, st.sampled_from([True, True, False])),
    st.tuples(st.just("place"), ONE_OF_THEM),
    st.tuples(st.just("rename"), ONE_OF_THEM),
    st.tuples(st.just("rename"), ONE_OF_THEM),
    st.tuples(st.just("kill"), st.sampled_from([0.0, 4.0, 60.0, 1_200.0]), st.sampled_from([None, 1, 2])),
    st.tuples(st.just("trouble"), st.sampled_from(sorted(FAULTS)), st.integers(1, 3)),
    st.tuples(st.just("show"), st.sampled_from(["honest", *LIES]), st.sampled_from([0, 3, 45])),
    st.tuples(st.just("date"), st.sampled_from([0, 100, -100])),
    st.tuples(st.just("wrong_date"), st.sampled_from([3_600, 86_400]), st.integers(1, 2)),
    st.tuples(st.just("connection"), st.sampled_from(["another-key", None])),
    st.tuples(st.just("wall"), st.sampled_from([60.0, -7_200.0])),
    st.tuples(st.just("join")),
    st.tuples(st.just("task"), ONE_OF_THEM),
)
runs = st.fixed_dictionaries(
    {
        "has_store": st.sampled_from([True, True, False]),
        # How many seconds before the start each call ended, below 0 after it; None for one that is live.
        "before": st.tuples(*[st.sampled_from([None, None, None, 10, 600, 1_200, 90_000])] * CALLS),
        "first_most": st.sampled_from([None, None, 1, 2]),
        # By how much Vapi's first Date headers are wrong, and how many of them. Not those of a whole poll: nothing would
        # contradict what a trigger that is killed then has stored.
        "first_dates": st.sampled_from([None, None, (3_600, 1), (3_600, 2), (600, 2)]),
        "steps": st.lists(steps, min_size=4, max_size=16),
    }
)


class Model:
    """Plays a run, and compares the events with the truth."""

    def __init__(self, triggerer: Triggerer, has_store: bool) -> None:
        self.triggerer = triggerer
        self.vapi: FakeVapi = triggerer.vapi
        self.store = AssetStore() if has_store else None
        self.runs: list[Listening] = []
        self.others: list[Listening] = []
        self.calls: list[FakeCall] = []
        self.began = 0.0
        self.calm_at = 0.0
        """From when on nothing fails."""

    async def play(self, run: dict[str, Any]) -> None:
        for before in run["before"]:
            self.place_one(before)
        self.began = self.vapi.now()
        if run["first_dates"] is not None:
            await self.wrong_date(*run["first_dates"])
        self.start(run["first_most"])
        try:
            for name, *arguments in run["steps"]:
                await getattr(self, name)(*arguments)
            await self.calm_down()
        finally:
            for listening in [*self.runs, *self.others]:
                await listening.kill()
            await self.triggerer.stop_all()
        self.check(self.began)

    def start(self, most: int | None = None) -> None:
        trigger = VapiCallEndedTrigger(CONN_ID, poll_interval=INTERVAL, lookback=LOOKBACK)
        self.runs.append(Listening(trigger, self.store, most))

    def place_one(self, ended_before: float | None = None) -> None:
        call = self.vapi.add(len(self.calls), age=0 if ended_before is None else ended_before + 60)
        if ended_before is not None:
            clock = self.vapi.clock
            clock.now -= ended_before
            self.vapi.end(call)
            clock.now += ended_before
        self.calls.append(call)

    # What happens

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def end(self, number: int, moves: bool) -> None:
        call = self.calls[number]
        # An end that moves nothing is found only where the call was seen live.
        self.vapi.end(call, moves=moves or call.id not in self.vapi.said_live)

    async def place(self, number: int) -> None:
        if len(self.calls) < 18:
            self.place_one()

    async def rename(self, number: int) -> None:
        self.vapi.change(self.calls[number])

    async def kill(self, down: float, most: int | None) -> None:
        await self.runs[-1].kill()
        await asyncio.sleep(down)
        if self.store is not None and not self.store.saved:
            # It has never reached Vapi, so it starts anew.
            self.began = self.vapi.now()
        self.start(most)

    async def trouble(self, kind: str, times: int) -> None:
        self.vapi.faults.append({**FAULTS[kind](), "times": times})

    async def show(self, mode: str, lag: float) -> None:
        self.vapi.list_mode, self.vapi.lag = mode, lag

    async def date(self, offset: float) -> None:
        self.vapi.date_offset = offset

    async def wrong_date(self, offset: float, times: int) -> None:
        self.vapi.wrong_dates = [offset] * times

    async def wall(self, step: float) -> None:
        self.triggerer.set_clock(step)

    async def connection(self, password: str | None) -> None:
        self.triggerer.set_connection(password)

    async def join(self) -> None:
        if len(self.others) < 2:
            trigger = VapiCallEndedTrigger(CONN_ID, outcomes=["no_answer"], poll_interval=40)
            self.others.append(Listening(trigger, AssetStore()))

    async def task(self, number: int) -> None:
        self.triggerer.start(self.calls[number].id)

    # What must hold

    async def calm_down(self) -> None:
        """Errors stop, the last trigger is not killed, and every call ends."""
        self.vapi.faults.clear()
        self.vapi.list_mode, self.vapi.lag, self.vapi.date_offset = "honest", 0.0, 0.0
        self.vapi.wrong_dates = []
        self.triggerer.set_connection("key-of-the-tests")
        await self.kill(0.0, None)
        await asyncio.sleep(LONGEST_PAUSE)
        self.calm_at = self.vapi.now()
        for call in self.calls:
            self.vapi.end(call)
        await asyncio.sleep(LONGEST_PAUSE)
        assert not self.runs[-1].task.done(), "the trigger has returned"

    def check(self, began: float) -> None:
        reported = Counter(call_id for run in self.runs for call_id in run.call_ids)
        note(f"{reported}, {len(self.runs)} runs")
        for run in self.runs:
            assert max(Counter(run.call_ids).values(), default=1) == 1, "repeated without a restart"
            for event in run.events:
                self.check_event(event, began)
        for call in self.calls:
            ended_at = seconds(call.now["endedAt"])
            if ended_at >= (began - LOOKBACK + 101 if self.store else self.calm_at):
                assert reported[call.id] >= 1, f"never reported: {call.number}, ended {ended_at - began}"
        assert not any(other.events for other in self.others)

    def check_event(self, event: dict[str, Any], began: float) -> None:
        call = self.vapi.calls[event["call_id"]]
        assert call.has_ended
        ended_at = seconds(call.now["endedAt"])
        # The Date header may be off by as much, and has no fractions.
        assert ended_at >= began - LOOKBACK - 101, "ended before the floor"
        assert seconds(event["ended_at"]) == ended_at
        assert event["outcome"] == "completed"


@pytest.mark.searches
@settings(
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=False,
    max_examples=at_depth(4, 60),
    # To make a smaller run of one that fails takes minutes.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(run=runs)
def test_every_end_is_reported(run: dict[str, Any]) -> None:
    with virtual_world(missing=20) as triggerer:
        run_virtually(Model(triggerer, run["has_store"]).play(run), triggerer.clock)
