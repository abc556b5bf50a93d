# SPDX-License-Identifier: Apache-2.0
"""Pages through a list that has no cursor, without gaps or duplicates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Generic

from vapi_provider.client.arguments import MAX_PAGE_SIZE
from vapi_provider.exceptions import VapiTransientError
from vapi_provider.models.call import CallStatusView, ViewT

OVERLAP = timedelta(milliseconds=1)
"""How far pages overlap, because the API may store more digits than the milliseconds it shows."""


def newest_first(
    read_page: Callable[[Mapping[str, Any]], list[ViewT]], page_size: int, *, is_exhaustive: bool = False
) -> Iterator[ViewT]:
    """
    Yield every call of a list that can only be paged by ``createdAt``.

    Each page overlaps the one before, and duplicates are dropped by id. A page ends the list if it is not full and has no
    new calls, because a server may return fewer calls than requested. Calls come newest first, but those within one
    overlap may come in any order.

    :param read_page: reads the page of a query
    :param page_size: how many calls to request at once
    :param is_exhaustive: whether to verify with one more request that no call is older than the last one, or that the list is empty
    :raises VapiTransientError: if calls could be missed, because more share one instant than fit on a page, because the
        list is not sorted, or because the last page is not the end of the list
    """
    pager = _Pager[ViewT](page_size, is_exhaustive)
    while not pager.is_done:
        yield from pager.take(read_page(pager.query()))
        if pager.probe is not None:
            pager.check_probe(read_page(pager.probe))


class _Pager(Generic[ViewT]):
    """Keeps where the next page begins, and which of its calls are known."""

    def __init__(self, page_size: int, is_exhaustive: bool) -> None:
        self.is_done = False
        self.probe: dict[str, Any] | None = None
        """A query that shows whether the last page hides other calls; None if that is certain."""
        self._limit = page_size
        self._is_exhaustive = is_exhaustive
        self._oldest: datetime | None = None
        self._seen: dict[str, datetime | None] = {}
        self._last_ids: set[str] = set()
        self._longest_page = 0
        self._may_be_cut = False
        self._was_empty = False

    def query(self) -> dict[str, Any]:
        """Return the query for the next page."""
        query: dict[str, Any] = {"limit": self._limit}
        if self._oldest is not None:
            query["createdAtLe"] = later(self._oldest).isoformat()
        return query

    def take(self, page: list[ViewT]) -> list[ViewT]:
        """Process a page and return its new calls."""
        query = self.query()
        new = {call.id: call for call in page if call.id not in self._seen and not self._is_above_bound(call)}
        if new:
            self._check_order(page, query)
            self._advance(list(new.values()))
        elif len(page) >= self._limit:
            self._widen()
        else:
            # As long as the longest page: the server's own limit may have cut it within one instant.
            self._may_be_cut = len(page) >= self._longest_page
            if self._oldest is not None and (self._may_be_cut or self._is_exhaustive):
                self.probe = {"limit": 1, "createdAtLt": self._oldest.isoformat()}
            elif self._is_exhaustive and not self._seen:
                self.probe = {"limit": 1}
            else:
                self.is_done = True
        self._longest_page = max(self._longest_page, len(page))
        self._last_ids = {call.id for call in page}
        return sorted(new.values(), key=_age)

    def check_probe(self, rows: list[ViewT]) -> None:
        """
        Process the response to the probe.

        :raises VapiTransientError: if the last page left out calls
        """
        is_about_order = self.probe is not None and "createdAtGt" in self.probe
        self.probe = None
        if not self._seen:
            if rows and self._was_empty:
                raise self._incomplete()
            # A call may have been created meanwhile.
            self._was_empty, self.is_done = True, not rows
            return
        if is_about_order:
            if {call.id for call in rows} - self._last_ids:
                raise self._unsorted()
        elif any(self._oldest and call.created_at and call.created_at < self._oldest for call in rows):
            raise self._stuck() if self._may_be_cut else self._incomplete()
        elif self._is_exhaustive and any(call.created_at or call.id not in self._seen for call in rows):
            # Not older than requested, so it says nothing about older calls.
            raise self._unfiltered()
        else:
            self.is_done = True

    def _is_above_bound(self, call: CallStatusView) -> bool:
        """Return True if a call is newer than the bound, which the server has ignored then."""
        return (
            self._oldest is not None and call.created_at is not None and call.created_at > later(self._oldest)
        )

    def _check_order(self, page: list[ViewT], query: dict[str, Any]) -> None:
        """Check that a page is sorted; otherwise it may hide newer calls, unless it is the whole list."""
        instants = [call.created_at for call in page if call.created_at is not None]
        if all(after <= before for before, after in zip(instants, instants[1:], strict=False)):
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
            # Only calls up to the bound, and calls without a time, can appear again.
            bound = later(self._oldest)
            self._seen = {call_id: at for call_id, at in self._seen.items() if at is None or at <= bound}

    def _widen(self) -> None:
        """Enlarge the page, after a whole page within one instant."""
        if self._limit >= MAX_PAGE_SIZE:
            raise self._stuck()
        self._limit = min(MAX_PAGE_SIZE, self._limit * 4)

    def _stuck(self) -> VapiTransientError:
        instant = "the same instant" if self._oldest is None else self._oldest.isoformat()
        return _error(
            f"cannot continue: {len(self._seen)} or more calls were created at {instant}, more than fit on a page. To "
            "list the calls created before, set created_at_lt."
        )

    def _incomplete(self) -> VapiTransientError:
        calls = "calls" if self._oldest is None else f"calls older than {self._oldest.isoformat()}"
        return _error(
            f"returned an incomplete page. The list cannot be paged without a gap: {calls} exist, but they are missing from "
            "the page that should contain them. A later try may succeed."
        )

    def _unfiltered(self) -> VapiTransientError:
        return _error(
            "returned calls that createdAtLt excludes. The list cannot be paged without a gap, because the server or a "
            "proxy ignores the filter."
        )

    def _unsorted(self) -> VapiTransientError:
        return _error(
            "returned calls out of order, so the list cannot be read without gaps. Request a time range with fewer "
            f"than {self._limit} calls."
        )


def _error(what: str) -> VapiTransientError:
    return VapiTransientError(f"GET /call {what}", method="GET", path="/call")


def later(instant: datetime, span: timedelta = OVERLAP) -> datetime:
    """Return a later time, or the same one at the end of the calendar."""
    try:
        return instant + span
    except OverflowError:
        return instant


def _age(call: CallStatusView) -> float:
    """Return a sort key: newest first, calls without a time last."""
    return float("inf") if call.created_at is None else -call.created_at.timestamp()
