# SPDX-License-Identifier: Apache-2.0
"""Deferrable tasks in ``airflow dags test`` and ``dag.test()``, which run the trigger in the task's process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vapi_provider.simulator import Timeline

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator

# Airflow's command line, with limits and pauses for a busy machine.
AIRFLOW = """
from vapi_provider.client import hang_up
from vapi_provider.polling import poller
hang_up.HANG_UP_SECONDS = hang_up.HANG_UP_REQUEST_SECONDS = 60.0
poller.MIN_INTERVAL_SECONDS = 0.05
from airflow.__main__ import main
main()
"""
LIVE = Timeline(ringing=0, answered=0, ended=None, analysis=None)
ENDS_SOON = Timeline(ringing=0, answered=0, ended=1, analysis=None)


@pytest.fixture
def vapi_options() -> dict[str, Any]:
    return {"timeline": LIVE}


@pytest.fixture
def stored_connection(
    simulator: VapiSimulator, database: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Store the connection in Airflow's database, like its Connections page."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    monkeypatch.delenv("AIRFLOW_CONN_VAPI_DEFAULT")
    fields = json.loads(simulator.connection)
    with create_session() as session:
        session.add(Connection(conn_id="vapi_default", **fields))
    yield
    with create_session() as session:
        session.query(Connection).filter_by(conn_id="vapi_default").delete()


@pytest.fixture
def nothing_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vapi_provider.triggers.call.SETTLE_SECONDS", 0.05)
    monkeypatch.setattr("vapi_provider.polling.poller.MIN_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr("vapi_provider.polling.connection.MISSING_SECONDS", 2.0)


def reads(simulator: VapiSimulator) -> int:
    return sum(request.method == "GET" for request in simulator.requests)


def await_reads(simulator: VapiSimulator, number: int, seconds: float = 60) -> None:
    ends_at = time.monotonic() + seconds
    while reads(simulator) < number:
        assert time.monotonic() < ends_at, f"{reads(simulator)} reads"
        time.sleep(0.02)


@pytest.mark.usefixtures("stored_connection", "nothing_takes_long")
def test_deferred_task_uses_a_connection_stored_in_airflow(
    simulator: VapiSimulator, run_dag: Callable[..., Any]
) -> None:
    simulator.timeline = ENDS_SOON
    run = run_dag("place_in_one_process")
    assert run.states("call") == ["success"]
    assert [result["status"] for result in run.results("call")] == ["ended"]


@pytest.mark.usefixtures("nothing_takes_long")
def test_deferred_task_waits_for_the_call_it_began_with(
    simulator: VapiSimulator, run_dag: Callable[..., Any], database: Path
) -> None:
    from airflow.models.variable import Variable

    first, second = (simulator.add_call(status="in-progress") for _ in range(2))
    Variable.set("latest_call", first)

    def replace() -> None:
        await_reads(simulator, 2)
        Variable.set("latest_call", second)
        simulator.end_call(first)

    replacing = threading.Thread(target=replace)
    replacing.start()
    run = run_dag("wait_for_variable")
    replacing.join()
    assert [result["id"] for result in run.results("wait")] == [first]


# Deep, because Airflow's whole command line takes as long as 500 other tests.
@pytest.mark.deep
@pytest.mark.usefixtures("stored_connection")
def test_sigterm_ends_a_command_that_runs_a_trigger(simulator: VapiSimulator) -> None:
    command = [sys.executable, "-c", AIRFLOW, "dags", "test", "place_in_one_process"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            # One read by the task, and one by the trigger.
            await_reads(simulator, 2, seconds=120)
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "The task was stopped; also stopping the trigger that runs in this process." in output
    (call,) = simulator.calls.values()
    assert call["endedReason"] == "manually-canceled"
