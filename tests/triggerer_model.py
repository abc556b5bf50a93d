# SPDX-License-Identifier: Apache-2.0
"""A triggerer on a virtual clock, and a fake Vapi whose true state and past responses tests can inspect."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import requests_mock
from polling_world import assert_no_poller_left, read, use_clock, written
from virtual_time import VirtualClock

from vapi_provider.polling import (
    changes as changes_module,
    connection as connection_module,
    deadlines as deadlines_module,
    poller as poller_module,
)
from vapi_provider.triggers import call as call_module
from vapi_provider.triggers.call import VapiCallTrigger

CONN_ID = "vapi_of_tests"
HOST = "https://vapi.example"
LATENCY = 0.05

# The package's own values, even if other tests patch them.
SETTLE = call_module.SETTLE_SECONDS
MIN_INTERVAL = poller_module.MIN_INTERVAL_SECONDS
MISSING = connection_module.MISSING_SECONDS
CLOCK_CHECK = deadlines_module.CLOCK_CHECK_SECONDS
BUDGET = poller_module.REQUESTS_PER_POLL, poller_module.PAGES_PER_POLL
OVERLAP = changes_module._OVERLAP.total_seconds()


def call_id_of(number: int) -> str:
    return f"019a7c2e-5f00-7000-8000-{number:012d}"


def instant(seconds: float) -> str:
    """Write an instant as Vapi does."""
    return written(datetime.fromtimestamp(seconds, timezone.utc))


def seconds(text: str) -> float:
    """Read an instant as Vapi writes it."""
    return read(text).timestamp()


@dataclass
class FakeCall:
    """A call of the fake Vapi, with all its past states."""

    number: int
    created_at: float
    states: list[dict[str, Any]] = field(default_factory=list)
    erased: bool = False
    bulk: int = 0
    broken: bool = False
    """Whether its row in the list is malformed."""

    @property
    def id(self) -> str:
        return call_id_of(self.number)

    @property
    def now(self) -> dict[str, Any]:
        return self.states[-1]

    @property
    def has_ended(self) -> bool:
        return bool(self.now["status"] == "ended")


@dataclass
class Exchange:
    """A request, with its start and end."""

    path: str
    query: dict[str, str]
    began: float
    over: float
    thread: threading.Thread
    pause: float = 0.0
    """The pause that the response requested."""


LIST_MODES = ("honest", "empty", "unsorted", "repeating", "ignoring-filters", "timeless")


class FakeVapi:
    """
    A fake Vapi behind requests-mock.

    :param clock: our clock; Vapi's runs at the same speed, years apart
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.calls: dict[str, FakeCall] = {}
        self.log: list[Exchange] = []
        self.date_offset = 0.0
        self.wrong_dates: list[float] = []
        """How far the next Date headers are off, besides."""
        self.list_mode = "honest"
        """One of LIST_MODES."""
        self.lag = 0.0
        self.faults: list[dict[str, Any]] = []
        self.said_over: dict[str, list[dict[str, Any]]] = {}
        """All responses about ended calls, by id, each with its time by Vapi's ``Date`` header and by our clock."""
        self.said_live: set[str] = set()
        """The ids of the calls that the list has shown live."""
        self.refused_calls: dict[str, list[float]] = {}
        self.refusals: list[tuple[float, str]] = []
        """When the key was refused, with the paths."""

    def now(self) -> float:
        return self.clock.now + 1_760_000_000.25

    def add(self, number: int, *, age: float = 600.0) -> FakeCall:
        now = self.now()
        call = FakeCall(number, now - age)
        call.states.append(
            {
                "status": "queued",
                "at": now - age,
                "updatedAt": instant(now - age),
                "startedAt": instant(now - age),
                "endedAt": None,
                "endedReason": None,
                "analysis": None,
            }
        )
        self.calls[call.id] = call
        return call

    def change(self, call: FakeCall, *, moves: bool = True, **fields: Any) -> None:
        now = self.now()
        updated = {"updatedAt": instant(now)} if moves else {}
        call.states.append({**call.now, **updated, "at": now, **fields})

    def end(self, call: FakeCall, *, moves: bool = True, analysis: bool = False) -> None:
        if not call.has_ended:
            made = {"summary": "Confirmed."} if analysis else None
            ended_at = instant(self.now())
            reason = "customer-ended-call"
            self.change(
                call, moves=moves, status="ended", endedAt=ended_at, endedReason=reason, analysis=made
            )

    # Responses to requests

    def answer(self, request: Any, context: Any) -> bytes:
        began = self.clock.now
        # As with a real clock, two instants are never the same.
        self.clock.now += 1e-6
        try:
            fault = self._fault(request)
            took = LATENCY if fault is None else fault.get("took", LATENCY)
            return self._faulty(request.path, fault, context) if fault else self._sound(request, context)
        finally:
            self.clock.took = took
            query = {name: values[0] for name, values in request.qs.items()}
            pause = float((fault or {}).get("headers", {}).get("Retry-After", 0))
            self.log.append(
                Exchange(request.path, query, began, began + took, threading.current_thread(), pause)
            )

    def _fault(self, request: Any) -> dict[str, Any] | None:
        for fault in self.faults:
            if fault.get("only", "") in request.path and (not fault.get("list") or request.path == "/call"):
                fault["times"] -= 1
                if not fault["times"]:
                    self.faults.remove(fault)
                return fault
        return None

    def _faulty(self, path: str, fault: dict[str, Any], context: Any) -> bytes:
        if "error" in fault:
            raise fault["error"]
        if fault["status"] in (401, 403):
            self.refusals.append((self.clock.now, path))
        context.status_code = fault["status"]
        context.headers.update(self._headers(), **fault.get("headers", {}))
        return bytes(fault.get("body", _error(fault["status"])))

    def _headers(self) -> dict[str, str]:
        wrong = self.wrong_dates.pop() if self.wrong_dates else 0.0
        date = datetime.fromtimestamp(int(self.date() + wrong), timezone.utc)
        return {"Date": format_datetime(date, usegmt=True), "Content-Type": "application/json"}

    def date(self) -> float:
        return self.now() + self.date_offset

    def _sound(self, request: Any, context: Any) -> bytes:
        context.headers.update(self._headers())
        if request.path == "/call":
            page = self._page(request.qs)
            rows = [None if call.broken else self._told(call, state, in_list=True) for call, state in page]
            return json.dumps(rows).encode()
        call = self.calls[request.path.rpartition("/")[2]]
        if call.erased:
            self.refused_calls.setdefault(call.id, []).append(self.clock.now)
            context.status_code = 404
            return _error(404)
        return json.dumps(self._told(call, call.now, in_list=False)).encode()

    def _told(self, call: FakeCall, state: dict[str, Any], *, in_list: bool) -> dict[str, Any]:
        if state["status"] == "ended":
            self.said_over.setdefault(call.id, []).append(
                {**state, "date": self.date(), "told": self.clock.now}
            )
        elif in_list:
            self.said_live.add(call.id)
        shown = {"id": call.id, "createdAt": instant(call.created_at), **state, "transcript": "x" * call.bulk}
        hidden = ("at", "createdAt", "updatedAt") if in_list and self.list_mode == "timeless" else ("at",)
        return {name: value for name, value in shown.items() if name not in hidden}

    def _page(self, qs: dict[str, list[str]]) -> list[tuple[FakeCall, dict[str, Any]]]:
        if self.list_mode == "empty":
            return []
        seen_until = self.now() - self.lag
        rows = []
        for call in self.calls.values():
            states = [state for state in call.states if state["at"] <= seen_until]
            if states and not call.erased:
                rows.append((call, states[-1]))
        bounds = {name: seconds(values[0].upper()) for name, values in qs.items() if name != "limit"}
        if self.list_mode != "ignoring-filters":
            rows = [row for row in rows if self._fits(row, bounds)]
        rows.sort(key=lambda row: row[0].created_at, reverse=True)
        if self.list_mode == "unsorted":
            random.Random(len(self.log)).shuffle(rows)
        limit = int(qs["limit"][0])
        if self.list_mode == "repeating" and rows:
            rows = (rows * limit)[:limit]
        return rows[:limit]

    def _fits(self, row: tuple[FakeCall, dict[str, Any]], bounds: dict[str, float]) -> bool:
        call, state = row
        updated = seconds(state["updatedAt"])
        return (
            bounds.get("updatedatge", updated) <= updated
            and not bounds.get("updatedatlt", updated + 1) <= updated
            and (
                self.list_mode == "repeating"
                or call.created_at <= bounds.get("createdatle", call.created_at) + 1e-4
            )
        )

    def polls(self, since: float = 0.0) -> list[list[Exchange]]:
        """Return the requests since an instant, grouped by poll."""
        polls: list[list[Exchange]] = []
        latest: dict[threading.Thread, list[Exchange]] = {}
        for exchange in self.log:
            # Each poller has its own thread; a new poller may start while the last request of another is in flight.
            poll = latest.get(exchange.thread)
            if exchange.began < since:
                continue
            if poll is None or exchange.began - poll[-1].over > 0.5:
                poll = latest[exchange.thread] = []
                polls.append(poll)
            poll.append(exchange)
        return polls


def _error(status: int) -> bytes:
    return json.dumps({"message": "So it is.", "error": "Of the test", "statusCode": status}).encode()


def reset() -> dict[str, Any]:
    return {"error": requests.ConnectionError(ConnectionResetError())}


def timeout() -> dict[str, Any]:
    return {"error": requests.ReadTimeout(TimeoutError()), "took": 10.0}


@dataclass(eq=False)
class Wait:
    """A running trigger."""

    trigger: VapiCallTrigger
    joined: float
    events: list[dict[str, Any]] = field(default_factory=list)
    told_at: float | None = None
    left: bool = False
    time_had_come: bool = False
    """Whether the wall clock ever reached its end time."""
    task: asyncio.Task[None] | None = None

    @property
    def call_id(self) -> str:
        return self.trigger.call_id


class Triggerer:
    """
    Runs triggers against a fake Vapi.

    :param vapi: the Vapi
    """

    def __init__(self, vapi: FakeVapi) -> None:
        self.vapi = vapi
        self.clock = vapi.clock
        self.waits: list[Wait] = []
        self.set_connection("key-of-the-tests")

    def set_connection(self, password: str | None) -> None:
        """Store the connection in Airflow, or remove it."""
        name = f"AIRFLOW_CONN_{CONN_ID.upper()}"
        os.environ.pop(name, None)
        if password is not None:
            os.environ[name] = json.dumps({"conn_type": "vapi", "password": password, "host": HOST})

    def start(self, call_id: str, *, end_after: float = 1e6, **arguments: Any) -> Wait:
        arguments = {"poll_interval": 5, **arguments}
        trigger = VapiCallTrigger(
            vapi_conn_id=CONN_ID, call_id=call_id, end_time=self.clock.time() + end_after, **arguments
        )
        wait = Wait(trigger, self.clock.now)
        wait.task = asyncio.get_running_loop().create_task(self._run(wait))
        self.waits.append(wait)
        return wait

    async def _run(self, wait: Wait) -> None:
        async for event in wait.trigger.run():
            self.look_at_clock()
            wait.events.append(event.payload)
            wait.told_at = self.clock.now

    def look_at_clock(self) -> None:
        """Record which waits have reached their end time; call it before and after setting the wall clock."""
        for wait in self.waits:
            wait.time_had_come |= not wait.events and self.clock.time() >= wait.trigger.end_time

    def set_clock(self, step: float) -> None:
        self.look_at_clock()
        self.clock.wall_offset += step
        self.look_at_clock()

    async def stop(self, wait: Wait) -> None:
        """Cancel a trigger, as the triggerer does."""
        assert wait.task is not None
        wait.left = not wait.events
        wait.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await wait.task

    async def stop_all(self) -> None:
        for wait in self.waits:
            await self.stop(wait)

    async def until_told(self, wait: Wait, most: float = 600.0) -> float:
        """Wait for a trigger's event, and return how long it took."""
        began = self.clock.now
        assert wait.task is not None
        await asyncio.wait({wait.task}, timeout=most)
        assert wait.events, f"no event within {most} s"
        return self.clock.now - began


@contextlib.contextmanager
def virtual_world(
    *,
    budget: tuple[int, int] = BUDGET,
    max_bytes: int | None = None,
    page_bytes: int | None = None,
    missing: float = MISSING,
) -> Iterator[Triggerer]:
    """Run triggers with a virtual clock and a fake Vapi; constants default to the package's own."""
    clock = VirtualClock()
    vapi = FakeVapi(clock)
    with pytest.MonkeyPatch.context() as patch, requests_mock.Mocker() as mocker:
        # Makes monkeypatch restore the variable afterwards.
        patch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", "")
        use_clock(clock, patch)
        patch.setattr(call_module, "SETTLE_SECONDS", SETTLE)
        patch.setattr(deadlines_module, "CLOCK_CHECK_SECONDS", CLOCK_CHECK)
        patch.setattr(poller_module, "MIN_INTERVAL_SECONDS", MIN_INTERVAL)
        patch.setattr(connection_module, "MISSING_SECONDS", missing)
        patch.setattr(poller_module, "REQUESTS_PER_POLL", budget[0])
        patch.setattr(poller_module, "PAGES_PER_POLL", budget[1])
        patch.setattr(poller_module, "random", SimpleNamespace(uniform=random.Random(0).uniform))
        if max_bytes is not None:
            patch.setattr(connection_module, "MAX_RESPONSE_BYTES", max_bytes)
        if page_bytes is not None:
            patch.setattr(changes_module, "PAGE_BYTES", page_bytes)
        mocker.register_uri("GET", re.compile(f"^{HOST}/call"), content=vapi.answer)
        try:
            yield Triggerer(vapi)
        finally:
            assert_no_poller_left()


async def collect(iterator: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in iterator]


def ago(clock: VirtualClock, seconds: float) -> str:
    """Return a past instant by the fake Vapi's clock."""
    moment = datetime.fromtimestamp(clock.now + 1_760_000_000.25, timezone.utc) - timedelta(seconds=seconds)
    return moment.isoformat()
