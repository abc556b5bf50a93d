# SPDX-License-Identifier: Apache-2.0
"""Asset triggers beside calls that fail, walks that are interrupted, and lists that are late: no end is missed."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest
import requests
from end_listening import AssetStore, listening
from polling_world import World, watching, written
from virtual_time import until

from vapi_provider.simulator import Fault
from vapi_provider.triggers.ended import VapiCallEndedTrigger

NOT_FOUND = '{"message": "Not found", "error": "Not Found", "statusCode": 404}'


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    # Airflow's own logger writes past pytest.
    monkeypatch.setattr(VapiCallEndedTrigger, "log", logging.getLogger("vapi_provider.trigger"))
    caplog.set_level(logging.INFO, logger="vapi_provider")


def break_call(world: World, call_id: str, **fault: Any) -> None:
    """Make each request for a call fail."""
    world.simulator.faults.add(Fault(path=f"/call/{call_id}", times=None, **{"status": 500, **fault}))


# One call fails


@pytest.mark.parametrize("is_awaited", [True, False], ids=["awaited", "live"])
def test_list_recovers_although_one_call_fails(world: World, is_awaited: bool) -> None:
    async def main() -> None:
        async with listening(poll_interval=60) as heard:
            bad, other = world.add_calls(2, age=10)
            async with watching([bad] if is_awaited else [], poll_interval=60):
                await asyncio.sleep(200)
                break_call(world, bad)
                world.simulator.faults.add(Fault(path="/call", times=1, status=503))
                await asyncio.sleep(100)
                world.end(other)
                # Only the list shows this one.
                (unseen,) = world.add_calls(1, age=0)
                world.end(unseen)
                await asyncio.sleep(600)
                assert sorted(heard.call_ids) == sorted([other, unseen])

    world.run(main())


def test_list_recovers_for_tasks_although_one_call_fails(world: World) -> None:
    call_ids = world.add_calls(200, age=10)

    async def main() -> None:
        async with watching(call_ids, poll_interval=15, since=world.since(*call_ids)) as tasks:
            await asyncio.sleep(100)
            break_call(world, call_ids[0])
            world.simulator.faults.add(Fault(path="/call", times=1, status=503))
            await asyncio.sleep(60)
            world.end(*call_ids[1:])
            assert await world.seconds_until(*(tasks[call_id] for call_id in call_ids[1:])) <= 120

    world.run(main())


def test_stopped_poll_sends_nothing_more(world: World) -> None:
    """The list is down, and the last trigger leaves while a call is read."""

    async def main() -> None:
        async with listening(poll_interval=60):
            world.add_calls(1, age=10)
            await asyncio.sleep(130)
            world.simulator.faults.add(Fault(path="/call", times=None, status=503))
            await asyncio.sleep(70)
            world.request_seconds = 0.4
            sent = len(world.simulator.requests)
            await until(lambda: len(world.simulator.requests) > sent)
            assert world.simulator.requests[-1].path != "/call"
            sent = len(world.simulator.requests)
        await asyncio.sleep(10)
        assert len(world.simulator.requests) == sent

    world.run(main())


def test_one_call_that_fails_slows_no_listener(world: World) -> None:
    async def main() -> None:
        async with listening(poll_interval=60) as heard:
            (bad,) = world.add_calls(1, age=10)
            await asyncio.sleep(130)
            break_call(world, bad)
            await asyncio.sleep(7_200)
            call_ids = world.add_calls(1, age=0)
            world.end(*call_ids)
            await asyncio.sleep(125)
            assert heard.call_ids == call_ids

    world.run(main())


@pytest.mark.parametrize("is_awaited", [True, False], ids=["awaited", "live"])
def test_call_that_fails_starves_no_other_group(world: World, is_awaited: bool) -> None:
    bad, good = world.add_calls(2, age=1_800)
    awaited, live = (bad, good) if is_awaited else (good, bad)

    async def main() -> None:
        async with listening(poll_interval=60) as heard:
            # The list shows it as live.
            world.change(live)
            async with watching([awaited], poll_interval=60) as tasks:
                await asyncio.sleep(400)
                break_call(world, bad)
                await asyncio.sleep(200)
                world.end(good, quietly=True)
                await asyncio.sleep(250)
                assert heard.call_ids == [good]
                assert tasks[awaited].done() is not is_awaited

    world.run(main())


def test_slow_vapi_starves_no_live_call(world: World) -> None:
    live, *awaited = world.add_calls(41, age=10)
    world.request_seconds = 0.45

    async def main() -> None:
        async with listening(poll_interval=5) as heard, watching(awaited, poll_interval=5):
            await asyncio.sleep(200)
            world.end(live, quietly=True)
            await asyncio.sleep(60)
            assert heard.call_ids == [live]

    world.run(main())


def test_call_that_cannot_be_read_is_logged_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with listening(poll_interval=60):
            call_ids = world.add_calls(3, age=10)
            await asyncio.sleep(65)
            for call_id in call_ids:
                break_call(world, call_id, status=404, body=NOT_FOUND)
            for number in range(5):
                world.change(*call_ids, name=f"Renamed {number}")
                await asyncio.sleep(60)

    world.run(main())
    assert caplog.text.count("cannot be read individually") == 3


# Joining


@pytest.mark.parametrize("kept", [False, True], ids=["new", "restarted"])
def test_listener_that_joins_in_a_walk_hears_its_first_pages(world: World, kept: bool) -> None:
    store = AssetStore()
    is_broken = False

    def break_second_page(query: dict[str, str], fetch: Any) -> Any:
        nonlocal is_broken
        if "createdAtLe" in query and not is_broken:
            is_broken = True
            raise requests.ConnectionError(ConnectionResetError())
        return fetch(query)

    async def main() -> None:
        async with listening(poll_interval=60):
            if kept:
                async with listening(poll_interval=60, lookback=901, store=store):
                    await asyncio.sleep(300)
            await asyncio.sleep(130)
            call_ids = world.add_calls(60, age=0, spacing=0.1)
            # The first page has the calls that ended first, so no overlap shows them again.
            world.end(*reversed(call_ids), within=55)
            world.lie(break_second_page)
            await until(lambda: is_broken)
            async with listening(poll_interval=60, lookback=901, store=store) as second:
                await asyncio.sleep(300)
                assert sorted(second.call_ids) == sorted(call_ids)

    world.run(main())


def test_listener_that_joins_between_two_pages_hears_both(world: World) -> None:
    world.request_seconds = 0.4
    pages = 0

    def count(query: dict[str, str], fetch: Any) -> Any:
        nonlocal pages
        pages += "createdAtLe" in query
        return fetch(query)

    async def main() -> None:
        async with listening(poll_interval=60):
            await asyncio.sleep(130)
            call_ids = world.add_calls(300, age=0, spacing=0.01)
            # The first page has the calls that ended first, so no overlap shows them again.
            world.end(*reversed(call_ids), within=55)
            world.lie(count)
            await until(lambda: pages)
            async with listening(poll_interval=60, lookback=901) as second:
                await asyncio.sleep(300)
                assert sorted(second.call_ids) == sorted(call_ids)

    world.run(main())


def test_listeners_that_come_and_go_stop_no_walk(world: World) -> None:
    async def main() -> None:
        async with listening(poll_interval=60) as first:
            await asyncio.sleep(130)
            # Several polls of large pages.
            call_ids = world.add_calls(100, age=0, spacing=0.01, transcript="x" * 400_000)
            world.end(*call_ids, within=55)
            for number in range(12):
                async with listening(poll_interval=60, lookback=10 + number):
                    await asyncio.sleep(60)
            assert sorted(first.call_ids) == sorted(call_ids)

    world.run(main())


@pytest.mark.parametrize("fails_at_first", [False, True], ids=["up", "down at first"])
def test_first_poll_of_a_listener_is_soon(world: World, fails_at_first: bool) -> None:
    if fails_at_first:
        world.simulator.faults.add(Fault(times=5, status=503))

    async def main() -> None:
        (call_id,) = world.add_calls(1, age=0)
        world.end(call_id)
        async with listening(poll_interval=86_400) as heard:
            await asyncio.sleep(600 if fails_at_first else 6)
            assert heard.call_ids == [call_id]
            polls = len(world.polls())
            await asyncio.sleep(80_000)
            assert len(world.polls()) == polls
            async with listening(poll_interval=3_600, lookback=86_400) as second:
                await asyncio.sleep(6)
                assert second.call_ids == [call_id]

    world.run(main())


# A list that is late


@pytest.mark.parametrize("seconds", [8, 28])
def test_end_that_the_list_shows_late_is_reported(world: World, seconds: float) -> None:
    hidden: dict[str, Any] = {}

    def be_late(query: dict[str, str], fetch: Any) -> Any:
        now = world.simulator.clock.now()
        return [row for row in fetch(query) if hidden.get(row["id"], now) <= now]

    world.lie(be_late)

    async def main() -> None:
        ended = []
        async with listening(poll_interval=60) as heard:
            await asyncio.sleep(200)
            for _ in range(20):
                late, other = world.add_calls(2, age=0)
                world.end(late)
                hidden[late] = world.simulator.clock.now() + timedelta(seconds=seconds)
                # It proves that the list is up to date, which it is not.
                await asyncio.sleep(7.3)
                world.end(other)
                ended += [late, other]
                await asyncio.sleep(33.1)
            await asyncio.sleep(300)
            assert sorted(heard.call_ids) == sorted(ended)

    world.run(main())


# Scheduled calls


def test_scheduled_call_that_never_took_place_is_reported(world: World) -> None:
    async def main() -> None:
        async with listening(poll_interval=60) as heard:
            await asyncio.sleep(130)
            now = world.simulator.clock.now()
            call_id = world.simulator.add_call(
                status="scheduled",
                body={
                    "createdAt": written(now),
                    "updatedAt": written(now),
                    "schedulePlan": {"earliestAt": written(now + timedelta(hours=2))},
                },
            )
            await asyncio.sleep(7_230)
            world.change(call_id, status="ended", endedReason="call.start.error-get-phone-number")
            await asyncio.sleep(125)
            assert heard.call_ids == [call_id]

    world.run(main())
