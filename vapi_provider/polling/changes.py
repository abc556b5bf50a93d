# SPDX-License-Identifier: Apache-2.0
"""
What changed in the list of calls, page by page.

Vapi lists calls by a range of ``updatedAt`` but has no cursor, no order that it promises and no clock that is ours. So
this module keeps two marks in Vapi's time, decides which page to ask for next, and moves a mark only over pages that
were read. It sends nothing itself.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from vapi_provider.models.call import CallPage, CallStatusView

PAGE_BYTES = 1_500_000
_FIRST_PAGE_ROWS = 20
_FEWEST_ROWS = 2
"""One is the call that the page before ended with."""
_MOST_ROWS = 100
"""Vapi's own default, so that a page that is shorter than was asked for is the last one."""

CLOCK_SLACK = timedelta(minutes=2)
"""How far the clock of Vapi's Date header may be ahead of that of its ``updatedAt``."""
_OVERLAP = timedelta(seconds=5)
"""What is read twice, for changes that the list shows a little late."""
_MOST_LAG = timedelta(minutes=2)
"""Where nothing new is seen, how much later than that the list may still show a change."""
_PACE = 0.999
"""Two clocks run at speeds that differ by less than a thousandth; the slower of them is safe to count on."""
_FIRST_WINDOW = timedelta(minutes=1)
_STALE_SECONDS = 900.0
_NOTHING = timedelta(0)
_INSTANT = timedelta(milliseconds=1)
"""The step of Vapi's timestamps."""
_MOST_PARTS_LOST = 3
_FAR_AHEAD = timedelta(days=1)

log = logging.getLogger(__name__)


class ChangeFeed:
    """
    Decides which page of the list to read next, and knows up to where everything was read.

    *Live* is what changed since the last poll, and comes first. *Backlog* is what changed before that, for waiters who
    know less; it goes back in time in windows that double, so that one that reaches back for days delays nobody.
    """

    def __init__(self) -> None:
        self.mark: datetime | None = None
        """Everything that changed before this instant of Vapi's has been read; None before the first page."""
        self._reach: datetime | None = None
        """How far back that is true."""
        self._lost_track = False
        self._live: _Scan | None = None
        self._live_began = 0.0
        self._backlog: _Scan | None = None
        self._window = _FIRST_WINDOW
        self._rows = _FIRST_PAGE_ROWS
        self._most_rows = _MOST_ROWS
        self._clock = _ListClock()

    @property
    def is_stale(self) -> bool:
        """Whether so much time has passed since the last walk that catching up would keep what is new waiting."""
        return self.mark is not None and time.monotonic() - self._live_began > _STALE_SECONDS

    def begin_poll(self) -> None:
        """Start a walk through what changed since the last one; one that did not fit into its poll goes on."""
        if self.mark is not None and self._live is None:
            self._live = _Scan(self.mark, None)
            self._live_began = time.monotonic()
            self._clock.begin()

    def next_query(self, known_since: datetime | None) -> dict[str, Any] | None:
        """
        Say which page to ask for.

        :param known_since: the instant, of Vapi's, from which on a waiter needs to hear what changed
        :return: the query; None when this poll has nothing more to read
        """
        if self.mark is None:
            # Only the time of the answer is wanted, so better none with a call in it.
            tomorrow = datetime.now(timezone.utc) + _FAR_AHEAD
            return {"limit": 1, "updatedAtGe": tomorrow.isoformat()}
        scan = self._live or self._backlog_scan(known_since)
        return None if scan is None else scan.query(self._rows)

    def take(self, page: CallPage[CallStatusView]) -> None:
        """
        Take in the page that was asked for.

        :param page: the page
        """
        self._clock.learn(page)
        if self.mark is None:
            self.mark = self._reach = page.responded_at - CLOCK_SLACK
            self.begin_poll()
            return
        scan = self._live or self._backlog
        if scan is not None:
            scan.take(page, is_full=page.length >= self._rows)
        if page.length:
            fitting = int(PAGE_BYTES * page.length / max(1, page.size))
            # No more than twice as many as before: the next calls may be of another size altogether.
            self._rows = min(max(_FEWEST_ROWS, fitting), 2 * self._rows, self._most_rows)
        self._close_scan()

    def take_oversized(self) -> None:
        """Take in that the page was too large to be read."""
        scan = self._live or self._backlog
        if self._rows == _FEWEST_ROWS and scan is not None:
            scan.take_unreadable(self._clock.latest)
        self._rows = max(_FEWEST_ROWS, self._rows // 4)
        self._close_scan()

    def take_timeout(self) -> None:
        """Take in that there was no answer, which may be since too much was asked for."""
        self._rows = self._most_rows = max(_FEWEST_ROWS, self._rows // 4)

    def known_until(self, instant: datetime) -> datetime:
        """
        Say up to where a call is known whose state was known at an instant.

        :param instant: the instant, of Vapi's
        :return: the mark, when everything that changed in between has been read
        """
        if self.mark is None or self._reach is None or not self._reach <= instant <= self.mark:
            return instant
        return self.mark

    def _backlog_scan(self, known_since: datetime | None) -> _Scan | None:
        if self._reach is None or known_since is None or known_since >= self._reach:
            # Whoever needed it has been looked at, or has gone.
            self._backlog, self._window = None, _FIRST_WINDOW
        elif self._backlog is None:
            self._backlog = _Scan(max(known_since, self._reach - self._window), self._reach)
            self._window *= 2
        return self._backlog

    def _close_scan(self) -> None:
        """Move a mark over what has been read to its end."""
        if self._live is not None:
            if self._live.is_done:
                self._tell(self._live)
                self.mark = self._clock.everything_until(at_least=self._live.lower)
                self._live = None
                self._most_rows = min(2 * self._most_rows, _MOST_ROWS)
        elif self._backlog is not None and self._backlog.is_done:
            self._tell(self._backlog)
            self._reach, self._backlog = self._backlog.lower, None

    def _tell(self, scan: _Scan) -> None:
        if scan.parts_lost and not self._lost_track:
            self._lost_track = True
            log.warning(
                "Vapi's list of calls cannot be read without a gap. Calls whose end it does not show are found later, as "
                "each is read in its turn."
            )


class _ListClock:
    """
    Tells up to which of Vapi's instants the list has certainly shown everything.

    A row proves that the list had come as far as the row's ``updatedAt`` when it was read; no clock of ours is asked.
    Where no newer row comes, time goes on all the same, less what a list that lags may be behind.
    """

    def __init__(self) -> None:
        self.latest = datetime.min.replace(tzinfo=timezone.utc)
        """The latest instant of which Vapi could know."""
        self._newest: datetime | None = None
        self._newest_at = 0.0
        self._began = 0.0
        self._shown: datetime | None = None

    def begin(self) -> None:
        """Note that a walk begins."""
        self._began = time.monotonic()
        self._shown = self._newest and self._newest - max(_NOTHING, _OVERLAP - self._since_newest())

    def learn(self, page: CallPage[CallStatusView]) -> None:
        """Take what the rows prove; one from the future proves nothing."""
        # The Date header has no fractions.
        self.latest = page.responded_at + timedelta(seconds=1)
        newest = max(
            (row.updated_at for row in page.rows if row.updated_at and row.updated_at <= self.latest),
            default=None,
        )
        if newest is None:
            return
        now = time.monotonic()
        shown = newest - timedelta(seconds=now - self._began) - _OVERLAP
        self._shown = max(self._shown or shown, shown)
        if self._newest is None or newest > self._newest:
            self._newest, self._newest_at = newest, now

    def everything_until(self, at_least: datetime) -> datetime:
        """Return the instant up to which the walk that is over now has seen everything."""
        if self._newest is None or self._shown is None:
            return at_least
        return max(at_least, self._shown, self._newest + self._since_newest() - _MOST_LAG)

    def _since_newest(self) -> timedelta:
        """Return for how long the list had shown its newest row when the walk began."""
        return timedelta(seconds=(self._began - self._newest_at) * _PACE)


class _Part(NamedTuple):
    """A range of ``updatedAt``, from ``lower`` to before ``upper``; calls created after ``created_until`` were read."""

    lower: datetime
    upper: datetime | None
    created_until: datetime | None = None


class _Scan:
    """
    A walk through all calls whose ``updatedAt`` lies in a range.

    A list in the order of creation, newest first, is paged by ``createdAt``. Where that does not get on, since the
    list has another order or too many calls share an instant, the range is halved until its parts fit a page.

    :param lower: where the range begins
    :param upper: where it ends; None for an open end
    """

    def __init__(self, lower: datetime, upper: datetime | None) -> None:
        self.lower = lower
        self.parts_lost = 0
        self._parts = [_Part(lower, upper)]

    @property
    def is_done(self) -> bool:
        return not self._parts

    def query(self, rows: int) -> dict[str, Any]:
        """Ask for the next page."""
        part = self._parts[-1]
        query: dict[str, Any] = {"limit": rows, "updatedAtGe": part.lower.isoformat()}
        if part.upper is not None:
            query["updatedAtLt"] = part.upper.isoformat()
        if part.created_until is not None:
            # Should Vapi keep more digits than it shows, a bound without the instant would miss the rest of it.
            query["createdAtLe"] = (part.created_until + _INSTANT).isoformat()
        return query

    def take(self, page: CallPage[CallStatusView], *, is_full: bool) -> None:
        """Note that a page was read, and what of its part is left."""
        part = self._parts.pop()
        if not is_full:
            return
        oldest = _oldest_of_sorted(page)
        if oldest is not None and (part.created_until is None or oldest < part.created_until):
            self._parts.append(part._replace(created_until=oldest))
            return
        latest = page.responded_at + timedelta(seconds=1)
        changed = (row.updated_at for row in page.rows if row.updated_at and row.updated_at < latest)
        self._halve(part, max(changed, default=latest))

    def take_unreadable(self, latest: datetime) -> None:
        """Note that no page of this part is small enough to be read; parts of it may be."""
        self._halve(self._parts.pop(), latest)

    def _halve(self, part: _Part, latest: datetime) -> None:
        """Go on with the halves of a part, the later one first; of an open part, with what lies up to ``latest``."""
        end = part.upper or latest + _INSTANT
        if part.upper is None and end > part.lower:
            self._parts.append(_Part(end, None))
        if end - part.lower <= _INSTANT:
            # There is no way to tell these calls apart. Where that happens again, the list makes no sense at all.
            self.parts_lost += 1
            if self.parts_lost == _MOST_PARTS_LOST:
                self._parts.clear()
            return
        middle = part.lower + (end - part.lower) / 2
        self._parts += [_Part(part.lower, middle), _Part(middle, end)]


def _oldest_of_sorted(page: CallPage[CallStatusView]) -> datetime | None:
    """Return when the last row was created, if the rows are sorted by that, newest first."""
    instants = [row.created_at for row in page.rows if row.created_at is not None]
    is_sorted = all(later <= earlier for earlier, later in zip(instants, instants[1:], strict=False))
    return instants[-1] if instants and is_sorted and len(instants) == len(page.rows) else None
