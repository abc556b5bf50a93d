# SPDX-License-Identifier: Apache-2.0
"""Calls and recordings in a real S3 server, through an Airflow connection."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from processes import END_WITH_US
from s3_server import BUCKET, S3Server

from vapi_provider.simulator import VapiSimulator

if TYPE_CHECKING:
    from airflow_services import AirflowServices
    from planted import Planted

DAY = {"created_at_ge": "2026-03-10T00:00:00Z", "created_at_lt": "2026-03-11T00:00:00Z"}
RECORDING = b"RIFF" + bytes(range(256)) * 100
# Twelve of these are more than twice the size of a part, so the object is uploaded in three parts.
LONG_TRANSCRIPT = "User: Tuesday, please.\n" * 50_000

RunTask = Callable[..., Any]


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server) -> S3Server:
    """The server, with an empty bucket."""
    s3_server.empty()
    return s3_server


@pytest.fixture
def vapi() -> Iterator[VapiSimulator]:
    with VapiSimulator() as running:
        yield running


def add(simulator: VapiSimulator, minute: int = 0, **body: Any) -> str:
    at = f"2026-03-10T12:{minute:02}:00.000Z"
    return simulator.add_call(
        status="ended", body={**body, "createdAt": at, "updatedAt": at, "endedAt": at, "cost": 0.1}
    )


# In processes of their own


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    program = Path(__file__).with_name("storage_task.py")
    home = tmp_path_factory.mktemp("airflow")
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [*END_WITH_US, sys.executable, program],
            env={**os.environ, "AIRFLOW_HOME": str(home), "NO_PROXY": "127.0.0.1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    yield process
    process.terminate()
    process.wait(20)


@pytest.fixture
def run_task(s3: S3Server, vapi: VapiSimulator, tasks: subprocess.Popen[str]) -> RunTask:
    """Run a transfer in a process; return its result, or how the process ended."""

    def run(kind: str, *, dies_at: tuple[str, int] | None = None, **arguments: Any) -> Any:
        bounds = DAY if kind == "calls" else {}
        order = {
            "kind": kind,
            "arguments": {**bounds, "storage_conn_id": "store", **arguments},
            "kill_at": dies_at,
            "environment": {
                "AIRFLOW_CONN_STORE": json.dumps(s3.connection),
                "AIRFLOW_CONN_VAPI_DEFAULT": vapi.connection,
            },
        }
        assert tasks.stdin is not None
        assert tasks.stdout is not None
        tasks.stdin.write(f"{json.dumps(order)}\n")
        tasks.stdin.flush()
        response = json.loads(tasks.stdout.readline())
        return response["error"] if "error" in response else response["result"]

    return run


def test_calls_are_one_object(run_task: RunTask, s3: S3Server, vapi: VapiSimulator) -> None:
    ids = [add(vapi, minute) for minute in range(3)]
    for key in ("calls.jsonl", "2026/calls.jsonl.gz"):
        result = run_task("calls", path=f"s3://{BUCKET}/{key}")
        assert (result["path"], result["calls"], result["cost"]) == (f"s3://{BUCKET}/{key}", 3, 0.3)
        assert result["bytes"] == len(s3.read(key))
    first = s3.read("2026/calls.jsonl.gz")
    lines = gzip.decompress(first).splitlines()
    assert s3.read("calls.jsonl").splitlines() == lines
    assert [json.loads(line)["id"] for line in lines] == ids[::-1]
    with_url = {"path": f"s3://store@{BUCKET}/2026/calls.jsonl.gz", "storage_conn_id": None}
    assert run_task("calls", **with_url)["path"] == f"s3://{BUCKET}/2026/calls.jsonl.gz"
    assert s3.read("2026/calls.jsonl.gz") == first
    assert s3.objects() == ["2026/calls.jsonl.gz", "calls.jsonl"]


def test_object_is_never_smaller(run_task: RunTask, s3: S3Server, vapi: VapiSimulator) -> None:
    add(vapi)
    path = f"s3://{BUCKET}/calls.jsonl.gz"
    run_task("calls", path=path)
    former = s3.read("calls.jsonl.gz")
    fewer = {"assistant_id": "0198a3f0-0000-7000-8000-00000000000a"}
    assert "more calls (1) than Vapi now lists for the interval (0)" in run_task("calls", path=path, **fewer)
    assert s3.read("calls.jsonl.gz") == former
    requests_before = len(vapi.requests)
    assert "AirflowSkipException" in run_task("calls", path=path, if_exists="skip")
    assert "already exists" in run_task("calls", path=path, if_exists="fail")
    assert len(vapi.requests) == requests_before
    assert run_task("calls", path=path, if_exists="replace", **fewer)["calls"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dies_at", "has_former"),
    [
        (("create_multipart_upload", 1), True),
        (("upload_part", 2), True),
        (("upload_part", 2), False),
        (("complete_multipart_upload", 1), True),
        (("complete_multipart_upload", 1), False),
    ],
    ids=str,
)
def test_kill_within_an_upload_leaves_the_former_object(
    run_task: RunTask, s3: S3Server, vapi: VapiSimulator, dies_at: tuple[str, int], has_former: bool
) -> None:
    for minute in range(12):
        add(vapi, minute, artifact={"transcript": LONG_TRANSCRIPT})
    if has_former:
        s3.client.put_object(Bucket=BUCKET, Key="calls.jsonl", Body=b"former\n")
    arguments = {"path": f"s3://{BUCKET}/calls.jsonl", "include": ["transcript"]}
    assert run_task("calls", dies_at=dies_at, **arguments) == -signal.SIGKILL
    assert s3.objects() == ["calls.jsonl"] * has_former
    assert not has_former or s3.read("calls.jsonl") == b"former\n"
    # Only a lifecycle rule of the bucket removes it.
    assert s3.uploads() == (dies_at[0] != "create_multipart_upload")
    assert run_task("calls", **arguments)["calls"] == 12
    assert s3.read("calls.jsonl").count(b"\n") == 12


@pytest.mark.slow
def test_kill_before_a_put_leaves_nothing(run_task: RunTask, s3: S3Server, vapi: VapiSimulator) -> None:
    add(vapi)
    assert run_task("calls", path=f"s3://{BUCKET}/calls.jsonl", dies_at=("put_object", 1)) == -signal.SIGKILL
    assert s3.objects() == []


def test_recording_keeps_its_content_type(run_task: RunTask, s3: S3Server, vapi: VapiSimulator) -> None:
    call_id = add(vapi)
    vapi.add_artifact(call_id, "mono-recording", RECORDING, content_type="audio/x-wav")
    arguments = {"call_id": call_id, "path": f"s3://{BUCKET}/recordings/"}
    result = run_task("recording", **arguments)
    key = f"recordings/{call_id}-mono.wav"
    assert (result["path"], result["bytes"]) == (f"s3://{BUCKET}/{key}", len(RECORDING))
    assert (s3.read(key), s3.content_type(key)) == (RECORDING, "audio/x-wav")
    assert "AirflowSkipException" in run_task("recording", **arguments, if_exists="skip")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"storage_conn_id": "nowhere"}, "no connection 'nowhere'"),
        ({"path": f"s3://store@{BUCKET}/x"}, "names a connection, and so does storage_conn_id"),
        ({"path": "gs://bucket/x"}, "Airflow cannot open gs://"),
    ],
)
def test_unusable_storage_is_refused_before_any_request(
    run_task: RunTask, vapi: VapiSimulator, arguments: dict[str, Any], problem: str
) -> None:
    add(vapi)
    assert problem in run_task("calls", **{"path": f"s3://{BUCKET}/calls.jsonl", **arguments})
    assert vapi.requests == []


def test_missing_bucket_is_an_error(run_task: RunTask, vapi: VapiSimulator) -> None:
    add(vapi)
    assert "There is no bucket 'nowhere'" in run_task("calls", path="s3://nowhere/calls.jsonl")


# In Airflow's own workers


def test_run_archives_calls_and_recordings(
    airflow: AirflowServices, simulator: VapiSimulator, planted: Planted, s3: S3Server
) -> None:
    call_id = add(simulator, **planted.call())
    simulator.add_artifact(call_id, "mono-recording", RECORDING, content_type="audio/wav")
    client = airflow.client
    client.ask("POST", "/api/v2/connections", json={"connection_id": "aws_archive", **s3.connection})
    run_id = client.trigger("archive_calls", {"folder": f"s3://{BUCKET}/night", "call_id": call_id})
    airflow.wait_until(lambda: client.run_state("archive_calls", run_id) == "success", 60, "the run is over")
    [line] = gzip.decompress(s3.read("night/calls.jsonl.gz")).splitlines()
    assert planted.words in json.loads(line)["transcript"]
    assert s3.read(f"night/{call_id}-mono.wav") == RECORDING
    result = client.xcom("archive_calls", run_id, "export")
    assert (result["path"], result["calls"]) == (f"s3://{BUCKET}/night/calls.jsonl.gz", 1)
    [event] = client.ask("GET", "/api/v2/assets/events", params={"source_run_id": run_id})["asset_events"]
    assert {name: event["extra"][name] for name in result} == result
    # What is planted must not be in logs and tables, either, which the end of all tests checks.
    log = "".join(client.task_log("archive_calls", run_id, task_id) for task_id in ("export", "copy"))
    assert "(calls: 1, bytes: " in log
    assert "Signature=" not in log
