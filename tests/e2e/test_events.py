# SPDX-License-Identifier: Apache-2.0
"""Calls that end start a DAG, whatever happens to the triggerer, the key and the DAG; failures make a phone ring."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_services import AirflowServices
    from planted import Planted

    from vapi_provider.simulator import VapiSimulator

# Minutes, so .ci/run leaves it out.
pytestmark = pytest.mark.slow

ASSISTANT_ID = "0198a3f0-0000-7000-8000-0000000000e1"
DAG_NUMBER, TASK_NUMBER, LATE_NUMBER = "+12025550181", "+12025550182", "+12025550183"
PARALLEL = 6
"""How many tasks the executor of these tests runs at once."""


class Ended:
    """The DAG that ended calls start, and what Airflow stored of their ends."""

    def __init__(self, airflow: AirflowServices, simulator: VapiSimulator) -> None:
        self._airflow = airflow
        self._simulator = simulator

    def pause(self, is_paused: bool) -> None:
        """Pause or unpause the DAG; its trigger comes and goes when the file is parsed."""
        client = self._airflow.client
        dag = client.ask("PATCH", "/api/v2/dags/on_ended", json={"is_paused": is_paused})
        client.ask("PUT", f"/api/v2/parseDagFile/{dag['file_token']}")
        self._airflow.wait_until(lambda: self.has_trigger() is not is_paused, 60, f"paused: {is_paused}")

    def has_trigger(self) -> bool:
        query = "select 1 from trigger where classpath like %s"
        return bool(self._airflow.postgres.query(query, ["%VapiCallEndedTrigger"]))

    def add_call(self) -> str:
        return self._simulator.add_call(status="in-progress", body={"assistantId": ASSISTANT_ID})

    def end(self, call_id: str) -> None:
        self._simulator.end_call(call_id, ended_reason="customer-busy")

    def events(self) -> list[str]:
        """Return the ids of the calls whose ends were stored."""
        rows = self._airflow.postgres.query(
            "select e.extra::json->'payload'->>'call_id' from asset_event e join asset a on a.id = e.asset_id"
            " where a.name = 'e2e_ended' order by e.id",
            [],
        )
        return [row[0] for row in rows]

    def wait_until_labelled(self, call_id: str, seconds: float = 120) -> float:
        def is_labelled() -> bool:
            return bool(self._simulator.get_call(call_id).get("name") == "no_answer")

        return self._airflow.wait_until(is_labelled, seconds, f"call {call_id} is labelled")


@pytest.fixture
def ended(airflow: AirflowServices, simulator: VapiSimulator, events_connection: None) -> Iterator[Ended]:
    listening = Ended(airflow, simulator)
    listening.pause(False)
    yield listening
    airflow.make_whole()
    listening.pause(True)


@pytest.fixture(scope="session")
def events_connection(running_airflow: AirflowServices, simulator: VapiSimulator, planted: Planted) -> None:
    running_airflow.client.add_connection("vapi_events", simulator.url, planted.api_key)


def set_key(airflow: AirflowServices, key: str) -> None:
    body = {"connection_id": "vapi_events", "conn_type": "vapi", "password": key}
    airflow.client.ask(
        "PATCH", "/api/v2/connections/vapi_events", params={"update_mask": "password"}, json=body
    )


def test_every_end_starts_the_dag_once(
    airflow: AirflowServices,
    simulator: VapiSimulator,
    ended: Ended,
    planted: Planted,
    took: Callable[[str, float], None],
) -> None:
    calls = [ended.add_call() for _ in range(5)]
    ended.end(calls[0])
    took("from an end until the call is labelled", ended.wait_until_labelled(calls[0]))
    # Long enough that what was reported is saved.
    time.sleep(12)

    # Killed, with another triggerer beside it that takes over.
    airflow.wanted.append(airflow.second_triggerer)
    airflow.second_triggerer.start()
    airflow.wait_until(lambda: airflow.triggerers_alive() == 2, 60, "two triggerers are alive")
    airflow.wanted.remove(airflow.triggerer)
    airflow.triggerer.kill()
    ended.end(calls[1])
    took("from the loss of a triggerer until the call is labelled", ended.wait_until_labelled(calls[1]))

    # A key that Vapi refuses, and one that it takes.
    set_key(airflow, "0198a3f0-0000-7000-8000-00000000dead")
    # The second time, the trigger knows that the key is not just being replaced.
    refused = [request.status for request in simulator.requests].count(401) + 2

    def is_refused() -> bool:
        return [request.status for request in simulator.requests].count(401) >= refused

    airflow.wait_until(is_refused, 180, "the key is refused")
    ended.end(calls[2])
    set_key(airflow, planted.api_key)
    took("from a new key until the call is labelled", ended.wait_until_labelled(calls[2]))

    # A pause.
    time.sleep(12)
    ended.pause(True)
    ended.end(calls[3])
    time.sleep(6)
    ended.pause(False)
    took("from the end of a pause until the call is labelled", ended.wait_until_labelled(calls[3]))
    ended.end(calls[4])
    ended.wait_until_labelled(calls[4])
    time.sleep(8)
    # Labelling them has moved each ``updatedAt``.
    assert sorted(ended.events()) == sorted(calls)


def alerted(simulator: VapiSimulator) -> dict[str, list[str]]:
    """Return what was said to each number."""
    said: dict[str, list[str]] = {DAG_NUMBER: [], TASK_NUMBER: [], LATE_NUMBER: []}
    for call in simulator.calls.values():
        number: Any = (call.get("customer") or {}).get("number")
        if number in said:
            said[number].append(call["assistantOverrides"]["variableValues"]["message"])
    return said


@pytest.mark.usefixtures("events_connection")
def test_failures_ring_once_and_change_nothing(
    airflow: AirflowServices, simulator: VapiSimulator, took: Callable[[str, float], None]
) -> None:
    def run(tasks: int) -> str:
        run_id = airflow.client.trigger("alerting", {"tasks": tasks})
        airflow.wait_until(
            lambda: airflow.client.run_state("alerting", run_id) not in ("queued", "running"),
            240,
            "the run is over",
        )
        return airflow.client.run_state("alerting", run_id)

    simulator.stop()
    try:
        assert run(1) == "failed"
    finally:
        simulator.start()
    assert not any(alerted(simulator).values())

    assert run(50) == "failed"
    took(
        "until the DAG processor has called",
        airflow.wait_until(lambda: alerted(simulator)[DAG_NUMBER], 120, "the DAG's alert has called"),
    )
    said = alerted(simulator)
    assert said[DAG_NUMBER] == ["alerting failed: task_failure"]
    assert 1 <= len(said[TASK_NUMBER]) <= PARALLEL
    assert said[TASK_NUMBER][0].startswith("alerting failed: task ")


@pytest.mark.usefixtures("events_connection")
def test_missed_deadline_phones_the_number_of_a_variable(
    airflow: AirflowServices, simulator: VapiSimulator, took: Callable[[str, float], None]
) -> None:
    variable = {"key": "late_number", "value": LATE_NUMBER}
    airflow.client.ask("POST", "/api/v2/variables", json=variable)
    airflow.client.trigger("late", {})

    def said() -> list[str]:
        return alerted(simulator)[LATE_NUMBER]

    took(
        "from the run until the call about its deadline",
        airflow.wait_until(said, 120, "the alert has called"),
    )
    assert said() == ["late failed: it missed a deadline"]
