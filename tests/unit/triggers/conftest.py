# SPDX-License-Identifier: Apache-2.0
"""
Event loops, simulators and clocks for the triggers, and a look after each test whether anything is left of them.

Two ways to let a trigger run: ``run`` is an event loop in real time, with ``short_pauses`` so that nobody waits for
seconds; ``world`` is an event loop, a simulator and a clock of their own, in which hours take no time and the constants
stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
import requests_mock
from watcher_helpers import Lie, VapiClock, VirtualClock, World, run_in_loop, tell_lies, watcher_threads

from vapi_provider.polling import poller as watcher
from vapi_provider.simulator import ManualClock, VapiSimulator


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own proxies, certificates and passwords out of the tests."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NETRC", os.devnull)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Fail a test after which a watcher or its thread lives on; tasks are looked for where the loop ends."""
    yield
    left = list(watcher._watchers)
    watcher._watchers.clear()
    assert not left, "watchers are left"
    for thread in watcher_threads():
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


@pytest.fixture
def make_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """Make the one world of a test: ``make_world(off=timedelta(minutes=7), list_lag=30)``."""
    with ExitStack() as stack:

        def make(off: timedelta = timedelta(), **simulator: Any) -> World:
            clock = VirtualClock()
            for module in ("call", "connection", "feed", "watcher"):
                monkeypatch.setattr(f"vapi_provider.triggers.{module}.time", clock)

            class WatchedCall(watcher._WatchedCall):
                def __init__(self, *args: Any, **fields: Any) -> None:
                    # The field's default is the real clock's.
                    super().__init__(*args, **{"asked_at": clock.monotonic(), **fields})

            monkeypatch.setattr(watcher, "_WatchedCall", WatchedCall)
            running = stack.enter_context(VapiSimulator(clock=VapiClock(clock, off), **simulator))
            monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", running.connection)
            return World(running, clock)

        yield make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A world whose Vapi has the right time."""
    return make_world()


@pytest.fixture
def lie() -> Iterator[Callable[[World, Lie], None]]:
    """Put something between the watcher and the list of a simulator: ``lie(world, lambda query, fetch: [])``."""
    with requests_mock.Mocker(real_http=True) as mocker:

        def start(world: World, lie: Lie) -> None:
            tell = tell_lies(world.simulator, lie)
            mocker.get(f"{world.simulator.url}/call", content=tell)

        yield start
