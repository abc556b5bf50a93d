# SPDX-License-Identifier: Apache-2.0
"""A set of calls, and a run of the DAG that waits for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_services import AirflowServices
    from planted import Planted

    from vapi_provider.simulator import VapiSimulator

DAG_ID = "wait_for_calls"
OPEN_STATES = (
    "scheduled",
    "queued",
    "running",
    "restarting",
    "up_for_retry",
    "up_for_reschedule",
    "deferred",
)


class Campaign:
    """
    Starts, ends and checks the calls of a test.

    :param airflow: the services
    :param simulator: the simulated Vapi
    :param planted: the secrets in the calls
    """

    def __init__(self, airflow: AirflowServices, simulator: VapiSimulator, planted: Planted) -> None:
        self._airflow = airflow
        self._simulator = simulator
        self._planted = planted
        self.call_ids: list[str] = []
        self.run_id = ""

    def start(self, count: int, deferred_within: float = 120) -> float:
        """Add live calls, and return how many seconds it takes until a deferred sensor waits for each."""
        self.call_ids = [self._add_call(age) for age in reversed(range(count))]
        self.run_id = self._airflow.client.trigger(DAG_ID, {"call_ids": self.call_ids})
        return self._airflow.wait_until(
            lambda: self.states()["deferred"] == count, deferred_within, f"all {count} sensors are deferred"
        )

    def _add_call(self, age: int) -> str:
        # No two calls are created at the same instant.
        placed_at = datetime.now(timezone.utc) - timedelta(seconds=age / 10)
        times = {"createdAt": placed_at.isoformat(), "startedAt": placed_at.isoformat()}
        return self._simulator.add_call(status="in-progress", body=self._planted.call() | times)

    def states(self) -> Counter[str]:
        """Return the number of waits in each state."""
        rows = self._airflow.postgres.query(
            "select state, count(*) from task_instance where dag_id = %s and run_id = %s and task_id = 'wait'"
            " and map_index >= 0 group by state",
            (DAG_ID, self.run_id),
        )
        return Counter({str(state): count for state, count in rows})

    def state_of(self, call_id: str) -> str:
        rows = self._airflow.postgres.query(
            "select state from task_instance where dag_id = %s and run_id = %s and task_id = 'wait' and map_index = %s",
            (DAG_ID, self.run_id, self.call_ids.index(call_id)),
        )
        return str(rows[0][0])

    def end(self, call_ids: Iterable[str], reason: str = "customer-ended-call") -> None:
        for call_id in call_ids:
            self._simulator.end_call(call_id, reason)

    def reported(self) -> set[str]:
        """Return the ids of the calls whose wait succeeded."""
        rows = self._airflow.postgres.query(
            "select map_index from task_instance where dag_id = %s and run_id = %s and task_id = 'wait'"
            " and state = 'success'",
            (DAG_ID, self.run_id),
        )
        return {self.call_ids[map_index] for (map_index,) in rows}

    def wait_until_reported(self, call_ids: Iterable[str], timeout: float) -> float:
        """Wait until these calls are reported, and return how many seconds it took."""
        expected = set(call_ids)
        return self._airflow.wait_until(
            lambda: expected <= self.reported(), timeout, f"{len(expected)} calls are reported"
        )

    def check_each_reported_once(self) -> None:
        """Check that every wait succeeded exactly once, and that the downstream task got each call once."""
        self._airflow.wait_until(lambda: self._run_state() != "running", 90, "the run is over")
        assert self.states() == {"success": len(self.call_ids)}
        assert self._earlier_successes() == 0
        collected = self._airflow.client.xcom(DAG_ID, self.run_id, "collect")
        assert collected == [[call_id, "completed"] for call_id in self.call_ids]

    def requests(self) -> Counter[str]:
        """Return the number of requests for each call by its id."""
        return Counter(request.path.rpartition("/")[2] for request in list(self._simulator.requests))

    def give_up(self) -> None:
        """Stop waits that are left after a failed test."""
        if self.run_id and any(self.states()[state] for state in OPEN_STATES):
            self._airflow.make_whole()
            self._airflow.client.mark_run(DAG_ID, self.run_id, "failed")

    def _run_state(self) -> str:
        rows = self._airflow.postgres.query(
            "select state from dag_run where dag_id = %s and run_id = %s", (DAG_ID, self.run_id)
        )
        return str(rows[0][0])

    def _earlier_successes(self) -> int:
        """Return how many earlier tries succeeded."""
        rows = self._airflow.postgres.query(
            "select count(*) from task_instance_history where dag_id = %s and run_id = %s and task_id = 'wait'"
            " and state = 'success'",
            (DAG_ID, self.run_id),
        )
        return int(rows[0][0])
