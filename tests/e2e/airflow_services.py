# SPDX-License-Identifier: Apache-2.0
"""A complete Airflow: scheduler, triggerer, dag-processor and API server as separate processes."""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from airflow_client import AirflowClient
from postgres import Postgres, free_port
from processes import Service, run_to_end, stop_all, wait_until

PROGRAM = Path(sys.executable).with_name("airflow")
E2E_DAGS = Path(__file__).parent / "dags"
EXAMPLES = Path(__file__).parents[2] / "example_dags"
START_SECONDS = 300
# Shorter than Airflow's defaults, 30 seconds for a triggerer and 300 for a task, to keep the tests short.
TRIGGERER_SILENT_SECONDS = 10
TASK_SILENT_SECONDS = 20


def bundles() -> str:
    return json.dumps(
        [
            {
                "name": name,
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(path), "refresh_interval": 300},
            }
            for name, path in (("tests", E2E_DAGS), ("examples", EXAMPLES))
        ]
    )


class AirflowServices:
    """
    Airflow's services with a database.

    :param home: AIRFLOW_HOME, an empty folder
    :param postgres: the running server with Airflow's database
    """

    def __init__(self, home: Path, postgres: Postgres) -> None:
        self.home = home
        self.postgres = postgres
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.fernet_key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        self.environment = self._environment()
        self.scheduler = self._service("scheduler", "--skip-serve-logs")
        self.triggerer = self._service("triggerer", "--skip-serve-logs")
        self.dag_processor = self._service("dag-processor")
        self.api_server = self._service("api-server", "--host", "127.0.0.1", "--port", str(self.port))
        self.second_triggerer = self._service("triggerer", "--skip-serve-logs", name="triggerer-2")
        self.wanted = self.usual
        self.all = [*self.usual, self.second_triggerer]
        self.revived: list[str] = []

    @property
    def usual(self) -> list[Service]:
        return [self.api_server, self.dag_processor, self.scheduler, self.triggerer]

    def start(self) -> None:
        run_to_end([PROGRAM, "db", "migrate"], self.environment, self.home)
        for service in self.wanted:
            service.start()
        wait_until(self.is_healthy, START_SECONDS, "Airflow is healthy", watch=self._fail_if_gone)
        self._wake_up()
        self.client = AirflowClient(self.url)

    def stop(self) -> None:
        stop_all(self.all)

    def revive(self) -> None:
        """Restart wanted services that have ended, like systemd or Kubernetes."""
        for service in self.wanted:
            if not service.is_running:
                self.revived.append(service.name)
                service.start()

    def make_whole(self) -> None:
        """Restore the four services to a healthy state, whatever a test did to them."""
        self.second_triggerer.stop()
        self.wanted = self.usual
        wait_until(self.is_healthy, START_SECONDS, "Airflow is healthy again", watch=self.revive)
        self._wake_up()
        self.revived.clear()

    def is_healthy(self) -> bool:
        try:
            health = requests.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
        except (requests.RequestException, ValueError):
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all(service.is_running for service in self.wanted) and all(
            (health.get(part) or {}).get("status") == "healthy" for part in parts
        )

    def triggerers_alive(self) -> int:
        """Return how many triggerers Airflow considers alive."""
        rows = self.postgres.query(
            "select count(*) from job where job_type = 'TriggererJob' and state = 'running'"
            " and latest_heartbeat > now() - make_interval(secs => %s)",
            [TRIGGERER_SILENT_SECONDS],
        )
        return int(rows[0][0])

    def wait_until(self, condition: Callable[[], object], timeout: float, what: str) -> float:
        """Wait for a condition, and restart services that end in the meantime."""
        return wait_until(condition, timeout, what, watch=self.revive)

    def _wake_up(self) -> None:
        # The first request of a worker takes a new server seconds, which a task may not have.
        requests.get(f"{self.url}/execution/health", timeout=120)

    def _fail_if_gone(self) -> None:
        for service in self.wanted:
            assert service.is_running, f"{service.name} has ended:\n" + "\n".join(
                service.lines_since(0)[-40:]
            )

    def _service(self, command: str, *arguments: str, name: str | None = None) -> Service:
        name = name or command
        return Service(name, [PROGRAM, command, *arguments], self.environment, self.home / f"{name}.log")

    def _environment(self) -> dict[str, str]:
        # All secrets go here, so that no command line contains one.
        options: dict[str, Any] = {
            "core.executor": "LocalExecutor",
            "core.parallelism": 6,
            "core.max_active_tasks_per_dag": 400,
            "core.load_examples": False,
            "core.dags_folder": E2E_DAGS,
            "core.fernet_key": self.fernet_key,
            "core.test_connection": "Enabled",
            "inbound_webhooks.webhook_names": "vapi",
            "core.execution_api_server_url": f"{self.url}/execution/",
            "core.simple_auth_manager_all_admins": True,
            "database.sql_alchemy_conn": self.postgres.url,
            "dag_processor.dag_bundle_config_list": bundles(),
            "dag_processor.parsing_processes": 1,
            "dag_processor.min_file_process_interval": 300,
            "api.base_url": self.url,
            "api.workers": 1,
            "api.enable_xcom_deserialize_support": True,
            "api.secret_key": secrets.token_hex(16),
            "api.maximum_page_limit": 1000,
            "api_auth.jwt_secret": secrets.token_hex(32),
            "logging.base_log_folder": self.home / "logs",
            "scheduler.enable_health_check": False,
            "scheduler.scheduler_health_check_threshold": 15,
            "scheduler.orphaned_tasks_check_interval": 10,
            "scheduler.task_instance_heartbeat_timeout": TASK_SILENT_SECONDS,
            "scheduler.task_instance_heartbeat_timeout_detection_interval": 5,
            "triggerer.job_heartbeat_sec": 2,
            "triggerer.triggerer_health_check_threshold": TRIGGERER_SILENT_SECONDS,
        }
        environment = {
            f"AIRFLOW__{section.upper()}__{key.upper()}": str(value)
            for (section, key), value in ((name.split("."), value) for name, value in options.items())
        }
        return environment | {
            "AIRFLOW_HOME": str(self.home),
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "NO_PROXY": "127.0.0.1,localhost",
            "PATH": os.pathsep.join([str(PROGRAM.parent), os.environ["PATH"]]),
        }
