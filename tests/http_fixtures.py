# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of client and hook: no test waits for a back-off, and none reaches beyond this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests_mock
from http_helpers import FakeTime, RawServer

from vapi_provider.simulator import VapiSimulator


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record how long the pauses between tries would have been."""
    recorded: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=recorded.append))
    return recorded


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own proxies, certificates and passwords out of the tests."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NETRC", os.devnull)


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """Put the whole process on a clock of the test; only for tests that use no socket."""
    clock = FakeTime()
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=clock.sleep))
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def api() -> Iterator[requests_mock.Mocker]:
    """Respond in place of every server; a request that a test does not expect is an error."""
    with requests_mock.Mocker() as mocker:
        yield mocker


@pytest.fixture
def simulator() -> Iterator[VapiSimulator]:
    with VapiSimulator() as running:
        yield running


@pytest.fixture
def raw_server() -> Iterator[Callable[..., RawServer]]:
    """Start servers that misbehave, and stop them after the test."""
    running: list[RawServer] = []

    def start(*args: Any, **kwargs: Any) -> RawServer:
        running.append(RawServer(*args, **kwargs))
        return running[-1]

    yield start
    for server in running:
        server.stop()
