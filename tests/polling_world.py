# SPDX-License-Identifier: Apache-2.0
"""Shared by the tests of poller and triggers: a world on a virtual clock, waits, and a check that nothing is left."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from unittest.mock import Mock
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import requests
from virtual_time import REAL_SECONDS, VirtualClock, run_virtually

from vapi_provider.polling import poller
from vapi_provider.polling.calls import Verdict, Waiter
from vapi_provider.polling.poller import CallPoller
from vapi_provider.simulator import VapiSimulator

if TYPE_CHECKING:
    import requests_mock

    from vapi_provider.simulator.request_log import RequestRecord

T = TypeVar("T")

Lie = Callable[[dict[str, str], Callable[[Mapping[str, str]], Any]], Any]
"""Makes the body of a list, out of the query and a way to ask an honest list."""

CONN_ID = "vapi_default"
THREADS = "vapi-call-poller"
"""The start of the name of a poller's thread."""
PORTS = itertools.count(20_000)
"""Of simulators that no socket leads to."""


async def _finish(main: Awaitable[T]) -> T:
    """Run a test's coroutine, and check that it leaves no task behind."""
    result = await main
    ends_at = time.monotonic() + 60
    while left := asyncio.all_tasks() - {asyncio.current_task()}:
        # A task that was cancelled needs a round or two of the loop.
        assert time.monotonic() < ends_at, f"tasks are left: {left}"
        await asyncio.sleep(0)
    return result


def run_in_loop(main: Coroutine[Any, Any, T], seconds: float = REAL_SECONDS) -> T:
    """
    Run a coroutine in an event loop of its own, in real time, and check that no task is left.

    :param main: the coroutine
    :param seconds: how long that may take
    """

    async def limited() -> T:
        return await _finish(asyncio.wait_for(main, seconds))

    return asyncio.run(limited())


class VapiClock:
    """
    Vapi's clock, for the simulator: it runs with ours, at an offset.

    :param ours: our clock
    :param off: how far Vapi's is ahead
    """

    def __init__(self, ours: VirtualClock, off: timedelta = timedelta()) -> None:
        self.off = off
        self._ours = ours

    def now(self) -> datetime:
        return self._ours.utc() + self.off


class InProcessSimulator(VapiSimulator):
    """A simulator that answers without a socket, and so within no time."""

    def __init__(self, **options: Any) -> None:
        super().__init__(port=next(PORTS), **options)
        self._store.base_url = self.url
        self._is_up = True

    def start(self) -> None:
        assert not self._is_up
        self._is_up = True

    def stop(self) -> None:
        self._is_up = False

    def answer(self, url: str, headers: Mapping[str, str], context: Any) -> bytes:
        """Answer GET, for requests-mock; the application never waits, so no event loop is needed."""
        if not self._is_up:
            raise requests.ConnectionError(ConnectionRefusedError())
        sent: list[Any] = []
        received = iter(({"type": "http.request", "body": b""}, {"type": "http.disconnect"}))
        transport = Mock()
        transport.get_write_buffer_size.return_value = 0

        async def receive() -> dict[str, Any]:
            return next(received)

        async def send(message: Any) -> None:
            sent.append(message)

        parts = urlsplit(url)
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": parts.query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "state": {"transport": transport},
        }
        answering: Any = self.app(scope, receive, send)  # type: ignore[arg-type]
        with suppress(StopIteration):
            answering.send(None)
            raise AssertionError("the simulator waits for something")
        if transport.abort.called:
            raise requests.ConnectionError(ConnectionResetError())
        start, body = sent
        context.status_code = start["status"]
        context.headers.update({name.decode().title(): value.decode() for name, value in start["headers"]})
        return bytes(body["body"])


def use_clock(clock: VirtualClock, patch: pytest.MonkeyPatch) -> None:
    """Put the triggers and the poller on a clock."""
    for module in (
        "triggers.call",
        "polling.connection",
        "polling.changes",
        "polling.calls",
        "polling.listeners",
        "polling.outage",
        "polling.poller",
        "triggers.ended",
    ):
        patch.setattr(f"vapi_provider.{module}.time", clock)


class World:
    """
    A simulator and an event loop, both on one virtual clock.

    :param simulator: the simulator
    :param clock: our clock
    :param mocker: where the requests go through
    """

    def __init__(
        self, simulator: InProcessSimulator, clock: VirtualClock, mocker: requests_mock.Mocker
    ) -> None:
        self.simulator = simulator
        self.clock = clock
        self.mocker = mocker
        self.request_seconds = 0.0
        """How long each request takes, less than half a second."""
        mocker.get(re.compile(f"^{simulator.url}/call"), content=self._answer)

    def beside(self, **simulator: Any) -> World:
        """Make a world on the same clocks, with a simulator of its own."""
        return World(InProcessSimulator(clock=self.simulator.clock, **simulator), self.clock, self.mocker)

    def lie(self, lie: Lie) -> None:
        """Put something between the poller and the list: ``world.lie(lambda query, fetch: [])``."""

        def tell(request: Any, context: Any) -> bytes:
            def fetch(query: Mapping[str, str]) -> Any:
                return json.loads(self._answer(request, context, f"/call?{urlencode(query)}"))

            body = json.dumps(lie(dict(parse_qsl(urlsplit(request.url).query)), fetch)).encode()
            context.headers["Content-Length"] = str(len(body))
            return body

        self.mocker.get(f"{self.simulator.url}/call", content=tell)

    def _answer(self, request: Any, context: Any, path: str | None = None) -> bytes:
        self.clock.took = self.request_seconds
        return self.simulator.answer(path or request.url, request.headers, context)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine; only its waiting, that of what it starts, and requests let time pass."""
        return run_virtually(main, self.clock)

    def polls(self) -> list[list[RequestRecord]]:
        """Return the requests so far, by poll: only between polls does half a second pass without one."""
        polls: list[list[RequestRecord]] = []
        for request in self.simulator.requests:
            if not polls or request.at - polls[-1][-1].at > timedelta(seconds=0.5):
                polls.append([])
            polls[-1].append(request)
        return polls

    def add_calls(self, number: int, *, age: float = 600.0, spacing: float = 0.25, **body: Any) -> list[str]:
        """
        Add live calls that were created one after another, and did not change since.

        :param number: how many
        :param age: how many seconds ago the last one was created
        :param spacing: how many seconds lie between two
        :param body: more of their fields
        """
        last = self.simulator.clock.now() - timedelta(seconds=age)
        created = [last - timedelta(seconds=spacing * (number - place)) for place in range(number)]
        return [
            self.simulator.add_call(
                status="in-progress",
                body={"createdAt": written(instant), "updatedAt": written(instant), **body},
            )
            for instant in created
        ]

    def since(self, *call_ids: str) -> dict[str, datetime]:
        """Return the calls' ``updatedAt``, as tasks that read them now would record it."""
        return {call_id: read(self.simulator.get_call(call_id)["updatedAt"]) for call_id in call_ids}

    def change(self, *call_ids: str, within: float = 0.0, quietly: bool = False, **fields: Any) -> None:
        """
        Let calls change.

        :param call_ids: the calls
        :param within: over how many seconds, up to now, the changes are spread
        :param quietly: whether ``updatedAt`` does not move
        :param fields: the new values of their fields
        """
        now = self.simulator.clock.now()
        for place, call_id in enumerate(call_ids, 1):
            at = now - timedelta(seconds=within * (1 - place / len(call_ids)))
            self.simulator._store.drive(
                call_id,
                lambda record, _, at=at: record.change(at, fields, moves_updated_at=not quietly),
            )

    def end(self, *call_ids: str, within: float = 0.0, quietly: bool = False) -> None:
        """Let calls end, as :meth:`change` does."""
        ended_at = written(self.simulator.clock.now())
        ending = {"status": "ended", "endedAt": ended_at, "endedReason": "customer-ended-call"}
        self.change(*call_ids, within=within, quietly=quietly, **ending)

    async def seconds_until(self, *tasks: asyncio.Task[Any]) -> float:
        """Wait for these tasks, and return how long that took."""
        began = self.clock.now
        await asyncio.wait(tasks)
        return self.clock.now - began


def poller_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREADS)]


def written(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read(instant: str) -> datetime:
    # Python 3.10 reads no Z.
    return datetime.fromisoformat(instant.replace("Z", "+00:00"))


async def come_true(check: Callable[[], Any], what: str) -> None:
    """Wait until something is so, in real time."""
    ends_at = time.monotonic() + 60
    while not check():
        assert time.monotonic() < ends_at, f"it never came true: {what}"
        await asyncio.sleep(0.001)


async def watch(waiter: Waiter, conn_id: str = CONN_ID) -> Verdict:
    """Wait for a call as a trigger does, to the verdict."""
    async with CallPoller.join(conn_id, waiter):
        return await waiter.verdict


@asynccontextmanager
async def watching(
    call_ids: Iterable[str],
    *,
    conn_id: str = CONN_ID,
    poll_interval: float = 5.0,
    since: Mapping[str, datetime] | None = None,
    **arguments: Any,
) -> AsyncIterator[dict[str, asyncio.Task[Verdict]]]:
    """Wait for each of these calls for the length of a block; the tasks are by call id."""
    tasks = {
        call_id: asyncio.create_task(
            watch(Waiter(call_id, poll_interval, (since or {}).get(call_id), **arguments), conn_id)
        )
        for call_id in call_ids
    }
    try:
        # All of them have joined then.
        await asyncio.sleep(0)
        yield tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


def verdicts(tasks: Mapping[str, asyncio.Task[Verdict]], call_ids: Iterable[str] = ()) -> dict[str, Verdict]:
    """Return the verdicts of the waits that are over, of all calls or of some, for a message that shows them."""
    chosen = {call_id: tasks[call_id] for call_id in call_ids} or tasks
    return {call_id: task.result() for call_id, task in chosen.items() if task.done()}


def assert_no_poller_left() -> None:
    """Assert that no poller and no thread of one is left; tasks are checked where the loop ends."""
    left = list(poller._pollers)
    poller._pollers.clear()
    assert not left, "pollers are left"
    for thread in poller_threads():
        # A request in flight ends within its time limit.
        thread.join(15)
        assert not thread.is_alive(), f"{thread.name} is left"


# Fixtures, for the folders whose conftest.py imports them


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail a test after which a poller or its thread lives on."""
    yield
    assert_no_poller_left()


@pytest.fixture
def make_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """Make the one world of a test: ``make_world(off=timedelta(minutes=7), list_lag=30)``."""
    import requests_mock

    with requests_mock.Mocker() as mocker:

        def make(off: timedelta = timedelta(), **simulator: Any) -> World:
            clock = VirtualClock(time.time())
            use_clock(clock, monkeypatch)
            vapi = InProcessSimulator(clock=VapiClock(clock, off), **simulator)
            monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", vapi.connection)
            return World(vapi, clock, mocker)

        yield make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A world whose Vapi has the right time."""
    return make_world()


@pytest.fixture
def run() -> Callable[..., Any]:
    """Run a coroutine in an event loop of its own, in real time: ``run(main())``."""
    return run_in_loop


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a connection be polled 50 times a second, and events come at once."""
    monkeypatch.setattr("vapi_provider.polling.poller.MIN_INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr("vapi_provider.triggers.call.SETTLE_SECONDS", 0.0)
    # However busy the machine is.
    monkeypatch.setattr("vapi_provider.polling.connection.TIMEOUT_SECONDS", 60.0)
