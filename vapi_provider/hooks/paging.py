# SPDX-License-Identifier: Apache-2.0
"""Paging through a list that has no cursor, without a gap and without a repetition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from vapi_provider.exceptions import VapiTransientError
from vapi_provider.hooks.arguments import MAX_PAGE_SIZE

if TYPE_CHECKING:
    from vapi_provider.models.call import Call

# The API shows milliseconds. Should it keep more, a bound without this would miss the rest of the oldest call's one.
_OVERLAP = timedelta(milliseconds=1)


def newest_first(read_page: Callable[[Mapping[str, Any]], list[Call]], page_size: int) -> Iterator[Call]:
    """
    Yield every call of a list that can only be bounded by ``createdAt``.

    Each page begins where the one before ended, with an overlap, and what was seen is dropped by its id. A short page
    is not taken for the last one, since a server may answer with fewer than it was asked for; the last page is the
    one that brings nothing new.

    :param read_page: asks for one page, given the query's ``limit`` and ``createdAtLe``
    :param page_size: how many calls to ask for at once
    :raises VapiTransientError: when calls could be missed: more of them share one instant than a page can hold, or
        the list is not sorted
    :return: the calls, newest first
    """
    pager = _Pager(page_size)
    while not pager.is_done:
        yield from pager.take(read_page(pager.query()))


class _Pager:
    """Knows where the next page begins, and which calls it will bring for the second time."""

    def __init__(self, page_size: int) -> None:
        self.is_done = False
        self._limit = page_size
        self._bound: datetime | None = None
        self._seen: dict[str, datetime | None] = {}
        self._short_page: int | None = None
        self._server_cap: int | None = None

    def query(self) -> dict[str, Any]:
        query: dict[str, Any] = {"limit": self._limit}
        if self._bound is not None:
            query["createdAtLe"] = self._bound.isoformat()
        return query

    def take(self, page: list[Call]) -> list[Call]:
        """Note what a page brings and return what is new of it."""
        new = {call.id: call for call in page if call.id not in self._seen}
        if new and self._short_page is not None:
            # Something followed a page that was shorter than asked for: the server has a limit of its own.
            self._server_cap = max(self._short_page, self._server_cap or 0)
        is_full = len(page) >= min(self._limit, self._server_cap or self._limit)
        if is_full:
            self._check_order(page)
        if new:
            self._short_page = None if is_full else len(page)
            self._advance(list(new.values()))
        elif is_full:
            self._widen()
        else:
            self.is_done = True
        return sorted(new.values(), key=_age)

    def _check_order(self, page: list[Call]) -> None:
        instants = [call.created_at for call in page if call.created_at is not None]
        if any(later > earlier for earlier, later in zip(instants, instants[1:], strict=False)):
            raise VapiTransientError(
                "GET /call lists calls in no order, so a page may hide others and the list cannot be walked without a "
                f"gap. Ask for a time range of fewer than {self._limit} calls.",
                method="GET",
                path="/call",
            )

    def _advance(self, new: list[Call]) -> None:
        instants = [call.created_at for call in new if call.created_at is not None]
        if instants:
            oldest = min(instants) + _OVERLAP
            self._bound = oldest if self._bound is None else min(oldest, self._bound)
        self._seen.update({call.id: call.created_at for call in new})
        # Only what lies at or before the bound can come again, and what has no instant to tell.
        self._seen = {
            call_id: at
            for call_id, at in self._seen.items()
            if at is None or self._bound is None or at <= self._bound
        }

    def _widen(self) -> None:
        """Ask for more at once, when a whole page lies within one instant."""
        if self._limit >= MAX_PAGE_SIZE or self._server_cap is not None:
            instant = "the same instant" if self._bound is None else (self._bound - _OVERLAP).isoformat()
            raise VapiTransientError(
                f"GET /call cannot go on: {len(self._seen)} or more calls were created at {instant}, and Vapi does not "
                "list more than that at once. The calls created before it are not listed; ask for them with "
                "created_at_lt.",
                method="GET",
                path="/call",
            )
        self._limit = min(MAX_PAGE_SIZE, self._limit * 4)


def _age(call: Call) -> float:
    """Sort newest first; a call without an instant goes last."""
    return float("inf") if call.created_at is None else -call.created_at.timestamp()
