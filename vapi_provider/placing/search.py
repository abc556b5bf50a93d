# SPDX-License-Identifier: Apache-2.0
"""Searches Vapi's list for calls with a token, for which the API has no filter."""

from __future__ import annotations

import time
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from vapi_provider.client.pagination import newest_first
from vapi_provider.exceptions import VapiCallNotFoundError, VapiTransientError
from vapi_provider.models.outcome import was_never_dialled
from vapi_provider.placing.decision import Found
from vapi_provider.placing.request import TOKEN_LENGTH, TOKEN_VARIABLE
from vapi_provider.waiting.wait import is_read_too_soon

if TYPE_CHECKING:
    from vapi_provider.client.client import VapiClient
    from vapi_provider.models.call import Call, PlacedCallView
    from vapi_provider.placing.attempts import PlacementState

PAGE_SIZE = 100
MAX_PAGES = 200
MAX_BYTES = 512 * 1_048_576

KILL_SECONDS = 5.0
"""How long a process may go on after Airflow has begun to stop it."""

LIST_LAG_SECONDS = 30.0
"""How long a call may be missing in Vapi's list after it was placed."""

CLOCK_DIFFERENCE = timedelta(hours=1)
"""By how much the clocks of Airflow and Vapi may differ."""


@dataclass(frozen=True)
class SearchResult:
    """
    What a search of the list found.

    :param found: what it means
    :param call_id: the call to adopt, if there is one
    :param token: its token
    :param newest: without one, when the newest call in the list was created by anyone
    """

    found: Found
    call_id: str | None = None
    token: str | None = None
    newest: datetime | None = None


class _BudgetSpentError(Exception):
    """The list is longer than the search may read."""


class CallSearch:
    """The searches of one try for its call."""

    def __init__(self, client: VapiClient) -> None:
        self._client = client
        self.known_at: float = 0.0
        """Up to when the last search knows, by the monotonic clock."""
        self._newest: datetime | None = None

    def settles_at(self, last_sending: float) -> float:
        """Return when a search is late enough to show the call of a request."""
        return last_sending + self._client.settings.timeout + KILL_SECONDS + LIST_LAG_SECONDS

    def seconds_left(self, last_sending: float) -> float:
        """Return for how much longer the call of a request may be missing in the list."""
        return max(0.0, self.settles_at(last_sending) - time.time())

    def run(
        self,
        state: PlacementState,
        tokens: Mapping[str, int],
        *,
        since: float | None,
        is_again: bool = False,
    ) -> SearchResult:
        """
        Search once.

        :param tokens: the tokens to search for, and whose attempts they are

        :raises VapiTransientError: if the list could not be read
        :raises VapiPermanentError: if Vapi refuses to list calls
        """
        began_at = time.monotonic()
        oldest: datetime | None = None
        if is_again and self._newest is not None:
            # By Vapi's clock; a long list would take too long again.
            oldest = self._newest - timedelta(seconds=LIST_LAG_SECONDS)
        elif since is not None:
            oldest = datetime.fromtimestamp(max(0.0, since), timezone.utc) - CLOCK_DIFFERENCE
        result = search_calls(
            self._client,
            tokens,
            since=oldest,
            assistant_id=state.assistant_id,
            phone_number_id=state.phone_number_id,
        )
        # If it took longer than a request may, the process may have frozen, and the result may be old.
        ended_at = time.monotonic()
        is_old = ended_at - began_at > self._client.settings.timeout
        self.known_at = began_at if is_old else ended_at
        self._newest = result.newest or self._newest
        return result


def search_calls(
    client: VapiClient,
    tokens: Mapping[str, int],
    *,
    since: datetime | None,
    assistant_id: str | None,
    phone_number_id: str | None,
) -> SearchResult:
    """
    Search for calls with one of the tokens, and choose one that rang or may still ring.

    The last attempt wins, because it began only after the ones before it had ended.

    :raises VapiTransientError: if the list could not be read
    :raises VapiPermanentError: if Vapi refuses to list calls
    """
    filters = {
        "assistantId": assistant_id,
        "phoneNumberId": phone_number_id,
        "createdAtGe": since.isoformat() if since else None,
    }
    reader = _Reader(client, {name: value for name, value in filters.items() if value is not None})
    matches: list[tuple[PlacedCallView, str]] = []
    newest: datetime | None = None
    is_whole = True
    try:
        for call in newest_first(reader.page, PAGE_SIZE, is_exhaustive=True):
            newest = newest or call.created_at
            if token := carried_token(call, tokens):
                matches.append((call, token))
    except _BudgetSpentError:
        is_whole = False
    ringing = [(call, token) for call, token in matches if not never_rang(call)]
    if ringing:
        call, token = max(ringing, key=lambda match: (tokens[match[1]], _certainty(match[0])))
        return SearchResult(Found.CALL, call.id, token)
    if not is_whole:
        return SearchResult(Found.TOO_MUCH, newest=newest)
    return SearchResult(Found.NEVER_RANG if matches else Found.NOTHING, newest=newest)


def carried_token(call: PlacedCallView, tokens: Container[str]) -> str | None:
    """
    Return the token that a call carries in its name or variable values, or None.

    Users and tasks rename calls, and Vapi does not document which fields the list shows.
    """
    name = (call.name or "").rstrip()
    values = (_variable(each) for each in (call.assistant_overrides, call.squad_overrides))
    carried = (name[-TOKEN_LENGTH:] if name[-TOKEN_LENGTH - 1 :].startswith("#") else None, *values)
    return next((each for each in carried if isinstance(each, str) and each in tokens), None)


def read_placed(client: VapiClient, call_id: str, sent_at: float | None) -> Call:
    """
    Read a call that this task has placed.

    :raises VapiTransientError: also for a 404 moments after the placement, since a read may lag behind
    :raises VapiPermanentError: if Vapi refuses
    """
    try:
        return client.get_call(call_id)
    except VapiCallNotFoundError as error:
        if not is_read_too_soon(sent_at):
            raise
        soon = f"{error} The call was placed moments ago; a retry reads it again."
    raise VapiTransientError(soon)


def never_rang(call: Call | PlacedCallView) -> bool:
    """Return whether a call is over without ever having been dialled."""
    return call.has_ended and was_never_dialled(call.ended_reason)


def _certainty(call: PlacedCallView) -> bool:
    """Prefer a call that rang to one that is still to come."""
    return call.started_at is not None or call.is_terminal


def _variable(overrides: Mapping[str, Any] | None) -> Any:
    values = (overrides or {}).get("variableValues")
    return values.get(TOKEN_VARIABLE) if isinstance(values, Mapping) else None


class _Reader:
    """Reads pages within the budget."""

    def __init__(self, client: VapiClient, filters: Mapping[str, str]) -> None:
        self._client = client
        self._filters = filters
        self._pages = 0
        self._bytes = 0

    def page(self, query: Mapping[str, Any]) -> list[PlacedCallView]:
        if self._pages >= MAX_PAGES or self._bytes >= MAX_BYTES:
            raise _BudgetSpentError
        page = self._client.list_placed({**self._filters, **query})
        self._pages += 1
        self._bytes += page.size
        return page.rows
