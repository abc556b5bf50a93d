# SPDX-License-Identifier: Apache-2.0
"""Airflow's other services are killed during waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_services import AirflowServices
    from campaign import Campaign


@pytest.mark.parametrize("name", ["scheduler", "api_server"])
def test_killed_service_loses_no_call(
    airflow: AirflowServices, campaign: Campaign, took: Callable[[str, float], None], name: str
) -> None:
    late = start_and_end_half(airflow, campaign)
    service = getattr(airflow, name)
    airflow.wanted.remove(service)
    service.kill()
    campaign.end(late)
    time.sleep(5)
    airflow.wanted.append(service)
    service.start()
    took(
        "from the restart until all 12 calls are reported",
        campaign.wait_until_reported(campaign.call_ids, 240),
    )
    campaign.check_each_reported_once()


def test_restarted_database_loses_no_call(
    airflow: AirflowServices, campaign: Campaign, took: Callable[[str, float], None]
) -> None:
    late = start_and_end_half(airflow, campaign)
    airflow.postgres.restart()
    campaign.end(late)
    took(
        "from the restart until all 12 calls are reported",
        campaign.wait_until_reported(campaign.call_ids, 240),
    )
    took(f"(services that had to be restarted: {', '.join(airflow.revived) or 'none'})", 0)
    campaign.check_each_reported_once()


def start_and_end_half(airflow: AirflowServices, campaign: Campaign) -> list[str]:
    """Wait for 12 calls and end the first 6; return the others while those are still being reported."""
    campaign.start(12)
    early, late = campaign.call_ids[:6], campaign.call_ids[6:]
    campaign.end(early)
    # One has been reported, and the others are on their way through the service that will be killed.
    airflow.wait_until(lambda: set(early) & campaign.reported(), 60, "a call is reported")
    return late
