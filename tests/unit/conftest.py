# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all tests that run without Airflow's services."""

from __future__ import annotations

import os
import sys

import pytest
from late_responses import (
    held_responses as held_responses,
    late_responses_time_out as late_responses_time_out,
)
from simulator_fixtures import (
    clock as clock,
    connection_extra as connection_extra,
    set_connection as set_connection,
    simulator as simulator,
    vapi_options as vapi_options,
)


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own proxies, certificates and passwords out of the tests."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NETRC", os.devnull)


@pytest.fixture(autouse=True)
def operators_run_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow tests to call ``execute``, which Airflow reserves for its task runner."""
    # Only tests that run an operator have imported this module.
    if module := sys.modules.get("airflow.sdk.bases.operator"):
        monkeypatch.setattr(module.ExecutorSafeguard, "test_mode", True)


@pytest.fixture(autouse=True)
def no_remembered_connections() -> None:
    """Forget connections that another test looked up in this process."""
    if module := sys.modules.get("vapi_provider.hooks.vapi"):
        module._looked_up.clear()
