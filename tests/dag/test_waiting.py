# SPDX-License-Identifier: Apache-2.0
"""Downstream tasks use the result of a waiting task."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator


def test_mapped_wait_returns_its_summaries(simulator: VapiSimulator, run_dag: Callable[..., Any]) -> None:
    reached = simulator.add_call(status="ended")
    missed = simulator.add_call(status="ended", body={"endedReason": "customer-busy"})
    run = run_dag("wait_for_list", call_ids=[missed, reached])
    assert run.state == "success"
    assert run.results("reached") == [[reached]]


@pytest.mark.parametrize(
    ("reason", "name", "states"),
    [
        pytest.param("customer-ended-call", "Thank", ("success", "skipped"), id="reached"),
        pytest.param("customer-busy", "Call again", ("skipped", "success"), id="missed"),
    ],
)
def test_dag_can_branch_on_the_outcome(
    simulator: VapiSimulator,
    run_dag: Callable[..., Any],
    reason: str,
    name: str,
    states: tuple[str, str],
) -> None:
    call_id = simulator.add_call(status="ended", body={"endedReason": reason})
    run = run_dag("branch_on_outcome", call_id=call_id)
    assert (*run.states("thank"), *run.states("call_again")) == states
    assert simulator.get_call(call_id)["name"] == name
