# SPDX-License-Identifier: Apache-2.0
"""A triggerer is lost while calls are waited for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_services import TRIGGERER_SILENT_SECONDS
from processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_services import AirflowServices
    from campaign import Campaign


def test_a_killed_triggerer_loses_no_call(
    airflow: AirflowServices, campaign: Campaign, took: Callable[[str, float], None]
) -> None:
    campaign.start(50)
    early, late = campaign.call_ids[:20], campaign.call_ids[20:]
    airflow.wanted.remove(airflow.triggerer)
    airflow.triggerer.kill()
    campaign.end(early)
    # Long enough for everybody to notice, and as long as a machine takes to be replaced.
    time.sleep(10)
    assert not set(early) & campaign.reported()
    airflow.wanted.append(airflow.triggerer)
    airflow.triggerer.start()
    took(
        "from the restart until 20 calls that ended meanwhile are reported",
        campaign.wait_until_reported(early, 120),
    )
    campaign.end(late)
    took("until 30 calls that ended later are reported", campaign.wait_until_reported(late, 120))
    campaign.check_each_reported_once()


def test_the_other_triggerer_takes_over(
    airflow: AirflowServices, campaign: Campaign, took: Callable[[str, float], None]
) -> None:
    airflow.wanted.append(airflow.second_triggerer)
    airflow.second_triggerer.start()
    wait_until(lambda: triggerers(airflow) == 2, 60, "two triggerers are alive")
    campaign.start(50)
    early, late = campaign.call_ids[::2], campaign.call_ids[1::2]
    airflow.wanted.remove(airflow.triggerer)
    airflow.triggerer.kill()
    campaign.end(early)
    took("from the kill until 25 calls are reported", campaign.wait_until_reported(early, 120))
    campaign.end(late)
    took("until 25 calls that ended later are reported", campaign.wait_until_reported(late, 120))
    campaign.check_each_reported_once()


def triggerers(airflow: AirflowServices) -> int:
    """Return how many triggerers are alive for Airflow."""
    rows = airflow.postgres.query(
        "select count(*) from job where job_type = 'TriggererJob' and state = 'running'"
        " and latest_heartbeat > now() - make_interval(secs => %s)",
        [TRIGGERER_SILENT_SECONDS],
    )
    return int(rows[0][0])
