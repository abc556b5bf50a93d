# SPDX-License-Identifier: Apache-2.0
"""A campaign with nearly as many callees as Airflow's default limit for mapped tasks."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from vapi_provider.simulator import Timeline, VapiSimulator

PEOPLE = [f"+1202556{number:04}" for number in range(1000)]


@pytest.fixture
def vapi_options() -> dict[str, Any]:
    at_once = Timeline(ringing=0, answered=0, ended=0, analysis=0)
    return {"timeline": at_once, "concurrency_limit": len(PEOPLE)}


@pytest.mark.deep
@pytest.mark.no_cover  # Coverage would slow it down by half, and other tests cover the same code.
def test_thousand_callees_are_called_once_each(
    simulator: VapiSimulator, run_dag: Callable[..., Any], dag_module: ModuleType
) -> None:
    dag_module.people[:] = [
        {"customer": {"number": number}, "wait_for_completion": False} for number in PEOPLE
    ]
    run = run_dag("place_each")
    assert run.state == "success"
    assert simulator.rings == dict.fromkeys(PEOPLE, 1)
    assert [request.method for request in simulator.requests] == ["POST"] * len(PEOPLE)
    assert [simulator.get_call(each)["customer"]["number"] for each in run.call_ids("call")] == PEOPLE
