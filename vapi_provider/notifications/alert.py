# SPDX-License-Identifier: Apache-2.0
"""One call for all notifications with the same key."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from vapi_provider.client.client import VapiClient
from vapi_provider.client.pagination import newest_first
from vapi_provider.exceptions import VapiError, VapiTransientError
from vapi_provider.placing.masking import mask_ending
from vapi_provider.placing.search import PAGE_SIZE, never_rang
from vapi_provider.placing.tokens import carries

if TYPE_CHECKING:
    from vapi_provider.models.call import PlacedCallView
    from vapi_provider.placing.request import CallRequest

REQUEST_SECONDS = 10.0
_SEARCH_SECONDS = 10.0
"""After this no further page is read, so that search and call take 30 seconds at most."""

_lock = threading.Lock()
_rung_at: dict[str, float] = {}
"""When this process last rang, by token and the monotonic clock."""


def ring_once(client: VapiClient, request: CallRequest, *, key: str, quiet_seconds: float, log: Any) -> None:
    """
    Place a call unless one with the same key was placed within the quiet time.

    When the search fails, it dials: silence is worse than a second ring.

    :param client: the client over the connection
    :param request: the call
    :param key: what must be equal for two alerts to be one
    :param quiet_seconds: the quiet time
    :param log: a logger
    :raises VapiError: when the call was not placed, or may not have been
    """
    customer = request.body["customer"]
    number = customer.get("number") or customer["sipUri"]
    token = _token(key, number)
    if not _claim(token, quiet_seconds):
        log.info("An alert with key %r was placed by this process moments ago; not calling again.", key)
        return
    client = VapiClient(client.settings.limited(timeout=REQUEST_SECONDS, max_retries=0), log)
    try:
        if _has_rung(client, token, quiet_seconds, log):
            log.info("An alert with key %r was placed moments ago; not calling again.", key)
            return
        call = client.create_call(request.carrying(token))
    except VapiError as error:
        if error.had_no_effect:
            _rung_at.pop(token, None)
        raise
    log.info("Placed call %s to %s for the alert with key %r.", call.id, mask_ending(number), key)


def _token(key: str, number: str) -> str:
    return hashlib.sha256(f"{key}\n{number}".encode()).hexdigest()[:8]


def _claim(token: str, quiet_seconds: float) -> bool:
    """Return whether this process may ring, and remember that it does."""
    with _lock:
        now = time.monotonic()
        rung_at = _rung_at.get(token)
        if rung_at is not None and now - rung_at < quiet_seconds:
            return False
        _rung_at[token] = now
        return True


def _has_rung(client: VapiClient, token: str, quiet_seconds: float, log: Any) -> bool:
    began_at = time.monotonic()
    since = datetime.now(timezone.utc) - timedelta(seconds=quiet_seconds)

    def read_page(query: Mapping[str, Any]) -> list[PlacedCallView]:
        if time.monotonic() - began_at > _SEARCH_SECONDS:
            raise VapiTransientError("The list of calls is too long to be searched in time.")
        return client.list_placed({"createdAtGe": since.isoformat(), **query}).rows

    try:
        return any(
            carries(call, token) and not never_rang(call) for call in newest_first(read_page, PAGE_SIZE)
        )
    except VapiError as error:
        log.warning("Could not search for an earlier call of this alert, so it is placed now. %s", error)
        return False
