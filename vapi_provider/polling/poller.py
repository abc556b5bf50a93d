# SPDX-License-Identifier: Apache-2.0
"""
One poll for all triggers that wait for calls of one connection in one event loop.

Everything here runs in the event loop, except the requests: they go, one after another, through a worker thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vapi_provider.client.responses import OversizedResponseError, SlowResponseError
from vapi_provider.exceptions import VapiError, VapiPermanentError, VapiTransientError
from vapi_provider.polling.calls import PolledCall, PolledCalls, Verdict, Waiter, may_have_ended
from vapi_provider.polling.changes import ChangeFeed
from vapi_provider.polling.connection import PolledConnection, RefusedError

MIN_INTERVAL_SECONDS = 5.0
"""No connection is polled more often than this."""

REQUESTS_PER_POLL = 20
"""The most requests per poll, however many calls are pending. Up to this many calls are read one by one."""

PAGES_PER_POLL = 14
"""The most pages of the list among them, where more calls than that are pending."""

MAX_RETRY_AFTER_SECONDS = 3600.0
"""The longest pause that a server is granted."""

log = logging.getLogger(__name__)


class CallPoller:
    """
    Polls Vapi for all triggers of one connection in one event loop.

    Each poll makes a bounded number of requests, however many calls there are; the page on waiting in the docs says how.

    :param conn_id: the connection's id
    """

    def __init__(self, conn_id: str) -> None:
        self._calls = PolledCalls()
        self._feed: ChangeFeed | None = None
        self._list_is_down = False
        self._connection = PolledConnection(conn_id)
        self._outage = _Outage("Polling Vapi", conn_id)
        self._list_outage = _Outage("Listing calls", conn_id)
        self._shortest_interval = math.inf
        # When the last poll began; at first, when the first trigger joined, whose task has just read its call.
        self._polled_at = time.monotonic()
        self._rest_until = 0.0
        self._not_before = 0.0
        self._hurry = asyncio.Event()
        self._is_stopped = False
        # In a context of its own: its log lines do not belong in the log of the task that happened to join first.
        self._loop_task = contextvars.Context().run(asyncio.create_task, self._run())

    @classmethod
    @asynccontextmanager
    async def join(cls, conn_id: str, waiter: Waiter) -> AsyncIterator[None]:
        """Have a call polled by the one poller of this connection and event loop."""
        key = asyncio.get_running_loop(), conn_id
        poller = _pollers.get(key)
        if poller is None:
            poller = _pollers[key] = cls(conn_id)
        try:
            poller._join(waiter)
            yield
        finally:
            poller._calls.leave(waiter)
            if not poller._calls:
                del _pollers[key]
                poller._stop()

    def _join(self, waiter: Waiter) -> None:
        if waiter.poll_interval < self._shortest_interval:
            self._shortest_interval = waiter.poll_interval
            self._hurry.set()
        self._calls.join(waiter)

    def _stop(self) -> None:
        self._is_stopped = True
        self._loop_task.cancel()
        self._connection.close()

    async def _run(self) -> None:
        while True:
            await self._sleep_until_due()
            self._polled_at = time.monotonic()
            self._shortest_interval = self._calls.shortest_interval
            try:
                await self._poll()
            except RefusedError as refusal:
                self._process_refusal(refusal.error)
            except VapiTransientError as error:
                self._back_off(str(error), error.retry_after)
            except asyncio.CancelledError:
                # Only our own ends the loop: Airflow's channel, when it breaks, cancels what waits for a response.
                if self._is_stopped:
                    raise
                self._back_off("Reading the connection was cancelled.", None)
            except Exception as error:
                # A defect of the provider must not end a wait.
                self._back_off(f"{type(error).__name__} in the provider itself.", None, traceback=True)
            else:
                self._outage.log_end()
                self._calls.notify_late()
            # Where a poll takes longer than the interval, the next one does not follow at once.
            self._rest_until = time.monotonic() + MIN_INTERVAL_SECONDS / 5

    @property
    def _interval(self) -> float:
        return max(MIN_INTERVAL_SECONDS, self._shortest_interval)

    async def _sleep_until_due(self) -> None:
        while True:
            due_at = max(self._polled_at + self._interval, self._rest_until, self._not_before)
            pause = due_at - time.monotonic()
            if pause <= 0:
                return
            self._hurry.clear()
            # Not wait_for: before Python 3.12 it can swallow a cancellation.
            alarm = asyncio.get_running_loop().call_later(pause, self._hurry.set)
            try:
                await self._hurry.wait()
            finally:
                alarm.cancel()

    def _back_off(self, reason: str, retry_after: float | None, *, traceback: bool = False) -> None:
        pause = random.uniform(self._interval, 2 * self._interval)
        if retry_after is not None:
            pause = max(pause, min(retry_after, MAX_RETRY_AFTER_SECONDS) + random.uniform(0, 1))
        self._not_before = time.monotonic() + pause
        self._outage.log_begin(reason, len(self._calls), traceback=traceback)

    def _process_refusal(self, error: VapiError) -> None:
        """End all waits if the connection was read afresh and is refused again; a key may just have been replaced."""
        if self._connection.is_in_doubt:
            self._calls.end_all(Verdict("error", str(error)))
        else:
            self._outage.log_begin(str(error), len(self._calls))
            self._connection.doubt()

    async def _poll(self) -> None:
        await self._connection.refresh()
        # Reading the connection can take a while; the next poll keeps its distance from this one's requests.
        self._polled_at = time.monotonic()
        self._calls.begin_poll()
        if len(self._calls) <= REQUESTS_PER_POLL:
            self._feed = None
            self._calls.forget_ended()
            await self._read_calls(REQUESTS_PER_POLL)
        elif self._list_is_down:
            # Calls first: they may be readable although the list is not.
            await self._read_calls(REQUESTS_PER_POLL - 1)
            await self._read_changes(1)
        else:
            pages = await self._read_changes(PAGES_PER_POLL)
            await self._read_calls(REQUESTS_PER_POLL - pages)

    async def _read_changes(self, most_pages: int) -> int:
        """Read what changed, as far as the budget goes; return how many pages that took."""
        if self._feed is None or self._feed.is_stale:
            self._feed = ChangeFeed(self._interval)
        feed = self._feed
        feed.begin_poll()
        pages = 0
        # Until it has proved that it is not.
        self._list_is_down = True
        while pages < most_pages:
            query = feed.next_query()
            if query is None:
                break
            pages += 1
            try:
                page = await self._connection.list_statuses(query)
            except OversizedResponseError:
                feed.take_oversized()
                if feed.mark is None:
                    return pages
                continue
            except SlowResponseError:
                feed.take_timeout()
                raise
            except VapiPermanentError as error:
                # Each call can still be read.
                self._list_outage.log_begin(str(error), len(self._calls))
                return pages
            self._list_outage.log_end()
            for row in page.rows:
                self._calls.take_row(row)
            feed.take(page)
        self._list_is_down = False
        return pages

    async def _read_calls(self, number: int) -> None:
        for position, call in enumerate(self._calls.next_in_turn(number)):
            # A slow Vapi must not delay the next request for the list, which covers all calls at once.
            if self._feed is not None and position and time.monotonic() - self._polled_at > self._interval:
                break
            if call in self._calls:
                call.take_turn()
                await self._read_call(call)

    async def _read_call(self, call: PolledCall) -> None:
        try:
            view = await self._connection.get_status(call.call_id)
        except OversizedResponseError:
            # A worker has the time to read it.
            call.end(may_have_ended(call.call_id))
        except VapiPermanentError as error:
            call.end(Verdict("error", str(error)))
        else:
            call.judge(view)


_pollers: dict[tuple[asyncio.AbstractEventLoop, str], CallPoller] = {}


class _Outage:
    """
    Logs that something fails, and that it works again, once each.

    :param what: what it is
    :param conn_id: the connection's id
    """

    def __init__(self, what: str, conn_id: str) -> None:
        self._what = what
        self._conn_id = conn_id
        self._since: float | None = None

    def log_begin(self, reason: str, pending: int, *, traceback: bool = False) -> None:
        """Log the reason, unless the outage is known; it may last for hours, poll after poll."""
        if self._since is None:
            self._since = time.monotonic()
            log.warning(
                "%s failed (connection %r, %d %s pending); will keep retrying. %s",
                self._what,
                self._conn_id,
                pending,
                "call" if pending == 1 else "calls",
                reason,
                exc_info=traceback,
            )

    def log_end(self) -> None:
        """Log that it works again, if it did not."""
        if self._since is not None:
            seconds = time.monotonic() - self._since
            log.info("%s works again (connection %r, after %.0f s).", self._what, self._conn_id, seconds)
            self._since = None
