# SPDX-License-Identifier: Apache-2.0
"""How soon the end of a call is noticed, when it fits into the pages of a poll and when it does not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import cycle
from math import ceil

import pytest
from polling_world import World, verdicts, watching

from vapi_provider.simulator import Fault
from vapi_provider.triggers.call import VapiCallTrigger

MOST_REQUESTS = 20
FEWEST_CALLS = 6
"""So many calls are read one by one in each poll, however much the list has to tell."""


@pytest.mark.parametrize(
    "off",
    [
        timedelta(),
        timedelta(minutes=7),
        timedelta(days=-3),
    ],
    ids="Vapi's clock is {} ahead".format,
)
def test_end_is_noticed_within_an_interval(make_world: Callable[..., World], off: timedelta) -> None:
    world = make_world(off)
    call_ids = world.add_calls(200)
    world.request_seconds = 0.05
    interval, poll = 15, MOST_REQUESTS * 0.05
    took = []

    async def main() -> None:
        async with watching(call_ids, poll_interval=interval, since=world.since(*call_ids)) as tasks:
            for call_id, pause in zip(call_ids[::26], cycle((3.0, 14.95, 0.1, 15.1, 44.7)), strict=False):
                await asyncio.sleep(pause)
                world.end(call_id)
                took.append(await world.seconds_until(tasks[call_id]))
                assert tasks[call_id].result().status == "done"
            assert verdicts(tasks).keys() == set(call_ids[::26])

    world.run(main())
    assert len(took) == 8
    assert max(took) <= interval + poll + 0.1


@pytest.mark.parametrize("list_lag", [2, 30, 90])
def test_lagging_list_delays_end_by_its_lag(make_world: Callable[..., World], list_lag: float) -> None:
    world = make_world(list_lag=list_lag)
    call_ids = world.add_calls(200)
    took = []

    async def main() -> None:
        # The list knows them by then.
        await asyncio.sleep(list_lag)
        async with watching(call_ids, since=world.since(*call_ids)) as tasks:
            for call_id, pause in zip(call_ids[::80], cycle((1.5, 11, 0.1)), strict=False):
                await asyncio.sleep(pause)
                world.end(call_id)
                took.append(await world.seconds_until(tasks[call_id]))

    world.run(main())
    assert len(took) == 3
    assert max(took) <= list_lag + 5 + 0.1


def test_end_before_trigger_start_is_found_in_first_poll(
    world: World,
) -> None:
    call_ids = world.add_calls(300)
    since = world.since(*call_ids)
    # The newest are read last, so that only the list can tell this soon.
    ended = call_ids[-5:]

    async def main() -> None:
        world.end(ended[0])
        for call_id in ended[1:]:
            await asyncio.sleep(180)
            world.end(call_id)
        await asyncio.sleep(100)
        async with watching(call_ids, since=since) as tasks:
            assert await world.seconds_until(*(tasks[call_id] for call_id in ended)) <= 5.1

    world.run(main())
    assert len(world.polls()) == 1


def test_late_joiner_is_notified_of_a_listed_end(world: World) -> None:
    call_ids = world.add_calls(100)
    early, late = call_ids[:30], call_ids[30:]
    since = world.since(*call_ids)
    ended = late[-1]

    async def main() -> None:
        async with watching(early, since=since):
            await asyncio.sleep(11)
            world.end(ended)
            # Polls that tell of it, and then of something newer.
            await asyncio.sleep(10)
            world.change(early[0])
            await asyncio.sleep(10)
            async with watching(late, since=since) as tasks:
                assert await world.seconds_until(tasks[ended]) <= 5.1
                await asyncio.sleep(1)
                assert [call_id for call_id in late if tasks[call_id].done()] == [ended]

    world.run(main())


def test_known_end_is_no_news(world: World) -> None:
    call_ids = world.add_calls(40)

    async def main() -> None:
        async with watching(call_ids) as tasks:
            await asyncio.sleep(6)
            world.end(call_ids[0])
            await world.seconds_until(tasks[call_ids[0]])
            # This one has seen the end, and waits for what comes after it.
            known = world.since(call_ids[0])
            waits = watching(
                call_ids[:1], since=known, wait_for_analysis=True, analysis_timeout=600, poll_interval=5
            )
            async with waits as again:
                await asyncio.sleep(60)
                assert not again[call_ids[0]].done()
                world.simulator.add_analysis(call_ids[0], {"summary": "All went well."})
                assert await world.seconds_until(again[call_ids[0]]) <= 5.1

    world.run(main())


def test_restart_finds_recent_ends_at_once_and_others_by_turn(world: World) -> None:
    call_ids = world.add_calls(1_000, age=4_000)
    others = world.add_calls(2_000, age=4_000)
    since = world.since(*call_ids)
    # Neither among the first to be read by turn nor among the last.
    ended, live = call_ids[400:700], call_ids[995:]
    took = []

    async def main() -> None:
        for minute in range(60):
            await asyncio.sleep(60)
            world.change(*others[minute::60])
            world.end(*ended[minute::60])
        recent = [call_id for minute in range(46, 60) for call_id in ended[minute::60]]
        async with watching(call_ids, since=since) as tasks:
            restarted = world.clock.now
            assert await world.seconds_until(*(tasks[call_id] for call_id in recent)) <= 3 * 5 + 0.1
            assert len(verdicts(tasks, ended)) < len(ended)
            for call_id in live:
                await asyncio.sleep(2)
                world.end(call_id)
                took.append(await world.seconds_until(tasks[call_id]))
            await world.seconds_until(*(tasks[call_id] for call_id in ended))
            took_all = world.clock.now - restarted
            assert took_all <= 5 * ceil(1_000 / 17)
            assert verdicts(tasks, call_ids[:400]) == {}

    world.run(main())
    assert max(took) <= 5.1
    assert max(map(len, world.polls())) <= MOST_REQUESTS


def test_changes_come_first_after_an_hour(world: World) -> None:
    call_ids = world.add_calls(400, age=4_000)
    # Placed later, so that a list in its usual order shows them first.
    others = world.add_calls(2_000)
    ended, live = call_ids[200:300], call_ids[300:]
    world.simulator.faults.add(Fault(method="GET", path="/call", status=429, headers={"Retry-After": "3600"}))

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids)) as tasks:
            await asyncio.sleep(6)
            assert len(world.simulator.requests) == 1
            for minute in range(60):
                await asyncio.sleep(59)
                world.change(*others[minute::60])
                world.end(*ended[minute::60])
            world.end(live[-1])
            # The first poll after the pause, at last.
            await asyncio.sleep(3_600 - 60 * 59 + 1)
            assert len(world.polls()) == 2
            # That one found out that Vapi is there again; the next one reads all that is new.
            assert await world.seconds_until(tasks[live[-1]]) <= 5.1
            # And the rest is found by turn.
            assert await world.seconds_until(*(tasks[call_id] for call_id in ended)) <= 5 * ceil(400 / 17)

    world.run(main())


def test_changes_come_first_after_a_pause(world: World) -> None:
    call_ids = world.add_calls(120, age=4_000)
    # Placed later, so that a list in its usual order shows them first.
    others = world.add_calls(2_000)
    ended, live = call_ids[:100], call_ids[100:]

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids)) as tasks:
            # So long that each call was read.
            await asyncio.sleep(60)
            polls = len(world.polls())
            world.simulator.faults.add(Fault(path="/call", status=429, headers={"Retry-After": "3600"}))
            await asyncio.sleep(10)
            for minute in range(59):
                world.change(*others[minute::59])
                world.end(*ended[minute::59])
                await asyncio.sleep(60)
            world.end(live[-1])
            await asyncio.sleep(60)
            assert len(world.polls()) > polls + 1
            assert tasks[live[-1]].done()
            assert await world.seconds_until(*(tasks[call_id] for call_id in ended)) <= 6 * 5

    world.run(main())


def test_end_of_days_ago_is_found_by_turn(world: World) -> None:
    call_ids = world.add_calls(400, age=4 * 86_400)
    since = world.since(*call_ids)
    ended = call_ids[200]

    async def main() -> None:
        await asyncio.sleep(3_600)
        world.end(ended)
        await asyncio.sleep(86_400)
        async with watching(call_ids, since=since) as tasks:
            assert await world.seconds_until(tasks[ended]) <= 5 * ceil(400 / 17) + 0.1

    world.run(main())


@pytest.mark.parametrize("interval", [1_200, 3_600])
def test_long_interval_notices_end_in_next_poll(world: World, interval: float) -> None:
    call_ids = world.add_calls(200)

    async def main() -> None:
        async with watching(call_ids, poll_interval=interval, since=world.since(*call_ids)) as tasks:
            for call_id, pause in zip(call_ids[::-26], cycle((60.0, interval - 60)), strict=False):
                await asyncio.sleep(pause)
                world.end(call_id)
                assert await world.seconds_until(tasks[call_id]) <= interval + 0.1

    world.run(main())


@pytest.mark.parametrize("number", [21, 60])
def test_end_without_updated_at_is_found_by_turn(world: World, number: int) -> None:
    call_ids = world.add_calls(number)
    since = world.since(*call_ids)
    took = []

    async def main() -> None:
        async with watching(call_ids, since=since) as tasks:
            for call_id in call_ids[:: number // 7]:
                await asyncio.sleep(3.3)
                world.end(call_id, quietly=True)
                took.append(await world.seconds_until(tasks[call_id]))

    world.run(main())
    assert len(took) >= 7
    # At least 18 calls are read in a poll when there is no news.
    assert max(took) <= 5 * ceil(number / 17) + 0.1


def test_hidden_end_is_found_within_n_thirds_polls(
    world: World,
) -> None:
    """The worst case: every page is full, and new calls join all the time."""
    number = 30
    call_ids = world.add_calls(number)
    others = world.add_calls(1_250)
    newcomers = iter(world.add_calls(1_000))
    took = []

    async def stream() -> None:
        while True:
            world.change(*others)
            async with watching([next(newcomers) for _ in range(10)]):
                await asyncio.sleep(2.4)

    async def main() -> None:
        async with watching(call_ids) as tasks:
            streaming = asyncio.create_task(stream())
            # By then each was read once.
            await asyncio.sleep(45)
            for call_id in call_ids[-1:]:
                world.end(call_id, quietly=True)
                took.append(await world.seconds_until(tasks[call_id]))
            streaming.cancel()
            await asyncio.wait({streaming})

    world.run(main())
    for poll in world.polls()[2:]:
        assert sum(request.path == "/call" for request in poll) >= 13
    assert max(took) <= 5 * (ceil((number + 10) / 3) + 1)


def test_end_is_noticed_when_calls_become_too_many(
    world: World,
) -> None:
    """No ``since`` reaches back to the last time that these calls were read."""
    few = world.add_calls(20)

    async def main() -> None:
        async with watching(few, poll_interval=300, since=world.since(*few)) as tasks:
            await asyncio.sleep(310)
            world.end(*few)
            await asyncio.sleep(200)
            more = world.add_calls(200, age=0, spacing=0.01)
            async with watching(more, poll_interval=300, since=world.since(*more)):
                await asyncio.sleep(91)
                assert len(world.polls()) == 2
                assert verdicts(tasks).keys() == set(few)

    world.run(main())


@pytest.mark.parametrize(
    ("created_within", "ended_within"),
    [(300.0, 1.0), (300.0, 0.0), (0.5, 1.0)],
    ids=["in one second", "at one instant", "placed in one second as well"],
)
def test_1000_calls_ending_at_once_get_one_event_each(
    world: World, created_within: float, ended_within: float
) -> None:
    call_ids = world.add_calls(1_000, spacing=created_within / 1_000)
    events: Counter[tuple[str, str]] = Counter()

    async def wait(call_id: str, since: str) -> None:
        trigger = VapiCallTrigger("vapi_default", call_id, 5, world.clock.time() + 3_600, since)
        async for event in trigger.run():
            events[event.payload["status"], event.payload["call_id"]] += 1

    async def main() -> None:
        calls = world.simulator.calls
        waits = [asyncio.create_task(wait(call_id, calls[call_id]["updatedAt"])) for call_id in call_ids]
        await asyncio.sleep(23)
        world.end(*call_ids, within=ended_within)
        await asyncio.sleep(11)
        assert sum(task.done() for task in waits) == len(waits)

    world.run(main())
    assert events == {("done", call_id): 1 for call_id in call_ids}


@pytest.mark.parametrize("ended_within", [1.0, 0.0])
def test_calls_placed_at_one_instant_get_their_events(world: World, ended_within: float) -> None:
    """No list of calls with filters, but without a cursor, can be paged then."""
    number = 200
    call_ids = world.add_calls(number, spacing=0)

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids)) as tasks:
            await asyncio.sleep(23)
            world.end(*call_ids, within=ended_within)
            assert await world.seconds_until(*tasks.values()) <= 5 * (ceil(number / FEWEST_CALLS) + 1)
            assert {task.result().status for task in tasks.values()} == {"done"}

    world.run(main())
