# SPDX-License-Identifier: Apache-2.0
"""Fixtures for client and hook tests: no real back-off, and no request leaves this machine."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests_mock
from http_helpers import FakeTime, RawServer

Addresses = dict[str, list[str] | OSError]


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses between tries instead of sleeping."""
    recorded: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=recorded.append))
    return recorded


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """Put the whole process on a fake clock; only for tests without sockets."""
    clock = FakeTime()
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=clock.sleep))
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def api() -> Iterator[requests_mock.Mocker]:
    """Replace every server; a request that the test does not expect is an error."""
    with requests_mock.Mocker() as mocker:
        yield mocker


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> Addresses:
    """Set a host name's addresses: ``addresses["localhost"] = ["127.0.9.9", "127.0.0.1"]``, or an error."""
    known: Addresses = {}
    resolve = socket.getaddrinfo

    def resolve_here(host: Any, port: Any, *args: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in known:
            return resolve(host, port, *args, **named)
        found = known[name]
        if isinstance(found, OSError):
            raise found
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve_here)
    return known


@pytest.fixture
def raw_server() -> Iterator[Callable[..., RawServer]]:
    """Start misbehaving servers, and stop them after the test."""
    running: list[RawServer] = []

    def start(*args: Any, **kwargs: Any) -> RawServer:
        running.append(RawServer(*args, **kwargs))
        return running[-1]

    yield start
    for server in running:
        server.stop()
