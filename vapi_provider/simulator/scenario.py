# SPDX-License-Identifier: Apache-2.0
"""A timeline per call, chosen by its callee and by the results that its request asks for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from vapi_provider.simulator.bodies import callee_of
from vapi_provider.simulator.timeline import LONGEST_SECONDS, StructuredOutput, Timeline

_RINGS_AFTER = 1.0
_NEVER_RINGS = ("call.start.*", "call-start-*", "assistant-request-*", "assistant-not-*")
_NEVER_ANSWERED = (
    "customer-busy",
    "customer-did-not-*",
    "twilio-failed-*",
    "twilio-reported-*",
    "vonage-failed-*",
    "vonage-rejected",
    "call.ringing.*",
    "*-outbound-sip-*",
    "sip-outbound-*",
)
_VOICEMAIL_TRANSCRIPT = "AI: Hello, this is Riley from the Lakeside clinic. Please call us back. Goodbye.\n"
_SAVED_OUTPUT = {"name": "Appointment confirmed", "schema": {"type": "boolean"}}
_SAMPLES: dict[str, Any] = {"boolean": True, "integer": 1, "number": 1.0, "string": "example", "null": None}


@dataclass(frozen=True)
class Scenario:
    """
    A timeline for each call, chosen by its callee and its request.

    Pass it as the ``timeline`` of a ``VapiSimulator``. An answered call gets the results that its
    request asks for; the times are seconds, each from the step before it.

    :param answer_after: how long the phone rings before it is answered.
    :param end_after: how long an answered call lasts.
    :param analysis_after: how long after the end the analysis and the structured outputs arrive.
    :param speed: how many times faster all of this happens.
    :param outcomes: the ``endedReason`` of calls by glob patterns of callees, such as
        ``{"+1202555010*": "customer-did-not-answer"}``; the first pattern that matches wins.
    :raises ValueError: if a time is negative, the speed is not positive, or a call would take more than about 3,000 years.
    """

    answer_after: float = 2
    end_after: float = 7
    analysis_after: float = 2
    speed: float = 1
    outcomes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        times = (self.answer_after, self.end_after, self.analysis_after)
        if not all(math.isfinite(each) and each >= 0 for each in times):
            raise ValueError("the times of a scenario must not be negative")
        if not (math.isfinite(self.speed) and self.speed > 0):
            raise ValueError("the speed of a scenario must be positive")
        if not self._seconds(_RINGS_AFTER, *times) <= LONGEST_SECONDS:
            raise ValueError("the calls of a scenario must be over within 1e11 seconds")

    def __call__(self, request: Mapping[str, Any]) -> Timeline:
        """
        Return what a call goes through.

        :param request: the body of ``POST /call``, with a single customer.
        """
        reason = self._reason(callee_of(request) or "")
        if _matches(reason, _NEVER_RINGS):
            return self._silent(reason, ringing=None)
        if _matches(reason, _NEVER_ANSWERED):
            return self._silent(reason, ringing=self._seconds(_RINGS_AFTER))
        return self._answered(reason, request)

    def _reason(self, callee: str) -> str:
        matching = (reason for pattern, reason in self.outcomes.items() if fnmatchcase(callee, pattern))
        return next(matching, Timeline.ended_reason)

    def _seconds(self, *spans: float) -> float:
        return sum(spans) / self.speed

    def _silent(self, reason: str, ringing: float | None) -> Timeline:
        rang_for = (self.answer_after, self.end_after) if ringing is not None else ()
        ended = self._seconds(_RINGS_AFTER, *rang_for)
        return Timeline(
            ringing=ringing, answered=None, ended=ended, analysis=None, ended_reason=reason, cost=0
        )

    def _answered(self, reason: str, request: Mapping[str, Any]) -> Timeline:
        until_end = (_RINGS_AFTER, self.answer_after, self.end_after)
        is_voicemail = reason.startswith("voicemail")
        lag = self._seconds(self.analysis_after)
        timeline = Timeline(
            ringing=self._seconds(_RINGS_AFTER),
            answered=self._seconds(*until_end[:2]),
            ended=self._seconds(*until_end),
            analysis=self._seconds(*until_end) + lag,
            ended_reason=reason,
            structured_outputs=tuple(_outputs(request, lag, is_skipped=is_voicemail)),
        )
        if not is_voicemail:
            return replace(timeline, structured_data=_structured_data(request))
        summary = "The call reached a voicemail."
        return replace(
            timeline, transcript=_VOICEMAIL_TRANSCRIPT, summary=summary, success_evaluation="false"
        )


def _matches(reason: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(reason, pattern) for pattern in patterns)


def _plan(request: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a plan of the request's assistant, updated with its overrides and those of the customer."""
    customer = _mapping(request.get("customer"))
    holders = (
        request.get("assistant"),
        request.get("assistantOverrides"),
        customer.get("assistantOverrides"),
    )
    plan: dict[str, Any] = {}
    for holder in holders:
        plan.update(_mapping(_mapping(holder).get(name)))
    return plan


def _outputs(request: Mapping[str, Any], lag: float, *, is_skipped: bool) -> Iterator[StructuredOutput]:
    plan = _plan(request, "artifactPlan")
    ids = [each for each in _list(plan.get("structuredOutputIds")) if isinstance(each, str)]
    inline = [_mapping(each) for each in _list(plan.get("structuredOutputs"))]
    is_saved = "assistantId" in request or "squadId" in request
    if is_saved and not ids and not inline:
        # The plan of a saved assistant is unknown here, but a task that waits for outputs should get one.
        inline = [_SAVED_OUTPUT]
    for id_ in ids:
        # Saved outputs are unknown here, so the id also serves as the name.
        yield StructuredOutput(id_, None if is_skipped else True, lag, is_skipped, id_)
    for each in inline:
        if isinstance(name := each.get("name"), str):
            yield StructuredOutput(name, None if is_skipped else sample(each.get("schema")), lag, is_skipped)


def _structured_data(request: Mapping[str, Any]) -> Any:
    plan = _mapping(_plan(request, "analysisPlan").get("structuredDataPlan"))
    return sample(plan.get("schema")) if plan.get("enabled") is True else None


def sample(schema: object, depth: int = 0) -> Any:
    """
    Return a value that fits a JSON Schema.

    :param schema: the schema; without one the value is ``"example"``.
    :param depth: how deeply it is nested; values end at a depth of 10.
    """
    schema = _mapping(schema)
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    for keyword in ("enum", "examples"):
        if _list(schema.get(keyword)):
            return schema[keyword][0]
    kind = schema.get("type")
    kind = next(iter(kind), None) if isinstance(kind, list) else kind
    if depth < 10 and (kind == "object" or "properties" in schema):
        return {name: sample(each, depth + 1) for name, each in _mapping(schema.get("properties")).items()}
    if kind == "array":
        return [sample(schema.get("items"), depth + 1)] if depth < 10 else []
    if kind in ("integer", "number") and isinstance(schema.get("minimum"), (int, float)):
        return schema["minimum"]
    return _SAMPLES.get(str(kind), "example")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
