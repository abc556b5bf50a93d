# SPDX-License-Identifier: Apache-2.0
"""A walk through a part of Vapi's list of calls, which sends nothing itself."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from vapi_provider.client.pagination import later

if TYPE_CHECKING:
    from vapi_provider.models.call import CallPage, CallStatusView

_WIDEST_ROWS = 1_000
"""The longest page that Vapi sends, for a list that cannot be paged."""
_NARROWEST = timedelta(milliseconds=1)
"""The shortest range of ``updatedAt``: Vapi shows no more digits."""
_MOST_SPLITS = 30
"""After so many splits without a part that could be read, a walk is given up: a range of a day needs 27."""
_MOST_LEFT_OUT = 8
"""After so many parts that were left out, a walk is given up: finding each one takes up to a hundred requests."""
MOST_ROWS = 100
"""Vapi's own default, so a page with fewer rows than requested is the last one."""
CLOCK_SLACK = timedelta(minutes=2)
"""How far the clock of Vapi's Date header may be ahead of the clock of its ``updatedAt``."""


class Walk:
    """
    A walk through all calls whose ``updatedAt`` lies in a range, by ``createdAt``, newest first.

    Where it cannot proceed, because the list is not sorted, too many calls share an instant or a page is too large, it
    asks for a longer page, and then splits the range in two. The earlier part comes first, since a call that changes
    meanwhile moves to a later one. Parts that are as narrow as the digits of ``updatedAt`` are left out.
    """

    def __init__(self, lower: datetime, upper: datetime | None = None) -> None:
        self.lower = lower
        self.upper = upper
        self.gap: tuple[datetime, datetime | None] | None = None
        """The range that holds all parts that were left out."""
        self.problem: str = ""
        """Why it had to leave them out."""
        self._parts: list[tuple[datetime, datetime | None]] = [(lower, upper)]
        """What is left to read, the next part last."""
        self.is_split: bool = False
        """Whether it reads its range in parts."""
        self._splits = 0
        """Since a part was read to its end."""
        self._left_out = 0
        self._limit = 0
        self._begin_part()

    def _begin_part(self) -> None:
        self._created_until: datetime | None = None
        self._wide_rows = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to read."""
        return not self._parts

    @property
    def is_wide(self) -> bool:
        """Whether it asks for a longer page than usual."""
        return self._wide_rows > 0

    @property
    def is_narrow(self) -> bool:
        """Whether the part at hand cannot be split."""
        lower, upper = self._parts[-1]
        return upper is not None and upper - lower < 2 * _NARROWEST

    def query(self, rows: int) -> dict[str, Any]:
        """Return the query for the next page."""
        lower, upper = self._parts[-1]
        self._limit = self._wide_rows or rows
        query: dict[str, Any] = {"limit": self._limit, "updatedAtGe": lower.isoformat()}
        if upper is not None:
            query["updatedAtLt"] = upper.isoformat()
        if self._created_until is not None:
            # Vapi shows milliseconds; if it stores more digits, a bound without one more would miss calls.
            query["createdAtLe"] = later(self._created_until, timedelta(milliseconds=1)).isoformat()
        return query

    def take(self, page: CallPage[CallStatusView], now: datetime, fitting: int) -> None:
        """
        Process a page of this walk.

        :param page: the page
        :param now: Vapi's time
        :param fitting: how many such rows fit on a page
        """
        created = [row.created_at for row in page.rows if row.created_at is not None]
        is_sorted = len(created) == len(page.rows) and created == sorted(created, reverse=True)
        # As long as a usual page: the server may have its own limit.
        is_full = page.length >= self._limit or (self.is_wide and page.length == MOST_ROWS)
        if not is_full:
            self._splits = 0
            self._parts.pop()
            self._begin_part()
        elif is_sorted and created and (self._created_until is None or created[-1] < self._created_until):
            self._created_until = created[-1]
        elif self._is_untrue(page):
            self._leave_out(len(self._parts), "it ignores the bounds of the request, or repeats calls")
        elif not self._widen(fitting):
            self.split(now, "it is not sorted, or too many calls share an instant")

    def split(self, now: datetime, problem: str = "a call is too large") -> None:
        """
        Continue with the earlier half of the part at hand; leave it out if it is too narrow.

        :param now: Vapi's time
        :param problem: why that is necessary
        """
        lower, upper = self._parts[-1]
        end = upper or now + CLOCK_SLACK
        half = (end - lower) // 2
        middle = lower + half - half % _NARROWEST
        self.is_split = True
        self._splits += 1
        if self._splits > _MOST_SPLITS:
            self._leave_out(len(self._parts), problem)
        elif middle <= lower:
            self._left_out += 1
            self._leave_out(1 if self._left_out < _MOST_LEFT_OUT else len(self._parts), problem)
        else:
            self._parts[-1:] = [(end, None)] * (upper is None) + [(middle, end), (lower, middle)]
            self._begin_part()

    def _is_untrue(self, page: CallPage[CallStatusView]) -> bool:
        lower, upper = self._parts[-1]
        changed = [row.updated_at for row in page.rows if row.updated_at is not None]
        return (
            len({row.id for row in page.rows}) < len(page.rows)
            or not changed
            or min(changed) < lower - _NARROWEST
            or (upper is not None and max(changed) >= upper + _NARROWEST)
        )

    def _widen(self, fitting: int) -> bool:
        """Ask for a longer page if there is one that is not too large, or the part cannot be split."""
        wider = min(_WIDEST_ROWS, 4 * self._limit, _WIDEST_ROWS if self.is_narrow else fitting)
        if wider <= self._limit:
            return False
        self._wide_rows = wider
        return True

    def _leave_out(self, number: int, problem: str) -> None:
        """Leave out the next parts."""
        first, last = self._parts[-1][0], self._parts[-number][1]
        if self.gap is not None:
            first = min(first, self.gap[0])
            last = max(last, self.gap[1]) if last and self.gap[1] else None
        self.gap, self.problem = (first, last), problem
        del self._parts[-number:]
        self._begin_part()
