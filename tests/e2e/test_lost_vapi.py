# SPDX-License-Identifier: Apache-2.0
"""Vapi becomes unavailable during waits, and comes back with every kind of failure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vapi_provider.simulator import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_services import AirflowServices
    from campaign import Campaign

    from vapi_provider.simulator import VapiSimulator

CALLS = 30
OUTAGE_SECONDS = 60
# Three polls of the connection.
PHASE_SECONDS = 15


def test_waits_survive_an_outage_of_vapi(
    airflow: AirflowServices, campaign: Campaign, simulator: VapiSimulator, took: Callable[[str, float], None]
) -> None:
    campaign.start(CALLS)
    ending = iter(campaign.call_ids)

    def end_some() -> list[str]:
        ended = [next(ending) for _ in range(5)]
        campaign.end(ended)
        return ended

    def trouble(fault: Fault) -> None:
        asked = len(simulator.requests)
        simulator.faults.add(fault)
        end_some()
        airflow.wait_until(lambda: len(simulator.requests) > asked, 60, "Vapi gets a request")
        time.sleep(PHASE_SECONDS)
        simulator.faults.clear()

    simulator.stop()
    end_some()
    time.sleep(OUTAGE_SECONDS)
    states = campaign.states()
    # Before any assertion, because later tests need the simulator, too.
    simulator.start()
    assert states == {"deferred": CALLS}

    simulator.faults.add(Fault(times=None, delay=5))
    slow = campaign.wait_until_reported(end_some(), 180)
    took("until 5 calls are reported after an outage, at 5 s per response", slow)
    simulator.faults.clear()

    trouble(Fault(times=None, status=429, headers={"Retry-After": "10"}))
    trouble(Fault(times=None, status=502, body="<html>Bad Gateway</html>", content_type="text/html"))
    trouble(Fault(times=None, reset="before"))
    # No wait has failed, and those without an ended call are still waiting.
    assert set(campaign.states()) <= {"deferred", "queued", "scheduled", "running", "success"}
    campaign.end(ending)
    took("from Vapi's recovery until all are reported", campaign.wait_until_reported(campaign.call_ids, 120))
    campaign.check_each_reported_once()
