# SPDX-License-Identifier: Apache-2.0
"""A world for the triggers in which time passes only while everybody waits, so that an hour takes no time."""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from vapi_provider.polling import poller
from vapi_provider.polling.calls import Verdict, Waiter
from vapi_provider.polling.poller import CallPoller
from vapi_provider.simulator import ManualClock, VapiSimulator

if TYPE_CHECKING:
    from vapi_provider.simulator.request_log import RequestRecord

T = TypeVar("T")

Lie = Callable[[dict[str, str], Callable[[Mapping[str, str]], Any]], Any]
"""Makes the body of a list, out of the query and a way to ask an honest list."""

CONN_ID = "vapi_default"
THREADS = "vapi-call-poller"
"""The name of a poller's thread begins so."""
REAL_SECONDS = 60.0
"""No test of this folder is at work for longer than this, whatever it waits for."""


async def _finish(main: Awaitable[T]) -> T:
    """Run a test's coroutine, and look whether it leaves a task behind."""
    result = await main
    ends_at = time.monotonic() + 5
    while left := asyncio.all_tasks() - {asyncio.current_task()}:
        # A task that was cancelled needs a round or two of the loop.
        assert time.monotonic() < ends_at, f"tasks are left: {left}"
        await asyncio.sleep(0)
    return result


def run_in_loop(main: Coroutine[Any, Any, T], seconds: float = REAL_SECONDS) -> T:
    """
    Run a coroutine in an event loop of its own, in real time, and look whether a task is left.

    :param main: the coroutine
    :param seconds: how long that may take
    """

    async def limited() -> T:
        return await _finish(asyncio.wait_for(main, seconds))

    return asyncio.run(limited())


class VirtualClock:
    """Our own clock, in place of the module ``time``; it stands still while anything is at work."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self._wall = time.time() - self.now

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self._wall + self.now

    def utc(self) -> datetime:
        return datetime.fromtimestamp(self.time(), timezone.utc)


class VapiClock:
    """
    Vapi's clock, for the simulator: it goes on with ours, and is off by so much.

    :param ours: our clock
    :param off: how far Vapi's is ahead
    """

    def __init__(self, ours: VirtualClock, off: timedelta = timedelta()) -> None:
        self.off = off
        self._ours = ours

    def now(self) -> datetime:
        return self._ours.utc() + self.off


class _Selector(selectors.DefaultSelector):
    """Lets the clock jump to the next timer instead of waiting for it."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        loop = self.loop
        assert time.monotonic() < loop.gives_up_at, "the test takes too long"
        if loop.requests_in_flight:
            return super().select(0.2 if timeout is None or timeout > 0 else 0)
        events = super().select(0)
        if not events and (timeout is None or timeout > 0):
            assert timeout is not None, "everybody waits, and nothing can happen any more"
            loop.clock.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """
    An event loop on a virtual clock.

    :param clock: the clock
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.requests_in_flight = 0
        self.request_seconds = 0.0
        self.gives_up_at = time.monotonic() + REAL_SECONDS
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.clock.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        future = super().run_in_executor(executor, func, *args)
        self.requests_in_flight += 1
        # Airflow, too, has threads, to read a connection in.
        is_request = executor is not None and executor._thread_name_prefix.startswith(THREADS)
        future.add_done_callback(partial(self._land, is_request))
        return future

    def _land(self, is_request: bool, future: asyncio.Future[Any]) -> None:
        self.requests_in_flight -= 1
        if is_request and not future.cancelled():
            self.clock.now += self.request_seconds


class World:
    """
    A simulator behind ``vapi_default`` and an event loop, both on one virtual clock.

    :param simulator: the simulator
    :param clock: our clock
    """

    def __init__(self, simulator: VapiSimulator, clock: VirtualClock) -> None:
        self.simulator = simulator
        self.clock = clock
        self.request_seconds = 0.0
        """How long each request takes, less than half a second."""

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine; only its waiting, that of what it starts, and requests let time pass."""
        loop = VirtualLoop(self.clock)
        loop.request_seconds = self.request_seconds
        try:
            return loop.run_until_complete(_finish(main))
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
                loop.run_until_complete(asyncio.wait({task}))
            loop.close()
            # A request in flight ends while there is still somebody to answer it.
            for thread in poller_threads():
                thread.join(15)

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
        """Return the calls' ``updatedAt``, as tasks that look at them now would note it."""
        return {call_id: read(self.simulator.get_call(call_id)["updatedAt"]) for call_id in call_ids}

    def change(self, *call_ids: str, within: float = 0.0, quietly: bool = False, **fields: Any) -> None:
        """
        Let calls change.

        :param call_ids: the calls
        :param within: over how many seconds, up to now, the changes are spread
        :param quietly: whether ``updatedAt`` stays as it is
        :param fields: what becomes of their fields
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
        self.change(*call_ids, within=within, quietly=quietly, status="ended", endedAt=ended_at)

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
    return datetime.fromisoformat(instant.replace("Z", "+00:00"))


def tell_lies(simulator: VapiSimulator, lie: Lie) -> Callable[[Any, Any], bytes]:
    """Make an answer to ``GET /call`` out of the query and a way to ask the simulator itself; for requests-mock."""

    def tell(request: Any, context: Any) -> bytes:
        def fetch(query: Mapping[str, str]) -> Any:
            headers, body = ask(simulator, query, request.headers["Authorization"])
            context.headers["Date"] = headers[b"date"].decode()
            return json.loads(body)

        return json.dumps(lie(dict(parse_qsl(urlsplit(request.url).query)), fetch)).encode()

    return tell


def ask(simulator: VapiSimulator, query: Mapping[str, str], key: str) -> tuple[dict[bytes, bytes], bytes]:
    """Send a simulator ``GET /call`` without a socket; it never has to wait, so no event loop is needed."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": "/call",
        "raw_path": b"/call",
        "root_path": "",
        "scheme": "http",
        "query_string": urlencode(query).encode(),
        "headers": [(b"authorization", key.encode()), (b"user-agent", b"tests")],
    }
    answering: Any = simulator.app(scope, receive, send)  # type: ignore[arg-type]
    try:
        answering.send(None)
    except StopIteration:
        return dict(sent[0]["headers"]), sent[1]["body"]
    raise AssertionError("the simulator waits for something")


async def come_true(check: Callable[[], Any], what: str) -> None:
    """Wait until something is so, in real time even in a world."""
    ends_at = time.monotonic() + 20
    while not check():
        assert time.monotonic() < ends_at, f"it never came true: {what}"
        await asyncio.sleep(0)


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
    """Have somebody wait for each of these calls, until the block is over; the tasks are by call id."""
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


# Fixtures, for every folder whose conftest.py imports them


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own proxies, certificates and passwords out of the tests."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NETRC", os.devnull)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail a test after which a poller or its thread lives on; tasks are looked for where the loop ends."""
    yield
    left = list(poller._pollers)
    poller._pollers.clear()
    assert not left, "pollers are left"
    for thread in poller_threads():
        # A request in flight ends within its time limit.
        thread.join(15)
        assert not thread.is_alive(), f"{thread.name} is left"


@pytest.fixture
def run() -> Callable[..., Any]:
    """Run a coroutine in an event loop of its own, in real time: ``run(main())``."""
    return run_in_loop


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a connection be polled 50 times a second, and events come at once."""
    monkeypatch.setattr("vapi_provider.polling.poller.MIN_INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr("vapi_provider.triggers.call.SETTLE_SECONDS", 0.0)


@pytest.fixture
def clock() -> ManualClock:
    """Vapi's clock in the fixture ``simulator``."""
    return ManualClock()


@pytest.fixture
def simulator(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[VapiSimulator]:
    """A simulator behind ``vapi_default``, on a clock that only the test moves."""
    with VapiSimulator(clock=clock) as running:
        monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", running.connection)
        yield running
