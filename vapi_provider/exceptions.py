# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, sorted by what a task should do about it."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowFailException


class VapiError(Exception):
    """
    Anything that went wrong between Airflow and Vapi.

    The message is complete and safe to log: it names the request, Vapi's answer and what to do, and holds
    neither the API key nor a response body.

    :param message: what failed, on which call, and what to do about it
    :param status_code: the HTTP status of the answer; None when there was none
    :param method: the HTTP method of the request; None when nothing was sent
    :param path: the path of the request, without host and query; None when nothing was sent
    :param detail: what Vapi itself said, cut and cleaned; None when it said nothing readable
    """

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
    """A passing trouble (network, overload, a proxy's page): Airflow's retries apply."""

    retry_after: float | None = None
    """The seconds to wait before the next try that the server asked for; None when it asked for nothing."""


class VapiRateLimitError(VapiTransientError):
    """Vapi answered 429 and went on doing so, or asked for a longer pause than a task should sit out."""


class VapiConcurrencyLimitError(VapiTransientError):
    """The organization has as many calls at once as it may have, so nobody was called; a later try may get through."""


# Airflow's exceptions have a status code of their own, for an answer of its API server; ours is that of Vapi's.
class VapiPermanentError(VapiError, AirflowFailException):  # type: ignore[misc]
    """Vapi refused the request as it is: trying again changes nothing, so the task fails without retries."""


class VapiAuthenticationError(VapiPermanentError):
    """Vapi refused the API key of the connection (401), or the key may not do this (403)."""


class VapiCallNotFoundError(VapiPermanentError):
    """Vapi knows no such call, or the call belongs to another organization than the key."""


class VapiConfigurationError(VapiPermanentError):
    """A connection, an argument or a rendered template is unusable; nothing was sent."""


class VapiConnectionNotFoundError(VapiConfigurationError):
    """Airflow finds no such connection, which it also says while it cannot reach where it keeps them."""


class VapiCallFailedError(VapiPermanentError):
    """The call that was waited for ended in a way that the DAG counts as a failure."""


class VapiCallInDoubtError(VapiPermanentError):
    """A call may have been placed, and nothing tells whether it was: trying again could ring a person twice."""

    failure: VapiError | None = None
    """What happened to the request, if one was sent."""
