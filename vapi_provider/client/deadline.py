# SPDX-License-Identifier: Apache-2.0
"""
One time limit for a whole request.

The ``timeout`` of requests restarts with every address and every byte, so a response that drips never times out. Here,
connecting, TLS, headers and body share one deadline; only name resolution is outside it. The body of a long download has
a minimum pace instead.
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
"""A paced download must receive PACE_BYTES within this time, in seconds."""

Guard = Callable[[str, str], None]
"""Called with a host and its address before a connection, to refuse it by raising."""


class _Deadline:
    """The time at which a request must be over."""

    def __init__(self, seconds: float) -> None:
        self.ends_at = time.monotonic() + seconds

    def left(self) -> float:
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time limit of the request is over")
        return left

    def begin_body(self) -> None:
        """React to the arrival of the headers."""

    def receive(self, count: int) -> None:
        """React to the arrival of bytes."""


class _Pace(_Deadline):
    """A deadline that moves on with every 64 KiB of the body."""

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
    """Reads from a socket until the deadline."""

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
    """Connect to one of the addresses of a host before the deadline."""
    deadline = _deadline.get()
    name = conn._dns_host
    failure: Exception = NewConnectionError(conn, "the host name has no address")
    addresses = _addresses(name, conn.port)
    guard = _guard.get()
    if guard is not None and conn.proxy is None:
        # These very addresses are connected to; the name is not resolved again.
        for address in addresses:
            guard(name, address)
    for tried, address in enumerate(addresses):
        try:
            # Share the time, so that an address that does not respond leaves some for the next.
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
        # urllib3 resolves the name again and raises its own error.
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
    """An adapter that applies ``timeout``, in seconds, to a whole request."""

    _guard: Guard | None = None
    _kind: type[_Deadline] = _Deadline

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        # SOCKS connections have a class of their own, whose limit applies to each wait.
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


class DownloadAdapter(DeadlineAdapter):
    """
    An adapter whose ``timeout`` ends with the headers; the body has a minimum pace instead.

    :param guard: checks each address before a connection, but not behind a proxy, which resolves names itself
    """

    _kind = _Pace

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._guard = guard
