# SPDX-License-Identifier: Apache-2.0
"""Workers that are killed in the middle of a task."""

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
    Kill the processes of a task that runs, or of each of its mapped instances that do.

    :param airflow: the services.
    :param dag_id: the DAG.
    :param run_id: the run.
    :param task_id: the task.
    :param whole: whether the process that watches over a task is killed as well, so that nobody is left to tell.
    :return: how many were killed.
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
