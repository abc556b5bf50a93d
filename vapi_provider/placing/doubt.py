# SPDX-License-Identifier: Apache-2.0
"""Messages about calls that may have been placed."""

from __future__ import annotations

import shlex
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from vapi_provider.exceptions import VapiCallInDoubtError, VapiError, VapiTransientError
from vapi_provider.placing.decision import Found
from vapi_provider.placing.search import CLOCK_DIFFERENCE

if TYPE_CHECKING:
    from vapi_provider.models.call import Call


def how_to_find(token: str, conn_id: str, since: float | None) -> str:
    """
    Return the sentence with the command that finds the calls with a token.

    :param since: when the oldest of them may have been placed, in seconds since 1970; None for a day ago
    """
    options = "" if conn_id == "vapi_default" else f" --conn-id {shlex.quote(conn_id)}"
    if since is not None:
        oldest = datetime.fromtimestamp(since, timezone.utc) - CLOCK_DIFFERENCE
        options += f" --since {oldest:%Y-%m-%dT%H:%MZ}"
    return f"To check whether the call exists, run: python -m vapi_provider find {token}{options}"


def how_found(call: Call, *, has_sent: bool) -> str:
    """
    Return the sentence that says how a call was found.

    :param has_sent: whether this try has sent the request
    """
    if has_sent:
        return f"The response was lost, but call {call.id} was placed."
    if call.is_terminal:
        return f"Call {call.id} had already ended; an earlier try placed it."
    return f"Adopted call {call.id}, placed by an earlier try."


def try_later(
    found: Found, lost: VapiError | None, unreadable: VapiError | None, advice: str
) -> VapiTransientError:
    """
    Build the error for what the next try can resolve.

    :param found: what the last search has found
    :param lost: the error of the request for the call; None if another process has sent it
    :param unreadable: the error of the last search that failed
    :param advice: how to find the call
    """
    if found is not Found.UNREADABLE:
        problem = lost or "The response to the request was lost."
        return VapiTransientError(
            f"{problem} Vapi lists no dialled call with the token, so no phone rang. A retry may place the call."
        )
    return VapiTransientError(
        f"A call may have been placed, and the list of calls cannot be read: {unreadable} A retry searches again. {advice}"
    )


def undecided(problem: str, advice: str) -> VapiCallInDoubtError:
    """Build the error for a doubt that no retry can resolve."""
    return VapiCallInDoubtError(
        f"A call may have been placed, but the task could not confirm it: {problem} Clear this task only if no call is found two minutes from now. "
        f"{advice}"
    )
