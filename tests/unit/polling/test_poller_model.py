# SPDX-License-Identifier: Apache-2.0
"""
The promises of the triggers, in any order of events, against a model of what is true at Vapi.

The triggers run in an event loop on a virtual clock, against a fake Vapi that keeps every state of a call and every response
about it. The runs that hypothesis draws are the same in every run of the tests.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
from depth import at_depth
from hypothesis import HealthCheck, Phase, given, note, settings, strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from triggerer_model import (
    BUDGET,
    CLOCK_CHECK,
    LATENCY,
    LIST_MODES,
    MIN_INTERVAL,
    OVERLAP,
    SETTLE,
    FakeCall,
    FakeVapi,
    Triggerer,
    Wait,
    call_id_of,
    reset,
    seconds,
    timeout,
    virtual_world,
)
from virtual_time import run_virtually

from vapi_provider.models.fields import read_instant

# What it learns of the code it keeps in a folder; one that goes away with the run.
set_hypothesis_home_dir(os.environ["AIRFLOW_HOME"])

alike = settings(
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# A fifth of the package's, so that a dozen calls are many and a run takes milliseconds.
SMALL_BUDGET = REQUESTS, PAGES = 4, 2
TURNS = (REQUESTS - PAGES) // 2
"""How many calls have their turn in a poll whatever else there is to ask: half of what the list leaves."""
SMALL_RESPONSE = 6_000
SMALL_PAGE = 1_500

LONGEST_INTERVAL = 12
CAUGHT_UP = 14 * 60
"""Ends of so many seconds before the first wait are found with the first poll."""
LONGEST_PAUSE = 10 + 1001 + 2 * LONGEST_INTERVAL

CALLS = 14
ONE_OF_THEM = st.integers(0, CALLS - 1)
SOME_SECONDS = st.sampled_from([0.04, 1.0, 5.0, 12.0, 17.0, 40.0])
LONGER = st.sampled_from([5.1, 12.0, 30.0])

html = {"status": 200, "body": b"<html></html>"}
FAULTS: dict[str, Callable[[], dict[str, Any]]] = {
    "429": lambda: {"status": 429},
    "429 for a while": lambda: {"status": 429, "headers": {"Retry-After": "60"}},
    "503 for long": lambda: {"status": 503, "headers": {"Retry-After": "1000"}},
    "500": lambda: {"status": 500},
    "reset": reset,
    "timeout": timeout,
    "html": lambda: dict(html),
    "list 500": lambda: {"status": 500, "list": True},
    "list 400": lambda: {"status": 400, "list": True},
    "list html": lambda: {**html, "list": True},
    "call html": lambda: {**html, "only": "/call/"},
    "401": lambda: {"status": 401},
    "403": lambda: {"status": 403},
    "403 for a call": lambda: {"status": 403, "only": "/call/"},
}


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([usual] * 2 * len(others) + list(others))


joins = st.fixed_dictionaries(
    {
        "since": st.sampled_from(["current", "former", "ancient", "none", "garbled"]),
        "poll_interval": mostly(5, 1, LONGEST_INTERVAL),
        "analysis_timeout": mostly(None, 0, 30, 1e9),
        "end_after": mostly(1e6, 1.0, 45.0),
    }
)
troubles = st.tuples(st.just("trouble"), st.sampled_from(sorted(FAULTS)), st.integers(1, 4), LONGER)
steps = st.one_of(
    st.tuples(st.just("wait"), SOME_SECONDS),
    st.tuples(st.just("wait"), SOME_SECONDS),
    st.tuples(st.just("end"), ONE_OF_THEM, mostly(True, False)),
    st.tuples(st.just("end"), ONE_OF_THEM, mostly(True, False)),
    st.tuples(st.just("join"), ONE_OF_THEM, joins),
    st.tuples(st.just("leave"), st.integers(0, 2 * CALLS)),
    st.tuples(st.just("change"), ONE_OF_THEM),
    st.tuples(st.just("analyse"), ONE_OF_THEM, st.booleans()),
    st.tuples(st.just("erase"), ONE_OF_THEM),
    st.tuples(st.just("bulk"), ONE_OF_THEM, st.sampled_from([0, 1_000, 10_000])),
    st.tuples(st.just("break row"), ONE_OF_THEM),
    troubles,
    troubles,
    st.tuples(st.just("show"), st.sampled_from(LIST_MODES), mostly(0, 3, 45)),
    st.tuples(st.just("date"), st.sampled_from([0, -1, 90, -90, 420, -7_200])),
    st.tuples(st.just("connection"), st.sampled_from(["another-key", "no key", None])),
    st.tuples(st.just("wall"), st.sampled_from([60.0, -60.0, 7_200.0, -7_200.0])),
)
runs = st.fixed_dictionaries(
    {
        # The waits for each of the calls at first; usually more than a poll has requests.
        "first": st.tuples(
            *[mostly(True, False, False).flatmap(lambda is_there: joins if is_there else st.none())] * CALLS
        ),
        "trouble": troubles,
        "steps": st.lists(steps, min_size=8, max_size=20),
        # Which of them end at last, and whether so that the list shows it.
        "last": st.tuples(*[st.sampled_from(["noticeably", "quietly", "bulky", "not"])] * CALLS),
        # What is wrong with the list for good, if anything.
        "list": mostly(None, "list 400", "list 500", "list html"),
    }
)


class Model:
    """Plays a run, and compares the events with the truth."""

    def __init__(self, triggerer: Triggerer) -> None:
        self.triggerer = triggerer
        self.vapi: FakeVapi = triggerer.vapi
        self.was_without_connection = False
        self.calls: list[FakeCall] = [self.vapi.add(number, age=600 + 7 * number) for number in range(CALLS)]

    async def play(self, run: dict[str, Any]) -> None:
        try:
            for number, join in enumerate(run["first"]):
                if join is not None:
                    await self.join(number, join)
            for name, *arguments in [*run["steps"][:5], run["trouble"], *run["steps"][5:]]:
                await getattr(self, name.replace(" ", "_"))(*arguments)
            for number, how in enumerate(run["last"]):
                if how == "bulky":
                    self.calls[number].bulk = 10_000
                if how != "not":
                    await self.end(number, how != "quietly")
            await self.calm_down(run["list"])
        finally:
            await self.triggerer.stop_all()
        self.check_said()
        self.check_requests()

    # What happens

    async def leave(self, number: int) -> None:
        if number < len(self.triggerer.waits):
            await self.triggerer.stop(self.triggerer.waits[number])

    async def join(self, number: int, join: dict[str, Any]) -> None:
        call = self.calls[number]
        states = call.states
        since = {
            "current": states[-1]["updatedAt"],
            "former": states[-2 if len(states) > 1 else -1]["updatedAt"],
            "ancient": "2020-01-01T00:00:00Z",
            "none": None,
            "garbled": "soon",
        }[join["since"]]
        analysis = join["analysis_timeout"]
        self.triggerer.start(
            call.id,
            since=since,
            poll_interval=join["poll_interval"],
            end_after=join["end_after"],
            wait_for_analysis=analysis is not None,
            analysis_timeout=analysis or 0,
        )
        await asyncio.sleep(0)

    async def end(self, number: int, moves: bool) -> None:
        self.vapi.end(self.calls[number], moves=moves)

    async def change(self, number: int) -> None:
        if not self.calls[number].has_ended:
            self.vapi.change(self.calls[number], status="in-progress")

    async def analyse(self, number: int, moves: bool) -> None:
        if self.calls[number].has_ended:
            self.vapi.change(self.calls[number], moves=moves, analysis={"summary": "Confirmed."})

    async def erase(self, number: int) -> None:
        self.calls[number].erased = True

    async def bulk(self, number: int, size: int) -> None:
        self.calls[number].bulk = size

    async def break_row(self, number: int) -> None:
        self.calls[number].broken = True

    async def trouble(self, kind: str, times: int, seconds: float) -> None:
        self.vapi.faults.append({**FAULTS[kind](), "times": times})
        await asyncio.sleep(seconds)

    async def show(self, mode: str, lag: float) -> None:
        self.vapi.list_mode, self.vapi.lag = mode, lag

    async def date(self, offset: float) -> None:
        self.vapi.date_offset = offset

    async def wall(self, step: float) -> None:
        self.triggerer.set_clock(step)

    async def connection(self, password: str | None) -> None:
        self.triggerer.set_connection(password)
        self.was_without_connection |= password != "another-key"

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    # What must hold

    async def calm_down(self, list_fault: str | None) -> None:
        """
        Errors stop, except those of the list, which stays as it is.

        Each wait that can end does so, in a bounded number of polls.
        """
        self.vapi.faults.clear()
        if list_fault is not None:
            self.vapi.faults.append({**FAULTS[list_fault](), "times": -1})
        self.triggerer.set_connection("key-of-the-tests")
        began = self.triggerer.clock.now
        ready = [wait for wait in self.waiting() if self.can_end(wait)]
        calls = len({wait.call_id for wait in self.waiting()})
        # One that is under way may have failed already.
        bound = 1 + (1 if calls <= REQUESTS else -(-calls // TURNS))
        patience = began + LONGEST_PAUSE + bound * (2 * LONGEST_INTERVAL + 1)
        while self.waiting(ready) and len(self.vapi.polls(began)) <= bound:
            await asyncio.sleep(1)
            assert self.triggerer.clock.now < patience, "no poll follows"
        await asyncio.sleep(SETTLE + 1)
        late = [wait.trigger.serialize()[1] for wait in self.waiting(ready)]
        assert not late, f"no event within {bound} polls: {late}"
        await asyncio.sleep(CLOCK_CHECK + SETTLE + 1)
        now = self.triggerer.clock.time()
        assert not [wait for wait in self.waiting() if wait.trigger.end_time < now - 1], (
            "a deadline was missed"
        )

    def waiting(self, among: list[Wait] | None = None) -> list[Wait]:
        waits = self.triggerer.waits if among is None else among
        return [wait for wait in waits if not wait.events and not wait.left]

    def can_end(self, wait: Wait) -> bool:
        call = self.vapi.calls[wait.call_id]
        trigger = wait.trigger
        if call.erased or call.bulk > SMALL_RESPONSE:
            return True
        if not call.has_ended or not trigger.wait_for_analysis or call.now["analysis"]:
            return call.has_ended
        # A Date header has no fractions.
        return self.vapi.date() - seconds(call.now["endedAt"]) >= trigger.analysis_timeout + 1

    def check_said(self) -> None:
        for wait in self.triggerer.waits:
            events = [event["status"] for event in wait.events]
            note(f"{wait.call_id[-2:]} {wait.joined - 1000:.2f} {events} {wait.told_at}")
            assert len(events) == (not wait.left), "a trigger has one event, and a cancelled one none"
            if wait.left:
                continue
            assert wait.told_at is not None
            assert wait.told_at - wait.joined >= SETTLE - 0.01
            assert wait.events[0]["call_id"] == wait.call_id
            getattr(self, f"check_{events[0]}")(wait)

    def check_done(self, wait: Wait) -> None:
        """Vapi had shown that the call is over, and the analysis was there or due if the wait is for it."""
        said = [
            state
            for state in self.vapi.said_over.get(wait.call_id, [])
            if state["told"] <= (wait.told_at or 0)
        ]
        if self.vapi.calls[wait.call_id].bulk > SMALL_RESPONSE:
            return
        assert [state for state in said if self.was_enough(state, wait)], "done, but Vapi never showed it"

    def was_enough(self, state: dict[str, Any], wait: Wait) -> bool:
        trigger = wait.trigger
        assert wait.told_at is not None
        if not trigger.wait_for_analysis or state["analysis"]:
            return True
        since = read_instant(trigger.since)
        if since and state["told"] <= wait.joined and seconds(state["updatedAt"]) > since.timestamp():
            return True
        # Vapi's clocks can differ; an end in the future counts as one just now.
        passed = max(0, state["date"] - seconds(state["endedAt"])) + wait.told_at - state["told"]
        # A Date header has no fractions.
        return passed >= trigger.analysis_timeout - 1

    def check_error(self, wait: Wait) -> None:
        """Vapi refused that call, or the key twice."""
        assert wait.told_at is not None
        # One that was under way when it came.
        earliest = wait.joined - 10
        message = wait.events[0]["message"]
        if "401" in message or "403" in message:
            refused = [(at, path) for at, path in self.vapi.refusals if at <= wait.told_at]
            last_at, path = refused[-1]
            assert len(refused) >= 2 or path.endswith(wait.call_id), "error at the first refusal"
            assert last_at >= earliest
        elif "cannot find connection" in message or "password" in message:
            assert self.was_without_connection
        else:
            assert "returned 404" in message, message
            assert self.vapi.refused_calls[wait.call_id][-1] >= earliest

    def check_timeout(self, wait: Wait) -> None:
        assert wait.time_had_come, "timeout before the time had come"

    def check_requests(self) -> None:
        polls = self.vapi.polls()
        for poll in polls:
            assert len(poll) <= REQUESTS, "too many requests in a poll"
            assert len({exchange.path for exchange in poll}) >= len(poll) - PAGES, (
                "a call was read twice in a poll"
            )
        for poll, following in zip(polls, polls[1:], strict=False):
            if following[0].thread is poll[0].thread:
                assert following[0].began - poll[0].began >= MIN_INTERVAL - 0.01, "polls come too fast"
                assert following[0].began - poll[-1].over >= poll[-1].pause, "Vapi asked to be left alone"


@pytest.mark.searches
@settings(alike, max_examples=at_depth(20, 100))
@given(run=runs)
def test_every_wait_ends_once_in_time_and_rightly(run: dict[str, Any]) -> None:
    with virtual_world(
        budget=SMALL_BUDGET, max_bytes=SMALL_RESPONSE, page_bytes=SMALL_PAGE, missing=20
    ) as triggerer:
        run_virtually(Model(triggerer).play(run), triggerer.clock)


# A list that does what it should


@st.composite
def campaigns(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a day with many calls: when each ends, and what Vapi and its list are like."""
    number = draw(st.integers(BUDGET[0], 4 * BUDGET[0]))
    # All the time, or with pauses in which the list shows nothing new.
    late = draw(st.sampled_from([st.integers(0, 60), st.sampled_from([8, 29, 33, 47])]))
    end = st.one_of(st.integers(-CAUGHT_UP, -1), st.integers(-100, -1), late)
    return {
        # Below 0: before the wait, but after the task had read the call.
        "ends": draw(st.lists(end, min_size=number, max_size=number)),
        "together": draw(st.booleans()),
        # How late the list shows a change, in the first half and in the second.
        "lags": draw(st.tuples(*[st.sampled_from([0, 1, OVERLAP - 1])] * 2)),
        "date": draw(st.sampled_from([0, 110, -110])),
        "others": draw(st.integers(0, 4)),
        "poll_interval": draw(st.sampled_from([5, 15])),
    }


# To make a smaller campaign of one that fails would take minutes.
@pytest.mark.searches
@settings(alike, max_examples=at_depth(4, 15), phases=[Phase.generate])
@given(campaign=campaigns())
def test_honest_list_shows_every_end_in_next_poll(campaign: dict[str, Any]) -> None:
    with virtual_world() as triggerer:
        run_virtually(wait_for_campaign(triggerer, **campaign), triggerer.clock)


async def wait_for_campaign(
    triggerer: Triggerer,
    *,
    ends: list[int],
    together: bool,
    lags: tuple[float, float],
    date: float,
    poll_interval: float,
    others: int,
) -> None:
    vapi = triggerer.vapi
    vapi.lag, vapi.date_offset = lags[0], date
    looked_at = [vapi.add(number, age=0 if together else number) for number in range(len(ends))]
    since = {call.id: call.now["updatedAt"] for call in looked_at}
    ended_at: dict[str, float] = {}

    async def go_on(until: float) -> None:
        await asyncio.sleep(until - triggerer.clock.now)

    joined = triggerer.clock.now + 3_001
    by_end = sorted(zip(ends, looked_at, strict=True), key=lambda pair: pair[0])

    async def live() -> None:
        for end, call in by_end:
            # No two at the same millisecond.
            await go_on(max(joined + end, triggerer.clock.now + 0.01))
            vapi.lag = lags[end > 30]
            vapi.end(call)
            ended_at[call.id] = triggerer.clock.now
            for number in range(others):
                # Calls that no trigger waits for.
                vapi.end(vapi.add(1_000 * (number + 1) + call.number))

    # Calls that go on, so many that the turn of one whose end the list hides comes too late.
    going_on = [vapi.add(100_000 + number, age=number) for number in range(5 * BUDGET[0])]
    life = asyncio.get_running_loop().create_task(live())
    await go_on(joined)
    for call in going_on:
        triggerer.start(call.id, since=call.now["updatedAt"], poll_interval=poll_interval)
    for call in looked_at:
        triggerer.start(call.id, since=since[call.id], poll_interval=poll_interval)
    await life
    await asyncio.sleep(2 * poll_interval + 10)
    # Those that were under way when it ended, and the one that finds it.
    two_polls = 2 * BUDGET[0] * LATENCY
    for wait in triggerer.waits:
        if wait.call_id not in ended_at:
            assert not wait.events
            continue
        assert wait.events, f"no event within {triggerer.clock.now - ended_at[wait.call_id]} s"
        assert wait.events[0]["status"] == "done"
        assert wait.told_at is not None
        latency = wait.told_at - max(ended_at[wait.call_id], wait.joined)
        assert latency <= max(SETTLE, poll_interval + max(lags) + two_polls + 0.1)
    for poll in vapi.polls():
        assert len(poll) <= BUDGET[0]
    await triggerer.stop_all()


@pytest.mark.parametrize("broken", [False, True], ids=["all-rows-sound", "one-row-broken"])
def test_broken_row_hides_no_end_on_later_pages(broken: bool) -> None:
    with virtual_world(page_bytes=9_000) as triggerer:
        vapi = triggerer.vapi

        async def main() -> None:
            for number in range(150):
                call = vapi.add(number, age=600 + 7 * number)
                triggerer.start(call.id, since=call.now["updatedAt"])
            await asyncio.sleep(2 * MIN_INTERVAL + 3)
            ended = list(vapi.calls.values())
            # The newest, and so on the first page.
            vapi.end(vapi.add(999, age=0))
            vapi.calls[call_id_of(999)].broken = broken
            for call in ended:
                await asyncio.sleep(0.005)
                vapi.end(call)
            # Two polls later.
            await asyncio.sleep(MIN_INTERVAL + 2.75)
            told = sum(bool(wait.events) for wait in triggerer.waits)
            await triggerer.stop_all()
            assert told == 150

        run_virtually(main(), triggerer.clock)
