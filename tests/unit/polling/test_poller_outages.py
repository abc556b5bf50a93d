# SPDX-License-Identifier: Apache-2.0
"""Rate limits, outages and proxies: what slows a poller down, what ends a wait, and what is logged."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest
from case_tables import in_turn, row_and_diagonal
from polling_world import World, verdicts, watching

from vapi_provider.polling.connection import CONNECTION_SECONDS
from vapi_provider.simulator import Fault

INTERVAL = 10.0
NUMBERS = [3, 40]
"""Of calls: up to 20 are read one by one, and of more the list is read first."""

HTML = "<html><head><title>Not for you</title></head></html>"


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    """Return what the package has logged so far."""
    caplog.set_level(logging.INFO, logger="vapi_provider")

    def lines() -> list[tuple[str, str]]:
        return [
            (record.levelname, record.getMessage())
            for record in caplog.records
            if record.name.startswith("vapi_provider.polling")
        ]

    return lines


def starts(world: World) -> list[datetime]:
    return [poll[0].at for poll in world.polls()]


def gaps(world: World) -> list[float]:
    return [(later - earlier).total_seconds() for earlier, later in pairwise(starts(world))]


FAILURES = {
    "429": Fault(status=429, times=None),
    "503": Fault(status=503, times=None),
    "Cloudflare's 520": Fault(status=520, body=HTML, content_type="text/html", times=None),
    "a page in place of JSON": Fault(body=HTML, content_type="text/html", times=None),
    "an empty body": Fault(body="", times=None),
    "a reset": Fault(reset="before", times=None),
}


@pytest.mark.parametrize(("fault", "number"), in_turn(FAILURES, NUMBERS))
def test_failure_ends_the_poll_and_backs_off(world: World, fault: Fault, number: int) -> None:
    call_ids = world.add_calls(number)

    async def main() -> None:
        async with watching(call_ids, poll_interval=INTERVAL) as tasks:
            world.simulator.faults.add(fault)
            await asyncio.sleep(300)
            assert verdicts(tasks) == {}

    world.run(main())
    # While the list is down, one call and then the list.
    assert {len(poll) for poll in world.polls()[1:]} == {1 if number <= 20 else 2}
    pauses = gaps(world)
    assert len(pauses) >= 13
    assert min(pauses) >= INTERVAL
    assert max(pauses) <= 2 * INTERVAL + 0.1
    # With jitter: a thousand triggerers would not come back at once.
    assert max(pauses) - min(pauses) > INTERVAL / 4


@pytest.mark.parametrize(
    ("begin", "number"),
    [
        pytest.param(
            lambda world: world.simulator.faults.add(Fault(status=429, times=None)), 3, id="rate limit"
        ),
        pytest.param(lambda world: world.simulator.stop(), 40, id="outage"),
    ],
)
def test_recovery_is_noticed_within_two_intervals(
    world: World, number: int, begin: Callable[[World], None]
) -> None:
    call_ids = world.add_calls(number)
    ended = call_ids[-1]
    took = []

    async def main() -> None:
        async with watching(call_ids, poll_interval=INTERVAL, since=world.since(*call_ids)) as tasks:
            for round_ in range(4):
                await asyncio.sleep(23 + round_ * 1.7)
                begin(world)
                await asyncio.sleep(60 + round_ * 3.1)
                world.simulator.faults.clear()
                world.simulator.stop()
                world.simulator.start()
                restored = world.simulator.clock.now()
                await asyncio.sleep(2 * INTERVAL + 1)
                first = next(request.at for request in world.simulator.requests if request.at >= restored)
                took.append((first - restored).total_seconds())
            world.end(ended)
            assert await world.seconds_until(tasks[ended]) <= INTERVAL + 0.1

    world.run(main())
    assert max(took) <= 2 * INTERVAL + 0.1


@pytest.mark.parametrize(
    "trouble",
    [
        None,
        Fault(status=429, times=None),
        Fault(status=502, body=HTML, content_type="text/html", times=None),
        Fault(reset="before", times=None),
    ],
    ids=["connection refused", "429", "a page in place of JSON", "resets"],
)
def test_ends_during_outage_are_found_right_after_it(world: World, trouble: Fault | None) -> None:
    """It fits into the pages of one poll."""
    call_ids = world.add_calls(400)
    ended = call_ids[::2]

    async def main() -> None:
        async with watching(call_ids, poll_interval=INTERVAL, since=world.since(*call_ids)) as tasks:
            await asyncio.sleep(25)
            if trouble is None:
                world.simulator.stop()
            else:
                world.simulator.faults.add(trouble)
            for turn in range(10):
                await asyncio.sleep(20)
                world.end(*ended[turn::10], within=15)
            world.simulator.faults.clear()
            if trouble is None:
                world.simulator.start()
            # Two intervals to the poll that finds Vapi back, and one more to that which reads what is new.
            took = await world.seconds_until(*(tasks[call_id] for call_id in ended))
            assert took <= 3 * INTERVAL + 0.1

    world.run(main())


def rows_asked_for(requests: list[Any]) -> list[int]:
    return [int(request.query["limit"]) for request in requests if request.path == "/call" and request.status]


@pytest.mark.parametrize(
    "trouble", [None, Fault(reset="before", times=None)], ids=["connection refused", "resets"]
)
def test_outage_does_not_shrink_pages(world: World, trouble: Fault | None) -> None:
    """A refused connection does not mean that a page was too large."""
    call_ids = world.add_calls(60, spacing=0)

    async def main() -> None:
        async with watching(call_ids, poll_interval=INTERVAL, since=world.since(*call_ids)) as tasks:
            await asyncio.sleep(25)
            if trouble is None:
                world.simulator.stop()
            else:
                world.simulator.faults.add(trouble)
            await asyncio.sleep(120)
            world.simulator.faults.clear()
            if trouble is None:
                world.simulator.start()
            before = len(world.simulator.requests)
            world.end(*call_ids[::2])
            await world.seconds_until(*(tasks[call_id] for call_id in call_ids[::2]))
            earlier, later = world.simulator.requests[:before], world.simulator.requests[before:]
            assert rows_asked_for(later)[0] >= rows_asked_for(earlier)[-1] > 1

    world.run(main())


PAUSES = [(0, 10), (3, 10), (45, 45), (600, 600), (3_600, 3_600), (10**9, 3_600)]


@pytest.mark.parametrize(
    ("asked", "granted", "as_date"), row_and_diagonal(PAUSES, {"seconds": False, "date": True})
)
def test_retry_after_is_granted_up_to_an_hour(
    make_world: Callable[..., World], asked: int, granted: float, as_date: bool
) -> None:
    world = make_world(off=timedelta(minutes=-11))
    call_ids = world.add_calls(3)

    async def main() -> None:
        async with watching(call_ids, poll_interval=INTERVAL):
            await asyncio.sleep(INTERVAL - 1)
            # The poll comes in a second; a date has whole seconds of Vapi's own clock.
            until = world.simulator.clock.now() + timedelta(seconds=1 + min(asked, 10**8))
            header = format_datetime(until, usegmt=True) if as_date else str(asked)
            world.simulator.faults.add(Fault(status=429, headers={"Retry-After": header}))
            await asyncio.sleep(max(granted, 2 * INTERVAL) + 3)

    world.run(main())
    # Not much longer either, whatever the jitter: a second of it beside what was asked.
    assert len(world.polls()) >= 2
    assert granted - 1 <= gaps(world)[0] <= max(granted + 2, 2 * INTERVAL + 0.1)


def test_outage_is_logged_once_at_begin_and_end(
    world: World, logged: Callable[[], list[tuple[str, str]]]
) -> None:
    call_ids = world.add_calls(3)

    async def main() -> None:
        async with watching(call_ids, poll_interval=INTERVAL):
            await asyncio.sleep(25)
            assert not logged()
            world.simulator.faults.add(Fault(status=429, times=2))
            world.simulator.faults.add(Fault(status=502, times=5))
            await asyncio.sleep(60)
            assert len(logged()) == 1
            await asyncio.sleep(100)
            assert len(logged()) == 2
            world.simulator.stop()
            await asyncio.sleep(60)
            world.simulator.start()
            await asyncio.sleep(30)

    world.run(main())
    assert [level for level, _ in logged()] == ["WARNING", "INFO"] * 2
    first, second, third, fourth = (message for _, message in logged())
    assert "3 calls" in first
    assert "429" in first
    assert "'vapi_default'" in first
    assert "works again" in second
    assert "works again" in fourth
    assert "failed: " in third
    assert world.simulator.api_key not in f"{logged()}"


def test_refused_list_is_logged_once_and_calls_are_read(
    world: World, logged: Callable[[], list[tuple[str, str]]]
) -> None:
    call_ids = world.add_calls(60)
    took = []

    async def main() -> None:
        since = world.since(*call_ids)
        async with watching(call_ids, poll_interval=INTERVAL, since=since) as tasks:
            world.simulator.faults.add(Fault(path="/call", status=400, times=None))
            for call_id in call_ids[::12]:
                await asyncio.sleep(17)
                world.end(call_id)
                took.append(await world.seconds_until(tasks[call_id]))
            ((level, message),) = logged()
            assert level == "WARNING"
            # The list is asked for again and again.
            assert "will not help" not in message
            world.simulator.faults.clear()
            await asyncio.sleep(2 * INTERVAL)
            assert [level for level, _ in logged()] == ["WARNING", "INFO"]
            world.end(call_ids[1])
            assert await world.seconds_until(tasks[call_ids[1]]) <= INTERVAL + 0.1

    world.run(main())
    # 19 of them are read in each poll.
    assert max(took) <= 4 * INTERVAL + 0.1
    assert max(map(len, world.polls())) <= 20


@pytest.mark.parametrize(
    "fault",
    [
        Fault(path="/call", status=500, times=None),
        Fault(path="/call", body=HTML, content_type="text/html", times=None),
        Fault(path="/call", body="[]" * 3, times=None),
        Fault(path="/call", body='{"results": []}', times=None),
        Fault(path="/call", reset="midway", times=None),
    ],
    ids=["500", "a page in place of JSON", "broken JSON", "an object", "cut off"],
)
def test_failing_list_hides_no_end(
    world: World, fault: Fault, logged: Callable[[], list[tuple[str, str]]]
) -> None:
    call_ids = world.add_calls(60)
    took = []

    async def main() -> None:
        since = world.since(*call_ids)
        async with watching(call_ids, poll_interval=INTERVAL, since=since) as tasks:
            world.simulator.faults.add(fault)
            for call_id in call_ids[::25]:
                await asyncio.sleep(17)
                world.end(call_id)
                took.append(await world.seconds_until(tasks[call_id]))

    world.run(main())
    # 19 of them in each poll, and these are twice as far apart as else.
    assert max(took) <= 2 * 4 * INTERVAL + 0.1
    assert [level for level, _ in logged()] == ["WARNING"]


def test_unknown_call_ends_only_its_own_wait(world: World) -> None:
    call_ids = world.add_calls(40)
    unknown = str(uuid.uuid4())

    async def main() -> None:
        async with watching([*call_ids, unknown]) as tasks:
            await world.seconds_until(tasks[unknown])
            verdict = tasks[unknown].result()
            assert verdict.status == "error"
            assert unknown in verdict.message
            assert "404" in verdict.message
            await asyncio.sleep(30)
            assert verdicts(tasks, call_ids) == {}
            world.end(*call_ids)
            assert await world.seconds_until(*(tasks[call_id] for call_id in call_ids)) <= 5.1
            assert {tasks[call_id].result().status for call_id in call_ids} == {"done"}

    world.run(main())
    # It delayed no other call.
    assert max(gaps(world)) <= 5.1


def proxys(status: int, body: str, content_type: str = "application/json") -> Any:
    return pytest.param({"status": status, "body": body, "content_type": content_type}, id=f"{status} {body}")


PROXY_PAGES = [
    proxys(404, HTML, "text/html"),
    proxys(404, ""),
    proxys(404, '{"message": "no Route matched with those values"}'),
    proxys(404, '{"message": "Not Found", "statusCode": 403}'),
    proxys(404, "[]"),
    proxys(403, HTML, "text/html"),
    proxys(403, "error code: 1010", "text/plain"),
    proxys(403, '{"message": "Forbidden"}'),
    proxys(302, ""),
]


@pytest.mark.parametrize(("page", "number"), in_turn(PROXY_PAGES, NUMBERS))
def test_proxy_page_ends_no_wait(world: World, page: dict[str, Any], number: int) -> None:
    call_ids = world.add_calls(number)

    async def main() -> None:
        async with watching(call_ids) as tasks:
            await asyncio.sleep(7)
            world.simulator.faults.add(Fault(**page, times=None))
            await asyncio.sleep(CONNECTION_SECONDS + 60)
            assert verdicts(tasks) == {}
            world.simulator.faults.clear()
            world.end(*call_ids)
            # Two intervals to the next poll, and one more for calls that it does not reach.
            assert await world.seconds_until(*tasks.values()) <= 3 * 5 + 0.1
            assert {task.result().status for task in tasks.values()} == {"done"}

    world.run(main())


@pytest.mark.parametrize(("bad", "number"), [(1, 3), (3, 40)], ids="for {}".format)
def test_proxy_page_for_one_call_hides_no_other_end(world: World, number: int, bad: int) -> None:
    call_ids = world.add_calls(number)
    spoilt, sound = call_ids[:bad], call_ids[bad:] + world.add_calls(2)
    for call_id in spoilt:
        page = Fault(path=f"/call/{call_id}", status=404, body=HTML, content_type="text/html", times=None)
        world.simulator.faults.add(page)

    async def main() -> None:
        async with watching(spoilt + sound) as tasks:
            await asyncio.sleep(40)
            world.end(*sound[-2:])
            # Each poll ends with the first page of this kind, and the next one is slow to come.
            waiting = [tasks[call_id] for call_id in sound[-2:]]
            assert await world.seconds_until(*waiting) <= (bad + 1) * 2 * 5
            assert verdicts(tasks, spoilt) == {}

    world.run(main())


def test_provider_defect_is_logged_and_ends_no_wait(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (call_id,) = world.add_calls(1)
    caplog.set_level(logging.INFO, logger="vapi_provider")

    async def main() -> None:
        async with watching([call_id]) as tasks:
            with monkeypatch.context() as broken:
                broken.setattr(
                    "vapi_provider.models.call.CallStatusView.is_terminal", property(lambda _: 1 / 0)
                )
                await asyncio.sleep(30)
            assert not tasks[call_id].done()
            world.end(call_id)
            assert await world.seconds_until(tasks[call_id]) <= 2 * 5 + 0.1

    world.run(main())
    assert any("ZeroDivisionError" in (record.exc_text or "") for record in caplog.records)


def test_connections_have_different_jitter(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", world.simulator.connection)
    call_ids = world.add_calls(2)
    world.simulator.faults.add(Fault(status=503, times=None))

    async def main() -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(watching(call_ids[:1], conn_id="vapi_default"))
            await stack.enter_async_context(watching(call_ids[1:], conn_id="other"))
            await asyncio.sleep(60)

    world.run(main())
    began = world.simulator.requests[0].at
    # Two rounds of the loop are never at quite the same time.
    instants = [round((request.at - began).total_seconds(), 3) for request in world.simulator.requests]
    assert instants[0] == instants[1]
    assert len(set(instants[2:])) == len(instants[2:])
