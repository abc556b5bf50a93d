# SPDX-License-Identifier: Apache-2.0
"""A simulated Vapi behind the connection ``vapi_default``, and what may differ from test to test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from vapi_provider.simulator import ManualClock, VapiSimulator

if TYPE_CHECKING:
    from vapi_provider.simulator.clock import Clock

SetConnection = Callable[..., None]


@pytest.fixture
def clock() -> Clock:
    """Vapi's clock, which only the test moves."""
    return ManualClock()


@pytest.fixture
def vapi_options() -> dict[str, Any]:
    """Options of the simulator; a parameter of a test, or a fixture of its file, takes their place."""
    return {}


@pytest.fixture
def connection_extra() -> dict[str, Any]:
    """Limits that the connection sets."""
    return {}


@pytest.fixture
def set_connection(monkeypatch: pytest.MonkeyPatch) -> SetConnection:
    """Let a connection lead to a simulator: ``set_connection(simulator, password=...)``."""

    def change(simulator: VapiSimulator, conn_id: str = "vapi_default", **fields: Any) -> None:
        connection = {**json.loads(simulator.connection), **fields}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))

    return change


@pytest.fixture
def simulator(
    clock: Clock,
    vapi_options: dict[str, Any],
    connection_extra: dict[str, Any],
    set_connection: SetConnection,
) -> Iterator[VapiSimulator]:
    """A running simulator, to which ``vapi_default`` leads."""
    with VapiSimulator(clock=clock, **vapi_options) as running:
        set_connection(running, extra=connection_extra)
        yield running
