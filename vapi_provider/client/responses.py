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

from vapi_provider.connection import KEYS_PAGE, VapiSettings
from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiCallNotFoundError,
    VapiConcurrencyLimitError,
    VapiError,
    VapiPermanentError,
    VapiRateLimitError,
    VapiTransientError,
)
from vapi_provider.models.limits import over_limit

if TYPE_CHECKING:
    from requests import Response

_MASK = "***"
_MAX_DETAIL = 500
_MAX_HEAD = 4096
_SHORTEST_KEY = 8
_A_DAY = 86_400
# Control characters, lone surrogates, and the marks that turn the direction of a text around.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")

_RETRY_STATUSES = frozenset({408, 425, 429})
_OVER_LIMIT = "concurrency limit"


class UnreadableResponseError(VapiTransientError):
    """
    A success status over a body that the endpoint never answers; a proxy's page is the likeliest cause.

    :param cut_off: whether the body is empty or ends too early, so that asking again may bring the rest
    """

    def __init__(self, message: str, *, cut_off: bool = False, **where: Any) -> None:
        super().__init__(message, **where)
        self.cut_off = cut_off


class SlowResponseError(VapiTransientError):
    """The answer did not come, or not to its end, within the time limit, which can be since too much was asked for."""


class OversizedResponseError(VapiTransientError):
    """An answer that is larger than whoever asked is able to take in."""


@dataclass(frozen=True)
class ApiResponse:
    """
    An answer, out of which nothing comes with the API key in it, wherever the server may have echoed that.

    :param method: the method of the request
    :param path: the path of the request, without the query
    :param status: the HTTP status
    :param headers: the headers, their names in lower case
    :param body: the body's bytes
    :param mask: takes the key out of texts
    """

    method: str
    path: str
    status: int
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    mask: KeyMask = field(repr=False)

    @classmethod
    def of(cls, response: Response, body: bytes, *, method: str, path: str, api_key: str) -> ApiResponse:
        """
        Take what is needed from a response.

        :param response: the response
        :param body: its body
        :param method: the method of the request
        :param path: the path of the request
        :param api_key: the key to mask
        :return: the answer
        """
        headers = {name.lower(): value for name, value in response.headers.items()}
        return cls(method, path, response.status_code, headers, body, KeyMask(api_key))

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_worth_repeating(self) -> bool:
        """Whether the same request may well succeed in a moment."""
        return self.status in _RETRY_STATUSES or self.status >= 500

    @property
    def is_refusal(self) -> bool:
        """Whether Vapi has certainly not done what it was asked for; what stands in front of it may say anything."""
        return self.status == 429 or (
            400 <= self.status < 500 and self.status not in _RETRY_STATUSES and self._said()[1]
        )

    @property
    def responded_at(self) -> datetime:
        """When the answer was given, by its own clock; by ours when it does not say."""
        return _http_date(self.headers.get("date")) or datetime.now(timezone.utc)

    @property
    def retry_after(self) -> float | None:
        """The seconds to wait before the next try that the server asks for; None when it asks for nothing sensible."""
        value = self.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdigit():
            return float(value)
        until = _http_date(value)
        return None if until is None else max(0.0, (until - self.responded_at).total_seconds())

    def json(self) -> Any:
        """
        Read the body of a success.

        :raises UnreadableResponseError: for a body that is not JSON
        :return: the JSON value
        """
        if not self.body.strip():
            raise self.unreadable("an empty body", cut_off=True)
        cut_off = False
        try:
            text = self._json_text()
            return self.mask.in_json(json.loads(text), text)
        except UnicodeDecodeError as error:
            cut_off = error.reason == "unexpected end of data"
        except json.JSONDecodeError as error:
            cut_off = _is_cut_off(error)
        except (ValueError, RecursionError):
            pass
        # Out of the handlers: their errors hold the whole body.
        raise self.unreadable(
            "JSON that ends too early" if cut_off else "a body that is not JSON", cut_off=cut_off
        )

    def _json_text(self) -> str:
        # A lone surrogate is for the models to deal with.
        return self.body.decode(json.detect_encoding(self.body), "surrogatepass")

    def unreadable(self, what: str, *, cut_off: bool = False) -> UnreadableResponseError:
        """
        Build the error for a success that is not what the endpoint answers.

        :param what: what came instead
        :param cut_off: whether asking again may help at once
        :return: the error
        """
        return UnreadableResponseError(
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
        said, in_vapis_shape = self._said()
        detail = _tidy(self.mask.in_text(self._plain_text() if said is None else said))
        kind, advice = self._kind_and_advice(settings, in_vapis_shape=in_vapis_shape)
        error = kind(
            f"{self.method} {self.path} was answered {self.status}{_colon(detail)} {advice}",
            status_code=self.status,
            method=self.method,
            path=self.path,
            detail=detail or None,
        )
        if isinstance(error, VapiTransientError):
            error.retry_after = self.retry_after
        return error

    def _kind_and_advice(
        self, settings: VapiSettings, *, in_vapis_shape: bool
    ) -> tuple[type[VapiError], str]:
        conn = settings.label
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
            asked = self.retry_after
            pause = f" (it asks for a pause of {asked:.0f} s)" if asked and asked < _A_DAY else ""
            return (
                VapiRateLimitError,
                f"The organization's rate limit is reached{pause}: poll less often, or run fewer tasks at once "
                "(pool, max_active_tis_per_dag).",
            )
        if self.status == 400 and _OVER_LIMIT in (self._said()[0] or "").lower():
            return (VapiConcurrencyLimitError, over_limit(self._limits()))
        if 300 <= self.status < 400:
            return (
                VapiTransientError,
                f"Redirects are not followed{self._target()}; check the host of {conn}.",
            )
        if self.is_worth_repeating:
            return VapiTransientError, "A later try may work."
        return VapiPermanentError, "Trying the same again will not help."

    def _limits(self) -> Any:
        body = json.loads(self._json_text())
        return body.get("subscriptionLimits")

    def _target(self) -> str:
        """Name where a redirect leads, as far as that holds no secret."""
        try:
            parts = urlsplit(self.mask.in_text(self.headers.get("location", "")))
            return (
                f" (this one leads to {_tidy(parts.scheme)}://{_tidy(parts.hostname)})"
                if parts.hostname
                else ""
            )
        except ValueError:
            return ""

    def _said(self) -> tuple[str | None, bool]:
        """Return the message of an error body, None without one, and whether the body has the shape of Vapi's own."""
        try:
            body = json.loads(self._json_text())
        except (ValueError, RecursionError):
            return None, False
        message = body.get("message") if isinstance(body, dict) else None
        if isinstance(message, list):
            message = "; ".join(part for part in message if isinstance(part, str))
        if not isinstance(message, str):
            return None, False
        # A gateway's JSON has a message too, but nothing of the rest.
        has_shape = bool(body.keys() & {"error", "statusCode"})
        return message, has_shape and body.get("statusCode", self.status) == self.status

    def _plain_text(self) -> str:
        """Return a plain text; of HTML only its title tells a person anything, of other JSON nothing."""
        text = self.body.decode("utf-8", "replace")
        if text.lstrip()[:1] not in ("<", "{", "["):
            return text
        title = re.search(r"<title[^>]*>(.*?)</title", text[:_MAX_HEAD], re.IGNORECASE | re.DOTALL)
        return title[1] if title else ""


class KeyMask:
    """
    Takes the API key out of what a server sent.

    :param api_key: the key
    """

    def __init__(self, api_key: str) -> None:
        spellings = dict.fromkeys((api_key, quote(api_key, safe="")))
        self._pattern = re.compile("|".join(map(re.escape, spellings)), re.IGNORECASE)
        # No real key is this short, and one such as "test" would tear up what people said.
        self._is_plausible = len(api_key) >= _SHORTEST_KEY

    def in_text(self, text: str) -> str:
        """Return a text with ``***`` in place of the key."""
        return self._pattern.sub(_MASK, text)

    def in_json(self, value: Any, text: str) -> Any:
        """
        Mask the key in every string of a JSON value, in place.

        :param value: the value
        :param text: what it was read from, to see whether the work is needed
        :return: the value
        """
        # Within JSON the key can also be written with escapes.
        may_hold_key = "\\u" in text or "\\/" in text or self._pattern.search(text)
        waiting = [value] if self._is_plausible and may_hold_key and isinstance(value, (dict, list)) else []
        while waiting:
            node = waiting.pop()
            if isinstance(node, dict):
                for key in [key for key in node if self._pattern.search(key)]:
                    node[self.in_text(key)] = node.pop(key)
            for place, item in list(node.items() if isinstance(node, dict) else enumerate(node)):
                if isinstance(item, str):
                    node[place] = self.in_text(item)
                elif isinstance(item, (dict, list)):
                    waiting.append(item)
        return value


def _is_cut_off(error: json.JSONDecodeError) -> bool:
    """Tell whether JSON is fine as far as it goes; what begins otherwise is no JSON but somebody's page."""
    begins_well = error.doc.lstrip()[:1] in ("{", "[")
    # A literal such as "tru" is reported where it begins.
    ends_there = len(error.doc.rstrip()) - error.pos < len("false")
    return begins_well and (
        error.msg.startswith("Unterminated") or (ends_there and error.msg != "Extra data")
    )


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
