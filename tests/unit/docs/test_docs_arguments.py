# SPDX-License-Identifier: Apache-2.0
"""The tables of arguments and decisions in the documentation match the code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from markdown_pages import code_in, columns, sentence, table

from vapi_provider.client.arguments import check_page_size
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.operators.call import VapiCreateCallOperator, VapiUpdateCallOperator
from vapi_provider.placing.decision import RULES, Rule
from vapi_provider.placing.hours import DAYS, CallingHours
from vapi_provider.placing.mixin import CHOICES
from vapi_provider.placing.request import Customer
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.transfers.calls_to_object_storage import CallsExport, VapiCallsToObjectStorageOperator
from vapi_provider.transfers.recording_to_object_storage import (
    RecordingExport,
    VapiRecordingToObjectStorageOperator,
)
from vapi_provider.waiting import given

CALL_ID = "0198a3f0-0000-7000-8000-000000000001"


# How the tables write the types of the code.
TYPES = {
    "CallingHours": "dict",
    "Customer": "dict",
    "Iterable[CallOutcome | str]": "list",
    "Iterable[str]": "list",
    "Mapping[str, Any]": "dict",
    "Mapping[str, datetime | str]": "dict",
    "bool": "bool",
    "datetime | str": "datetime or str",
    "float | timedelta": "float or timedelta",
    "int": "int",
    "str": "str",
    "str | CallSummary": "str or dict",
}


def written(annotation: str) -> str:
    """Write a type as the tables do: without None, and without the outputs of other tasks."""
    if annotation.startswith("Literal["):
        return "str"
    return TYPES[annotation.removesuffix(" | None").removesuffix(" | XComArg")]


def check_arguments(
    rows: list[dict[str, str]], function: Callable[..., Any], *, inherited: Sequence[str] = ()
) -> None:
    """Compare a table of arguments with a function: none is missing, and types and defaults match."""
    parameters = dict(inspect.signature(function).parameters)
    own = [name for name in parameters if name not in ("self", "kwargs")]
    assert [code_in(row[""])[0] for row in rows] == [*own, *inherited]
    for row in rows:
        argument, default = code_in(row[""])[0], row["default"]
        if argument not in own:
            continue
        if re.fullmatch(r"`[^`]+`", default):
            assert repr(parameters[argument].default) == default.strip("`").replace('"', "'"), argument
        if not default:
            assert parameters[argument].default is inspect.Parameter.empty, argument
        if "type" in row:
            assert row["type"] == written(parameters[argument].annotation), argument


def check_templated(rows: list[dict[str, str]], kind: Any) -> None:
    templated = [code_in(row[""])[0] for row in rows if row["templated"] == "yes"]
    assert sorted(templated) == sorted(kind.template_fields)
    assert {row["templated"] for row in rows} <= {"yes", ""}


def test_arguments_of_the_update_operator() -> None:
    rows = columns("outcomes.md", "| argument |")
    check_arguments(rows, VapiUpdateCallOperator.__init__)
    check_templated(rows, VapiUpdateCallOperator)


def test_arguments_of_the_create_operator() -> None:
    rows = columns("placing.md", "| argument |")
    check_arguments(rows, VapiCreateCallOperator.__init__)
    check_templated(rows, VapiCreateCallOperator)
    made = VapiCreateCallOperator(
        task_id="call", assistant_id="x", phone_number_id="y", customer={"number": "+12025550143"}
    )
    shown = {code_in(row[""])[0]: row["default"] for row in rows}
    assert shown["deferrable"].endswith(f"`{made.deferrable}`")
    assert (made.timeout, shown["timeout"]) == (12 * 3600, "12 hours")


def test_arguments_of_list_calls() -> None:
    check_arguments(columns("api.md", "| argument of `list_calls` |"), VapiHook.list_calls)


def test_bounds_of_the_page_size() -> None:
    [row] = [row for row in columns("api.md", "| argument of `list_calls` |") if "page_size" in row[""]]
    assert row["meaning"].endswith(", 1 to 1,000")
    assert [check_page_size(size) for size in (1, 1000)] == [1, 1000]
    for size in (0, 1001):
        with pytest.raises(ValueError, match="page_size"):
            check_page_size(size)


def test_arguments_without_effect() -> None:
    listed = sentence("placing.md", r"anything but their default is refused: (.*?)\. Values")
    assert {name.partition("=")[0] for name in code_in(listed)} == given.ONLY_WHILE_WAITING.keys()


def test_keys_of_calling_hours() -> None:
    rows = table("campaigns.md", "| key of `calling_hours` |")
    assert [code_in(row[0])[0] for row in rows] == list(CallingHours.__annotations__)
    assert code_in(rows[3][2]) == list(DAYS)


def test_choices_outside_the_hours_and_over_the_limit() -> None:
    rows = table("campaigns.md", "| `outside_hours` |")
    assert [code_in(row[0])[0].strip('"') for row in rows] == list(CHOICES["outside_hours"])


def test_keys_of_a_customer() -> None:
    rows = columns("placing.md", "| key of `customer` |")
    kinds = {name: written(kind.__forward_arg__) for name, kind in Customer.__annotations__.items()}
    assert [(code_in(row[""])[0], row["type"]) for row in rows] == list(kinds.items())


def row_of(rule: Rule) -> list[str]:
    """Write a rule of the decision as the page shows it."""
    besides = {
        "try 1 of a run that was never cleared": rule.is_first_try is True,
        "the last possible sending is too recent": rule.is_settled is False,
        "this try has sent the request": rule.has_sent is True,
        "this try has sent nothing": rule.has_sent is False,
    }
    conditions = [rule.is_first_try, rule.is_settled, rule.has_sent]
    assert sum(besides.values()) == sum(condition is not None for condition in conditions)
    return [
        rule.name,
        ", ".join(recorded.value for recorded in rule.recorded or ()) or "any",
        ", ".join(found.value for found in rule.found or ()) or "any",
        "; ".join(text for text, holds in besides.items() if holds),
        rule.step.value,
        rule.because,
    ]


def test_table_of_decisions() -> None:
    assert table("how-it-works.md", "| row | recorded") == [row_of(rule) for rule in RULES]


def test_arguments_of_the_sensor() -> None:
    rows = columns("waiting.md", "| argument |")
    check_arguments(rows, VapiCallSensor.__init__, inherited=["timeout", "soft_fail", "mode"])
    check_templated(rows, VapiCallSensor)
    made = VapiCallSensor(task_id="wait", call_id=CALL_ID)
    shown = {code_in(row[""])[0]: row["default"] for row in rows}
    assert shown["soft_fail"] == f"`{made.soft_fail}`"
    assert shown["mode"] == f'`"{made.mode}"`'
    assert shown["deferrable"].endswith(f"`{made.deferrable}`")
    assert (made.timeout, shown["timeout"]) == (7 * 24 * 3600, "7 days")


def test_arguments_of_the_transfers() -> None:
    for header, kind in (
        ("| argument |", VapiCallsToObjectStorageOperator),
        ("| argument of the recording operator |", VapiRecordingToObjectStorageOperator),
    ):
        rows = columns("exporting.md", header)
        check_arguments(rows, kind.__init__)
        check_templated(rows, kind)


def test_results_of_the_transfers() -> None:
    calls = sentence("exporting.md", r"The task returns (.*?)\. The same")
    recording = sentence("exporting.md", r"It returns (.*?)\. The events")
    assert code_in(calls) == list(CallsExport.__annotations__)
    assert code_in(recording) == list(RecordingExport.__annotations__)
