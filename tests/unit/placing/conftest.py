# SPDX-License-Identifier: Apache-2.0
"""A model of Airflow and a simulated Vapi, in a time of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from airflow_model import AirflowModel, vapis_clock

from vapi_provider.simulator import ManualClock, VapiSimulator


@pytest.fixture
def clock() -> ManualClock:
    return vapis_clock(float(int(time.time())))


@pytest.fixture
def simulator(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[VapiSimulator]:
    with VapiSimulator(clock=clock) as running:
        monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", running.connection)
        yield running


@pytest.fixture(params=[True, False], ids=["with-store", "without-store"])
def has_store(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def model(
    simulator: VapiSimulator, clock: ManualClock, has_store: bool, monkeypatch: pytest.MonkeyPatch
) -> AirflowModel:
    model = AirflowModel(simulator, clock, has_store, now=clock.now().timestamp())
    model.install(monkeypatch)
    return model
