# SPDX-License-Identifier: Apache-2.0
"""A worker is killed while it sets a call's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kills import kill_tasks

from vapi_provider.simulator import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_services import AirflowServices

    from vapi_provider.simulator import VapiSimulator


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(method="PATCH", status=503, delay=600), id="before the effect"),
        pytest.param(Fault(method="PATCH", delay=600), id="after the effect"),
    ],
)
@pytest.mark.parametrize("whole", [False, True], ids=["the task", "the task and its supervisor"])
def test_next_try_sets_the_name(
    airflow: AirflowServices,
    simulator: VapiSimulator,
    took: Callable[[str, float], None],
    fault: Fault,
    whole: bool,
) -> None:
    call_id = simulator.add_call(status="ended", body={"name": "Before"})
    simulator.faults.add(fault)
    run_id = airflow.client.trigger("rename_call", {"call_id": call_id, "name": "Reached"})
    airflow.wait_until(lambda: requests_for(simulator, call_id), 60, "the name is being set")
    assert simulator.get_call(call_id)["name"] == ("Before" if fault.status else "Reached")
    assert kill_tasks(airflow, "rename_call", run_id, "rename", whole=whole) == 1
    took(
        "from the kill until the next try is over",
        airflow.wait_until(
            lambda: airflow.client.run_state("rename_call", run_id) == "success", 120, "the next try is over"
        ),
    )
    assert simulator.get_call(call_id)["name"] == "Reached"
    assert requests_for(simulator, call_id) == ["PATCH", "PATCH"]


def requests_for(simulator: VapiSimulator, call_id: str) -> list[str]:
    return [request.method for request in list(simulator.requests) if request.path == f"/call/{call_id}"]
