# SPDX-License-Identifier: Apache-2.0
"""Looking for the calls that carry a token, in a list that knows no filter for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from vapi_provider.client.pagination import newest_first
from vapi_provider.models.limits import rang_nobody
from vapi_provider.placing.decision import Found
from vapi_provider.placing.tokens import carries

if TYPE_CHECKING:
    from vapi_provider.hooks.vapi import VapiHook
    from vapi_provider.models.call import PlacedCallView

PAGE_SIZE = 100
MAX_PAGES = 200
MAX_BYTES = 512 * 1_048_576


@dataclass(frozen=True)
class SearchResult:
    """
    What a look at the list has brought.

    :param found: what that means
    :param call_id: the call to adopt, when there is one
    :param newest: where there is none, when the newest call that was listed was created, whoever placed it
    """

    found: Found
    call_id: str | None = None
    newest: datetime | None = None


class _TooMuchError(Exception):
    """The list is longer than may be read."""


def look_up(
    hook: VapiHook,
    token: str,
    *,
    since: datetime | None,
    assistant_id: str | None,
    phone_number_id: str | None,
) -> SearchResult:
    """
    Look for the calls with a token, and choose one that rang somebody, or may yet.

    :param hook: the hook
    :param token: the token
    :param since: when the oldest of them can have been created, by Vapi's clock
    :param assistant_id: the assistant that they have
    :param phone_number_id: the phone number that they have
    :raises VapiTransientError: when the list could not be read
    :raises VapiPermanentError: when Vapi refuses to show it
    :return: what was found
    """
    filters = {
        "assistantId": assistant_id,
        "phoneNumberId": phone_number_id,
        "createdAtGe": since.isoformat() if since else None,
    }
    reader = _Reader(hook, {name: value for name, value in filters.items() if value is not None})
    matches: list[PlacedCallView] = []
    newest: datetime | None = None
    is_whole = True
    try:
        for call in newest_first(reader.page, PAGE_SIZE):
            newest = newest or call.created_at
            if carries(call, token):
                matches.append(call)
    except _TooMuchError:
        is_whole = False
    ringing = [call for call in matches if not did_ring_nobody(call)]
    if ringing:
        return SearchResult(Found.CALL, max(ringing, key=_certainty).id)
    if not is_whole:
        return SearchResult(Found.TOO_MUCH, newest=newest)
    return SearchResult(Found.NOBODY_RANG if matches else Found.NOTHING, newest=newest)


def did_ring_nobody(call: Any) -> bool:
    """
    Say whether a call is over without ever having been dialled.

    :param call: the call, or as much of it as tells
    """
    return call.has_ended and rang_nobody(call.ended_reason)


def _certainty(call: PlacedCallView) -> bool:
    """Prefer a call that rang somebody to one that is still to come."""
    return call.started_at is not None or call.is_terminal


class _Reader:
    """Reads pages within the budget."""

    def __init__(self, hook: VapiHook, filters: Mapping[str, str]) -> None:
        self._hook = hook
        self._filters = filters
        self._pages = 0
        self._bytes = 0

    def page(self, query: Mapping[str, Any]) -> list[PlacedCallView]:
        if self._pages >= MAX_PAGES or self._bytes >= MAX_BYTES:
            raise _TooMuchError
        page = self._hook.list_placed({**self._filters, **query})
        self._pages += 1
        self._bytes += page.size
        return page.rows
