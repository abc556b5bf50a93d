# SPDX-License-Identifier: Apache-2.0
"""What the end of a call means, told from Vapi's ``endedReason``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum


class CallOutcome(str, Enum):
    """
    What became of a call, in the words of somebody who runs a campaign.

    A ``str``, so that it compares equal to its value and goes into XCom as it is.
    """

    COMPLETED = "completed"
    """A conversation took place."""
    NO_ANSWER = "no_answer"
    """Nobody was reached: busy, no answer, voicemail, temporarily unavailable."""
    CANCELLED = "cancelled"
    """The call was called off."""
    FAILED = "failed"
    """The machinery failed: configuration, assistant, carrier or Vapi itself."""
    UNKNOWN = "unknown"
    """The call ended without a reason, or for one of no family known here."""

    def __str__(self) -> str:
        return self.value


# Families, not names: Vapi has about 600 reasons and adds some every month. The first rule that matches the
# whole reason wins, so the narrow families stand before the wide ones: "customer-did-not-answer" before
# "customer-...", a busy line reported by a SIP provider before every other provider error.
# (Patterns as text, which re compiles and keeps at first use: a DAG file imports this module and needs none of them.)
_RULES: tuple[tuple[CallOutcome, str], ...] = (
    (CallOutcome.CANCELLED, r"manually-cancell?ed | scheduled-call-.* | call-deleted"),
    (
        CallOutcome.NO_ANSWER,
        r"""
        customer-(did-not-|not-|no-|busy|declined|rejected|un).*
        | voicemail.*
        | call\.forwarding\.(.*-)?(busy|no-answer|unavailable)
        | (.*[.-])?sip-(480|486|600|603)-.*   # temporarily unavailable, busy here, busy everywhere, declined
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


def outcome_of(ended_reason: str | None) -> CallOutcome:
    """
    Tell what an ended call's reason means.

    :param ended_reason: Vapi's ``endedReason``; None for a call that ended without one
    :return: the outcome; ``CallOutcome.UNKNOWN`` for a reason of no known family
    """
    reason = (ended_reason or "").strip().lower()
    for outcome, pattern in _RULES:
        if re.fullmatch(pattern, reason, re.VERBOSE):
            return outcome
    return CallOutcome.UNKNOWN


def check_fail_on(fail_on: Iterable[CallOutcome | str]) -> tuple[CallOutcome, ...]:
    """
    Check which outcomes count as a failure of the task.

    :param fail_on: outcomes, or their values
    :raises ValueError: for a name of no outcome, and for a lone string in place of a list
    :return: the outcomes
    """
    try:
        if not isinstance(fail_on, str):
            return tuple(CallOutcome(outcome) for outcome in fail_on)
    except (TypeError, ValueError):
        pass
    outcomes = ", ".join(outcome.value for outcome in CallOutcome)
    raise ValueError(f"fail_on must be a list of outcomes among {outcomes}; got {fail_on!r}")
