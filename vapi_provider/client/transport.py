# SPDX-License-Identifier: Apache-2.0
"""Sends requests, with one retry loop for those that are safe to repeat."""

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
"""All tries of a request end within this time, in seconds."""

MAX_RETRY_AFTER_SECONDS = 60.0
"""The longest ``Retry-After`` to wait for, in seconds; a longer one is left to Airflow's retries."""

_CHUNK_BYTES = 65_536
_MAX_BACKOFF_SECONDS = 20.0
_RETRY_AFTER_JITTER_SECONDS = 1.0


class VapiTransport:
    """Sends requests over one session; a response other than 2xx raises a :class:`VapiError`."""

    def __init__(self, settings: VapiSettings, log: Any, *, with_key: bool = True) -> None:
        self._settings = settings
        self._log = log
        self._with_key = with_key

    @cached_property
    def session(self) -> requests.Session:
        """The session, opened on first use."""
        return open_session(self._settings, with_key=self._with_key)

    def close(self) -> None:
        """Close the connections; the next request opens them again."""
        if "session" in self.__dict__:
            self.session.close()

    def send(self, request: ApiRequest) -> ApiResponse:
        """
        Send an idempotent request, with retries after transient failures.

        :raises VapiTransientError: for a transient failure that outlasted all retries
        :raises VapiPermanentError: if Vapi refuses
        """
        return self.repeat(partial(self.send_once, request, time.monotonic() + ALL_TRIES_SECONDS))

    def repeat(self, work: Callable[[], T]) -> T:
        """Run something idempotent, with retries after transient failures."""
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
        Send a request once.

        :raises VapiTransientError: for a transient failure; ``had_no_effect`` is True if the request certainly failed
        :raises VapiPermanentError: if Vapi refuses
        """
        response = self.exchange(request, ends_at)
        if not response.is_success:
            raise response.error(self._settings)
        if request.parses and not (request.may_be_empty and response.is_empty):
            # Parsed here so that a body that is not JSON is a failed try.
            _ = response.json
        return response

    def exchange(self, request: ApiRequest, ends_at: float = math.inf) -> ApiResponse:
        """
        Send a request once and return the response, whatever its status.

        :raises VapiTransientError: if there is no response
        """
        mask = KeyMask(self._settings.api_key, request.json)
        limit = max(0.001, min(self._settings.timeout, ends_at - time.monotonic()))
        failure: VapiTransientError
        # Python links new exceptions to the one that the caller is handling, which is not a cause.
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
            # requests raises OSErrors, and ValueErrors for malformed proxies.
            failure = no_response(error, self._settings, request, limit=limit, surrounding=surrounding)
        else:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return ApiResponse(request.method, request.path, response.status_code, headers, body, mask)
        # Outside the handler: exceptions of requests contain the API key.
        raise failure

    def _read_body(self, request: ApiRequest, response: requests.Response) -> bytes:
        parts, size = [], 0
        limit = min(self._settings.max_response_bytes, request.max_response_bytes)
        for part in response.iter_content(_CHUNK_BYTES):
            parts.append(part)
            size += len(part)
            if size > limit:
                if not response.ok:
                    # The status is enough; the rest of the body is not needed.
                    break
                raise OversizedResponseError(
                    f"{request.method} {request.path} returned more than the limit of {limit:,.0f} bytes.",
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
    """Return True if the same request may succeed after a short pause."""
    return (
        isinstance(error, VapiTransientError)
        and error.is_repeatable
        and (error.retry_after or 0) <= MAX_RETRY_AFTER_SECONDS
    )


def pause_after(error: BaseException | None, attempt: int) -> float:
    """Return the pause before the next try, in seconds: ``Retry-After``, or exponential with full jitter."""
    asked = error.retry_after if isinstance(error, VapiTransientError) else None
    if asked is None:
        return random.uniform(0, min(_MAX_BACKOFF_SECONDS, 2.0 ** (attempt - 1)))
    # Jitter, so that a thousand tasks do not return at once.
    return asked + random.uniform(0, _RETRY_AFTER_JITTER_SECONDS)


def _pause_of(state: RetryCallState) -> float:
    return pause_after(state.outcome.exception() if state.outcome else None, state.attempt_number)


class RepeatBudget:
    """
    Limits the retries of a request that is sent again only if it certainly had no effect.

    The time starts when the budget is created, before the first request.
    """

    def __init__(self, settings: VapiSettings) -> None:
        self._max_retries = settings.max_retries
        # Leave time for the last request.
        self._ends_at = time.monotonic() + ALL_TRIES_SECONDS - settings.timeout
        self.failed: int = 0
        """The number of failed tries."""

    def pause_after(self, error: VapiError) -> float | None:
        """Count a failed try and return the pause before the next; None to give up."""
        self.failed += 1
        pause = pause_after(error, self.failed)
        is_spent = self.failed > self._max_retries or time.monotonic() + pause > self._ends_at
        return None if is_spent or not may_repeat(error) else pause
