# SPDX-License-Identifier: Apache-2.0
"""Waiting in the triggerer for results, for the reason of an end, and for an end that the status does not show."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from polling_world import World, watching

from vapi_provider.models.results import ARRIVED
from vapi_provider.simulator import StructuredOutput

BOOKED = StructuredOutput("Booked", True, id="so-1")
SKIPPED = StructuredOutput("Mood", id="so-2", is_skipped=True)
PLAN = {"artifactPlan": {"structuredOutputIds": ["so-1", "so-2"]}}
OUTPUTS: dict[str, Any] = {
    "results": ("structured_outputs",),
    "wait_for_analysis": True,
    "analysis_timeout": 600,
}

NUMBERS = pytest.mark.parametrize("number", [1, 60], ids="{} waiting".format)
MOVES = pytest.mark.parametrize("moves", [True, False], ids=["updatedAt moves", "updatedAt stays"])


@NUMBERS
@MOVES
def test_outputs_of_a_plan_are_noticed_within_an_interval(world: World, number: int, moves: bool) -> None:
    call_ids = world.add_calls(number, assistant=PLAN)
    call_id = call_ids[number // 2]

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids), **OUTPUTS) as tasks:
            await asyncio.sleep(7)
            world.end(call_id)
            world.simulator.add_analysis(call_id, {"summary": "Booked."}, moves_updated_at=moves)
            world.simulator.add_structured_output(call_id, BOOKED, moves_updated_at=moves)
            await asyncio.sleep(33)
            assert not tasks[call_id].done()
            world.simulator.add_structured_output(call_id, SKIPPED, moves_updated_at=moves)
            assert await world.seconds_until(tasks[call_id]) <= 5.1
            assert tasks[call_id].result() == ("done", ARRIVED.format(call_id))

    world.run(main())


@NUMBERS
@MOVES
def test_outputs_without_a_plan_are_noticed_when_unchanged(world: World, number: int, moves: bool) -> None:
    """A poll that shows a call twice, in the list and by itself, counts once."""
    call_ids = world.add_calls(number)
    call_id = call_ids[number // 2]

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids), **OUTPUTS) as tasks:
            await asyncio.sleep(7)
            world.end(call_id)
            await asyncio.sleep(20)
            for output in (BOOKED, SKIPPED):
                world.simulator.add_structured_output(call_id, output, moves_updated_at=moves)
                await asyncio.sleep(5)
                assert not tasks[call_id].done()
            assert await world.seconds_until(tasks[call_id]) <= 5.1
            assert tasks[call_id].result().message == ARRIVED.format(call_id)

    world.run(main())


@NUMBERS
def test_what_the_task_has_seen_counts_as_a_poll(world: World, number: int) -> None:
    call_ids = world.add_calls(number)
    call_id = call_ids[0]
    world.end(call_id)
    world.simulator.add_structured_output(call_id, BOOKED)

    async def main() -> None:
        since = world.since(*call_ids)
        async with watching(call_ids, since=since, results_before=1, **OUTPUTS) as tasks:
            assert await world.seconds_until(tasks[call_id]) <= 5.1
            assert tasks[call_id].result().message == ARRIVED.format(call_id)

    world.run(main())


@NUMBERS
def test_results_are_not_awaited_without_a_conversation(world: World, number: int) -> None:
    call_ids = world.add_calls(number)

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids), **OUTPUTS) as tasks:
            await asyncio.sleep(7)
            world.simulator.end_call(call_ids[0], "customer-did-not-answer")
            assert await world.seconds_until(tasks[call_ids[0]]) <= 5.1

    world.run(main())


@NUMBERS
@pytest.mark.parametrize("awaited", [{}, OUTPUTS], ids=["end", "outputs"])
def test_reason_that_follows_is_noticed_within_an_interval(
    world: World, number: int, awaited: dict[str, Any]
) -> None:
    call_ids = world.add_calls(number)
    call_id = call_ids[0]

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids), **awaited) as tasks:
            await asyncio.sleep(7)
            world.end(call_id)
            world.change(call_id, endedReason=None)
            await asyncio.sleep(9)
            assert not tasks[call_id].done()
            world.change(call_id, quietly=True, endedReason="customer-busy")
            assert await world.seconds_until(tasks[call_id]) <= 5.1

    world.run(main())


@NUMBERS
def test_missing_reason_is_waited_for_15_seconds(world: World, number: int) -> None:
    call_ids = world.add_calls(number)
    call_id = call_ids[0]

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids)) as tasks:
            await asyncio.sleep(7)
            world.end(call_id)
            world.change(call_id, endedReason=None)
            # A Date header has whole seconds, and only a poll checks the time.
            assert 14 <= await world.seconds_until(tasks[call_id]) <= 15 + 5 + 1

    world.run(main())


@pytest.mark.parametrize("number", [1, 600], ids="{} waiting".format)
def test_end_without_a_status_counts_after_a_minute(world: World, number: int) -> None:
    """With so many others, neither the list shows it again nor does its turn to be read come."""
    call_ids = world.add_calls(number)
    call_id = call_ids[0]

    async def keep_the_list_moving() -> None:
        while True:
            await asyncio.sleep(1)
            world.change(call_ids[-1], status="in-progress")

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids)) as tasks:
            await asyncio.sleep(7)
            world.end(call_id)
            world.change(call_id, status="in-progress")
            others = asyncio.create_task(keep_the_list_moving())
            took = await world.seconds_until(tasks[call_id])
            others.cancel()
            assert 59 <= took <= 60 + 5 + 1
            assert sum(task.done() for task in tasks.values()) == 1

    world.run(main())
