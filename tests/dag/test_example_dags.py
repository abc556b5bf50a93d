# SPDX-License-Identifier: Apache-2.0
"""The examples, and the README's shortest DAG, work as described."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from markdown_pages import ROOT, block_with

from vapi_provider.simulator import StructuredOutput, Timeline, VapiSimulator

EXAMPLES = sorted((ROOT / "example_dags").glob("example_*.py"))
README_DAGS = Path(os.environ["AIRFLOW_HOME"]) / "dags"

Runner = Callable[..., tuple[str, dict[str, list[str]], Any]]


@pytest.fixture
def run_example(
    machinery: None,
    load_dag_file: Callable[[Path], ModuleType],
    simulator: VapiSimulator,
    monkeypatch: pytest.MonkeyPatch,
) -> Runner:
    """Run an example to its end, and return the run's state, the states of its tasks and the run."""
    sleep = time.sleep
    # ``dag.test()`` and the sensors sleep for whole seconds, or minutes.
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.02)))

    def run(example: str | Path, **arguments: Any) -> tuple[str, dict[str, list[str]], Any]:
        named = ROOT / "example_dags" / f"example_vapi_{example}.py"
        dag = load_dag_file(example if isinstance(example, Path) else named).dag
        for task in dag.tasks:
            # ``dag.test()`` waits for the next poke of a rescheduled task in real time.
            if "poke_interval" in getattr(task, "partial_kwargs", ()):
                task.partial_kwargs["poke_interval"] = 0.01
            elif hasattr(task, "poke_interval"):
                task.poke_interval = 0.01
        finished = dag.test(**arguments)
        states: dict[str, list[str]] = {}
        for ti in finished.get_task_instances():
            states.setdefault(ti.task_id, []).append(str(ti.state))
        return str(finished.state), states, finished

    return run


def result(run: Any, task_id: str) -> Any:
    return run.get_task_instance(task_id).xcom_pull(task_ids=task_id)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_contains_no_real_number_or_secret(path: Path) -> None:
    # Numbers from +1 202 555 0100 to 0199 are reserved for fiction.
    assert not re.search(r"\+(?!120255501\d\d\b)\d{6,}|password|api_key", path.read_text(encoding="utf-8"))


def test_examples_do_not_import_the_simulator() -> None:
    program = f"""
import runpy, sys
for path in {[str(path) for path in EXAMPLES]!r}:
    runpy.run_path(path)
print("vapi_provider.simulator" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_rename_call_names_the_call_after_its_outcome(run_example: Runner, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(timeline=Timeline(ringing=0.1, answered=0.2, ended=0.5, analysis=None))
    state, _, run = run_example("rename_call", run_conf={"call_id": call_id})
    assert state == "success"
    assert simulator.get_call(call_id)["name"] == "Reminder: completed"
    assert result(run, "rename_call")["name"] == "Reminder: completed"


@pytest.mark.parametrize(
    ("reason", "taken", "skipped"),
    [
        ("customer-ended-call", "store_answer", "call_again_later"),
        ("customer-did-not-answer", "call_again_later", "store_answer"),
    ],
)
def test_branch_on_outcome_takes_the_right_branch(
    run_example: Runner, simulator: VapiSimulator, reason: str, taken: str, skipped: str
) -> None:
    confirmed = StructuredOutput("Appointment confirmed", True)
    plan = {"artifactPlan": {"structuredOutputIds": [confirmed.id]}}
    call_id = simulator.add_call(status="in-progress", body={"assistant": plan})
    simulator.end_call(call_id, reason)
    simulator.add_structured_output(call_id, confirmed)
    state, states, run = run_example("branch_on_outcome", run_conf={"call_id": call_id})
    assert state == "success"
    assert (states[taken], states[skipped]) == (["success"], ["skipped"])
    if taken == "store_answer":
        assert result(run, taken) is True


def test_branch_on_outcome_fails_for_a_technical_failure(
    run_example: Runner, simulator: VapiSimulator
) -> None:
    call_id = simulator.add_call()
    simulator.end_call(call_id, "pipeline-error-openai-llm-failed")
    state, states, _ = run_example("branch_on_outcome", run_conf={"call_id": call_id})
    assert state == "failed"
    assert states["wait_for_call"] == ["failed"]


def test_nightly_labels_names_only_ended_calls_of_the_day(
    run_example: Runner, simulator: VapiSimulator
) -> None:
    def call(created_at: str, reason: str | None) -> str:
        call_id = simulator.add_call(body={"createdAt": created_at, "updatedAt": created_at})
        if reason:
            simulator.end_call(call_id, reason)
        return call_id

    reached = call("2026-03-10T09:00:00.000Z", "customer-ended-call")
    missed = call("2026-03-10T23:59:59.999Z", "voicemail")
    still_live = call("2026-03-10T12:00:00.000Z", None)
    day_before = call("2026-03-09T23:59:59.999Z", "customer-ended-call")
    day_after = call("2026-03-11T00:00:00.000Z", "customer-ended-call")
    night = {"logical_date": datetime(2026, 3, 11, tzinfo=timezone.utc)}
    for _ in range(2):
        # The second run stands for a clear, and must do the same again.
        state, states, _ = run_example("nightly_labels", **night)
        assert state == "success"
        assert states["label_call"] == ["success", "success"]
        names = {call_id: body.get("name") for call_id, body in simulator.calls.items()}
        assert names == {
            reached: "Nightly: completed",
            missed: "Nightly: no_answer",
            still_live: None,
            day_before: None,
            day_after: None,
        }


def test_nightly_labels_require_a_logical_date(
    run_example: Runner, simulator: VapiSimulator, capfd: pytest.CaptureFixture[str]
) -> None:
    simulator.add_call(status="ended")
    state, states, _ = run_example("nightly_labels", logical_date=None)
    assert (state, states["calls_to_label"]) == ("failed", ["failed"])
    assert "This run has no data interval. Trigger it with a logical date" in capfd.readouterr().out
    # Without bounds, it must not list all calls.
    assert simulator.requests == []


def test_nightly_export_writes_the_day_and_copies_recordings(
    run_example: Runner, simulator: VapiSimulator, tmp_path: Path
) -> None:
    def call(created_at: str, reason: str) -> str:
        ended = {
            "createdAt": created_at,
            "updatedAt": created_at,
            "endedAt": created_at,
            "endedReason": reason,
        }
        return simulator.add_call(status="ended", body=ended)

    completed = call("2026-03-10T09:00:00.000Z", "customer-ended-call")
    silent = call("2026-03-10T10:00:00.000Z", "customer-ended-call")
    missed = call("2026-03-10T23:59:59.999Z", "voicemail")
    call("2026-03-11T00:00:00.000Z", "customer-ended-call")
    for recorded in (completed, missed):
        simulator.add_artifact(recorded, "mono-recording", b"RIFF")
    night = {
        "logical_date": datetime(2026, 3, 11, tzinfo=timezone.utc),
        "run_conf": {"archive": f"file://{tmp_path}"},
    }
    contents = set()
    for copied in ("success", "skipped"):
        state, states, run = run_example("nightly_export", **night)
        assert state == "success"
        assert sorted(states["copy_recording"]) == sorted(["skipped", copied])
        [path] = (tmp_path / "calls").iterdir()
        assert result(run, "export_calls")["path"] == f"file://{path}"
        contents.add(path.read_bytes())
        assert [path.name for path in tmp_path.glob("recordings/*/*")] == [f"{completed}-mono.wav"]
    [content] = contents
    ids = [json.loads(line)["id"] for line in gzip.decompress(content).splitlines()]
    assert ids == [missed, silent, completed]


def test_scheduled_call_is_waited_for_between_pokes(run_example: Runner, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="scheduled")

    def let_it_happen() -> None:
        while not simulator.requests:
            threading.Event().wait(0.01)
        simulator.end_call(call_id)

    leader = threading.Thread(target=let_it_happen)
    leader.start()
    state, states, run = run_example("scheduled_call", run_conf={"call_id": call_id})
    leader.join()
    assert state == "success"
    assert states["wait_for_call"] == ["success"]
    assert "US dollars" in result(run, "report")


def test_cancelled_scheduled_call_is_skipped(run_example: Runner, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="scheduled")
    simulator.end_call(call_id, "scheduled-call-deleted")
    _, states, _ = run_example("scheduled_call", run_conf={"call_id": call_id})
    assert states == {"wait_for_call": ["skipped"], "report": ["skipped"]}


def test_wait_for_batch_defers_and_counts(
    run_example: Runner, simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vapi_provider.triggers.call.SETTLE_SECONDS", 0.05)
    monkeypatch.setattr("vapi_provider.polling.poller.MIN_INTERVAL_SECONDS", 0.05)
    simulator.end_call(simulator.add_call())
    reasons = {
        simulator.add_call(status="in-progress"): reason
        for reason in ("customer-ended-call", "customer-did-not-answer", "assistant-ended-call")
    }

    def end_each_once_it_was_read() -> None:
        waiting = dict(reasons)
        while waiting:
            threading.Event().wait(0.01)
            for call_id in {request.path.removeprefix("/call/") for request in simulator.requests} & set(
                waiting
            ):
                simulator.end_call(call_id, waiting.pop(call_id))

    threading.Thread(target=end_each_once_it_was_read, daemon=True).start()
    state, states, run = run_example("wait_for_batch")
    assert state == "success"
    assert states["wait_for_call"] == ["success"] * 3
    assert result(run, "count_outcomes") == {"completed": 2, "no_answer": 1}


def test_on_call_ended_labels_each_call_once(
    run_example: Runner, simulator: VapiSimulator, load_dag_file: Callable[[Path], ModuleType]
) -> None:
    calls = [simulator.add_call(status="ended") for _ in range(2)]
    simulator.end_call(missed := simulator.add_call(), "customer-busy")
    path = ROOT / "example_dags" / "example_vapi_on_call_ended.py"
    labels = load_dag_file(path).dag.get_task("labels").python_callable
    asset = load_dag_file(path).ended_calls
    payloads = [{"call_id": call_id, "outcome": "completed"} for call_id in (*calls, calls[0])]
    payloads.append({"call_id": missed, "outcome": "no_answer"})
    # As Airflow passes them, one of them made by hand.
    events = [SimpleNamespace(extra={"payload": payload}) for payload in payloads]
    events.append(SimpleNamespace(extra={}))

    class TriggeringEvents:
        # A dictionary will not do, because assets of Airflow 3.0 are not hashable.
        def __getitem__(self, key: Any) -> list[SimpleNamespace]:
            return {asset.uri: events}[key.uri]

    assert labels(TriggeringEvents()) == [
        *({"call_id": call_id, "name": "Ended: completed"} for call_id in calls),
        {"call_id": missed, "name": "Ended: no_answer"},
    ]


def test_phone_on_call_places_one_call_for_a_failed_run(
    simulator: VapiSimulator, load_dag_file: Callable[[Path], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = load_dag_file(ROOT / "example_dags" / "example_vapi_phone_on_call.py").dag
    values = {
        "on_call_number": "+12025550143",
        "vapi_alert_assistant": "0198a3f0-0000-7000-8000-000000000002",
        "vapi_phone_number": "0198a3f0-0000-7000-8000-000000000003",
    }
    context = {
        "dag": dag,
        "run_id": "run 1",
        "reason": "task_failure",
        "var": {"value": SimpleNamespace(**values)},
    }
    for _ in range(2):
        dag.on_failure_callback(context)
    (call,) = simulator.calls.values()
    assert call["customer"]["number"] == "+12025550143"
    message = call["assistantOverrides"]["variableValues"]["message"]
    assert message == "example_vapi_phone_on_call failed: task_failure"


@pytest.mark.parametrize(
    ("ended_reason", "chosen", "skipped"),
    [("customer-ended-call", "reached", "follow_up"), ("voicemail", "follow_up", "reached")],
)
def test_shortest_dag_of_the_readme(
    run_example: Runner, simulator: VapiSimulator, ended_reason: str, chosen: str, skipped: str
) -> None:
    path = README_DAGS / "readme_dag.py"
    path.write_text(block_with("README.md", "remind_customer"), encoding="utf-8")
    simulator.timeline = Timeline(ringing=0, answered=0, ended=0, analysis=0, ended_reason=ended_reason)
    state, states, _ = run_example(path)
    assert state == "success"
    assert (states[chosen], states[skipped]) == (["success"], ["skipped"])
    assert simulator.rings == {"+12025550143": 1}
