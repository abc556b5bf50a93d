# SPDX-License-Identifier: Apache-2.0
"""
Ends calls: live ones through their control URL.

A control URL works without a key: anyone who has it can speak into the call and end it. So it never appears in logs or
errors, and requests to it go to Vapi's own hosts only.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vapi_provider.client.arguments import check_call_id
from vapi_provider.client.client import VapiClient
from vapi_provider.client.responses import ApiRequest
from vapi_provider.client.signed_urls import hide_signed_urls
from vapi_provider.client.transport import VapiTransport
from vapi_provider.exceptions import VapiCallNotFoundError, VapiError, VapiPermanentError, VapiTransientError

if TYPE_CHECKING:
    from vapi_provider.connection import VapiSettings
    from vapi_provider.models.call import Call

HANG_UP_SECONDS = 3.0
"""How long a task that is being killed may take to end its call, in seconds."""

HANG_UP_REQUEST_SECONDS = 1.3
"""The time limit of each of the two requests that end a call within 3 seconds."""

NOT_ENDED = "Call {} could not be ended and may still be live."
"""The start of a message about a call that could not be ended; the reason follows."""

_TRIES = 2
_NOT_FOUND_PAUSE_SECONDS = 0.5
_VAPI = "vapi.ai"
_TARGET = "its control URL"


def end_call(client: VapiClient, call_id: str) -> str:
    """
    End a call: hang up a live one, cancel a scheduled one, leave an ended one.

    After a transient failure, the call is read and the decision made again, once.

    :raises VapiCallNotFoundError: if the call does not exist
    :raises VapiPermanentError: if the live call has no usable control URL, or Vapi refuses
    :raises VapiTransientError: for a transient failure; the call may go on
    """
    checked_id = check_call_id(call_id)
    failure: VapiTransientError
    for attempt in range(_TRIES):
        try:
            return _end_as_it_stands(client, checked_id, is_first=attempt == 0)
        except VapiTransientError as error:
            failure = error
    raise failure


def hang_up(client: VapiClient, call_id: str, *, patience: float = 0.0) -> str:
    """
    End a call, and return what happened instead of raising.

    :param patience: how long to keep looking for a call that is not found, in seconds
    """
    gives_up_at = time.monotonic() + patience
    while True:
        try:
            return end_call(client, call_id)
        except VapiError as error:
            if not isinstance(error, VapiCallNotFoundError) or time.monotonic() >= gives_up_at:
                return f"{NOT_ENDED.format(call_id)} {error}"
        time.sleep(_NOT_FOUND_PAUSE_SECONDS)


def hang_up_soon(client: VapiClient, call_id: str) -> str:
    """End a call within 3 seconds, even in a signal handler that interrupted a request of the client."""
    own = VapiClient(client.settings.limited(timeout=HANG_UP_REQUEST_SECONDS, max_retries=0), client.log)
    done: list[str] = []
    # A call that was placed a moment ago may not be found yet.
    end = partial(hang_up, own, call_id, patience=HANG_UP_SECONDS)
    thread = threading.Thread(target=lambda: done.append(end()), daemon=True)
    thread.start()
    # After that, the thread goes on as long as the process does.
    thread.join(HANG_UP_SECONDS)
    return done[0] if done else f"{NOT_ENDED.format(call_id)} It did not end within {HANG_UP_SECONDS:g} s."


def _end_as_it_stands(client: VapiClient, call_id: str, *, is_first: bool) -> str:
    call = client.get_call(call_id)
    if call.is_terminal:
        # A request whose response was lost may have ended it.
        return f"Call {call_id} {'had already' if is_first else 'has'} ended."
    if call.is_scheduled:
        client.delete_call(call_id)
        return f"Scheduled call {call_id} was cancelled."
    _end_live_call(client, call)
    return f"Call {call_id} was ended."


def _end_live_call(client: VapiClient, call: Call) -> None:
    settings = dataclasses.replace(client.settings, base_url=_control_url(call, client.settings))
    transport = VapiTransport(settings, client.log, with_key=False)
    failure: VapiError
    try:
        with hide_signed_urls():
            # The body of a success is undocumented.
            transport.send_once(ApiRequest("POST", "", json={"type": "end-call"}, parses=False))
        return
    except VapiError as error:
        # The original message may contain the URL.
        failure = _not_ended(call, error)
    finally:
        transport.close()
    raise failure


def _not_ended(call: Call, error: VapiError) -> VapiError:
    kind = VapiTransientError if isinstance(error, VapiTransientError) else VapiPermanentError
    result = "did not respond" if error.status_code is None else f"returned {error.status_code}"
    return kind(
        f"Call {call.id} was not ended: {_TARGET} {result}.",
        status_code=error.status_code,
        method="POST",
        path=_TARGET,
    )


def _control_url(call: Call, settings: VapiSettings) -> str:
    monitor = (call.model_extra or {}).get("monitor")
    url = monitor.get("controlUrl") if isinstance(monitor, dict) else None
    if not isinstance(url, str) or not url:
        raise VapiPermanentError(f"Call {call.id} has no control URL, so it cannot be ended from here.")
    if not _is_trusted(url, settings.base_url):
        raise VapiPermanentError(
            f"The control URL of call {call.id} is not an https address of Vapi, so nothing was sent to it."
        )
    return url


def _is_trusted(url: str, base_url: str) -> bool:
    try:
        target, base = urlsplit(url), urlsplit(base_url)
        host = (target.hostname or "").lower()
        if not url.isprintable() or not re.fullmatch(r"[a-z0-9.:-]+", host):
            # requests and urllib disagree on the host of a URL with a backslash or a tab.
            return False
        if target.scheme == "http":
            # http is allowed only for a simulator on this machine.
            return base.scheme == "http" and target.netloc.lower() == base.netloc.lower()
        is_vapis = host in (_VAPI, (base.hostname or "").lower()) or host.endswith(f".{_VAPI}")
        return target.scheme == "https" and is_vapis and "@" not in target.netloc
    except ValueError:
        return False
