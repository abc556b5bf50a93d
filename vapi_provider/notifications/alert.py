# SPDX-License-Identifier: Apache-2.0
"""Placing one call for all notifications with the same key."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from vapi_provider.client.client import VapiClient
from vapi_provider.client.pagination import newest_first
from vapi_provider.exceptions import VapiError, VapiTransientError
from vapi_provider.placing.masking import mask_ending
from vapi_provider.placing.request import TOKEN_LENGTH
from vapi_provider.placing.search import CLOCK_DIFFERENCE, PAGE_SIZE, carried_token, never_rang

if TYPE_CHECKING:
    from vapi_provider.models.call import PlacedCallView
    from vapi_provider.placing.request import CallRequest

REQUEST_SECONDS = 10.0
"""Time limit of a request, which is sent once."""

SEARCH_SECONDS = 10.0
"""No page is requested later than this, so search and call take at most 30 seconds."""

_LONGEST_QUIET = timedelta(days=365)
"""Vapi keeps no call for longer."""

_NUMBER = re.compile(r"\d{7,}")
"""A date or the fraction of a second has fewer digits in a row."""

_lock = threading.Lock()
_dialled: dict[str, _Dialled] = {}
"""What this process has dialled, by token."""


class _Dialled(NamedTuple):
    at: float
    """By the monotonic clock."""
    quiet_seconds: float


def ring_once(client: VapiClient, request: CallRequest, *, key: str, quiet_seconds: float, log: Any) -> None:
    """
    Place a call unless one with the same key was placed within the quiet time.

    If the search for such a call fails, this one is placed, once per process: silence is worse than a second ring.

    :param client: the client over the connection
    :param request: the call
    :param key: what two alerts have in common that are one
    :param quiet_seconds: the quiet time
    :param log: a logger
    :raises VapiError: when the call was not placed, or may not have been
    """
    customer = request.body["customer"]
    number = customer.get("number") or customer["sipUri"]
    token = _token(key, number)
    if not _claim(token, quiet_seconds):
        log.info("This process has already called for alert %r; not calling again.", _shown(key))
        return
    client = VapiClient(client.settings.limited(timeout=REQUEST_SECONDS, max_retries=0), log)
    try:
        age = _age_of_last_call(client, request, token, quiet_seconds, log)
        if age is not None:
            _dialled[token] = _Dialled(time.monotonic() - age, quiet_seconds)
            log.info("A call for alert %r was placed %.0f s ago; not calling again.", _shown(key), age)
            return
        call = client.create_call(request.carrying(token))
    except VapiError as error:
        if error.had_no_effect:
            _dialled.pop(token, None)
        raise
    finally:
        client.close()
    log.info("Placed call %s to %s for alert %r.", call.id, mask_ending(number), _shown(key))


def _shown(key: str) -> str:
    """Return a key for the log, without the phone numbers in it."""
    return _NUMBER.sub(lambda found: mask_ending(found[0]), key)


def _token(key: str, number: str) -> str:
    return hashlib.sha256(f"{key}\n{number}".encode()).hexdigest()[:TOKEN_LENGTH]


def _claim(token: str, quiet_seconds: float) -> bool:
    """Return whether this process may dial, and remember that it does."""
    with _lock:
        now = time.monotonic()
        for other in [other for other, (at, quiet) in _dialled.items() if now - at >= quiet]:
            del _dialled[other]
        dialled = _dialled.get(token)
        if dialled is not None and now - dialled.at < quiet_seconds:
            return False
        _dialled[token] = _Dialled(now, quiet_seconds)
        return True


def _age_of_last_call(
    client: VapiClient, request: CallRequest, token: str, quiet_seconds: float, log: Any
) -> float | None:
    """Return how many seconds ago a call of this alert was placed; None if there is none, or the search failed."""
    ends_at = time.monotonic() + SEARCH_SECONDS
    quiet = timedelta(seconds=min(quiet_seconds, _LONGEST_QUIET.total_seconds()))
    filters = {
        "assistantId": request.assistant_id,
        "phoneNumberId": request.phone_number_id,
        "createdAtGe": (datetime.now(timezone.utc) - quiet - CLOCK_DIFFERENCE).isoformat(),
    }
    given = {name: value for name, value in filters.items() if value is not None}

    def read_page(query: Mapping[str, Any]) -> list[PlacedCallView]:
        if time.monotonic() > ends_at:
            raise VapiTransientError(f"The list of calls could not be read within {SEARCH_SECONDS:.0f} s.")
        return client.list_placed({**given, **query}).rows

    try:
        for call in newest_first(read_page, PAGE_SIZE):
            age = _age(call)
            if age >= quiet.total_seconds():
                return None
            if carried_token(call, [token]) and not never_rang(call):
                return age
    except Exception as error:
        # The message of any other error may contain secrets.
        problem = error if isinstance(error, VapiError) else f"{type(error).__name__}."
        log.warning("Could not check whether this alert has already called, so it calls now. %s", problem)
    return None


def _age(call: PlacedCallView) -> float:
    """Return how many seconds ago a call was created, by Vapi's clock."""
    if call.created_at is None or call.responded_at is None:
        return 0.0
    return max(0.0, (call.responded_at - call.created_at).total_seconds())
