# SPDX-License-Identifier: Apache-2.0
"""
What changed in Vapi's list of calls, page by page.

Vapi filters the list by ``updatedAt``, but it has neither a cursor nor a promised order, and its clock is not ours. The
feed keeps one mark in Vapi's time, chooses the next page, and moves the mark over what was read. It sends nothing.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vapi_provider.models.call import CallPage, CallStatusView

PAGE_BYTES = 1_500_000
_FIRST_PAGE_ROWS = 20
_FEWEST_ROWS = 2
"""The first row repeats the call that the page before ended with."""
_MOST_ROWS = 100
"""Vapi's own default, so a page with fewer rows than requested is the last one."""

CLOCK_SLACK = timedelta(minutes=2)
"""How far the clock of Vapi's Date header may be ahead of that of its ``updatedAt``."""
CATCH_UP_SECONDS = 900.0
"""How far before its start a feed catches up, and the silence after which it is stale."""
_OVERLAP = timedelta(seconds=5)
"""What is read twice, because the list may show a change a little late."""
_MOST_LAG = timedelta(minutes=2)
"""How late the list may show a change when no newer row proves that it has come further."""

log = logging.getLogger(__name__)


class ChangeFeed:
    """
    Chooses which page of the list to read next.

    Each poll walks through what changed since the mark. The pages it leaves over go to one walk through the time before
    the feed began.

    :param poll_interval: the seconds from one poll to the next
    """

    def __init__(self, poll_interval: float) -> None:
        self.mark: datetime | None = None
        """What changed before this instant of Vapi's is not read again; None before the first page."""
        # Of long intervals at least three: one, and the longest back-off, which takes two.
        self._span = max(CATCH_UP_SECONDS, 3 * poll_interval)
        self._walk: _Walk | None = None
        self._catch_up: _Walk | None = None
        self._rows = _FIRST_PAGE_ROWS
        self._most_rows = _MOST_ROWS
        self._clock = _ListClock()
        self._has_warned = False

    @property
    def is_stale(self) -> bool:
        """Whether the last walk began so long ago that catching up would delay what is new."""
        return self.mark is not None and time.monotonic() - self._clock.began_at > self._span

    def begin_poll(self) -> None:
        """Start a walk through what changed since the last one, or go on with one that did not fit into its poll."""
        if self.mark is not None and self._walk is None:
            self._walk = _Walk(self.mark)
            self._clock.begin()

    def next_query(self) -> dict[str, Any] | None:
        """Return the query for the next page; None when this poll has nothing more to read."""
        if self.mark is None:
            # Only the time of the response matters, so ask for a page without calls.
            return {"limit": 1, "updatedAtGe": (datetime.now(timezone.utc) + timedelta(days=1)).isoformat()}
        walk = self._walk or self._catch_up
        return walk.query(self._rows) if walk else None

    def take(self, page: CallPage[CallStatusView]) -> None:
        """Process the page that was requested."""
        self._clock.learn(page)
        if self.mark is None:
            self.mark = page.responded_at - CLOCK_SLACK
            self._catch_up = _Walk(self.mark - timedelta(seconds=self._span), self.mark)
            self.begin_poll()
            return
        walk = self._walk or self._catch_up
        if walk is not None:
            walk.take(page, is_full=page.length >= self._rows)
        if page.length:
            fitting = int(PAGE_BYTES * page.length / max(1, page.size))
            # At most twice as many as before: the next calls may be larger.
            self._rows = min(max(_FEWEST_ROWS, fitting), 2 * self._rows, self._most_rows)
        self._finish_walk()

    def take_oversized(self) -> None:
        """Process a page that was too large to be read."""
        walk = self._walk or self._catch_up
        if self._rows == _FEWEST_ROWS and walk is not None:
            walk.give_up()
        self._rows = max(_FEWEST_ROWS, self._rows // 4)
        self._finish_walk()

    def take_timeout(self) -> None:
        """Process a missing response: the page may have been too large to be sent in time."""
        self._rows = self._most_rows = max(_FEWEST_ROWS, self._rows // 4)

    def _finish_walk(self) -> None:
        """Move the mark over a walk that is done; where it has a gap, calls are found as each is read by turn."""
        walk = self._walk or self._catch_up
        if walk is None or not walk.is_done:
            return
        if walk.has_gap and not self._has_warned:
            self._has_warned = True
            log.warning(
                "Vapi's list of calls cannot be read without a gap. Ends that it does not show are found later, when "
                "each call is read by turn."
            )
        if self._walk is None:
            self._catch_up = None
            return
        self.mark = self._clock.everything_until(at_least=walk.lower)
        if walk.has_gap:
            self.mark = max(self.mark, self._clock.now() - CLOCK_SLACK)
        self._walk = None
        self._most_rows = min(2 * self._most_rows, _MOST_ROWS)


class _ListClock:
    """
    Knows up to which of Vapi's instants the list has certainly shown everything.

    A row proves that the list had come as far as the row's ``updatedAt`` when it was read; our own clock proves nothing.
    Without newer rows time goes on all the same, less what a list that lags may be behind.
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
        """Take what the rows prove; one from the future proves nothing."""
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
        """Return the instant up to which the walk that ends now has seen everything."""
        if self._newest is None or self._shown is None:
            return at_least
        return max(at_least, self._shown, self._newest + self._since_newest() - _MOST_LAG)

    def _since_newest(self) -> timedelta:
        """Return for how long the list had shown its newest row when the walk began."""
        return timedelta(seconds=self.began_at - self._newest_at)


class _Walk:
    """
    A walk through all calls whose ``updatedAt`` lies in a range, by ``createdAt``, newest first.

    It gives up where that does not get on: the list has another order, or too many calls share an instant.
    """

    def __init__(self, lower: datetime, upper: datetime | None = None) -> None:
        self.lower = lower
        self.is_done = False
        self.has_gap = False
        self._upper = upper
        self._created_until: datetime | None = None

    def query(self, rows: int) -> dict[str, Any]:
        """Return the query for the next page."""
        query: dict[str, Any] = {"limit": rows, "updatedAtGe": self.lower.isoformat()}
        if self._upper is not None:
            query["updatedAtLt"] = self._upper.isoformat()
        if self._created_until is not None:
            # Vapi shows milliseconds; if it keeps more digits, a bound without one more would miss calls.
            query["createdAtLe"] = (self._created_until + timedelta(milliseconds=1)).isoformat()
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
        """End the walk before its end."""
        self.is_done = self.has_gap = True
