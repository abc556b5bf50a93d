# SPDX-License-Identifier: Apache-2.0
"""
One time limit for a whole request.

The ``timeout`` of requests starts anew with every address and every byte, so a response that drips never times out. Here
every wait on the socket ends at one instant: connecting, TLS, headers and body. Only the resolver is outside it. A long
download has a pace to keep in place of an end.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

PACE_BYTES = 65_536
PACE_SECONDS = 30.0
"""A download whose pace is kept gets at least PACE_BYTES in this time, in seconds."""

Guard = Callable[[str, str], None]
"""Refuses, by an exception, to connect to an address of a host."""


class _Deadline:
    """The instant at which a request must be over."""

    def __init__(self, seconds: float) -> None:
        self.ends_at = time.monotonic() + seconds

    def left(self) -> float:
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time limit of the request is over")
        return left

    def begin_body(self) -> None:
        """Take note that the headers are there."""

    def receive(self, count: int) -> None:
        """Take note of bytes that have arrived."""


class _Pace(_Deadline):
    """A deadline for connection and headers, and one that moves on with every 64 KiB of the body."""

    _received = 0

    def begin_body(self) -> None:
        self._received = 0
        self.ends_at = time.monotonic() + PACE_SECONDS

    def receive(self, count: int) -> None:
        self._received += count
        if self._received >= PACE_BYTES:
            self.begin_body()


_deadline: ContextVar[_Deadline] = ContextVar("_deadline")
_guard: ContextVar[Guard | None] = ContextVar("_guard", default=None)


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket until the request's time is over."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: _Deadline) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._deadline.left())
        count = self._raw.readinto(buffer)
        self._deadline.receive(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    """Reads its headers and body through a :class:`_DeadlineReader`."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_DeadlineReader(self.fp.detach(), sock, _deadline.get()))


def _connect(conn: Any, connect: Callable[[], socket.socket]) -> socket.socket:
    """Connect within the request's time, however many addresses the name has."""
    deadline = _deadline.get()
    name = conn._dns_host
    failure: Exception = NewConnectionError(conn, "the host name has no address")
    addresses = _addresses(name, conn.port)
    guard = _guard.get()
    if guard is not None and conn.proxy is None:
        # What is checked is what is connected to: the name is not resolved again.
        for address in addresses:
            guard(name, address)
    for tried, address in enumerate(addresses):
        try:
            # A share for each, so that one that swallows packets leaves time for the next.
            conn.timeout = deadline.left() / (len(addresses) - tried)
            conn._dns_host = address
            sock = connect()
            sock.settimeout(deadline.left())
            return sock
        except (ConnectTimeoutError, NewConnectionError) as error:
            failure = error
        except TimeoutError as error:
            failure = ConnectTimeoutError(conn, str(error))
            break
        finally:
            conn._dns_host = name
    raise failure


def _addresses(name: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        # urllib3 asks again and has an error of its own for this.
        return [name]
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class _DeadlineHTTPConnection(HTTPConnection):
    response_class = _DeadlineResponse

    def _new_conn(self) -> socket.socket:
        return _connect(self, super()._new_conn)


class _DeadlineHTTPSConnection(HTTPSConnection):
    response_class = _DeadlineResponse

    def _new_conn(self) -> socket.socket:
        return _connect(self, super()._new_conn)


class _DeadlineHTTPPool(HTTPConnectionPool):
    ConnectionCls = _DeadlineHTTPConnection


class _DeadlineHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _DeadlineHTTPSConnection


_POOLS = {"http": _DeadlineHTTPPool, "https": _DeadlineHTTPSPool}


class DeadlineAdapter(HTTPAdapter):
    """
    Transport of a requests session whose ``timeout`` is the time limit of a whole request, in seconds.

    :param guard: checks each address before anything connects to it; not behind a proxy, which resolves names itself
    :param is_paced: whether the time limit is for the headers, and the body has a pace to keep
    """

    def __init__(self, guard: Guard | None = None, *, is_paced: bool = False) -> None:
        super().__init__()
        self._guard = guard
        self._kind = _Pace if is_paced else _Deadline

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        # A SOCKS proxy brings connections of its own kind; there the limit holds for each wait alone.
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = _POOLS
        return manager

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Response:
        deadline = self._kind(timeout)
        tokens = _deadline.set(deadline), _guard.set(self._guard)
        try:
            response = super().send(request, stream, timeout, verify, cert, proxies)
        finally:
            _deadline.reset(tokens[0])
            _guard.reset(tokens[1])
        deadline.begin_body()
        return response
