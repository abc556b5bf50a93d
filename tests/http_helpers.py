# SPDX-License-Identifier: Apache-2.0
"""Helpers for client and hook tests: a connection, a check for leaked secrets, and a misbehaving server."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow.providers.common.compat.sdk import Connection
from vapi_provider.client.client import VapiClient
from vapi_provider.connection import read_settings
from vapi_provider.exceptions import VapiError
from vapi_provider.hooks.vapi import VapiHook

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator

KEY = "7d1f0c52-4b7a-key-of-the-tests"
CALL_ID = "019a7c2e-5f00-7000-8000-0000000000aa"
OTHER_ID = "019a7c2e-5f00-7000-8000-0000000000bb"
API = "https://api.vapi.ai"
PATH = f"/call/{CALL_ID}"
CALL_URL = f"{API}{PATH}"
CALL = {"id": CALL_ID, "status": "ended", "name": "Reminder"}
CONN_ID = "vapi_of_tests"
LIFE_SECONDS = 30.0
"""When a misbehaving server closes its connections, so that no test waits forever."""


def make_connection(**fields: Any) -> Connection:
    return Connection(**{"conn_id": CONN_ID, "conn_type": "vapi", "password": KEY, **fields})


def make_client(host: str | None = None, *, password: str = KEY, **limits: Any) -> VapiClient:
    """
    Return a client for a connection that is not stored in Airflow.

    :param limits: timeout, max_retries, max_response_bytes; the form's bounds do not apply
    """
    settings = read_settings(make_connection(host=host, password=password))
    return VapiClient(dataclasses.replace(settings, **limits), logging.getLogger("vapi_tests"))


def client_of(simulator: VapiSimulator, **limits: Any) -> VapiClient:
    return make_client(simulator.url, password=simulator.api_key, **limits)


def make_hook(host: str | None = None, *, password: str = KEY, **limits: Any) -> VapiHook:
    """Return a hook with the client of :func:`make_client`."""
    hook = VapiHook(CONN_ID)
    hook.client = make_client(host, password=password, **limits)
    return hook


def vapi_error(status: int, message: Any, **fields: Any) -> str:
    """Return the body of an error in Vapi's format."""
    return json.dumps({"message": message, "error": "Some Error", "statusCode": status, **fields})


def failure(kind: type[VapiError], run: Callable[[], Any], *, secret: str = KEY) -> Any:
    """Run a function that must raise exactly this public exception, and check that it does not leak the key."""
    with pytest.raises(VapiError) as caught:
        run()
    error = caught.value
    public = next(base for base in type(error).__mro__ if base.__module__ == "vapi_provider.exceptions")
    assert public is kind, error
    assert_no_secret(error, secret)
    return error


def assert_no_secret(error: BaseException, secret: str = KEY) -> None:
    assert secret not in "".join(traceback.format_exception(error))
    todo: list[BaseException | None] = [error]
    while todo:
        link = todo.pop()
        if link is None:
            continue
        # These contain the request with its Authorization header.
        assert not isinstance(link, requests.RequestException)
        assert not hasattr(link, "request")
        assert secret not in f"{link!s} {link!r} {link.args!r} {vars(link)!r}"
        todo += [link.__cause__, link.__context__]


def response_bytes(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}Connection: close\r\n\r\n"
    return head.encode() + body


class FakeTime:
    """A clock that advances when the code sleeps, or when a test advances it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


class RawServer:
    """
    Listens on 127.0.0.1, and lets a function misbehave on each connection.

    :param talk: handles a connection; it may wait with ``rest``, and socket errors end it quietly
    :param tls: wraps each connection before ``talk`` gets it
    """

    def __init__(
        self, talk: Callable[[socket.socket, RawServer], None], tls: ssl.SSLContext | None = None
    ) -> None:
        self.heads: list[str] = []
        self.is_reached = threading.Event()
        self.connections: list[socket.socket] = []
        self._talk = talk
        self._tls = tls
        self._stopping = threading.Event()
        self._ends_at = time.monotonic() + LIFE_SECONDS
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"{'https' if tls else 'http'}://{self.address}"

    def rest(self, seconds: float = LIFE_SECONDS) -> bool:
        """Wait, and return whether the test is over or its client exceeded its time limit."""
        return self._stopping.wait(seconds) or time.monotonic() > self._ends_at

    def read_head(self, connection: socket.socket) -> str:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            if not byte:
                raise ConnectionError("the client closed the connection")
            head += byte
        self.heads.append(head.decode())
        return self.heads[-1]

    def drip(self, connection: socket.socket, content: bytes, pause: float = 0.05) -> None:
        for byte in content:
            connection.sendall(bytes([byte]))
            if self.rest(pause):
                return

    def stop(self) -> None:
        self._stopping.set()
        for sock in (self._listener, *self.connections):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(60)
            assert not thread.is_alive()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._stopping.is_set():
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                self.is_reached.set()
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        # An ssl.SSLError is an OSError.
        with contextlib.suppress(OSError), connection:
            if self._tls is None:
                self._talk(connection, self)
            else:
                with self._tls.wrap_socket(connection, server_side=True) as wrapped:
                    self._talk(wrapped, self)


def respond_with(content: bytes) -> Callable[[socket.socket, RawServer], None]:
    """Respond to the first request of each connection with these bytes."""

    def talk(connection: socket.socket, server: RawServer) -> None:
        server.read_head(connection)
        connection.sendall(content)

    return talk
