# SPDX-License-Identifier: Apache-2.0
"""Waiting on for the analysis, which comes after the end, or never."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from polling_world import World, verdicts, watch, watching

from vapi_provider.polling.calls import Waiter

SUMMARY = {"summary": "All went well."}


def awaiting_analyses(
    world: World, call_ids: list[str], timeout: float, since: Mapping[str, datetime] | None = None
) -> Any:
    """Wait for each of these calls and its analysis, by default as a task that has read it just now."""
    since = since or world.since(*call_ids)
    return watching(call_ids, since=since, wait_for_analysis=True, analysis_timeout=timeout)


@pytest.mark.parametrize("number", [1, 60], ids="{} waiting".format)
@pytest.mark.parametrize("moves", [True, False], ids=["updatedAt moves", "updatedAt stays"])
def test_analysis_is_noticed_within_an_interval(world: World, number: int, moves: bool) -> None:
    call_ids = world.add_calls(number)
    call_id = call_ids[number // 2]

    async def main() -> None:
        async with awaiting_analyses(world, call_ids, 120) as tasks:
            await asyncio.sleep(7)
            world.end(call_id)
            await asyncio.sleep(33)
            assert not tasks[call_id].done()
            world.simulator.add_analysis(call_id, SUMMARY, moves_updated_at=moves)
            assert await world.seconds_until(tasks[call_id]) <= 5.1
            assert tasks[call_id].result().status == "done"

    world.run(main())


@pytest.mark.parametrize(
    ("number", "off"), [(1, timedelta()), (60, timedelta(minutes=-20)), (60, timedelta(days=2))], ids=str
)
def test_missing_analysis_times_out_by_vapis_clock(
    make_world: Callable[..., World], number: int, off: timedelta
) -> None:
    world = make_world(off)
    call_ids = world.add_calls(number)

    async def main() -> None:
        async with awaiting_analyses(world, call_ids, 60) as tasks:
            await asyncio.sleep(7)
            world.end(call_ids[0])
            took = await world.seconds_until(tasks[call_ids[0]])
            # A Date header has whole seconds, and only a poll checks the time.
            assert 59 <= took <= 60 + 5 + 1
            assert tasks[call_ids[0]].result().status == "done"

    world.run(main())


def test_overdue_analysis_is_not_waited_for(world: World) -> None:
    call_ids = world.add_calls(60)

    async def main() -> None:
        since = world.since(*call_ids)
        world.end(call_ids[0])
        await asyncio.sleep(100)
        async with awaiting_analyses(world, call_ids, 60, since) as tasks:
            assert await world.seconds_until(tasks[call_ids[0]]) <= 5.1

    world.run(main())


def test_call_that_never_took_place_has_no_analysis(world: World) -> None:
    call_ids = world.add_calls(2)

    async def main() -> None:
        async with watching(call_ids, wait_for_analysis=True, analysis_timeout=600) as tasks:
            await asyncio.sleep(6)
            world.change(call_ids[0], status="not-found")
            assert await world.seconds_until(tasks[call_ids[0]]) <= 5.1

    world.run(main())


def test_two_waiters_for_one_call_with_different_aims(world: World) -> None:
    call_ids = world.add_calls(60)
    call_id = call_ids[0]
    (since,) = world.since(call_id).values()

    async def main() -> None:
        async with watching(call_ids[1:], since=world.since(*call_ids)):
            at_the_end = asyncio.create_task(watch(Waiter(call_id, 5.0, since)))
            with_analysis = asyncio.create_task(watch(Waiter(call_id, 5.0, since, True, 120)))
            patient = asyncio.create_task(watch(Waiter(call_id, 5.0, None, True, 600)))
            await asyncio.sleep(6)
            world.end(call_id)
            assert await world.seconds_until(at_the_end) <= 5.1
            await asyncio.sleep(60)
            assert not with_analysis.done()
            assert not patient.done()
            world.simulator.add_analysis(call_id, SUMMARY, moves_updated_at=False)
            assert await world.seconds_until(with_analysis, patient) <= 5.1

    world.run(main())


def test_analyses_are_awaited_while_newcomers_stream_in(world: World) -> None:
    """Its end was read; for its analysis it is read again before those whose turn it would be."""
    call_ids = world.add_calls(100)
    call_id = call_ids[50]

    async def main() -> None:
        async with awaiting_analyses(world, call_ids, 300) as tasks:
            # By then each was read once.
            await asyncio.sleep(40)
            world.end(call_id)
            await asyncio.sleep(20)
            newcomers = world.add_calls(3, age=0)
            async with watching(newcomers, since=world.since(*newcomers)):
                world.simulator.add_analysis(call_id, SUMMARY, moves_updated_at=False)
                assert await world.seconds_until(tasks[call_id]) <= 5.1

    world.run(main())


def test_many_analyses_without_updated_at_are_noticed(world: World) -> None:
    call_ids = world.add_calls(100)
    ended = call_ids[:50]

    async def main() -> None:
        async with awaiting_analyses(world, call_ids, 600) as tasks:
            # By then each was read once.
            await asyncio.sleep(40)
            world.end(*ended, within=1)
            await asyncio.sleep(20)
            for call_id in ended:
                world.simulator.add_analysis(call_id, SUMMARY, moves_updated_at=False)
            # Half of the reads are for them, so at least 9 a poll, and without a plan two reads show the end of it.
            assert await world.seconds_until(*(tasks[call_id] for call_id in ended)) <= 5 * (2 * 50 / 9 + 2)
            assert verdicts(tasks, call_ids[50:]) == {}

    world.run(main())


def test_late_news_of_end_keeps_analysis_waiter_urgent(
    make_world: Callable[..., World],
) -> None:
    """The list lags behind: one task has seen the end, and for the other, which looked before, it is news."""
    world = make_world(list_lag=40)
    call_ids = world.add_calls(100)
    call_id = call_ids[0]

    async def main() -> None:
        await asyncio.sleep(40)
        before = world.since(*call_ids)
        async with watching(call_ids[1:], since=before):
            # By the end of the call each of the others was read once. Polls come every 5 seconds.
            await asyncio.sleep(73)
            world.end(call_id)
            after = world.since(call_id)
            knows = asyncio.create_task(watch(Waiter(call_id, 5.0, after[call_id], True, 120)))
            await asyncio.sleep(39)
            hears = asyncio.create_task(watch(Waiter(call_id, 5.0, before[call_id])))
            # In the poll that the list shows the end in.
            assert await world.seconds_until(hears) <= 3.1
            assert not knows.done()
            world.simulator.add_analysis(call_id, SUMMARY, moves_updated_at=False)
            assert await world.seconds_until(knows) <= 5.1

    world.run(main())


def test_many_missing_analyses_time_out_together(world: World) -> None:
    call_ids = world.add_calls(150)
    ended = call_ids[:120]

    async def main() -> None:
        async with awaiting_analyses(world, call_ids, 60) as tasks:
            await asyncio.sleep(7)
            world.end(*ended, within=1)
            took = await world.seconds_until(*(tasks[call_id] for call_id in ended))
            # Each by the end of the poll after its time is over.
            assert took <= 60 + 5 + 1 + 0.1
            assert verdicts(tasks, call_ids[120:]) == {}

    world.run(main())
