# SPDX-License-Identifier: Apache-2.0
"""Runs a transfer in a process of its own, and kills it where that was asked for: ``storage_task.py JSON``."""

from __future__ import annotations

import json
import os
import signal
import sys
from types import SimpleNamespace
from typing import Any

from vapi_provider.transfers.calls_to_object_storage import VapiCallsToObjectStorageOperator
from vapi_provider.transfers.recording_to_object_storage import VapiRecordingToObjectStorageOperator

OPERATORS = {
    "calls": VapiCallsToObjectStorageOperator,
    "recording": VapiRecordingToObjectStorageOperator,
}


def kill_at(request: str, number: int) -> None:
    """Kill this process before a request to S3, such as the second ``upload_part``."""
    from s3fs import S3FileSystem

    call, left = S3FileSystem._call_s3, number

    async def call_or_die(self: Any, method: str, *args: Any, **options: Any) -> Any:
        nonlocal left
        left -= method == request
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return await call(self, method, *args, **options)

    S3FileSystem._call_s3 = call_or_die


def main(order: dict[str, Any]) -> None:
    if "kill_at" in order:
        kill_at(*order["kill_at"])
    operator: Any = OPERATORS[order["kind"]](task_id="transfer", **order["arguments"])
    ti = SimpleNamespace(try_number=1, max_tries=0, map_index=-1, xcom_push=lambda key, value: None)
    # Airflow wants operators to be run by its own workers.
    result = type(operator).execute.__wrapped__(operator, {"ti": ti})
    print(json.dumps({"result": result}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
