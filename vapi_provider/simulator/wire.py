# SPDX-License-Identifier: Apache-2.0
"""How an answer travels back: at once, late, byte by byte, or not to its end."""

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

# Linger for no time at all: closing then sends a reset (RST) in place of an orderly end (FIN).
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_BUFFER_CHECK_SECONDS = 0.005


@dataclass(frozen=True)
class Answer:
    """An HTTP answer before it is sent."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def with_headers(self, headers: Mapping[str, str]) -> Answer:
        """Return the answer with these headers in place of those of the same name."""
        added = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        merged = dict([*self.headers, *added])
        return replace(self, headers=list(merged.items()))

    @property
    def head(self) -> bytes:
        """The status line and the headers as they go over the wire, for an answer that ends it."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = ""
        lines = [f"HTTP/1.1 {self.status} {phrase}".encode()]
        lines += [name + b": " + value for name, value in self.headers]
        return b"\r\n".join([*lines, b"connection: close", b"", b""])


class Wire:
    """
    The way back to the caller of one request.

    :param scope: the request's ASGI scope; the simulator's own server puts its transport there.
    :param receive: tells when the caller goes away.
    :param send: sends an answer the orderly way.
    :param record: the log's line for the request; it is complete before the answer's last byte is
        sent, so that a caller who has the answer finds it in the log.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, record: RequestRecord) -> None:
        self._transport: asyncio.Transport | None = scope.get("state", {}).get("transport")
        self._receive = receive
        self._send = send
        self._record = record

    async def deliver(self, answer: Answer, fault: Fault) -> None:
        """
        Send the answer as well as the fault lets it through.

        :param answer: the whole answer.
        :param fault: what happens on the way; a plain ``Fault()`` for nothing.
        """
        if fault.delay and await self._gone_within(fault.delay):
            return
        if fault.reset == "before":
            await self._reset()
        elif fault.reset == "midway":
            half = answer.body[: len(answer.body) // 2]
            self._note(answer.status, len(half))
            self._raw.write(answer.head + half)
            await self._reset()
        elif fault.drip is not None:
            await self._drip(answer, fault.drip, fault.drip_headers)
        else:
            self._note(answer.status, len(answer.body))
            await self._send_whole(answer)

    async def _send_whole(self, answer: Answer) -> None:
        start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": answer.body})

    async def _drip(self, answer: Answer, seconds: float, with_headers: bool) -> None:
        self._note(answer.status, 0)
        head = answer.head
        if not with_headers:
            self._raw.write(head)
            head = b""
        for position, byte in enumerate(head + answer.body, start=1):
            if await self._gone_within(seconds):
                return
            self._note(answer.status, max(0, position - len(head)))
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

    def _note(self, status: int, bytes_sent: int) -> None:
        self._record.status = status
        self._record.bytes_sent = bytes_sent

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _gone_within(self, seconds: float) -> bool:
        """Wait, but no longer than the caller does; a stopping server makes everybody go away."""
        try:
            await asyncio.wait_for(self._gone(), seconds)
        except asyncio.TimeoutError:
            return False
        return True
