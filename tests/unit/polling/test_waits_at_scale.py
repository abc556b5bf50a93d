# SPDX-License-Identifier: Apache-2.0
"""Many waits in one event loop: one timer for all end times, and no round of the loop in which very many of them end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from polling_world import World, watching
from triggerer_model import SETTLE, Triggerer, call_id_of, virtual_world
from virtual_time import VirtualLoop, run_virtually

from vapi_provider.polling import deadlines
from vapi_provider.simulator import Fault
from vapi_provider.triggers.call import VapiCallTrigger

NUMBER = 1_000
MOST_AT_ONCE = 200
"""Two lots, because the rounds that are counted can overlap."""
HOUR = 3_600.0


@pytest.fixture
def triggerer() -> Iterator[Triggerer]:
    """A triggerer in a world in which time jumps."""
    with virtual_world() as triggerer:
        yield triggerer


def drive(triggerer: Triggerer, main: Callable[[], Any]) -> Any:
    async def whole() -> Any:
        try:
            return await main()
        finally:
            await triggerer.stop_all()

    return run_virtually(whole(), triggerer.clock)


def count_ends(tasks: Iterable[asyncio.Task[Any] | None]) -> list[int]:
    """Return a list that gets the number of tasks that end in each round of the event loop, or in two in succession."""
    ends: list[int] = []
    is_counting = False

    def count(_: object) -> None:
        nonlocal is_counting
        if not is_counting:
            is_counting = True
            ends.append(0)
            asyncio.get_running_loop().call_soon(stop)
        ends[-1] += 1

    def stop() -> None:
        nonlocal is_counting
        is_counting = False

    for task in tasks:
        assert task is not None
        task.add_done_callback(count)
    return ends


@pytest.mark.parametrize("call_id", [None, call_id_of(1)], ids=["without a call", "with a call"])
def test_common_deadline_ends_waits_in_lots(triggerer: Triggerer, call_id: str | None) -> None:
    triggerer.vapi.add(1)

    async def main() -> None:
        waits = [triggerer.start(call_id, end_after=60, poll_interval=HOUR) for _ in range(NUMBER)]
        ends = count_ends(wait.task for wait in waits)
        await asyncio.sleep(59)
        assert not any(wait.events for wait in waits)
        await asyncio.sleep(2)
        assert sum(ends) == NUMBER
        assert max(ends) <= MOST_AT_ONCE
        assert {wait.events[0]["status"] for wait in waits} == {"timeout"}

    drive(triggerer, main)


def test_waits_share_one_timer(triggerer: Triggerer, monkeypatch: pytest.MonkeyPatch) -> None:
    set_timers = 0
    original = VirtualLoop.call_at

    def call_at(self: VirtualLoop, *args: Any, **options: Any) -> Any:
        nonlocal set_timers
        set_timers += 1
        return original(self, *args, **options)

    async def main() -> None:
        for number in range(NUMBER):
            triggerer.start(None, end_after=2 * HOUR + number)
        await asyncio.sleep(0)
        monkeypatch.setattr(VirtualLoop, "call_at", call_at)
        await asyncio.sleep(HOUR)

    drive(triggerer, main)
    # One check of the wall clock every half a minute.
    assert set_timers <= HOUR / 30 + 10


def test_each_wait_ends_at_its_own_deadline(triggerer: Triggerer) -> None:
    after = [SETTLE + 1 + 7 * number for number in range(200)]
    random.Random(0).shuffle(after)

    async def main() -> None:
        began = triggerer.clock.now
        waits = [triggerer.start(None, end_after=seconds) for seconds in after]
        await asyncio.sleep(max(after) + 1)
        ended_after = [wait.told_at - began for wait in waits if wait.told_at is not None]
        assert ended_after == pytest.approx(after, abs=0.01)

    drive(triggerer, main)


def test_deadlines_of_ended_waits_are_forgotten(triggerer: Triggerer) -> None:
    """A call takes minutes, and the limit of its wait is twelve hours."""

    async def main() -> None:
        triggerer.start(None, end_after=12 * HOUR)
        for _ in range(20):
            for wait in [triggerer.start(None, end_after=12 * HOUR) for _ in range(100)]:
                await triggerer.stop(wait)
            triggerer.waits = triggerer.waits[:1]
        assert len(deadlines._deadlines[asyncio.get_running_loop()]._heap) <= MOST_AT_ONCE + 10

    drive(triggerer, main)


def test_refused_connection_ends_waits_in_lots(world: World) -> None:
    call_ids = world.add_calls(NUMBER)

    async def main() -> None:
        async with watching(call_ids) as tasks:
            await asyncio.sleep(6)
            world.simulator.faults.add(Fault(status=401, times=None))
            ends = count_ends(tasks.values())
            await asyncio.sleep(15)
        assert {task.result().status for task in tasks.values()} == {"error"}
        assert sum(ends) == NUMBER
        assert max(ends) <= MOST_AT_ONCE

    world.run(main())


def test_long_page_ends_waits_in_lots(world: World) -> None:
    """A list of calls that were all created at one instant cannot be paged, so it is read in pages of up to 1,000."""
    call_ids = world.add_calls(NUMBER, spacing=0)

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids)) as tasks:
            await asyncio.sleep(6)
            world.end(*call_ids)
            ends = count_ends(tasks.values())
            await asyncio.sleep(20)
        assert sum(ends) == NUMBER
        assert max(ends) <= MOST_AT_ONCE

    world.run(main())


def test_missing_results_end_waits_in_lots(world: World) -> None:
    call_ids = world.add_calls(NUMBER)
    waiting = {"wait_for_analysis": True, "analysis_timeout": 60.0}

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids), **waiting) as tasks:
            await asyncio.sleep(6)
            world.change(*call_ids, startedAt="2026-08-01T10:00:00.000Z")
            world.end(*call_ids)
            await asyncio.sleep(30)
            assert not any(task.done() for task in tasks.values())
            ends = count_ends(tasks.values())
            await asyncio.sleep(60)
        assert sum(ends) == NUMBER
        assert max(ends) <= MOST_AT_ONCE

    world.run(main())


def test_late_joiners_are_notified_in_lots(world: World) -> None:
    call_ids = world.add_calls(NUMBER)
    others = world.add_calls(30)
    since = world.since(*call_ids)

    async def main() -> None:
        async with watching(others, since=world.since(*others)):
            await asyncio.sleep(11)
            world.end(*call_ids)
            await asyncio.sleep(10)
            # Something newer, so that the list does not show the ends again.
            world.change(others[0])
            await asyncio.sleep(10)
            async with watching(call_ids, since=since) as tasks:
                ends = count_ends(tasks.values())
                await asyncio.sleep(6)
                assert sum(ends) == NUMBER
                assert max(ends) <= MOST_AT_ONCE

    world.run(main())


@pytest.mark.deep
@pytest.mark.usefixtures("imported_modules_are_no_garbage")
def test_10000_waits_never_hold_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """In CPU time of this process, while they start, wait and time out together."""
    monkeypatch.setattr("vapi_provider.triggers.call.SETTLE_SECONDS", 0.0)
    held: list[float] = []

    async def beat() -> None:
        while True:
            due, used = time.monotonic() + 0.01, time.process_time()
            await asyncio.sleep(0.01)
            held.append(min(time.monotonic() - due, time.process_time() - used))

    async def wait(end_time: float) -> Any:
        async for event in VapiCallTrigger(call_id=None, end_time=end_time).run():
            return event.payload["status"]

    async def main() -> None:
        heart = asyncio.create_task(beat())
        end_time = time.time() + 10
        waits = []
        for _ in range(10_000):
            waits.append(asyncio.create_task(wait(end_time)))
            # As Airflow's triggerer does.
            await asyncio.sleep(0)
        assert set(await asyncio.gather(*waits)) == {"timeout"}
        heart.cancel()

    asyncio.run(main())
    assert max(held) <= 0.1
