# SPDX-License-Identifier: Apache-2.0
"""
The summary of a call: an allowlist of what may leave the task.

A call's JSON contains credentials, URLs that work without a key, and everything that was said. A field that is not
named in this module never leaves the task.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, TypeAlias, TypedDict, cast

from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.models.cleaning import Json, clean_json, clean_line, finite_number

_Call: TypeAlias = Any
"""A :class:`~vapi_provider.models.call.Call`; its module imports this one."""

_CUSTOMER = ("number", "sipUri", "name", "extension", "email", "externalId")
_MESSAGE = ("role", "message", "time", "endTime", "secondsFromStart", "duration")
_ANALYSIS = ("summary", "structuredData", "structuredDataMulti", "successEvaluation")
_TOKENS = ("llmPromptTokens", "llmCompletionTokens", "llmCachedPromptTokens", "ttsCharacters")
_COSTS = ("transport", "stt", "llm", "tts", "vapi", "chat", "total", *_TOKENS)
_ANALYSIS_COSTS = tuple(
    f"{plan}{unit}"
    for plan in ("summary", "structuredData", "successEvaluation", "structuredOutput")
    for unit in ("", "PromptTokens", "CompletionTokens", "CachedPromptTokens")
)


class _CallSummaryBase(TypedDict):
    id: str
    status: str | None
    type: str | None
    name: str | None
    ended_reason: str | None
    outcome: str | None
    created_at: str | None
    started_at: str | None
    ended_at: str | None
    duration_seconds: float | None
    cost: float | None
    assistant_id: str | None
    phone_number_id: str | None


class CallSummary(_CallSummaryBase, total=False):
    """
    Summary of a call, as operators and the sensor return it.

    It has one additional key per name in ``include``. Instants are ISO 8601 strings, ``outcome`` is a value of
    :class:`~vapi_provider.models.outcome.CallOutcome`, ``cost`` is in US dollars, and ``structured_outputs`` is
    ``{name: result}``. Missing values are None.
    """

    analysis: dict[str, Json] | None
    cost_breakdown: dict[str, Json] | None
    customer: dict[str, Json] | None
    messages: list[dict[str, Json]] | None
    structured_outputs: dict[str, Json] | None
    transcript: str | None


class PlacedCallSummary(CallSummary):
    """The summary of a call that the task placed, with the number of attempts to reach the callee."""

    attempts: int
    """How many calls to this callee rang or may have rung."""


@cache
def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def _pick(source: Any, names: Iterable[str]) -> dict[str, Json] | None:
    if not isinstance(source, Mapping):
        return None
    return {_snake_case(name): clean_json(source.get(name)) for name in names}


def _pick_numbers(source: Any, names: Iterable[str]) -> dict[str, Json] | None:
    if not isinstance(source, Mapping):
        return None
    return {_snake_case(name): finite_number(source.get(name)) for name in names}


def _analysis(call: _Call) -> dict[str, Json] | None:
    return _pick(call.analysis, _ANALYSIS)


def _cost_breakdown(call: _Call) -> dict[str, Json] | None:
    costs = _pick_numbers(call.cost_breakdown, _COSTS)
    if costs is not None:
        analysis_costs = call.cost_breakdown.get("analysisCostBreakdown")
        costs["analysis_cost_breakdown"] = _pick_numbers(analysis_costs, _ANALYSIS_COSTS)
    return costs


def _customer(call: _Call) -> dict[str, Json] | None:
    return _pick(call.customer, _CUSTOMER)


def _messages(call: _Call) -> list[dict[str, Json]] | None:
    """Return the spoken messages, without the system messages that contain the assistant's prompt."""
    if call.messages is None:
        return None
    spoken = (message for message in call.messages if isinstance(message, Mapping))
    return [
        picked
        for message in spoken
        if message.get("role") != "system" and (picked := _pick(message, _MESSAGE)) is not None
    ]


def _structured_outputs(call: _Call) -> dict[str, Json] | None:
    """Return the results by the names of their outputs, without those that Vapi skipped."""
    if call.structured_outputs is None:
        return None
    results: dict[str, Json] = {}
    for output_id, output in call.structured_outputs.items():
        fields = output if isinstance(output, Mapping) else {}
        results[_unused_name(fields.get("name"), output_id, results)] = clean_json(fields.get("result"))
    return results


def _unused_name(name: Any, output_id: str, used: Mapping[str, Json]) -> str:
    cleaned = (clean_line(name) if isinstance(name, str) else "") or ""
    first = cleaned.strip() or str(clean_line(output_id))
    numbered = (f"{first} ({number})" for number in itertools.count(2))
    return next(each for each in itertools.chain([first], numbered) if each not in used)


def _transcript(call: _Call) -> Json:
    return clean_json(call.transcript)


_INCLUDES: dict[str, Callable[[_Call], Any]] = {
    "analysis": _analysis,
    "cost_breakdown": _cost_breakdown,
    "customer": _customer,
    "messages": _messages,
    "structured_outputs": _structured_outputs,
    "transcript": _transcript,
}


def check_include(include: Iterable[str]) -> tuple[str, ...]:
    """
    Validate ``include`` before a task's first request.

    :raises VapiConfigurationError: for an unknown name, or a single string instead of a list
    """
    try:
        return _checked_names(include)
    except VapiConfigurationError as error:
        problem = f"{error}. Nothing was sent."
    raise VapiConfigurationError(problem)


def _checked_names(include: Iterable[str]) -> tuple[str, ...]:
    names = None if isinstance(include, str) or not isinstance(include, Iterable) else tuple(include)
    if names is None or any(name not in tuple(_INCLUDES) for name in names):
        raise VapiConfigurationError(
            f"include must be a list of known names ({', '.join(_INCLUDES)}); got {include!r}"
        )
    return names


def _iso(call: _Call, name: str) -> str | None:
    instant = getattr(call, name)
    return None if instant is None else instant.isoformat()


def summarize(call: _Call, include: Iterable[str] = ()) -> CallSummary:
    """
    Build the summary of a call, which is safe to store in XCom.

    :raises VapiConfigurationError: for an unknown name in ``include``
    """
    names = _checked_names(include)
    outcome = call.outcome
    base = {
        "id": clean_line(call.id),
        "status": clean_line(call.status),
        "type": clean_line(call.type),
        "name": clean_line(call.name),
        "ended_reason": clean_line(call.ended_reason),
        "outcome": None if outcome is None else outcome.value,
        "created_at": _iso(call, "created_at"),
        "started_at": _iso(call, "started_at"),
        "ended_at": _iso(call, "ended_at"),
        "duration_seconds": call.duration_seconds,
        "cost": call.cost,
        "assistant_id": clean_line(call.assistant_id),
        "phone_number_id": clean_line(call.phone_number_id),
    }
    return cast("CallSummary", base | {name: _INCLUDES[name](call) for name in names})
