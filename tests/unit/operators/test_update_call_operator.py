# SPDX-License-Identifier: Apache-2.0
"""VapiUpdateCallOperator sets a call's name, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from task_instances import LINK, TaskInstance

from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiCallNotFoundError,
    VapiConfigurationError,
    VapiTransientError,
)
from vapi_provider.operators.call import VapiUpdateCallOperator
from vapi_provider.simulator import Fault, ManualClock, VapiSimulator

if TYPE_CHECKING:
    from requests_mock import Mocker

CALL_ID = "019a7c2e-5f00-7000-8000-000000000001"
NAME = "Reminder: Tuesday at ten"
SAID = "what the customer said"

Execute = Callable[..., Any]


@pytest.fixture
def execute(task_instance: TaskInstance) -> Execute:
    """Run the operator with these arguments, as a task of its own."""

    def run(**arguments: Any) -> Any:
        operator = VapiUpdateCallOperator(task_id="rename", **{"name": NAME, **arguments})
        return operator.execute(task_instance.context())

    return run


def test_name_is_set(simulator: VapiSimulator, execute: Execute) -> None:
    call_id = simulator.add_call(status="ended", body={"name": "Before"})
    execute(call_id=call_id)
    assert simulator.get_call(call_id)["name"] == NAME
    assert [(request.method, request.path) for request in simulator.requests] == [
        ("PATCH", f"/call/{call_id}")
    ]


def test_nothing_but_the_name_is_sent(
    execute: Execute, requests_mock: Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", json.dumps({"conn_type": "vapi", "password": "the-key"}))
    requests_mock.patch(f"https://api.vapi.ai/call/{CALL_ID}", json={"id": CALL_ID, "name": NAME})
    execute(call_id=CALL_ID)
    sent = requests_mock.last_request
    assert requests_mock.call_count == 1
    assert sent is not None
    assert sent.json() == {"name": NAME}
    assert sent.headers["Authorization"] == "Bearer the-key"
    assert sent.headers["Content-Type"] == "application/json"


def test_summary_of_the_call_is_returned(simulator: VapiSimulator, execute: Execute) -> None:
    call_id = simulator.add_call(status="ended", body={"endedReason": "voicemail"})
    summary = execute(call_id=call_id)
    assert summary == json.loads(json.dumps(summary))
    assert summary["id"] == call_id
    assert summary["name"] == NAME
    assert summary["status"] == "ended"
    assert summary["outcome"] == "no_answer"
    assert "customer" not in summary


def test_second_run_changes_nothing(simulator: VapiSimulator, execute: Execute, clock: ManualClock) -> None:
    call_id = simulator.add_call(status="in-progress")
    first = execute(call_id=call_id)
    call = simulator.get_call(call_id)
    clock.advance(60)
    assert execute(call_id=call_id) == first
    assert {**simulator.get_call(call_id), "updatedAt": None} == {**call, "updatedAt": None}


def test_link_is_published_before_the_request(
    simulator: VapiSimulator, execute: Execute, task_instance: TaskInstance
) -> None:
    call_id = simulator.add_call()
    requests_before: list[int] = []
    task_instance.at = lambda _point: requests_before.append(len(simulator.requests))
    execute(call_id=call_id)
    assert task_instance.xcoms == {LINK: f"{simulator.url}/calls/{call_id}"}
    assert requests_before == [0]
    assert len(simulator.requests) == 1


def test_id_may_have_any_case_and_white_space(
    simulator: VapiSimulator, execute: Execute, task_instance: TaskInstance
) -> None:
    call_id = simulator.add_call()
    execute(call_id=f" {call_id.upper()}\n")
    assert [request.path for request in simulator.requests] == [f"/call/{call_id}"]
    assert task_instance.xcoms == {LINK: f"{simulator.url}/calls/{call_id}"}


def test_id_may_be_a_summary(simulator: VapiSimulator, execute: Execute) -> None:
    call_id = simulator.add_call()
    summary = execute(call_id=call_id)
    assert execute(call_id={**summary, "transcript": SAID}) == summary
    assert [request.path for request in simulator.requests] == [f"/call/{call_id}"] * 2


@pytest.mark.parametrize(
    "call_id",
    [
        pytest.param("", id="empty"),
        pytest.param("None", id="rendered-none"),
        pytest.param(None, id="none"),
        pytest.param("../assistant", id="another-path"),
        pytest.param("019a7c2e5f0070008000000000000001", id="without-hyphens"),
        pytest.param("call-1", id="not-a-uuid"),
        pytest.param(7, id="number"),
        pytest.param([CALL_ID], id="list"),
        pytest.param({"transcript": SAID}, id="mapping-without-id"),
        pytest.param({"id": {"transcript": SAID}}, id="mapping-with-a-bad-id"),
        pytest.param(str({"transcript": SAID}), id="text-of-a-mapping"),
        pytest.param(str({"id": CALL_ID, "transcript": SAID}), id="text-of-a-summary"),
    ],
)
def test_bad_id_is_refused_before_any_request(
    simulator: VapiSimulator, execute: Execute, task_instance: TaskInstance, call_id: Any
) -> None:
    with pytest.raises(VapiConfigurationError, match=r"call_id ") as failure:
        execute(call_id=call_id)
    assert SAID not in str(failure.value)
    assert simulator.requests == []
    assert task_instance.xcoms == {}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("  ", id="blank"),
        pytest.param(None, id="none"),
        pytest.param("n" * 41, id="too-long"),
        pytest.param(42, id="number"),
    ],
)
def test_bad_name_is_refused_before_any_request(
    simulator: VapiSimulator, execute: Execute, name: Any
) -> None:
    call_id = simulator.add_call(body={"name": "Before"})
    with pytest.raises(VapiConfigurationError, match=f"name for call {call_id} "):
        execute(call_id=call_id, name=name)
    assert simulator.requests == []
    assert simulator.get_call(call_id)["name"] == "Before"


@pytest.mark.parametrize("name", ["n" * 40, "Müller, \N{TELEPHONE RECEIVER} 10:00"])
def test_name_arrives_unchanged(simulator: VapiSimulator, execute: Execute, name: str) -> None:
    call_id = simulator.add_call()
    assert execute(call_id=call_id, name=name)["name"] == name
    assert simulator.get_call(call_id)["name"] == name


def test_connection_is_that_of_the_argument(
    simulator: VapiSimulator, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", simulator.connection)
    monkeypatch.delenv("AIRFLOW_CONN_VAPI_DEFAULT")
    call_id = simulator.add_call()
    execute(call_id=call_id, vapi_conn_id="clinic")
    assert simulator.get_call(call_id)["name"] == NAME


def test_missing_connection_fails_without_retries(simulator: VapiSimulator, execute: Execute) -> None:
    with pytest.raises(VapiConfigurationError, match="no connection 'nowhere'"):
        execute(call_id=simulator.add_call(), vapi_conn_id="nowhere")
    assert simulator.requests == []


def test_unknown_call_fails_without_retries_and_keeps_its_link(
    simulator: VapiSimulator, execute: Execute, task_instance: TaskInstance
) -> None:
    with pytest.raises(VapiCallNotFoundError, match=CALL_ID):
        execute(call_id=CALL_ID)
    assert len(simulator.requests) == 1
    assert task_instance.xcoms == {LINK: f"{simulator.url}/calls/{CALL_ID}"}


def test_rejected_key_fails_without_retries_and_is_not_shown(
    simulator: VapiSimulator, execute: Execute, set_connection: Callable[..., None]
) -> None:
    set_connection(simulator, password="wrong-key")
    with pytest.raises(VapiAuthenticationError, match="vapi_default") as failure:
        execute(call_id=simulator.add_call())
    assert "wrong-key" not in str(failure.value)
    assert len(simulator.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(status=503, times=3), id="overload"),
        pytest.param(
            Fault(status=502, body="<html>", content_type="text/html", effect=True), id="lost-response"
        ),
        pytest.param(Fault(reset="midway"), id="cut-off-response"),
    ],
)
def test_transient_error_is_retried(simulator: VapiSimulator, execute: Execute, fault: Fault) -> None:
    call_id = simulator.add_call()
    simulator.faults.add(fault)
    assert execute(call_id=call_id)["name"] == NAME
    assert simulator.get_call(call_id)["name"] == NAME
    assert len(simulator.requests) == (fault.times or 0) + 1


def test_outage_is_left_to_airflows_retries(simulator: VapiSimulator, execute: Execute) -> None:
    call_id = simulator.add_call(body={"name": "Before"})
    simulator.faults.add(Fault(status=503, times=None))
    with pytest.raises(VapiTransientError, match="503"):
        execute(call_id=call_id)
    assert simulator.get_call(call_id)["name"] == "Before"


def test_call_name_and_connection_are_templated() -> None:
    assert set(VapiUpdateCallOperator.template_fields) == {"call_id", "name", "vapi_conn_id"}


def test_operator_runs_by_hand_without_a_task_instance(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call()
    operator = VapiUpdateCallOperator(task_id="rename", call_id=call_id, name="Reminder")
    assert operator.execute({})["name"] == "Reminder"
