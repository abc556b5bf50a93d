# SPDX-License-Identifier: Apache-2.0
"""The listeners of a poller, which collect the calls that end and remember the live ones."""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import time
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from vapi_provider.polling.walk import CLOCK_SLACK

if TYPE_CHECKING:
    from vapi_provider.models.call import CallStatusView
    from vapi_provider.models.outcome import CallOutcome
    from vapi_provider.polling.changes import ChangeFeed

MOST_LIVE_CALLS = 300
"""How many live calls a listener remembers."""

LONGEST_ABSENCE = timedelta(hours=24)
"""How far back a listener reads what changed while nothing polled."""

log: logging.Logger = logging.getLogger(__name__)


class ListenedPoll(NamedTuple):
    """
    What a poll found for a listener.

    :param ended: the calls that have ended; the same ones may come again
    :param read_until: the instant, in Vapi's time, before which the listener has read everything
    :param live: the ids of the calls that are live
    :param anew_from: the instant from which the listener reads anew, because Vapi's clock was wrong; None otherwise
    """

    ended: list[CallStatusView]
    read_until: datetime
    live: list[str]
    anew_from: datetime | None = None


@dataclass(eq=False)
class EndListener:
    """
    Collects the calls that end.

    :param poll_interval: the most seconds between two polls
    :param lookback: how many seconds before ``started_at`` it starts to read
    :param started_at: when its trigger started, by the monotonic clock
    :param assistant_id: only calls of this assistant; None for all
    :param phone_number_id: only calls over this phone number; None for all
    :param outcomes: only calls with these outcomes; none for all
    :param read_until: the instant, in Vapi's time, before which it has read everything; None at first
    :param live: the ids of live calls, in the order in which they were found
    """

    poll_interval: float
    lookback: float
    started_at: float
    assistant_id: str | None = None
    phone_number_id: str | None = None
    outcomes: frozenset[CallOutcome] = frozenset()
    read_until: datetime | None = None
    live: Iterable[str] = ()

    feed: ChangeFeed | None = field(init=False, default=None)
    """The feed that it reads; a new one has to start where the last one ended."""
    live_calls: dict[str, float] = field(init=False)
    """The live calls, and when each was last read, by the monotonic clock."""
    _read_before: datetime | None = field(init=False, default=None)
    """What had been read when it joined the feed."""
    _anew_from: datetime | None = field(init=False, default=None)
    _since: asyncio.Future[datetime] = field(init=False)
    _ended: list[CallStatusView] = field(init=False, default_factory=list)
    _polled: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.live_calls = dict.fromkeys(self.live, -math.inf)
        self._since = asyncio.get_running_loop().create_future()

    def begin(self, feed: ChangeFeed) -> None:
        """Read a feed, starting where this listener has read everything."""
        now = feed.now()
        is_anew = self.feed is not None and self.feed.is_misled
        if not is_anew:
            self._read_before = self.read_until
        if self._read_before is None or self._read_before > now + CLOCK_SLACK:
            # Vapi may have been unreachable since the trigger started.
            waited = time.monotonic() - self.started_at
            self.read_until = now - timedelta(seconds=self.lookback + waited)
        else:
            self.read_until = min(max(self._read_before, now - LONGEST_ABSENCE), now)
        if not self._since.done():
            self._since.set_result(self.read_until)
        elif is_anew:
            self._anew_from = self.read_until
        self.feed = feed
        feed.read_from(self.read_until)

    def take(self, view: CallStatusView) -> None:
        """Process a call, from the list or read by turn."""
        if not self._is_wanted(view):
            return
        call_id = view.id.strip().lower()
        if view.is_terminal and view.reason_due_in == 0:
            self.live_calls.pop(call_id, None)
            # The others were erased, or never took place.
            if view.has_ended and (not self.outcomes or view.outcome in self.outcomes):
                self._ended.append(view)
        elif not view.is_scheduled:
            self.live_calls[call_id] = time.monotonic()
            if len(self.live_calls) > MOST_LIVE_CALLS:
                del self.live_calls[next(iter(self.live_calls))]

    def publish(self) -> None:
        """Hand over what was read; after each poll, also one that failed."""
        if self.feed is not None and self.read_until is not None and not self.feed.is_misled:
            self.read_until = max(self.read_until, self.feed.read_until or self.read_until)
        self._polled.set()

    async def started(self) -> datetime:
        """Wait for Vapi's first response, and return the instant, in Vapi's time, from which this listener reads."""
        return await self._since

    async def next_poll(self) -> ListenedPoll:
        """Wait for the end of a poll, and return what was found since the last time."""
        await self._polled.wait()
        self._polled.clear()
        ended, self._ended = self._ended, []
        anew_from, self._anew_from = self._anew_from, None
        return ListenedPoll(ended, self.read_until or self._since.result(), list(self.live_calls), anew_from)

    def _is_wanted(self, view: CallStatusView) -> bool:
        return _matches(self.assistant_id, view.assistant_id) and _matches(
            self.phone_number_id, view.phone_number_id
        )


def _matches(wanted: str | None, found: str | None) -> bool:
    return wanted is None or wanted.lower() == (found or "").lower()


class EndListeners:
    """All listeners of one poller."""

    def __init__(self) -> None:
        self._listeners: list[EndListener] = []
        self._dropped: dict[str, None] = {}
        """The calls that could not be read, the last one last."""

    def __len__(self) -> int:
        return len(self._listeners)

    @property
    def shortest_interval(self) -> float:
        """The shortest interval that a listener asks for."""
        return min((listener.poll_interval for listener in self._listeners), default=math.inf)

    @property
    def has_new(self) -> bool:
        """Whether a listener has not begun to read."""
        return any(listener.feed is None for listener in self._listeners)

    def join(self, listener: EndListener) -> None:
        """Add a listener."""
        self._listeners.append(listener)

    def leave(self, listener: EndListener) -> None:
        """Remove a listener."""
        self._listeners.remove(listener)

    def begin(self, feed: ChangeFeed) -> None:
        """Connect listeners that do not read the feed yet, and read again what they missed."""
        for listener in self._listeners:
            if listener.feed is not feed:
                listener.begin(feed)

    def take(self, view: CallStatusView) -> None:
        """Process a call, from the list or read by turn."""
        for listener in self._listeners:
            listener.take(view)

    def drop(self, call_id: str, reason: str) -> None:
        """Forget a live call that cannot be read; the list may show it as live again."""
        if call_id not in self._dropped:
            log.warning(
                "Call %s cannot be read individually, so its end is reported only if Vapi's list shows it. %s",
                call_id,
                reason,
            )
        self._dropped[call_id] = None
        if len(self._dropped) > MOST_LIVE_CALLS:
            del self._dropped[next(iter(self._dropped))]
        for listener in self._listeners:
            listener.live_calls.pop(call_id, None)

    def publish(self) -> None:
        """Hand over what was read."""
        for listener in self._listeners:
            listener.publish()

    def next_in_turn(self, number: int, others: Container[str]) -> list[str]:
        """
        Return the live calls to read one by one, because ``updatedAt`` may not move at an end.

        :param number: the most to return
        :param others: calls that have turns of their own
        """
        read_at: dict[str, float] = {}
        for listener in self._listeners:
            for call_id, at in listener.live_calls.items():
                if call_id not in others:
                    read_at[call_id] = min(at, read_at.get(call_id, at))
        return heapq.nsmallest(number, read_at, key=read_at.__getitem__)

    def take_turn(self, call_id: str) -> None:
        """Record that a live call is being read now."""
        for listener in self._listeners:
            if call_id in listener.live_calls:
                listener.live_calls[call_id] = time.monotonic()
