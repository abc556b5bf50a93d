# SPDX-License-Identifier: Apache-2.0
"""A triggerer is killed during waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_services import AirflowServices
    from campaign import Campaign

# About as long as it takes to start a container elsewhere.
REPLACED_AFTER_SECONDS = 10


def test_killed_triggerers_lose_no_call(
    airflow: AirflowServices, campaign: Campaign, took: Callable[[str, float], None]
) -> None:
    campaign.start(50)
    in_the_gap, later, after_the_loss, last = (campaign.call_ids[at::4] for at in range(4))

    # Killed, and replaced after a while.
    airflow.wanted.remove(airflow.triggerer)
    airflow.triggerer.kill()
    campaign.end(in_the_gap)
    time.sleep(REPLACED_AFTER_SECONDS)
    assert not set(in_the_gap) & campaign.reported()
    airflow.wanted.append(airflow.triggerer)
    airflow.triggerer.start()
    took("from the restart until 13 calls are reported", campaign.wait_until_reported(in_the_gap, 120))
    campaign.end(later)
    took("until 13 calls that ended after it are reported", campaign.wait_until_reported(later, 120))

    # Killed for good, with a second triggerer that has no trigger yet.
    airflow.wanted.append(airflow.second_triggerer)
    airflow.second_triggerer.start()
    wait_until(lambda: airflow.triggerers_alive() == 2, 60, "two triggerers are alive")
    airflow.wanted.remove(airflow.triggerer)
    airflow.triggerer.kill()
    campaign.end(after_the_loss)
    took(
        "from the loss of one of two until 12 calls are reported",
        campaign.wait_until_reported(after_the_loss, 120),
    )
    campaign.end(last)
    took("until 12 calls that ended after it are reported", campaign.wait_until_reported(last, 120))
    campaign.check_each_reported_once()
