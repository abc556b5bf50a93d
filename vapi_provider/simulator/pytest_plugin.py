# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: ``pytest_plugins = ["vapi_provider.simulator.pytest_plugin"]`` in a ``conftest.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vapi_provider.simulator.server import VapiSimulator

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def vapi_simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[VapiSimulator]:
    """Run a fresh simulator for one test, with the connection ``vapi_default`` pointing to it."""
    with VapiSimulator() as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", simulator.connection)
        yield simulator
