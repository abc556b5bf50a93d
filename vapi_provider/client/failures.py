# SPDX-License-Identifier: Apache-2.0
"""Explains why a request got no response, without anything that could be secret."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from http.client import RemoteDisconnected
from typing import TYPE_CHECKING

import requests
from urllib3.exceptions import (
    ConnectTimeoutError,
    IncompleteRead,
    LocationParseError,
    NewConnectionError,
    ReadTimeoutError,
)

from vapi_provider.client.responses import SlowResponseError
from vapi_provider.exceptions import VapiTransientError

if TYPE_CHECKING:
    from vapi_provider.client.responses import ApiRequest
    from vapi_provider.connection import VapiSettings

_UNSENT = "unsent"
_SLOW = "slow"


def no_response(
    error: Exception,
    settings: VapiSettings,
    request: ApiRequest,
    *,
    limit: float,
    surrounding: BaseException | None,
) -> VapiTransientError:
    """Build the error for a request that got no complete response."""
    causes = list(_causes(error, surrounding))
    is_about_certificates = _is_bundle_missing(error) or any(
        isinstance(cause, ssl.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(cause) for cause in causes
    )
    method, path = request.method, request.path
    reason, meaning = _reason(error, causes, limit)
    advice = (
        f"Check the host of {settings.label}, the certificates of this machine, and your proxies."
        if is_about_certificates
        else f"Check the network, your proxies and the host of {settings.label}; a later try may succeed."
    )
    failure = (SlowResponseError if meaning == _SLOW else VapiTransientError)(
        f"{method} {path} to {settings.base_url} failed: {reason}. {advice}",
        method=method,
        path=path,
    )
    # A certificate does not become valid within a minute.
    failure.is_repeatable = not is_about_certificates
    failure.had_no_effect = is_about_certificates or meaning == _UNSENT
    return failure


def _causes(error: BaseException, surrounding: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, which urllib3 keeps in arguments and ``reason``."""
    waiting, met = [error], {id(surrounding)}
    while waiting:
        cause = waiting.pop()
        if id(cause) not in met:
            met.add(id(cause))
            yield cause
            linked = (*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__)
            waiting.extend(link for link in linked if isinstance(link, BaseException))


def _is_bundle_missing(error: Exception) -> bool:
    # The only plain OSError that requests raises.
    return type(error) is OSError


def _reason(error: Exception, causes: list[BaseException], limit: float) -> tuple[str, str | None]:
    """Return the reason in words, and whether the request was unsent or slow."""
    if _is_bundle_missing(error):
        return (
            "the certificate file that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names does not exist",
            _UNSENT,
        )
    for kind, reason, meaning in (
        (socket.gaierror, "the host name could not be resolved", _UNSENT),
        (ConnectionRefusedError, "the connection was refused", _UNSENT),
        (NewConnectionError, "no connection could be made", _UNSENT),
        (ConnectTimeoutError, f"no connection within {limit:g} s", _UNSENT),
        ((ReadTimeoutError, TimeoutError), f"no complete response within {limit:g} s", _SLOW),
        (RemoteDisconnected, "the connection was closed before the response", None),
        (ConnectionResetError, "the connection was reset", None),
        (IncompleteRead, "the response was cut off", None),
        (ssl.SSLError, "the TLS connection failed", None),
        (LocationParseError, "the proxy's address is malformed", _UNSENT),
        (requests.exceptions.ProxyError, "the proxy did not let the request through", None),
    ):
        if any(isinstance(cause, kind) for cause in causes):
            return reason, meaning
    return type(error).__name__, None
