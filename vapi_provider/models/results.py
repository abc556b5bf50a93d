# SPDX-License-Identifier: Apache-2.0
"""How far the results of a call are, which Vapi computes one by one after its end: the analysis, structured outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vapi_provider.models.cleaning import clean_line

ANALYSIS = "analysis"
OUTPUTS = "structured_outputs"

ARRIVED = "All results of call {} that it waits for have arrived."
"""The message of a trigger that has seen them, at two polls where the call shows no plan."""

_WORDS = {ANALYSIS: "analysis", OUTPUTS: "structured outputs"}
_ANALYSIS_PARTS = {
    "summaryPlan": ("summary", True),
    "structuredDataPlan": ("structuredData", False),
    "successEvaluationPlan": ("successEvaluation", True),
}
"""Which part each plan asks for, and whether it does so unless it says otherwise."""


def wanted_results(include: Iterable[str]) -> tuple[str, ...]:
    """Return which results a task waits for that includes this content; none of them means whichever comes first."""
    names = set(include)
    return tuple(name for name in _WORDS if name in names)


def in_words(wanted: tuple[str, ...]) -> str:
    """Name the results that are waited for."""
    return " and ".join(_WORDS[name] for name in wanted or tuple(_WORDS))


@dataclass(frozen=True)
class Progress:
    """
    How far one kind of results is.

    :param name: its name, as in ``include``
    :param arrived: how many of its parts are there
    :param missing: the parts that its plan asks for and that are not there; None where the call shows no plan
    """

    name: str
    arrived: int
    missing: tuple[str, ...] | None

    def has_arrived(self, *, is_unchanged: bool) -> bool:
        """Return whether all of it is there: by its plan, else because nothing was added between two polls."""
        return not self.missing if self.missing is not None else is_unchanged and self.arrived > 0

    @property
    def missing_words(self) -> str | None:
        """What is known to be missing."""
        word = _WORDS[self.name]
        if self.missing:
            return f"{word} ({', '.join(self.missing)})"
        return word if self.missing is None and not self.arrived else None


@dataclass(frozen=True)
class Results:
    """
    How far the results are that a task waits for.

    :param kinds: the progress of each kind
    :param is_one_enough: whether the task waits for whichever comes first
    """

    kinds: tuple[Progress, ...]
    is_one_enough: bool

    @property
    def arrived(self) -> int:
        """How many parts are there; they are only ever added."""
        return sum(kind.arrived for kind in self.kinds)

    def have_arrived(self, before: int | None) -> bool:
        """
        Return whether there is nothing more to wait for.

        :param before: how many parts were there at the poll before; None when that is not known
        """
        is_unchanged = self.arrived == before
        there = [kind for kind in self.kinds if kind.has_arrived(is_unchanged=is_unchanged)]
        return any(kind.arrived for kind in there) if self.is_one_enough else len(there) == len(self.kinds)

    @property
    def missing(self) -> str:
        """What is known to be missing, in words; empty where nothing is."""
        if self.is_one_enough and self.arrived:
            return ""
        return " and ".join(words for kind in self.kinds if (words := kind.missing_words))


def overridden(plan: Any, override: Any) -> dict[str, Any]:
    """Return the plan of a call: what its overrides do not say is as the assistant has it; each may be anything."""
    said = {name: value for name, value in _mapping(override).items() if value is not None}
    return {**_mapping(plan), **said}


def analysis_progress(analysis: Any, plan: Any) -> Progress:
    """Compare an analysis with the plan for it; each may be anything."""
    parts = {name for name, value in _mapping(analysis).items() if value not in (None, "", {}, [])}
    planned = _planned_parts(_mapping(plan))
    missing = tuple(name for name in planned if name not in parts) if planned else None
    return Progress(ANALYSIS, len(parts), missing)


def outputs_progress(outputs: Any, skipped: Any, plan: Any) -> Progress:
    """Compare structured outputs with the plan for them; each may be anything."""
    # A result of null is what Vapi stores for one that it could not extract.
    there = {id_: output for id_, output in _mapping(outputs).items() if "result" in _mapping(output)}
    there.update(_mapping(skipped))
    planned = _planned_outputs(_mapping(plan))
    known = [*there, *(_mapping(output).get("name") for output in there.values())]
    missing = tuple(str(clean_line(name)) for name in planned if name not in known) if planned else None
    return Progress(OUTPUTS, len(there), missing)


def _planned_parts(plan: Mapping[str, Any]) -> list[str]:
    """Return the parts of an analysis that a plan asks for; it need not name those that Vapi makes anyway."""
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
    """Return the ids of saved outputs, and the names of those defined in the plan itself, whose ids it does not show."""
    names = [_mapping(each).get("name") for each in _list(plan.get("structuredOutputs"))]
    return [each for each in [*_list(plan.get("structuredOutputIds")), *names] if isinstance(each, str)]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
