# SPDX-License-Identifier: Apache-2.0
"""Kills workers in the middle of a task."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from airflow_services import AirflowServices


def kill_tasks(airflow: AirflowServices, dag_id: str, run_id: str, task_id: str, *, whole: bool) -> int:
    """
    Kill the processes of all running instances of a task.

    :param airflow: the services
    :param dag_id: the DAG's id
    :param run_id: the run's id
    :param task_id: the task's id
    :param whole: whether to kill the task's supervisor, too, so that no process reports the failure
    :return: the number of killed task instances
    """
    rows = airflow.postgres.query(
        "select pid from task_instance where dag_id = %s and run_id = %s and task_id = %s and state = 'running'",
        (dag_id, run_id, task_id),
    )
    return sum(_kill_task(pid, whole) for (pid,) in rows if pid)


def _kill_task(pid: int, whole: bool) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        task = psutil.Process(pid)
        supervisor = task.parent()
        assert supervisor is not None
        assert "LocalExecutor" in supervisor.name() + " ".join(supervisor.cmdline())
        if whole:
            os.kill(supervisor.pid, signal.SIGKILL)
        os.kill(task.pid, signal.SIGKILL)
        return True
    return False
