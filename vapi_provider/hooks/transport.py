# SPDX-License-Identifier: Apache-2.0
"""Sending requests to Vapi: one session, one time limit a request, and retries where they can do no harm."""

from __future__ import annotations

import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import RemoteDisconnected
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)
from urllib3.exceptions import (
    ConnectTimeoutError,
    IncompleteRead,
    LocationParseError,
    ReadTimeoutError,
)

from vapi_provider import __version__
from vapi_provider.exceptions import VapiTransientError
from vapi_provider.hooks.answers import Answer, OversizedAnswerError, SlowAnswerError, UnreadableAnswerError
from vapi_provider.hooks.deadline import DeadlineAdapter

if TYPE_CHECKING:
    from vapi_provider.hooks.settings import VapiSettings

T = TypeVar("T")

USER_AGENT = f"airflow-provider-vapi/{__version__}"
"""Sent with every request: Cloudflare, in front of Vapi, turns clients without one away."""

ALL_TRIES_SECONDS = 75.0
"""All tries of one request end within this time."""

MAX_RETRY_AFTER_SECONDS = 60.0
"""A longer pause that Vapi asks for is left to Airflow's own retries."""

_CHUNK_BYTES = 65_536
_READ_TIMEOUTS = (ReadTimeoutError, TimeoutError)
_MAX_BACKOFF_SECONDS = 20.0
_RETRY_AFTER_JITTER_SECONDS = 1.0


class _BearerAuth(AuthBase):
    """
    Adds the API key, to requests for the API's own origin only.

    As an ``AuthBase`` rather than a header of the session it also keeps a .netrc from replacing the key.
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


class _Session(requests.Session):
    """Where its user follows redirects, the key goes along within the API's origin and nothing goes elsewhere."""

    def resolve_redirects(self, *args: Any, yield_requests: bool = False, **kwargs: Any) -> Any:
        # Where none is to be followed, requests would prepare the next request all the same, and fail for a target
        # that makes no sense.
        return iter(()) if yield_requests else super().resolve_redirects(*args, **kwargs)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        if urlsplit(str(url)).scheme == "http":
            # Only a loopback address may have it, and a proxy would read the key on the way there.
            return {"proxies": {}, "stream": stream, "verify": verify, "cert": cert}
        return super().merge_environment_settings(url, proxies, stream, verify, cert)

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        # In place of requests' own, which would take credentials from a .netrc.
        prepared_request.headers.pop("Authorization", None)
        prepared_request.prepare_auth(self.auth)


def open_session(settings: VapiSettings) -> requests.Session:
    """
    Open a session that is authenticated, names itself and ends every request in time.

    :param settings: the connection
    :return: the session
    """
    session = _Session()
    session.auth = _BearerAuth(settings)
    session.headers.update({"User-Agent": USER_AGENT, "Accept": "application/json"})
    for scheme in ("https://", "http://"):
        session.mount(scheme, DeadlineAdapter(settings.timeout))
    return session


class _RepeatableError(Exception):
    """Carries the error of a try that may be repeated to tenacity."""

    def __init__(self, error: VapiTransientError) -> None:
        super().__init__()
        self.error = error


class VapiTransport:
    """
    Sends requests over one session and turns every answer but the wanted one into a :class:`VapiError`.

    :param settings: the connection
    :param session: the session, see :func:`open_session`
    :param log: where each repeated try is told
    """

    def __init__(self, settings: VapiSettings, session: requests.Session, log: Any) -> None:
        self._settings = settings
        self._session = session
        self._log = log

    def send(
        self,
        method: str,
        path: str,
        read: Callable[[Answer], T],
        *,
        params: Mapping[str, Any] | None = None,
        json: Mapping[str, Any] | None = None,
        max_retries: int | None = None,
    ) -> T:
        """
        Send a request that does no harm when it takes effect twice, and read its answer.

        :param method: GET, PATCH or DELETE
        :param path: the path below the base URL
        :param read: makes the result of a successful answer; its UnreadableAnswerError counts as a failed try
        :param params: the query
        :param json: the body
        :param max_retries: how often to repeat; the connection's setting when None
        :raises VapiTransientError: for a passing trouble that outlived all tries
        :raises VapiPermanentError: for a request that Vapi refuses
        :return: what ``read`` made
        """
        retries = self._settings.max_retries if max_retries is None else max_retries
        ends_at = time.monotonic() + ALL_TRIES_SECONDS
        retrying = Retrying(
            retry=retry_if_exception(_may_repeat),
            stop=stop_after_attempt(retries + 1) | stop_before_delay(ALL_TRIES_SECONDS),
            wait=_pause,
            before_sleep=self._tell,
            reraise=True,
        )
        failure: VapiTransientError
        try:
            result: T = retrying(self._send_once, method, path, read, params, json, ends_at)
            return result
        except _RepeatableError as repeatable:
            failure = repeatable.error
        # Out of the handler: an exception of requests holds the request, and that the API key.
        raise failure

    def _send_once(
        self,
        method: str,
        path: str,
        read: Callable[[Answer], T],
        params: Mapping[str, Any] | None,
        json: Mapping[str, Any] | None,
        ends_at: float,
    ) -> T:
        answer = self._exchange(method, path, params, json, ends_at)
        if answer.is_success:
            try:
                return read(answer)
            except UnreadableAnswerError as unreadable:
                if unreadable.cut_off:
                    raise _RepeatableError(unreadable) from None
                raise
        error = answer.error(self._settings)
        if isinstance(error, VapiTransientError) and answer.is_worth_repeating:
            raise _RepeatableError(error)
        raise error

    def _exchange(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        json: Mapping[str, Any] | None,
        ends_at: float,
    ) -> Answer:
        limit = max(0.001, min(self._settings.timeout, ends_at - time.monotonic()))
        failure: Exception
        try:
            with self._session.request(
                method,
                f"{self._settings.base_url}{path}",
                params=params,
                json=json,
                timeout=limit,
                allow_redirects=False,
                stream=True,
            ) as response:
                body = self._body(method, path, response)
        except (OSError, ValueError) as error:
            # What requests raises is an OSError. A file of certificates that is not there raises a plain one, and a
            # proxy whose name cannot be one a ValueError.
            failure = self._unanswered(method, path, error, limit)
        else:
            return Answer.of(response, body, method=method, path=path, api_key=self._settings.api_key)
        raise failure

    def _body(self, method: str, path: str, response: requests.Response) -> bytes:
        parts, size = [], 0
        for part in response.iter_content(_CHUNK_BYTES):
            parts.append(part)
            size += len(part)
            if size > self._settings.max_answer_bytes:
                if not response.ok:
                    # Its status says what is wrong; nobody reads so long an explanation.
                    break
                raise OversizedAnswerError(
                    f"{method} {path} was answered with more than {self._settings.max_answer_bytes:,.0f} bytes, "
                    "which is more than may be read here.",
                    status_code=response.status_code,
                    method=method,
                    path=path,
                )
        return b"".join(parts)

    def _unanswered(self, method: str, path: str, error: Exception, limit: float) -> Exception:
        """Build the error for a request that got no whole answer, from nothing that could hold a secret."""
        causes = list(_causes(error))
        is_about_certificates = _is_bundle_missing(error) or any(
            isinstance(cause, ssl.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(cause) for cause in causes
        )
        is_slow = any(isinstance(cause, _READ_TIMEOUTS) for cause in causes) and not any(
            isinstance(cause, ConnectTimeoutError) for cause in causes
        )
        failure = (SlowAnswerError if is_slow else VapiTransientError)(
            f"{method} {path} got no answer from {self._settings.base_url}: {_reason(error, causes, limit)}. "
            + (
                f"Check the host of {self._settings.label}, and the certificates of this machine and "
                "of proxies on the way."
                if is_about_certificates
                else "Check the network, the proxies on the way and the host of "
                f"{self._settings.label}; a later try may work."
            ),
            method=method,
            path=path,
        )
        # A certificate does not become valid within a minute.
        return failure if is_about_certificates else _RepeatableError(failure)

    def _tell(self, state: RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        if isinstance(failure, _RepeatableError) and state.next_action:
            self._log.warning(
                "%s Trying again in %.1f s (try %d has failed).",
                failure.error,
                state.next_action.sleep,
                state.attempt_number,
            )


def _may_repeat(error: BaseException) -> bool:
    return isinstance(error, _RepeatableError) and (error.error.retry_after or 0) <= MAX_RETRY_AFTER_SECONDS


_backoff = wait_random_exponential(multiplier=1, max=_MAX_BACKOFF_SECONDS)


def _pause(state: RetryCallState) -> float:
    """Wait as long as the server asks, and a little more, so that a thousand tasks do not come back at once."""
    failure = state.outcome.exception() if state.outcome else None
    asked = failure.error.retry_after if isinstance(failure, _RepeatableError) else None
    if asked is None:
        return _backoff(state)
    return asked + random.uniform(0, _RETRY_AFTER_JITTER_SECONDS)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Walk from what requests raised to what really happened; urllib3 keeps that in arguments and ``reason``."""
    waiting, met = [error], set()
    while waiting:
        cause = waiting.pop()
        if id(cause) not in met:
            met.add(id(cause))
            yield cause
            linked = (*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__)
            waiting.extend(link for link in linked if isinstance(link, BaseException))


def _is_bundle_missing(error: Exception) -> bool:
    # The only plain OSError that comes out of requests.
    return type(error) is OSError


def _reason(error: Exception, causes: list[BaseException], limit: float) -> str:
    """Say in a few words why there was no answer; an error's own text can hold URLs and headers."""
    if _is_bundle_missing(error):
        return "the file of certificates that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names is not there"
    for kind, reason in (
        (socket.gaierror, "the host name could not be resolved"),
        (ConnectionRefusedError, "the connection was refused"),
        (ConnectTimeoutError, f"no connection within {limit:g} s"),
        (_READ_TIMEOUTS, f"no complete answer within {limit:g} s"),
        (RemoteDisconnected, "the connection was closed before the answer"),
        (ConnectionResetError, "the connection was reset"),
        (IncompleteRead, "the answer was cut off"),
        (ssl.SSLError, "the TLS connection could not be made or trusted"),
        (LocationParseError, "the address of the proxy makes no sense"),
        (requests.exceptions.ProxyError, "the proxy did not let the request through"),
    ):
        if any(isinstance(cause, kind) for cause in causes):
            return reason
    return type(error).__name__
