# SPDX-License-Identifier: Apache-2.0
"""An Airflow with the CeleryExecutor: two schedulers, two triggerers, two workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from airflow_services import START_SECONDS, AirflowServices
from processes import Service, wait_until

if TYPE_CHECKING:
    from postgres import Postgres
    from redis_server import Redis

DAGS = Path(__file__).parent / "dags"
SLOTS_PER_WORKER = 4
# Airflow's default is 300 seconds; a busy machine can delay a heartbeat by several.
TASK_SILENT_SECONDS = 40
# Airflow's default is 600 seconds. What a lost worker or scheduler had queued is sent again after this time.
QUEUED_SECONDS = 60


class CeleryServices(AirflowServices):
    """
    Airflow's services over several processes of each kind.

    :param home: AIRFLOW_HOME, an empty folder
    :param postgres: the running server with Airflow's database
    :param redis: the running server with Celery's queue
    """

    def __init__(self, home: Path, postgres: Postgres, redis: Redis) -> None:
        self._redis = redis
        super().__init__(home, postgres)
        second_scheduler = self._service("scheduler", "--skip-serve-logs", name="scheduler-2")
        self.schedulers = [self.scheduler, second_scheduler]
        self.triggerers = [self.triggerer, self.second_triggerer]
        self.workers = [self._worker(number) for number in (1, 2)]
        self.wanted = [self.api_server, self.dag_processor, *self.schedulers, *self.triggerers, *self.workers]
        self.all = list(self.wanted)

    def start(self) -> None:
        super().start()
        wait_until(self._have_workers, START_SECONDS, "both workers run", watch=self._fail_if_gone)

    def stop(self) -> None:
        super().stop()
        self._end_leftovers()

    def remaining(self) -> list[psutil.Process]:
        """Return the processes of this Airflow that run."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _end_leftovers(self) -> None:
        """Kill what has outlived its parent, such as the task of a killed worker."""
        for process in self.remaining():
            try:
                process.kill()
                process.wait(10)
            except psutil.NoSuchProcess:
                continue

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("AIRFLOW_HOME") == str(self.home)
        except psutil.Error:
            return False

    def _have_workers(self) -> bool:
        return all(
            len(psutil.Process(worker.pid).children(recursive=True)) >= SLOTS_PER_WORKER
            for worker in self.workers
        )

    def _worker(self, number: int) -> Service:
        name = f"worker-{number}"
        return self._service(
            "celery",
            "worker",
            "--celery-hostname",
            f"{name}@localhost",
            "--concurrency",
            str(SLOTS_PER_WORKER),
            "--pid",
            str(self.home / f"{name}.pid"),
            "--skip-serve-logs",
            name=name,
        )

    def _environment(self) -> dict[str, str]:
        bundle = {
            "name": "celery",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(DAGS), "refresh_interval": 300},
        }
        options = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            # Per scheduler. What exceeds the workers' slots waits in the queue, but not for QUEUED_SECONDS.
            "AIRFLOW__CORE__PARALLELISM": "12",
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
            "AIRFLOW__CELERY__BROKER_URL": self._redis.url,
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(TASK_SILENT_SECONDS),
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": str(QUEUED_SECONDS),
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
        }
        return super()._environment() | options
