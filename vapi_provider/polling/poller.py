# SPDX-License-Identifier: Apache-2.0
"""
One poll for all triggers of one connection in one event loop.

Everything here runs in the event loop, except the requests: a worker thread sends them, one after another.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from vapi_provider.client.responses import OversizedResponseError, SlowResponseError
from vapi_provider.exceptions import VapiError, VapiPermanentError, VapiTransientError
from vapi_provider.polling.calls import PolledCall, PolledCalls, Verdict, Waiter, in_lots, may_have_ended
from vapi_provider.polling.changes import ChangeFeed
from vapi_provider.polling.connection import PolledConnection, RefusedError
from vapi_provider.polling.listeners import EndListener, EndListeners
from vapi_provider.polling.outage import Outage, describe_pending

MIN_INTERVAL_SECONDS = 5.0
"""No connection is polled more often than this."""

REQUESTS_PER_POLL = 20
"""The most requests per poll, however many calls are pending. Without listeners, up to this many calls are read one by one."""

PAGES_PER_POLL = 14
"""The most pages of the list among them."""

LIVE_SHARE = 3
"""One in so many of the requests that the list leaves reads a live call for the listeners, where calls are pending."""

MAX_RETRY_AFTER_SECONDS = 3600.0
"""The longest pause that a server is granted."""

MAX_BACK_OFF_SECONDS = 600.0
"""The longest pause after a failure while no call is pending, unless two intervals are longer."""

log: logging.Logger = logging.getLogger(__name__)


class CallPoller:
    """
    Polls Vapi for all triggers of one connection in one event loop.

    Each poll makes a bounded number of requests, however many calls are pending; docs/how-it-works.md explains how.

    :param conn_id: the connection's id
    """

    def __init__(self, conn_id: str) -> None:
        self._key = asyncio.get_running_loop(), conn_id
        self._calls = PolledCalls()
        self._listeners = EndListeners()
        self._feed: ChangeFeed | None = None
        self._list_is_down = False
        self._connection = PolledConnection(conn_id)
        self._outage = Outage("Polling Vapi", conn_id)
        self._list_outage = Outage("Listing calls", conn_id)
        self._shortest_interval = math.inf
        # When the last poll started; at first, when the first trigger joined, whose task has just read its call.
        self._polled_at = time.monotonic()
        self._rest_until = 0.0
        self._not_before = 0.0
        self._asked_until = 0.0
        self._failures = 0
        self._hurry = asyncio.Event()
        self._is_stopped = False
        # In a context of its own: its log lines do not belong in the log of the task that joined first.
        self._loop_task = contextvars.Context().run(asyncio.create_task, self._run())

    @classmethod
    @contextmanager
    def join(cls, conn_id: str, waiter: Waiter) -> Iterator[None]:
        """Poll a call for the length of a block, with the one poller of this connection and event loop."""
        poller = cls._of(conn_id)
        poller._join(waiter)
        try:
            yield
        finally:
            poller._calls.leave(waiter)
            poller._stop_if_idle()

    @classmethod
    @contextmanager
    def listen(cls, conn_id: str, listener: EndListener) -> Iterator[None]:
        """Collect the calls that end for the length of a block, with the one poller of this connection and event loop."""
        poller = cls._of(conn_id)
        poller._listeners.join(listener)
        poller._shorten(listener.poll_interval)
        poller._hurry.set()
        try:
            yield
        finally:
            poller._listeners.leave(listener)
            poller._stop_if_idle()

    @classmethod
    def _of(cls, conn_id: str) -> CallPoller:
        key = asyncio.get_running_loop(), conn_id
        if key not in _pollers:
            _pollers[key] = cls(conn_id)
        return _pollers[key]

    def _join(self, waiter: Waiter) -> None:
        # A pause that has grown while no task was waiting is too long for one.
        self._shorten(waiter.poll_interval, ends_pause=not self._calls)
        self._calls.join(waiter)

    def _shorten(self, interval: float, *, ends_pause: bool = False) -> None:
        if ends_pause or interval < self._shortest_interval:
            self._shortest_interval = min(interval, self._shortest_interval)
            # Recompute a pause after a failure as if it were the first, with the current interval.
            self._not_before = min(self._not_before, time.monotonic() + self._back_off_pause(0))
            self._hurry.set()

    def _stop_if_idle(self) -> None:
        if self._calls or self._listeners:
            return
        del _pollers[self._key]
        self._is_stopped = True
        self._loop_task.cancel()
        self._connection.close()

    async def _run(self) -> None:
        while True:
            await self._sleep_until_due()
            self._polled_at = time.monotonic()
            self._shortest_interval = min(self._calls.shortest_interval, self._listeners.shortest_interval)
            try:
                await self._poll()
            except RefusedError as refusal:
                await self._process_refusal(refusal.error)
            except VapiTransientError as error:
                self._back_off(str(error), error.retry_after)
            except asyncio.CancelledError:
                # Only our own ends the loop: Airflow's channel, when it breaks, cancels what waits for a response.
                if self._is_stopped:
                    raise
                self._back_off("Reading the connection was cancelled.", None)
            except Exception as error:
                # A defect of the provider must not end a wait.
                self._back_off(
                    f"Bug in airflow-provider-vapi ({type(error).__name__}).", None, traceback=True
                )
            else:
                self._failures = 0
                self._outage.log_end()
                await self._calls.notify_late()
            self._listeners.publish()
            # After a poll that took longer than the interval, the next one does not follow at once.
            self._rest_until = time.monotonic() + MIN_INTERVAL_SECONDS / 5

    @property
    def _interval(self) -> float:
        return max(MIN_INTERVAL_SECONDS, self._shortest_interval)

    @property
    def _pause(self) -> float:
        # A new listener may leave within its interval, which may be a day.
        is_hurried = self._listeners.has_new and not (self._calls and self._list_is_down)
        return MIN_INTERVAL_SECONDS if is_hurried else self._interval

    async def _sleep_until_due(self) -> None:
        while True:
            due_at = max(self._polled_at + self._pause, self._rest_until, self._not_before, self._asked_until)
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
        now = time.monotonic()
        self._not_before = now + self._back_off_pause(0 if self._calls else self._failures)
        if retry_after is not None:
            self._asked_until = now + min(retry_after, MAX_RETRY_AFTER_SECONDS) + random.uniform(0, 1)
        self._failures += 1
        self._outage.log_begin(reason, describe_pending(self._calls, self._listeners), traceback=traceback)

    def _back_off_pause(self, failures: int) -> float:
        """Return the pause after a failure, by the number of failures before it."""
        pause = random.uniform(self._pause, 2 * self._pause)
        return min(math.ldexp(pause, min(failures, 10)), max(MAX_BACK_OFF_SECONDS, pause))

    async def _process_refusal(self, error: VapiError) -> None:
        """End all waits if the connection is refused again after it was read afresh; a key may just have been replaced."""
        if self._connection.is_in_doubt:
            await self._calls.end_all(Verdict("error", str(error)))
            if self._listeners:
                self._back_off(str(error), None)
        else:
            self._outage.log_begin(str(error), describe_pending(self._calls, self._listeners))
            self._connection.doubt()

    async def _poll(self) -> None:
        await self._connection.refresh()
        # Reading the connection can take a while, and the next poll keeps its distance from this one's requests.
        self._polled_at = time.monotonic()
        await self._calls.begin_poll()
        if len(self._calls) <= REQUESTS_PER_POLL and not self._listeners:
            self._feed = None
            self._calls.forget_ended()
            await self._read_calls(REQUESTS_PER_POLL)
        elif self._list_is_down:
            # Calls first: they may be readable although the list is not.
            pages = 1 if self._calls else PAGES_PER_POLL
            try:
                await self._read_calls(REQUESTS_PER_POLL - pages)
            except VapiTransientError:
                # The list may work again although one of the calls does not.
                await self._read_changes(pages)
                raise
            await self._read_changes(pages)
        else:
            pages = await self._read_changes(PAGES_PER_POLL)
            await self._read_calls(REQUESTS_PER_POLL - pages)

    async def _read_changes(self, most_pages: int) -> int:
        """Read what changed, within a number of pages; return how many that took."""
        if self._feed is None or self._feed.is_stale:
            self._feed = ChangeFeed(self._interval)
        feed = self._feed
        if feed.mark is not None:
            self._listeners.begin(feed)
        feed.begin_poll()
        pages = 0
        # Until a walk shows that it is not.
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
                if not self._calls:
                    raise VapiTransientError(str(error)) from None
                # Each call can still be read.
                self._list_outage.log_begin(str(error), describe_pending(self._calls, self._listeners))
                return pages
            self._list_outage.log_end()
            async for row in in_lots(page.rows):
                self._calls.take_row(row)
                self._listeners.take(row)
            feed.take(page)
            if feed.is_misled:
                feed = self._feed = ChangeFeed(self._interval)
            else:
                self._listeners.begin(feed)
        self._list_is_down = False
        # One call that cannot be read is no outage, so it lengthens no pause.
        self._failures = 0
        return pages

    async def _read_calls(self, number: int) -> None:
        """Read calls by turn: those that tasks wait for, and the live ones of listeners."""
        most_live = number // LIVE_SHARE if self._calls else number
        live = self._listeners.next_in_turn(most_live, self._calls.ids)
        failure: VapiTransientError | None = None
        for group in (
            [partial(self._read_call, call) for call in self._calls.next_in_turn(number - len(live))],
            [partial(self._read_live, call_id) for call_id in live],
        ):
            try:
                for position, read in enumerate(group):
                    # At least one, so that no group waits for the other.
                    if position and self._is_late:
                        break
                    await read()
            except VapiTransientError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    @property
    def _is_late(self) -> bool:
        # A slow Vapi must not delay the next request for the list, which covers all calls at once.
        return self._feed is not None and time.monotonic() - self._polled_at > self._interval

    async def _read_call(self, call: PolledCall) -> None:
        if call not in self._calls:
            return
        self._calls.take_turn(call)
        try:
            view = await self._connection.get_status(call.call_id)
        except OversizedResponseError:
            # The task's worker can take its time to read it.
            call.end(may_have_ended(call.call_id))
        except VapiPermanentError as error:
            call.end(Verdict("error", str(error)))
        else:
            call.judge(view)
            self._listeners.take(view)

    async def _read_live(self, call_id: str) -> None:
        self._listeners.take_turn(call_id)
        try:
            view = await self._connection.get_status(call_id)
        except (OversizedResponseError, VapiPermanentError) as error:
            self._listeners.drop(call_id, str(error))
        else:
            self._listeners.take(view)


_pollers: dict[tuple[asyncio.AbstractEventLoop, str], CallPoller] = {}
