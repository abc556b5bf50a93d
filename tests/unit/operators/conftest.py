# SPDX-License-Identifier: Apache-2.0
"""What an operator runs in: a simulated Vapi behind ``vapi_default``, and a task instance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from vapi_provider.simulator import ManualClock, VapiSimulator


class TaskInstance:
    """Keeps each XCom, and how many requests Vapi had received by then."""

    def __init__(self, simulator: VapiSimulator) -> None:
        self.xcoms: dict[str, Any] = {}
        self.requests_before: dict[str, int] = {}
        self._simulator = simulator

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value
        self.requests_before[key] = len(self._simulator.requests)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def simulator(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[VapiSimulator]:
    with VapiSimulator(clock=clock) as running:
        monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", running.connection)
        yield running


@pytest.fixture
def task_instance(simulator: VapiSimulator) -> TaskInstance:
    return TaskInstance(simulator)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow.sdk.bases.operator.ExecutorSafeguard.test_mode", True)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
