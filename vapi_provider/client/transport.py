# SPDX-License-Identifier: Apache-2.0
"""Sending requests: one time limit per request, and one retry loop for what may be repeated."""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_before_delay

from vapi_provider.client.failures import no_response
from vapi_provider.client.responses import ApiRequest, ApiResponse, OversizedResponseError
from vapi_provider.client.session import KeyMask, open_session
from vapi_provider.exceptions import VapiError, VapiTransientError

if TYPE_CHECKING:
    import requests

    from vapi_provider.connection import VapiSettings

T = TypeVar("T")

ALL_TRIES_SECONDS = 75.0
"""All tries of one request end within this time."""

MAX_RETRY_AFTER_SECONDS = 60.0
"""A longer pause that Vapi asks for is left to Airflow's own retries."""

_CHUNK_BYTES = 65_536
_MAX_BACKOFF_SECONDS = 20.0
_RETRY_AFTER_JITTER_SECONDS = 1.0


class VapiTransport:
    """Sends requests over one session and raises a :class:`VapiError` for every response but a success."""

    def __init__(self, settings: VapiSettings, log: Any, *, with_key: bool = True) -> None:
        self._settings = settings
        self._log = log
        self._with_key = with_key

    @cached_property
    def session(self) -> requests.Session:
        """The session, opened when it is first used."""
        return open_session(self._settings, with_key=self._with_key)

    def close(self) -> None:
        """Close the connections of the session, if it was opened; the next request opens them again."""
        if "session" in self.__dict__:
            self.session.close()

    def send(self, request: ApiRequest) -> ApiResponse:
        """
        Send a request that does no harm when it takes effect twice, again after a transient failure.

        :raises VapiTransientError: for a transient failure that outlasted all tries
        :raises VapiPermanentError: when Vapi refuses
        """
        return self.repeat(partial(self.send_once, request, time.monotonic() + ALL_TRIES_SECONDS))

    def repeat(self, work: Callable[[], T]) -> T:
        """Do what does no harm when it takes effect twice, again after a transient failure."""
        retrying = Retrying(
            retry=retry_if_exception(may_repeat),
            stop=stop_after_attempt(self._settings.max_retries + 1) | stop_before_delay(ALL_TRIES_SECONDS),
            wait=_pause_of,
            before_sleep=self._log_repetition,
            reraise=True,
        )
        return retrying(work)

    def send_once(self, request: ApiRequest, ends_at: float = math.inf) -> ApiResponse:
        """
        Send a request that must not take effect twice.

        :raises VapiTransientError: for a transient failure; ``had_no_effect`` is whether it certainly did nothing
        :raises VapiPermanentError: when Vapi refuses
        """
        response = self.exchange(request, ends_at)
        if not response.is_success:
            raise response.error(self._settings)
        if request.parses and not (request.may_be_empty and response.is_empty):
            # Parsed here, so that a body that is not JSON is a failed try.
            _ = response.json
        return response

    def exchange(self, request: ApiRequest, ends_at: float = math.inf) -> ApiResponse:
        """
        Send a request once and return the response, whatever its status is.

        :raises VapiTransientError: when there is none
        """
        mask = KeyMask(self._settings.api_key, request.json)
        limit = max(0.001, min(self._settings.timeout, ends_at - time.monotonic()))
        failure: VapiTransientError
        # Python links what is raised here to what the caller is handling, which is not a cause.
        surrounding = sys.exc_info()[1]
        try:
            with self.session.request(
                request.method,
                f"{self._settings.base_url}{request.path}",
                params=request.params,
                json=request.json,
                timeout=limit,
                allow_redirects=False,
                stream=True,
            ) as response:
                body = self._read_body(request, response)
        except (OSError, ValueError) as error:
            # requests raises OSErrors, and a ValueError for a malformed proxy.
            failure = no_response(error, self._settings, request, limit=limit, surrounding=surrounding)
        else:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return ApiResponse(request.method, request.path, response.status_code, headers, body, mask)
        # Outside the handler: an exception of requests contains the request, and that the API key.
        raise failure

    def _read_body(self, request: ApiRequest, response: requests.Response) -> bytes:
        parts, size = [], 0
        for part in response.iter_content(_CHUNK_BYTES):
            parts.append(part)
            size += len(part)
            if size > self._settings.max_response_bytes:
                if not response.ok:
                    # The status says what is wrong; so long an explanation is cut.
                    break
                raise OversizedResponseError(
                    f"{request.method} {request.path} returned more than {self._settings.max_response_bytes:,.0f} bytes, "
                    "which is the limit here.",
                    status_code=response.status_code,
                    method=request.method,
                    path=request.path,
                )
        return b"".join(parts)

    def _log_repetition(self, state: RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        if failure and state.next_action:
            self._log.warning(
                "%s Retrying in %.1f s (attempt %d failed).",
                failure,
                state.next_action.sleep,
                state.attempt_number,
            )


def may_repeat(error: BaseException) -> bool:
    """Return True if the same request may succeed after a pause that a task can sit out."""
    return (
        isinstance(error, VapiTransientError)
        and error.is_repeatable
        and (error.retry_after or 0) <= MAX_RETRY_AFTER_SECONDS
    )


def pause_after(error: BaseException | None, attempt: int) -> float:
    """Return the pause before the next try: as long as the server asks, else exponential with full jitter."""
    asked = error.retry_after if isinstance(error, VapiTransientError) else None
    if asked is None:
        return random.uniform(0, min(_MAX_BACKOFF_SECONDS, 2.0 ** (attempt - 1)))
    # A little more than asked, so that a thousand tasks do not come back at once.
    return asked + random.uniform(0, _RETRY_AFTER_JITTER_SECONDS)


def _pause_of(state: RetryCallState) -> float:
    return pause_after(state.outcome.exception() if state.outcome else None, state.attempt_number)


class RepeatBudget:
    """
    Limits the repetitions of a request that may be sent again only when it certainly had no effect.

    Its time begins when it is made, before the request is sent for the first time.
    """

    def __init__(self, settings: VapiSettings) -> None:
        self._max_retries = settings.max_retries
        # The last request may take all of its time limit.
        self._ends_at = time.monotonic() + ALL_TRIES_SECONDS - settings.timeout
        self.failed = 0
        """How many tries have failed."""

    def pause_after(self, error: VapiError) -> float | None:
        """Count a failed try."""
        self.failed += 1
        pause = pause_after(error, self.failed)
        is_spent = self.failed > self._max_retries or time.monotonic() + pause > self._ends_at
        return None if is_spent or not may_repeat(error) else pause
