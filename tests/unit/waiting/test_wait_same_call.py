# SPDX-License-Identifier: Apache-2.0
"""A wait keeps its call, whatever its templates render later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from task_instances import BACKSTOP, LINK, TaskStateStore, reported
from waiting_helpers import RINGS_ON, Airflow

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator

OTHER_ID = "019a7c2e-5f00-7000-8000-0000000000bb"

with_and_without_store = pytest.mark.parametrize(
    "store", [False, True], ids=["before-3.3", "from-3.3"], indirect=True
)
rendered_anew = pytest.mark.parametrize(
    "rendered",
    [{"call_id": OTHER_ID}, {"call_id": "None"}, {"call_id": ""}, {"vapi_conn_id": "vapi_elsewhere"}],
    ids=lambda rendered: "-".join(map(str, *rendered.items())),
)


@with_and_without_store
@rendered_anew
@pytest.mark.parametrize("by", ["event", "backstop"])
def test_deferred_wait_keeps_its_call(
    airflow: Airflow, simulator: VapiSimulator, rendered: dict[str, Any], by: str
) -> None:
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id)
    for _ in range(2):
        deferral = airflow.resume(deferral, reported("done", call_id), **{"call_id": call_id, **rendered})
        assert (deferral.trigger.call_id, deferral.trigger.vapi_conn_id) == (call_id, "vapi_default")
    simulator.end_call(call_id)
    method, kwargs = BACKSTOP if by == "backstop" else (deferral.method, {"event": reported("done", call_id)})
    assert airflow.resume_with(method, kwargs, **{"call_id": call_id, **rendered})["id"] == call_id
    assert airflow.task_instance.xcoms[LINK] == f"{simulator.url}/calls/{call_id}"


@with_and_without_store
def test_deferred_wait_without_state_uses_the_events_id(airflow: Airflow, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id)
    airflow.task_instance.xcoms.clear()
    airflow.store = airflow.store and TaskStateStore()
    simulator.end_call(call_id)
    assert airflow.resume(deferral, reported("done", call_id), call_id=OTHER_ID)["id"] == call_id


@with_and_without_store
def test_deferred_operator_keeps_its_connection(airflow: Airflow, simulator: VapiSimulator) -> None:
    simulator.timeline = RINGS_ON
    deferral = airflow.deferral()
    call_id = deferral.trigger.call_id
    again = airflow.resume(deferral, reported("done", str(call_id)), vapi_conn_id="vapi_elsewhere")
    assert (again.trigger.call_id, again.trigger.vapi_conn_id) == (call_id, "vapi_default")
    assert len(simulator.calls) == 1


@with_and_without_store
def test_retry_waits_for_the_call_its_template_renders(airflow: Airflow, simulator: VapiSimulator) -> None:
    """Airflow 3.0 resumes a deferred task's retry with the previous try's event."""
    first, second = (simulator.add_call(status="ringing") for _ in range(2))
    deferral = airflow.deferral(call_id=first, timeout=600)
    airflow.task_instance.try_number = 2
    airflow.pass_time(500)
    again = airflow.resume(deferral, reported("done", first), call_id=second, timeout=600)
    assert again.trigger.call_id == second
    assert again.trigger.end_time == airflow.now + 600
    assert (
        airflow.resume(again, reported("done", second), call_id=first, timeout=600).trigger == again.trigger
    )


def test_rescheduled_wait_keeps_its_call(simulator: VapiSimulator, worker: Any, mode: str) -> None:
    first, second = (simulator.add_call(status="ringing") for _ in range(2))
    rendered = {"id": first}
    then = [lambda: rendered.update(id=second), lambda: simulator.end_call(first)]
    assert worker.run(call_id=rendered, mode=mode, then=then)["id"] == first
