# SPDX-License-Identifier: Apache-2.0
"""Users mark, clear and stop deferred sensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaign import DAG_ID, Campaign

if TYPE_CHECKING:
    from collections import Counter

    from airflow_services import AirflowServices
    from planted import Planted

    from vapi_provider.simulator import VapiSimulator

POLLS = 3


def test_stopped_task_is_not_polled(
    airflow: AirflowServices, campaign: Campaign, simulator: VapiSimulator, planted: Planted
) -> None:
    campaign.start(4)
    marked_failed, marked_success, cleared, left_alone = campaign.call_ids
    airflow.client.mark_task(DAG_ID, campaign.run_id, "wait", 0, "failed")
    airflow.client.mark_task(DAG_ID, campaign.run_id, "wait", 1, "success")
    clear_and_wait_again(airflow, campaign, cleared)
    airflow.wait_until(lambda: triggers(airflow) == 2, 30, "the others have no trigger")
    polls = polls_meanwhile(airflow, campaign, left_alone)
    assert (polls[marked_failed], polls[marked_success]) == (0, 0)
    # One trigger waits for the cleared call, not two.
    assert 1 <= polls[cleared] <= polls[left_alone] + 1

    other = Campaign(airflow, simulator, planted)
    other.start(1)
    airflow.client.mark_run(DAG_ID, campaign.run_id, "failed")
    airflow.wait_until(lambda: triggers(airflow) == 1, 30, "only the other run has a trigger")
    polls = polls_meanwhile(airflow, campaign, other.call_ids[0])
    assert [polls[call_id] for call_id in campaign.call_ids] == [0, 0, 0, 0]
    assert campaign.reported() <= {marked_success}
    other.give_up()


def test_cleared_wait_reports_once(airflow: AirflowServices, campaign: Campaign) -> None:
    campaign.start(2)
    clear_and_wait_again(airflow, campaign, campaign.call_ids[0])
    campaign.end(campaign.call_ids)
    campaign.wait_until_reported(campaign.call_ids, 60)
    campaign.check_each_reported_once()


def clear_and_wait_again(airflow: AirflowServices, campaign: Campaign, call_id: str) -> None:
    """Clear the task that waits for a call, and return once it waits again."""
    airflow.client.clear_task(DAG_ID, campaign.run_id, "wait", campaign.call_ids.index(call_id))
    looked = campaign.requests()[call_id]
    airflow.wait_until(
        lambda: campaign.requests()[call_id] > looked and campaign.state_of(call_id) == "deferred",
        60,
        "the cleared task waits again",
    )


def polls_meanwhile(airflow: AirflowServices, campaign: Campaign, watched: str) -> Counter[str]:
    """Return the number of requests for each call during some polls of the watched call."""
    # A request that was in flight during the user's action does not count.
    before = campaign.requests()
    airflow.wait_until(lambda: campaign.requests()[watched] > before[watched], 60, "the next poll")
    before = campaign.requests()
    airflow.wait_until(
        lambda: campaign.requests()[watched] >= before[watched] + POLLS, 120, "some more polls"
    )
    return campaign.requests() - before


def triggers(airflow: AirflowServices) -> int:
    """Return the number of triggers assigned to any triggerer."""
    return int(airflow.postgres.query("select count(*) from trigger")[0][0])
