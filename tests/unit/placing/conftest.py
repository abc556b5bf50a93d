# SPDX-License-Identifier: Apache-2.0
"""A model of Airflow and a simulated Vapi, in a time of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from airflow_model import NOON, AirflowModel, vapis_clock

if TYPE_CHECKING:
    from vapi_provider.simulator import ManualClock, VapiSimulator


@pytest.fixture(autouse=True)
def _hanging_up_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # However busy the machine is.
    monkeypatch.setattr("vapi_provider.client.hang_up.HANG_UP_REQUEST_SECONDS", 60.0)
    monkeypatch.setattr("vapi_provider.client.hang_up.HANG_UP_SECONDS", 60.0)


@pytest.fixture
def clock() -> ManualClock:
    return vapis_clock(NOON)


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
