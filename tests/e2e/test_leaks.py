# SPDX-License-Identifier: Apache-2.0
"""
Secrets exist only where they are stored on purpose.

``running_airflow`` repeats the search at the end of all tests, over everything that they left behind.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from campaign import Campaign
from cryptography.fernet import Fernet
from leaks import find, find_in_all, log_files

from vapi_provider.simulator import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_services import AirflowServices
    from leaks import CommandLines
    from planted import Planted

    from vapi_provider.simulator import VapiSimulator


@pytest.fixture(scope="module")
def story(running_airflow: AirflowServices, simulator: VapiSimulator, planted: Planted) -> Story:
    """A call that was waited for and renamed, after an error that echoes the key."""
    campaign = Campaign(running_airflow, simulator, planted)
    campaign.start(1)
    [call_id] = campaign.call_ids
    [(kwargs,)] = running_airflow.postgres.query("select kwargs from trigger")
    campaign.end([call_id])
    campaign.wait_until_reported([call_id], 60)
    echo = {"message": f"Bad header: Bearer {planted.api_key}", "statusCode": 400, "error": "Bad Request"}
    simulator.faults.add(Fault(method="PATCH", status=400, body=json.dumps(echo)))
    for state in ("failed", "success"):
        rename(running_airflow, call_id, state)
    return Story(call_id, kwargs)


@dataclass(frozen=True)
class Story:
    """
    What happened before the search.

    :param call_id: the call's id
    :param trigger_kwargs: the trigger's arguments, as stored in the database during the wait
    """

    call_id: str
    trigger_kwargs: str


def rename(airflow: AirflowServices, call_id: str, state: str) -> None:
    run_id = airflow.client.trigger("rename_call", {"call_id": call_id, "name": "Looked for"})
    airflow.wait_until(
        lambda: airflow.client.run_state("rename_call", run_id) == state, 60, f"the run is {state}"
    )
    airflow.client.task_log("rename_call", run_id, "rename")
    if state == "success":
        airflow.client.xcom("rename_call", run_id, "rename")


def test_trigger_arguments_are_only_ids_and_numbers(
    airflow: AirflowServices, story: Story, planted: Planted
) -> None:
    text = story.trigger_kwargs
    # Some versions of Airflow encrypt them.
    if not text.startswith("{"):
        text = Fernet(airflow.fernet_key).decrypt(text.encode()).decode()
    assert story.call_id in text
    assert find(planted, text) == []


def test_only_the_encrypted_row_contains_the_key(
    airflow: AirflowServices, story: Story, planted: Planted
) -> None:
    dump = airflow.postgres.dump()
    assert story.call_id in dump
    assert find(planted, dump) == []
    [(password,)] = airflow.postgres.query("select password from connection where conn_id = 'vapi_default'")
    assert Fernet(airflow.fernet_key).decrypt(password.encode()).decode() == planted.api_key


def test_no_log_file_contains_a_secret(folder: Path, story: Story, planted: Planted) -> None:
    texts = log_files(folder)
    assert any(story.call_id in text for text in texts.values())
    assert any("Bad header: Bearer ***" in text for text in texts.values())
    assert {path: found for path, text in texts.items() if (found := find(planted, text))} == {}


def test_no_ui_response_contains_a_secret(
    airflow: AirflowServices, story: Story, planted: Planted, ui_answers: list[str]
) -> None:
    answers = [*ui_answers, *airflow.client.answers]
    assert any("Bad header: Bearer ***" in answer for answer in answers)
    assert any(story.call_id in answer and "Looked for" in answer for answer in answers)
    assert find_in_all(planted, answers) == []


def test_no_command_line_contains_a_secret(
    story: Story, planted: Planted, command_lines: CommandLines
) -> None:
    assert any("airflow worker" in line for line in command_lines.seen)
    assert find_in_all(planted, command_lines.seen) == []
