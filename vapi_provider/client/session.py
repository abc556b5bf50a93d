# SPDX-License-Identifier: Apache-2.0
"""The HTTP session, and the API key: where it is sent, and how it is masked."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import requests
from requests.auth import AuthBase

from vapi_provider import __version__
from vapi_provider.client.deadline import DeadlineAdapter
from vapi_provider.client.personal import personal_texts

if TYPE_CHECKING:
    from vapi_provider.connection import VapiSettings

USER_AGENT = f"airflow-provider-vapi/{__version__}"
"""Sent with every request, because Cloudflare rejects requests without a User-Agent."""

_MASK = "***"
_SHORTEST_KEY = 8


class _BearerAuth(AuthBase):
    """
    Adds the API key to requests to the API's origin only.

    Unlike a session header, an ``AuthBase`` also prevents a .netrc from replacing the key.
    """

    def __init__(self, settings: VapiSettings) -> None:
        self._api_key = settings.api_key
        self._origin = _origin(settings.base_url)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if _origin(request.url or "") == self._origin:
            request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


class _NoAuth(AuthBase):
    """Adds nothing, so that requests does not take credentials from a .netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _Session(requests.Session):
    """A session with a default time limit, which sends the key only to the API's origin even along redirects."""

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self._timeout = timeout

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        if not isinstance(kwargs.get("timeout"), (int, float)):
            kwargs["timeout"] = self._timeout
        return super().send(request, **kwargs)

    def resolve_redirects(self, *args: Any, yield_requests: bool = False, **kwargs: Any) -> Any:
        # Without following redirects, requests prepares the next one anyway, and fails if it is malformed.
        return iter(()) if yield_requests else super().resolve_redirects(*args, **kwargs)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        if urlsplit(str(url)).scheme == "http":
            # http is for loopback only; a proxy would read the key.
            return {"proxies": {}, "stream": stream, "verify": verify, "cert": cert}
        return super().merge_environment_settings(url, proxies, stream, verify, cert)

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        # The original takes credentials from a .netrc.
        prepared_request.headers.pop("Authorization", None)
        prepared_request.prepare_auth(self.auth)


def open_session(settings: VapiSettings, *, with_key: bool = True) -> requests.Session:
    """Open a session that enforces one time limit per request."""
    session = _Session(settings.timeout)
    session.auth = _BearerAuth(settings) if with_key else _NoAuth()
    session.headers.update({"User-Agent": USER_AGENT, "Accept": "application/json"})
    for scheme in ("https://", "http://"):
        session.mount(scheme, DeadlineAdapter())
    return session


class KeyMask:
    """
    Masks the API key in texts from a server and, in errors, the personal data of the request.

    :param api_key: the key
    :param body: the body of the request; None if there is none
    """

    def __init__(self, api_key: str, body: Any = None) -> None:
        spellings = dict.fromkeys((api_key, quote(api_key, safe="")))
        self._pattern = re.compile("|".join(map(re.escape, spellings)), re.IGNORECASE)
        # Real keys are longer; masking a key such as "test" would garble transcripts.
        self._is_plausible = len(api_key) >= _SHORTEST_KEY
        self._body = body

    def in_error(self, text: str) -> str:
        """Replace the key and the personal data of the request with ``***``."""
        text = self.in_text(text)
        return self._people.sub(_MASK, text) if self._people else text

    @cached_property
    def _people(self) -> re.Pattern[str] | None:
        # Longest first, so that no part remains; texts of up to three letters occur in ordinary words.
        texts = [text for text in personal_texts(self._body) if len(text) > 3]
        # A lone surrogate has no UTF-8.
        quoted = [quote(text, safe="", errors="replace") for text in texts]
        spellings = {*texts, *quoted, *(text.removeprefix("+") for text in texts)}
        words = sorted(spellings, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, words)), re.IGNORECASE) if words else None

    def in_text(self, text: str) -> str:
        """Replace the key with ``***``."""
        return self._pattern.sub(_MASK, text)

    def in_json(self, value: Any, text: str) -> Any:
        """Replace the key in every string of a JSON value, in place."""
        # JSON may contain the key with escapes.
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
