# SPDX-License-Identifier: Apache-2.0
"""The *Vapi Call* button: its URL, and that it works before a task's first request about its call."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import requests_mock
from task_instances import LINK, TaskInstance

from vapi_provider.exceptions import VapiError
from vapi_provider.links.call import VapiCallLink
from vapi_provider.operators.call import VapiCreateCallOperator, VapiUpdateCallOperator
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import Timeline, VapiSimulator

CALL_ID = "019a7c2e-5f00-7000-8000-000000000001"


def wait(**arguments: Any) -> VapiCallSensor:
    return VapiCallSensor(task_id="task", call_id=CALL_ID, **arguments)


def place(**arguments: Any) -> VapiCreateCallOperator:
    return VapiCreateCallOperator(
        task_id="task",
        assistant_id="0198a3f0-0000-7000-8000-000000000002",
        phone_number_id="0198a3f0-0000-7000-8000-000000000003",
        customer={"number": "+12025550143"},
        **arguments,
    )


TASKS: dict[str, Callable[[], Any]] = {
    "sensor-poke": lambda: wait(mode="poke"),
    "sensor-reschedule": lambda: wait(mode="reschedule"),
    "sensor-deferrable": lambda: wait(deferrable=True),
    "update": lambda: VapiUpdateCallOperator(task_id="task", call_id=CALL_ID, name="Reminder"),
    "create-poke": lambda: place(deferrable=False),
    "create-deferrable": lambda: place(deferrable=True),
}


class StopError(Exception):
    """Ends a task at its first request about the call."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Run a task up to its first request about its call, and return its XComs by then."""

    def run(kind: str, host: str, base_url: str) -> list[dict[str, Any]]:
        connection = {"conn_type": "vapi", "password": "the-key", "host": host}
        monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", json.dumps(connection))
        task_instance, published = TaskInstance(), []

        def record_and_stop(request: Any, context: Any) -> Any:
            published.append(dict(task_instance.xcoms))
            raise StopError

        with requests_mock.Mocker() as vapi:
            vapi.post(f"{base_url}/call", json={"id": CALL_ID, "status": "queued"}, status_code=201)
            for method in ("GET", "PATCH"):
                vapi.register_uri(method, f"{base_url}/call/{CALL_ID}", json=record_and_stop)
            with pytest.raises(StopError):
                TASKS[kind]().execute(task_instance.context(task_reschedule_count=0))
        return published

    return run


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize(
    ("host", "base_url", "dashboard"),
    [
        pytest.param("", "https://api.vapi.ai", "https://dashboard.vapi.ai", id="us"),
        pytest.param("api.eu.vapi.ai", "https://api.eu.vapi.ai", "https://dashboard.eu.vapi.ai", id="eu"),
        pytest.param(
            "https://api.eu.vapi.ai/", "https://api.eu.vapi.ai", "https://dashboard.eu.vapi.ai", id="eu-url"
        ),
        pytest.param(
            "http://127.0.0.1:8089", "http://127.0.0.1:8089", "http://127.0.0.1:8089", id="simulator"
        ),
        pytest.param(
            "http://localhost:8089", "http://localhost:8089", "http://localhost:8089", id="localhost"
        ),
        pytest.param(
            "https://vapi.example.com", "https://vapi.example.com", "https://dashboard.vapi.ai", id="gateway"
        ),
    ],
)
def test_link_is_published_before_the_first_request(
    run: Callable[..., list[dict[str, Any]]], kind: str, host: str, base_url: str, dashboard: str
) -> None:
    (published,) = run(kind, host, base_url)
    assert published[LINK] == f"{dashboard}/calls/{CALL_ID}"


@pytest.mark.parametrize("kind", TASKS)
def test_link_to_the_simulator_opens_the_calls_page(kind: str, simulator: VapiSimulator) -> None:
    task_instance = TaskInstance()
    simulator.timeline = Timeline(ringing=0, answered=0, ended=0, analysis=0)
    simulator.add_call(status="ended", body={"id": CALL_ID})
    TASKS[kind]().execute(task_instance.context(task_reschedule_count=0))
    page = requests.get(task_instance.xcoms[LINK], timeout=20)
    assert (page.status_code, task_instance.xcoms.get("call_id", CALL_ID) in page.text) == (200, True)


@pytest.mark.parametrize("kind", TASKS)
def test_no_link_without_a_usable_connection(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", json.dumps({"conn_type": "vapi", "password": ""}))
    task_instance = TaskInstance()
    with pytest.raises(VapiError, match="password"):
        TASKS[kind]().execute(task_instance.context(task_reschedule_count=0))
    assert task_instance.xcoms == {}


def test_button_opens_the_published_link(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def get_value(**where: Any) -> Any:
        asked.update(where)
        return "https://dashboard.vapi.ai/calls/1"

    monkeypatch.setattr("airflow.providers.common.compat.sdk.XCom.get_value", get_value)
    key: Any = SimpleNamespace(dag_id="calls")
    assert VapiCallLink().get_link(wait(), ti_key=key) == "https://dashboard.vapi.ai/calls/1"
    assert asked == {"key": LINK, "ti_key": key}


def test_link_is_empty_before_the_call_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow.providers.common.compat.sdk.XCom.get_value", lambda **where: None)
    key: Any = SimpleNamespace(dag_id="calls")
    assert VapiCallLink().get_link(wait(), ti_key=key) == ""


def test_task_run_by_hand_publishes_no_link() -> None:
    VapiCallLink().persist({}, "https://dashboard.vapi.ai/calls/1")


@pytest.mark.parametrize("kind", [VapiCallSensor, VapiCreateCallOperator, VapiUpdateCallOperator])
def test_every_task_has_the_button(kind: Any) -> None:
    assert [link.name for link in kind.operator_extra_links] == ["Vapi Call"]
    assert re.fullmatch(r"\w+", VapiCallLink().xcom_key)
