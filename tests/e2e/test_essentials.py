# SPDX-License-Identifier: Apache-2.0
"""Essentials that must work on every supported Airflow, with its services and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import vapi_provider

if TYPE_CHECKING:
    from airflow_services import AirflowServices
    from campaign import Campaign

    from vapi_provider.simulator import VapiSimulator


def test_installed_package_is_tested() -> None:
    assert "site-packages" in Path(vapi_provider.__file__).parts


def test_connection_form_is_described(airflow: AirflowServices) -> None:
    forms = {form["connection_type"]: form for form in airflow.client.ask("GET", "/ui/connections/hook_meta")}
    form = forms["vapi"]
    fields = form["standard_fields"]
    assert form["hook_name"] == "Vapi"
    assert fields["password"]["title"] == "API key"
    assert fields["host"]["title"] == "API base URL"
    assert {name for name in ("url_schema", "port", "login") if fields[name]["hidden"]} == {
        "url_schema",
        "port",
        "login",
    }
    assert set(form["extra_fields"]) == {"timeout", "max_retries"}


def test_call_is_renamed(airflow: AirflowServices, simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="ended")
    run_id = airflow.client.trigger("rename_call", {"call_id": call_id, "name": "Reached"})
    airflow.wait_until(
        lambda: airflow.client.run_state("rename_call", run_id) == "success", 60, "the run is over"
    )
    assert simulator.get_call(call_id)["name"] == "Reached"
    assert airflow.client.xcom("rename_call", run_id, "rename")["name"] == "Reached"


def test_calls_are_waited_for_in_the_triggerer(
    campaign: Campaign, took: Callable[[str, float], None]
) -> None:
    took("3 sensors to be deferred", campaign.start(3))
    campaign.end(campaign.call_ids)
    took("to report the end of 3 calls", campaign.wait_until_reported(campaign.call_ids, 60))
    campaign.check_each_reported_once()
