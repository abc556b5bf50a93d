# SPDX-License-Identifier: Apache-2.0
"""Paging through a list that has no cursor, without gaps and without duplicates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Generic

from vapi_provider.client.arguments import MAX_PAGE_SIZE
from vapi_provider.exceptions import VapiTransientError
from vapi_provider.models.call import CallStatusView, ViewT

OVERLAP = timedelta(milliseconds=1)
"""How far two pages overlap: should the API store more than the milliseconds it shows, none is missed."""


def newest_first(read_page: Callable[[Mapping[str, Any]], list[ViewT]], page_size: int) -> Iterator[ViewT]:
    """
    Yield every call of a list that can only be bounded by ``createdAt``.

    Each page begins where the one before ended, with an overlap, and duplicates are dropped by id. The last page is the
    one that is not full and brings nothing new: a server may return fewer calls than requested. Each is newer than the
    ones after it, but for what was created within the overlap.

    :raises VapiTransientError: when calls could be missed: more of them share one instant than fit on a page, or the
        list is not sorted
    """
    pager = _Pager[ViewT](page_size)
    while not pager.is_done:
        yield from pager.take(read_page(pager.query()))
        if pager.probe is not None:
            pager.check_probe(read_page(pager.probe))


class _Pager(Generic[ViewT]):
    """Knows where the next page begins, and which calls it will bring for the second time."""

    def __init__(self, page_size: int) -> None:
        self.is_done = False
        self.probe: dict[str, Any] | None = None
        """The query that shows whether the last page hides other calls, where that is in doubt."""
        self._limit = page_size
        self._oldest: datetime | None = None
        self._seen: dict[str, datetime | None] = {}
        self._last_ids: set[str] = set()
        self._longest_page = 0

    def query(self) -> dict[str, Any]:
        """Return the query for the next page."""
        query: dict[str, Any] = {"limit": self._limit}
        if self._oldest is not None:
            query["createdAtLe"] = _later(self._oldest).isoformat()
        return query

    def take(self, page: list[ViewT]) -> list[ViewT]:
        """Take in a page and return its new calls."""
        query = self.query()
        new = {call.id: call for call in page if call.id not in self._seen and not self._is_above_bound(call)}
        if new:
            self._check_order(page, query)
            self._advance(list(new.values()))
        elif len(page) >= self._limit:
            self._widen()
        elif self._oldest is not None and len(page) >= self._longest_page:
            # As long as any page was: a server with a cap of its own may have cut it within one instant.
            self.probe = {"limit": 1, "createdAtLt": self._oldest.isoformat()}
        else:
            self.is_done = True
        self._longest_page = max(self._longest_page, len(page))
        self._last_ids = {call.id for call in page}
        return sorted(new.values(), key=_age)

    def check_probe(self, rows: list[ViewT]) -> None:
        """
        Take in the response to the probe.

        :raises VapiTransientError: when there are calls that the last page did not show
        """
        is_about_order = self.probe is not None and "createdAtGt" in self.probe
        self.probe = None
        if is_about_order:
            if {call.id for call in rows} - self._last_ids:
                raise self._unsorted()
        elif any(self._oldest and call.created_at and call.created_at < self._oldest for call in rows):
            raise self._stuck()
        else:
            self.is_done = True

    def _is_above_bound(self, call: CallStatusView) -> bool:
        """Return whether a call is above the bound, as when a server ignores the bound."""
        return (
            self._oldest is not None
            and call.created_at is not None
            and call.created_at > _later(self._oldest)
        )

    def _check_order(self, page: list[ViewT], query: dict[str, Any]) -> None:
        """Check that a page is sorted: one that is not may hide newer calls, unless it is the whole list."""
        instants = [call.created_at for call in page if call.created_at is not None]
        if all(later <= earlier for earlier, later in zip(instants, instants[1:], strict=False)):
            return
        if len(page) >= self._limit:
            raise self._unsorted()
        self.probe = {**query, "createdAtGt": min(instants).isoformat()}

    def _advance(self, new: list[ViewT]) -> None:
        instants = [call.created_at for call in new if call.created_at is not None]
        if self._oldest is not None:
            instants.append(self._oldest)
        self._oldest = min(instants, default=None)
        self._seen.update({call.id: call.created_at for call in new})
        if self._oldest is not None:
            # Only calls at or before the bound can come again, and those without an instant.
            bound = _later(self._oldest)
            self._seen = {call_id: at for call_id, at in self._seen.items() if at is None or at <= bound}

    def _widen(self) -> None:
        """Request more at once, when a whole page lies within one instant."""
        if self._limit >= MAX_PAGE_SIZE:
            raise self._stuck()
        self._limit = min(MAX_PAGE_SIZE, self._limit * 4)

    def _stuck(self) -> VapiTransientError:
        instant = "the same instant" if self._oldest is None else self._oldest.isoformat()
        return _error(
            f"cannot continue: {len(self._seen)} or more calls were created at {instant}, more than Vapi lists at "
            "once. To list the calls created before it, set created_at_lt."
        )

    def _unsorted(self) -> VapiTransientError:
        return _error(
            "returned calls out of order, so a page may hide others and the list cannot be read without gaps. Request "
            f"a time range with fewer than {self._limit} calls."
        )


def _error(what: str) -> VapiTransientError:
    return VapiTransientError(f"GET /call {what}", method="GET", path="/call")


def _later(instant: datetime) -> datetime:
    try:
        return instant + OVERLAP
    except OverflowError:
        return instant


def _age(call: CallStatusView) -> float:
    """Sort newest first; a call without an instant goes last."""
    return float("inf") if call.created_at is None else -call.created_at.timestamp()
