# SPDX-License-Identifier: Apache-2.0
"""Transfers in DAG runs: intervals, retries, asset events, mapped data and secrets."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from left_behind import shown_by

from airflow import __version__ as airflow_version
from vapi_provider.simulator import Fault, VapiSimulator

AT = "2026-03-10T12:00:00.000Z"
NIGHT = datetime(2026, 3, 11, tzinfo=timezone.utc)
SAID = "said in an exported call"

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def dag_file(load_dag_file: Callable[[Path], ModuleType]) -> ModuleType:
    return load_dag_file(Path(__file__).parent / "dags" / "transfers.py")


@pytest.fixture
def run(
    machinery: None, dag_file: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Run]:
    """Run a DAG to its end, and return the run."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.02)))

    def go(name: str, *, conf: Any = None, **arguments: Any) -> Any:
        dag_file.failures.clear()
        return getattr(dag_file, name).test(
            run_conf={"folder": f"file://{tmp_path}", **(conf or {})}, **arguments
        )

    yield go
    dag_file.records.clear()


def add(simulator: VapiSimulator, created_at: str = AT, **body: Any) -> str:
    ended = {"createdAt": created_at, "updatedAt": created_at, "endedAt": created_at}
    return simulator.add_call(status="ended", body={**ended, **body})


def result(run: Any, task_id: str = "export") -> Any:
    return run.get_task_instance(task_id).xcom_pull(task_ids=task_id)


@pytest.mark.parametrize("name", ["interval", "trigger"])
def test_data_interval_is_exported_by_default(
    run: Run, simulator: VapiSimulator, tmp_path: Path, name: str
) -> None:
    expected = add(simulator)
    add(simulator, "2026-03-09T23:59:59.999Z")
    add(simulator, "2026-03-11T00:00:00.000Z")
    finished = run(name, logical_date=NIGHT)
    assert finished.state == "success"
    [line] = (tmp_path / "calls.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == expected


def test_failure_of_a_template_is_named(run: Run, simulator: VapiSimulator, dag_file: ModuleType) -> None:
    assert run("broken_bound").state == "failed"
    assert "created_at_ge: its template failed (" in str(dag_file.failures[0])
    assert "has no attribute 'subtract'" in str(dag_file.failures[0])
    assert simulator.requests == []


def test_failure_of_a_template_shows_no_value(run: Run, dag_file: ModuleType) -> None:
    assert run("broken_path", conf={"customer": "Ada"}).state == "failed"
    assert "path: its template failed (it reads a value that does not exist)" in str(dag_file.failures[0])
    assert "Ada" not in str(dag_file.failures[0])


@pytest.mark.parametrize("name", ["daily", "no_interval"])
def test_run_without_an_interval_fails_with_advice(
    run: Run, simulator: VapiSimulator, dag_file: ModuleType, name: str
) -> None:
    finished = run(name, logical_date=NIGHT if name == "daily" else None)
    assert finished.state == "failed"
    [failure] = dag_file.failures
    assert "CronDataIntervalTimetable" in str(failure)
    assert simulator.requests == []
    # A retry would not help.
    assert finished.get_task_instance("export").try_number == 1


def test_path_with_an_empty_value_is_refused(
    run: Run, simulator: VapiSimulator, dag_file: ModuleType
) -> None:
    assert run("missing").state == "failed"
    assert "path: a template, or an expression in it, rendered to None" in str(dag_file.failures[0])
    assert simulator.requests == []


def test_unfinished_call_is_retried_until_it_is_over(
    run: Run, simulator: VapiSimulator, tmp_path: Path
) -> None:
    live = simulator.add_call(status="in-progress", body={"createdAt": AT})
    finished = run("day")
    assert finished.state == "success"
    assert finished.get_task_instance("export").try_number == 3
    assert result(finished)["unfinished"] == 1
    simulator.end_call(live)
    assert (tmp_path / "calls.jsonl").read_text().count("\n") == 1


def test_asset_event_has_the_result(run: Run, simulator: VapiSimulator, dag_file: ModuleType) -> None:
    from airflow.models.asset import AssetActive, AssetEvent, AssetModel
    from airflow.utils.session import create_session

    if airflow_version.startswith("3.0."):
        # dag.test() of Airflow 3.0 does not activate assets.
        with create_session() as session:
            session.add(AssetModel.from_public(dag_file.exported))
            session.flush()
            session.add(AssetActive.for_asset(dag_file.exported))
    add(simulator, artifact={"transcript": SAID}, cost=0.25)
    finished = run("outlet")
    with create_session() as session:
        [event] = session.query(AssetEvent).filter_by(source_run_id=finished.run_id)
        extra = dict(event.extra)
    returned = result(finished)
    assert returned["calls"] == 1
    assert {name: extra[name] for name in returned} == returned


def test_path_from_upstream_is_not_rendered(
    run: Run, simulator: VapiSimulator, dag_file: ModuleType, tmp_path: Path
) -> None:
    call_id = add(simulator)
    simulator.add_artifact(call_id, "mono-recording", b"RIFF")
    name = "{{ conn.vapi_default.password }}"
    dag_file.records[:] = [{"call_id": call_id, "path": f"file://{tmp_path}/{name}/"}]
    assert run("mapped").state == "success"
    assert (tmp_path / name / f"{call_id}-mono.wav").read_bytes() == b"RIFF"


def test_mapped_tasks_must_not_share_a_path(run: Run, simulator: VapiSimulator, dag_file: ModuleType) -> None:
    call_id = add(simulator)
    assert run("shared_path", conf={"call_id": call_id}).state == "failed"
    assert "does not contain the call id" in str(dag_file.failures[0])


SECRETS = {
    name: f"planted-{name}-mark" for name in ("credential", "presigned", "control", "prompt", "recording")
}


def test_no_secret_is_left_behind(
    run: Run, simulator: VapiSimulator, dag_file: ModuleType, tmp_path: Path, left_behind: Any
) -> None:
    call_id = add(
        simulator,
        assistant={"credentials": [{"apiKey": SECRETS["credential"]}]},
        monitor={"controlUrl": f"https://x.example.invalid/{SECRETS['control']}"},
        artifact={
            "transcript": SAID,
            "messages": [{"role": "system", "message": SECRETS["prompt"]}, {"role": "user", "message": SAID}],
            "recordingUrl": f"https://x.example.invalid/{SECRETS['recording']}",
            "presignedUrl": f"https://x.example.invalid/?{SECRETS['presigned']}",
        },
    )
    # Rejected links, a truncated file, and then a complete one.
    path = f"/artifacts/{call_id}/mono-recording"
    simulator.faults.add(Fault(path=path, status=403, times=2, body="<Error/>"))
    simulator.faults.add(Fault(path=path, reset="midway"))
    finished = run("everything", conf={"call_id": call_id})
    assert finished.state == "success"
    assert result(finished, "copy")["bytes"] > 0
    line = (tmp_path / "calls.jsonl").read_text()
    assert SAID in line
    left = left_behind(simulator) | {"failures": "\n".join(map(shown_by, dag_file.failures))}
    secrets = [*SECRETS.values(), "Signature=", simulator.api_key]
    assert [secret for secret in secrets if secret in line] == []
    found = {where: [secret for secret in [*secrets, SAID] if secret in text] for where, text in left.items()}
    found = {where: secrets for where, secrets in found.items() if secrets}
    # The key is in the environment only.
    assert found == {}


@pytest.mark.parametrize("name", ["none", "mapped_none"])
def test_filter_that_resolves_to_none_is_refused(
    run: Run, simulator: VapiSimulator, dag_file: ModuleType, tmp_path: Path, name: str
) -> None:
    add(simulator)
    assert run(name).state == "failed"
    assert len(dag_file.failures) == 3
    assert all("is None, although the DAG passes it" in str(failure) for failure in dag_file.failures)
    assert simulator.requests == []
    assert list(tmp_path.iterdir()) == []
