# SPDX-License-Identifier: Apache-2.0
"""The outcome of a call, derived from Vapi's ``endedReason``."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

from vapi_provider.exceptions import VapiConfigurationError


class CallOutcome(str, Enum):
    """
    Business-level outcome of a call.

    A ``str``, so that it equals its value and is stored in XCom as a string.
    """

    COMPLETED = "completed"
    """A conversation took place."""
    NO_ANSWER = "no_answer"
    """The callee was not reached: busy, no answer, voicemail, temporarily unavailable."""
    CANCELLED = "cancelled"
    """The call was cancelled."""
    FAILED = "failed"
    """Technical failure: configuration, assistant, carrier or Vapi itself."""
    UNKNOWN = "unknown"
    """The call ended without a reason, or for one of an unknown family."""

    def __str__(self) -> str:
        return self.value


# Matches families, because Vapi has about 600 reasons and adds new ones monthly. The first match wins.
# Strings, which re compiles on first use, to keep the parsing of DAG files fast.
_RULES: tuple[tuple[CallOutcome, str], ...] = (
    (CallOutcome.CANCELLED, r"manually-cancell?ed | scheduled-call-.* | call-deleted"),
    (
        CallOutcome.NO_ANSWER,
        r"""
        customer-(did-not-|not-|no-|busy|declined|rejected|un).*
        | voicemail.*
        # request timeout, temporarily unavailable, busy here, busy everywhere, declined
        | (.*[.-])?sip-(408|480|486|600|603)-.*
        | call\.ringing\.sip-inbound-caller-hungup-.*
        """,
    ),
    (
        CallOutcome.COMPLETED,
        r"""
        assistant-(ended|said|forwarded)-.*
        | assistant-request-returned-forwarding-phone-number
        | customer-.*
        | silence-.*
        | exceeded-.*
        | incoming-client-message-say-ended-call
        | (vonage|twilio|telnyx|sip)-completed.*
        | call\.(in-progress|ringing|ending|forwarding)\.(?!.*error).*
        """,
    ),
    (
        CallOutcome.FAILED,
        r"""
        pipeline-.*
        | call[.-].*
        | (.*-)?error(-.*)?
        | assistant-.*
        | (twilio|vonage|telnyx|sip|vapi)-.*
        | phone-call-provider-.*
        | no-server-available
        | (server|worker)-shutdown
        """,
    ),
)

# Unanswered calls that still have results: a voicemail.
_WITH_CONVERSATION = r"voicemail.*"
_NEVER_DIALLED = r"call[.-]start[.-].*error.*"
_OVER_LIMIT = r"call[.-]start[.-].*concurrency-limit.*"


def outcome_of(ended_reason: str | None) -> CallOutcome:
    """
    Return the outcome of an ended call.

    :param ended_reason: Vapi's ``endedReason``; None if the call ended without one
    :return: the outcome; ``CallOutcome.UNKNOWN`` for a reason of an unknown family
    """
    reason = _normalized(ended_reason)
    for outcome, pattern in _RULES:
        if re.fullmatch(pattern, reason, re.VERBOSE):
            return outcome
    return CallOutcome.UNKNOWN


def was_never_dialled(ended_reason: str | None) -> bool:
    """Return True if a call that ended for this reason cannot have made a phone ring."""
    return bool(re.fullmatch(_NEVER_DIALLED, _normalized(ended_reason)))


def count_attempts(attempt: int, ended_reason: str | None) -> int:
    """Return how many attempts rang or may have rung, up to one that ended for this reason."""
    return attempt - was_never_dialled(ended_reason)


def is_over_limit(ended_reason: str | None) -> bool:
    """Return True if a call ended because the organization was at its concurrency limit."""
    return bool(re.fullmatch(_OVER_LIMIT, _normalized(ended_reason)))


def had_conversation(ended_reason: str | None, *, has_started: bool) -> bool:
    """
    Return True if Vapi may compute results of a call that ended for this reason.

    :param has_started: whether the call has a ``startedAt``; without one, only the reason can show a conversation
    """
    outcome = outcome_of(ended_reason)
    if outcome is CallOutcome.NO_ANSWER:
        return bool(re.fullmatch(_WITH_CONVERSATION, _normalized(ended_reason)))
    if outcome is CallOutcome.CANCELLED or was_never_dialled(ended_reason):
        return False
    return has_started or outcome is CallOutcome.COMPLETED


def _normalized(ended_reason: str | None) -> str:
    return (ended_reason or "").strip().lower()


def parse_outcomes(argument: str, outcomes: Any) -> tuple[CallOutcome, ...]:
    """
    Return the outcomes that an argument lists.

    :param argument: the name of the argument
    :param outcomes: outcomes, or their values
    :raises ValueError: for an unknown outcome, or a single string instead of a list
    :return: the outcomes
    """
    try:
        if not isinstance(outcomes, str):
            return tuple(CallOutcome(outcome) for outcome in outcomes)
    except (TypeError, ValueError):
        pass
    known = ", ".join(outcome.value for outcome in CallOutcome)
    raise ValueError(f"{argument} must be a list of known outcomes ({known}); got {outcomes!r}.")


def check_outcomes(argument: str, outcomes: Any) -> tuple[CallOutcome, ...]:
    """
    Return the outcomes that an argument lists, before a task's first request.

    :raises VapiConfigurationError: as :func:`parse_outcomes` raises ValueError
    """
    try:
        return parse_outcomes(argument, outcomes)
    except ValueError as error:
        raise VapiConfigurationError(f"{error} Nothing was sent.") from None
