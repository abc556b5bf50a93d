# SPDX-License-Identifier: Apache-2.0
"""
One poll for all who wait for calls of one connection in one event loop.

Everything here runs in the event loop, but for the requests: these go, one after another, through a worker thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from vapi_provider.client.responses import OversizedResponseError, SlowResponseError
from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiConfigurationError,
    VapiError,
    VapiPermanentError,
    VapiTransientError,
)
from vapi_provider.polling.changes import CLOCK_SLACK, ChangeFeed
from vapi_provider.polling.connection import PolledConnection, RefusedError

if TYPE_CHECKING:
    from vapi_provider.client.client import VapiClient
    from vapi_provider.models.call import CallStatusView

T = TypeVar("T")

MIN_INTERVAL_SECONDS = 5.0
"""No connection is polled more often than this."""

REQUESTS_PER_POLL = 20
"""The most requests of a poll, however many calls are waited for. Up to so many calls are read one by one."""

PAGES_PER_POLL = 14
"""The most pages of the list among them, where more calls are waited for than that."""

MAX_RETRY_AFTER_SECONDS = 3600.0
"""The longest pause that is granted to a server that asks for one."""

_REMEMBERED_ENDS = 10_000

log = logging.getLogger(__name__)


class Verdict(NamedTuple):
    """What a wait in the triggerer came to, as in the trigger's event."""

    event: Literal["done", "timeout", "error"]
    message: str


@dataclass(eq=False)
class Waiter:
    """
    Somebody who waits for a call.

    :param call_id: the call's id, checked
    :param poll_interval: how many seconds may lie between two looks
    :param since: the call's ``updatedAt`` when somebody last looked; None when that is not known
    :param wait_for_analysis: whether to wait for the analysis as well
    :param analysis_timeout: how many seconds after the call's end to wait for it
    """

    call_id: str
    poll_interval: float
    since: datetime | None = None
    wait_for_analysis: bool = False
    analysis_timeout: float = 60.0

    verdict: asyncio.Future[Verdict] = field(init=False)

    def __post_init__(self) -> None:
        self.verdict = asyncio.get_running_loop().create_future()

    def end(self, verdict: Verdict) -> None:
        """Tell the waiter, once."""
        if not self.verdict.done():
            self.verdict.set_result(verdict)


@dataclass(eq=False)
class _WatchedCall:
    """A call, and all who wait for it."""

    call_id: str
    waiters: list[Waiter] = field(default_factory=list)
    since: datetime | None = None
    """From which instant of Vapi's on it is not known what became of it; None when it was read, or nobody can say."""
    was_asked: bool = False
    asked_at: float = field(default_factory=time.monotonic)
    """When its turn last came; at first, when it began to be waited for."""
    analysis_due_at: float | None = None
    """When its analysis is given up, by our own clock; None unless only that is missing."""


class CallPoller:
    """
    Polls Vapi for all triggers of one connection in one event loop.

    Each poll makes a bounded number of requests, however many calls there are; see the page on waiting in the docs.

    :param conn_id: the connection's id
    """

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._calls: dict[str, _WatchedCall] = {}
        self._ended: dict[str, datetime] = {}
        """Ends that the list told, so that who comes a moment later hears of them too."""
        self._late: list[Waiter] = []
        """Who came after the end of their call was told."""
        self._feed: ChangeFeed | None = None
        self._list_is_down = False
        self._connection = PolledConnection(conn_id)
        self._trouble = _Trouble(f"Polling Vapi over connection {conn_id!r}")
        self._list_trouble = _Trouble(f"Listing calls over connection {conn_id!r}")
        self._shortest_interval = math.inf
        # When the last poll began; at first, when the first waiter came, whose task has just looked.
        self._polled_at = time.monotonic()
        self._rest_until = 0.0
        self._not_before = 0.0
        self._hurry = asyncio.Event()
        self._is_stopped = False
        # In a context of its own: what it logs is not for the log of the task that happened to come first.
        self._loop_task = contextvars.Context().run(asyncio.create_task, self._run())

    @classmethod
    @asynccontextmanager
    async def watching(cls, conn_id: str, waiter: Waiter) -> AsyncIterator[None]:
        """
        Have a call watched, by the one watcher of this connection and event loop.

        :param conn_id: the connection's id
        :param waiter: who is told, through its ``verdict``
        """
        key = asyncio.get_running_loop(), conn_id
        watcher = _watchers.get(key)
        if watcher is None:
            watcher = _watchers[key] = cls(conn_id)
        try:
            watcher._join(waiter)
            yield
        finally:
            watcher._leave(waiter)
            if not watcher._calls:
                del _watchers[key]
                watcher._stop()

    def _join(self, waiter: Waiter) -> None:
        if waiter.poll_interval < self._shortest_interval:
            self._shortest_interval = waiter.poll_interval
            self._hurry.set()
        call = self._calls.setdefault(waiter.call_id, _WatchedCall(waiter.call_id, since=waiter.since))
        call.waiters.append(waiter)
        known = self._ended.get(waiter.call_id)
        if known is not None and waiter.since is not None and known > waiter.since:
            # Told after the next poll that works: a task that finds Vapi down would be back at once.
            self._late.append(waiter)

    def _leave(self, waiter: Waiter) -> None:
        call = self._calls.get(waiter.call_id)
        if call is not None and waiter in call.waiters:
            call.waiters.remove(waiter)
            if not call.waiters:
                del self._calls[waiter.call_id]

    def _stop(self) -> None:
        self._is_stopped = True
        self._loop_task.cancel()
        self._connection.close()

    async def _run(self) -> None:
        while True:
            await self._sleep_until_due()
            self._polled_at = time.monotonic()
            self._shortest_interval = min(
                (waiter.poll_interval for call in self._calls.values() for waiter in call.waiters),
                default=math.inf,
            )
            try:
                await self._poll()
            except RefusedError as refusal:
                self._refused(refusal.error)
            except VapiTransientError as error:
                self._back_off(str(error), error.retry_after)
            except asyncio.CancelledError:
                # Only our own ends the loop: Airflow's channel, when it breaks, cancels who waits for an answer.
                if self._is_stopped:
                    raise
                self._back_off("Reading the connection was cancelled.", None)
            except Exception as error:
                # A defect of the provider, which no wait should end for.
                self._back_off(f"{type(error).__name__} in the provider itself.", None, traceback=True)
            else:
                self._trouble.is_over()
                self._tell_late()
            # Where a poll takes longer than the interval, the next one does not follow on its heels.
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

    def _tell_late(self) -> None:
        for waiter in self._late:
            waiter.end(_worth_a_look(waiter.call_id))
        self._late.clear()

    def _back_off(self, reason: str, retry_after: float | None, *, traceback: bool = False) -> None:
        pause = random.uniform(self._interval, 2 * self._interval)
        if retry_after is not None:
            pause = max(pause, min(retry_after, MAX_RETRY_AFTER_SECONDS) + random.uniform(0, 1))
        self._not_before = time.monotonic() + pause
        self._trouble.begins(reason, len(self._calls), traceback=traceback)

    def _refused(self, error: VapiError) -> None:
        """End all waits when the connection is refused as it stands now; at first it may just have been changed."""
        if self._connection.is_in_doubt:
            for call in self._calls.values():
                _end(call, Verdict("error", str(error)))
        else:
            self._trouble.begins(str(error), len(self._calls))
            self._connection.doubt()

    async def _poll(self) -> None:
        hook = await self._connection.hook()
        # Airflow may have taken its time; the next poll is to follow this one's requests at a distance.
        self._polled_at = time.monotonic()
        self._give_up_overdue_analyses()
        if len(self._calls) <= REQUESTS_PER_POLL:
            self._feed = None
            self._ended.clear()
            await self._read_calls(hook, REQUESTS_PER_POLL)
        elif self._list_is_down:
            # Calls first: they may well be readable all the same.
            await self._read_calls(hook, REQUESTS_PER_POLL - 1)
            await self._read_changes(hook, 1)
        else:
            pages = await self._read_changes(hook, PAGES_PER_POLL)
            await self._read_calls(hook, REQUESTS_PER_POLL - pages)

    async def _read_changes(self, hook: VapiClient, most_pages: int) -> int:
        """Read what changed, as far as the poll's budget goes; return how many pages that took."""
        feed = self._feed = self._fresh_feed()
        since = min((call.since for call in self._calls.values() if call.since is not None), default=None)
        feed.begin_poll()
        pages = 0
        # Until it has shown that it is not.
        self._list_is_down = True
        while pages < most_pages:
            query = feed.next_query(since)
            if query is None:
                break
            pages += 1
            try:
                page = await self._ask(partial(hook.list_statuses, query))
            except OversizedResponseError:
                feed.take_oversized()
                if feed.mark is None:
                    return pages
                continue
            except SlowResponseError:
                feed.take_timeout()
                raise
            except VapiPermanentError as error:
                # The list is of no use then, but each call can still be read.
                self._list_trouble.begins(str(error), len(self._calls))
                return pages
            self._list_trouble.is_over()
            for row in page.rows:
                self._note_row(row)
            feed.take(page)
        self._list_is_down = False
        return pages

    def _fresh_feed(self) -> ChangeFeed:
        """Return the feed; after a long silence another one, so that what is new is read before what was missed."""
        if self._feed is None or not self._feed.is_stale:
            return self._feed or ChangeFeed()
        for call in self._calls.values():
            call.since = call.since and self._feed.known_until(call.since)
        return ChangeFeed()

    def _note_row(self, row: CallStatusView) -> None:
        """Take a row of the list as a hint, if it is newer than what is known."""
        if not row.is_terminal:
            return
        call_id = row.id.strip().lower()
        if row.updated_at is not None:
            self._ended[call_id] = row.updated_at
            if len(self._ended) > _REMEMBERED_ENDS:
                del self._ended[next(iter(self._ended))]
        call = self._calls.get(call_id)
        if call is not None:
            _judge(call, row, [waiter for waiter in call.waiters if _is_news(row, waiter)])

    async def _read_calls(self, hook: VapiClient, number: int) -> None:
        for position, call in enumerate(self._whose_turn(number)):
            # A slow Vapi is not to keep the next poll from asking the list, which tells of all at once.
            if self._feed is not None and position and time.monotonic() - self._polled_at > self._interval:
                break
            if self._calls.get(call.call_id) is call:
                call.was_asked, call.asked_at = True, time.monotonic()
                await self._read_call(hook, call)

    async def _read_call(self, hook: VapiClient, call: _WatchedCall) -> None:
        try:
            glimpse = await self._ask(partial(hook.get_status, call.call_id))
        except OversizedResponseError:
            # A worker has the time to read it.
            _end(call, _worth_a_look(call.call_id))
        except VapiPermanentError as error:
            _end(call, Verdict("error", str(error)))
        else:
            call.since = glimpse.responded_at and glimpse.responded_at - CLOCK_SLACK
            _judge(call, glimpse, call.waiters)

    def _whose_turn(self, number: int) -> list[_WatchedCall]:
        """
        Choose the calls to read one by one.

        Up to half of them are those that had no turn yet, the longest past first, and those whose analysis is due. The
        rest is left to those whose turn came longest ago, so that every call has its turn, whatever the list hides.
        """
        calls = self._calls.values()
        urgent = (call for call in calls if not call.was_asked or call.analysis_due_at is not None)
        chosen = set(heapq.nsmallest((number + 1) // 2, urgent, key=_by_urgency))
        others = (call for call in calls if call not in chosen)
        chosen.update(heapq.nsmallest(number - len(chosen), others, key=_by_turn))
        # Should one of them fail every time, and so end the poll, its turn comes last.
        return sorted(chosen, key=_by_turn)

    def _give_up_overdue_analyses(self) -> None:
        now = time.monotonic()
        for call in self._calls.values():
            if call.analysis_due_at is not None and call.analysis_due_at <= now:
                _end(call, _worth_a_look(call.call_id))

    async def _ask(self, request: Callable[[], T]) -> T:
        try:
            return await self._connection.ask(request)
        except (VapiAuthenticationError, VapiConfigurationError) as error:
            if error.status_code == 403 and self._connection.has_worked:
                # It is this request that the key may not make.
                raise
            refused = error
        # Out of the handler: the original would be told as the cause of whatever follows.
        raise RefusedError(refused)


_watchers: dict[tuple[asyncio.AbstractEventLoop, str], CallPoller] = {}


class _Trouble:
    """
    Tells that something does not work, and that it works again, once each.

    :param what: what it is
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._since: float | None = None

    def begins(self, reason: str, waiting: int, *, traceback: bool = False) -> None:
        """Tell the reason, unless this trouble is known; it may go on for hours, poll after poll."""
        if self._since is None:
            self._since = time.monotonic()
            log.warning(
                "%s does not work; waiting for %d calls goes on. %s",
                self._what,
                waiting,
                reason,
                exc_info=traceback,
            )

    def is_over(self) -> None:
        """Tell that it works again, if it did not."""
        if self._since is not None:
            log.info("%s works again, after %.0f s.", self._what, time.monotonic() - self._since)
            self._since = None


def _worth_a_look(call_id: str) -> Verdict:
    return Verdict("done", f"Call {call_id} is worth a look.")


def _end(call: _WatchedCall, verdict: Verdict) -> None:
    for waiter in call.waiters:
        waiter.end(verdict)


def _judge(call: _WatchedCall, glimpse: CallStatusView, waiters: list[Waiter]) -> None:
    """Tell these waiters of a call what was seen of it, if that ends their wait."""
    if not glimpse.is_terminal or not waiters:
        return
    for waiter in waiters:
        if not waiter.wait_for_analysis or glimpse.analysis_due_in(waiter.analysis_timeout) == 0:
            waiter.end(_worth_a_look(call.call_id))
    pending = [
        waiter.analysis_timeout
        for waiter in call.waiters
        if waiter.wait_for_analysis and not waiter.verdict.done()
    ]
    if pending:
        call.analysis_due_at = time.monotonic() + glimpse.analysis_due_in(max(pending))


def _is_news(row: CallStatusView, waiter: Waiter) -> bool:
    return waiter.since is None or row.updated_at is None or row.updated_at > waiter.since


_LONG_AGO = datetime.min.replace(tzinfo=timezone.utc)


def _by_urgency(call: _WatchedCall) -> tuple[bool, datetime, float]:
    return call.was_asked, call.since or _LONG_AGO, call.asked_at


def _by_turn(call: _WatchedCall) -> float:
    return call.asked_at
