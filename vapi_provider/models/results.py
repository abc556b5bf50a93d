# SPDX-License-Identifier: Apache-2.0
"""The progress of a call's results, which Vapi computes one by one after the call's end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vapi_provider.models.cleaning import clean_line

ANALYSIS = "analysis"
OUTPUTS = "structured_outputs"

ARRIVED = "All awaited results of call {} have arrived."
"""The message of a trigger's event once it has seen all of them."""

_WORDS = {ANALYSIS: "analysis", OUTPUTS: "structured outputs"}
_ANALYSIS_PARTS = {
    "summaryPlan": ("summary", True),
    "structuredDataPlan": ("structuredData", False),
    "successEvaluationPlan": ("successEvaluation", True),
}
"""The part of the analysis that each plan requests, and whether the plan is enabled by default."""


def wanted_results(include: Iterable[str]) -> tuple[str, ...]:
    """Return the results that ``include`` names; empty means whichever arrives first."""
    names = set(include)
    return tuple(name for name in _WORDS if name in names)


def in_words(wanted: tuple[str, ...]) -> str:
    """Return the names of the awaited results, for messages."""
    return (" and " if wanted else " or ").join(_WORDS[name] for name in wanted or tuple(_WORDS))


@dataclass(frozen=True)
class Progress:
    """
    The progress of one kind of results.

    :param name: its name, as in ``include``
    :param arrived: how many of its parts have arrived
    :param missing: the planned parts that have not arrived; None if the call shows no plan
    """

    name: str
    arrived: int
    missing: tuple[str, ...] | None

    def has_arrived(self, *, is_unchanged: bool) -> bool:
        """Return whether all planned parts have arrived or, without a plan, none was added between two polls."""
        return not self.missing if self.missing is not None else is_unchanged and self.arrived > 0

    @property
    def missing_words(self) -> str | None:
        """The parts that are known to be missing, for messages."""
        word = _WORDS[self.name]
        if self.missing:
            return f"{word} ({', '.join(self.missing)})"
        return word if self.missing is None and not self.arrived else None


@dataclass(frozen=True)
class Results:
    """
    The progress of the results that a task waits for.

    :param kinds: the progress of each kind
    :param is_one_enough: whether the task waits only for whichever arrives first
    """

    kinds: tuple[Progress, ...]
    is_one_enough: bool

    @property
    def arrived(self) -> int:
        """How many parts have arrived; parts are never removed."""
        return sum(kind.arrived for kind in self.kinds)

    def have_arrived(self, before: int | None) -> bool:
        """
        Return whether there is nothing more to wait for.

        :param before: the number of parts at the previous poll; None if unknown
        """
        is_unchanged = self.arrived == before
        there = [kind for kind in self.kinds if kind.has_arrived(is_unchanged=is_unchanged)]
        return any(kind.arrived for kind in there) if self.is_one_enough else len(there) == len(self.kinds)

    @property
    def missing(self) -> str:
        """The results that are known to be missing, for messages; empty if none are."""
        if self.is_one_enough and self.arrived:
            return ""
        missing = [words for kind in self.kinds if (words := kind.missing_words)]
        return (" or " if self.is_one_enough else " and ").join(missing)


def overridden(plan: Any, override: Any) -> dict[str, Any]:
    """Return the assistant's plan with the call's overrides applied; both may have any type."""
    said = {name: value for name, value in _mapping(override).items() if value is not None}
    return {**_mapping(plan), **said}


def analysis_progress(analysis: Any, plan: Any) -> Progress:
    """Compare an analysis with its plan; both may have any type."""
    parts = {name for name, value in _mapping(analysis).items() if value not in (None, "", {}, [])}
    planned = _planned_parts(_mapping(plan))
    missing = tuple(name for name in planned if name not in parts) if planned else None
    return Progress(ANALYSIS, len(parts), missing)


def outputs_progress(outputs: Any, skipped: Any, plan: Any) -> Progress:
    """Compare structured outputs with their plan; all may have any type."""
    # Vapi stores null for an output that it could not extract.
    there = {id_: output for id_, output in _mapping(outputs).items() if "result" in _mapping(output)}
    there.update(_mapping(skipped))
    planned = _planned_outputs(_mapping(plan))
    known = [*there, *(_mapping(output).get("name") for output in there.values())]
    missing = tuple(str(clean_line(name)) for name in planned if name not in known) if planned else None
    return Progress(OUTPUTS, len(there), missing)


def _planned_parts(plan: Mapping[str, Any]) -> list[str]:
    """Return the parts of an analysis that a plan names; Vapi may add others by default."""
    planned = [
        part
        for name, (part, by_default) in _ANALYSIS_PARTS.items()
        if isinstance(plan.get(name), Mapping) and _is_enabled(plan[name], by_default)
    ]
    catalog = [_mapping(each).get("plan") for each in _list(plan.get("structuredDataMultiPlan"))]
    is_multi = any(_is_enabled(_mapping(each), by_default=False) for each in catalog)
    return [*planned, "structuredDataMulti"] if is_multi else planned


def _is_enabled(plan: Mapping[str, Any], by_default: bool) -> bool:
    enabled = plan.get("enabled")
    return by_default if enabled is None else enabled is True


def _planned_outputs(plan: Mapping[str, Any]) -> list[str]:
    """Return the ids of saved outputs, and the names of inline ones, whose ids the plan does not show."""
    names = [_mapping(each).get("name") for each in _list(plan.get("structuredOutputs"))]
    return [each for each in [*_list(plan.get("structuredOutputIds")), *names] if isinstance(each, str)]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
