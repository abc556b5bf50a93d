# SPDX-License-Identifier: Apache-2.0
"""The simulator's public interface: calls to drive, faults to add, and a local address."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vapi_provider.simulator import bodies
from vapi_provider.simulator.app import create_app
from vapi_provider.simulator.artifacts import Artifact, Artifacts
from vapi_provider.simulator.clock import Clock, SystemClock
from vapi_provider.simulator.faults import Faults
from vapi_provider.simulator.gateway import Gateway
from vapi_provider.simulator.local_server import HOST, LocalServer
from vapi_provider.simulator.store import CallStore, OverLimit
from vapi_provider.simulator.timeline import DEFAULT_TIMELINE, StructuredOutput, Timeline, TimelineChoice

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection, Mapping
    from datetime import datetime
    from types import TracebackType

    from starlette.types import ASGIApp

    from vapi_provider.simulator.record import CallRecord
    from vapi_provider.simulator.request_log import RequestRecord

# Not a secret: it only gives access to a simulator on this machine.
DEFAULT_API_KEY = "simulator-key"


class VapiSimulator:
    """
    A local Vapi: the call API over HTTP on 127.0.0.1, without real calls.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`; stopping keeps the calls and
    the port, so ``stop()`` and then ``start()`` simulates an outage. While it runs, all methods may be
    called from any thread. In a browser, ``/`` lists the calls and ``/calls/{id}`` shows one; these
    pages do not need the key.

    :param api_key: the private key that requests must carry.
    :param clock: times the calls, the lag of the list and the ``Date`` headers; by default the
        computer's clock. Tests that must not wait use a :class:`ManualClock`.
    :param timeline: the steps of a call placed with ``POST /call``, or a function that returns them
        for the body of the request, such as a :class:`Scenario`.
    :param concurrency_limit: how many calls may be live at once.
    :param over_limit: what happens to a call beyond that: it is refused with 400 (``refuse``), accepted
        and ended at once without a ring (``end``), or accepted and dialled anyway (``queue``); the
        response to the latter two has ``concurrencyBlocked``.
    :param list_lag: how many seconds ``GET /call`` is behind.
    :param hidden_fields: fields of a call that no response shows; it is not known for sure which ones
        the real API shows.
    :param link_lifetime: how many seconds the signed URL of a recording is valid.
    :param port: the port to listen on; 0 picks a free one. Recordings are served on another free port.
    """

    def __init__(
        self,
        *,
        api_key: str = DEFAULT_API_KEY,
        clock: Clock | None = None,
        timeline: TimelineChoice = DEFAULT_TIMELINE,
        concurrency_limit: int = 10,
        over_limit: OverLimit = "refuse",
        list_lag: float = 0,
        hidden_fields: Collection[str] = (),
        link_lifetime: float = 300,
        port: int = 0,
    ) -> None:
        self.api_key = api_key
        self.clock: Clock = clock or SystemClock()
        self.faults: Faults = Faults()
        self.requests: list[RequestRecord] = []
        self._store = CallStore(
            self.clock,
            timeline,
            concurrency_limit=concurrency_limit,
            over_limit=over_limit,
            list_lag=list_lag,
            hidden_fields=hidden_fields,
        )
        self._artifacts = Artifacts(self.clock, link_lifetime)
        self.app: ASGIApp = self._behind_gateway(
            create_app(self._store, self._artifacts, api_key, self.requests)
        )
        self._server = LocalServer(self.app, port)
        self._artifact_server = LocalServer(self._behind_gateway(self._artifacts.app), 0)

    def _behind_gateway(self, app: ASGIApp) -> ASGIApp:
        return Gateway(app, self.clock, self.faults, self.requests)

    def __enter__(self) -> VapiSimulator:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """
        Start serving requests.

        :raises RuntimeError: if it is already running.
        :raises OSError: if the port is in use.
        """
        self._server.start()
        self._store.base_url = self.url
        self._artifact_server.start()
        self._artifacts.port = self._artifact_server.port

    def stop(self) -> None:
        """Close every connection, even during a response, and end the server's thread."""
        self._server.stop()
        self._artifact_server.stop()

    @property
    def url(self) -> str:
        """
        The base URL, such as ``http://127.0.0.1:43121``.

        :raises RuntimeError: if it was never started and so has no port yet.
        """
        if not self._server.port:
            raise RuntimeError("the simulator has no address until it is started")
        return f"http://{HOST}:{self._server.port}"

    @property
    def connection(self) -> str:
        """The Airflow connection to this simulator, as JSON for an ``AIRFLOW_CONN_...`` variable."""
        return json.dumps({"conn_type": "vapi", "host": self.url, "password": self.api_key})

    @property
    def timeline(self) -> TimelineChoice:
        """The steps of the calls that are placed from now on; may be set at any time."""
        return self._store.timeline

    @timeline.setter
    def timeline(self, timeline: TimelineChoice) -> None:
        self._store.timeline = timeline

    @property
    def calls(self) -> dict[str, dict[str, Any]]:
        """Copies of all calls' JSON by id, oldest first."""
        return self._store.snapshots()

    @property
    def rings(self) -> Counter[str]:
        """
        How often each callee's phone has rung: once for each placed call that reached ``ringing``.

        A callee is a number or SIP URI, with ``;ext=`` and the extension if there is one, or the
        ``customerId`` of a request that has only that.
        """
        return self._store.rings()

    def get_call(self, call_id: str) -> dict[str, Any]:
        """
        Return a copy of a call's current JSON.

        :param call_id: the call's id.
        :raises KeyError: if there is no such call.
        """
        return self._store.snapshot(call_id)

    def add_call(
        self,
        *,
        status: str = "queued",
        timeline: Timeline | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> str:
        """
        Add a call that was placed elsewhere; its rings are not counted.

        :param status: its status; an answered call has a ``startedAt``, and an ended one the fields of
            an end, both at its creation.
        :param timeline: its steps from its creation on; without one it changes only by the methods
            below.
        :param body: raw fields of the API's JSON that replace the made-up ones, including ``id``,
            ``createdAt`` and ``updatedAt``.
        :raises ValueError: if there is already a call with this id.
        :return: the call's id.
        """
        return self._store.add({"status": status, **(body or {})}, timeline)

    def add_artifact(
        self, call_id: str, kind: str, content: bytes, *, content_type: str = "binary/octet-stream"
    ) -> None:
        """
        Add a recording, the video, the packet capture or the log of a call.

        A request for it is redirected to a signed URL on another port. A call whose end came with a transcript has
        a short recording of silence already.

        :param call_id: the call's id.
        :param kind: the last part of its path, such as ``mono-recording`` or ``call-logs``.
        :param content: the file.
        :param content_type: what it is served as.
        :raises KeyError: when there is no such call.
        :raises ValueError: for an unknown kind.
        """
        self._store.snapshot(call_id)
        self._artifacts.add(call_id, kind, Artifact(content, content_type))

    def set_status(self, call_id: str, status: str) -> None:
        """
        Change a call's status, and set ``startedAt`` if it is answered.

        Like every change by hand, this takes the call off its timeline.

        :param call_id: the call's id.
        :param status: any status, known or not.
        :raises KeyError: if there is no such call.
        """
        self._store.drive(call_id, lambda record, now: record.set_status(now, status))

    def end_call(
        self,
        call_id: str,
        ended_reason: str = "customer-ended-call",
        *,
        analysis: Mapping[str, Any] | None = None,
        transcript: str | None = None,
        cost: float = DEFAULT_TIMELINE.cost,
    ) -> None:
        """
        End a call; results that are given are there at once, others do not follow by themselves.

        :param call_id: the call's id.
        :param ended_reason: the ``endedReason``.
        :param analysis: the ``analysis``.
        :param transcript: the conversation, with one ``AI: ...`` or ``User: ...`` per line.
        :param cost: the cost, in US dollars.
        :raises KeyError: if there is no such call.
        """
        extra = bodies.costs(cost)
        if analysis is not None:
            extra["analysis"] = dict(analysis)

        def end(record: CallRecord, now: datetime) -> None:
            if transcript is not None:
                extra["artifact"] = bodies.artifact(call_id, transcript, record.current.created_at)
            record.end(now, ended_reason, extra)

        self._store.drive(call_id, end)

    def add_analysis(
        self, call_id: str, analysis: Mapping[str, Any], *, moves_updated_at: bool = True
    ) -> None:
        """
        Add the analysis that arrives after the end.

        :param call_id: the call's id.
        :param analysis: the ``analysis``.
        :param moves_updated_at: whether ``updatedAt`` moves; it is not known whether it does in the real API.
        :raises KeyError: if there is no such call.
        """
        fields = {"analysis": dict(analysis)}
        self._store.drive(
            call_id, lambda record, now: record.change(now, fields, moves_updated_at=moves_updated_at)
        )

    def add_structured_output(
        self, call_id: str, output: StructuredOutput, *, moves_updated_at: bool = True
    ) -> None:
        """
        Add a structured output at once, as extracted or as skipped.

        :param call_id: the call's id.
        :param output: the output; its lag is ignored.
        :param moves_updated_at: whether ``updatedAt`` moves; it is not known whether it does in the real API.
        :raises KeyError: if there is no such call.
        """
        self._store.drive(
            call_id, lambda record, now: record.extract(now, output, moves_updated_at=moves_updated_at)
        )
