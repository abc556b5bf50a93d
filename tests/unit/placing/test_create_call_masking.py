# SPDX-License-Identifier: Apache-2.0
"""What Airflow stores and shows of a task's arguments: who is called and what is said stays out of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from airflow_model import NUMBER, PHONE_NUMBER_ID, AirflowModel
from placing_helpers import Later, begin, deferral, render, rendered, sent_body, templated
from task_instances import reported

from airflow.sdk import DAG
from airflow.sdk.execution_time.task_runner import _serialize_rendered_fields
from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.operators.call import VapiCreateCallOperator

CUSTOMER = {"number": NUMBER, "name": "Ada Byron", "email": "ada@example.com", "extension": None}
OVERRIDES = {
    "firstMessage": "Your test was positive",
    "variableValues": {"diagnosis": "measles", "slots": ["ten", "eleven"], "age": 36, "insured": True},
}
ASSISTANT = {"model": {"messages": [{"role": "system", "content": "Be firm about the debt"}]}}
REQUEST = {"transport": {"account": "AC-account"}, "x": [{"twilioAuthToken": "a-twilio-token"}]}
PERSONAL: dict[str, Any] = {
    "assistant_id": None,
    "assistant": ASSISTANT,
    "customer": CUSTOMER,
    "assistant_overrides": OVERRIDES,
    "extra_body": {"transport": REQUEST["transport"]},
}
SECRETS = (
    "2025550143",
    "Ada",
    "ada@example.com",
    "positive",
    "measles",
    "eleven",
    "36",
    "true",
    "firm",
    "system",
    "AC-account",
    "a-twilio-token",
)


@pytest.fixture
def has_store() -> bool:
    return True


def shown(running: Any) -> dict[str, Any]:
    """Return what Airflow stores of the rendered task, by Airflow's own code."""
    fields: dict[str, Any] = json.loads(json.dumps(_serialize_rendered_fields(running)))
    return fields


def assert_nothing_personal(fields: dict[str, Any]) -> None:
    text = json.dumps(fields).lower()
    assert [secret for secret in SECRETS if secret.lower() in text] == []


@pytest.mark.parametrize("write", [dict, templated], ids=["literal", "templates"])
def test_no_number_value_prompt_or_secret_is_stored(model: AirflowModel, write: Callable[[Any], Any]) -> None:
    running, _ = rendered(model.slot(), **write({**PERSONAL, "extra_body": REQUEST}))
    assert_nothing_personal(shown(running))


def test_ids_of_the_call_are_stored(model: AirflowModel) -> None:
    running, _ = rendered(model.slot(), **{**PERSONAL, "extra_body": REQUEST})
    fields = shown(running)
    assert fields["customer"] == {"number": "***43", "name": "***", "email": "***", "extension": None}
    assert fields["assistant"] == {"model": {"messages": [{"role": "***", "content": "***"}]}}
    assert fields["assistant_overrides"]["variableValues"] == {
        "diagnosis": "***",
        "slots": ["***", "***"],
        "age": "***",
        "insured": "***",
    }
    assert fields["extra_body"] == {"transport": {"account": "***"}, "x": [{"twilioAuthToken": "***"}]}
    assert (fields["name"], fields["phone_number_id"]) == ("Reminder", PHONE_NUMBER_ID)
    assert fields["vapi_conn_id"] == "vapi_default"


@pytest.mark.parametrize(
    ("customer", "stored"),
    [
        pytest.param({"sip_uri": "sip:ada@pbx.example.com"}, {"sip_uri": "***om"}, id="sip-uri"),
        pytest.param({"number": "+1"}, {"number": "***"}, id="too-short-to-hide"),
        pytest.param({"number": 12025550143}, {"number": "***"}, id="number-that-is-none"),
        pytest.param({"number": [NUMBER]}, {"number": ["***"]}, id="list"),
        pytest.param(NUMBER, "***", id="text"),
        pytest.param([{"number": NUMBER}], [{"number": "***"}], id="list-of-customers"),
        pytest.param({}, {}, id="empty"),
        pytest.param(None, None, id="none"),
    ],
)
def test_customer_is_masked_in_every_form(model: AirflowModel, customer: Any, stored: Any) -> None:
    running, _ = rendered(model.slot(), customer=Later(customer))
    assert shown(running)["customer"] == stored


@pytest.mark.parametrize("name", ["assistant_overrides", "extra_body"])
@pytest.mark.parametrize(
    "value", ["{'x': 'measles'}", ["measles"], ("measles",), {"measles"}, {"x": {"y": ["measles"]}}], ids=repr
)
def test_content_is_masked_in_every_form(model: AirflowModel, name: str, value: Any) -> None:
    arguments: dict[str, Any] = {name: Later(value)}
    running, _ = rendered(model.slot(), **arguments)
    assert "measles" not in json.dumps(shown(running))


def test_call_is_placed_with_the_hidden_values(model: AirflowModel) -> None:
    running, context = rendered(model.slot(), **templated(PERSONAL))
    shown(running)
    running.execute(context)
    body = sent_body(model)
    assert body["customer"] == {"number": NUMBER, "name": "Ada Byron", "email": "ada@example.com"}
    assert body["assistant"] == ASSISTANT
    assert body["transport"] == REQUEST["transport"]
    values = body["assistantOverrides"]["variableValues"]
    token = values.pop("airflow_token")
    assert body["name"] == f"Reminder #{token}"
    assert body["assistantOverrides"] == OVERRIDES
    assert model.rings() == {NUMBER: 1}


def test_masked_arguments_are_checked(model: AirflowModel) -> None:
    running, context = rendered(
        model.slot(), customer={"number": "{{ '+1202555' }}", "email": "{{ 'e' * 41 }}"}
    )
    with pytest.raises(VapiConfigurationError, match="customer's email has 41 characters"):
        running.execute(context)
    assert model.simulator.requests == []


@pytest.mark.parametrize("write", [dict, templated], ids=["literal", "templates"])
def test_mapped_task_stores_nothing_personal(model: AirflowModel, write: Callable[[Any], Any]) -> None:
    with DAG("calls", schedule=None):
        mapped = VapiCreateCallOperator.partial(
            task_id="call", phone_number_id=PHONE_NUMBER_ID, **write({"assistant": ASSISTANT})
        ).expand_kwargs(
            [
                write({"customer": {"number": f"+1202555010{last}"}, "assistant_overrides": OVERRIDES})
                for last in range(3)
            ]
        )
    running, context = render(mapped, model.slot(map_index=2))
    fields = shown(running)
    assert_nothing_personal(fields)
    assert "202555010" not in json.dumps(fields)
    assert fields["customer"] == {"number": "***02"}
    assert sorted(fields["assistant_overrides"]) == ["firstMessage", "variableValues"]
    running.execute(context)
    assert model.rings() == {"+12025550102": 1}
    assert sent_body(model)["assistantOverrides"]["variableValues"]["diagnosis"] == "measles"


def test_each_process_renders_and_masks_anew(model: AirflowModel) -> None:
    """As ``dag.test()`` does: retries and resumed tasks come from the same parsed task."""
    slot = model.slot()
    with DAG("calls", schedule=None):
        parsed = VapiCreateCallOperator(task_id="call", **{**slot.arguments, **templated(PERSONAL)})
    ids = []
    for _ in range(3):
        running, context = render(parsed, slot)
        assert_nothing_personal(shown(running))
        ids.append(running.execute(context)["id"])
    assert len(set(ids)) == 1
    assert sent_body(model)["customer"]["number"] == NUMBER
    assert model.rings() == {NUMBER: 1}


def test_resumed_task_stores_nothing_personal(model: AirflowModel) -> None:
    slot = model.slot()
    arguments = {**PERSONAL, "name": None}
    deferred = deferral(slot, **arguments)
    call_id = deferred.trigger.call_id
    running, context = rendered(slot, **arguments, wait_for_completion=True, deferrable=True)
    assert_nothing_personal(shown(running))
    model.pass_time(60)
    result = running.resume_execution(deferred.method, {"event": reported("done", call_id)}, context)
    assert (result["id"], result["status"]) == (call_id, "ended")
    kept = json.dumps([slot.xcoms, slot.stored, deferred.kwargs, deferred.trigger.serialize()])
    for secret in ("2025550143", "Ada", "positive", "measles", "firm", "AC-account"):
        assert secret not in kept


def test_summary_and_the_log_name_no_number(
    model: AirflowModel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VapiCreateCallOperator, "log", logging.getLogger("task"))
    caplog.set_level(logging.DEBUG)
    summary = begin(model.slot(), **PERSONAL)
    assert "Placed call" in caplog.text
    for secret in ("2025550143", "Ada", "ada@", "positive", "measles", "eleven", "firm", "AC-account"):
        assert secret not in caplog.text + json.dumps(summary), secret
