# SPDX-License-Identifier: Apache-2.0
"""``call_id=call.output``: only the id of the summary is used, and nothing else of it is stored or shown."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from vapi_provider.simulator import Timeline, VapiSimulator

SENSORS = ("wait_poke", "wait_reschedule", "wait_deferrable")
TASKS = (*SENSORS, "rename")
SOON = Timeline(ringing=None, answered=None, ended=0.3, analysis=None)

LeftBehind = Callable[[VapiSimulator], dict[str, str]]
RunDag = Callable[..., Any]


@pytest.fixture(autouse=True)
def _nothing_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vapi_provider.triggers.call.SETTLE_SECONDS", 0.05)
    monkeypatch.setattr("vapi_provider.polling.poller.MIN_INTERVAL_SECONDS", 0.05)


@pytest.fixture
def said() -> str:
    """Words said in a call, which are easy to find wherever they end up."""
    return f"mark-{uuid.uuid4().hex}"


@pytest.fixture
def returns(dag_module: ModuleType) -> Iterator[Callable[..., None]]:
    """Set the upstream task's results."""

    def set_outputs(*outputs: Any) -> None:
        dag_module.outputs[:] = outputs

    yield set_outputs
    dag_module.outputs.clear()


def summary_of(call_id: str, said: str) -> dict[str, Any]:
    return {"id": call_id, "status": "ended", "outcome": "completed", "transcript": f"User: {said}"}


def places(left: dict[str, str], said: str) -> list[str]:
    return [where for where, text in left.items() if said in text]


def rendered(left: dict[str, str], call_id: str) -> int:
    return left["rendered_task_instance_fields"].count(json.dumps(call_id))


def test_upstream_summary_works_as_call_id(
    simulator: VapiSimulator,
    run_dag: RunDag,
    returns: Callable[..., None],
    said: str,
    left_behind: LeftBehind,
) -> None:
    call_id = simulator.add_call(timeline=SOON)
    returns(summary_of(call_id, said))
    run = run_dag("use_output")
    assert run.state == "success"
    assert [run.results(task_id)[0]["id"] for task_id in TASKS] == [call_id] * 4
    assert simulator.get_call(call_id)["name"] == "Reached"
    left = left_behind(simulator)
    # Only the upstream task's own XCom.
    assert places(left, said) == ["xcom"]
    assert left["xcom"].count(said) == 1
    assert rendered(left, call_id) == len(TASKS)
    assert call_id in left["stdout"]


def test_mapped_summaries_work_as_call_ids(
    simulator: VapiSimulator,
    run_dag: RunDag,
    returns: Callable[..., None],
    said: str,
    left_behind: LeftBehind,
) -> None:
    call_ids = [simulator.add_call(timeline=SOON) for _ in range(2)]
    returns(*(summary_of(call_id, said) for call_id in call_ids))
    run = run_dag("use_each_output")
    assert run.state == "success"
    for task_id in TASKS:
        assert [result["id"] for result in run.results(task_id)] == call_ids
    left = left_behind(simulator)
    assert places(left, said) == ["xcom"]
    assert left["xcom"].count(said) == len(call_ids)
    assert [rendered(left, call_id) for call_id in call_ids] == [len(TASKS)] * 2


def test_output_of_placed_calls_works_as_call_ids(
    simulator: VapiSimulator, run_dag: RunDag, dag_module: ModuleType, said: str, left_behind: LeftBehind
) -> None:
    simulator.timeline = Timeline(ringing=0, answered=0, ended=0, analysis=0, transcript=f"User: {said}")
    dag_module.people[:] = [{"customer": {"number": f"+1202555013{digit}"}} for digit in range(2)]
    run = run_dag("place_then_use_output")
    assert run.state == "success"
    # The first callee is called by two tasks.
    assert simulator.rings == {"+12025550130": 2, "+12025550131": 1}
    for placed, *users in (("call", "wait", "rename"), ("call_each", "wait_each", "rename_each")):
        transcripts = [result["transcript"] for result in run.results(placed)]
        assert [text for text in transcripts if said not in text] == []
        for task_id in users:
            assert [result["id"] for result in run.results(task_id)] == run.call_ids(placed)
    left = left_behind(simulator)
    assert places(left, said) == ["xcom"]
    assert left["xcom"].count(said) == 3


@pytest.mark.parametrize(
    ("dag_id", "problem"),
    [
        pytest.param("use_output", "a dict without an id", id="mapping-without-id"),
        pytest.param("use_each_output", "a dict without an id", id="mapped-mapping-without-id"),
        pytest.param("use_template_of_output", "a dict rendered to a string", id="text-of-a-mapping"),
    ],
)
def test_invalid_summary_fails_at_once_and_is_not_shown(
    simulator: VapiSimulator,
    run_dag: RunDag,
    returns: Callable[..., None],
    said: str,
    left_behind: LeftBehind,
    dag_id: str,
    problem: str,
) -> None:
    summary = summary_of(simulator.add_call(), said)
    if dag_id != "use_template_of_output":
        del summary["id"]
    returns(summary)
    run = run_dag(dag_id)
    assert {task_id: (run.states(task_id), run.tries(task_id)) for task_id in TASKS} == {
        task_id: (["failed"], [1]) for task_id in TASKS
    }
    assert run.failures == [
        f"VapiConfigurationError: call_id is {problem}; pass a call id, or the summary itself "
        "(call_id=call.output, not a template)."
    ] * len(TASKS)
    assert simulator.requests == []
    left = left_behind(simulator)
    assert places(left, said) == ["xcom"]
    assert left["xcom"].count(said) == 1
