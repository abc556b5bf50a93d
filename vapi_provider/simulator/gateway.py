# SPDX-License-Identifier: Apache-2.0
"""What stands between a caller and the simulated API: a check like Cloudflare's, the log, the faults."""

from __future__ import annotations

from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from vapi_provider.simulator import bodies
from vapi_provider.simulator.errors import error_body
from vapi_provider.simulator.faults import Fault, Faults
from vapi_provider.simulator.page import PREFIX
from vapi_provider.simulator.request_log import RequestRecord, safe_path
from vapi_provider.simulator.validation import LIST_FILTERS
from vapi_provider.simulator.wire import Answer, Wire

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from vapi_provider.simulator.clock import Clock

_BODILESS_STATUSES = frozenset({204, 304})


class Gateway:
    """
    An ASGI application around the API's own.

    :param app: the simulated API.
    :param clock: gives the time of the log and of the answers' ``Date`` header.
    :param faults: what goes wrong with which request.
    :param log: where each request is noted as it arrives.
    """

    def __init__(self, app: ASGIApp, clock: Clock, faults: Faults, log: list[RequestRecord]) -> None:
        self._app = app
        self._clock = clock
        self._faults = faults
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; those for web pages are no part of the API, so they are neither logged nor disturbed."""
        if scope["type"] != "http" or scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        content = await _read_content(receive)
        if content is None:
            return
        record = self._note(scope)
        fault = self._faults.take(scope["method"], scope["path"]) or Fault()
        answer = await self._answer(scope, content, fault)
        await Wire(scope, receive, send, record).deliver(answer, fault)

    def _note(self, scope: Scope) -> RequestRecord:
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        filters = {name: value for name, value in query.items() if name in LIST_FILTERS}
        record = RequestRecord(self._clock.now(), scope["method"], safe_path(scope["path"]), filters)
        self._log.append(record)
        return record

    async def _answer(self, scope: Scope, content: bytes, fault: Fault) -> Answer:
        answer = None
        if fault.processes_request:
            answer = await self._process(scope, content)
        if answer is None or fault.replaces_answer:
            answer = _fault_answer(fault)
        date = format_datetime(self._clock.now(), usegmt=True)
        return answer.with_headers({"Content-Length": str(len(answer.body)), "Date": date, **fault.headers})

    async def _process(self, scope: Scope, content: bytes) -> Answer:
        if not any(name == b"user-agent" and value.strip() for name, value in scope["headers"]):
            return Answer(403, [(b"content-type", b"text/plain; charset=UTF-8")], b"error code: 1010")
        exchange = _Exchange(content)
        await self._app(scope, exchange.receive, exchange.send)
        return exchange.answer


class _Exchange:
    """Hands the API a request that was read already, and keeps its answer."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.answer = Answer(500, [], b"")

    async def receive(self) -> Message:
        return {"type": "http.request", "body": self._content, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.answer = Answer(message["status"], list(message["headers"]), b"")
        else:
            content = self.answer.body + message.get("body", b"")
            self.answer = Answer(self.answer.status, self.answer.headers, content)


async def _read_content(receive: Receive) -> bytes | None:
    """Return the request's body, or None when the caller went away while sending it."""
    content = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        content += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(content)


def _fault_answer(fault: Fault) -> Answer:
    status = fault.status or 200
    content = fault.body
    if status in _BODILESS_STATUSES:
        content = b""
    elif content is None:
        content = bodies.encode(error_body(status))
    elif isinstance(content, str):
        content = content.encode()
    return Answer(status, [(b"content-type", fault.content_type.encode())], content)
