# SPDX-License-Identifier: Apache-2.0
"""
Runs transfers in processes of their own, which it can kill in the middle of an upload.

It reads an order per line, as JSON, and responds with a line. Each order runs in a fork, because importing Airflow takes
longer than all else.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from types import SimpleNamespace
from typing import Any

import s3fs

from airflow.sdk import ObjectStoragePath
from vapi_provider.hooks import vapi as _vapi
from vapi_provider.transfers import export as _export, target as _target
from vapi_provider.transfers.calls_to_object_storage import VapiCallsToObjectStorageOperator
from vapi_provider.transfers.recording_to_object_storage import VapiRecordingToObjectStorageOperator

IMPORTED_BEFORE_FORKS = (_export, _target, _vapi)
OPERATORS = {
    "calls": VapiCallsToObjectStorageOperator,
    "recording": VapiRecordingToObjectStorageOperator,
}


def kill_at(request: str, number: int) -> None:
    """Kill this process before a request to S3, such as the second ``upload_part``."""
    call, left = s3fs.S3FileSystem._call_s3, number

    async def call_or_die(self: Any, method: str, *args: Any, **options: Any) -> Any:
        nonlocal left
        left -= method == request
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return await call(self, method, *args, **options)

    s3fs.S3FileSystem._call_s3 = call_or_die


def run(order: dict[str, Any]) -> dict[str, Any]:
    os.environ.update(order["environment"])
    if order["kill_at"]:
        kill_at(*order["kill_at"])
    operator: Any = OPERATORS[order["kind"]](task_id="transfer", **order["arguments"])
    ti = SimpleNamespace(try_number=1, max_tries=0, map_index=-1, xcom_push=lambda key, value: None)
    try:
        # Airflow refuses to run operators outside its workers.
        return {"result": type(operator).execute.__wrapped__(operator, {"ti": ti})}
    except Exception:
        return {"error": traceback.format_exc()}


def run_in_fork(order: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile("w+") as response:
        child = os.fork()
        if child == 0:
            json.dump(run(order), response)
            response.flush()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        response.seek(0)
        return json.load(response) if status == 0 else {"result": status}


def main() -> None:
    responses = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    # What tasks log must not end up among the responses.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Airflow searches all providers for filesystems, once per process.
    _ = ObjectStoragePath("file:///tmp").fs
    for line in sys.stdin:
        print(json.dumps(run_in_fork(json.loads(line))), file=responses)


if __name__ == "__main__":
    main()
