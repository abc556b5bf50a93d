# SPDX-License-Identifier: Apache-2.0
"""Lists of calls that are not as the poller expects: ends that they hide are found anyway."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from math import ceil
from typing import Any

import pytest
from polling_world import Lie, World, read, watching, written

from vapi_provider.simulator import Fault

Fetch = Callable[[Mapping[str, str]], Any]
Query = dict[str, str]

NUMBER = 48
IN_TURN = ceil(NUMBER / 6) + 1
"""So many polls it takes at most to read each call, whatever the list hides."""


def all_that_match(query: Query, fetch: Fetch) -> Any:
    return fetch({**query, "limit": "1000"})


def in_no_order(query: Query, fetch: Fetch) -> Any:
    rows = all_that_match(query, fetch)
    random.Random(1).shuffle(rows)
    return rows[: int(query["limit"])]


def oldest_first(query: Query, fetch: Fetch) -> Any:
    return all_that_match(query, fetch)[::-1][: int(query["limit"])]


def each_row_twice(query: Query, fetch: Fetch) -> Any:
    return [row for row in fetch(query) for _ in range(2)][: int(query["limit"])]


def rows_that_are_no_calls(query: Query, fetch: Fetch) -> Any:
    rubbish = [None, 7, {"status": "ended"}, {"id": None}, [], {"id": {}}]
    rows = fetch(query)
    for place in range(0, len(rows), 30):
        rows.insert(place, rubbish[place // 30 % len(rubbish)])
    return rows[: int(query["limit"])]


def more_than_asked_for(query: Query, fetch: Fetch) -> Any:
    return all_that_match(query, fetch)


def offsets_in_place_of_z(query: Query, fetch: Fetch) -> Any:
    rows = fetch(query)
    for row in rows:
        for name in ("createdAt", "updatedAt"):
            row[name] = (read(row[name]) + timedelta(hours=2)).isoformat()[:-6] + "+02:00"
    return rows


@pytest.mark.parametrize(
    "honest_enough",
    [
        each_row_twice,
        more_than_asked_for,
        offsets_in_place_of_z,
    ],
    ids=lambda lie: lie.__name__,
)
def test_odd_but_complete_list_shows_end_in_next_poll(world: World, honest_enough: Lie) -> None:
    call_ids = world.add_calls(NUMBER)
    others = world.add_calls(120, age=590)
    world.lie(honest_enough)

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids)) as tasks:
            for pause, ended in ((6, call_ids[:30:3]), (13, call_ids[1::9]), (2, call_ids[2::9])):
                await asyncio.sleep(pause)
                changed = [*others, *ended]
                random.Random(2).shuffle(changed)
                world.change(*changed, within=1)
                world.end(*ended, within=1)
                waiting = [tasks[call_id] for call_id in ended if not tasks[call_id].done()]
                assert await world.seconds_until(*waiting) <= 5.1

    world.run(main())


def test_broken_rows_hide_no_others(world: World) -> None:
    """A page with one of them still counts as full, and the pages after it are read."""
    call_ids = world.add_calls(NUMBER)
    others = world.add_calls(120, age=590)
    world.lie(rows_that_are_no_calls)

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids)) as tasks:
            await asyncio.sleep(6)
            ended = call_ids[::4]
            world.change(*others, *ended, within=1)
            world.end(*ended, within=1)
            assert await world.seconds_until(*(tasks[call_id] for call_id in ended)) <= 5.1

    world.run(main())


def nothing(query: Query, fetch: Fetch) -> Any:
    fetch(query)
    return []


def everything_is_live(query: Query, fetch: Fetch) -> Any:
    return [{**row, "status": "in-progress"} for row in fetch(query)]


def no_status(query: Query, fetch: Fetch) -> Any:
    return [{name: value for name, value in row.items() if name != "status"} for row in fetch(query)]


def other_calls(query: Query, fetch: Fetch) -> Any:
    return [{**row, "id": row["id"][::-1]} for row in fetch(query)]


def nothing_but_rubbish(query: Query, fetch: Fetch) -> Any:
    return [None for _ in fetch(query)]


def always_the_same_page(query: Query, fetch: Fetch) -> Any:
    # Every filter is ignored, and the newest calls are not the ones waited for.
    return fetch({"limit": query["limit"]})


def always_one_row(query: Query, fetch: Fetch) -> Any:
    return fetch({"limit": "1"}) * int(query["limit"])


def ignores_the_range_of_updated_at(query: Query, fetch: Fetch) -> Any:
    return fetch({name: value for name, value in query.items() if not name.startswith("updatedAt")})


def dates_shifted(**by: float) -> Lie:
    def lie(query: Query, fetch: Fetch) -> Any:
        rows = fetch(query)
        for row in rows:
            row["updatedAt"] = written(read(row["updatedAt"]) + timedelta(**by))
        return rows

    lie.__name__ = f"updated_at_shifted_by_{by}"
    return lie


def dates_unreadable(query: Query, fetch: Fetch) -> Any:
    return [{**row, "updatedAt": "yesterday", "createdAt": 17} for row in fetch(query)]


def one_row_from_the_future(query: Query, fetch: Fetch) -> Any:
    return [{**row, "updatedAt": "2999-01-01T00:00:00.000Z"} for row in fetch(query)[:1]]


@pytest.mark.parametrize(
    "lies",
    [
        in_no_order,
        oldest_first,
        nothing,
        everything_is_live,
        no_status,
        other_calls,
        nothing_but_rubbish,
        always_the_same_page,
        always_one_row,
        ignores_the_range_of_updated_at,
        dates_shifted(minutes=1.5),
        dates_shifted(minutes=30),
        dates_shifted(days=10),
        dates_shifted(minutes=-30),
        dates_unreadable,
        one_row_from_the_future,
    ],
    ids=lambda lie: lie.__name__,
)
def test_hidden_ends_are_found_by_turn(world: World, lies: Lie) -> None:
    call_ids = world.add_calls(NUMBER)
    others = world.add_calls(110, age=0)
    world.lie(lies)

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids)) as tasks:
            await asyncio.sleep(11)
            world.change(*others)
            world.end(*call_ids[::9])
            waiting = [tasks[call_id] for call_id in call_ids[::9]]
            assert await world.seconds_until(*waiting) <= 5 * IN_TURN + 0.1
            assert {task.result().status for task in waiting} == {"done"}
            assert not tasks[call_ids[2]].done()

    world.run(main())
    assert max(map(len, world.polls())) <= 20


@pytest.mark.parametrize("off", [timedelta(minutes=10), timedelta(minutes=-10)], ids="{} ahead".format)
def test_missing_date_header_is_harmless(make_world: Callable[..., World], off: timedelta) -> None:
    """Our own clock takes the place of the missing one, however far that is off."""
    world = make_world(off)
    call_ids = world.add_calls(60)
    world.lie(lambda query, fetch: fetch(query))
    world.simulator.faults.add(Fault(times=None, headers={"Date": "never"}))

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids)) as tasks:
            for call_id in call_ids[::20]:
                await asyncio.sleep(7)
                world.end(call_id)
                assert await world.seconds_until(tasks[call_id]) <= 5 * (60 / 6 + 1)

    world.run(main())


def test_oversized_call_is_left_to_a_worker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vapi_provider.polling.connection.MAX_RESPONSE_BYTES", 50_000)
    call_ids = world.add_calls(NUMBER)
    (huge,) = world.add_calls(1, transcript="x" * 60_000)

    async def main() -> None:
        async with watching([*call_ids, huge], since=world.since(*call_ids, huge)) as tasks:
            await asyncio.sleep(6)
            world.change(huge)
            world.end(*call_ids[::9])
            waiting = [tasks[call_id] for call_id in call_ids[::9]]
            assert await world.seconds_until(*waiting) <= 5 * IN_TURN
            # Only a worker can read this one.
            await world.seconds_until(tasks[huge])
            assert tasks[huge].result().status == "done"

    world.run(main())
    assert max(map(len, world.polls())) <= 20


def test_oversized_call_does_not_blind_the_poller(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first request for the list asks for one call, to learn Vapi's time."""
    monkeypatch.setattr("vapi_provider.polling.connection.MAX_RESPONSE_BYTES", 100_000)
    caplog.set_level(logging.WARNING)
    call_ids = world.add_calls(200)
    world.add_calls(1, age=300, transcript="x" * 110_000)

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids)) as tasks:
            await asyncio.sleep(6)
            world.end(call_ids[100])
            assert await world.seconds_until(tasks[call_ids[100]]) <= 5.1
            await asyncio.sleep(60)

    world.run(main())
    # It was given up while catching up; by now it costs nothing any more.
    assert sum(request.path == "/call" for request in world.polls()[-1]) < 5
