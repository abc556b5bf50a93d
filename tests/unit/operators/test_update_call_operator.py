# SPDX-License-Identifier: Apache-2.0
"""VapiUpdateCallOperator sets a call's name, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

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
LINK = "_link_VapiCallLink"

Execute = Callable[..., Any]


@pytest.fixture
def execute(task_instance: Any) -> Execute:
    """Run the operator with these arguments, as a task of its own."""

    def run(**arguments: Any) -> Any:
        operator = VapiUpdateCallOperator(task_id="rename", **{"name": NAME, **arguments})
        context: Any = {"ti": task_instance}
        return operator.execute(context)

    return run


def test_the_name_is_set(simulator: VapiSimulator, execute: Execute) -> None:
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


def test_the_summary_of_the_call_is_returned(simulator: VapiSimulator, execute: Execute) -> None:
    call_id = simulator.add_call(status="ended", body={"endedReason": "voicemail"})
    summary = execute(call_id=call_id)
    assert summary == json.loads(json.dumps(summary))
    assert summary["id"] == call_id
    assert summary["name"] == NAME
    assert summary["status"] == "ended"
    assert summary["outcome"] == "no_answer"
    assert "customer" not in summary


def test_running_it_twice_is_running_it_once(
    simulator: VapiSimulator, execute: Execute, clock: ManualClock
) -> None:
    call_id = simulator.add_call(status="in-progress")
    first = execute(call_id=call_id)
    call = simulator.get_call(call_id)
    clock.advance(60)
    assert execute(call_id=call_id) == first
    assert {**simulator.get_call(call_id), "updatedAt": None} == {**call, "updatedAt": None}


def test_the_link_is_there_before_anything_is_sent(
    simulator: VapiSimulator, execute: Execute, task_instance: Any
) -> None:
    call_id = simulator.add_call()
    execute(call_id=call_id)
    assert task_instance.xcoms == {LINK: f"https://dashboard.vapi.ai/calls/{call_id}"}
    assert task_instance.requests_before == {LINK: 0}
    assert len(simulator.requests) == 1


def test_an_id_is_taken_in_any_case_and_with_white_space(
    simulator: VapiSimulator, execute: Execute, task_instance: Any
) -> None:
    call_id = simulator.add_call()
    execute(call_id=f" {call_id.upper()}\n")
    assert [request.path for request in simulator.requests] == [f"/call/{call_id}"]
    assert task_instance.xcoms == {LINK: f"https://dashboard.vapi.ai/calls/{call_id}"}


@pytest.mark.parametrize(
    "call_id",
    [
        pytest.param("", id="empty"),
        pytest.param("None", id="rendered-none"),
        pytest.param(None, id="none"),
        pytest.param("../assistant", id="another-path"),
        pytest.param("019a7c2e5f0070008000000000000001", id="without-hyphens"),
        pytest.param("call-1", id="no-uuid"),
        pytest.param(7, id="number"),
        pytest.param([CALL_ID], id="list"),
    ],
)
def test_a_bad_id_is_refused_before_anything_is_sent_or_stored(
    simulator: VapiSimulator, execute: Execute, task_instance: Any, call_id: Any
) -> None:
    with pytest.raises(VapiConfigurationError, match=r"call_id .*[Nn]othing was sent"):
        execute(call_id=call_id)
    assert simulator.requests == []
    assert task_instance.xcoms == {}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("  ", id="blank"),
        pytest.param("None", id="rendered-none"),
        pytest.param(None, id="none"),
        pytest.param("n" * 41, id="too-long"),
        pytest.param(42, id="number"),
    ],
)
def test_a_bad_name_is_refused_before_anything_is_sent(
    simulator: VapiSimulator, execute: Execute, name: Any
) -> None:
    call_id = simulator.add_call(body={"name": "Before"})
    with pytest.raises(VapiConfigurationError, match=f"name for call {call_id} .*Nothing was sent"):
        execute(call_id=call_id, name=name)
    assert simulator.requests == []
    assert simulator.get_call(call_id)["name"] == "Before"


@pytest.mark.parametrize("name", ["n" * 40, "Müller, \N{TELEPHONE RECEIVER} 10:00"])
def test_a_name_arrives_as_it_is(simulator: VapiSimulator, execute: Execute, name: str) -> None:
    call_id = simulator.add_call()
    assert execute(call_id=call_id, name=name)["name"] == name
    assert simulator.get_call(call_id)["name"] == name


def test_the_connection_is_that_of_the_argument(
    simulator: VapiSimulator, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", simulator.connection)
    monkeypatch.delenv("AIRFLOW_CONN_VAPI_DEFAULT")
    call_id = simulator.add_call()
    execute(call_id=call_id, vapi_conn_id="clinic")
    assert simulator.get_call(call_id)["name"] == NAME


def test_a_missing_connection_fails_without_retries(simulator: VapiSimulator, execute: Execute) -> None:
    with pytest.raises(VapiConfigurationError, match="no connection 'nowhere'"):
        execute(call_id=simulator.add_call(), vapi_conn_id="nowhere")
    assert simulator.requests == []


def test_a_call_that_vapi_does_not_know_fails_without_retries_and_keeps_its_link(
    simulator: VapiSimulator, execute: Execute, task_instance: Any
) -> None:
    with pytest.raises(VapiCallNotFoundError, match=CALL_ID):
        execute(call_id=CALL_ID)
    assert len(simulator.requests) == 1
    assert task_instance.xcoms == {LINK: f"https://dashboard.vapi.ai/calls/{CALL_ID}"}


def test_a_refused_key_fails_without_retries_and_is_not_named(
    simulator: VapiSimulator, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {**json.loads(simulator.connection), "password": "wrong-key"}
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", json.dumps(connection))
    with pytest.raises(VapiAuthenticationError, match="vapi_default") as failure:
        execute(call_id=simulator.add_call())
    assert "wrong-key" not in str(failure.value)
    assert len(simulator.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(status=503, times=3), id="overload"),
        pytest.param(
            Fault(status=502, body="<html>", content_type="text/html", effect=True), id="lost-answer"
        ),
        pytest.param(Fault(reset="midway"), id="cut-off-answer"),
    ],
)
def test_a_passing_error_is_overcome(simulator: VapiSimulator, execute: Execute, fault: Fault) -> None:
    call_id = simulator.add_call()
    simulator.faults.add(fault)
    assert execute(call_id=call_id)["name"] == NAME
    assert simulator.get_call(call_id)["name"] == NAME
    assert len(simulator.requests) == (fault.times or 0) + 1


def test_an_outage_leaves_the_rest_to_airflows_retries(simulator: VapiSimulator, execute: Execute) -> None:
    call_id = simulator.add_call(body={"name": "Before"})
    simulator.faults.add(Fault(status=503, times=None))
    with pytest.raises(VapiTransientError, match="503"):
        execute(call_id=call_id)
    assert simulator.get_call(call_id)["name"] == "Before"


def test_call_name_and_connection_are_templated() -> None:
    assert set(VapiUpdateCallOperator.template_fields) == {"call_id", "name", "vapi_conn_id"}


def test_it_can_be_tried_by_hand_without_a_task_instance(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call()
    operator = VapiUpdateCallOperator(task_id="rename", call_id=call_id, name="Reminder")
    assert operator.execute({})["name"] == "Reminder"
