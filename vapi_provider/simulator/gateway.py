# SPDX-License-Identifier: Apache-2.0
"""The layer in front of the simulated API: the log, the faults, and a check like Cloudflare's."""

from __future__ import annotations

from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from starlette.responses import Response

from vapi_provider.simulator import bodies
from vapi_provider.simulator.access import REFUSAL, names_other_host
from vapi_provider.simulator.errors import error_body
from vapi_provider.simulator.faults import Fault, Faults
from vapi_provider.simulator.page_routes import is_page
from vapi_provider.simulator.request_log import RequestRecord, safe_path
from vapi_provider.simulator.validation import LIST_FILTERS
from vapi_provider.simulator.wire import RawResponse, Wire

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from vapi_provider.simulator.clock import Clock

_BODILESS_STATUSES = frozenset({204, 304})


class Gateway:
    """
    An ASGI application that wraps the API's own.

    :param app: the simulated API.
    :param clock: the clock of the log and of the responses' ``Date`` header.
    :param faults: what goes wrong with which request.
    :param log: where each request is recorded as it arrives.
    """

    def __init__(self, app: ASGIApp, clock: Clock, faults: Faults, log: list[RequestRecord]) -> None:
        self._app = app
        self._clock = clock
        self._faults = faults
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request; those for web pages are neither logged nor subject to faults."""
        if scope["type"] == "http" and names_other_host(scope):
            refusal = Response(bodies.encode(error_body(403, REFUSAL)), 403, media_type="application/json")
            await refusal(scope, receive, send)
            return
        if scope["type"] != "http" or is_page(scope["path"]):
            await self._app(scope, receive, send)
            return
        content = await _read_content(receive)
        if content is None:
            return
        record = self._record(scope)
        fault = self._faults.take(scope["method"], scope["path"]) or Fault()
        response = await self._respond(scope, content, fault)
        await Wire(scope, receive, send, record).deliver(response, fault)

    def _record(self, scope: Scope) -> RequestRecord:
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        filters = {name: value for name, value in query.items() if name in LIST_FILTERS}
        record = RequestRecord(self._clock.now(), scope["method"], safe_path(scope["path"]), filters)
        self._log.append(record)
        return record

    async def _respond(self, scope: Scope, content: bytes, fault: Fault) -> RawResponse:
        response = None
        if fault.processes_request:
            response = await self._process(scope, content)
        if response is None or fault.replaces_response:
            response = _fault_response(fault)
        date = format_datetime(self._clock.now(), usegmt=True)
        return response.with_headers(
            {"Content-Length": str(len(response.body)), "Date": date, **fault.headers}
        )

    async def _process(self, scope: Scope, content: bytes) -> RawResponse:
        if not any(name == b"user-agent" and value.strip() for name, value in scope["headers"]):
            return RawResponse(403, [(b"content-type", b"text/plain; charset=UTF-8")], b"error code: 1010")
        exchange = _Exchange(content)
        await self._app(scope, exchange.receive, exchange.send)
        return exchange.response


class _Exchange:
    """Passes a request that was already read to the API, and keeps the response."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.response = RawResponse(500, [], b"")

    async def receive(self) -> Message:
        return {"type": "http.request", "body": self._content, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.response = RawResponse(message["status"], list(message["headers"]), b"")
        else:
            content = self.response.body + message.get("body", b"")
            self.response = RawResponse(self.response.status, self.response.headers, content)


async def _read_content(receive: Receive) -> bytes | None:
    """Return the request's body, or None if the client disconnected while sending it."""
    content = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        content += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(content)


def _fault_response(fault: Fault) -> RawResponse:
    status = fault.status or 200
    content = fault.body
    if status in _BODILESS_STATUSES:
        content = b""
    elif content is None:
        content = bodies.encode(error_body(status))
    elif isinstance(content, str):
        content = content.encode()
    return RawResponse(status, [(b"content-type", fault.content_type.encode())], content)
