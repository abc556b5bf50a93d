# SPDX-License-Identifier: Apache-2.0
"""The trigger that waits for one call."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.connection import get_async_connection
from airflow.triggers.base import BaseTrigger, TriggerEvent
from vapi_provider.client.arguments import check_call_id
from vapi_provider.client.hang_up import hang_up
from vapi_provider.exceptions import VapiConfigurationError, VapiError
from vapi_provider.models.fields import read_instant
from vapi_provider.polling.calls import Verdict, Waiter
from vapi_provider.polling.connection import open_client
from vapi_provider.polling.deadlines import Deadlines
from vapi_provider.polling.poller import CallPoller

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

SETTLE_SECONDS = 5.0
"""The earliest event: the scheduler fails a task whose trigger fires before it has stored the deferral."""

_endings: set[asyncio.Future[None]] = set()
"""Hang-ups in progress, for tasks that were stopped."""


class VapiCallTrigger(BaseTrigger):
    """
    Wait in the triggerer until a task should read its call again.

    All triggers of a connection share one poll. The trigger passes on no part of the call. It fires one event,
    ``{"status": ..., "call_id": ..., "message": ...}``, where ``done`` means that the call may have ended, ``timeout``
    that ``end_time`` has passed, and ``error`` that waiting longer is pointless.

    :param vapi_conn_id: the connection's id
    :param call_id: the call's id; None by default, to wait for the ``end_time`` only
    :param poll_interval: the seconds between two polls; all triggers of a connection share the shortest one, and no
        connection is polled more often than every 5 seconds. 15 by default
    :param end_time: when to give up, in seconds since 1970; None by default, for a wait that only the call ends
    :param since: the call's ``updatedAt`` when the task read it, ISO 8601; without it, an end before the trigger's start
        may be noticed later
    :param wait_for_analysis: whether to wait for the results that Vapi computes after the end, too
    :param analysis_timeout: how many seconds after the call's end to wait for them
    :param hang_up_on_kill: whether to end the call when a user stops, clears or marks the task; requires Airflow 3.3,
        the first that informs the trigger
    :param results: which results to wait for: ``analysis``, ``structured_outputs``; whichever comes first by default
    :param results_before: how many parts of them were there when the task last read the call
    :param newer: arguments of newer versions of this package, which are ignored
    """

    def __init__(
        self,
        vapi_conn_id: str = "vapi_default",
        call_id: str | None = None,
        poll_interval: float = 15,
        end_time: float | None = None,
        since: str | None = None,
        wait_for_analysis: bool = False,
        analysis_timeout: float = 60,
        hang_up_on_kill: bool = False,
        results: Sequence[str] | None = None,
        results_before: int | None = None,
        **newer: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.vapi_conn_id = vapi_conn_id
        self.call_id = call_id
        self.poll_interval = poll_interval
        self.end_time: float = math.inf if end_time is None else end_time
        self.since = since
        self.wait_for_analysis = wait_for_analysis
        self.analysis_timeout = analysis_timeout
        self.hang_up_on_kill = hang_up_on_kill
        self.results: list[str] = list(results or ())
        self.results_before = results_before

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """
        Return what Airflow stores of the trigger.

        :return: its class and its arguments: ids, numbers and an instant, no secrets
        """
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "vapi_conn_id": self.vapi_conn_id,
                "call_id": self.call_id,
                "poll_interval": self.poll_interval,
                # Plain JSON has no infinity.
                "end_time": self.end_time if math.isfinite(self.end_time) else None,
                "since": self.since,
                "wait_for_analysis": self.wait_for_analysis,
                "analysis_timeout": self.analysis_timeout,
                "hang_up_on_kill": self.hang_up_on_kill,
                "results": self.results,
                "results_before": self.results_before,
            },
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VapiCallTrigger):
            return NotImplemented
        return self.serialize() == other.serialize()

    def __hash__(self) -> int:
        return hash((self.vapi_conn_id, self.call_id, self.end_time))

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """
        Wait for the call.

        :return: an iterator over one event
        """
        settled_at = time.monotonic() + SETTLE_SECONDS
        verdict = await self._wait()
        await asyncio.sleep(max(0.0, settled_at - time.monotonic()))
        event = {"status": verdict.status, "call_id": self.call_id, "message": verdict.message}
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """End the call when the task is stopped, if ``hang_up_on_kill`` is set."""
        if not self.hang_up_on_kill or self.call_id is None:
            return
        # Airflow waits for about a second, so the hang-up runs in a task of its own, which needs a reference.
        ending = asyncio.ensure_future(self._hang_up())
        _endings.add(ending)
        ending.add_done_callback(_endings.discard)
        await asyncio.shield(ending)

    async def _hang_up(self) -> None:
        try:
            conn = await get_async_connection(self.vapi_conn_id)
            done = await asyncio.to_thread(_hang_up, conn, self.vapi_conn_id, self.call_id)
        except Exception as error:
            # The message of any other error may contain secrets, so log only its type.
            reason = error if isinstance(error, VapiError) else f"{type(error).__name__}."
            done = f"Could not end call {self.call_id}, which may still be live: {reason}"
        self.log.warning("The task was stopped. %s", done)

    async def _wait(self) -> Verdict:
        if self.call_id is None:
            verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
            with Deadlines.limit(verdict, self.end_time, Verdict("timeout", "The end time has passed.")):
                return await verdict
        try:
            call_id = check_call_id(self.call_id)
        except VapiConfigurationError as error:
            return Verdict("error", str(error))
        waiter = Waiter(
            call_id=call_id,
            poll_interval=self.poll_interval,
            # An unreadable instant only costs some latency.
            since=read_instant(self.since),
            wait_for_analysis=self.wait_for_analysis,
            analysis_timeout=self.analysis_timeout,
            results=tuple(self.results),
            results_before=self.results_before,
        )
        timeout = Verdict("timeout", f"Call {call_id} did not end in time.")
        with (
            Deadlines.limit(waiter.verdict, self.end_time, timeout),
            CallPoller.join(self.vapi_conn_id, waiter),
        ):
            return await waiter.verdict


def _hang_up(conn: Connection, conn_id: str, call_id: str | None) -> str:
    client = open_client(conn, conn_id)
    try:
        return hang_up(client, check_call_id(call_id))
    finally:
        client.close()
