# SPDX-License-Identifier: Apache-2.0
"""Helpers for poller and trigger tests: a virtual world, waits, and a check for leftover tasks and threads."""

from __future__ import annotations

import asyncio
import gc
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

from vapi_provider.polling import deadlines, poller
from vapi_provider.polling.calls import Verdict, Waiter
from vapi_provider.polling.poller import CallPoller
from vapi_provider.simulator import VapiSimulator

if TYPE_CHECKING:
    import requests_mock

    from vapi_provider.simulator.request_log import RequestRecord

T = TypeVar("T")

Lie = Callable[[dict[str, str], Callable[[Mapping[str, str]], Any]], Any]
"""Returns the body of a list response, given the query and a function that fetches the true list."""

CONN_ID = "vapi_default"
THREADS = "vapi-call-poller"
"""The prefix of the names of pollers' threads."""
PORTS = itertools.count(20_000)
"""Ports of simulators without a socket."""


async def _finish(main: Awaitable[T]) -> T:
    """Run a test's coroutine, and check that it leaves no task behind."""
    result = await main
    ends_at = time.monotonic() + 60
    while left := asyncio.all_tasks() - {asyncio.current_task()}:
        # A cancelled task needs a round or two of the loop.
        assert time.monotonic() < ends_at, f"tasks are left: {left}"
        await asyncio.sleep(0)
    return result


def run_in_loop(main: Coroutine[Any, Any, T], seconds: float = REAL_SECONDS) -> T:
    """
    Run a coroutine in a new event loop, in real time, and check that it leaves no task behind.

    :param main: the coroutine
    :param seconds: the time limit
    """

    async def limited() -> T:
        return await _finish(asyncio.wait_for(main, seconds))

    return asyncio.run(limited())


class VapiClock:
    """
    The simulator's clock, which runs with ours at a constant offset.

    :param ours: our clock
    :param off: how far Vapi's clock is ahead
    """

    def __init__(self, ours: VirtualClock, off: timedelta = timedelta()) -> None:
        self.off = off
        self._ours = ours

    def now(self) -> datetime:
        return self._ours.utc() + self.off


class InProcessSimulator(VapiSimulator):
    """A simulator that responds instantly, without a socket."""

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
        """Respond to a GET for requests-mock, without an event loop, because the application never waits."""
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
            raise AssertionError("the simulator is waiting for something")
        if transport.abort.called:
            raise requests.ConnectionError(ConnectionResetError())
        start, body = sent
        context.status_code = start["status"]
        context.headers.update({name.decode().title(): value.decode() for name, value in start["headers"]})
        return bytes(body["body"])


def use_clock(clock: VirtualClock, patch: pytest.MonkeyPatch) -> None:
    """Make the triggers and the poller use a clock."""
    for module in (
        "triggers.call",
        "polling.connection",
        "polling.changes",
        "polling.calls",
        "polling.deadlines",
        "polling.listeners",
        "polling.outage",
        "polling.poller",
        "triggers.ended",
    ):
        patch.setattr(f"vapi_provider.{module}.time", clock)


class World:
    """
    A simulator and an event loop on the same virtual clock.

    :param simulator: the simulator
    :param clock: our clock
    :param mocker: handles the requests
    """

    def __init__(
        self, simulator: InProcessSimulator, clock: VirtualClock, mocker: requests_mock.Mocker
    ) -> None:
        self.simulator = simulator
        self.clock = clock
        self.mocker = mocker
        self.request_seconds = 0.0
        """The duration of each request, less than half a second."""
        mocker.get(re.compile(f"^{simulator.url}/call"), content=self._answer)

    def beside(self, **simulator: Any) -> World:
        """Return a world on the same clocks, with another simulator."""
        return World(InProcessSimulator(clock=self.simulator.clock, **simulator), self.clock, self.mocker)

    def lie(self, lie: Lie) -> None:
        """Change the list that the poller sees: ``world.lie(lambda query, fetch: [])``."""

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
        """Run a coroutine; time passes only during requests, and while it and its tasks wait."""
        return run_virtually(main, self.clock)

    def polls(self) -> list[list[RequestRecord]]:
        """Return the requests so far, grouped by poll; half a second without a request separates polls."""
        polls: list[list[RequestRecord]] = []
        for request in self.simulator.requests:
            if not polls or request.at - polls[-1][-1].at > timedelta(seconds=0.5):
                polls.append([])
            polls[-1].append(request)
        return polls

    def add_calls(self, number: int, *, age: float = 600.0, spacing: float = 0.25, **body: Any) -> list[str]:
        """
        Add live calls that were created one after another and have not changed since.

        :param number: the number of calls
        :param age: how many seconds ago the last one was created
        :param spacing: the seconds between two
        :param body: more fields of the calls
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
        Change calls.

        :param call_ids: the calls
        :param within: the seconds, up to now, over which the changes are spread
        :param quietly: whether ``updatedAt`` stays the same
        :param fields: the new values of fields
        """
        now = self.simulator.clock.now()
        for place, call_id in enumerate(call_ids, 1):
            at = now - timedelta(seconds=within * (1 - place / len(call_ids)))
            self.simulator._store.drive(
                call_id,
                lambda record, _, at=at: record.change(at, fields, moves_updated_at=not quietly),
            )

    def end(self, *call_ids: str, within: float = 0.0, quietly: bool = False) -> None:
        """End calls; see :meth:`change` for the arguments."""
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
    # Python 3.10 does not parse "Z".
    return datetime.fromisoformat(instant.replace("Z", "+00:00"))


async def come_true(check: Callable[[], Any], what: str) -> None:
    """Wait until a condition is true, in real time."""
    ends_at = time.monotonic() + 60
    while not check():
        assert time.monotonic() < ends_at, f"it never came true: {what}"
        await asyncio.sleep(0.001)


async def watch(waiter: Waiter, conn_id: str = CONN_ID) -> Verdict:
    """Wait for a call until the verdict, as a trigger does."""
    with CallPoller.join(conn_id, waiter):
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
    """Wait for each of these calls during the block; yields the tasks by call id."""
    tasks = {
        call_id: asyncio.create_task(
            watch(Waiter(call_id, poll_interval, (since or {}).get(call_id), **arguments), conn_id)
        )
        for call_id in call_ids
    }
    try:
        # Let all of them join.
        await asyncio.sleep(0)
        yield tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


def verdicts(tasks: Mapping[str, asyncio.Task[Verdict]], call_ids: Iterable[str] = ()) -> dict[str, Verdict]:
    """Return the verdicts of finished waits for all or some calls, for assertion messages."""
    chosen = {call_id: tasks[call_id] for call_id in call_ids} or tasks
    return {call_id: task.result() for call_id, task in chosen.items() if task.done()}


def assert_no_poller_left() -> None:
    """Assert that no poller, poller thread or timer is left; leftover tasks are checked where the loop ends."""
    left = [*poller._pollers, *deadlines._deadlines]
    poller._pollers.clear()
    deadlines._deadlines.clear()
    assert not left, "pollers or deadlines are left"
    for thread in poller_threads():
        # A request in flight ends within its time limit.
        thread.join(15)
        assert not thread.is_alive(), f"{thread.name} is left"


# Fixtures for the folders whose conftest.py imports them


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail a test that leaves a poller or its thread behind."""
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
def imported_modules_are_no_garbage() -> Iterator[None]:
    """Let Python's garbage collector search only what a test makes, not all modules of the test run."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def run() -> Callable[..., Any]:
    """Run a coroutine in a new event loop, in real time: ``run(main())``."""
    return run_in_loop


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll connections 50 times a second, and report events immediately."""
    monkeypatch.setattr("vapi_provider.polling.poller.MIN_INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr("vapi_provider.triggers.call.SETTLE_SECONDS", 0.0)
    # Enough for a busy machine.
    monkeypatch.setattr("vapi_provider.polling.connection.TIMEOUT_SECONDS", 60.0)
