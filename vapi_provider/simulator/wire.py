# SPDX-License-Identifier: Apache-2.0
"""How a response is sent: at once, late, byte by byte, or incompletely."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

    from vapi_provider.simulator.faults import Fault
    from vapi_provider.simulator.request_log import RequestRecord

# With a linger time of zero, closing sends a reset (RST) instead of an orderly end (FIN).
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_BUFFER_CHECK_SECONDS = 0.005


@dataclass(frozen=True)
class RawResponse:
    """An HTTP response before it is sent."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def with_headers(self, headers: Mapping[str, str]) -> RawResponse:
        """Return the response with these headers, which replace those of the same name."""
        added = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        merged = dict([*self.headers, *added])
        return replace(self, headers=list(merged.items()))

    @property
    def head(self) -> bytes:
        """The status line and the headers in bytes, for the last response on a connection."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = ""
        lines = [f"HTTP/1.1 {self.status} {phrase}".encode()]
        lines += [name + b": " + value for name, value in self.headers]
        return b"\r\n".join([*lines, b"connection: close", b"", b""])


class Wire:
    """
    The way back to the client of one request.

    :param scope: the request's ASGI scope; the simulator's own server puts its transport there.
    :param receive: returns once the client disconnects.
    :param send: sends a complete response.
    :param record: the request's log record; it is complete before the response's last byte is
        sent, so that a client that has the response finds it in the log.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, record: RequestRecord) -> None:
        self._transport: asyncio.Transport | None = scope.get("state", {}).get("transport")
        self._receive = receive
        self._send = send
        self._record = record

    async def deliver(self, response: RawResponse, fault: Fault) -> None:
        """
        Send the response as far as the fault allows.

        :param response: the whole response.
        :param fault: what goes wrong on the way; a plain ``Fault()`` for nothing.
        """
        if fault.delay and await self._gone_within(fault.delay):
            return
        if fault.reset == "before":
            await self._reset()
        elif fault.reset == "midway":
            half = response.body[: len(response.body) // 2]
            self._log(response.status, len(half))
            self._raw.write(response.head + half)
            await self._reset()
        elif fault.drip is not None:
            await self._drip(response, fault.drip, fault.drip_headers)
        else:
            self._log(response.status, len(response.body))
            await self._send_whole(response)

    async def _send_whole(self, response: RawResponse) -> None:
        start = {"type": "http.response.start", "status": response.status, "headers": response.headers}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": response.body})

    async def _drip(self, response: RawResponse, seconds: float, with_headers: bool) -> None:
        self._log(response.status, 0)
        head = response.head
        if not with_headers:
            self._raw.write(head)
            head = b""
        for position, byte in enumerate(head + response.body, start=1):
            if await self._gone_within(seconds):
                return
            self._log(response.status, max(0, position - len(head)))
            self._raw.write(bytes([byte]))
        self._raw.close()
        await self._gone()

    async def _reset(self) -> None:
        while self._raw.get_write_buffer_size():
            if await self._gone_within(_BUFFER_CHECK_SECONDS):
                return
        self._raw.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._raw.abort()
        await self._gone()

    @property
    def _raw(self) -> asyncio.Transport:
        if self._transport is None:
            raise RuntimeError("resets and drips need the simulator's own server: VapiSimulator.start()")
        return self._transport

    def _log(self, status: int, bytes_sent: int) -> None:
        self._record.status = status
        self._record.bytes_sent = bytes_sent

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _gone_within(self, seconds: float) -> bool:
        """Wait, but only while the client is connected; a stopping server disconnects all clients."""
        try:
            await asyncio.wait_for(self._gone(), seconds)
        except asyncio.TimeoutError:
            return False
        return True
