# SPDX-License-Identifier: Apache-2.0
"""Paging through a list that has no cursor, without a gap and without a repetition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Generic

from vapi_provider.client.arguments import MAX_PAGE_SIZE
from vapi_provider.exceptions import VapiTransientError
from vapi_provider.models.call import CallStatusView, ViewT

# The API shows milliseconds. Should it keep more, a bound without this would miss the rest of the oldest call's one.
_OVERLAP = timedelta(milliseconds=1)


def newest_first(read_page: Callable[[Mapping[str, Any]], list[ViewT]], page_size: int) -> Iterator[ViewT]:
    """
    Yield every call of a list that can only be bounded by ``createdAt``.

    Each page begins where the one before ended, with an overlap, and what was seen is dropped by its id. A short page
    is not taken for the last one, since a server may answer with fewer than it was asked for; the last page is one
    that brings nothing new and is shorter than the server's pages can be.

    :param read_page: asks for one page, given the query's ``limit`` and bound on ``createdAt``
    :param page_size: how many calls to ask for at once
    :raises VapiTransientError: when calls could be missed: more of them share one instant than a page can hold, or
        the list is not sorted
    :return: the calls, newest first
    """
    pager = _Pager[ViewT](page_size)
    while not pager.is_done:
        yield from pager.take(read_page(pager.query()))
        if pager.probe is not None:
            pager.judge(read_page(pager.probe))


class _Pager(Generic[ViewT]):
    """Knows where the next page begins, and which calls it will bring for the second time."""

    def __init__(self, page_size: int) -> None:
        self.is_done = False
        self.probe: dict[str, Any] | None = None
        """The query whose answer tells whether the last page hides anything, where that is in doubt."""
        self._limit = page_size
        self._oldest: datetime | None = None
        self._seen: dict[str, datetime | None] = {}
        self._longest_page = 0
        self._last_ids: set[str] = set()
        self._last_was_short = False
        self._server_has_cap = False

    def query(self) -> dict[str, Any]:
        """Ask for the next page."""
        query: dict[str, Any] = {"limit": self._limit}
        if self._oldest is not None:
            query["createdAtLe"] = _later(self._oldest).isoformat()
        return query

    def take(self, page: list[ViewT]) -> list[ViewT]:
        """Note what a page brings and return what is new of it."""
        query = self.query()
        new = {call.id: call for call in page if call.id not in self._seen and not self._is_passed(call)}
        is_short = len(page) < self._limit
        if new:
            self._check_order(page, query)
            # Something followed a page that was shorter than asked for: the server has a limit of its own.
            self._server_has_cap |= self._last_was_short
            self._advance(list(new.values()))
        elif not is_short:
            self._widen()
        elif self._oldest is not None and len(page) >= self._longest_page:
            # As long as any page was: it may have been cut, in the middle of one instant.
            self.probe = {"limit": 1, "createdAtLt": self._oldest.isoformat()}
        else:
            self.is_done = True
        self._last_ids, self._last_was_short = {call.id for call in page}, is_short
        self._longest_page = max(self._longest_page, len(page))
        return sorted(new.values(), key=_age)

    def judge(self, rows: list[ViewT]) -> None:
        """
        Decide what the answer to the probe means.

        :param rows: the calls that it brought
        :raises VapiTransientError: when the last page hides calls that no other page would bring
        """
        is_about_order = self.probe is not None and "createdAtGt" in self.probe
        self.probe = None
        if is_about_order:
            if {call.id for call in rows} - self._last_ids:
                raise self._unsorted()
        elif self._server_has_cap or any(self._is_older(call) for call in rows):
            raise self._stuck()
        else:
            self.is_done = True

    def _is_passed(self, call: CallStatusView) -> bool:
        """Say whether a call lies above the bound; a server that ignores the bound sends it again and again."""
        return (
            self._oldest is not None
            and call.created_at is not None
            and call.created_at > _later(self._oldest)
        )

    def _is_older(self, call: CallStatusView) -> bool:
        return self._oldest is None or call.created_at is None or call.created_at < self._oldest

    def _check_order(self, page: list[ViewT], query: dict[str, Any]) -> None:
        """See whether a page is sorted: one that is not may hide newer calls, unless it is the whole list."""
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
            # Only what lies at or before the bound can come again, and what has no instant to tell.
            bound = _later(self._oldest)
            self._seen = {call_id: at for call_id, at in self._seen.items() if at is None or at <= bound}

    def _widen(self) -> None:
        """Ask for more at once, when a whole page lies within one instant."""
        if self._limit >= MAX_PAGE_SIZE:
            raise self._stuck()
        self._limit = min(MAX_PAGE_SIZE, self._limit * 4)

    def _stuck(self) -> VapiTransientError:
        instant = "the same instant" if self._oldest is None else self._oldest.isoformat()
        return _error(
            f"cannot go on: {len(self._seen)} or more calls were created at {instant}, and Vapi does not list more "
            "than that at once. The calls created before it are not listed; ask for them with created_at_lt."
        )

    def _unsorted(self) -> VapiTransientError:
        return _error(
            "lists calls in no order, so a page may hide others and the list cannot be walked without a gap. Ask for "
            f"a time range of fewer than {self._limit} calls."
        )


def _error(what: str) -> VapiTransientError:
    return VapiTransientError(f"GET /call {what}", method="GET", path="/call")


def _later(instant: datetime) -> datetime:
    try:
        return instant + _OVERLAP
    except OverflowError:
        return instant


def _age(call: CallStatusView) -> float:
    """Sort newest first; a call without an instant goes last."""
    return float("inf") if call.created_at is None else -call.created_at.timestamp()
