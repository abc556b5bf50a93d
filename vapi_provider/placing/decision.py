# SPDX-License-Identifier: Apache-2.0
"""
Whether a call may be placed: one pure function of what is known.

Vapi has no idempotency key, so a request may only be sent again when the first certainly had no effect. The table in
docs/how-it-works.md lists the rules of this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Recorded(str, Enum):
    """What this task has recorded about the call, in this try or an earlier one."""

    NOTHING = "nothing"
    """No record: no try got that far, or there is no store, or it was emptied."""
    SENDING = "sending"
    """The request was about to be sent."""
    NOT_SENT = "not sent"
    """The request certainly had no effect."""
    PLACED = "placed"
    """Vapi returned the id of the call."""
    NOT_REACHED = "not reached"
    """The call ended without reaching the callee, and the next attempt may follow."""
    OVER = "over"
    """The task ended with this call, whatever its outcome."""


class Found(str, Enum):
    """What Vapi shows of the call."""

    NOT_SEARCHED = "not searched"
    NOTHING = "nothing"
    """A complete search found no call with the token."""
    NEVER_RANG = "never rang"
    """All calls with the token ended before they were dialled."""
    CALL = "call"
    """A call with the token rang or may still ring."""
    UNREADABLE = "unreadable"
    """The list could not be read."""
    TOO_MUCH = "too much"
    """The list is longer than the search may read, and no such call was in that part."""


class Step(str, Enum):
    """What to do next."""

    PLACE = "place"
    READ = "read"
    SEARCH = "search"
    WAIT = "wait"
    ADOPT = "adopt"
    TRY_LATER = "try later"
    GIVE_UP = "give up"


@dataclass(frozen=True)
class Knowledge:
    """
    What is known when the next step is chosen.

    :param is_first_try: whether this is try 1 in a run that was never cleared
    :param recorded: what this task has recorded
    :param found: what Vapi shows
    :param is_settled: whether the last search was late enough to show the call of the last possible request
    :param has_sent: whether this try has sent the request already
    """

    is_first_try: bool
    recorded: Recorded
    found: Found = Found.NOT_SEARCHED
    is_settled: bool = False
    has_sent: bool = False


class Rule(NamedTuple):
    """One row of the table: when it applies, what to do, and why; None matches everything."""

    name: str
    step: Step
    because: str
    is_first_try: bool | None = None
    recorded: tuple[Recorded, ...] | None = None
    found: tuple[Found, ...] | None = None
    is_settled: bool | None = None
    has_sent: bool | None = None

    def applies(self, known: Knowledge) -> bool:
        """Return whether this row applies."""
        return (
            self.is_first_try in (None, known.is_first_try)
            and (self.recorded is None or known.recorded in self.recorded)
            and (self.found is None or known.found in self.found)
            and self.is_settled in (None, known.is_settled)
            and self.has_sent in (None, known.has_sent)
        )


_NONE_THERE = (Found.NOTHING, Found.NEVER_RANG)

RULES = (
    Rule("call found", Step.ADOPT, "The call exists; how it went is a result.", found=(Found.CALL,)),
    Rule(
        "id recorded",
        Step.READ,
        "The call is known by its id.",
        recorded=(Recorded.PLACED, Recorded.OVER),
        found=(Found.NOT_SEARCHED,),
    ),
    Rule(
        "recorded call never rang",
        Step.PLACE,
        "Vapi ended the call before dialling; nothing else was sent.",
        recorded=(Recorded.PLACED,),
        found=(Found.NEVER_RANG,),
        has_sent=False,
    ),
    Rule(
        "recorded as not sent",
        Step.PLACE,
        "The earlier request certainly had no effect.",
        recorded=(Recorded.NOT_SENT,),
        has_sent=False,
    ),
    Rule(
        "first try",
        Step.PLACE,
        "Nothing ran before this try.",
        is_first_try=True,
        recorded=(Recorded.NOTHING,),
        has_sent=False,
    ),
    Rule(
        "doubt",
        Step.SEARCH,
        "The request may have been sent: an earlier try ran, or the response to this one was lost.",
        found=(Found.NOT_SEARCHED,),
    ),
    Rule(
        "not settled",
        Step.WAIT,
        "A request may still be under way, or its call not yet listed.",
        is_settled=False,
    ),
    Rule(
        "list too long",
        Step.GIVE_UP,
        "It cannot be verified whether a call was placed; a person has to check.",
        found=(Found.TOO_MUCH,),
    ),
    Rule(
        "list unreadable",
        Step.TRY_LATER,
        "The doubt remains; the next try searches again.",
        found=(Found.UNREADABLE,),
    ),
    Rule(
        "nothing there, sent by this try",
        Step.TRY_LATER,
        "No phone rang. A try sends one request; the next try may send another.",
        found=_NONE_THERE,
        has_sent=True,
    ),
    Rule(
        "nothing there",
        Step.PLACE,
        "No request is under way any more, and none made a phone ring.",
        found=_NONE_THERE,
    ),
)
"""The first row that applies decides."""


def decide(known: Knowledge) -> Rule:
    """Decide the next step."""
    return next(rule for rule in RULES if rule.applies(known))
