# SPDX-License-Identifier: Apache-2.0
"""Exceptions, grouped by what a task should do about them."""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    # The same class; for ``pyright --verifytypes``, which finds nothing in ``airflow.providers``.
    from airflow.sdk.exceptions import AirflowFailException
else:
    from airflow.providers.common.compat.sdk import AirflowFailException


class VapiError(Exception):
    """
    Base class of this package's exceptions.

    The message is safe to log: it names the request, Vapi's response and what to do, and contains neither the API
    key nor a response body.

    :param message: what failed, for which call, and what to do about it
    :param status_code: the HTTP status of the response; None if there was none
    :param method: the HTTP method of the request; None if nothing was sent
    :param path: the path of the request, without host and query; None if nothing was sent
    :param detail: Vapi's own message, shortened and cleaned; None if there was none
    """

    had_no_effect: bool = False
    """Whether the request certainly had no effect: it was not sent, or Vapi refused it."""

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

    def __reduce__(self) -> tuple[Any, ...]:
        # Without __init__, whose arguments differ between the classes.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class VapiTransientError(VapiError):
    """Raised for transient failures (network, overload, proxy errors); Airflow's retries apply."""

    retry_after: float | None = None
    """The pause that the server requested, in seconds; None if it requested none."""

    is_repeatable: bool = False
    """Whether the same request may succeed within seconds."""


class VapiRateLimitError(VapiTransientError):
    """Raised when Vapi keeps responding 429, or requests a long pause."""


class VapiConcurrencyLimitError(VapiTransientError):
    """
    Raised when the organization is over its concurrency limit.

    No call was placed, and a retry may succeed.
    """


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


# status_code is Vapi's here; in Airflow's exceptions it is that of Airflow's API server.
class VapiPermanentError(VapiError, AirflowFailException):  # type: ignore[misc]
    """Raised for permanent errors; the task fails without retries."""


class VapiAuthenticationError(VapiPermanentError):
    """Raised when Vapi rejects the API key (401), or the key lacks a permission (403)."""


class VapiCallNotFoundError(VapiPermanentError):
    """Raised when the call does not exist, or belongs to another organization."""


class VapiArtifactNotFoundError(VapiPermanentError):
    """Raised when an ended call has no such recording, video, packet capture or log."""


class VapiArtifactExpiredError(VapiPermanentError):
    """Raised when Vapi no longer keeps a recording, video, packet capture or log."""


class VapiArtifactRefusedError(VapiPermanentError):
    """Raised when a file is too large, or Vapi redirects to a host that is not allowed."""


class VapiConfigurationError(VapiPermanentError, ValueError):  # type: ignore[misc]
    """Raised when a connection, an argument or a rendered template is invalid; nothing was sent."""


class VapiConnectionNotFoundError(VapiConfigurationError):
    """
    Raised when Airflow cannot find the connection.

    Airflow may also report this while its secrets backend is unreachable.
    """


class VapiCallFailedError(VapiPermanentError):
    """Raised when the call ended in a way that fails the task."""


class VapiCallInDoubtError(VapiPermanentError):
    """
    Raised when a call may have been placed.

    Sending the request again could dial the callee twice.
    """

    failure: VapiError | None = None
    """The error of the request, if one was sent."""
