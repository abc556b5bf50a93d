# SPDX-License-Identifier: Apache-2.0
"""The asset events of tasks with outlets show how the call ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow.version import version
from vapi_provider.simulator import Timeline

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator


@pytest.fixture
def vapi_options() -> dict[str, Any]:
    return {"timeline": Timeline(ringing=0, answered=0, ended=0.5, analysis=None)}


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
    awaited = simulator.add_call(status="in-progress")
    ending = threading.Timer(4.0, simulator.end_call, [awaited], {"ended_reason": "customer-busy"})
    ending.start()
    try:
        run = run_dag(dag, call_id=awaited)
    finally:
        ending.cancel()
    assert run.state == "success"
    shown = extras()
    end = {"call_id": awaited, "outcome": "no_answer", "ended_reason": "customer-busy"}
    assert shown["poke"] == shown["reschedule"] == shown["defer"] == end
    assert shown["authored"] == {**end, "outcome": "mine", "more": 1}
    assert shown["update"]["call_id"] == awaited
    for name in ("place_and_wait", "place_and_defer"):
        (call_id,) = run.call_ids(name)
        assert shown[name] == {
            "call_id": call_id,
            "outcome": "completed",
            "ended_reason": "customer-ended-call",
        }
    (call_id,) = run.call_ids("place")
    assert shown["place"]["call_id"] == call_id
    assert shown["place"].keys() == end.keys()
    assert shown["other"] == {}
