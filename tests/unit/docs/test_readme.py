# SPDX-License-Identifier: Apache-2.0
"""The README's examples run, and its tables and messages match the code."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest
from markdown_pages import README, ROOT, block_with, code_in, read, sentence, table
from task_instances import TaskInstance

from vapi_provider.connection import read_settings
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.models.call import Call
from vapi_provider.models.outcome import CallOutcome, outcome_of
from vapi_provider.models.summary import check_include
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import Timeline, VapiSimulator

pytest_plugins = ["vapi_provider.simulator.pytest_plugin"]

CALL_ID = "0198a3f0-0000-7000-8000-000000000001"


def test_first_dag_is_the_example_of_nightly_labels() -> None:
    source = (ROOT / "example_dags" / "example_vapi_nightly_labels.py").read_text(encoding="utf-8")
    assert block_with("README.md", "calls_to_label") == source.partition("\n")[2]


@pytest.mark.parametrize("target", ["demo", "test"])
def test_target_of_make_exists(target: str) -> None:
    assert f"make {target}" in block_with("README.md", "make demo")
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_exported_connections_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [shlex.split(line) for line in block_with("README.md", "export").splitlines()]
    read = []
    for _, assignment in lines:
        name, _, value = assignment.partition("=")
        monkeypatch.setenv(name, value)
        settings = read_settings(VapiHook.get_connection("vapi_default"))
        read.append((settings.base_url, settings.api_key, settings.timeout))
    assert read == [
        ("https://api.vapi.ai", "YOUR_PRIVATE_KEY", 30),
        ("https://api.eu.vapi.ai", "YOUR_PRIVATE_KEY", 5),
    ]


def test_example_of_the_hook_runs(vapi_simulator: VapiSimulator) -> None:
    for _ in range(3):
        vapi_simulator.end_call(vapi_simulator.add_call(), cost=0.5)
    names: dict[str, Any] = {}
    exec(block_with("README.md", "sum(call.cost"), names)
    assert names["cost"] == 1.5


def test_campaign_calls_each_callee_once(vapi_simulator: VapiSimulator) -> None:
    names: dict[str, Any] = {}
    exec(block_with("README.md", 'DAG("campaign")'), names)
    mapped = names["dag"].get_task("call")
    assert mapped.partial_kwargs["max_active_tis_per_dag"] == 10
    people = names["people"].function()
    vapi_simulator.timeline = Timeline(ringing=0, answered=0, ended=0, analysis=0)
    for customer in people:
        arguments = {
            name: mapped.partial_kwargs[name] for name in ("assistant_id", "phone_number_id", "name")
        }
        operator = VapiCreateCallOperator(task_id="call", customer=customer, **arguments)
        assert operator.execute(TaskInstance(map_index=0).context())["outcome"] == "completed"
    assert dict(vapi_simulator.rings) == {customer["number"]: 1 for customer in people}


def test_shown_summary_has_its_fields() -> None:
    shown = json.loads(block_with("README.md", "ended_reason"))
    assert list(Call.model_validate({"id": CALL_ID}).summary()) == list(shown)


def test_outcomes_and_their_examples() -> None:
    rows = table("README.md", "| outcome | meaning")
    assert {row[0].strip("`") for row in rows} == {outcome.value for outcome in CallOutcome}
    for outcome, _, examples in rows:
        for reason in code_in(examples):
            assert outcome_of(reason) == outcome.strip("`"), reason


def test_arguments_of_the_sensor_and_their_defaults() -> None:
    sensor = VapiCallSensor(task_id="wait", call_id=CALL_ID)
    text = read(README)
    header = "| argument | meaning |\n|---|---|\n| `call_id` (templated) | the call's id, a UUID, or a call's summary |\n"
    assert header in text
    rows = text[text.index("**`VapiCallSensor`** waits") : text.index("What ends the wait")]
    names = re.findall(r"^\| `(\w+)`", rows, re.MULTILINE)
    assert [name for name in names if not hasattr(sensor, name)] == []
    assert (sensor.poke_interval, sensor.analysis_timeout, sensor.timeout) == (15, 60, 7 * 24 * 3600)


def test_names_for_include_are_accepted() -> None:
    names = code_in(sentence("README.md", r"`include` of a task that waits adds content by name:(.*?)\."))
    assert len(check_include(names)) == len(names) > 0
