# SPDX-License-Identifier: Apache-2.0
"""
Event loops, simulators and clocks for the triggers, and a look after each test whether anything is left of them.

Two ways to let a trigger run: ``run`` is an event loop in real time, with ``short_pauses`` so that nobody waits for
seconds; ``world`` is an event loop, a simulator and a clock of their own, in which hours take no time and the constants
stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
import requests_mock
from polling_world import (
    Lie,
    VapiClock,
    VirtualClock,
    World,
    clock,
    no_surroundings,
    nothing_left,
    run,
    short_pauses,
    simulator,
    tell_lies,
)

from vapi_provider.simulator import VapiSimulator

__all__ = ["clock", "no_surroundings", "nothing_left", "run", "short_pauses", "simulator"]


@pytest.fixture
def make_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """Make the one world of a test: ``make_world(off=timedelta(minutes=7), list_lag=30)``."""
    with ExitStack() as stack:

        def make(off: timedelta = timedelta(), **simulator: Any) -> World:
            clock = VirtualClock()
            for module in (
                "triggers.call",
                "polling.connection",
                "polling.changes",
                "polling.calls",
                "polling.poller",
            ):
                monkeypatch.setattr(f"vapi_provider.{module}.time", clock)
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
    """Put something between the poller and the list of a simulator: ``lie(world, lambda query, fetch: [])``."""
    with requests_mock.Mocker(real_http=True) as mocker:

        def start(world: World, lie: Lie) -> None:
            tell = tell_lies(world.simulator, lie)
            mocker.get(f"{world.simulator.url}/call", content=tell)

        yield start
