# SPDX-License-Identifier: Apache-2.0
"""The asset events of tasks with outlets show how the call ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow.version import version
from vapi_provider.simulator import Fault, Timeline

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator


@pytest.fixture
def vapi_options() -> dict[str, Any]:
    return {"timeline": Timeline(ringing=0, answered=0, ended=0.1, analysis=None)}


def busy_after_a_poke(simulator: VapiSimulator) -> str:
    """Add a call that is live when it is first read and busy from then on, and return its id."""
    call_id = simulator.add_call(status="ringing")
    body = json.dumps(simulator.get_call(call_id))
    simulator.end_call(call_id, ended_reason="customer-busy")
    simulator.faults.add(Fault(path=f"/call/{call_id}", method="GET", body=body))
    return call_id


def extras() -> dict[str, Any]:
    """Return the extra of the latest event of each asset."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session

    with create_session() as session:
        events = session.query(AssetEvent).order_by(AssetEvent.id)
        return {event.uri.rpartition("/")[2]: event.extra for event in events}


@pytest.mark.skipif(version.startswith("3.0."), reason="dag.test() of Airflow 3.0 activates no assets")
def test_asset_events_show_the_end_in_every_mode(
    simulator: VapiSimulator,
    run_dag: Callable[..., Any],
    load_dag_file: Callable[[Path], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vapi_provider.triggers.call.SETTLE_SECONDS", 0.05)
    monkeypatch.setattr("vapi_provider.polling.poller.MIN_INTERVAL_SECONDS", 0.05)
    dag = load_dag_file(Path(__file__).parent / "dags" / "with_outlets.py").dag
    awaited = {mode: busy_after_a_poke(simulator) for mode in ("poke", "reschedule", "defer", "authored")}
    run = run_dag(dag, call_ids=awaited)
    assert run.state == "success"
    shown = extras()
    end = {"outcome": "no_answer", "ended_reason": "customer-busy"}
    for mode in ("poke", "reschedule", "defer"):
        assert shown[mode] == {**end, "call_id": awaited[mode]}
    assert shown["authored"] == {**end, "call_id": awaited["authored"], "outcome": "mine", "more": 1}
    assert shown["update"]["call_id"] == awaited["poke"]
    for name in ("place_and_wait", "place_and_defer"):
        (call_id,) = run.call_ids(name)
        assert shown[name] == {
            "call_id": call_id,
            "outcome": "completed",
            "ended_reason": "customer-ended-call",
        }
    (call_id,) = run.call_ids("place")
    assert shown["place"]["call_id"] == call_id
    assert shown["place"].keys() == {"call_id", *end}
    assert shown["other"] == {}
