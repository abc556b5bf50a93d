# SPDX-License-Identifier: Apache-2.0
"""User actions in Airflow, through its public REST API."""

from __future__ import annotations

import json
from typing import Any

import requests


class AirflowClient:
    """
    A logged-in user.

    :param url: the base URL of the API server
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.answers: list[str] = []
        self._session = requests.Session()
        self._session.trust_env = False
        token = self._session.get(f"{url}/auth/token", timeout=30).json()["access_token"]
        self._session.headers["Authorization"] = f"Bearer {token}"

    def ask(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request and return the response's JSON; the text is kept for the leak tests."""
        answer = self._session.request(method, f"{self._url}{path}", timeout=60, **arguments)
        self.answers.append(answer.text)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:2000]}"
        return answer.json() if answer.content else None

    def add_connection(self, conn_id: str, host: str, password: str, **extra: Any) -> None:
        body = {"connection_id": conn_id, "conn_type": "vapi", "host": host, "password": password}
        self.ask("POST", "/api/v2/connections", json={**body, "extra": json.dumps(extra)})

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Trigger a DAG, and return the run's id."""
        run = self.ask("POST", f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf})
        run_id: str = run["dag_run_id"]
        return run_id

    def has_dag(self, dag_id: str) -> bool:
        answer = self._session.get(f"{self._url}/api/v2/dags/{dag_id}", timeout=60)
        return answer.status_code == 200

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self.ask("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1
    ) -> Any:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.ask("GET", path, params={"map_index": map_index, "deserialize": True})["value"]

    def task_log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Return the log of a task's first try."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/1"
        answer = self.ask("GET", path, params={"full_content": True})
        return "\n".join(str(line) for line in answer["content"])

    def mark_task(self, dag_id: str, run_id: str, task_id: str, map_index: int, state: str) -> None:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/{map_index}"
        self.ask("PATCH", path, json={"new_state": state})

    def clear_task(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> None:
        body = {
            "dag_run_id": run_id,
            "task_ids": [[task_id, map_index]],
            "dry_run": False,
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self.ask("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", json=body)

    def clear_run(self, dag_id: str, run_id: str) -> None:
        body = {"dry_run": False, "only_failed": False}
        self.ask("POST", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/clear", json=body)

    def mark_run(self, dag_id: str, run_id: str, state: str) -> None:
        self.ask("PATCH", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}", json={"state": state})
