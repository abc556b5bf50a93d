# SPDX-License-Identifier: Apache-2.0
"""The simulator as its users see it: calls to drive, faults to plan, and a local address to talk to."""

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
from vapi_provider.simulator.timeline import DEFAULT_TIMELINE, StructuredOutput, Timeline

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection, Mapping
    from datetime import datetime
    from types import TracebackType

    from starlette.types import ASGIApp

    from vapi_provider.simulator.record import CallRecord
    from vapi_provider.simulator.request_log import RequestRecord

# Not a secret: it opens nothing but a simulator on this machine.
DEFAULT_API_KEY = "simulator-key"


class VapiSimulator:
    """
    A local Vapi: the call API over HTTP on 127.0.0.1, with calls that ring nobody.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`; stopping keeps the calls and
    the port, so that an outage is ``stop()`` and then ``start()``. Everything may be used from any
    thread while it runs. A browser shows a call at ``/calls/{id}``, without the key.

    :param api_key: the private key that requests must bear.
    :param clock: measures the calls' lives, the lag of the list and the ``Date`` headers; by default
        the computer's clock, a :class:`ManualClock` in tests that must not wait.
    :param timeline: what a call placed with ``POST /call`` goes through.
    :param concurrency_limit: how many calls may be live at once.
    :param over_limit: what becomes of one more: it is refused with 400 (``refuse``), taken and ended at
        once without a ring (``end``), or taken and dialled all the same (``queue``); the answer to the
        latter two says ``concurrencyBlocked``.
    :param list_lag: for how many seconds ``GET /call`` does not show what is new or has changed.
    :param hidden_fields: fields of a call that no answer shows, though they were put in; which ones
        the real API shows is not known for sure.
    :param link_lifetime: for how many seconds the signed URL of a recording is good.
    :param port: the port to listen on; 0 for a free one. Recordings are served on another free port.
    """

    def __init__(
        self,
        *,
        api_key: str = DEFAULT_API_KEY,
        clock: Clock | None = None,
        timeline: Timeline = DEFAULT_TIMELINE,
        concurrency_limit: int = 10,
        over_limit: OverLimit = "refuse",
        list_lag: float = 0,
        hidden_fields: Collection[str] = (),
        link_lifetime: float = 300,
        port: int = 0,
    ) -> None:
        self.api_key = api_key
        self.clock: Clock = clock or SystemClock()
        self.faults = Faults()
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
        self.app: ASGIApp = self._behind_gateway(create_app(self._store, self._artifacts, api_key))
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
        Begin to answer requests.

        :raises RuntimeError: when it is running already.
        :raises OSError: when the port is taken.
        """
        self._server.start()
        self._store.base_url = self.url
        self._artifact_server.start()
        self._artifacts.port = self._artifact_server.port

    def stop(self) -> None:
        """Close every connection, whatever is still being answered, and end the server's thread."""
        self._server.stop()
        self._artifact_server.stop()

    @property
    def url(self) -> str:
        """
        The base URL, such as ``http://127.0.0.1:43121``.

        :raises RuntimeError: when it was never started and so has no port yet.
        """
        if not self._server.port:
            raise RuntimeError("the simulator has no address before it is started")
        return f"http://{HOST}:{self._server.port}"

    @property
    def connection(self) -> str:
        """The Airflow connection to this simulator, as JSON for an ``AIRFLOW_CONN_...`` variable."""
        return json.dumps({"conn_type": "vapi", "host": self.url, "password": self.api_key})

    @property
    def timeline(self) -> Timeline:
        """What the calls go through that are placed from now on; may be set at any time."""
        return self._store.timeline

    @timeline.setter
    def timeline(self, timeline: Timeline) -> None:
        self._store.timeline = timeline

    @property
    def calls(self) -> dict[str, dict[str, Any]]:
        """Copies of all calls' JSON by id, in the order in which they were added."""
        return self._store.snapshots()

    @property
    def rings(self) -> Counter[str]:
        """
        How often each person's phone rang, once for each placed call that reached ``ringing``.

        A person is a number or SIP URI, with ``;ext=`` and the extension if there is one, or the
        ``customerId`` of a request that had only that.
        """
        return self._store.rings()

    def get_call(self, call_id: str) -> dict[str, Any]:
        """
        Return a copy of a call's JSON as it is now.

        :param call_id: the call's id.
        :raises KeyError: when there is no such call.
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
        Add a call that was placed elsewhere; its phone rings nobody that is counted.

        :param status: its status; an answered call has a ``startedAt``, an ended one the fields of an
            end, at its creation.
        :param timeline: what it goes through, from its creation on; without one it stays as it is
            until the methods below change it.
        :param body: raw fields of the API's JSON, laid over the made-up ones, ``id``, ``createdAt``
            and ``updatedAt`` included.
        :raises ValueError: when there is a call with this id already.
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
        Change a call's status, and nothing else but ``startedAt`` when it is answered.

        Like every change by hand, it takes the call off its timeline.

        :param call_id: the call's id.
        :param status: any status, known or not.
        :raises KeyError: when there is no such call.
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
        End a call; what is given is there at once, what is not never comes by itself.

        :param call_id: the call's id.
        :param ended_reason: the ``endedReason``.
        :param analysis: the ``analysis``.
        :param transcript: what was said, one ``AI: ...`` or ``User: ...`` a line.
        :param cost: the cost, in US dollars.
        :raises KeyError: when there is no such call.
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
        :param moves_updated_at: whether ``updatedAt`` moves, which nobody knows of the real API.
        :raises KeyError: when there is no such call.
        """
        fields = {"analysis": dict(analysis)}
        self._store.drive(
            call_id, lambda record, now: record.change(now, fields, moves_updated_at=moves_updated_at)
        )

    def add_structured_output(
        self, call_id: str, output: StructuredOutput, *, moves_updated_at: bool = True
    ) -> None:
        """
        Add a structured output at once, or what shows that it was skipped.

        :param call_id: the call's id.
        :param output: the output; its lag does not matter here.
        :param moves_updated_at: whether ``updatedAt`` moves, which nobody knows of the real API.
        :raises KeyError: when there is no such call.
        """
        self._store.drive(
            call_id, lambda record, now: record.extract(now, output, moves_updated_at=moves_updated_at)
        )
