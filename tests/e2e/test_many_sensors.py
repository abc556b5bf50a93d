# SPDX-License-Identifier: Apache-2.0
"""Waits for many calls at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from campaign import Campaign

    from vapi_provider.simulator import VapiSimulator

CALLS = 300
OBSERVED_SECONDS = 20
# One poll every 5 seconds.
MOST_REQUESTS_PER_POLL = 20


def test_300_mapped_sensors_are_deferred_and_report(
    campaign: Campaign, simulator: VapiSimulator, took: Callable[[str, float], None]
) -> None:
    took(f"until {CALLS} mapped sensors are deferred", campaign.start(CALLS, deferred_within=600))
    asked = len(simulator.requests)
    time.sleep(OBSERVED_SECONDS)
    assert 0 < len(simulator.requests) - asked <= (OBSERVED_SECONDS / 5 + 1) * MOST_REQUESTS_PER_POLL
    campaign.end(campaign.call_ids)
    took(
        f"until the ends of {CALLS} calls are reported", campaign.wait_until_reported(campaign.call_ids, 600)
    )
    campaign.check_each_reported_once()
