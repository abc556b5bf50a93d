# SPDX-License-Identifier: Apache-2.0
"""What each process of a task reads, writes and requests, as the table in the docs says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from markdown_pages import table
from task_instances import Deferral, TaskInstance, TaskStateStore, reported, stored

from airflow.providers.common.compat.sdk import TaskDeferred
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import Timeline, VapiSimulator

CALL: dict[str, Any] = {
    "task_id": "call",
    "assistant_id": "0198a3f0-0000-7000-8000-000000000002",
    "phone_number_id": "0198a3f0-0000-7000-8000-000000000003",
    "customer": {"number": "+12025550143"},
    "deferrable": True,
}


class Task:
    """
    A task with a state store, whose accesses and requests are counted.

    :param build: makes its operator, anew for each process
    :param vapi: the simulator
    """

    def __init__(self, build: Callable[[], Any], vapi: VapiSimulator) -> None:
        self._build = build
        self._vapi = vapi
        self._counted: Counter[str] = Counter()
        self._ti = TaskInstance(at=self._count)
        self._store = TaskStateStore(at=self._count)

    def _count(self, access: str) -> None:
        self._counted[access] += 1

    def run(self, deferred: Deferral | None = None) -> tuple[list[str], Any]:
        """Run a process, and return the cells of its row in the docs, and how it ended."""
        self._counted.clear()
        earlier_requests = len(self._vapi.requests)
        context = self._ti.context(task_state_store=self._store)
        try:
            if deferred is None:
                result = self._build().execute(context)
            else:
                event = reported("done", deferred.trigger.call_id)
                kwargs = {**deferred.kwargs, "event": event}
                result = self._build().resume_execution(deferred.method, kwargs, context)
        except TaskDeferred as again:
            result = stored(again)
        counted = [self._counted[name] for name in ("store.get", "store.set", "xcom.push")]
        counted.append(len(self._vapi.requests) - earlier_requests)
        return [str(count) for count in counted], result


def documented(process: str) -> list[str]:
    (row,) = (row for row in table("scaling.md", "| process |") if row[0] == process)
    return row[2:]


@pytest.fixture
def live_then_over(simulator: VapiSimulator) -> Callable[[str], None]:
    """Keep placed calls live until the returned function ends them."""
    simulator.timeline = Timeline(ringing=0, answered=0, ended=None, analysis=None)

    def end_all(reason: str) -> None:
        for call_id in simulator.calls:
            simulator.end_call(call_id, reason)

    return end_all


def test_placing_and_resuming(simulator: VapiSimulator, live_then_over: Callable[[str], None]) -> None:
    task = Task(lambda: VapiCreateCallOperator(**CALL), simulator)
    counts, deferred = task.run()
    assert counts == documented("place a call and defer")
    live_then_over("customer-ended-call")
    counts, summary = task.run(deferred)
    assert summary["outcome"] == "completed"
    assert counts == documented("resume after the call's end")


def test_waiting_with_the_sensor(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="in-progress")
    task = Task(lambda: VapiCallSensor(task_id="wait", call_id=call_id, deferrable=True), simulator)
    counts, deferred = task.run()
    assert counts == documented("wait with the sensor and defer")
    simulator.end_call(call_id)
    counts, summary = task.run(deferred)
    assert summary["status"] == "ended"
    assert counts == documented("resume the sensor")
