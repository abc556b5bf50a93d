# SPDX-License-Identifier: Apache-2.0
"""What an answer of Vapi, or of whatever stands in front of it, means."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiCallNotFoundError,
    VapiError,
    VapiPermanentError,
    VapiRateLimitError,
    VapiTransientError,
)
from vapi_provider.hooks.settings import KEYS_PAGE, VapiSettings

if TYPE_CHECKING:
    from requests import Response

_MASK = "***"
_MAX_DETAIL = 500
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")

_RETRY_STATUSES = frozenset({408, 425, 429})


class UnreadableAnswerError(VapiTransientError):
    """
    A success status over a body that the endpoint never answers; a proxy's page is the likeliest cause.

    :param cut_off: whether the body is empty or ends too early, so that asking again may bring the rest
    """

    def __init__(self, message: str, *, cut_off: bool = False, **where: Any) -> None:
        super().__init__(message, **where)
        self.cut_off = cut_off


@dataclass(frozen=True)
class Answer:
    """
    An answer without the API key in it, wherever the server may have echoed that.

    :param method: the method of the request
    :param path: the path of the request, without the query
    :param status: the HTTP status
    :param headers: the headers, their names in lower case
    :param body: the body's bytes
    """

    method: str
    path: str
    status: int
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @classmethod
    def of(cls, response: Response, *, method: str, path: str, api_key: str) -> Answer:
        """
        Take what is needed from a response.

        :param response: the response, its body read
        :param method: the method of the request
        :param path: the path of the request
        :param api_key: the key to mask
        :return: the answer
        """
        headers = {
            name.lower(): mask_key(value.encode("utf-8", "replace"), api_key).decode("utf-8", "replace")
            for name, value in response.headers.items()
        }
        return cls(method, path, response.status_code, headers, mask_key(response.content, api_key))

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_worth_repeating(self) -> bool:
        """Whether the same request may well succeed in a moment."""
        return self.status in _RETRY_STATUSES or self.status >= 500

    @property
    def answered_at(self) -> datetime:
        """When the answer was given, by its own clock; by ours when it does not say."""
        return _http_date(self.headers.get("date")) or datetime.now(timezone.utc)

    @property
    def retry_after(self) -> float | None:
        """The seconds to wait before the next try that the server asks for; None when it asks for nothing sensible."""
        value = self.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdigit():
            return float(value)
        until = _http_date(value)
        return None if until is None else max(0.0, (until - self.answered_at).total_seconds())

    def json(self) -> Any:
        """
        Read the body of a success.

        :raises UnreadableAnswerError: for a body that is not JSON
        :return: the JSON value
        """
        if not self.body.strip():
            raise self.unreadable("an empty body", cut_off=True)
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            # What begins like Vapi's JSON and does not parse was cut off on its way; a proxy's page begins otherwise.
            looks_cut_off = self.body.lstrip()[:1] in (b"{", b"[")
            what = "JSON that ends too early" if looks_cut_off else "a page that is not JSON"
            raise self.unreadable(what, cut_off=looks_cut_off) from None

    def unreadable(self, what: str, *, cut_off: bool = False) -> UnreadableAnswerError:
        """
        Build the error for a success that is not what the endpoint answers.

        :param what: what came instead
        :param cut_off: whether asking again may help at once
        :return: the error
        """
        return UnreadableAnswerError(
            f"{self.method} {self.path} was answered {self.status} with {what}. Something between Airflow and Vapi "
            "may have answered in its place; a later try may work.",
            cut_off=cut_off,
            status_code=self.status,
            method=self.method,
            path=self.path,
        )

    def error(self, settings: VapiSettings) -> VapiError:
        """
        Build the error that a status other than 2xx means.

        :param settings: the connection, to be named in the advice
        :return: the error, of the class that says whether a later try may work
        """
        said = self._vapi_message()
        detail = self._plain_text() if said is None else said
        kind, advice = self._kind_and_advice(settings, in_vapis_shape=said is not None)
        return kind(
            f"{self.method} {self.path} was answered {self.status}{_colon(detail)} {advice}",
            status_code=self.status,
            method=self.method,
            path=self.path,
            detail=detail or None,
        )

    def _kind_and_advice(
        self, settings: VapiSettings, *, in_vapis_shape: bool
    ) -> tuple[type[VapiError], str]:
        conn = f"connection {settings.conn_id!r}"
        if self.status == 401:
            return (
                VapiAuthenticationError,
                f"Put the private API key that {KEYS_PAGE} shows into {conn}.",
            )
        if self.status == 403 and in_vapis_shape:
            return (
                VapiAuthenticationError,
                f"The API key of {conn} may not do this. Use the private key, not the public one: {KEYS_PAGE}",
            )
        if self.status == 403 and b"error code: 1010" in self.body:
            return (
                VapiTransientError,
                "This is Cloudflare, which refuses clients by their User-Agent; the API key is not the cause. "
                "Look for a proxy that removes or replaces that header.",
            )
        if self.status == 404 and in_vapis_shape and "/call/" in self.path:
            return (
                VapiCallNotFoundError,
                f"Check the call's id, and that the call belongs to the organization of the key in {conn}.",
            )
        if self.status in (403, 404) and not in_vapis_shape:
            return (
                VapiTransientError,
                f"This is not Vapi's own answer, but that of something in front of it; check the host of {conn} and "
                "the proxies on the way.",
            )
        if self.status == 429:
            pause = "" if self.retry_after is None else f" (it asks for a pause of {self.retry_after:.0f} s)"
            return (
                VapiRateLimitError,
                f"The organization's rate limit is reached{pause}: poll less often, or run fewer tasks at once "
                "(pool, max_active_tis_per_dag).",
            )
        if 300 <= self.status < 400:
            return (
                VapiTransientError,
                f"Redirects are not followed{self._target()}; check the host of {conn}.",
            )
        if self.is_worth_repeating:
            return VapiTransientError, "A later try may work."
        return VapiPermanentError, "Trying the same again will not help."

    def _target(self) -> str:
        """Name where a redirect leads, as far as that holds no secret."""
        try:
            parts = urlsplit(self.headers.get("location", ""))
            return (
                f" (this one leads to {_tidy(parts.scheme)}://{_tidy(parts.hostname)})"
                if parts.hostname
                else ""
            )
        except ValueError:
            return ""

    def _vapi_message(self) -> str | None:
        """Return what Vapi says in an error body of its own shape; None for a body of another shape."""
        try:
            body = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        # A gateway's JSON has a message too, but nothing of the rest.
        if not isinstance(body, dict) or not body.keys() & {"error", "statusCode"}:
            return None
        if body.get("statusCode", self.status) != self.status:
            return None
        message = body.get("message")
        if isinstance(message, list):
            message = "; ".join(part for part in message if isinstance(part, str))
        return _tidy(message) if isinstance(message, str) else None

    def _plain_text(self) -> str:
        """Return the beginning of a plain text; of HTML only its title tells a person anything."""
        text = self.body[: 4 * _MAX_DETAIL].decode("utf-8", errors="replace")
        if text.lstrip()[:1] in ("<", "{", "["):
            title = re.search(r"<title[^>]*>(.*?)</title", text, re.IGNORECASE | re.DOTALL)
            text = title[1] if title else ""
        return _tidy(text)


def mask_key(text: bytes, api_key: str) -> bytes:
    """
    Take the API key out of what a server sent, in every spelling that JSON and URLs have for it.

    :param text: what was sent
    :param api_key: the key
    :return: the text with ``***`` in place of the key
    """
    in_json = json.dumps(api_key)[1:-1]
    spellings = (api_key, in_json, in_json.replace("/", "\\/"), quote(api_key, safe=""))
    for spelling in dict.fromkeys(spellings):
        text = text.replace(spelling.encode(), _MASK.encode())
    return text


def _tidy(text: str | None) -> str:
    """Make one short line of a text, without control characters."""
    line = _UNPRINTABLE.sub(" ", text or "").strip()
    return line if len(line) <= _MAX_DETAIL else f"{line[:_MAX_DETAIL]}..."


def _colon(detail: str) -> str:
    if not detail:
        return "."
    return f": {detail}" if detail.endswith((".", "!", "?")) else f": {detail}."


def _http_date(value: str | None) -> datetime | None:
    try:
        instant = parsedate_to_datetime(value or "")
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=timezone.utc)
