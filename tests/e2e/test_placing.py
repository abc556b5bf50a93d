# SPDX-License-Identifier: Apache-2.0
"""Placing calls while workers are killed, and while users clear and stop tasks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from kills import kill_tasks
from leaks import log_files

from vapi_provider.simulator import Fault, Timeline, VapiSimulator

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_services import AirflowServices
    from planted import Planted

DAG_ID = "place_calls"
RINGS_ON = Timeline(ringing=0, answered=None, ended=None, analysis=None)
# Part of the time that a retry waits if a call may have been placed but is not found.
TIMEOUT_SECONDS = 5
PEOPLE = [f"+120255501{number}" for number in range(10, 30)]


@dataclass
class Placing:
    """
    Runs of the DAG that places calls.

    :param airflow: the services
    :param vapi: a separate simulator, because other calls would count towards its concurrency limit
    """

    airflow: AirflowServices
    vapi: VapiSimulator
    people: list[str] = field(default_factory=list)
    run_id: str = ""
    took: dict[str, float] = field(default_factory=dict)

    def start(self, people: list[str], *how: dict[str, Any]) -> None:
        """Trigger a run that calls these people, the first of them with the given arguments."""
        ways = [*how, *[{}] * (len(people) - len(how))]
        self.people = people
        listed = [{"customer": {"number": number}, **way} for number, way in zip(people, ways, strict=True)]
        self.run_id = self.airflow.client.trigger(DAG_ID, {"people": listed})

    def states(self) -> Counter[str]:
        rows = self.airflow.postgres.query(
            "select state, count(*) from task_instance where dag_id = %s and run_id = %s and task_id = 'call'"
            " and map_index >= 0 group by state",
            (DAG_ID, self.run_id),
        )
        return Counter({str(state): count for state, count in rows})

    def wait_for(self, state: str, within: float) -> float:
        count = len(self.people)
        return self.airflow.wait_until(
            lambda: self.states()[state] == count, within, f"all {count} tasks are {state}"
        )

    def wait_until_called(self, within: float) -> float:
        """Wait until each task has placed its call."""
        # A task that does not know whether its call exists is deferred, too, but has published no id.
        count = len(self.people)
        return self.airflow.wait_until(
            lambda: self.states()["deferred"] == self.published() == count, within, f"all {count} are called"
        )

    def published(self) -> int:
        ((count,),) = self.airflow.postgres.query(
            "select count(*) from xcom where dag_id = %s and run_id = %s and key = 'call_id'",
            (DAG_ID, self.run_id),
        )
        return int(count)

    def posts(self) -> int:
        return sum(request.method == "POST" for request in list(self.vapi.requests))

    def unanswered(self) -> int:
        return sum(
            request.method == "POST" and request.status is None for request in list(self.vapi.requests)
        )

    def looks(self) -> Counter[str]:
        """Return the number of requests for each call by its id."""
        return Counter(request.path.rpartition("/")[2] for request in list(self.vapi.requests))

    def call_ids(self) -> dict[str, str]:
        """Return the call ids by number, as published by the tasks."""
        ids = [
            self.airflow.client.xcom(DAG_ID, self.run_id, "call", "call_id", map_index)
            for map_index in range(len(self.people))
        ]
        return dict(zip(self.people, ids, strict=True))

    def calls(self) -> dict[str, str]:
        """Return the call ids by number, as known to Vapi."""
        calls = self.vapi.calls
        assert len(calls) == len({call["customer"]["number"] for call in calls.values()})
        return {call["customer"]["number"]: call_id for call_id, call in calls.items()}

    def wait_until_over(self) -> None:
        client = self.airflow.client
        self.airflow.wait_until(
            lambda: client.run_state(DAG_ID, self.run_id) == "success", 30, "the run is over"
        )


@pytest.fixture(scope="module")
def vapi(running_airflow: AirflowServices, planted: Planted) -> Iterator[VapiSimulator]:
    with VapiSimulator(api_key=planted.api_key, timeline=RINGS_ON, concurrency_limit=100) as running:
        client = running_airflow.client
        client.add_connection("vapi_placing", running.url, planted.api_key, timeout=TIMEOUT_SECONDS)
        yield running


@pytest.fixture(scope="module")
def campaign(running_airflow: AirflowServices, vapi: VapiSimulator) -> Placing:
    """A run that placed all calls although workers were killed while waiting for responses."""
    placing = Placing(running_airflow, vapi)
    for effect in (True, False, True, False, True):
        vapi.faults.add(Fault(method="POST", path="/call", status=503, effect=effect, delay=600))
    hung = len(vapi.faults)
    placing.start(PEOPLE)
    killed = 0
    while killed < hung:
        placing.airflow.wait_until(
            lambda answered=killed: placing.unanswered() > answered, 60, "a request is under way"
        )
        # In the last round, the supervisors are killed, too, so no process reports the failure.
        killed = placing.unanswered()
        kill_tasks(placing.airflow, DAG_ID, placing.run_id, "call", whole=killed >= hung)
    took = placing.wait_until_called(180)
    placing.took[f"until {len(PEOPLE)} people are called, {hung} of them after a killed worker"] = took
    for call_id in placing.call_ids().values():
        vapi.end_call(call_id)
    placing.took[f"until the ends of {len(PEOPLE)} calls are reported"] = placing.wait_for("success", 120)
    placing.wait_until_over()
    return placing


def test_killed_workers_cause_no_second_call(
    airflow: AirflowServices, campaign: Placing, took: Callable[[str, float], None]
) -> None:
    for what, seconds in campaign.took.items():
        took(what, seconds)
    assert campaign.vapi.rings == dict.fromkeys(PEOPLE, 1)
    assert campaign.call_ids() == campaign.calls()


def test_cleared_run_does_not_call_again(
    airflow: AirflowServices, campaign: Placing, took: Callable[[str, float], None]
) -> None:
    before, posts = campaign.call_ids(), campaign.posts()
    airflow.client.clear_run(DAG_ID, campaign.run_id)
    took(f"until a run of {len(PEOPLE)} that was cleared is over", campaign.wait_for("success", 150))
    campaign.wait_until_over()
    assert campaign.call_ids() == before
    assert campaign.posts() == posts
    assert campaign.vapi.rings == dict.fromkeys(PEOPLE, 1)


def test_airflow_shows_no_phone_number(airflow: AirflowServices, campaign: Placing) -> None:
    rows = airflow.postgres.query(
        "select map_index, rendered_fields::text from rendered_task_instance_fields where run_id = %s and task_id = 'call'",
        (campaign.run_id,),
    )
    assert {map_index for map_index, _ in rows} == set(range(len(PEOPLE)))
    for map_index, text in rows:
        assert PEOPLE[map_index] not in text
        assert json.loads(text)["customer"] == {"number": f"***{PEOPLE[map_index][-2:]}"}


def test_stopped_deferred_task_ends_its_call_with_hang_up(
    airflow: AirflowServices, vapi: VapiSimulator, folder: Path
) -> None:
    placing = Placing(airflow, vapi)
    asked, not_asked = people = ["+12025550151", "+12025550152"]
    placing.start(people, {"hang_up_on_kill": True})
    placing.wait_for("deferred", 60)
    ids = placing.call_ids()
    calls = {number: vapi.get_call(call_id) for number, call_id in ids.items()}
    # A triggerer only hears of stopped triggers that it is already running.
    looked = placing.looks()
    airflow.wait_until(
        lambda: all(placing.looks()[call_id] > looked[call_id] for call_id in ids.values()),
        60,
        "the triggerer polls both calls",
    )
    # The call that must stay live comes first, so that its task is handled once the other call has ended.
    for map_index in (1, 0):
        airflow.client.mark_task(DAG_ID, placing.run_id, "call", map_index, "failed")
    airflow.wait_until(lambda: vapi.get_call(ids[asked])["status"] == "ended", 60, "the call has been ended")
    assert vapi.get_call(ids[asked])["endedReason"] == "manually-canceled"
    assert vapi.get_call(ids[not_asked])["status"] == "ringing"
    said = f"The task was stopped. Call {ids[asked]} was ended."
    airflow.wait_until(
        lambda: any(said in text for text in log_files(folder).values()), 30, "the triggerer logs it"
    )
    for call in calls.values():
        capability = call["monitor"]["controlUrl"].rpartition("/")[2]
        assert [path for path, text in log_files(folder).items() if capability in text] == []
