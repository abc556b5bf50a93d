# SPDX-License-Identifier: Apache-2.0
"""The tables of arguments and decisions in the documentation match the code."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Sequence

from markdown_pages import code_in, sentence, table

from vapi_provider.operators.call import VapiCreateCallOperator, VapiUpdateCallOperator
from vapi_provider.placing.decision import RULES, Rule
from vapi_provider.placing.request import Customer
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import Fault, VapiSimulator
from vapi_provider.simulator.timeline import DEFAULT_TIMELINE
from vapi_provider.transfers.calls_to_object_storage import CallsExport, VapiCallsToObjectStorageOperator
from vapi_provider.transfers.recording_to_object_storage import (
    RecordingExport,
    VapiRecordingToObjectStorageOperator,
)
from vapi_provider.waiting import mixin

CALL_ID = "0198a3f0-0000-7000-8000-000000000001"


def check_arguments(rows: list[list[str]], kind: type, *, inherited: Sequence[str] = ()) -> None:
    """Compare a table of arguments with a class: no argument is missing, and defaults match."""
    parameters = dict(inspect.signature(kind.__init__).parameters)
    own = parameters.keys() - {"self", "kwargs"}
    assert {code_in(row[0])[0] for row in rows} == own | set(inherited)
    for first, _, default in rows:
        argument = code_in(first)[0]
        if re.fullmatch(r"`[^`]+`", default) and argument in own:
            assert repr(parameters[argument].default) == default.strip("`").replace('"', "'"), argument
        if not default:
            assert parameters[argument].default is inspect.Parameter.empty, argument
        templated = getattr(kind, "template_fields", ())
        assert ("(templated)" in first) == (argument in templated), argument


def test_arguments_of_the_update_operator() -> None:
    check_arguments(table("operators.md", "| argument |"), VapiUpdateCallOperator)


def test_arguments_of_the_create_operator() -> None:
    rows = table("placing.md", "| argument |")
    check_arguments(rows, VapiCreateCallOperator)
    names = [name for name in inspect.signature(VapiCreateCallOperator).parameters if name != "kwargs"]
    assert [code_in(row[0])[0] for row in rows] == names
    made = VapiCreateCallOperator(
        task_id="call", assistant_id="x", phone_number_id="y", customer={"number": "+12025550143"}
    )
    shown = {code_in(row[0])[0]: row[2] for row in rows}
    assert shown["deferrable"].endswith(f"`{made.deferrable}`")
    assert (made.timeout, shown["timeout"]) == (12 * 3600, "12 hours")


def test_arguments_without_effect() -> None:
    listed = sentence("placing.md", r"the arguments without effect are (.*?), unless they have their default")
    assert {name.partition("=")[0] for name in code_in(listed)} == mixin._ONLY_WHILE_WAITING.keys()


def test_keys_of_a_customer() -> None:
    rows = table("placing.md", "| key of `customer` |")
    assert [code_in(row[0])[0] for row in rows] == list(Customer.__annotations__)


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
    assert table("placing.md", "| row | recorded") == [row_of(rule) for rule in RULES]


def test_arguments_of_the_sensor() -> None:
    rows = table("sensor.md", "| argument |")
    check_arguments(rows, VapiCallSensor, inherited=["timeout", "soft_fail", "mode"])
    made = VapiCallSensor(task_id="wait", call_id=CALL_ID)
    shown = {code_in(row[0])[0]: row[2] for row in rows}
    assert shown["soft_fail"] == f"`{made.soft_fail}`"
    assert shown["mode"] == f'`"{made.mode}"`'
    assert shown["deferrable"].endswith(f"`{made.deferrable}`")
    assert (made.timeout, shown["timeout"].partition(", ")[2]) == (7 * 24 * 3600, "7 days")


def test_arguments_of_the_transfers() -> None:
    check_arguments(table("exporting.md", "| argument |"), VapiCallsToObjectStorageOperator)
    check_arguments(table("exporting.md", "| argument of it |"), VapiRecordingToObjectStorageOperator)


def test_results_of_the_transfers() -> None:
    calls = sentence("exporting.md", r"The task returns (.*?)\. The same")
    recording = sentence("exporting.md", r"It returns (.*?)\. The extension")
    assert code_in(calls) == list(CallsExport.__annotations__)
    assert code_in(recording) == list(RecordingExport.__annotations__)


def test_arguments_of_the_simulator() -> None:
    check_arguments(table("simulator.md", "| argument of `VapiSimulator`"), VapiSimulator)
    assert DEFAULT_TIMELINE.ended == 10


def test_fields_of_a_fault() -> None:
    named = [field for row in table("simulator.md", "| field |") for field in code_in(row[0])]
    assert sorted(named) == sorted(field.name for field in dataclasses.fields(Fault))
