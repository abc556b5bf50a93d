# SPDX-License-Identifier: Apache-2.0
"""What VapiCreateCallOperator accepts, what it sends to Vapi, and what it refuses, when, and with which message."""

from __future__ import annotations

import inspect
import json
import math
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from airflow_model import ASSISTANT_ID, NUMBER, PHONE_NUMBER_ID, AirflowModel
from placing_helpers import Later, render, rendered, sent_body, templated

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, task
from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.models.outcome import CallOutcome
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.sensors.call import VapiCallSensor

SECRET = "a secret of the script"
PERSON = {"number": NUMBER}
SQUAD_ID = "0198a3f0-0000-7000-8000-0000000000b1"
ASSISTANT = {"firstMessage": "Hello", "model": {"messages": [{"role": "system", "content": SECRET}]}}
SQUAD = {"members": [{"assistantId": ASSISTANT_ID}]}
VALUES = {
    "variableValues": {"first_name": "Ada", "slots": ["ten", "eleven"]},
    "metadata": {"deep": [{"er": "x"}]},
}
BASE: dict[str, Any] = {
    "assistant_id": ASSISTANT_ID,
    "phone_number_id": PHONE_NUMBER_ID,
    "customer": PERSON,
}
LATER = datetime(2040, 1, 1, 10, tzinfo=timezone.utc)


@pytest.fixture
def has_store() -> bool:
    return True


def operator(**arguments: Any) -> VapiCreateCallOperator:
    return VapiCreateCallOperator(task_id="call", **{**BASE, **arguments})


def placed(model: AirflowModel, **arguments: Any) -> dict[str, Any]:
    """Render and run a task, and return what arrived at Vapi."""
    running, context = rendered(model.slot(), **{"name": None, **arguments})
    running.execute(context)
    return sent_body(model)


def token_of(body: dict[str, Any]) -> str:
    return str(body["name"]).rpartition("#")[2]


# What arrives


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
def test_a_full_request_arrives_as_the_api_names_it(
    model: AirflowModel, talker: dict[str, Any], expected: dict[str, Any], write: Callable[[Any], Any]
) -> None:
    arguments = {"phone_number_id": PHONE_NUMBER_ID, **FULL, **talker}
    body = placed(model, **write(arguments))
    token = token_of(body)
    assert body == {**ALWAYS, **with_token(expected, token), "name": f"Reminder #{token}"}
    assert len(token) == 8


def test_every_argument_that_makes_the_request_is_a_template() -> None:
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
        "vapi_conn_id",
    }


def test_the_connection_is_a_template(model: AirflowModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", model.simulator.connection)
    monkeypatch.delenv("AIRFLOW_CONN_VAPI_DEFAULT")
    assert placed(model, vapi_conn_id="{{ 'clinic' }}")["customer"] == PERSON


def test_the_least_arguments_make_the_least_request(model: AirflowModel) -> None:
    body = placed(model)
    token = token_of(body)
    assert body == {
        "assistantId": ASSISTANT_ID,
        "assistantOverrides": {"variableValues": {"airflow_token": token}},
        "phoneNumberId": PHONE_NUMBER_ID,
        "customer": PERSON,
        "name": f"#{token}",
    }


def test_a_sip_uri_is_called_as_it_is(model: AirflowModel) -> None:
    body = placed(model, customer={"sip_uri": "sip:ada@pbx.example.com", "number": None, "name": ""})
    assert body["customer"] == {"sipUri": "sip:ada@pbx.example.com"}


def test_a_stored_customer_and_a_phone_number_go_into_extra_body(model: AirflowModel) -> None:
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
def test_a_number_of_a_sip_trunk_is_sent_unchanged(model: AirflowModel, number: str) -> None:
    body = placed(model, customer={"number": f" {number} ", "number_e164_check_enabled": False})
    assert body["customer"] == {"number": number, "numberE164CheckEnabled": False}
    assert model.rings() == {number: 1}


def test_number_e164_check_enabled_is_sent_if_given(model: AirflowModel) -> None:
    body = placed(model, customer={**PERSON, "number_e164_check_enabled": True})
    assert body["customer"] == {**PERSON, "numberE164CheckEnabled": True}


def test_a_customers_own_overrides_are_sent(model: AirflowModel) -> None:
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


def test_the_longest_name_leaves_room_for_the_token(model: AirflowModel) -> None:
    body = placed(model, name="n" * 30)
    assert len(body["name"]) == 40
    assert body["name"].startswith("n" * 30 + " #")


def test_a_dictionary_of_a_native_template_arrives_whole(model: AirflowModel) -> None:
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


def test_a_mapped_task_calls_the_person_of_its_own_element(model: AirflowModel) -> None:
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


def test_a_dag_with_references_to_other_tasks_is_parsed() -> None:
    with DAG("calls", schedule=None) as dag:

        @task
        def anything() -> Any: ...

        coming: Any = anything()
        VapiCreateCallOperator(
            task_id="whole",
            assistant=coming,
            phone_number_id=coming,
            customer=coming,
            name=coming,
            assistant_overrides=coming,
            schedule_plan=coming,
            extra_body=coming,
        )
        VapiCreateCallOperator(
            task_id="parts",
            assistant_id=coming["assistant"],
            phone_number_id=coming["from"],
            customer={"number": coming["number"], "name": coming["name"]},
            assistant_overrides={"variableValues": {"first_name": coming["name"]}},
            schedule_plan={"earliest_at": coming["at"]},
            extra_body={"transport": {"x": [coming]}},
        )
        VapiCreateCallOperator.partial(task_id="mapped", assistant_id="a", phone_number_id="p").expand(
            customer=coming
        )
    # They run after it, so Airflow has seen the references, too.
    assert dag.get_task("anything").downstream_task_ids == {"whole", "parts", "mapped"}


def test_a_dag_with_a_function_as_an_argument_is_parsed() -> None:
    made = operator(customer=lambda context, jinja_env: PERSON)
    assert callable(made.customer)


# What is refused


def case(message: str, case_id: str, **arguments: Any) -> Any:
    return pytest.param(arguments, message, id=case_id)


WRONG_TALKERS = [
    case("exactly one of .* got none of them", "no-talker", assistant_id=None),
    case("exactly one of .* got assistant_id and squad_id", "assistant_id-and-squad_id", squad_id=SQUAD_ID),
    case("exactly one of .* got assistant_id and assistant", "assistant_id-and-assistant", assistant=ASSISTANT),
    case("exactly one of .* got assistant_id and squad", "assistant_id-and-squad", extra_body={"squad": SQUAD}),
    case("exactly one of .* got squad_id and squad", "two-squads", assistant_id=None, squad_id=SQUAD_ID, extra_body={"squad": SQUAD}),
    case("assistant_overrides requires an assistant; with squad_id, use squadOverrides", "overrides-and-squad_id",
         assistant_id=None, squad_id=SQUAD_ID, assistant_overrides=VALUES),
    case("assistant_overrides requires an assistant; with squad, use squadOverrides", "overrides-and-squad",
         assistant_id=None, extra_body={"squad": SQUAD}, assistant_overrides=VALUES),
]  # fmt: skip

WRONG_PARTIES = [
    case("either phone_number_id", "no-phone-number", phone_number_id=None),
    case("either phone_number_id", "two-phone-numbers", extra_body={"phoneNumber": {"twilioPhoneNumber": NUMBER}}),
    case("either customer", "no-customer", customer=None),
    case("either customer", "two-customers", extra_body={"customerId": "c-1"}),
]  # fmt: skip

WRONG_ARGUMENTS = [*WRONG_TALKERS, *WRONG_PARTIES]
"""Arguments that are missing or exclude each other, whatever their values are."""

WRONG_NUMBERS = [
    case("customer's number .* E.164", case_id, customer={"number": number})
    for case_id, number in {
        "spaces": "+1 202 555 0143",
        "no-plus": "12025550143",
        "national": "2025550143",
        "two-zeros": "0012025550143",
        "plus-zero": "+02025550143",
        "letters": "+1202555CALL",
        "16-digits": "+1202555014312345",
        "full-width-digits": "+１２０２５５５０１４３",
        "some-full-width-digits": "+1２０２５５５０１４３",
        "full-width-plus": "＋12025550143",
        "arabic-digits": "+١٢٠٢٥٥٥٠١٤٣",
        "hyphens": "+1-202-555-0143",
        "one-digit": "+1",
        "inner-newline": "+1202555\n0143",
        "two-numbers": f"{NUMBER},{NUMBER}",
        "extension": f"{NUMBER};ext=5",
        "nul": f"{NUMBER}\x00",
    }.items()
]

WRONG_CUSTOMERS = [
    case("customer's number must be a string; got int.*native", "number-int", customer={"number": 12025550143}),
    case("customer's number is 'None'", "number-rendered-none", customer={"number": "None"}),
    case("customer's number has 41 characters.* 40", "number-long", customer={"number": f"+{'1' * 40}"}),
    case("customer must have either a number or a sip_uri", "number-blank", customer={"number": "  "}),
    case("customer must have either a number or a sip_uri", "number-none", customer={"number": None}),
    case("customer must be a dictionary that is not empty", "empty", customer={}),
    case("customer must have either a number or a sip_uri", "neither", customer={"name": "Ada"}),
    case("customer must have either a number or a sip_uri", "both",
         customer={"number": NUMBER, "sip_uri": "sip:ada@example.com"}),
    case("customer's sip_uri must begin with sip", "sip-uri-scheme", customer={"sip_uri": "tel:12025550143"}),
    case("customer's sip_uri must begin with sip", "sip-uri-space", customer={"sip_uri": "sip:ada @example.com"}),
    case("customer's sip_uri has", "sip-uri-long", customer={"sip_uri": f"sip:{'a' * 500}@example.com"}),
    case(r"customer has unknown keys \['phone'\].*number, sip_uri", "unknown-key", customer={**PERSON, "phone": "x"}),
    case(r"customer has unknown keys \['externalId'\]", "the-apis-own-key", customer={**PERSON, "externalId": "x"}),
    case("customer's name has 41 characters.* 40", "name-long", customer={**PERSON, "name": "n" * 41}),
    case("customer's name must be a string; got int", "name-int", customer={**PERSON, "name": 5}),
    case("customer's extension has 11 characters.* 10", "extension-long", customer={**PERSON, "extension": "1" * 11}),
    case("customer's extension must be a string; got int", "extension-int", customer={**PERSON, "extension": 12}),
    case("customer's extension is 'None'", "extension-rendered-none", customer={**PERSON, "extension": "None"}),
    case("customer's email has 41 characters", "email-long", customer={**PERSON, "email": "e" * 41}),
    case("customer's external_id has 41 characters", "external-id-long", customer={**PERSON, "external_id": "e" * 41}),
    case("customer must be a dictionary.*got str", "text", customer=NUMBER),
    case("customer must be a dictionary.*got list", "list", customer=[PERSON]),
]  # fmt: skip

TRUNK = {"number_e164_check_enabled": False}
"""A customer whose number need not be in E.164, as those of a SIP trunk."""

WRONG_TRUNK_NUMBERS = [
    *(case("customer's number .* must be 3 to 40 letters and digits", f"trunk-{case_id}",
           customer={**TRUNK, "number": number})
      for case_id, number in {
          "short": "12",
          "two-pluses": "++12025550143",
          "inner-plus": "12+025550143",
          "spaces": "1 202 555 0143",
          "hyphens": "1-202-555-0143",
          "full-width-digits": "１２０２５５５０１４３",
          "uri": "sip:ada@example.com",
          "newline": "1202555\n0143",
      }.items()),
    case("customer's number has 41 characters", "trunk-long", customer={**TRUNK, "number": "1" * 41}),
    case("customer's number .* is not in E.164", "trunk-checked",
         customer={"number": "1001", "number_e164_check_enabled": True}),
    case("customer's number .* is not in E.164.*number_e164_check_enabled to False", "trunk-not-given",
         customer={"number": "1001", "number_e164_check_enabled": None}),
    *(case("customer's number_e164_check_enabled must be a bool", f"trunk-flag-{kind}",
           customer={**PERSON, "number_e164_check_enabled": value})
      for kind, value in {"str": "False", "int": 0}.items()),
    *(case("customer's assistant_overrides must be a dictionary that is not empty", f"own-overrides-{kind}",
           customer={**PERSON, "assistant_overrides": value})
      for kind, value in {"str": SECRET, "list": [SECRET], "empty": {}}.items()),
    case("variableValues in customer's assistant_overrides must not contain 'airflow_token'", "own-overrides-token",
         customer={**PERSON, "assistant_overrides": {"variableValues": {"airflow_token": SECRET}}}),
    case("variableValues in customer's assistant_overrides must be an object; got list", "own-overrides-values",
         customer={**PERSON, "assistant_overrides": {"variableValues": [SECRET]}}),
    case("customer cannot be written as JSON", "own-overrides-nan",
         customer={**PERSON, "assistant_overrides": {"variableValues": {"x": math.nan}}}),
]  # fmt: skip

WRONG_TEXTS = [
    case("name has 31 characters; at most 30", "name-long", name="n" * 31),
    *(case(f"{name} must be a string that is not empty; got {got}", f"{name}-{kind}", **{**talker, name: value})
      for name, talker in (("assistant_id", {}), ("squad_id", NO_ASSISTANT), ("phone_number_id", {}), ("name", {}))
      for kind, value, got in (("empty", "", "''"), ("blank", " \n", "' "), ("rendered-none", " None ", "' None '"),
                               ("int", 5, "int"), ("list", ["x"], "list"))),
]  # fmt: skip

WRONG_PLANS = [
    *(case("schedule_plan's earliest_at must be a datetime with a time zone", case_id, schedule_plan={"earliest_at": at})
      for case_id, at in {
          "naive": datetime(2040, 1, 1),
          "no-offset": "2040-01-01T10:00:00",
          "date": date(2040, 1, 1),
          "date-text": "2040-01-01",
          "empty": "",
          "rendered-none": "None",
          "words": "tomorrow",
          "number": 2208988800,
      }.items()),
    case("schedule_plan's latest_at must be a datetime", "latest-naive",
         schedule_plan={"earliest_at": LATER, "latest_at": datetime(2040, 1, 2)}),
    case("schedule_plan's latest_at must be after", "latest-first",
         schedule_plan={"earliest_at": LATER, "latest_at": LATER - timedelta(seconds=1)}),
    case("schedule_plan's latest_at must be after", "latest-first-by-the-offset",
         schedule_plan={"earliest_at": "2040-01-01T10:00:00Z", "latest_at": "2040-01-01T10:30:00+02:00"}),
    case("schedule_plan's latest_at must be after", "no-time-between", schedule_plan={"earliest_at": LATER, "latest_at": LATER}),
    case("schedule_plan must have earliest_at", "no-earliest", schedule_plan={"latest_at": LATER}),
    case("schedule_plan must have earliest_at", "earliest-none", schedule_plan={"earliest_at": None}),
    case("schedule_plan must be a dictionary that is not empty", "empty", schedule_plan={}),
    case(r"schedule_plan has unknown keys \['earliestAt'\]", "the-apis-own-key", schedule_plan={"earliestAt": LATER}),
    case("schedule_plan must be a dictionary.*got datetime", "datetime", schedule_plan=LATER),
    case("schedule_plan must be a dictionary.*got str", "text", schedule_plan="2040-01-01T10:00:00Z"),
]  # fmt: skip

OWN_FIELDS = {
    "assistantId": "assistant_id",
    "squadId": "squad_id",
    "assistant": "assistant",
    "phoneNumberId": "phone_number_id",
    "customer": "customer",
    "name": "name",
    "assistantOverrides": "assistant_overrides",
    "schedulePlan": "schedule_plan",
}
WRONG_EXTRAS = [
    *(case(f"extra_body must not contain {field}; use the argument {argument}", field, extra_body={field: SECRET})
      for field, argument in OWN_FIELDS.items()),
    case(r"extra_body must not contain customers; map the operator .*\.expand\(customer=", "customers",
         extra_body={"customers": [PERSON]}),
    case("extra_body must not contain customers", "customers-none", extra_body={"customers": None}),
    case("extra_body must be a dictionary that is not empty; got list", "extra_body-list", extra_body=[SECRET]),
    case("extra_body must be a dictionary that is not empty; got str", "extra_body-text", extra_body=SECRET),
    case("extra_body must be a dictionary that is not empty", "extra_body-empty", extra_body={}),
]  # fmt: skip

WRONG_CONTENT = [
    *(case(f"{name} must be a dictionary.*got {kind}", f"{name}-{kind}", **{**talker, name: value})
      for name, talker in (("assistant", NO_ASSISTANT), ("assistant_overrides", {}))
      for kind, value in {"str": SECRET, "list": [SECRET], "int": 5}.items()),
    case("assistant must be a dictionary that is not empty", "assistant-empty", assistant_id=None, assistant={}),
    *(case("assistant_overrides cannot be written as JSON", f"overrides-{kind}",
           assistant_overrides={"variableValues": {"secret": SECRET, "x": value}})
      for kind, value in {
          "nan": math.nan, "infinity": [math.inf], "datetime": LATER, "date": date(2040, 1, 1), "bytes": b"x",
          "set": {SECRET}, "object": object(),
      }.items()),
    case("assistant cannot be written as JSON", "assistant-nan",
         assistant_id=None, assistant={**ASSISTANT, "temperature": math.nan}),
    case("extra_body cannot be written as JSON", "extra_body-datetime", extra_body={"transport": {"at": LATER, "x": SECRET}}),
    case("variableValues in assistant_overrides must not contain 'airflow_token'", "token-in-overrides",
         assistant_overrides={"variableValues": {"airflow_token": SECRET}}),
    case("variableValues in squadOverrides in extra_body must not contain 'airflow_token'", "token-in-squad-overrides",
         assistant_id=None, squad_id=SQUAD_ID, extra_body={"squadOverrides": {"variableValues": {"airflow_token": SECRET}}}),
    case("variableValues in assistant_overrides must be an object; got list", "values-list",
         assistant_overrides={"variableValues": [SECRET]}),
    case("squadOverrides in extra_body must be an object; got str", "squad-overrides-text", assistant_id=None,
         squad_id=SQUAD_ID, extra_body={"squadOverrides": SECRET}),
]  # fmt: skip

WRONG_VALUES = [
    *WRONG_NUMBERS,
    *WRONG_CUSTOMERS,
    *WRONG_TRUNK_NUMBERS,
    *WRONG_TEXTS,
    *WRONG_PLANS,
    *WRONG_EXTRAS,
    *WRONG_CONTENT,
]


def assert_discreet(error: VapiConfigurationError) -> None:
    """Assert that a message says that nothing was sent, and shows neither the number nor the script."""
    message = str(error)
    assert "Nothing was sent" in message
    assert SECRET not in message
    for number in (NUMBER, "2025550143", "202 555", "２０２", "202-555", "٢٠٢"):
        assert number not in message.replace("such as +12025550143", "")
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


@pytest.mark.parametrize(("arguments", "message"), WRONG_ARGUMENTS)
def test_a_dag_with_wrong_arguments_is_not_parsed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(VapiConfigurationError, match=f"^Task 'call': .*{message}") as refusal:
        operator(**arguments)
    assert isinstance(refusal.value, ValueError)
    # The reader of an import error fears no call.
    assert "Nothing was sent" not in str(refusal.value)
    assert SECRET not in str(refusal.value)


def run_refused(model: AirflowModel, arguments: dict[str, Any], message: str) -> None:
    """Run a task with wrong arguments, and assert that it fails for good and has sent nothing."""
    running, context = rendered(model.slot(), **arguments)
    with pytest.raises(VapiConfigurationError, match=f"^{message}") as refusal:
        running.execute(context)
    assert isinstance(refusal.value, AirflowFailException)
    assert isinstance(refusal.value, ValueError)
    assert_discreet(refusal.value)
    assert model.simulator.requests == []


@pytest.mark.parametrize(("arguments", "message"), WRONG_VALUES)
def test_a_wrong_value_is_refused_when_the_task_runs(
    model: AirflowModel, arguments: dict[str, Any], message: str
) -> None:
    run_refused(model, {"name": None, **arguments}, message)


@pytest.mark.parametrize(("arguments", "message"), [*WRONG_ARGUMENTS, *WRONG_VALUES])
def test_a_wrong_value_of_another_task_is_refused(
    model: AirflowModel, arguments: dict[str, Any], message: str
) -> None:
    # Which fields a later extra_body has, no parser can know.
    given = {**BASE, "extra_body": None, **arguments}
    run_refused(model, {name: Later(value) for name, value in given.items()}, message)


TEMPLATES = [
    pytest.param("{{ params.x }}", id="expression"),
    pytest.param("{% if ds %}x{% endif %}", id="statement"),
    pytest.param("text {# comment #}", id="comment"),
    pytest.param(Later("x"), id="return-value"),
]
UNKNOWN = object()
"""Stands for a template in the cases below."""

WRONG_WITH_TEMPLATES = [
    case("exactly one of", "two-talkers", extra_body={"squad": {"members": [UNKNOWN]}}),
    case("exactly one of", "two-templates", squad_id=UNKNOWN),
    case("exactly one of", "no-talker", assistant_id=None, extra_body={"assistantVersion": UNKNOWN}),
    case("assistant_overrides requires", "overrides-and-squad", assistant_id=None, squad_id=UNKNOWN,
         assistant_overrides=UNKNOWN),
    case("either phone_number_id", "no-phone-number", phone_number_id=None, extra_body={"transport": UNKNOWN}),
    case("either phone_number_id", "two-phone-numbers", extra_body={"phoneNumber": UNKNOWN}),
    case("either customer", "no-customer", customer=None, extra_body={"transport": UNKNOWN}),
    case("either customer", "two-customers", customer=UNKNOWN, extra_body={"customerId": UNKNOWN}),
]  # fmt: skip


def fill_in(value: Any, template: Any) -> Any:
    if isinstance(value, dict):
        return {name: fill_in(part, template) for name, part in value.items()}
    if isinstance(value, list):
        return [fill_in(part, template) for part in value]
    return template if value is UNKNOWN else value


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(("arguments", "message"), WRONG_WITH_TEMPLATES)
def test_which_arguments_are_given_is_checked_with_templates(
    arguments: dict[str, Any], message: str, template: Any
) -> None:
    with pytest.raises(VapiConfigurationError, match=message):
        operator(**fill_in(arguments, template))


@pytest.mark.parametrize(("arguments", "_message"), WRONG_VALUES)
def test_values_are_not_checked_when_a_dag_is_parsed(arguments: dict[str, Any], _message: str) -> None:
    operator(**arguments)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(
            {name: UNKNOWN for name in ("assistant_id", "phone_number_id", "customer", "name")}, id="whole"
        ),
        pytest.param({"customer": {"number": UNKNOWN, "sip_uri": UNKNOWN}}, id="number-or-sip-uri"),
        pytest.param({"customer": {"number": NUMBER, "name": UNKNOWN}}, id="customer-name"),
        pytest.param({"schedule_plan": {"earliest_at": UNKNOWN, "latest_at": LATER}}, id="earliest"),
        pytest.param({"schedule_plan": UNKNOWN}, id="plan"),
        pytest.param({"assistant_overrides": {"variableValues": UNKNOWN}}, id="values"),
        pytest.param({"assistant_overrides": {"metadata": [{"x": UNKNOWN}]}}, id="deep"),
        pytest.param({"assistant_id": None, "extra_body": UNKNOWN}, id="extra_body"),
        pytest.param(
            {"assistant_id": None, "extra_body": {"squad": UNKNOWN, "squadOverrides": UNKNOWN}}, id="squad"
        ),
        pytest.param({"phone_number_id": None, "extra_body": {"phoneNumber": UNKNOWN}}, id="phone-number"),
    ],
)
def test_a_dag_with_templates_is_parsed(arguments: dict[str, Any], template: Any) -> None:
    operator(**fill_in(arguments, template))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        case("customer's number \\*\\*\\*43 is not in E.164", "number", customer={"number": "{{ '2025550143' }}"}),
        case("customer must have either", "customer-nothing", customer={"number": "{{ '' }}"}),
        case("customer must have either", "customer-both",
             customer={"number": NUMBER, "sip_uri": "{{ 'sip:ada@example.com' }}"}),
        case("customer must be a dictionary.*got str.*renders to a string", "customer-text", customer="{{ {'number': 5} }}"),
        case("customer's name is 'None'", "customer-none", customer={"number": NUMBER, "name": "{{ none }}"}),
        case("customer's number_e164_check_enabled must be a bool; got str", "customer-flag",
             customer={"number": NUMBER, "number_e164_check_enabled": "{{ false }}"}),
        case("name must be a string that is not empty; got 'None'", "name-none", name="{{ none }}"),
        case("name has 31", "name-long", name="{{ 'n' * 31 }}"),
        case("assistant_id must be a string that is not empty; got 'None'", "assistant-none", assistant_id="{{ none }}"),
        case("schedule_plan's earliest_at must be a datetime with a time zone", "naive",
             schedule_plan={"earliest_at": "{{ '2040-01-01T10:00:00' }}"}),
        case("schedule_plan's latest_at must be after", "latest",
             schedule_plan={"earliest_at": LATER, "latest_at": "{{ '2039-01-01T00:00Z' }}"}),
        case("assistant_overrides must be a dictionary.*got str.*renders to a string", "overrides-text",
             assistant_overrides="{{ {'x': 1} }}"),
        case("extra_body must be a dictionary.*got str.*renders to a string", "extra_body-text", extra_body="{{ {'x': 1} }}"),
        case("exactly one", "no-talker", assistant_id=None, extra_body=Later({"transport": {}})),
        case("either phone_number_id", "no-phone-number", phone_number_id=None, extra_body=Later({"transport": {}})),
    ],
)  # fmt: skip
def test_what_templates_render_to_is_checked(
    model: AirflowModel, arguments: dict[str, Any], message: str
) -> None:
    run_refused(model, {"name": None, **arguments}, message)


def test_a_native_template_of_a_number_is_refused_with_the_reason(model: AirflowModel) -> None:
    running, context = rendered(model.slot(), native=True, customer={"number": "{{ '+12025550143' }}"})
    with pytest.raises(
        VapiConfigurationError, match="number must be a string; got int.*render_template_as_native_obj"
    ):
        running.execute(context)
    assert model.simulator.requests == []


def test_an_argument_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="metadata"):
        operator(metadata={"x": 1})


# How it waits


def wait_refused(model: AirflowModel, **arguments: Any) -> str:
    """Run a task that may not wait like this, and return the message."""
    slot = model.slot(wait_for_completion=True, **arguments)
    with pytest.raises(VapiConfigurationError) as refusal:
        slot.attempt()
    assert model.simulator.requests == []
    return str(refusal.value)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"fail_on": ["gone"]}, id="unknown-outcome"),
        pytest.param({"fail_on": "failed"}, id="lone-outcome"),
        pytest.param({"fail_on": CallOutcome.FAILED}, id="lone-outcome-member"),
        pytest.param({"fail_on": [None]}, id="no-outcome"),
        pytest.param({"include": ["recording"]}, id="unknown-include"),
        pytest.param({"include": "transcript"}, id="lone-include"),
        pytest.param({"analysis_timeout": -1}, id="analysis-negative"),
        pytest.param({"analysis_timeout": "60"}, id="analysis-text"),
        pytest.param({"analysis_timeout": True}, id="analysis-bool"),
        pytest.param({"analysis_timeout": None}, id="analysis-none"),
        pytest.param({"analysis_timeout": math.nan}, id="analysis-nan"),
    ],
)
def test_how_to_wait_is_checked_as_in_the_sensor(model: AirflowModel, arguments: dict[str, Any]) -> None:
    sensor = VapiCallSensor(task_id="wait", call_id=ASSISTANT_ID, **arguments)
    with pytest.raises(VapiConfigurationError, match=next(iter(arguments))) as of_sensor:
        sensor.execute(model.slot().context())
    assert wait_refused(model, **arguments) == str(of_sensor.value)


@pytest.mark.parametrize("name", ["poll_interval", "timeout"])
@pytest.mark.parametrize("value", [-1, timedelta(-1), "15", True, None, math.inf, math.nan], ids=str)
def test_an_impossible_time_is_refused(model: AirflowModel, name: str, value: Any) -> None:
    message = wait_refused(model, **{name: value})
    assert message.startswith(f"{name} must be a timedelta or a number of seconds")
    assert message.endswith("Nothing was sent.")


@pytest.mark.parametrize("value", [0, timedelta(0)], ids=["number", "timedelta"])
def test_a_poll_interval_of_0_is_refused(model: AirflowModel, value: Any) -> None:
    assert "poll_interval must be more than 0 seconds" in wait_refused(model, poll_interval=value)


def test_an_unknown_include_is_refused_without_a_wait(model: AirflowModel) -> None:
    slot = model.slot(include=["recording"])
    with pytest.raises(VapiConfigurationError, match="include"):
        slot.attempt()
    assert model.simulator.requests == []


def test_each_form_of_spans_and_names_is_accepted(model: AirflowModel) -> None:
    slot = model.slot(
        wait_for_completion=True,
        fail_on=(outcome for outcome in (CallOutcome.FAILED, "no_answer")),
        include=iter(["transcript"]),
        poll_interval=timedelta(minutes=1),
        timeout=timedelta(hours=1),
    )
    began_at = model.now
    summary = slot.attempt()
    assert summary["outcome"] == "completed"
    assert summary["transcript"]
    assert model.now - began_at == 60


def test_the_defaults_are_documented_and_end_no_call() -> None:
    made = operator()
    assert {
        name: getattr(made, name)
        for name in inspect.signature(VapiCreateCallOperator).parameters
        if name not in ("kwargs", *BASE)
    } == {
        "squad_id": None,
        "assistant": None,
        "name": None,
        "assistant_overrides": None,
        "schedule_plan": None,
        "extra_body": None,
        "vapi_conn_id": "vapi_default",
        "wait_for_completion": True,
        "deferrable": False,
        "poll_interval": 15,
        "timeout": 12 * 60 * 60,
        "fail_on": (),
        "wait_for_analysis": False,
        "analysis_timeout": 60,
        "include": (),
        "hang_up_on_kill": False,
        "hang_up_on_timeout": False,
    }


@pytest.mark.parametrize(
    "name", ["fail_on", "include", "wait_for_analysis", "analysis_timeout", "vapi_conn_id"]
)
def test_defaults_that_the_sensor_has_are_the_same(name: str) -> None:
    assert getattr(operator(), name) == getattr(VapiCallSensor(task_id="wait", call_id="x"), name)


def test_default_args_of_a_dag_reach_the_operator() -> None:
    defaults = {**BASE, "vapi_conn_id": "clinic", "fail_on": ["failed"], "hang_up_on_kill": True}
    with DAG("calls", schedule=None, default_args=defaults):
        made = VapiCreateCallOperator(task_id="call")
    assert (made.vapi_conn_id, made.fail_on, made.hang_up_on_kill) == ("clinic", ["failed"], True)


# What a DAG file loads

PROGRAM = """
import json, sys
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator
# What Airflow loads for any task is not ours to avoid.
with DAG("any", schedule=None):
    BaseOperator(task_id="any")
    BaseOperator.partial(task_id="mapped").expand(doc=["x"])
before = set(sys.modules)
from vapi_provider.operators.call import VapiCreateCallOperator
with DAG("calls", schedule=None):
    VapiCreateCallOperator(task_id="literal", **json.loads(sys.argv[1]))
    VapiCreateCallOperator(task_id="template", assistant_id="{{ x }}", phone_number_id="{{ x }}", customer="{{ x }}")
    VapiCreateCallOperator.partial(task_id="mapped", assistant_id="x", phone_number_id="x").expand(customer=[])
print(json.dumps(sorted(set(sys.modules) - before)))
"""
HEAVY = (
    "airflow.triggers",
    "pydantic",
    "requests",
    "tenacity",
    "urllib3",
    "vapi_provider.hooks.vapi",
    "vapi_provider.client.transport",
    "vapi_provider.models.call",
    "vapi_provider.placing.placement",
    "vapi_provider.triggers",
)


def test_a_dag_with_a_call_loads_nothing_heavy() -> None:
    arguments = {**BASE, **FULL, "assistant_overrides": VALUES, "extra_body": {"assistantVersion": "3"}}
    command = [sys.executable, "-c", PROGRAM, json.dumps(arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "vapi_provider.placing.request" in loaded
    assert [name for name in loaded if name.startswith(HEAVY)] == []
