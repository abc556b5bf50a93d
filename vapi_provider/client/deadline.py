# SPDX-License-Identifier: Apache-2.0
"""
One time limit for a whole request.

The ``timeout`` of requests starts anew with every address and every byte, so a response that drips never times out. Here
every wait on the socket ends at one instant: connecting, TLS, headers and body. Only the resolver is outside it.
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

_ends_at: ContextVar[float] = ContextVar("_ends_at")


def _time_left(ends_at: float) -> float:
    left = ends_at - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time limit of the request is over")
    return left


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket until the request's time is over."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, ends_at: float) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        self._ends_at = ends_at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_time_left(self._ends_at))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    """Reads its headers and body through a :class:`_DeadlineReader`."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_DeadlineReader(self.fp.detach(), sock, _ends_at.get()))


def _connect(conn: Any, connect: Callable[[], socket.socket]) -> socket.socket:
    """Connect within the request's time, however many addresses the name has."""
    ends_at = _ends_at.get()
    name = conn._dns_host
    failure: Exception = NewConnectionError(conn, "the host name has no address")
    addresses = _addresses(name, conn.port)
    for tried, address in enumerate(addresses):
        try:
            # A share for each, so that one that swallows packets leaves time for the next.
            conn.timeout = _time_left(ends_at) / (len(addresses) - tried)
            conn._dns_host = address
            sock = connect()
            sock.settimeout(_time_left(ends_at))
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
    """Transport of a requests session whose ``timeout`` is the time limit of a whole request, in seconds."""

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
        token = _ends_at.set(time.monotonic() + timeout)
        try:
            return super().send(request, stream, timeout, verify, cert, proxies)
        finally:
            _ends_at.reset(token)
