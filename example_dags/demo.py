# SPDX-License-Identifier: Apache-2.0
"""
Run the main example in a real Airflow: ``make demo``.

The DAG ``example_vapi_rename_call`` waits for a simulated call to end and renames it. Airflow uses a temporary
database, and nothing leaves this machine.
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
    """Redirect Airflow's output to a file; ``say`` still writes to the terminal."""
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
    # The settings of another Airflow on this machine do not count.
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        del os.environ[name]
    os.environ.update(
        {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS_FOLDER),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW_CONN_VAPI_DEFAULT": simulator.connection,
            # The simulator runs on this machine, so bypass any proxy.
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
    )
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True)


def lead_call(simulator: VapiSimulator, call_id: str) -> None:
    """Let the call ring, be answered and end, once the DAG has read it."""
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
    """Run the example, and return its final state and its last task's result."""
    # Imported here, because Airflow reads its settings at the first import.
    from example_vapi_rename_call import dag

    run = dag.test(run_conf={"call_id": call_id})
    task = run.get_task_instance("rename_call")
    return str(run.state), (task and task.xcom_pull(task_ids="rename_call")) or {}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="vapi-demo-") as folder, VapiSimulator() as simulator:
        home, log = Path(folder), Path(folder) / "demo.log"
        say("Setting up a temporary Airflow ...")
        with output_in(log):
            prepare_airflow(home, simulator)
        call_id = simulator.add_call(body={"name": NAME_BEFORE})
        say(f"Created call {call_id} ({NAME_BEFORE!r}) in the simulator at {simulator.url}.")
        say("The DAG example_vapi_rename_call waits for the call to end and renames it:")
        leader = threading.Thread(target=lead_call, args=(simulator, call_id), daemon=True)
        leader.start()
        with output_in(log):
            state, summary = run_dag(call_id)
        name_after = simulator.get_call(call_id).get("name")
        if state != "success" or summary.get("name") != name_after:
            say(log.read_text(errors="replace"))
            say(f"The DAG run ended in state {state}; see its log above.")
            return 1
        say()
        say(f"Name before  {NAME_BEFORE}")
        say(f"Name after   {name_after}")
        say()
        say("The task's result, as stored in XCom:")
        for key, value in summary.items():
            say(f"  {key:<17} {value}")
        say()
        say(f"DAG run: {state}. Requests to the simulator:")
        for request in simulator.requests:
            say(f"  {request.method:<6} {request.path} -> {request.status}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
