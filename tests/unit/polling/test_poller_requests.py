# SPDX-License-Identifier: Apache-2.0
"""How much a poller asks of Vapi, and how often."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from polling_world import World, run_in_loop, watching

from vapi_provider.polling import connection
from vapi_provider.simulator import VapiSimulator

MOST_REQUESTS = 20
MOST_PAGES = 14
SHORTEST_PAUSE = 5.0


def pauses(world: World) -> list[float]:
    """Return the seconds from each poll to the next."""
    return [(later[0].at - earlier[0].at).total_seconds() for earlier, later in pairwise(world.polls())]


@pytest.mark.parametrize("number", [1, 2, 19, 20])
def test_up_to_20_calls_are_read_one_by_one(world: World, number: int) -> None:
    call_ids = world.add_calls(number)

    async def main() -> None:
        async with watching(call_ids):
            await asyncio.sleep(16)

    world.run(main())
    assert len(world.polls()) == 3
    for poll in world.polls():
        assert sorted(request.path for request in poll) == sorted(f"/call/{call_id}" for call_id in call_ids)


@pytest.mark.parametrize(
    ("number", "changing"), [(21, 0), (21, 1_600), (100, 150), (1_000, 0), (1_000, 1_600)]
)
def test_poll_makes_at_most_20_requests(world: World, number: int, changing: int) -> None:
    call_ids = world.add_calls(number)
    others = world.add_calls(max(0, changing - number))
    changes = (call_ids + others)[:changing]

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids)):
            for _ in range(4):
                world.change(*changes)
                await asyncio.sleep(5)
            await asyncio.sleep(1)

    world.run(main())
    assert len(world.polls()) == 4
    for poll in world.polls():
        pages = sum(request.path == "/call" for request in poll)
        assert len(poll) == MOST_REQUESTS
        assert 1 <= pages <= MOST_PAGES
        # No call is read twice.
        assert len({request.path for request in poll if request.path != "/call"}) == len(poll) - pages
    if changing > MOST_PAGES * 100:
        assert max(sum(request.path == "/call" for request in poll) for poll in world.polls()) == MOST_PAGES


@pytest.mark.parametrize("poll_interval", [0.0, 0.1, 4.9, 5.0])
def test_polls_are_at_least_5_seconds_apart(world: World, poll_interval: float) -> None:
    call_ids = world.add_calls(3)
    world.request_seconds = 0.3

    async def main() -> None:
        async with watching(call_ids, poll_interval=poll_interval):
            await asyncio.sleep(58)

    world.run(main())
    assert len(world.polls()) == 11
    assert min(pauses(world)) >= SHORTEST_PAUSE


def test_slow_connection_read_keeps_polls_apart(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (call_id,) = world.add_calls(1)
    read = connection.get_async_connection

    async def read_slowly(*args: Any, **fields: Any) -> Any:
        await asyncio.sleep(4)
        return await read(*args, **fields)

    monkeypatch.setattr(connection, "get_async_connection", read_slowly)

    async def main() -> None:
        async with watching([call_id], poll_interval=5):
            await asyncio.sleep(2 * connection.CONNECTION_SECONDS + 30)

    world.run(main())
    assert len(world.polls()) > 20
    assert min(pauses(world)) >= SHORTEST_PAUSE


def test_long_poll_is_followed_by_a_rest(world: World) -> None:
    call_ids = world.add_calls(30)
    world.request_seconds = 0.4

    async def main() -> None:
        async with watching(call_ids, poll_interval=5):
            await asyncio.sleep(60)

    world.run(main())
    assert min(pauses(world)) > SHORTEST_PAUSE
    rests = [(later[0].at - earlier[-1].at).total_seconds() for earlier, later in pairwise(world.polls())]
    assert min(rests) >= 1


def test_slow_vapi_does_not_delay_the_list(world: World) -> None:
    call_ids = world.add_calls(30)
    world.request_seconds = 5

    async def main() -> float:
        async with watching(call_ids, since=world.since(*call_ids)) as tasks:
            await asyncio.sleep(120)
            world.end(call_ids[7])
            return await world.seconds_until(tasks[call_ids[7]])

    # The request that was under way, one of each kind, and the rest between two polls.
    assert world.run(main()) <= 5 + 2 * 5 + 1 + 0.1
    # Calls that the list may hide still get their turn, one in each poll.
    assert len({request.path for request in world.simulator.requests} - {"/call"}) >= 8


def test_joins_and_leaves_keep_polls_apart(world: World) -> None:
    call_ids = world.add_calls(30)

    async def main() -> None:
        async with watching(call_ids[:1], poll_interval=30):
            for number in range(1, 26, 2):
                async with watching(call_ids[:number], poll_interval=30 - number):
                    await asyncio.sleep(1.5)
                await asyncio.sleep(0.5)
        for _ in range(6):
            # Each time the last one goes, and another first one comes.
            async with watching(call_ids, poll_interval=5):
                await asyncio.sleep(6.5)

    world.run(main())
    assert len(world.polls()) >= 8
    assert min(pauses(world)) >= SHORTEST_PAUSE


def test_failing_polls_are_not_more_frequent(world: World) -> None:
    call_ids = world.add_calls(3)

    async def main() -> None:
        async with watching(call_ids):
            await asyncio.sleep(7)
            world.simulator.stop()
            await asyncio.sleep(30)
            world.simulator.start()
            await asyncio.sleep(30)

    world.run(main())
    assert len(world.polls()) >= 4
    assert min(pauses(world)) >= SHORTEST_PAUSE


def test_shortest_interval_applies_to_all(world: World) -> None:
    first, second = world.add_calls(2)
    began = world.simulator.clock.now()

    async def main() -> None:
        async with watching([first], poll_interval=60):
            await asyncio.sleep(90)
            async with watching([second], poll_interval=10):
                # Due at once: the last look is 30 s old.
                await asyncio.sleep(25)
            await asyncio.sleep(150)

    world.run(main())
    assert [round((poll[0].at - began).total_seconds()) for poll in world.polls()] == [
        60,
        90,
        100,
        110,
        # The one who wanted it so often has gone; the next poll was planned by then.
        120,
        180,
        240,
    ]


def test_first_poll_comes_after_one_interval(world: World) -> None:
    (call_id,) = world.add_calls(1)
    began = world.simulator.clock.now()

    async def main() -> None:
        async with watching([call_id], poll_interval=15):
            await asyncio.sleep(14)
            assert not world.simulator.requests
            await asyncio.sleep(2)

    world.run(main())
    assert [(request.at - began).total_seconds() for request in world.simulator.requests] == [
        pytest.approx(15, abs=0.01)
    ]


@pytest.mark.deep
def test_polls_are_five_seconds_apart_in_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with VapiSimulator() as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", simulator.connection)
        call_id = simulator.add_call(status="in-progress")
        began = simulator.clock.now()

        async def main() -> None:
            async with watching([call_id], poll_interval=0.1):
                await asyncio.sleep(12)

        run_in_loop(main())
        times = [(request.at - began).total_seconds() for request in simulator.requests]
    assert len(times) == 2
    assert min(times[0], times[1] - times[0]) >= SHORTEST_PAUSE - 0.1
