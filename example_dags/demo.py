# SPDX-License-Identifier: Apache-2.0
"""
Show the main example at work, with nothing but this machine: ``make demo``.

A simulated call is waited for and renamed by the DAG ``example_vapi_rename_call``, in the real Airflow with a database
of its own, which goes away at the end.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vapi_provider.simulator import VapiSimulator

DAGS_FOLDER = Path(__file__).resolve().parent
SECONDS_PER_STATUS = 2.5
NAME_BEFORE = "Appointment reminder"
ANALYSIS = {
    "summary": "The customer confirmed the appointment on Tuesday at ten.",
    "successEvaluation": "true",
}


def say(line: str = "") -> None:
    os.write(_TERMINAL, f"{line}\n".encode())


_TERMINAL = os.dup(1)


@contextlib.contextmanager
def output_in(log: Path) -> Iterator[None]:
    """Send everything that Airflow prints to a file; what a person should read goes through ``say``."""
    kept = os.dup(1), os.dup(2)
    with log.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        try:
            yield
        finally:
            for stream, original in zip((1, 2), kept, strict=True):
                os.dup2(original, stream)


def prepare_airflow(home: Path, simulator: VapiSimulator) -> None:
    os.environ.update(
        {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS_FOLDER),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW_CONN_VAPI_DEFAULT": simulator.connection,
            # The simulator is on this machine, whatever proxy the rest of the world is behind.
            "NO_PROXY": "127.0.0.1",
        }
    )
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True)


def lead_call(simulator: VapiSimulator, call_id: str) -> None:
    """Let the call ring, be answered and end, once the DAG has begun to look at it."""
    while not simulator.requests:
        time.sleep(0.05)
    steps: list[tuple[str, Callable[[], None]]] = [
        ("the phone rings", lambda: simulator.set_status(call_id, "ringing")),
        ("the customer picks up", lambda: simulator.set_status(call_id, "in-progress")),
        ("the customer hangs up", lambda: simulator.end_call(call_id, analysis=ANALYSIS)),
    ]
    say(f"  {simulator.get_call(call_id)['status']:<12} the DAG waits")
    for what, step in steps:
        time.sleep(SECONDS_PER_STATUS)
        step()
        say(f"  {simulator.get_call(call_id)['status']:<12} {what}")


def run_dag(call_id: str) -> tuple[str, dict[str, Any]]:
    """Run the example; return its final state and the summary that its last task returned."""
    # Not before Airflow's settings are made: its first import reads them.
    from example_vapi_rename_call import dag

    run = dag.test(run_conf={"call_id": call_id})
    task = run.get_task_instance("rename_call")
    return str(run.state), (task and task.xcom_pull(task_ids="rename_call")) or {}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="vapi-demo-") as folder, VapiSimulator() as simulator:
        home, log = Path(folder), Path(folder) / "demo.log"
        say("Setting up an Airflow of its own ...")
        with output_in(log):
            prepare_airflow(home, simulator)
        call_id = simulator.add_call(body={"name": NAME_BEFORE})
        say(f"Call {call_id}, named {NAME_BEFORE!r}, runs in the simulator at {simulator.url}.")
        say("The DAG example_vapi_rename_call waits for its end and then renames it:")
        leader = threading.Thread(target=lead_call, args=(simulator, call_id), daemon=True)
        leader.start()
        with output_in(log):
            state, summary = run_dag(call_id)
        name_after = simulator.get_call(call_id).get("name")
        if state != "success" or summary.get("name") != name_after:
            say(log.read_text(errors="replace"))
            say(f"The DAG run ended as {state}; its log is above.")
            return 1
        say()
        say(f"Name before  {NAME_BEFORE}")
        say(f"Name after   {name_after}")
        say()
        say("What the task returned, and XCom holds:")
        for key, value in summary.items():
            say(f"  {key:<17} {value}")
        say()
        say(f"DAG run: {state}. Requests that Vapi would have seen:")
        for request in simulator.requests:
            say(f"  {request.method:<6} {request.path} -> {request.status}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
