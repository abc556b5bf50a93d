# SPDX-License-Identifier: Apache-2.0
"""
Count how often one person's phone rings when something breaks: ``make compare``.

A real Airflow runs the same task with this package, with a plain HttpOperator and with Vapi's SDK. The simulator loses
the response to ``POST /call``, or the worker is killed while waiting for it, or the task is cleared after it succeeded.
The simulator counts the rings.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from local_airflow import LocalAirflow, ServiceError, stopped_at_the_end

from vapi_provider.simulator import Fault, VapiSimulator

WAYS = {
    "vapi_provider": "this package",
    "http_operator": "`HttpOperator`",
    "vapi_sdk": "Vapi's Python SDK",
}
PATIENCE_SECONDS = 240
OPTIONS = {
    "core.dags_are_paused_at_creation": False,
    "scheduler.task_instance_heartbeat_timeout": 20,
    "scheduler.task_instance_heartbeat_timeout_detection_interval": 5,
}


@dataclass
class Trial:
    """
    A call to one person with one of the packages, during one fault.

    :param airflow: the running Airflow
    :param simulator: the running simulator
    :param dag_id: the DAG of the package
    :param number: the person's phone number
    """

    airflow: LocalAirflow
    simulator: VapiSimulator
    dag_id: str
    number: str

    def lose_response(self) -> None:
        self.simulator.faults.add(Fault(method="POST", path="/call", effect=True, reset="before"))
        self._wait_for_end(self._trigger())

    def kill_worker(self) -> None:
        self.simulator.faults.add(Fault(method="POST", path="/call", delay=600))
        run_id = self._trigger()
        self.airflow.wait_until(lambda: self.rings, "The call was not placed", PATIENCE_SECONDS)
        self._kill_task(run_id)
        self._wait_for_end(run_id)

    def clear_task(self) -> None:
        run_id = self._trigger()
        self._wait_for_end(run_id)
        body = {"dag_run_id": run_id, "dry_run": False, "only_failed": False, "reset_dag_runs": True}
        self.airflow.request("POST", f"dags/{self.dag_id}/clearTaskInstances", body)
        self._wait_for_end(run_id)

    @property
    def rings(self) -> int:
        return sum(call["customer"]["number"] == self.number for call in self.simulator.calls.values())

    def _trigger(self) -> str:
        body = {"logical_date": None, "conf": {"number": self.number}}
        return str(self.airflow.request("POST", f"dags/{self.dag_id}/dagRuns", body)["dag_run_id"])

    def _wait_for_end(self, run_id: str) -> None:
        def has_ended() -> bool:
            run = self.airflow.request("GET", f"dags/{self.dag_id}/dagRuns/{run_id}")
            return run["state"] in ("success", "failed")

        self.airflow.wait_until(has_ended, f"The run of {self.dag_id} did not end", PATIENCE_SECONDS)

    def _kill_task(self, run_id: str) -> None:
        """Kill the task and its supervisor, as if their machine were lost."""
        query = "select pid from task_instance where dag_id = ? and run_id = ?"
        with contextlib.closing(sqlite3.connect(self.airflow.database)) as database:
            ((pid,),) = database.execute(query, (self.dag_id, run_id)).fetchall()
        supervisor = psutil.Process(pid).ppid()
        os.kill(supervisor, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


FAULTS: dict[str, Callable[[Trial], None]] = {
    "the response to `POST /call` is lost": Trial.lose_response,
    "the worker is killed during `POST /call`": Trial.kill_worker,
    "the task is cleared after its success": Trial.clear_task,
}


def run_all(airflow: LocalAirflow, simulator: VapiSimulator) -> dict[str, list[int]]:
    """Return the number of calls to one person for each package, by fault."""
    results: dict[str, list[int]] = {}
    for row, (fault, play) in enumerate(FAULTS.items()):
        for column, dag_id in enumerate(WAYS):
            trial = Trial(airflow, simulator, dag_id, f"+12025550{row}{column}0")
            play(trial)
            results.setdefault(fault, []).append(trial.rings)
            print(f"{fault}: {WAYS[dag_id]}: {trial.rings}", file=sys.stderr, flush=True)
    return results


def print_table(results: dict[str, list[int]]) -> None:
    print("| calls to one person | " + " | ".join(WAYS.values()) + " |")
    print("|---" * (len(WAYS) + 1) + "|")
    for fault, calls in results.items():
        print(f"| {fault} | " + " | ".join(map(str, calls)) + " |")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="vapi-compare-") as folder, VapiSimulator() as simulator:
        os.environ |= {"VAPI_TOKEN": simulator.api_key, "VAPI_BASE_URL": simulator.url}
        airflow = LocalAirflow(Path(folder), Path(__file__).parent / "compare_dags", OPTIONS)
        try:
            with stopped_at_the_end(airflow):
                airflow.start_page()
                for conn_id, conn_type, extra in (
                    ("vapi_default", "vapi", None),
                    ("vapi_over_http", "http", f'{{"Authorization": "Bearer {simulator.api_key}"}}'),
                ):
                    connection = {"connection_id": conn_id, "conn_type": conn_type, "host": simulator.url}
                    airflow.request(
                        "POST", "connections", {**connection, "password": simulator.api_key, "extra": extra}
                    )
                airflow.start_rest(len(WAYS))
                print_table(run_all(airflow, simulator))
        except ServiceError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
