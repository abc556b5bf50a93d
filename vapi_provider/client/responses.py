# SPDX-License-Identifier: Apache-2.0
"""Requests, responses, and the errors that responses mean."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiCallNotFoundError,
    VapiConcurrencyLimitError,
    VapiError,
    VapiPermanentError,
    VapiRateLimitError,
    VapiTransientError,
)
from vapi_provider.models.call import over_limit_message

if TYPE_CHECKING:
    from vapi_provider.client.session import KeyMask
    from vapi_provider.connection import VapiSettings

NO_RETRY = "Sending the same request again will not help."

_MAX_DETAIL = 500
_MAX_HEAD = 4096
_A_DAY = 86_400
# Control characters, lone surrogates, and marks that reverse the direction of text.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")

_RETRY_STATUSES = frozenset({408, 425, 429})
_OVER_LIMIT = "over concurrency limit"


def is_repeatable_status(status: int) -> bool:
    """Return True if a request with this response status may succeed within seconds."""
    return status in _RETRY_STATUSES or status >= 500


class UnreadableResponseError(VapiTransientError):
    """A 2xx response with a body that the endpoint never sends, most likely a proxy's page."""


class SlowResponseError(VapiTransientError):
    """No complete response within the time limit."""


class OversizedResponseError(VapiTransientError):
    """A response over the size limit."""


@dataclass(frozen=True)
class ApiRequest:
    """
    A request.

    :param method: the HTTP method
    :param path: the path below the base URL
    :param params: the query parameters
    :param json: the body
    :param parses: whether a response that is not JSON is a failed try
    :param may_be_empty: whether an empty response is accepted in place of JSON
    :param max_response_bytes: the largest response that is read, in bytes, if less than the limit of the connection
    """

    method: str
    path: str
    params: Mapping[str, Any] | None = None
    json: Any = field(default=None, repr=False)
    parses: bool = True
    may_be_empty: bool = False
    max_response_bytes: float = math.inf


@dataclass(frozen=True)
class ApiResponse:
    """A response; its texts never contain the API key, even if the server echoes it."""

    method: str
    path: str
    status: int
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    mask: KeyMask = field(repr=False)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_empty(self) -> bool:
        return not self.body.strip()

    @property
    def is_refusal(self) -> bool:
        """Whether Vapi certainly refused the request; a response from a proxy proves nothing."""
        if self.status == 400:
            return self._error_body is not None
        return self.status == 429 or (
            400 <= self.status < 500 and self.status not in _RETRY_STATUSES and self.is_in_vapis_shape
        )

    @property
    def responded_at(self) -> datetime:
        """When the response was sent by the server's clock; without a Date header, the local time."""
        return _http_date(self.headers.get("date")) or datetime.now(timezone.utc)

    @property
    def retry_after(self) -> float | None:
        """The pause that the server asks for, in seconds; None without a valid ``Retry-After``."""
        value = self.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdigit():
            return float(value)
        until = _http_date(value)
        return None if until is None else max(0.0, (until - self.responded_at).total_seconds())

    @cached_property
    def json(self) -> Any:
        """
        The JSON value of a 2xx response.

        :raises UnreadableResponseError: if the body is not JSON
        """
        try:
            text = self._json_text()
            return self.mask.in_json(json.loads(text), text)
        except (ValueError, RecursionError):
            pass
        # Outside the handler: the handled error contains the whole body.
        error = self.unreadable("an empty body" if self.is_empty else "a body that is not JSON")
        error.is_repeatable = True
        raise error

    def _json_text(self) -> str:
        # The models handle lone surrogates.
        return self.body.decode(json.detect_encoding(self.body), "surrogatepass")

    def unreadable(self, what: str) -> UnreadableResponseError:
        """Build the error for a 2xx response that the endpoint never sends."""
        return UnreadableResponseError(
            f"{self.method} {self.path} returned {self.status} with {what}. The response may be from a proxy between "
            "Airflow and Vapi; a later try may succeed.",
            status_code=self.status,
            method=self.method,
            path=self.path,
        )

    def error(self, settings: VapiSettings) -> VapiError:
        """Build the error for a status other than 2xx."""
        detail = _one_line(self.mask.in_error(self._plain_text() if self._message is None else self._message))
        kind, advice = self._kind_and_advice(settings)
        error = kind(
            f"{self.method} {self.path} returned {self.status}{_after_colon(detail)} {advice}",
            status_code=self.status,
            method=self.method,
            path=self.path,
            detail=detail or None,
        )
        error.had_no_effect = self.is_refusal
        if isinstance(error, VapiTransientError):
            error.retry_after = self.retry_after
            error.is_repeatable = is_repeatable_status(self.status)
        return error

    def _kind_and_advice(self, settings: VapiSettings) -> tuple[type[VapiError], str]:
        conn = settings.label
        if self.status == 401:
            return (
                VapiAuthenticationError,
                f"Replace the API key of {conn} with a private key ({settings.keys_page}).",
            )
        if self.status == 403 and self.is_in_vapis_shape:
            return (
                VapiAuthenticationError,
                f"The API key of {conn} lacks the permission. Use the private key, not the public one "
                f"({settings.keys_page}).",
            )
        if self.status == 403 and b"error code: 1010" in self.body:
            return (
                VapiTransientError,
                "Cloudflare rejects clients by their User-Agent; the API key is not the cause. Look for a proxy that "
                "removes or replaces that header.",
            )
        if self.status == 404 and self.is_in_vapis_shape and self._is_of_no_endpoint:
            host = f"API base URL (host) of {conn}"
            if urlsplit(settings.base_url).path:
                return VapiPermanentError, f"{host} should have no path such as /v1."
            return VapiPermanentError, f"There is no such endpoint; check the path and the {host}."
        if self.status == 404 and self.is_in_vapis_shape and self.path.startswith("/call/"):
            return (
                VapiCallNotFoundError,
                f"Check the call id, and that the key in {conn} belongs to the same organization.",
            )
        if self.status in (403, 404) and not self.is_in_vapis_shape:
            return (
                VapiTransientError,
                f"This response is not Vapi's own. It came from a proxy; check the host of {conn} and your proxies.",
            )
        if self.status == 429:
            asked = self.retry_after
            pause = f" (requested pause: {asked:.0f} s)" if asked and asked < _A_DAY else ""
            return (
                VapiRateLimitError,
                f"The organization's rate limit is reached{pause}: poll less often, or run fewer tasks at once "
                "(pool, max_active_tis_per_dag).",
            )
        if self._is_over_limit:
            return VapiConcurrencyLimitError, over_limit_message(
                (self._error_body or {}).get("subscriptionLimits")
            )
        if 300 <= self.status < 400:
            return (
                VapiTransientError,
                f"Redirects are not followed{self._redirect_target()}; check the host of {conn}.",
            )
        if is_repeatable_status(self.status):
            return VapiTransientError, "A later try may succeed."
        return VapiPermanentError, NO_RETRY

    @property
    def _is_of_no_endpoint(self) -> bool:
        """Whether a 404 means that the endpoint does not exist, rather than the resource."""
        return (self._message or "").startswith(f"Cannot {self.method} ")

    @property
    def _is_over_limit(self) -> bool:
        body = self._error_body or {}
        return self.status == 400 and any(
            _OVER_LIMIT in str(body.get(name)).lower() for name in ("message", "error")
        )

    def _redirect_target(self) -> str:
        """Return scheme and host of a redirect, in brackets."""
        try:
            parts = urlsplit(self.mask.in_text(self.headers.get("location", "")))
            return (
                f" (this one points to {_one_line(parts.scheme)}://{_one_line(parts.hostname)})"
                if parts.hostname
                else ""
            )
        except ValueError:
            return ""

    @cached_property
    def _error_body(self) -> dict[str, Any] | None:
        """The JSON object of an error; None if the body is not one."""
        try:
            body = json.loads(self._json_text())
        except (ValueError, RecursionError):
            return None
        return body if isinstance(body, dict) else None

    @property
    def _message(self) -> str | None:
        """Vapi's message in an error; some errors have only an ``error``."""
        body = self._error_body or {}
        message = body.get("message")
        if isinstance(message, list):
            message = "; ".join(part for part in message if isinstance(part, str))
        if isinstance(message, str):
            return message
        error = body.get("error")
        return error if isinstance(error, str) else None

    @property
    def is_in_vapis_shape(self) -> bool:
        """Whether an error has Vapi's JSON shape; a gateway's JSON may have a message, but not the rest."""
        body = self._error_body or {}
        return (
            isinstance(body.get("message"), (str, list))
            and bool(body.keys() & {"error", "statusCode"})
            and body.get("statusCode", self.status) == self.status
        )

    def _plain_text(self) -> str:
        """Return a plain-text body or the title of an HTML page; nothing of JSON."""
        text = self.body.decode("utf-8", "replace")
        if text.lstrip()[:1] not in ("<", "{", "["):
            return text
        title = re.search(r"<title[^>]*>(.*?)</title", text[:_MAX_HEAD], re.IGNORECASE | re.DOTALL)
        return title[1] if title else ""


def _one_line(text: str | None) -> str:
    """Shorten a text and replace control characters."""
    line = _UNPRINTABLE.sub(" ", text or "").strip()
    return line if len(line) <= _MAX_DETAIL else f"{line[:_MAX_DETAIL]}..."


def _after_colon(detail: str) -> str:
    if not detail:
        return "."
    return f": {detail}" if detail.endswith((".", "!", "?")) else f": {detail}."


def _http_date(value: str | None) -> datetime | None:
    try:
        instant = parsedate_to_datetime(value or "")
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=timezone.utc)
