# SPDX-License-Identifier: Apache-2.0
"""
The control URL of a live call: whoever has it can speak into the call and end it, and needs no key for that.

So it goes into no log and no error, and nothing is sent to an address that is not Vapi's.
"""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from vapi_provider.client.transport import VapiTransport, open_session
from vapi_provider.exceptions import VapiError, VapiPermanentError, VapiTransientError

if TYPE_CHECKING:
    from vapi_provider.client.responses import ApiResponse
    from vapi_provider.connection import VapiSettings
    from vapi_provider.models.call import Call

_VAPI = "vapi.ai"
_WHAT = "its control URL"

_is_secret: ContextVar[bool] = ContextVar("_is_secret", default=False)


def _hide(_record: logging.LogRecord) -> bool:
    return not _is_secret.get()


# At the level DEBUG urllib3 logs the path of each request, and for bad headers a warning with the whole URL.
for _name in ("urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_hide)


class _ControlTransport(VapiTransport):
    """Sends to one control URL, and to no other address."""

    def __init__(self, settings: VapiSettings, url: str, log: Any) -> None:
        super().__init__(settings, open_session(settings, with_key=False), log)
        self._control_url = url

    def _url(self, path: str) -> str:
        return self._control_url

    def close(self) -> None:
        self._session.close()


def end_live_call(call: Call, settings: VapiSettings, log: Any) -> None:
    """
    End a live call through its control URL; sent once.

    :param call: the call as it was just read
    :param settings: the connection, for its limits and for the host that is trusted
    :param log: the log
    :raises VapiPermanentError: when the call has no control URL, or one that is not Vapi's; nothing is sent then
    :raises VapiTransientError: when the answer did not say that it worked
    """
    transport = _ControlTransport(settings, _control_url(call, settings), log)
    token = _is_secret.set(True)
    failure: VapiError
    try:
        transport.send("POST", _WHAT, _anything, json={"type": "end-call"}, max_retries=0)
        return
    except VapiError as error:
        # Its own words can hold what the server echoed of the address.
        failure = _failure(call, error)
    finally:
        _is_secret.reset(token)
        transport.close()
    raise failure


def _anything(_answer: ApiResponse) -> None:
    """Take any success for one; what its body would be is documented nowhere."""


def _failure(call: Call, error: VapiError) -> VapiError:
    kind = VapiTransientError if isinstance(error, VapiTransientError) else VapiPermanentError
    became = "gave no answer" if error.status_code is None else f"answered {error.status_code}"
    return kind(
        f"Call {call.id} was not ended: {_WHAT} {became}.",
        status_code=error.status_code,
        method="POST",
        path=_WHAT,
    )


def _control_url(call: Call, settings: VapiSettings) -> str:
    monitor = (call.model_extra or {}).get("monitor")
    url = monitor.get("controlUrl") if isinstance(monitor, dict) else None
    if not isinstance(url, str) or not url:
        raise VapiPermanentError(
            f"Call {call.id} has no control URL, so it cannot be ended from here; it is left alone."
        )
    if not _is_trusted(url, settings.base_url):
        raise VapiPermanentError(
            f"Call {call.id} has a control URL that is not an https address of Vapi's, so nothing was sent there; the "
            "call is left alone."
        )
    return url


def _is_trusted(url: str, base_url: str) -> bool:
    try:
        target, base = urlsplit(url), urlsplit(base_url)
        host = (target.hostname or "").lower()
        if not re.fullmatch(r"[a-z0-9.:-]+", host):
            # Such as a backslash, where requests ends the host and urllib does not.
            return False
        if target.scheme == "http":
            # As for the key: in the clear only to this machine, where the API itself is a simulator's.
            return base.scheme == "http" and _origin(target) == _origin(base)
        is_vapis = host in (_VAPI, (base.hostname or "").lower()) or host.endswith(f".{_VAPI}")
        return target.scheme == "https" and is_vapis and "@" not in target.netloc
    except ValueError:
        return False


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.netloc.lower(), parts.hostname, parts.port
