# SPDX-License-Identifier: Apache-2.0
"""Tasks rename calls, with arguments from templates, params, other tasks and lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vapi_provider.simulator import Timeline, VapiSimulator

RunDag = Callable[..., Any]
EMPTY = (
    "none_id",
    "empty_id",
    "none_name",
    "empty_name",
    "wait_none_id",
    "wait_empty_id",
    "wait_none_connection",
)


def test_call_is_waited_for_and_renamed_by_the_result(simulator: VapiSimulator, run_dag: RunDag) -> None:
    call_id = simulator.add_call(timeline=Timeline(ringing=None, answered=None, ended=0.3, analysis=None))
    run = run_dag("wait_then_rename", call_id=call_id)
    assert run.state == "success"
    assert simulator.get_call(call_id)["name"] == "Reached: completed"
    (waited,), (renamed,) = run.results("wait"), run.results("rename")
    assert (waited["name"], renamed["name"]) == (None, "Reached: completed")
    assert {**waited, "name": None} == {**renamed, "name": None}
    assert run.links("wait") == run.links("rename") == [f"{simulator.url}/calls/{call_id}"]


def test_failed_wait_does_not_change_the_call(simulator: VapiSimulator, run_dag: RunDag) -> None:
    call_id = simulator.add_call(status="deletion-failed")
    run = run_dag("wait_then_rename", call_id=call_id)
    assert run.states("wait") == ["failed"]
    assert run.states("rename") == ["upstream_failed"]
    assert "name" not in simulator.get_call(call_id)


def test_each_call_of_a_list_is_renamed_and_linked(simulator: VapiSimulator, run_dag: RunDag) -> None:
    calls = [simulator.add_call(status="ended") for _ in range(4)]
    unknown = "019a7c2e-5f00-7000-8000-000000000001"
    renames = [
        {"call_id": calls[2], "name": "First"},
        {"call_id": calls[3], "name": "Second"},
        {"call_id": unknown, "name": "Third"},
        {"call_id": None, "name": "Fourth"},
    ]
    run = run_dag("rename_each", call_ids=calls[:2], renames=renames)
    assert run.states("same_name") == ["success", "success"]
    assert run.links("same_name") == [f"{simulator.url}/calls/{call_id}" for call_id in calls[:2]]
    assert run.states("own_names") == ["success", "success", "failed", "failed"]
    linked = [f"{simulator.url}/calls/{call_id}" for call_id in (calls[2], calls[3], unknown)]
    assert run.links("own_names") == [*linked, None]
    assert run.tries("own_names") == [1, 1, 1, 1]
    assert [call["name"] for call in simulator.calls.values()] == ["Reminder", "Reminder", "First", "Second"]


@pytest.mark.parametrize("kind", ["text", "native"])
def test_empty_template_sends_nothing(simulator: VapiSimulator, run_dag: RunDag, kind: str) -> None:
    # Only digits and dashes, which native rendering must not evaluate as arithmetic.
    call_id = simulator.add_call(body={"id": "12345678-1234-4123-8123-123456789012"})
    run = run_dag(f"empty_templates_{kind}", call_id=call_id, name="Reminder")
    assert {task_id: run.states(task_id) + run.tries(task_id) for task_id in EMPTY} == {
        task_id: ["failed", 1] for task_id in EMPTY
    }
    assert run.states("good") == ["success"]
    # A number is a valid name only as a string.
    assert run.states("number_name") == ["success" if kind == "text" else "failed"]
    sent = [request.path for request in simulator.requests]
    assert sent == [f"/call/{call_id}"] * (2 if kind == "text" else 1)
    messages = "\n".join(run.failures)
    assert messages.count("call_id is empty (got ") == 4
    missing = "a template, or an expression in it, rendered to None or an empty string"
    assert messages.count(f" name: {missing}") == 2
    assert messages.count(f"name for call {call_id} ") == (0 if kind == "text" else 1)
    assert messages.count(f"vapi_conn_id: {missing}") == 1
