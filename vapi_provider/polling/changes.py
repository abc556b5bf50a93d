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

from vapi_provider.client.pagination import later

if TYPE_CHECKING:
    from vapi_provider.models.call import CallPage, CallStatusView

PAGE_BYTES = 5_000_000
_FIRST_PAGE_ROWS = 20
_FEWEST_ROWS = 2
"""The first row repeats the last call of the page before."""
_MOST_ROWS = 100
"""Vapi's own default, so a page with fewer rows than requested is the last one."""

CLOCK_SLACK = timedelta(minutes=2)
"""How far the clock of Vapi's Date header may be ahead of the clock of its ``updatedAt``."""
CATCH_UP_SECONDS = 900.0
"""How far before its start a feed catches up, and after how long without a walk it is stale."""
_BACKLOG_STEP = timedelta(hours=1)
"""How much of the backlog one walk covers, so that what was read counts before all of it is read."""
_OVERLAP = timedelta(seconds=5)
"""How much is read twice, because the list may show a change a little late."""
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
        self.mark: datetime | None = None
        """Changes before this instant, in Vapi's time, are not read again; None before the first page."""
        # With long intervals at least three of them: one, and the longest back-off, which takes two.
        self._span = max(CATCH_UP_SECONDS, 3 * poll_interval)
        self._walk: _Walk | None = None
        self._catch_up: _Walk | None = None
        self._backlog: _Walk | None = None
        self._backlog_until: datetime | None = None
        self._has_rows = False
        self._rows = _FIRST_PAGE_ROWS
        self._most_rows = _MOST_ROWS
        self._clock = _ListClock()
        self._has_warned = False

    @property
    def is_stale(self) -> bool:
        """Whether the last walk started so long ago that catching up would delay what is new."""
        return self.mark is not None and time.monotonic() - self._clock.began_at > self._span

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
        if self.mark is None or since >= self.mark:
            return
        until = self.mark
        if self._catch_up is not None and not self._has_rows:
            # All that the feed has still to read needs no second walk.
            until = self._catch_up.lower
        if self._backlog is not None:
            since, until = min(since, self._backlog.lower), max(until, self._backlog_until or until)
        if since < until:
            self._backlog_until = until
            self._backlog = self._next_step(since)

    def begin_poll(self) -> None:
        """Start a walk through what changed since the last one, or continue one that did not fit into its poll."""
        if self.mark is not None and self._walk is None:
            self._walk = _Walk(self.mark)
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
            self._catch_up = _Walk(self.mark - timedelta(seconds=self._span), self.mark)
            self.begin_poll()
            return
        self._has_rows = True
        walk = self._current
        if walk is not None:
            walk.take(page, is_full=page.length >= self._rows)
        if page.length:
            fitting = int(PAGE_BYTES * page.length / max(1, page.size))
            # At most twice as many as before: the next calls may be larger.
            self._rows = min(max(_FEWEST_ROWS, fitting), 2 * self._rows, self._most_rows)
        self._finish_walk()

    def take_oversized(self) -> None:
        """Process a page that was too large to be read."""
        walk = self._current
        if self._rows == _FEWEST_ROWS and walk is not None:
            walk.give_up()
        self._rows = max(_FEWEST_ROWS, self._rows // 4)
        self._finish_walk()

    def take_timeout(self) -> None:
        """Process a missing response: the page may have been too large to be sent in time."""
        self._rows = self._most_rows = max(_FEWEST_ROWS, self._rows // 4)

    @property
    def _current(self) -> _Walk | None:
        return self._walk or self._catch_up or self._backlog

    def _next_step(self, lower: datetime) -> _Walk | None:
        """Return the walk through the next part of the backlog; None at its end."""
        until = self._backlog_until
        return _Walk(lower, min(lower + _BACKLOG_STEP, until)) if until and lower < until else None

    def _finish_walk(self) -> None:
        """Move the mark past a walk that is done; calls in a gap are found when each is read by turn."""
        walk = self._current
        if walk is None or not walk.is_done:
            return
        if walk.has_gap and not self._has_warned:
            self._has_warned = True
            log.warning(
                "Vapi's list of calls cannot be read without a gap. Ends that the list does not show are found later, when "
                "each call is read individually."
            )
        if walk is self._backlog:
            self._backlog = self._next_step(walk.upper or walk.lower)
        elif walk is self._catch_up:
            self._catch_up = None
        else:
            self.mark = self._clock.everything_until(at_least=walk.lower)
            if walk.has_gap:
                self.mark = max(self.mark, self._clock.now() - CLOCK_SLACK)
            self._walk = None
            self._most_rows = min(2 * self._most_rows, _MOST_ROWS)


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
        self._shown: datetime | None = None

    def begin(self) -> None:
        """Start a walk."""
        self.began_at = time.monotonic()
        self._shown = self._newest and self._newest - max(timedelta(0), _OVERLAP - self._since_newest())

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
        shown = newest - timedelta(seconds=now - self.began_at) - _OVERLAP
        self._shown = max(self._shown or shown, shown)
        if self._newest is None or newest > self._newest:
            self._newest, self._newest_at = newest, now

    def now(self) -> datetime:
        """Return Vapi's time, extrapolated from its last response."""
        return self._latest + timedelta(seconds=time.monotonic() - self._latest_at)

    def everything_until(self, at_least: datetime) -> datetime:
        """Return the instant up to which the walk that ends now has read everything."""
        if self._newest is None or self._shown is None:
            return at_least
        return max(at_least, self._shown, self._newest + self._since_newest() - _MOST_LAG)

    def _since_newest(self) -> timedelta:
        """Return how long the list had shown its newest row when the walk started."""
        return timedelta(seconds=self.began_at - self._newest_at)


class _Walk:
    """
    A walk through all calls whose ``updatedAt`` lies in a range, by ``createdAt``, newest first.

    It gives up where it cannot proceed: the list is not sorted, or too many calls share an instant.
    """

    def __init__(self, lower: datetime, upper: datetime | None = None) -> None:
        self.lower = lower
        self.upper = upper
        self.is_done = False
        self.has_gap = False
        self._created_until: datetime | None = None

    def query(self, rows: int) -> dict[str, Any]:
        """Return the query for the next page."""
        query: dict[str, Any] = {"limit": rows, "updatedAtGe": self.lower.isoformat()}
        if self.upper is not None:
            query["updatedAtLt"] = self.upper.isoformat()
        if self._created_until is not None:
            # Vapi shows milliseconds; if it stores more digits, a bound without one more would miss calls.
            query["createdAtLe"] = later(self._created_until, timedelta(milliseconds=1)).isoformat()
        return query

    def take(self, page: CallPage[CallStatusView], *, is_full: bool) -> None:
        """Process a page of this walk."""
        created = [row.created_at for row in page.rows if row.created_at is not None]
        is_sorted = len(created) == len(page.rows) and created == sorted(created, reverse=True)
        if not is_full:
            self.is_done = True
        elif is_sorted and created and (self._created_until is None or created[-1] < self._created_until):
            self._created_until = created[-1]
        else:
            self.give_up()

    def give_up(self) -> None:
        """End the walk early."""
        self.is_done = self.has_gap = True
