# SPDX-License-Identifier: Apache-2.0
"""
The changes in Vapi's list of calls, page by page.

Vapi filters the list by ``updatedAt``, but has neither a cursor nor a documented order, and its clock is not ours. The
feed keeps one mark in Vapi's time, chooses the next page, and moves the mark past what was read. It sends nothing.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from vapi_provider.polling.walk import CLOCK_SLACK, MOST_ROWS, Walk

if TYPE_CHECKING:
    from vapi_provider.models.call import CallPage, CallStatusView

PAGE_BYTES = 5_000_000
_FIRST_PAGE_ROWS = 20
_FEWEST_ROWS = 2
"""The first row repeats the last call of the page before."""

CATCH_UP_SECONDS = 900.0
"""How far before its start a feed catches up, and after how long without a walk it is stale."""
_BACKLOG_STEP = timedelta(hours=1)
"""How much of the backlog one walk covers, so that what was read counts before all of it is read."""
_OVERLAP = timedelta(seconds=5)
"""How much is read twice, because the list may show a change a little late; a task's call is also read by turn."""
LIST_LAG_SECONDS = 30.0
"""The same while there are listeners, which have only the list; a change that it shows later may be missed."""
_MOST_LAG = timedelta(minutes=2)
"""How late the list may show a change when no newer row proves that it is up to date."""

log: logging.Logger = logging.getLogger(__name__)


class ChangeFeed:
    """
    Chooses which page of the list to read next.

    Each poll walks through what changed since the mark. Pages that are left over go to one walk through the time before
    the feed started, and then to the backlog, from the oldest change on.

    :param poll_interval: the seconds from one poll to the next
    """

    def __init__(self, poll_interval: float) -> None:
        self.is_misled: bool = False
        """Whether a later response has shown that the time of the first one was wrong, and with it the mark."""
        self.mark: datetime | None = None
        """Changes before this instant, in Vapi's time, are not read again; None before the first page."""
        # With long intervals at least three of them: one, and the longest back-off, which takes two.
        self._span = max(CATCH_UP_SECONDS, 3 * poll_interval)
        self._walk: Walk | None = None
        self._catch_up: Walk | None = None
        self._backlog: Walk | None = None
        self._backlog_until: datetime | None = None
        self._has_rows = False
        self._is_confirmed = False
        """Whether a change after the first mark was seen, so that it was not in the future."""
        self._rows = _FIRST_PAGE_ROWS
        self._most_rows = MOST_ROWS
        self._clock = _ListClock()
        self._has_warned = False

    @property
    def is_stale(self) -> bool:
        """Whether a new feed is needed: it is misled, or its last walk started so long ago that catching up would delay what is new."""
        return (
            self.is_misled or self.mark is not None and time.monotonic() - self._clock.began_at > self._span
        )

    @property
    def read_until(self) -> datetime | None:
        """The instant, in Vapi's time, before which no change is left to be read; None before the first page."""
        lowest = [walk.lower for walk in (self._catch_up, self._backlog) if walk is not None]
        return min([*lowest, self.mark]) if self.mark is not None else None

    def now(self) -> datetime:
        """Return Vapi's time, extrapolated from its last response."""
        return self._clock.now()

    def read_from(self, since: datetime) -> None:
        """Read what changed from an instant on, although it was read before; the first page must have been read."""
        self._clock.overlap = timedelta(seconds=LIST_LAG_SECONDS)
        if self.mark is None:
            return
        until = self.mark
        if not self._has_rows:
            # All that the feed has still to read needs no second walk.
            until = self._catch_up.lower if self._catch_up is not None else until
        elif self._walk is not None:
            # Its first pages are gone, and a walk that began anew for each newcomer might never end.
            until = self._clock.now() + CLOCK_SLACK
        if self._backlog is not None:
            since, until = min(since, self._backlog.lower), max(until, self._backlog_until or until)
        if since < until:
            self._backlog_until = until
            self._backlog = self._next_step(since)

    def begin_poll(self) -> None:
        """Start a walk through what changed since the last one, or continue one that did not fit into its poll."""
        if self.mark is not None and self._walk is None:
            self._walk = Walk(self.mark)
            self._clock.begin()

    def next_query(self) -> dict[str, Any] | None:
        """Return the query for the next page; None when this poll has nothing more to read."""
        if self.mark is None:
            # Only the time of the response matters, so ask for a page without calls.
            return {"limit": 1, "updatedAtGe": (datetime.now(timezone.utc) + timedelta(days=1)).isoformat()}
        walk = self._current
        return walk.query(self._rows) if walk else None

    def take(self, page: CallPage[CallStatusView]) -> None:
        """Process the requested page."""
        self._clock.learn(page)
        if self.mark is None:
            self.mark = page.responded_at - CLOCK_SLACK
            self._catch_up = Walk(self.mark - timedelta(seconds=self._span), self.mark)
            self.begin_poll()
            return
        self._is_confirmed |= self._clock.has_seen(self.mark)
        # The Date header has no fractions.
        self.is_misled |= not self._is_confirmed and page.responded_at + timedelta(seconds=1) < self.mark
        self._has_rows = True
        walk = self._current
        fitting = int(PAGE_BYTES * page.length / max(1, page.size))
        if walk is not None:
            walk.take(page, self._clock.now(), fitting)
        if page.length:
            # At most twice as many as before: the next calls may be larger.
            self._rows = min(max(_FEWEST_ROWS, fitting), 2 * self._rows, self._most_rows)
        self._finish_walk()

    def take_oversized(self) -> None:
        """Process a page that was too large to be read."""
        walk = self._current
        is_least = self._rows == _FEWEST_ROWS
        if walk is not None and (walk.is_wide or is_least or (walk.is_split and not walk.is_narrow)):
            walk.split(self._clock.now())
            # Most of the parts have ordinary calls.
            self._rows = _FIRST_PAGE_ROWS if is_least else self._rows
        else:
            self._rows = max(_FEWEST_ROWS, self._rows // 4)
        self._finish_walk()

    def take_timeout(self) -> None:
        """Process a missing response: the page may have been too large to be sent in time."""
        self._rows = self._most_rows = max(_FEWEST_ROWS, self._rows // 4)

    @property
    def _current(self) -> Walk | None:
        return self._walk or self._catch_up or self._backlog

    def _next_step(self, lower: datetime) -> Walk | None:
        """Return the walk through the next part of the backlog; None at its end."""
        until = self._backlog_until
        return Walk(lower, min(lower + _BACKLOG_STEP, until)) if until and lower < until else None

    def _finish_walk(self) -> None:
        """Move the mark past a walk that is done; calls that tasks wait for in a gap are found when each is read by turn."""
        walk = self._current
        if walk is None or not walk.is_done:
            return
        if walk.gap is not None and not self._has_warned:
            self._has_warned = True
            log.warning(
                "Vapi's list of calls cannot be read without a gap (%s). Tasks find the end of their call later, when each "
                "call is read individually. An asset trigger may miss the ends of calls that last changed between %s and %s.",
                walk.problem,
                *(instant.isoformat() if instant else "now" for instant in walk.gap),
            )
        if walk is self._backlog:
            self._backlog = self._next_step(walk.upper) if walk.upper else None
        elif walk is self._catch_up:
            self._catch_up = None
        else:
            self.mark = self._clock.everything_until(at_least=walk.lower)
            if walk.gap is not None and (passed := self._clock.now() - CLOCK_SLACK) > self.mark:
                self.mark, self._is_confirmed = passed, False
            self._walk = None
            self._most_rows = min(2 * self._most_rows, MOST_ROWS)


class _ListClock:
    """
    Knows the instant, in Vapi's time, up to which the list has certainly shown everything.

    A row proves that the list was up to date to the row's ``updatedAt`` when it was read; our own clock proves nothing.
    Without newer rows time still passes, less the lag that the list may have.
    """

    def __init__(self) -> None:
        self._latest = datetime.min.replace(tzinfo=timezone.utc)
        self._latest_at = 0.0
        self._newest: datetime | None = None
        self._newest_at = 0.0
        self.began_at = 0.0
        self.overlap = _OVERLAP
        self._shown: datetime | None = None

    def begin(self) -> None:
        """Start a walk."""
        self.began_at = time.monotonic()
        self._shown = self._newest and self._newest - max(timedelta(0), self.overlap - self._since_newest())

    def learn(self, page: CallPage[CallStatusView]) -> None:
        """Learn from the rows of a page; one from the future proves nothing."""
        now = time.monotonic()
        # The Date header has no fractions.
        self._latest, self._latest_at = page.responded_at + timedelta(seconds=1), now
        newest = max(
            (row.updated_at for row in page.rows if row.updated_at and row.updated_at <= self._latest),
            default=None,
        )
        if newest is None:
            return
        shown = newest - timedelta(seconds=now - self.began_at) - self.overlap
        self._shown = max(self._shown or shown, shown)
        if self._newest is None or newest > self._newest:
            self._newest, self._newest_at = newest, now

    def now(self) -> datetime:
        """Return Vapi's time, extrapolated from its last response."""
        return self._latest + timedelta(seconds=time.monotonic() - self._latest_at)

    def has_seen(self, instant: datetime) -> bool:
        """Return whether a call has changed at an instant or later."""
        return self._newest is not None and self._newest >= instant

    def everything_until(self, at_least: datetime) -> datetime:
        """Return the instant up to which the walk that ends now has read everything."""
        if self._newest is None or self._shown is None:
            return at_least
        return max(at_least, self._shown, self._newest + self._since_newest() - _MOST_LAG)

    def _since_newest(self) -> timedelta:
        """Return how long the list had shown its newest row when the walk started."""
        return timedelta(seconds=self.began_at - self._newest_at)
