# SPDX-License-Identifier: Apache-2.0
"""What VapiCreateCallOperator sends to Vapi for which arguments."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow_model import ASSISTANT_ID, NUMBER, PHONE_NUMBER_ID, AirflowModel
from placing_helpers import Later, render, rendered, sent_body, templated

from airflow.sdk import DAG
from vapi_provider.operators.call import VapiCreateCallOperator

SECRET = "a secret of the script"
PERSON = {"number": NUMBER}
SQUAD_ID = "0198a3f0-0000-7000-8000-0000000000b1"
ASSISTANT = {"firstMessage": "Hello", "model": {"messages": [{"role": "system", "content": SECRET}]}}
SQUAD = {"members": [{"assistantId": ASSISTANT_ID}]}
VALUES = {
    "variableValues": {"first_name": "Ada", "slots": ["ten", "eleven"]},
    "metadata": {"deep": [{"er": "x"}]},
}
LATER = datetime(2040, 1, 1, 10, tzinfo=timezone.utc)


@pytest.fixture
def has_store() -> bool:
    return True


def placed(model: AirflowModel, **arguments: Any) -> dict[str, Any]:
    """Render and run a task, and return what arrived at Vapi."""
    running, context = rendered(model.slot(), **{"name": None, **arguments})
    running.execute(context)
    return sent_body(model)


def token_of(body: dict[str, Any]) -> str:
    return str(body["name"]).rpartition("#")[2]


FULL: dict[str, Any] = {
    "name": "Reminder",
    "customer": {
        "number": NUMBER,
        "name": "Ada",
        "extension": "12",
        "email": "ada@example.com",
        "external_id": "crm-7",
    },
    "schedule_plan": {"earliest_at": "2040-01-01T10:00:00Z", "latest_at": "2040-01-01T12:00:00+01:00"},
}
ALWAYS: dict[str, Any] = {
    "phoneNumberId": PHONE_NUMBER_ID,
    "customer": {
        "number": NUMBER,
        "name": "Ada",
        "extension": "12",
        "email": "ada@example.com",
        "externalId": "crm-7",
    },
    "schedulePlan": {"earliestAt": "2040-01-01T10:00:00+00:00", "latestAt": "2040-01-01T12:00:00+01:00"},
}
NO_ASSISTANT: dict[str, Any] = {"assistant_id": None}

TALKERS = [
    pytest.param(
        {
            "assistant_id": ASSISTANT_ID,
            "assistant_overrides": VALUES,
            "extra_body": {"assistantVersion": "3"},
        },
        {"assistantId": ASSISTANT_ID, "assistantOverrides": VALUES, "assistantVersion": "3"},
        id="assistant_id",
    ),
    pytest.param(
        {**NO_ASSISTANT, "assistant": ASSISTANT, "assistant_overrides": VALUES},
        {"assistant": ASSISTANT, "assistantOverrides": VALUES},
        id="assistant",
    ),
    pytest.param(
        {**NO_ASSISTANT, "squad_id": SQUAD_ID, "extra_body": {"squadOverrides": VALUES}},
        {"squadId": SQUAD_ID, "squadOverrides": VALUES},
        id="squad_id",
    ),
    pytest.param(
        {**NO_ASSISTANT, "extra_body": {"squad": SQUAD, "squadOverrides": VALUES}},
        {"squad": SQUAD, "squadOverrides": VALUES},
        id="squad-in-extra_body",
    ),
]


def with_token(expected: dict[str, Any], token: str) -> dict[str, Any]:
    """Put a token where the request must have it: in the variable values of the overrides that the call uses."""
    (field,) = (name for name in expected if name.endswith("Overrides"))
    values = {**expected[field]["variableValues"], "airflow_token": token}
    return {**expected, field: {**expected[field], "variableValues": values}}


@pytest.mark.parametrize("write", [dict, templated], ids=["literal", "templates"])
@pytest.mark.parametrize(("talker", "expected"), TALKERS)
def test_full_request_uses_the_names_of_the_api(
    model: AirflowModel, talker: dict[str, Any], expected: dict[str, Any], write: Callable[[Any], Any]
) -> None:
    arguments = {"phone_number_id": PHONE_NUMBER_ID, **FULL, **talker}
    body = placed(model, **write(arguments))
    token = token_of(body)
    assert body == {**ALWAYS, **with_token(expected, token), "name": f"Reminder #{token}"}
    assert len(token) == 8


def test_arguments_of_the_request_are_templated() -> None:
    assert set(VapiCreateCallOperator.template_fields) == {
        "assistant_id",
        "squad_id",
        "assistant",
        "phone_number_id",
        "customer",
        "name",
        "assistant_overrides",
        "schedule_plan",
        "extra_body",
        "calling_hours",
        "vapi_conn_id",
    }


def test_connection_is_templated(model: AirflowModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", model.simulator.connection)
    monkeypatch.delenv("AIRFLOW_CONN_VAPI_DEFAULT")
    assert placed(model, vapi_conn_id="{{ 'clinic' }}")["customer"] == PERSON


def test_minimal_request(model: AirflowModel) -> None:
    body = placed(model)
    token = token_of(body)
    assert body == {
        "assistantId": ASSISTANT_ID,
        "assistantOverrides": {"variableValues": {"airflow_token": token}},
        "phoneNumberId": PHONE_NUMBER_ID,
        "customer": PERSON,
        "name": f"#{token}",
    }


def test_sip_uri_is_sent_unchanged(model: AirflowModel) -> None:
    body = placed(model, customer={"sip_uri": "sip:ada@pbx.example.com", "number": None, "name": ""})
    assert body["customer"] == {"sipUri": "sip:ada@pbx.example.com"}


def test_stored_customer_and_phone_number_in_extra_body(model: AirflowModel) -> None:
    transient = {"twilioPhoneNumber": "+12025550100", "twilioAccountSid": "AC0", "twilioAuthToken": SECRET}
    body = placed(
        model, customer=None, phone_number_id=None, extra_body={"customerId": "c-1", "phoneNumber": transient}
    )
    assert (body["customerId"], body["phoneNumber"]) == ("c-1", transient)
    assert not {"customer", "phoneNumberId"} & set(body)


def test_white_space_around_texts_is_removed(model: AirflowModel) -> None:
    body = placed(
        model,
        assistant_id=f" {ASSISTANT_ID}\n",
        phone_number_id=f"{PHONE_NUMBER_ID} ",
        customer={"number": f" {NUMBER}\n", "name": " Ada "},
        name=f"{' ' * 20}Reminder{' ' * 20}",
    )
    assert (body["assistantId"], body["phoneNumberId"]) == (ASSISTANT_ID, PHONE_NUMBER_ID)
    assert body["customer"] == {"number": NUMBER, "name": "Ada"}
    assert body["name"].startswith("Reminder #")


@pytest.mark.parametrize("number", ["1001", "+1001", "ABC", "a" * 40, f"+{'9' * 39}", "+02025550143"])
def test_number_of_a_sip_trunk_is_sent_unchanged(model: AirflowModel, number: str) -> None:
    body = placed(model, customer={"number": f" {number} ", "number_e164_check_enabled": False})
    assert body["customer"] == {"number": number, "numberE164CheckEnabled": False}
    assert model.rings() == {number: 1}


def test_number_e164_check_enabled_is_sent_if_given(model: AirflowModel) -> None:
    body = placed(model, customer={**PERSON, "number_e164_check_enabled": True})
    assert body["customer"] == {**PERSON, "numberE164CheckEnabled": True}


def test_customers_own_overrides_are_sent(model: AirflowModel) -> None:
    own = {"firstMessage": "Hello Ada", "variableValues": {"first_name": "Ada"}}
    body = placed(model, customer={**PERSON, "assistant_overrides": own}, assistant_overrides=VALUES)
    token = token_of(body)
    assert body["customer"] == {**PERSON, "assistantOverrides": own}
    # The call's overrides carry the token.
    assert body["assistantOverrides"]["variableValues"] == {
        **VALUES["variableValues"],
        "airflow_token": token,
    }


@pytest.mark.parametrize(
    ("instant", "written"),
    [
        pytest.param(LATER, "2040-01-01T10:00:00+00:00", id="datetime"),
        pytest.param(
            LATER.astimezone(timezone(timedelta(hours=-5))),
            "2040-01-01T05:00:00-05:00",
            id="datetime-of-a-zone",
        ),
        pytest.param("2040-01-01T10:00:00Z", "2040-01-01T10:00:00+00:00", id="text-in-utc"),
        pytest.param("2040-01-01 10:00:00+02:00", "2040-01-01T10:00:00+02:00", id="text-with-an-offset"),
        pytest.param(Later(LATER), "2040-01-01T10:00:00+00:00", id="what-another-task-returns"),
    ],
)
def test_each_form_of_an_instant_is_accepted(model: AirflowModel, instant: Any, written: str) -> None:
    assert placed(model, schedule_plan={"earliest_at": instant})["schedulePlan"] == {"earliestAt": written}
    assert model.simulator.rings == {}


def test_longest_name_leaves_room_for_the_token(model: AirflowModel) -> None:
    body = placed(model, name="n" * 30)
    assert len(body["name"]) == 40
    assert body["name"].startswith("n" * 30 + " #")


def test_dictionary_of_a_native_template_arrives_whole(model: AirflowModel) -> None:
    macros = {"person": {"number": NUMBER, "name": "Ada"}, "values": VALUES}
    running, context = rendered(
        model.slot(),
        native=True,
        macros=macros,
        customer="{{ person }}",
        assistant_overrides="{{ values }}",
        name=None,
    )
    running.execute(context)
    body = sent_body(model)
    assert body["customer"] == macros["person"]
    assert body["assistantOverrides"]["variableValues"]["slots"] == ["ten", "eleven"]


def test_mapped_task_calls_its_own_callee(model: AirflowModel) -> None:
    with DAG("calls", schedule=None):
        mapped = VapiCreateCallOperator.partial(
            task_id="call",
            assistant_id=templated(ASSISTANT_ID),
            phone_number_id=PHONE_NUMBER_ID,
            name="{{ task_instance_key_str | default('Reminder') }}",
            assistant_overrides={"variableValues": {"run": "{{ run_id }}"}},
        ).expand(customer=[{"number": "+12025550101"}, {"number": templated(NUMBER), "name": "Ada"}])
    slot = model.slot(map_index=1)
    running, context = render(mapped, slot)
    running.execute(context)
    body = sent_body(model)
    assert body["customer"] == {"number": NUMBER, "name": "Ada"}
    assert body["assistantId"] == ASSISTANT_ID
    assert body["assistantOverrides"]["variableValues"]["run"] == slot.run.run_id
    assert model.rings() == {NUMBER: 1}
