# SPDX-License-Identifier: Apache-2.0
"""
What of a call may leave the task: the parts of its summary, each an allowlist.

A call's JSON is full of credentials, of URLs that need no key and of what people said. So nothing is taken out of it
here: what is not named in this module stays behind.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vapi_provider.models.call import Call

# Control characters and lone surrogates: PostgreSQL refuses NUL, UTF-8 refuses the surrogates, and a log or terminal
# obeys the rest. Line breaks and tabs are part of what people said, but not of a name or an id. (As text, which re
# compiles and keeps at first use: a DAG file imports this module and needs no pattern.)
_UNSAFE_IN_LINE = r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]"
_UNSAFE_IN_TEXT = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]"

# Airflow and json go down recursively; nobody's structured data is this deep.
_MAX_DEPTH = 50

_CUSTOMER = ("number", "sipUri", "name", "extension", "email", "externalId")
_MESSAGE = ("role", "message", "time", "endTime", "secondsFromStart", "duration")
_ANALYSIS = ("summary", "structuredData", "structuredDataMulti", "successEvaluation")
_STRUCTURED_OUTPUT = ("name", "result")
_COSTS = (
    "transport",
    "stt",
    "llm",
    "tts",
    "vapi",
    "chat",
    "total",
    "llmPromptTokens",
    "llmCompletionTokens",
    "llmCachedPromptTokens",
    "ttsCharacters",
)
_ANALYSIS_COSTS = tuple(
    f"{plan}{unit}"
    for plan in ("summary", "structuredData", "successEvaluation", "structuredOutput")
    for unit in ("", "PromptTokens", "CompletionTokens", "CachedPromptTokens")
)


def clean_line(value: str | None) -> str | None:
    """
    Make a string safe for a log line, an XCom and the database.

    :param value: the string as Vapi sent it; None stays None
    :return: the string without control characters and lone surrogates
    """
    return None if value is None else re.sub(_UNSAFE_IN_LINE, "", value)


def _clean(value: Any, depth: int = 0) -> Any:
    """Copy JSON so that Airflow can store it; what is too deep or not a JSON value becomes None."""
    if isinstance(value, str):
        return re.sub(_UNSAFE_IN_TEXT, "", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    if depth == _MAX_DEPTH:
        return None
    if isinstance(value, Mapping):
        return {re.sub(_UNSAFE_IN_TEXT, "", str(key)): _clean(item, depth + 1) for key, item in value.items()}
    return [_clean(item, depth + 1) for item in value] if isinstance(value, list) else None


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def _pick(source: Any, names: Iterable[str]) -> dict[str, Any] | None:
    if not isinstance(source, Mapping):
        return None
    return {_snake_case(name): _clean(source.get(name)) for name in names}


def finite_number(value: Any) -> float | None:
    """
    Read a number as Vapi writes it, as an int or a float.

    :param value: what stands in the place of a number
    :return: the number; None for anything else, and for one that is not finite or too large
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _pick_numbers(source: Any, names: Iterable[str]) -> dict[str, Any] | None:
    if not isinstance(source, Mapping):
        return None
    return {_snake_case(name): finite_number(source.get(name)) for name in names}


def _analysis(call: Call) -> dict[str, Any] | None:
    return _pick(call.analysis, _ANALYSIS)


def _cost_breakdown(call: Call) -> dict[str, Any] | None:
    costs = _pick_numbers(call.cost_breakdown, _COSTS)
    if costs is not None and call.cost_breakdown is not None:
        analysis_costs = call.cost_breakdown.get("analysisCostBreakdown")
        costs["analysis_cost_breakdown"] = _pick_numbers(analysis_costs, _ANALYSIS_COSTS)
    return costs


def _customer(call: Call) -> dict[str, Any] | None:
    return _pick(call.customer, _CUSTOMER)


def _messages(call: Call) -> list[dict[str, Any]] | None:
    """Return what was spoken; a system message is the assistant's prompt, which nobody said."""
    if call.messages is None:
        return None
    spoken = (message for message in call.messages if isinstance(message, Mapping))
    return [
        picked
        for message in spoken
        if message.get("role") != "system" and (picked := _pick(message, _MESSAGE)) is not None
    ]


def _structured_outputs(call: Call) -> dict[str, Any] | None:
    outputs = call.structured_outputs
    if outputs is None:
        return None
    return {
        _clean(str(output_id)): _pick(output, _STRUCTURED_OUTPUT) for output_id, output in outputs.items()
    }


def _transcript(call: Call) -> str | None:
    transcript: str | None = _clean(call.transcript)
    return transcript


_INCLUDES: dict[str, Callable[[Call], Any]] = {
    "analysis": _analysis,
    "cost_breakdown": _cost_breakdown,
    "customer": _customer,
    "messages": _messages,
    "structured_outputs": _structured_outputs,
    "transcript": _transcript,
}


def check_include(include: Iterable[str]) -> tuple[str, ...]:
    """
    Check the names of the content that a summary should carry beyond its base.

    :param include: any of analysis, cost_breakdown, customer, messages, structured_outputs, transcript
    :raises ValueError: for a name of no such part, and for a lone string in place of a list
    :return: the names
    """
    names = None if isinstance(include, str) or not isinstance(include, Iterable) else tuple(include)
    if names is None or any(name not in tuple(_INCLUDES) for name in names):
        raise ValueError(f"include must be a list of names among {', '.join(_INCLUDES)}; got {include!r}")
    return names


def _iso(call: Call, name: str) -> str | None:
    instant = getattr(call, name)
    return None if instant is None else instant.isoformat()


def summarize(call: Call, include: Iterable[str] = ()) -> dict[str, Any]:
    """
    Build the summary of a call, JSON-ready and safe for XCom.

    :param call: the call
    :param include: names of content to add, see :func:`check_include`
    :raises ValueError: for an unknown name in ``include``
    :return: the base fields and one key for each name in ``include``; None stands for what the call does not have
    """
    names = check_include(include)
    base = {
        "id": clean_line(call.id),
        "status": clean_line(call.status),
        "type": clean_line(call.type),
        "name": clean_line(call.name),
        "ended_reason": clean_line(call.ended_reason),
        "outcome": None if call.outcome is None else call.outcome.value,
        "created_at": _iso(call, "created_at"),
        "started_at": _iso(call, "started_at"),
        "ended_at": _iso(call, "ended_at"),
        "duration_seconds": call.duration_seconds,
        "cost": call.cost,
        "assistant_id": clean_line(call.assistant_id),
        "phone_number_id": clean_line(call.phone_number_id),
    }
    return base | {name: _INCLUDES[name](call) for name in names}
