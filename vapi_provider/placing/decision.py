# SPDX-License-Identifier: Apache-2.0
"""
Whether a call may be placed: one pure function over what is known.

Vapi knows no idempotency key, so a request that was sent once may only be sent again when it is certain that the first
had no effect. The table in docs/placing.md is made from the rules here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Recorded(str, Enum):
    """What the task's own notes say about this call, from this try or one before it."""

    NOTHING = "nothing"
    """There are none: no try came that far, or there is nowhere to keep notes, or they are lost."""
    SENDING = "sending"
    """The request was about to be sent."""
    NOT_SENT = "not sent"
    """It had no effect for certain."""
    PLACED = "placed"
    """It was answered with a call's id."""


class Found(str, Enum):
    """What Vapi shows of the call."""

    NOT_SEARCHED = "not looked"
    NOTHING = "nothing"
    """A whole look found no call with the token."""
    NOBODY_RANG = "nobody rang"
    """There are such calls, and all of them ended before they were dialled."""
    CALL = "call"
    """There is one that rang somebody, or may yet."""
    UNREADABLE = "unreadable"
    """Vapi could not be asked."""
    TOO_MUCH = "too much"
    """The list is longer than may be read, and no such call was in what was read of it."""


class Step(str, Enum):
    """What to do next."""

    PLACE = "place"
    READ = "read"
    SEARCH = "look"
    WAIT = "wait"
    ADOPT = "adopt"
    TRY_LATER = "try later"
    GIVE_UP = "give up"


@dataclass(frozen=True)
class Knowledge:
    """
    What is known when the next step is decided.

    :param is_first_try: whether this is try 1 in a run that was never cleared
    :param noted: what the task's own notes say
    :param found: what Vapi shows
    :param is_settled: whether the last possible sending lies so far back that the last look would have shown its call
    :param has_sent: whether this try has sent the request already
    """

    is_first_try: bool
    noted: Recorded
    found: Found = Found.NOT_SEARCHED
    is_settled: bool = False
    has_sent: bool = False


class Rule(NamedTuple):
    """One row of the table: when it applies, what is done then, and why; ``None`` means that it does not matter."""

    name: str
    step: Step
    because: str
    is_first_try: bool | None = None
    noted: tuple[Recorded, ...] | None = None
    found: tuple[Found, ...] | None = None
    is_settled: bool | None = None
    has_sent: bool | None = None

    def applies(self, known: Knowledge) -> bool:
        """Say whether this row is about what is known."""
        return (
            self.is_first_try in (None, known.is_first_try)
            and (self.noted is None or known.noted in self.noted)
            and (self.found is None or known.found in self.found)
            and self.is_settled in (None, known.is_settled)
            and self.has_sent in (None, known.has_sent)
        )


_NONE_THERE = (Found.NOTHING, Found.NOBODY_RANG)

RULES = (
    Rule(
        "call found",
        Step.ADOPT,
        "The call exists; how it went is a result.",
        found=(Found.CALL,),
    ),
    Rule(
        "id noted",
        Step.READ,
        "The call is known by its id.",
        noted=(Recorded.PLACED,),
        found=(Found.NOT_SEARCHED,),
    ),
    Rule(
        "noted call rang nobody",
        Step.PLACE,
        "Vapi answered, and ended the call before it was dialled; nothing else was sent.",
        noted=(Recorded.PLACED,),
        found=(Found.NOBODY_RANG,),
        has_sent=False,
    ),
    Rule(
        "noted as not sent",
        Step.PLACE,
        "The request of an earlier try had no effect for certain.",
        noted=(Recorded.NOT_SENT,),
        has_sent=False,
    ),
    Rule(
        "first try",
        Step.PLACE,
        "Nothing ran before this try.",
        is_first_try=True,
        noted=(Recorded.NOTHING,),
        has_sent=False,
    ),
    Rule(
        "doubt",
        Step.SEARCH,
        "The request may have been sent: an earlier try ran, or the answer to this one's was lost.",
        found=(Found.NOT_SEARCHED,),
    ),
    Rule(
        "not settled",
        Step.WAIT,
        "A request may still be under way, or its call not yet in the list.",
        is_settled=False,
    ),
    Rule(
        "list too long",
        Step.GIVE_UP,
        "Whether a call was placed cannot be told; a person has to look.",
        found=(Found.TOO_MUCH,),
    ),
    Rule(
        "list unreadable",
        Step.TRY_LATER,
        "The doubt stays, and the next try looks again.",
        found=(Found.UNREADABLE,),
    ),
    Rule(
        "nothing there, sent by this try",
        Step.TRY_LATER,
        "Nobody was called; a try sends one request only, and the next one may send another.",
        found=_NONE_THERE,
        has_sent=True,
    ),
    Rule(
        "nothing there",
        Step.PLACE,
        "No request is under way any more, and none of them rang anybody.",
        found=_NONE_THERE,
    ),
)
"""The first row that applies decides."""


def decide(known: Knowledge) -> Rule:
    """
    Decide the next step.

    :param known: what is known
    :return: the row of the table that applies, with the step to take
    """
    return next(rule for rule in RULES if rule.applies(known))
