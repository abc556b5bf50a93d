# SPDX-License-Identifier: Apache-2.0
"""The README's examples run, and its tables and messages match the code."""

from __future__ import annotations

import json
import logging
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from markdown_pages import README, ROOT, block_with, code_in, read, sentence, table
from task_instances import TaskInstance

from airflow.sdk import Connection
from vapi_provider.client.client import VapiClient
from vapi_provider.connection import read_settings
from vapi_provider.exceptions import VapiError
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.models.call import Call
from vapi_provider.models.outcome import CallOutcome, outcome_of
from vapi_provider.models.summary import check_include
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import Fault, Timeline, VapiSimulator

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


def returned(**fault: Any) -> Callable[[VapiSimulator], Any]:
    def read(simulator: VapiSimulator) -> Any:
        simulator.faults.add(Fault(method="GET", **fault))
        return VapiHook().get_call(CALL_ID)

    return read


def over(name: str, value: str) -> Callable[[VapiSimulator], Any]:
    def connect(simulator: VapiSimulator) -> Any:
        fields = {"conn_id": "vapi_default", "conn_type": "vapi", "password": "key", name: value}
        client = VapiClient(read_settings(Connection(**fields)), logging.getLogger(__name__))
        return client.get_call(CALL_ID)

    return connect


def place(last_digit: int) -> Call:
    request = {
        "assistantId": CALL_ID,
        "phoneNumberId": CALL_ID,
        "customer": {"number": f"+1202555011{last_digit}"},
    }
    return VapiHook().create_call(request)


def nest(message: str, status: int) -> str:
    return json.dumps({"message": message, "error": "Error", "statusCode": status})


MESSAGES: dict[str, Callable[[VapiSimulator], Any]] = {
    "password (API key) is empty": over("password", ""),
    "is the *** mask that Airflow shows instead of the key": over("password", "***"),
    "must use https:// (http:// is allowed only for localhost)": over("host", "http://vapi.example"),
    "returned 401": returned(status=401),
    "Use the private key, not the public one": returned(status=403, body=nest("Forbidden", 403)),
    "rejects clients by their User-Agent": returned(
        status=403, body="error code: 1010", content_type="text/plain"
    ),
    "This response is not Vapi's own": returned(status=404, body="<html>", content_type="text/html"),
    "call_id is empty": lambda simulator: VapiHook().get_call("None"),
    "Vapi accepts at most 40": lambda simulator: VapiHook().update_call(CALL_ID, name="x" * 41),
    "Check the call id, and that the call belongs to the organization": lambda simulator: VapiHook().get_call(
        CALL_ID
    ),
    "The organization's rate limit is reached": returned(status=429, headers={"Retry-After": "3600"}),
    "The organization is over its concurrency limit": lambda simulator: [place(0) for _ in range(11)],
    "A call may have been placed": lambda simulator: (
        simulator.faults.add(Fault(method="POST", status=502, effect=True)),
        place(0),
    ),
    "Redirects are not followed": returned(status=302, headers={"Location": "https://elsewhere.example/x"}),
}
# The others are the messages of tests of the sensor, of paging and of a missing connection.
ELSEWHERE = {
    "Airflow found no connection 'vapi_default'",
    "had not ended after",
    "which is in fail_on",
    "The triggerer cannot read call",
    "does not understand the triggerer's event",
    "cannot continue",
}


def test_troubleshooting_lists_exactly_the_tested_messages() -> None:
    listed = {
        row[0].strip("`") for row in table("README.md", "| message | what to do |") if row[0].startswith("`")
    }
    assert listed == MESSAGES.keys() | ELSEWHERE


@pytest.mark.parametrize("message", MESSAGES)
def test_message_is_raised(message: str, vapi_simulator: VapiSimulator) -> None:
    with pytest.raises(VapiError, match=re.escape(message)):
        MESSAGES[message](vapi_simulator)
