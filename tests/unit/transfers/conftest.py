# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the transfers: a simulated Vapi behind ``vapi_default``, a task instance, and a target folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vapi_provider.simulator import ManualClock, VapiSimulator
from vapi_provider.transfers.calls_to_object_storage import VapiCallsToObjectStorageOperator

DAY = {"created_at_ge": "2026-03-10T00:00:00Z", "created_at_lt": "2026-03-11T00:00:00Z"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 3, 12, tzinfo=timezone.utc))


@pytest.fixture
def simulator(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[VapiSimulator]:
    with VapiSimulator(clock=clock) as running:
        monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", running.connection)
        yield running


@pytest.fixture
def context() -> Any:
    """The context of the first of three tries."""
    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(
        try_number=1,
        max_tries=2,
        map_index=-1,
        xcoms=pushed,
        xcom_push=lambda key, value: pushed.update({key: value}),
    )
    return {"ti": ti}


@pytest.fixture
def export(context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Export the calls of a day in March, by default to a file in the folder of the test."""
    monkeypatch.setattr(VapiCallsToObjectStorageOperator, "log", logging.getLogger("task"))

    def run(name: str = "calls.jsonl", **arguments: Any) -> Any:
        arguments = {"path": f"file://{tmp_path}/{name}", **DAY, **arguments}
        return VapiCallsToObjectStorageOperator(task_id="export", **arguments).execute(context)

    return run


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow.sdk.bases.operator.ExecutorSafeguard.test_mode", True)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def in_child() -> Callable[[Callable[[], Any]], int]:
    """Run something in a child process; return the errno of its OSError, or its signal as a negative number."""

    def run(work: Callable[[], Any]) -> int:
        child = os.fork()
        if child == 0:
            status = 99
            try:
                work()
                status = 0
            except OSError as error:
                status = error.errno or status
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    return run
