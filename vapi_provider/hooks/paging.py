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
    is not taken for the last one, since a server may answer with fewer than it was asked for; the last page is one
    that brings nothing new and is shorter than the server's pages can be.

    :param read_page: asks for one page, given the query's ``limit`` and bound on ``createdAt``
    :param page_size: how many calls to ask for at once
    :raises VapiTransientError: when calls could be missed: more of them share one instant than a page can hold, or
        the list is not sorted
    :return: the calls, newest first
    """
    pager = _Pager(page_size)
    while not pager.is_done:
        yield from pager.take(read_page(pager.query()))
        if pager.is_in_doubt:
            pager.resolve(read_page(pager.query_older()))


class _Pager:
    """Knows where the next page begins, and which calls it will bring for the second time."""

    def __init__(self, page_size: int) -> None:
        self.is_done = False
        self.is_in_doubt = False
        """Whether the last page may have been cut by the server, within one instant."""
        self._limit = page_size
        self._oldest: datetime | None = None
        self._seen: dict[str, datetime | None] = {}
        self._longest_page = 0
        self._last_was_short = False
        self._last_was_unsorted = False
        self._server_has_cap = False

    def query(self) -> dict[str, Any]:
        """Ask for the next page."""
        query: dict[str, Any] = {"limit": self._limit}
        if self._oldest is not None:
            query["createdAtLe"] = _later(self._oldest).isoformat()
        return query

    def query_older(self) -> dict[str, Any]:
        """Ask whether anything lies before the oldest call."""
        return {"limit": 1, "createdAtLt": self._oldest and self._oldest.isoformat()}

    def take(self, page: list[Call]) -> list[Call]:
        """Note what a page brings and return what is new of it."""
        new = {call.id: call for call in page if call.id not in self._seen}
        is_short = len(page) < self._limit
        # Something followed a page that was shorter than asked for: the server has a limit of its own.
        self._server_has_cap |= bool(new) and self._last_was_short
        is_unsorted = not _is_sorted(page)
        if new and (self._last_was_unsorted or (is_unsorted and not is_short)):
            raise self._error(
                "lists calls in no order, so a page may hide others and the list cannot be walked without a gap. Ask "
                f"for a time range of fewer than {self._limit} calls."
            )
        if new:
            self._advance(list(new.values()))
        elif not is_short:
            self._widen()
        else:
            self.is_in_doubt = self._oldest is not None and len(page) >= self._longest_page
            self.is_done = not self.is_in_doubt
        self._last_was_short, self._last_was_unsorted = is_short, is_unsorted
        self._longest_page = max(self._longest_page, len(page))
        return sorted(new.values(), key=_age)

    def resolve(self, older: list[Call]) -> None:
        """
        Decide whether a page that brought nothing new, and is as long as any was, is the last one.

        It is, when nothing older is there and nothing speaks for a limit of the server's own.
        """
        if older or self._server_has_cap:
            raise self._stuck()
        self.is_in_doubt, self.is_done = False, True

    def _advance(self, new: list[Call]) -> None:
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
        return self._error(
            f"cannot go on: {len(self._seen)} or more calls were created at {instant}, and Vapi does not list more "
            "than that at once. The calls created before it are not listed; ask for them with created_at_lt."
        )

    def _error(self, what: str) -> VapiTransientError:
        return VapiTransientError(f"GET /call {what}", method="GET", path="/call")


def _is_sorted(page: list[Call]) -> bool:
    instants = [call.created_at for call in page if call.created_at is not None]
    return all(later <= earlier for earlier, later in zip(instants, instants[1:], strict=False))


def _later(instant: datetime) -> datetime:
    try:
        return instant + _OVERLAP
    except OverflowError:
        return instant


def _age(call: Call) -> float:
    """Sort newest first; a call without an instant goes last."""
    return float("inf") if call.created_at is None else -call.created_at.timestamp()
