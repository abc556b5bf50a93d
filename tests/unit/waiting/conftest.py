# SPDX-License-Identifier: Apache-2.0
"""Runs sensors as Airflow's workers do, on a clock that only advances while they wait."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from task_instances import SENSOR_MODULE, TaskInstance, TaskStateStore, use_worker_clock
from waiting_helpers import Airflow

from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import ManualClock, VapiSimulator

MOST_PAUSES = 50


class Worker:
    """Runs a sensor to its end in any mode, and replaces ``time`` in Airflow's sensor loop."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self._began_at = datetime.now(timezone.utc)
        self.slept = 0.0
        self.slept_in_process = 0.0
        self.pauses = 0
        self.keeps_state = True
        self.task_instance = TaskInstance(task_id="wait")
        self.store = TaskStateStore()
        self._then: Iterator[Callable[[], object]] = iter(())

    def time(self) -> float:
        # Without a store, the start of the wait comes from Airflow, whose clock stands still here.
        return self.utcnow().timestamp() + (self.slept if self.keeps_state else self.slept_in_process)

    def monotonic(self) -> float:
        return self.utcnow().timestamp() + self.slept_in_process

    def utcnow(self) -> datetime:
        # As in reality, a poke takes a moment.
        return self._began_at + timedelta(milliseconds=self.pauses)

    def sleep(self, seconds: float) -> None:
        self.pauses += 1
        assert self.pauses < MOST_PAUSES, "the sensor never stops waiting"
        self.slept += seconds
        self.slept_in_process += seconds
        self.clock.advance(seconds)
        next(self._then, lambda: None)()

    def run(self, *, then: Iterable[Callable[[], object]] = (), **arguments: Any) -> Any:
        """
        Run a sensor from its first poke to its end.

        :param then: functions to call between the pokes, one after another
        :param arguments: the sensor's arguments
        :return: the sensor's result
        """
        self.slept, self.pauses, self._then = 0.0, 0, iter(then)
        self.task_instance, self.store = TaskInstance(task_id="wait"), TaskStateStore()
        while True:
            # Each poke of a rescheduled sensor runs in a new process.
            self.slept_in_process = 0.0
            sensor = VapiCallSensor(task_id="wait", **arguments)
            if self.pauses:
                self.task_instance.first_reschedule_date = self._began_at - timedelta(seconds=self.slept)
            context = self.task_instance.context(task_reschedule_count=self.pauses)
            if self.keeps_state:
                context["task_state_store"] = self.store
            try:
                return sensor.execute(context)
            except SENSOR_MODULE.AirflowRescheduleException:
                self.sleep(sensor.poke_interval)

    def failure(self, **arguments: Any) -> Exception:
        """Run a sensor that must fail, and return its exception."""
        try:
            result = self.run(**arguments)
        except Exception as error:
            return error
        raise AssertionError(f"the sensor succeeded with {result}")


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> ManualClock:
    """Vapi's clock, off by the test's parameter in days, on a whole second like a ``Date`` header."""
    days_off = timedelta(days=getattr(request, "param", 0))
    return ManualClock(datetime.now(timezone.utc).replace(microsecond=0) + days_off)


@pytest.fixture
def connection_extra() -> dict[str, Any]:
    """Disable repetition of requests, so that one fault is one failed poke."""
    return {"max_retries": 0}


@pytest.fixture
def worker(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker(clock)
    use_worker_clock(worker, monkeypatch)
    monkeypatch.setattr(SENSOR_MODULE, "timezone", worker)
    # Airflow's own logger bypasses pytest.
    monkeypatch.setattr(VapiCallSensor, "log", logging.getLogger("task"))
    return worker


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return this package's warnings so far, without Airflow's own."""

    def logged() -> list[str]:
        return [
            record.getMessage()
            for record in caplog.records
            if record.levelno >= logging.WARNING and record.name.startswith(("task", "vapi_provider"))
        ]

    return logged


@pytest.fixture
def store(request: pytest.FixtureRequest) -> TaskStateStore | None:
    """Airflow's task state store, or None as in versions before 3.3."""
    return TaskStateStore() if getattr(request, "param", True) else None


@pytest.fixture
def airflow(
    worker: Worker, simulator: VapiSimulator, store: TaskStateStore | None, monkeypatch: pytest.MonkeyPatch
) -> Airflow:
    airflow = Airflow(worker.task_instance, simulator, store)
    use_worker_clock(airflow, monkeypatch)
    # For tests that also run a sensor in this process.
    monkeypatch.setattr(SENSOR_MODULE, "time", worker)
    return airflow


@pytest.fixture(params=["poke", "reschedule"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)
