# SPDX-License-Identifier: Apache-2.0
"""The life of a simulated call: its steps, their times, and its results."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

LONGEST_SECONDS = 1e11
"""The longest that a step may take, about 3,000 years; Python's dates end in the year 9999."""


@dataclass(frozen=True)
class StructuredOutput:
    """
    A structured output, which Vapi extracts from a call after its end.

    :param name: its name.
    :param result: the extracted value.
    :param lag: how many seconds after the end it arrives; None for never.
    :param is_skipped: whether it is skipped because the call did not meet its condition.
    :param id: its id; derived from the name by default.
    :raises ValueError: if the lag is negative or longer than about 3,000 years.
    """

    name: str
    result: Any = None
    lag: float | None = 2
    is_skipped: bool = False
    id: str = ""

    def __post_init__(self) -> None:
        if self.lag is not None and not 0 <= self.lag <= LONGEST_SECONDS:
            raise ValueError(
                "a structured output cannot arrive before the end, or more than 1e11 seconds after it"
            )
        if not self.id:
            object.__setattr__(self, "id", str(uuid.uuid5(uuid.NAMESPACE_URL, self.name)))


Step = Literal["queued", "ringing", "in-progress", "ended", "analysis"] | StructuredOutput


@dataclass(frozen=True)
class Timeline:
    """
    When a call reaches each step of its life, and which results it has.

    The times are seconds after the call's creation or, for a scheduled call, after its
    ``schedulePlan.earliestAt``; None means that the step never comes.

    :param ringing: when the phone starts ringing.
    :param answered: when the callee answers and the call is in progress.
    :param ended: when the call ends; None for a call that stays live until it is hung up.
    :param analysis: when analysis, artifact and cost arrive, which is after the end; None for
        never, as in an organization with zero data retention.
    :param ended_reason: the call's ``endedReason``.
    :param transcript: the conversation, with one ``AI: ...`` or ``User: ...`` per line; None for no transcript.
    :param summary: the summary in the analysis.
    :param success_evaluation: the ``successEvaluation`` in the analysis.
    :param structured_data: the ``structuredData`` in the analysis; None for none.
    :param cost: the cost of the call, in US dollars.
    :param structured_outputs: the structured outputs, each with its own lag after the end.
    :raises ValueError: if a time is negative, earlier than that of the step before it, or later than about 3,000 years.
    """

    ringing: float | None = 1
    answered: float | None = 3
    ended: float | None = 10
    analysis: float | None = 12
    ended_reason: str = "customer-ended-call"
    transcript: str | None = (
        "AI: Hello, this is Riley from the Lakeside clinic. Does Tuesday at ten still suit you?\n"
        "User: Yes, Tuesday at ten is fine.\n"
        "AI: Thank you, see you then. Goodbye.\n"
    )
    summary: str = "The customer confirmed the appointment on Tuesday at ten."
    success_evaluation: str = "true"
    structured_data: Any = None
    cost: float = 0.0512
    structured_outputs: tuple[StructuredOutput, ...] = ()

    def __post_init__(self) -> None:
        times = [t for t in (0, self.ringing, self.answered, self.ended, self.analysis) if t is not None]
        if times != sorted(times):
            raise ValueError("the steps of a timeline must follow one another in time")
        if not max(times) <= LONGEST_SECONDS:
            raise ValueError("the steps of a timeline must come within 1e11 seconds")

    def steps(self) -> list[tuple[float, Step]]:
        """Return the steps to come in their order, each with its time in seconds."""
        planned: list[tuple[float | None, Step]] = [
            (self.ringing, "ringing"),
            (self.answered, "in-progress"),
            (self.ended, "ended"),
        ]
        coming = [(seconds, step) for seconds, step in planned if seconds is not None]
        # There are no results before the end.
        return coming if self.ended is None else coming + self.steps_after(self.ended)

    def analysis_body(self) -> dict[str, Any]:
        """Return the ``analysis`` of the call."""
        data = {} if self.structured_data is None else {"structuredData": self.structured_data}
        return {"summary": self.summary, "successEvaluation": self.success_evaluation, **data}

    def steps_after(self, ended: float) -> list[tuple[float, Step]]:
        """
        Return the steps that follow the end, in their order.

        :param ended: the time of the end, in seconds.
        :return: each step with its time in seconds.
        """
        lags: list[tuple[float | None, Step]] = [(output.lag, output) for output in self.structured_outputs]
        if self.analysis is not None:
            lags.append((self.analysis - (self.ended or 0), "analysis"))
        following = [(ended + lag, step) for lag, step in lags if lag is not None]
        return sorted(following, key=lambda each: each[0])


DEFAULT_TIMELINE = Timeline()
NO_TIMELINE = Timeline(ringing=None, answered=None, ended=None, analysis=None)

TimelineChoice: TypeAlias = Timeline | Callable[[Mapping[str, Any]], Timeline]
"""One timeline for all placed calls, or a function that returns one for the body of a request."""
