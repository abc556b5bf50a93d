# SPDX-License-Identifier: Apache-2.0
"""Sending requests to Vapi: one session, one time limit a request, and retries where they can do no harm."""

from __future__ import annotations

import math
import random
import socket
import ssl
import sys
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
    NewConnectionError,
    ReadTimeoutError,
)

from vapi_provider import __version__
from vapi_provider.client.deadline import DeadlineAdapter
from vapi_provider.client.responses import (
    ApiResponse,
    OversizedResponseError,
    SlowResponseError,
    UnreadableResponseError,
)
from vapi_provider.exceptions import VapiCallInDoubtError, VapiError, VapiTransientError

if TYPE_CHECKING:
    from vapi_provider.connection import VapiSettings

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


class _NoAuth(AuthBase):
    """Adds nothing; without any, requests would look for credentials in a .netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def open_session(settings: VapiSettings, *, with_key: bool = True) -> requests.Session:
    """
    Open a session that names itself and ends every request in time.

    :param settings: the connection
    :param with_key: whether requests for the API's own origin are authenticated
    :return: the session
    """
    session = _Session()
    session.auth = _BearerAuth(settings) if with_key else _NoAuth()
    session.headers.update({"User-Agent": USER_AGENT, "Accept": "application/json"})
    for scheme in ("https://", "http://"):
        session.mount(scheme, DeadlineAdapter(settings.timeout))
    return session


class _FailedTryError(Exception):
    """
    Carries the error of one try out of tenacity.

    :param error: the error
    :param is_worth_repeating: whether the same request may well succeed in a moment
    :param had_no_effect: whether the request was certainly not sent, or not taken
    """

    def __init__(self, error: VapiError, *, is_worth_repeating: bool, had_no_effect: bool = False) -> None:
        super().__init__()
        self.error = error
        self.is_worth_repeating = is_worth_repeating
        self.had_no_effect = had_no_effect


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
        read: Callable[[ApiResponse], T],
        *,
        params: Mapping[str, Any] | None = None,
        json: Mapping[str, Any] | None = None,
        max_retries: int | None = None,
    ) -> T:
        """
        Send a request that does no harm when it takes effect twice, and read its answer.

        :param method: GET, PATCH or DELETE
        :param path: the path below the base URL
        :param read: makes the result of a successful answer; its UnreadableResponseError counts as a failed try
        :param params: the query
        :param json: the body
        :param max_retries: how often to repeat; the connection's setting when None
        :raises VapiTransientError: for a passing trouble that outlived all tries
        :raises VapiPermanentError: for a request that Vapi refuses
        :return: what ``read`` made
        """
        retries = self._settings.max_retries if max_retries is None else max_retries
        ends_at = time.monotonic() + ALL_TRIES_SECONDS
        failed: _FailedTryError
        try:
            result: T = self._retrying(retries, _may_repeat, ALL_TRIES_SECONDS)(
                self._send_once, method, path, read, params, json, ends_at
            )
            return result
        except _FailedTryError as failed_try:
            failed = failed_try
        # Out of the handler: an exception of requests holds the request, and that the API key.
        raise failed.error

    def send_unrepeatable(
        self,
        path: str,
        read: Callable[[ApiResponse], T],
        *,
        json: Mapping[str, Any],
        before_send: Callable[[], None] | None = None,
    ) -> T:
        """
        POST a request that must not take effect twice, and read its answer.

        It is sent again only when it certainly had no effect: no connection was made, or the answer was 429.

        :param path: the path below the base URL
        :param read: makes the result of a successful answer
        :param json: the body
        :param before_send: called directly before each sending; what it raises ends it all, and nothing is sent
        :raises VapiCallInDoubtError: when nobody knows whether it took effect
        :raises VapiTransientError: for a passing trouble, and without effect
        :raises VapiPermanentError: for a request that Vapi refuses, and without effect
        :return: what ``read`` made
        """

        def send_once() -> T:
            if before_send is not None:
                before_send()
            # With the whole of its time limit, since it is one that runs out which leaves people in doubt.
            return self._send_once("POST", path, read, None, json, ends_at=math.inf)

        failed: _FailedTryError
        try:
            result: T = self._retrying(
                self._settings.max_retries,
                _may_repeat_unrepeatable,
                ALL_TRIES_SECONDS - self._settings.timeout,
            )(send_once)
            return result
        except _FailedTryError as failed_try:
            failed = failed_try
        raise failed.error if failed.had_no_effect else _in_doubt(failed.error)

    def _retrying(
        self, retries: int, may_repeat: Callable[[BaseException], bool], seconds: float
    ) -> Retrying:
        return Retrying(
            retry=retry_if_exception(may_repeat),
            stop=stop_after_attempt(retries + 1) | stop_before_delay(seconds),
            wait=_pause,
            before_sleep=self._tell,
            reraise=True,
        )

    def _send_once(
        self,
        method: str,
        path: str,
        read: Callable[[ApiResponse], T],
        params: Mapping[str, Any] | None,
        json: Mapping[str, Any] | None,
        ends_at: float,
    ) -> T:
        answer = self._exchange(method, path, params, json, ends_at)
        if answer.is_success:
            try:
                return read(answer)
            except UnreadableResponseError as unreadable:
                raise _FailedTryError(unreadable, is_worth_repeating=unreadable.cut_off) from None
        error = answer.error(self._settings)
        raise _FailedTryError(
            error,
            is_worth_repeating=isinstance(error, VapiTransientError) and answer.is_worth_repeating,
            had_no_effect=answer.is_refusal,
        )

    def _exchange(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        json: Mapping[str, Any] | None,
        ends_at: float,
    ) -> ApiResponse:
        limit = max(0.001, min(self._settings.timeout, ends_at - time.monotonic()))
        failure: _FailedTryError
        # Python links what is raised here to what the caller is handling, which says nothing about this request.
        surrounding = sys.exc_info()[1]
        try:
            with self._session.request(
                method,
                self._url(path),
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
            failure = self._unanswered(method, path, error, limit, surrounding)
        else:
            return ApiResponse.of(response, body, method=method, path=path, api_key=self._settings.api_key)
        raise failure

    def _url(self, path: str) -> str:
        return f"{self._settings.base_url}{path}"

    def _body(self, method: str, path: str, response: requests.Response) -> bytes:
        parts, size = [], 0
        for part in response.iter_content(_CHUNK_BYTES):
            parts.append(part)
            size += len(part)
            if size > self._settings.max_response_bytes:
                if not response.ok:
                    # Its status says what is wrong; nobody reads so long an explanation.
                    break
                oversized = OversizedResponseError(
                    f"{method} {path} was answered with more than {self._settings.max_response_bytes:,.0f} bytes, "
                    "which is more than may be read here.",
                    status_code=response.status_code,
                    method=method,
                    path=path,
                )
                raise _FailedTryError(oversized, is_worth_repeating=False)
        return b"".join(parts)

    def _unanswered(
        self, method: str, path: str, error: Exception, limit: float, surrounding: BaseException | None
    ) -> _FailedTryError:
        """Build the error for a request that got no whole answer, from nothing that could hold a secret."""
        causes = list(_causes(error, surrounding))
        is_about_certificates = _is_bundle_missing(error) or any(
            isinstance(cause, ssl.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(cause) for cause in causes
        )
        reason, means = _reason(error, causes, limit)
        failure = (SlowResponseError if means == _SLOW else VapiTransientError)(
            f"{method} {path} got no answer from {self._settings.base_url}: {reason}. "
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
        return _FailedTryError(
            failure,
            is_worth_repeating=not is_about_certificates,
            had_no_effect=is_about_certificates or means == _UNSENT,
        )

    def _tell(self, state: RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        if isinstance(failure, _FailedTryError) and state.next_action:
            self._log.warning(
                "%s Trying again in %.1f s (try %d has failed).",
                failure.error,
                state.next_action.sleep,
                state.attempt_number,
            )


def _may_repeat(error: BaseException) -> bool:
    if not isinstance(error, _FailedTryError) or not error.is_worth_repeating:
        return False
    return (_asked_pause(error) or 0) <= MAX_RETRY_AFTER_SECONDS


def _may_repeat_unrepeatable(error: BaseException) -> bool:
    return isinstance(error, _FailedTryError) and error.had_no_effect and _may_repeat(error)


def _asked_pause(failed: _FailedTryError) -> float | None:
    return failed.error.retry_after if isinstance(failed.error, VapiTransientError) else None


def _in_doubt(error: VapiError) -> VapiCallInDoubtError:
    in_doubt = VapiCallInDoubtError(
        f"{error} A call may have been placed all the same: before you try again, look for it in Vapi's dashboard.",
        status_code=error.status_code,
        method=error.method,
        path=error.path,
        detail=error.detail,
    )
    in_doubt.failure = error
    return in_doubt


_backoff = wait_random_exponential(multiplier=1, max=_MAX_BACKOFF_SECONDS)


def _pause(state: RetryCallState) -> float:
    """Wait as long as the server asks, and a little more, so that a thousand tasks do not come back at once."""
    failure = state.outcome.exception() if state.outcome else None
    asked = _asked_pause(failure) if isinstance(failure, _FailedTryError) else None
    if asked is None:
        return _backoff(state)
    return asked + random.uniform(0, _RETRY_AFTER_JITTER_SECONDS)


def _causes(error: BaseException, surrounding: BaseException | None) -> Iterator[BaseException]:
    """Walk from what requests raised to what really happened; urllib3 keeps that in arguments and ``reason``."""
    waiting, met = [error], {id(surrounding)}
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


_UNSENT = "unsent"
_SLOW = "slow"


def _reason(error: Exception, causes: list[BaseException], limit: float) -> tuple[str, str | None]:
    """
    Say in a few words why there was no answer; an error's own text can hold URLs and headers.

    And whether that means that the request was never sent, or that the answer was too slow.
    """
    if _is_bundle_missing(error):
        return (
            "the file of certificates that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names is not there",
            _UNSENT,
        )
    for kind, reason, means in (
        (socket.gaierror, "the host name could not be resolved", _UNSENT),
        (ConnectionRefusedError, "the connection was refused", _UNSENT),
        (NewConnectionError, "no connection could be made", _UNSENT),
        (ConnectTimeoutError, f"no connection within {limit:g} s", _UNSENT),
        (_READ_TIMEOUTS, f"no complete answer within {limit:g} s", _SLOW),
        (RemoteDisconnected, "the connection was closed before the answer", None),
        (ConnectionResetError, "the connection was reset", None),
        (IncompleteRead, "the answer was cut off", None),
        (ssl.SSLError, "the TLS connection could not be made or trusted", None),
        (LocationParseError, "the address of the proxy makes no sense", _UNSENT),
        (requests.exceptions.ProxyError, "the proxy did not let the request through", None),
    ):
        if any(isinstance(cause, kind) for cause in causes):
            return reason, means
    return type(error).__name__, None
