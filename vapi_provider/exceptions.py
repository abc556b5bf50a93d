# SPDX-License-Identifier: Apache-2.0
"""Errors, sorted by what a task should do about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException

if TYPE_CHECKING:
    from datetime import datetime


class VapiError(Exception):
    """
    Base of all errors of this package.

    The message is complete and safe to log: it names the request, Vapi's response and what to do, and contains
    neither the API key nor a response body.

    :param message: what failed, on which call, and what to do about it
    :param status_code: the HTTP status of the response; None when there was none
    :param method: the HTTP method of the request; None when nothing was sent
    :param path: the path of the request, without host and query; None when nothing was sent
    :param detail: Vapi's own message, shortened and cleaned; None when there was none
    """

    had_no_effect: bool = False
    """Whether the request certainly changed nothing: it was not sent, or Vapi refused it."""

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        method: str | None = None,
        path: str | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.method = method
        self.path = path
        self.detail = detail


class VapiTransientError(VapiError):
    """Raised for transient failures (network, overload, proxy errors); Airflow's retries apply."""

    retry_after: float | None = None
    """The pause before the next request that the server asked for, in seconds; None when it asked for none."""

    is_repeatable: bool = False
    """Whether the same request may succeed within seconds."""


class VapiRateLimitError(VapiTransientError):
    """Raised when Vapi keeps responding 429, or asks for a longer pause than a task should sit out."""


class VapiConcurrencyLimitError(VapiTransientError):
    """Raised when the organization is at its concurrency limit, so no call was placed; a later try may succeed."""


class VapiNotReachedError(VapiTransientError):
    """
    Raised when the callee was not reached and is called again in the next of Airflow's retries.

    :param call_id: the id of the call that ended
    :param outcome: the outcome of that call
    :param attempt: which attempt to reach the callee it was, from 1
    """

    was_dialled: bool = True
    """Whether the call may have made the phone ring; one that did not is no attempt."""

    def __init__(self, call_id: str, outcome: str, attempt: int) -> None:
        super().__init__(
            f"Call {call_id} ended with outcome {outcome}, which is in redial_on (attempt {attempt}). The next retry calls "
            "again."
        )
        self.call_id = call_id
        self.outcome = outcome
        self.attempt = attempt


class VapiOutsideHoursError(VapiTransientError):
    """
    Raised outside the callee's calling hours, before a call is placed; a retry within the hours places it.

    :param message: what failed, and what to do about it
    :param opening: when the hours begin
    """

    def __init__(self, message: str, *, opening: datetime) -> None:
        super().__init__(message)
        self.opening = opening


# Airflow's exceptions carry the status of Airflow's API server; ours carry Vapi's.
class VapiPermanentError(VapiError, AirflowFailException):  # type: ignore[misc]
    """Raised when trying again would change nothing; the task fails without retries."""


class VapiAuthenticationError(VapiPermanentError):
    """Raised when Vapi rejects the API key (401), or the key lacks the permission (403)."""


class VapiCallNotFoundError(VapiPermanentError):
    """Raised when the call does not exist, or belongs to another organization than the key."""


class VapiConfigurationError(VapiPermanentError, ValueError):  # type: ignore[misc]
    """Raised when a connection, an argument or a rendered template is unusable; nothing was sent."""


class VapiConnectionNotFoundError(VapiConfigurationError):
    """Raised when Airflow finds no such connection, which it also reports while its secrets backend is unreachable."""


class VapiCallFailedError(VapiPermanentError):
    """Raised when the call ended in a way that the DAG counts as a failure."""


class VapiCallInDoubtError(VapiPermanentError):
    """Raised when a call may have been placed and sending the request again could ring a phone twice."""

    failure: VapiError | None = None
    """What happened to the request, if one was sent."""
