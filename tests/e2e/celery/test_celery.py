# SPDX-License-Identifier: Apache-2.0
"""A campaign with the CeleryExecutor, while workers, a triggerer and a scheduler are killed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from celery_services import CeleryServices
from damage import Damage, plan
from leaks import find_in_all, log_files
from markdown_pages import table
from redis_server import Redis

from airflow.configuration import conf
from vapi_provider.simulator import Fault, Scenario, VapiSimulator

if TYPE_CHECKING:
    from planted import Planted
    from postgres import Postgres

DAG_ID = "celery_campaign"
SEED = int(os.environ.get("SEED", "1"))
PEOPLE = [f"+120255501{number:02}" for number in range(60)]
UNANSWERED = PEOPLE[::3]
# Their calling hours begin while the others are being called.
LATE = PEOPLE[48:]
RINGS = {number: 2 if number in UNANSWERED else 1 for number in PEOPLE}
# A busy machine takes several times as long as a quiet one.
LONGEST_SECONDS = 3000
SLOW_RESPONSE_SECONDS = 3
LIST_LAG_SECONDS = 10


@pytest.fixture(scope="module")
def vapi(planted: Planted) -> Iterator[VapiSimulator]:
    outcomes = dict.fromkeys(UNANSWERED, "customer-did-not-answer")
    with VapiSimulator(
        api_key=planted.api_key,
        timeline=Scenario(end_after=20, outcomes=outcomes),
        concurrency_limit=len(PEOPLE),
        list_lag=LIST_LAG_SECONDS,
    ) as running:
        running.faults.add(Fault(method="POST", path="/call", delay=SLOW_RESPONSE_SECONDS, times=None))
        yield running


@pytest.fixture(scope="module")
def redis(folder: Path) -> Iterator[Redis]:
    (folder / "redis").mkdir()
    server = Redis(folder / "redis")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def running_airflow(
    folder: Path, postgres: Postgres, redis: Redis, vapi: VapiSimulator, planted: Planted
) -> Iterator[CeleryServices]:
    home = folder / "airflow"
    home.mkdir()
    services = CeleryServices(home, postgres, redis)
    try:
        services.start()
        services.client.add_connection("vapi_default", vapi.url, planted.api_key, timeout=10)
        services.wait_until(lambda: services.client.has_dag(DAG_ID), 120, "Airflow has read the DAG")
        yield services
        texts = [postgres.dump(), *log_files(folder).values()]
        assert find_in_all(planted, texts) == [], "secrets have leaked"
    finally:
        services.stop()
        assert services.remaining() == []


def opening() -> datetime:
    """Return a full minute, one to two minutes from now."""
    return datetime.now(timezone.utc).replace(second=0, microsecond=0) + timedelta(minutes=2)


def hours_from(instant: datetime) -> dict[str, str]:
    """Return calling hours that begin at an instant, in a zone where it is about noon."""
    # "Etc/GMT-3" is three hours east of Greenwich.
    local = instant + timedelta(hours=12 - instant.hour)
    return {"opens": f"{local:%H:%M}", "closes": "24:00", "timezone": f"Etc/GMT{instant.hour - 12:+}"}


def callees(opens: datetime) -> list[dict[str, Any]]:
    long_open = opens - timedelta(minutes=30)
    return [
        {
            "customer": {"number": number},
            "calling_hours": hours_from(opens if number in LATE else long_open),
        }
        for number in PEOPLE
    ]


def states(airflow: CeleryServices, run_id: str) -> Counter[str]:
    rows = airflow.postgres.query(
        "select state, count(*) from task_instance where dag_id = %s and run_id = %s and task_id = 'call'"
        " group by state",
        (DAG_ID, run_id),
    )
    return Counter({str(state): count for state, count in rows})


def lost_tries(airflow: CeleryServices, run_id: str) -> int:
    """Return how many more tries than attempts there were."""
    ((tries,),) = airflow.postgres.query(
        "select sum(try_number) from task_instance where dag_id = %s and run_id = %s and task_id = 'call'",
        (DAG_ID, run_id),
    )
    return int(tries) - sum(RINGS.values())


def test_campaign_survives_lost_services(
    airflow: CeleryServices, vapi: VapiSimulator, took: Callable[[str, float], None]
) -> None:
    opens = opening()
    kills = plan(SEED, sum(RINGS.values()))
    damage = Damage(airflow, lambda: len(vapi.calls))
    run_id = airflow.client.trigger(DAG_ID, {"people": callees(opens)})
    started = datetime.now(timezone.utc)
    damage.carry_out(kills, LONGEST_SECONDS)
    airflow.wait_until(
        lambda: airflow.client.run_state(DAG_ID, run_id) in ("success", "failed"),
        LONGEST_SECONDS,
        "the campaign is over",
    )
    seconds = (datetime.now(timezone.utc) - started).total_seconds()
    lost = lost_tries(airflow, run_id)
    took(f"60 people, 80 calls, 5 kills with SEED={SEED}, {lost} lost tries", seconds)

    assert states(airflow, run_id) == {"success": len(PEOPLE)}
    assert vapi.rings == RINGS
    calls = list(vapi.calls.values())
    # A name ends with the token of an attempt.
    assert Counter(call["name"] for call in calls).most_common(1)[0][1] == 1
    assert len(calls) == sum(RINGS.values())
    late = [call["createdAt"] for call in calls if call["customer"]["number"] in LATE]
    assert min(datetime.fromisoformat(each.replace("Z", "+00:00")) for each in late) >= opens
    summaries = [
        airflow.client.xcom(DAG_ID, run_id, "call", "return_value", index) for index in range(len(PEOPLE))
    ]
    assert [summary["attempts"] for summary in summaries] == list(RINGS.values())
    assert [summary["outcome"] for summary in summaries] == [
        "no_answer" if number in UNANSWERED else "completed" for number in PEOPLE
    ]
    assert lost, "No kill hit a task, so the test proves nothing."
    assert airflow.postgres.query("select id from trigger") == []


def test_settings_are_those_in_the_docs(airflow: CeleryServices) -> None:
    for setting, default, here, _ in table("scaling.md", "| setting |"):
        section, key = setting.strip("`").removeprefix("[").split("] ")
        assert float(conf.get_default_value(section, key)) == float(default), setting
        assert airflow.environment[f"AIRFLOW__{section}__{key}".upper()] == here, setting
