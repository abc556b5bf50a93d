# SPDX-License-Identifier: Apache-2.0
"""A simulator behind the connection ``vapi_default``, and the options that a test can replace."""

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
    """Return the simulator's clock, which only the test advances."""
    return ManualClock()


@pytest.fixture
def vapi_options() -> dict[str, Any]:
    """Return the simulator's options; a test replaces them with a parameter or a fixture of its file."""
    return {}


@pytest.fixture
def connection_extra() -> dict[str, Any]:
    """Return the connection's extra."""
    return {}


@pytest.fixture
def set_connection(monkeypatch: pytest.MonkeyPatch) -> SetConnection:
    """Return a function that points a connection to a simulator: ``set_connection(simulator, password=...)``."""

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
    """Run a simulator, with the connection ``vapi_default`` pointing to it."""
    with VapiSimulator(clock=clock, **vapi_options) as running:
        set_connection(running, extra=connection_extra)
        yield running
