# SPDX-License-Identifier: Apache-2.0
"""Calls and recordings in a real S3 server, through a connection of Airflow."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from postgres import free_port
from processes import END_WITH_US, wait_until

from vapi_provider.simulator import VapiSimulator

TASK = Path(__file__).with_name("storage_task.py")
BUCKET = "archive"
DAY = {"created_at_ge": "2026-03-10T00:00:00Z", "created_at_lt": "2026-03-11T00:00:00Z"}
RECORDING = b"RIFF" + bytes(range(256)) * 100
# Over twice the size of a part, so that it is uploaded in parts.
LONG_TRANSCRIPT = "User: Tuesday, please.\n" * 50_000

RunTask = Callable[..., Any]


class S3:
    """A server of moto, and a client of it."""

    def __init__(self) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        program = Path(sys.executable).with_name("moto_server")
        port = self.url.rpartition(":")[2]
        self._process = subprocess.Popen(
            [*END_WITH_US, program, "-H", "127.0.0.1", "-p", port],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._is_up, 60, "the S3 server answers")
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def _is_up(self) -> bool:
        try:
            return requests.get(f"{self.url}/moto-api/", timeout=5).ok
        except requests.RequestException:
            return False

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    @property
    def connection(self) -> dict[str, Any]:
        extra = {"endpoint_url": self.url, "region_name": "us-east-1"}
        return {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}

    def objects(self) -> list[str]:
        return [entry["Key"] for entry in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def read(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    def content_type(self, key: str) -> str:
        return str(self.client.head_object(Bucket=BUCKET, Key=key)["ContentType"])


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3]:
    server = S3()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3) -> Iterator[S3]:
    """The server, with an empty bucket."""
    s3_server.client.create_bucket(Bucket=BUCKET)
    yield s3_server
    requests.post(f"{s3_server.url}/moto-api/reset", timeout=20)


@pytest.fixture
def vapi() -> Iterator[VapiSimulator]:
    with VapiSimulator() as running:
        yield running


def add(simulator: VapiSimulator, minute: int = 0, **body: Any) -> str:
    at = f"2026-03-10T12:{minute:02}:00.000Z"
    return simulator.add_call(
        status="ended", body={"createdAt": at, "updatedAt": at, "endedAt": at, "cost": 0.1, **body}
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture
def run_task(s3: S3, vapi: VapiSimulator, home: Path) -> RunTask:
    """Run a transfer in a process of its own; return what the task returns, or how the process ended."""

    def run(kind: str, *, dies_at: tuple[str, int] | None = None, **arguments: Any) -> Any:
        bounds = DAY if kind == "calls" else {}
        order = {"kind": kind, "arguments": {**bounds, "storage_conn_id": "store", **arguments}}
        order |= {"kill_at": dies_at} if dies_at else {}
        environment = {
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONN_STORE": json.dumps(s3.connection),
            "AIRFLOW_CONN_VAPI_DEFAULT": vapi.connection,
            "NO_PROXY": "127.0.0.1",
        }
        done = subprocess.run(
            [sys.executable, TASK, json.dumps(order)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])["result"]
        return done.returncode if done.returncode < 0 else done.stdout + done.stderr

    return run


def test_calls_are_one_object(run_task: RunTask, s3: S3, vapi: VapiSimulator) -> None:
    ids = [add(vapi, minute) for minute in range(3)]
    for key in ("calls.jsonl", "2026/calls.jsonl.gz"):
        result = run_task("calls", path=f"s3://{BUCKET}/{key}")
        assert (result["path"], result["calls"], result["cost"]) == (f"s3://{BUCKET}/{key}", 3, 0.3)
        assert result["bytes"] == len(s3.read(key))
    lines = gzip.decompress(s3.read("2026/calls.jsonl.gz")).splitlines()
    assert s3.read("calls.jsonl").splitlines() == lines
    assert [json.loads(line)["id"] for line in lines] == ids[::-1]
    first = s3.read("2026/calls.jsonl.gz")
    assert (
        run_task("calls", path=f"s3://store@{BUCKET}/2026/calls.jsonl.gz", storage_conn_id=None)["calls"] == 3
    )
    assert s3.read("2026/calls.jsonl.gz") == first
    assert s3.objects() == ["2026/calls.jsonl.gz", "calls.jsonl"]


def test_object_is_never_smaller(run_task: RunTask, s3: S3, vapi: VapiSimulator) -> None:
    add(vapi)
    path = f"s3://{BUCKET}/calls.jsonl.gz"
    run_task("calls", path=path)
    former = s3.read("calls.jsonl.gz")
    fewer = {"assistant_id": "0198a3f0-0000-7000-8000-00000000000a"}
    assert "has 1 calls, and Vapi now lists 0" in run_task("calls", path=path, **fewer)
    assert s3.read("calls.jsonl.gz") == former
    requests_before = len(vapi.requests)
    assert "AirflowSkipException" in run_task("calls", path=path, if_exists="skip")
    assert "already exists" in run_task("calls", path=path, if_exists="fail")
    assert len(vapi.requests) == requests_before
    assert run_task("calls", path=path, if_exists="replace", **fewer)["calls"] == 0


@pytest.mark.parametrize("has_former", [True, False])
@pytest.mark.parametrize(
    "dies_at",
    [
        ("create_multipart_upload", 1),
        ("upload_part", 1),
        ("upload_part", 2),
        ("complete_multipart_upload", 1),
    ],
    ids=str,
)
def test_kill_within_an_upload_leaves_the_former_object(
    run_task: RunTask, s3: S3, vapi: VapiSimulator, dies_at: tuple[str, int], has_former: bool
) -> None:
    for minute in range(20):
        add(vapi, minute, artifact={"transcript": LONG_TRANSCRIPT})
    if has_former:
        s3.client.put_object(Bucket=BUCKET, Key="calls.jsonl", Body=b"former\n")
    arguments = {"path": f"s3://{BUCKET}/calls.jsonl", "include": ["transcript"]}
    assert run_task("calls", dies_at=dies_at, **arguments) == -signal.SIGKILL
    assert s3.objects() == ["calls.jsonl"] * has_former
    assert not has_former or s3.read("calls.jsonl") == b"former\n"
    assert run_task("calls", **arguments)["calls"] == 20
    assert s3.read("calls.jsonl").count(b"\n") == 20


def test_kill_before_a_put_leaves_nothing(run_task: RunTask, s3: S3, vapi: VapiSimulator) -> None:
    add(vapi)
    assert run_task("calls", path=f"s3://{BUCKET}/calls.jsonl", dies_at=("put_object", 1)) == -signal.SIGKILL
    assert s3.objects() == []


def test_recording_keeps_its_content_type(run_task: RunTask, s3: S3, vapi: VapiSimulator) -> None:
    call_id = add(vapi)
    vapi.add_artifact(call_id, "mono-recording", RECORDING, content_type="audio/x-wav")
    result = run_task("recording", call_id=call_id, path=f"s3://{BUCKET}/recordings/")
    key = f"recordings/{call_id}-mono.wav"
    assert (result["path"], result["bytes"]) == (f"s3://{BUCKET}/{key}", len(RECORDING))
    assert (s3.read(key), s3.content_type(key)) == (RECORDING, "audio/x-wav")
    assert "AirflowSkipException" in run_task(
        "recording", call_id=call_id, path=f"s3://{BUCKET}/recordings/", if_exists="skip"
    )


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


def test_bucket_that_does_not_exist_is_an_error(run_task: RunTask, s3: S3, vapi: VapiSimulator) -> None:
    add(vapi)
    assert "bucket does not exist" in run_task("calls", path="s3://nowhere/calls.jsonl")
