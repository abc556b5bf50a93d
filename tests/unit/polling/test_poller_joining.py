# SPDX-License-Identifier: Apache-2.0
"""Waiters that come and go at any time, also while a request is in flight: none is lost, and nothing is left."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from polling_world import World, come_true, poller_threads, run_in_loop, watch, watching

from vapi_provider.polling import poller
from vapi_provider.polling.calls import Waiter
from vapi_provider.simulator import Fault, VapiSimulator


class Gate:
    """Holds the simulator's answers up while it is closed."""

    def __init__(self, simulator: VapiSimulator) -> None:
        self.simulator = simulator
        self.is_open = threading.Event()
        self.is_open.set()
        self.arrived = self.left = 0
        answer = simulator._store._encode

        def hold(*args: Any) -> bytes:
            self.arrived += 1
            self.is_open.wait(60)
            self.left += 1
            return answer(*args)

        simulator._store._encode = hold  # type: ignore[method-assign]

    async def close_on_next_request(self) -> None:
        """Wait until a request is held."""
        self.is_open.clear()
        before = self.arrived
        await come_true(lambda: self.arrived > before, "a request is in flight")


@pytest.fixture
def gate(simulator: VapiSimulator, short_pauses: None) -> Iterator[Gate]:
    gate = Gate(simulator)
    yield gate
    gate.is_open.set()


def test_waiter_may_join_during_a_request(gate: Gate) -> None:
    simulator = gate.simulator
    call_ids = [simulator.add_call(status="in-progress") for _ in range(40)]
    late = [simulator.add_call(status="ended") for _ in range(5)]

    async def main() -> None:
        async with watching(call_ids, poll_interval=0.02):
            await gate.close_on_next_request()
            async with watching(late, poll_interval=0.02) as tasks:
                gate.is_open.set()
                await asyncio.wait(tasks.values())
                assert {task.result().status for task in tasks.values()} == {"done"}

    run_in_loop(main())


@pytest.mark.parametrize("number", [4, 40], ids="{} waiting".format)
def test_waiter_may_leave_during_a_request(gate: Gate, number: int) -> None:
    simulator = gate.simulator
    call_ids = [simulator.add_call(status="in-progress") for _ in range(number)]

    async def main() -> None:
        async with watching(call_ids, poll_interval=0.02) as tasks:
            await gate.close_on_next_request()
            before = len(simulator.requests)
            gone = call_ids[: number // 2]
            for call_id in gone:
                tasks[call_id].cancel()
            await asyncio.wait([tasks[call_id] for call_id in gone])
            assert [call_id for call_id in gone if not tasks[call_id].cancelled()] == []
            assert gate.left < gate.arrived, "they waited for the request"
            (only,) = poller._pollers.values()
            assert set(only._calls._calls) == set(call_ids) - set(gone)
            gate.is_open.set()
            simulator.end_call(call_ids[-1])
            assert (await tasks[call_ids[-1]]).status == "done"
            await come_true(lambda: len(simulator.requests) > before + 25, "it goes on")
            # Not even in the poll that they left in.
            asked = {request.path for request in simulator.requests[before:]}
            assert not asked & {f"/call/{call_id}" for call_id in gone}

    run_in_loop(main())


def test_last_waiter_stops_polling_and_next_one_restarts_it(gate: Gate) -> None:
    simulator = gate.simulator
    call_ids = [simulator.add_call(status="in-progress")]

    async def main() -> None:
        # One or two, by the version of Python.
        own_tasks = asyncio.all_tasks()
        for _ in range(3):
            async with watching(call_ids, poll_interval=0.02) as tasks:
                await gate.close_on_next_request()
            assert gate.left < gate.arrived, "they waited for the request"
            assert not poller._pollers
            assert [call_id for call_id, task in tasks.items() if not task.cancelled()] == []
            # Only the test is left in the loop, although the request is still in flight.
            await come_true(lambda: asyncio.all_tasks() == own_tasks, "the loop of the poller ends")
            assert poller_threads()
            before = len(simulator.requests)
            gate.is_open.set()
            await come_true(lambda: not poller_threads(), "the thread ends")
            assert len(simulator.requests) == before
        async with watching(call_ids, poll_interval=0.02) as tasks:
            simulator.end_call(call_ids[0])
            assert (await tasks[call_ids[0]]).status == "done"

    run_in_loop(main())


def test_thread_ends_after_request_in_flight(gate: Gate) -> None:
    simulator = gate.simulator
    call_id = simulator.add_call(status="in-progress")

    async def main() -> None:
        async with watching([call_id], poll_interval=0.02):
            await gate.close_on_next_request()
        gate.is_open.set()
        await come_true(lambda: not poller_threads(), "the thread ends")
        connections = simulator._server._state.connections
        await come_true(lambda: not connections, "the simulator has no connection any more")

    run_in_loop(main())


@pytest.mark.parametrize("rounds", range(8), ids="after {} rounds of the loop".format)
@pytest.mark.parametrize("first_interval", [30.0, 4.0])
def test_all_may_leave_right_after_an_urgent_join(world: World, rounds: int, first_interval: float) -> None:
    """The one who comes wakes the poller up; it must not miss, over that, that it is stopped."""
    call_ids = world.add_calls(2)

    async def main() -> None:
        async with watching(call_ids[:1], poll_interval=first_interval):
            # By now it sleeps.
            await asyncio.sleep(1)
            (only,) = poller._pollers.values()
            waiting = watching(call_ids[1:], poll_interval=1.0)
            await waiting.__aenter__()
            for _ in range(rounds):
                await asyncio.sleep(0)
            polling = only._loop_task
            for task in asyncio.all_tasks() - {asyncio.current_task(), polling}:
                task.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
            assert not poller._pollers
            await asyncio.wait({polling}, timeout=60)
            assert polling.done()
            await waiting.__aexit__(None, None, None)

    world.run(main())


def test_waiters_for_one_call_are_independent(world: World) -> None:
    (call_id,) = world.add_calls(1)

    async def main() -> None:
        waits = [asyncio.create_task(watch(Waiter(call_id, 5.0))) for _ in range(3)]
        await asyncio.sleep(6)
        waits[0].cancel()
        await asyncio.sleep(6)
        assert world.polls()[-1][0].path == f"/call/{call_id}"
        world.end(call_id)
        assert await world.seconds_until(*waits[1:]) <= 5.1
        assert [wait.result().status for wait in waits[1:]] == ["done", "done"]

    world.run(main())
    # One read a poll, however many want to know.
    assert {len(poll) for poll in world.polls()} == {1}


def test_call_can_be_waited_for_again(world: World) -> None:
    (call_id, other) = world.add_calls(2)

    async def main() -> None:
        async with watching([other]):
            for _ in range(3):
                async with watching([call_id]) as tasks:
                    await asyncio.sleep(7)
                    assert not tasks[call_id].done()
                await asyncio.sleep(7)
                assert f"/call/{call_id}" not in [request.path for request in world.polls()[-1]]
            async with watching([call_id]) as tasks:
                world.end(call_id)
                assert await world.seconds_until(tasks[call_id]) <= 5.1

    world.run(main())


def test_verdict_for_cancelled_waiter_is_harmless(world: World) -> None:
    call_ids = world.add_calls(4)

    async def main() -> None:
        async with watching(call_ids) as tasks:
            await asyncio.sleep(6)
            (only,) = poller._pollers.values()
            waiter = only._calls._calls[call_ids[0]].waiters[0]
            waiter.verdict.cancel()
            world.end(*call_ids[:2])
            await world.seconds_until(tasks[call_ids[1]])
            assert tasks[call_ids[1]].result().status == "done"
            world.end(call_ids[2])
            assert await world.seconds_until(tasks[call_ids[2]]) <= 5.1

    world.run(main())


def test_many_joins_and_leaves_lose_nothing(world: World) -> None:
    """Calls are placed, waited for, given up and waited for again, and end, at random and at once."""
    dice = random.Random(7)
    call_ids = world.add_calls(150)
    events: dict[str, int] = dict.fromkeys(call_ids, 0)

    async def wait_for(call_id: str) -> None:
        while not events[call_id]:
            await asyncio.sleep(dice.uniform(0, 20))
            waiter = Waiter(call_id, dice.choice((5.0, 7.0, 15.0)), dice.choice((None, *known[call_id])))
            with suppress(asyncio.TimeoutError):
                verdict = await asyncio.wait_for(watch(waiter), dice.choice((0.0, 3.0, 20.0, 200.0)))
                assert verdict.status == "done"
                assert world.simulator.get_call(call_id)["status"] == "ended"
                events[call_id] += 1

    known = {call_id: [instant] for call_id, instant in world.since(*call_ids).items()}

    async def main() -> None:
        waits = [asyncio.create_task(wait_for(call_id)) for call_id in call_ids]
        for call_id in dice.sample(call_ids, len(call_ids)):
            await asyncio.sleep(dice.uniform(0, 1))
            world.end(call_id)
        await asyncio.gather(*waits)

    world.run(main())
    assert set(events.values()) == {1}
    assert max(map(len, world.polls())) <= 20


def test_poller_logs_outside_any_task_context(world: World, caplog: pytest.LogCaptureFixture) -> None:
    import contextvars

    task_of_log: contextvars.ContextVar[str] = contextvars.ContextVar("task_of_log", default="none")
    seen: list[str] = []
    handler: Any = logging.Handler()
    handler.emit = lambda record: seen.append(task_of_log.get())
    logger = logging.getLogger("vapi_provider.polling.outage")
    logger.addHandler(handler)
    (call_id,) = world.add_calls(1)
    world.simulator.faults.add(Fault(status=500))

    async def main() -> None:
        task_of_log.set("the first trigger")
        async with watching([call_id]):
            await asyncio.sleep(12)

    try:
        world.run(main())
    finally:
        logger.removeHandler(handler)
    assert seen
    assert set(seen) == {"none"}


def test_nothing_is_left_after_event_loop_ends(
    run: Callable[..., Any], simulator: VapiSimulator, short_pauses: None
) -> None:
    call_ids = [simulator.add_call(status="in-progress") for _ in range(30)]

    async def main() -> None:
        for call_id in call_ids:
            asyncio.get_running_loop().create_task(watch(Waiter(call_id, 0.02)), name=call_id)
        await come_true(lambda: len(simulator.requests) > 30, "a few polls")

    # As at the end of a triggerer: asyncio.run() cancels what is left.
    asyncio.run(main())
    assert not poller._pollers
