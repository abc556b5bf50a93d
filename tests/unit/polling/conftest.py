# SPDX-License-Identifier: Apache-2.0
"""
Event loops, simulators and clocks for the triggers, and a look after each test whether anything is left of them.

Two ways to let a trigger run: ``run`` is an event loop in real time, with ``short_pauses`` so that nobody waits for
seconds; ``world`` is an event loop, a simulator and a clock of their own, in which hours take no time and the constants
stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests_mock
from polling_world import InProcessSimulator, VapiClock, World, nothing_left, run, short_pauses, use_clock
from virtual_time import VirtualClock

__all__ = ["nothing_left", "run", "short_pauses"]


@pytest.fixture
def make_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """Make the one world of a test: ``make_world(off=timedelta(minutes=7), list_lag=30)``."""
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
