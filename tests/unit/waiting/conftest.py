# SPDX-License-Identifier: Apache-2.0
"""Sensors that are run as Airflow's workers run them, on a clock that only their waiting moves."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from waiting_helpers import Airflow, StateStore, TaskInstance

from airflow.providers.common.compat.sdk import BaseSensorOperator
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import ManualClock, VapiSimulator

# Its home, and that of the exception, differ between the versions of Airflow.
SENSOR_MODULE: Any = sys.modules[BaseSensorOperator.__module__]

MOST_PAUSES = 50


class Worker:
    """Runs a sensor to its end, whichever its mode; it takes the place of ``time`` in Airflow's sensor loop."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.slept = 0.0
        self.slept_in_process = 0.0
        self.pauses = 0
        self.keeps_state = True
        self.task_instance = TaskInstance()
        self.store = StateStore()
        self._then: Iterator[Callable[[], object]] = iter(())

    def time(self) -> float:
        # Without a store, what is known of the past comes from Airflow, whose clock stands still here.
        return time.time() + (self.slept if self.keeps_state else self.slept_in_process)

    def monotonic(self) -> float:
        return time.monotonic() + self.slept_in_process

    def sleep(self, seconds: float) -> None:
        self.pauses += 1
        assert self.pauses < MOST_PAUSES, "the sensor waits without end"
        self.slept += seconds
        self.slept_in_process += seconds
        self.clock.advance(seconds)
        next(self._then, lambda: None)()

    def run(self, *, then: Iterable[Callable[[], object]] = (), **arguments: Any) -> Any:
        """
        Run a sensor from its first poke to its end.

        :param then: what happens between the pokes, one after another
        :param arguments: the sensor's
        :return: the sensor's result
        """
        self.slept, self.pauses, self._then = 0.0, 0, iter(then)
        self.task_instance, self.store = TaskInstance(), StateStore()
        while True:
            # Each poke of a rescheduled sensor is another process.
            self.slept_in_process = 0.0
            sensor = VapiCallSensor(task_id="wait", **arguments)
            if self.pauses:
                now = datetime.now(timezone.utc)
                self.task_instance.first_reschedule_date = now - timedelta(seconds=self.slept)
            context: Any = {"ti": self.task_instance, "task_reschedule_count": self.pauses}
            if self.keeps_state:
                context["task_state_store"] = self.store
            try:
                return sensor.execute(context)
            except SENSOR_MODULE.AirflowRescheduleException:
                self.sleep(sensor.poke_interval)

    def failure(self, **arguments: Any) -> Exception:
        """Run a sensor that must not succeed, and return what it raised."""
        try:
            result = self.run(**arguments)
        except Exception as error:
            return error
        raise AssertionError(f"the sensor succeeded with {result}")


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> ManualClock:
    """Vapi's clock, so many days off as the test's parameter says; on a whole second, as ``Date`` headers are."""
    days_off = timedelta(days=getattr(request, "param", 0))
    return ManualClock(datetime.now(timezone.utc).replace(microsecond=0) + days_off)


@pytest.fixture
def simulator(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[VapiSimulator]:
    """A simulator behind ``vapi_default``; requests are not repeated, so that one fault is one failed poke."""
    with VapiSimulator(clock=clock) as running:
        connection = {**json.loads(running.connection), "extra": {"max_retries": 0}}
        monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", json.dumps(connection))
        yield running


@pytest.fixture
def worker(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker(clock)
    monkeypatch.setattr(SENSOR_MODULE, "time", worker)
    monkeypatch.setattr("vapi_provider.waiting.wait.time", worker)
    monkeypatch.setattr("airflow.sdk.bases.operator.ExecutorSafeguard.test_mode", True)
    # Airflow's own logger writes past pytest.
    monkeypatch.setattr(VapiCallSensor, "log", logging.getLogger("task"))
    return worker


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the warnings of this package so far; Airflow has warnings of its own."""

    def logged() -> list[str]:
        return [
            record.getMessage()
            for record in caplog.records
            if record.levelno >= logging.WARNING and record.name.startswith(("task", "vapi_provider"))
        ]

    return logged


@pytest.fixture
def store(request: pytest.FixtureRequest) -> StateStore | None:
    """Airflow's task state store, which older versions do not have."""
    return StateStore() if getattr(request, "param", True) else None


@pytest.fixture
def airflow(
    worker: Worker, simulator: VapiSimulator, store: StateStore | None, monkeypatch: pytest.MonkeyPatch
) -> Airflow:
    airflow = Airflow(worker.task_instance, simulator, store)
    for module in (
        "operators.call",
        "placing.placement",
        "placing.search",
        "sensors.call",
        "waiting.mixin",
        "waiting.wait",
    ):
        monkeypatch.setattr(f"vapi_provider.{module}.time", airflow)
    return airflow


@pytest.fixture(params=["poke", "reschedule"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)
