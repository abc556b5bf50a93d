# SPDX-License-Identifier: Apache-2.0
"""A person marks, clears and stops deferred sensors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from campaign import DAG_ID

if TYPE_CHECKING:
    from airflow_services import AirflowServices
    from campaign import Campaign

# Two polls of the connection, and the time that a triggerer takes to hear of it.
QUIET_SECONDS = 12


def test_what_a_person_has_stopped_polls_no_more(airflow: AirflowServices, campaign: Campaign) -> None:
    campaign.start(4)
    marked_failed, marked_success, cleared, left_alone = campaign.call_ids
    airflow.client.mark_task(DAG_ID, campaign.run_id, "wait", 0, "failed")
    airflow.client.mark_task(DAG_ID, campaign.run_id, "wait", 1, "success")
    airflow.client.clear_task(DAG_ID, campaign.run_id, "wait", 2)
    looked = campaign.requests_for(cleared)
    airflow.wait_until(
        lambda: campaign.requests_for(cleared) > looked and campaign.state_of(cleared) == "deferred",
        60,
        "the cleared task waits again",
    )
    airflow.wait_until(lambda: triggers(airflow) == 2, 30, "the others have no trigger")
    assert polls_within(campaign, QUIET_SECONDS, marked_failed, marked_success) == [0, 0]
    # One waits for the cleared call, not two.
    for polls in polls_within(campaign, QUIET_SECONDS, cleared, left_alone):
        assert 1 <= polls <= QUIET_SECONDS // 5 + 1

    airflow.client.mark_run(DAG_ID, campaign.run_id, "failed")
    airflow.wait_until(lambda: triggers(airflow) == 0, 30, "nobody has a trigger")
    time.sleep(QUIET_SECONDS / 2)
    assert polls_within(campaign, QUIET_SECONDS, *campaign.call_ids) == [0, 0, 0, 0]
    assert campaign.reported() <= {marked_success}


def test_a_cleared_wait_reports_once(airflow: AirflowServices, campaign: Campaign) -> None:
    campaign.start(2)
    looked = campaign.requests_for(campaign.call_ids[0])
    airflow.client.clear_task(DAG_ID, campaign.run_id, "wait", 0)
    airflow.wait_until(
        lambda: campaign.requests_for(campaign.call_ids[0]) > looked and campaign.states()["deferred"] == 2,
        60,
        "the cleared task waits again",
    )
    campaign.end(campaign.call_ids)
    campaign.wait_until_reported(campaign.call_ids, 60)
    campaign.check_each_reported_once()


def polls_within(campaign: Campaign, seconds: float, *call_ids: str) -> list[int]:
    """Return how often each call is asked for in the next seconds."""
    before = [campaign.requests_for(call_id) for call_id in call_ids]
    time.sleep(seconds)
    return [campaign.requests_for(call_id) - asked for call_id, asked in zip(call_ids, before, strict=True)]


def triggers(airflow: AirflowServices) -> int:
    """Return how many triggers some triggerer is to run."""
    return int(airflow.postgres.query("select count(*) from trigger")[0][0])
