# SPDX-License-Identifier: Apache-2.0
"""What is killed in the Celery test, and when."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from celery_services import CeleryServices
    from processes import Service

RUNNING_PIDS = "select pid from task_instance where state = 'running' and pid is not null order by pid"


@dataclass(frozen=True)
class Kill:
    """
    One loss.

    :param what: ``task``, ``supervisor``, ``worker``, ``triggerer`` or ``scheduler``
    :param which: which of the two services
    :param after_calls: how many calls must have been placed before it
    :param delay: the seconds after that call
    :param down: the seconds until the service is started again
    """

    what: str
    which: int
    after_calls: int
    delay: float
    down: float


def plan(seed: int, calls: int) -> list[Kill]:
    """Choose the moments of all losses, in their order; the last comes before the last tenth of the calls."""
    rng = random.Random(seed)
    kills = [
        Kill(what, rng.randrange(2), rng.randrange(1, calls * 9 // 10), rng.uniform(0, 3), rng.uniform(2, 12))
        for what in ("task", "supervisor", "worker", "triggerer", "scheduler")
    ]
    return sorted(kills, key=lambda kill: kill.after_calls)


class Damage:
    """
    Carries out a plan.

    :param airflow: the services
    :param placed: returns how many calls have been placed
    """

    def __init__(self, airflow: CeleryServices, placed: Callable[[], int]) -> None:
        self._airflow = airflow
        self._placed = placed

    def carry_out(self, kills: list[Kill], within: float) -> None:
        for kill in kills:
            self._airflow.wait_until(
                lambda kill=kill: self._placed() >= kill.after_calls,
                within,
                f"{kill.after_calls} calls are placed",
            )
            time.sleep(kill.delay)
            if kill.what in ("task", "supervisor"):
                self._airflow.wait_until(
                    lambda kill=kill: self._kill_task(whole=kill.what == "supervisor"),
                    within,
                    "a task runs that can be killed",
                )
            else:
                self._kill_service(getattr(self._airflow, f"{kill.what}s")[kill.which], kill.down)

    def _kill_service(self, service: Service, down: float) -> None:
        self._airflow.wanted.remove(service)
        children = psutil.Process(service.pid).children(recursive=True)
        service.kill()
        # A task has its own process group.
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        time.sleep(down)
        service.start()
        self._airflow.wanted.append(service)

    def _kill_task(self, *, whole: bool) -> bool:
        """Kill a running task, and its supervisor too if asked for, so that no process reports the failure."""
        for (pid,) in self._airflow.postgres.query(RUNNING_PIDS):
            with contextlib.suppress(psutil.NoSuchProcess):
                task = psutil.Process(pid)
                supervisor = task.parent()
                # The task may have ended, and its process id been reused.
                is_ours = {parent.pid for parent in task.parents()} & {w.pid for w in self._airflow.workers}
                if supervisor is None or not is_ours:
                    continue
                if whole:
                    supervisor.kill()
                task.kill()
                return True
        return False
