# SPDX-License-Identifier: Apache-2.0
"""Requests and responses, of Vapi or of whatever stands in front of it, and the errors that they mean."""

from __future__ import annotations

import json
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

_MAX_DETAIL = 500
_MAX_HEAD = 4096
_A_DAY = 86_400
# Control characters, lone surrogates, and the marks that reverse the direction of text.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")

_RETRY_STATUSES = frozenset({408, 425, 429})
_OVER_LIMIT = "over concurrency limit"


def is_repeatable_status(status: int) -> bool:
    """Return whether a request that got this status may succeed within seconds."""
    return status in _RETRY_STATUSES or status >= 500


class UnreadableResponseError(VapiTransientError):
    """A success status with a body that the endpoint never sends; a proxy's page is the likeliest cause."""


class SlowResponseError(VapiTransientError):
    """No complete response within the time limit, perhaps because too much was requested."""


class OversizedResponseError(VapiTransientError):
    """A response that is larger than the caller can take in."""


@dataclass(frozen=True)
class ApiRequest:
    """
    A request.

    :param method: the method
    :param path: the path below the base URL
    :param params: the query
    :param json: the body
    :param parses: whether the response must be JSON, so that another body counts as a failed try
    :param may_be_empty: whether an empty body is accepted where JSON is expected
    """

    method: str
    path: str
    params: Mapping[str, Any] | None = None
    json: Any = field(default=None, repr=False)
    parses: bool = True
    may_be_empty: bool = False


@dataclass(frozen=True)
class ApiResponse:
    """A response whose texts never contain the API key, even when the server echoed it."""

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
        """Whether Vapi certainly did not do what it was asked to; a proxy's response proves nothing."""
        if self.status == 400:
            return self._error_body is not None
        return self.status == 429 or (
            400 <= self.status < 500 and self.status not in _RETRY_STATUSES and self.is_in_vapis_shape
        )

    @property
    def responded_at(self) -> datetime:
        """When the response was sent, by its own clock; by ours without a Date header."""
        return _http_date(self.headers.get("date")) or datetime.now(timezone.utc)

    @property
    def retry_after(self) -> float | None:
        """The pause that the server asks for, in seconds; None when it asks for nothing sensible."""
        value = self.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdigit():
            return float(value)
        until = _http_date(value)
        return None if until is None else max(0.0, (until - self.responded_at).total_seconds())

    @cached_property
    def json(self) -> Any:
        """
        The JSON value of a success.

        :raises UnreadableResponseError: for a body that is not JSON; sending the request again may help
        """
        try:
            text = self._json_text()
            return self.mask.in_json(json.loads(text), text)
        except (ValueError, RecursionError):
            pass
        # Outside the handler: its error contains the whole body.
        error = self.unreadable("an empty body" if self.is_empty else "a body that is not JSON")
        error.is_repeatable = True
        raise error

    def _json_text(self) -> str:
        # A lone surrogate is left to the models.
        return self.body.decode(json.detect_encoding(self.body), "surrogatepass")

    def unreadable(self, what: str) -> UnreadableResponseError:
        """Build the error for a success that is not what the endpoint returns."""
        return UnreadableResponseError(
            f"{self.method} {self.path} returned {self.status} with {what}. A proxy between Airflow and Vapi may have "
            "responded instead; a later try may succeed.",
            status_code=self.status,
            method=self.method,
            path=self.path,
        )

    def error(self, settings: VapiSettings) -> VapiError:
        """Build the error that a status other than 2xx means."""
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
            return VapiAuthenticationError, f"Set the private API key from {settings.keys_page} in {conn}."
        if self.status == 403 and self.is_in_vapis_shape:
            return (
                VapiAuthenticationError,
                f"The API key of {conn} lacks the permission. Use the private key, not the public one: "
                f"{settings.keys_page}",
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
            return VapiPermanentError, f"There is no such endpoint; check the path, and {host}."
        if self.status == 404 and self.is_in_vapis_shape and self.path.startswith("/call/"):
            return (
                VapiCallNotFoundError,
                f"Check the call id, and that the call belongs to the organization of the key in {conn}.",
            )
        if self.status in (403, 404) and not self.is_in_vapis_shape:
            return (
                VapiTransientError,
                f"This response is not Vapi's own but a proxy's; check the host of {conn} and the proxies on the way.",
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
        return VapiPermanentError, "Sending the same request again will not help."

    @property
    def _is_of_no_endpoint(self) -> bool:
        """Whether a 404 is about the path of the request, and not about what the path names."""
        return (self._message or "").startswith(f"Cannot {self.method} ")

    @property
    def _is_over_limit(self) -> bool:
        body = self._error_body or {}
        return self.status == 400 and any(
            _OVER_LIMIT in str(body.get(name)).lower() for name in ("message", "error")
        )

    def _redirect_target(self) -> str:
        """Return where a redirect points, as far as that contains no secret."""
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
        """The JSON object of an error; None for anything else."""
        try:
            body = json.loads(self._json_text())
        except (ValueError, RecursionError):
            return None
        return body if isinstance(body, dict) else None

    @property
    def _message(self) -> str | None:
        """Vapi's message in an error; some errors have nothing but an ``error``."""
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
        """Whether an error looks like Vapi's own; a gateway's JSON has a message, too, but none of the rest."""
        body = self._error_body or {}
        return (
            isinstance(body.get("message"), (str, list))
            and bool(body.keys() & {"error", "statusCode"})
            and body.get("statusCode", self.status) == self.status
        )

    def _plain_text(self) -> str:
        """Return a plain text, the title of an HTML page, and nothing of other JSON."""
        text = self.body.decode("utf-8", "replace")
        if text.lstrip()[:1] not in ("<", "{", "["):
            return text
        title = re.search(r"<title[^>]*>(.*?)</title", text[:_MAX_HEAD], re.IGNORECASE | re.DOTALL)
        return title[1] if title else ""


def _one_line(text: str | None) -> str:
    """Return a short line without control characters."""
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
