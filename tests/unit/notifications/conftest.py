# SPDX-License-Identifier: Apache-2.0
"""A simulator, a notifier and the context of a task's callback."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from late_responses import late_responses_time_out as late_responses_time_out

from airflow.sdk import DAG
from vapi_provider.notifications import alert
from vapi_provider.notifications.call import VapiNotifier

NUMBER = "+12025550143"
ASSISTANT_ID = "0198a3f0-0000-7000-8000-000000000002"
PHONE_NUMBER_ID = "0198a3f0-0000-7000-8000-000000000003"

MakeNotifier = Callable[..., VapiNotifier]


@pytest.fixture(autouse=True)
def _own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert, "_dialled", {})
    # Airflow's own logger writes past pytest.
    monkeypatch.setattr(VapiNotifier, "log", logging.getLogger("notifier"))


@pytest.fixture
def context() -> dict[str, Any]:
    """The context of a task's callback, as far as the defaults use it."""
    return {"dag": DAG("sales"), "run_id": "run 1", "exception": ValueError("no rows")}


@pytest.fixture
def notifier() -> MakeNotifier:
    """Make a notifier: ``notifier(quiet_for=60)``."""

    def make(**changes: Any) -> VapiNotifier:
        arguments = {
            "customer": {"number": NUMBER},
            "assistant_id": ASSISTANT_ID,
            "phone_number_id": PHONE_NUMBER_ID,
            **changes,
        }
        return VapiNotifier(**arguments)

    return make


@pytest.fixture
def another_process() -> Callable[[], None]:
    """Forget what this process has dialled, as another one does not know it."""
    return alert._dialled.clear
