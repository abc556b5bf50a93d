# SPDX-License-Identifier: Apache-2.0
"""What VapiCreateCallOperator takes, what it makes of it for Vapi, and what it refuses, when, and in which words."""

from __future__ import annotations

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

from airflow.sdk import DAG, task
from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.models.outcome import CallOutcome
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.sensors.call import VapiCallSensor

SECRET = "a secret of the script"
PERSON = {"number": NUMBER}
SQUAD_ID = "0198a3f0-0000-7000-8000-0000000000b1"
WORKFLOW_ID = "0198a3f0-0000-7000-8000-0000000000c1"
ASSISTANT = {"firstMessage": "Hello", "model": {"messages": [{"role": "system", "content": SECRET}]}}
SQUAD = {"members": [{"assistantId": ASSISTANT_ID}]}
WORKFLOW = {"name": "Two questions", "nodes": [], "edges": []}
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
        {"assistant_id": ASSISTANT_ID, "assistant_overrides": VALUES, "request": {"assistantVersion": "3"}},
        {"assistantId": ASSISTANT_ID, "assistantOverrides": VALUES, "assistantVersion": "3"},
        id="assistant_id",
    ),
    pytest.param(
        {**NO_ASSISTANT, "assistant": ASSISTANT, "assistant_overrides": VALUES},
        {"assistant": ASSISTANT, "assistantOverrides": VALUES},
        id="assistant",
    ),
    pytest.param(
        {**NO_ASSISTANT, "squad_id": SQUAD_ID, "request": {"squadOverrides": VALUES}},
        {"squadId": SQUAD_ID, "squadOverrides": VALUES},
        id="squad_id",
    ),
    pytest.param(
        {**NO_ASSISTANT, "request": {"squad": SQUAD, "squadOverrides": VALUES}},
        {"squad": SQUAD, "squadOverrides": VALUES},
        id="squad-in-request",
    ),
    pytest.param(
        {**NO_ASSISTANT, "workflow_id": WORKFLOW_ID, "request": {"workflowOverrides": VALUES}},
        {"workflowId": WORKFLOW_ID, "workflowOverrides": VALUES},
        id="workflow_id",
    ),
    pytest.param(
        {**NO_ASSISTANT, "request": {"workflow": WORKFLOW, "workflowOverrides": VALUES}},
        {"workflow": WORKFLOW, "workflowOverrides": VALUES},
        id="workflow-in-request",
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
        "workflow_id",
        "assistant",
        "phone_number_id",
        "customer",
        "name",
        "assistant_overrides",
        "schedule_plan",
        "request",
        "vapi_conn_id",
    }


def test_the_connection_is_a_template(model: AirflowModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", model.simulator.connection)
    monkeypatch.delenv("AIRFLOW_CONN_VAPI_DEFAULT")
    assert placed(model, vapi_conn_id="{{ 'clinic' }}")["customer"] == PERSON


def test_the_least_that_can_be_said_is_enough(model: AirflowModel) -> None:
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


def test_a_customer_and_a_phone_number_that_vapi_keeps_go_into_the_request(model: AirflowModel) -> None:
    transient = {"twilioPhoneNumber": "+12025550100", "twilioAccountSid": "AC0", "twilioAuthToken": SECRET}
    body = placed(
        model, customer=None, phone_number_id=None, request={"customerId": "c-1", "phoneNumber": transient}
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
def test_an_instant_is_taken_in_each_of_its_forms(model: AirflowModel, instant: Any, written: str) -> None:
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


def test_what_other_tasks_return_passes_the_parsing_of_a_dag() -> None:
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
            request=coming,
        )
        VapiCreateCallOperator(
            task_id="parts",
            assistant_id=coming["assistant"],
            phone_number_id=coming["from"],
            customer={"number": coming["number"], "name": coming["name"]},
            assistant_overrides={"variableValues": {"first_name": coming["name"]}},
            schedule_plan={"earliest_at": coming["at"]},
            request={"transport": {"x": [coming]}},
        )
        VapiCreateCallOperator.partial(task_id="mapped", assistant_id="a", phone_number_id="p").expand(
            customer=coming
        )
    # They run after it, so Airflow has seen the references, too.
    assert dag.get_task("anything").downstream_task_ids == {"whole", "parts", "mapped"}


def test_a_function_makes_an_argument_where_airflow_lets_it() -> None:
    made = operator(customer=lambda context, jinja_env: PERSON)
    assert callable(made.customer)


# What is refused


def case(message: str, case_id: str, **arguments: Any) -> Any:
    return pytest.param(arguments, message, id=case_id)


WRONG_TALKERS = [
    case("exactly one of .* got none of them", "nobody", assistant_id=None),
    *(
        case(f"exactly one of .* got .*{name}", f"assistant_id-and-{name}", **{name: value})
        for name, value in (("squad_id", SQUAD_ID), ("workflow_id", WORKFLOW_ID), ("assistant", ASSISTANT))
    ),
    case("got assistant_id and squad", "assistant_id-and-squad", request={"squad": SQUAD}),
    case("got assistant_id and workflow", "assistant_id-and-workflow", request={"workflow": WORKFLOW}),
    case("got squad and workflow", "two-in-request", assistant_id=None, request={"squad": SQUAD, "workflow": WORKFLOW}),
    case("assistant_overrides goes with an assistant.*squadOverrides", "overrides-and-squad",
         assistant_id=None, squad_id=SQUAD_ID, assistant_overrides=VALUES),
    case("assistant_overrides goes with an assistant.*workflowOverrides", "overrides-and-workflow",
         assistant_id=None, workflow_id=WORKFLOW_ID, assistant_overrides=VALUES),
    case("assistant_overrides goes with an assistant.*squadOverrides", "overrides-and-squad-in-request",
         assistant_id=None, request={"squad": SQUAD}, assistant_overrides=VALUES),
]  # fmt: skip

WRONG_PARTIES = [
    case("either phone_number_id", "no-phone-number", phone_number_id=None),
    case(
        "either phone_number_id", "two-phone-numbers", request={"phoneNumber": {"twilioPhoneNumber": NUMBER}}
    ),
    case("either customer", "no-customer", customer=None),
    case("either customer", "two-customers", request={"customerId": "c-1"}),
]

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
    case("customer's number must be a text; got int.*native", "number-int", customer={"number": 12025550143}),
    case("customer's number is 'None'", "number-rendered-none", customer={"number": "None"}),
    case("customer must have either a number or a sip_uri", "number-blank", customer={"number": "  "}),
    case("customer must have either a number or a sip_uri", "number-none", customer={"number": None}),
    case("customer must have either a number or a sip_uri", "empty", customer={}),
    case("customer must have either a number or a sip_uri", "neither", customer={"name": "Ada"}),
    case("customer must have either a number or a sip_uri", "both",
         customer={"number": NUMBER, "sip_uri": "sip:ada@example.com"}),
    case("customer's sip_uri must begin with sip", "sip-uri-scheme", customer={"sip_uri": "tel:12025550143"}),
    case("customer's sip_uri must begin with sip", "sip-uri-space", customer={"sip_uri": "sip:ada @example.com"}),
    case("customer's sip_uri has", "sip-uri-long", customer={"sip_uri": f"sip:{'a' * 500}@example.com"}),
    case(r"customer has unknown keys \['phone'\].*number, sip_uri", "unknown-key", customer={**PERSON, "phone": "x"}),
    case(r"customer has unknown keys \['externalId'\]", "the-apis-own-key", customer={**PERSON, "externalId": "x"}),
    case("customer's name has 41 characters.* 40", "name-long", customer={**PERSON, "name": "n" * 41}),
    case("customer's name must be a text; got int", "name-int", customer={**PERSON, "name": 5}),
    case("customer's extension has 11 characters.* 10", "extension-long", customer={**PERSON, "extension": "1" * 11}),
    case("customer's extension must be a text; got int", "extension-int", customer={**PERSON, "extension": 12}),
    case("customer's extension is 'None'", "extension-rendered-none", customer={**PERSON, "extension": "None"}),
    case("customer's email has 41 characters", "email-long", customer={**PERSON, "email": "e" * 41}),
    case("customer's external_id has 41 characters", "external-id-long", customer={**PERSON, "external_id": "e" * 41}),
    case("customer must be a dictionary.*got str", "text", customer=NUMBER),
    case("customer must be a dictionary.*got list", "list", customer=[PERSON]),
]  # fmt: skip

WRONG_TEXTS = [
    case("name has 31 characters; at most 30", "name-long", name="n" * 31),
    *(case("name must be a text", f"name-{kind}", name=value)
      for kind, value in {"empty": "", "blank": " \n", "rendered-none": "None", "int": 5}.items()),
    *(case(f"{name} must be an id", f"{name}-{kind}", **{**NO_ASSISTANT, name: value})
      for name in ("assistant_id", "squad_id", "workflow_id")
      for kind, value in {"empty": "", "blank": " ", "rendered-none": "None", "int": 5}.items()),
    *(case("phone_number_id must be an id", f"phone-number-{kind}", phone_number_id=value)
      for kind, value in {"empty": "", "blank": " ", "rendered-none": " None ", "list": ["x"]}.items()),
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
    case("schedule_plan must have earliest_at", "empty", schedule_plan={}),
    case(r"schedule_plan has unknown keys \['earliestAt'\]", "the-apis-own-key", schedule_plan={"earliestAt": LATER}),
    case("schedule_plan must be a dictionary.*got datetime", "datetime", schedule_plan=LATER),
    case("schedule_plan must be a dictionary.*got str", "text", schedule_plan="2040-01-01T10:00:00Z"),
]  # fmt: skip

OWN_FIELDS = {
    "assistantId": "assistant_id",
    "squadId": "squad_id",
    "workflowId": "workflow_id",
    "assistant": "assistant",
    "phoneNumberId": "phone_number_id",
    "customer": "customer",
    "name": "name",
    "assistantOverrides": "assistant_overrides",
    "schedulePlan": "schedule_plan",
}
WRONG_REQUESTS = [
    *(case(f"request must not have {field}; use the argument {argument}", field, request={field: SECRET})
      for field, argument in OWN_FIELDS.items()),
    case(r"request must not have customers: .*partial\(\.\.\.\)\.expand\(customer=", "customers",
         request={"customers": [PERSON]}),
    case("request must not have customers", "customers-none", request={"customers": None}),
    case("request must be a dictionary.*got list", "request-list", request=[SECRET]),
    case("request must be a dictionary.*got str", "request-text", request=SECRET),
    case("request must be a dictionary.*not an empty one", "request-empty", request={}),
]  # fmt: skip

WRONG_CONTENT = [
    *(case(f"{name} must be a dictionary.*got {kind}", f"{name}-{kind}", **{**talker, name: value})
      for name, talker in (("assistant", NO_ASSISTANT), ("assistant_overrides", {}))
      for kind, value in {"str": SECRET, "list": [SECRET], "int": 5}.items()),
    case("assistant must be a dictionary.*not an empty one", "assistant-empty", assistant_id=None, assistant={}),
    *(case("assistant_overrides cannot be written as JSON", f"overrides-{kind}",
           assistant_overrides={"variableValues": {"secret": SECRET, "x": value}})
      for kind, value in {
          "nan": math.nan, "infinity": [math.inf], "datetime": LATER, "date": date(2040, 1, 1), "bytes": b"x",
          "set": {SECRET}, "object": object(),
      }.items()),
    case("assistant cannot be written as JSON", "assistant-nan",
         assistant_id=None, assistant={**ASSISTANT, "temperature": math.nan}),
    case("request cannot be written as JSON", "request-datetime", request={"transport": {"at": LATER, "x": SECRET}}),
    case("variable value 'airflow_token' is taken", "token-in-overrides",
         assistant_overrides={"variableValues": {"airflow_token": SECRET}}),
    case("variable value 'airflow_token' is taken", "token-in-squad-overrides", assistant_id=None, squad_id=SQUAD_ID,
         request={"squadOverrides": {"variableValues": {"airflow_token": SECRET}}}),
    case("variable value 'airflow_token' is taken", "token-in-workflow-overrides", assistant_id=None,
         workflow_id=WORKFLOW_ID, request={"workflowOverrides": {"variableValues": {"airflow_token": SECRET}}}),
    case("variableValues must be an object; got list", "values-list", assistant_overrides={"variableValues": [SECRET]}),
    case("overrides must be an object; got str", "squad-overrides-text", assistant_id=None, squad_id=SQUAD_ID,
         request={"squadOverrides": SECRET}),
]  # fmt: skip

WRONG = [
    *WRONG_TALKERS,
    *WRONG_PARTIES,
    *WRONG_NUMBERS,
    *WRONG_CUSTOMERS,
    *WRONG_TEXTS,
    *WRONG_PLANS,
    *WRONG_REQUESTS,
    *WRONG_CONTENT,
]


def assert_discreet(error: VapiConfigurationError) -> None:
    """Assert that a message tells that nothing was sent, and neither whom to call nor what to say."""
    message = str(error)
    assert "Nothing was sent" in message
    assert SECRET not in message
    for number in (NUMBER, "2025550143", "202 555", "２０２", "202-555", "٢٠٢"):
        assert number not in message.replace("such as +12025550143", "")
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_dag_with_a_wrong_argument_is_not_parsed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(VapiConfigurationError, match=f"(?i){message}") as refusal:
        operator(**arguments)
    assert_discreet(refusal.value)


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_wrong_argument_that_another_task_returns_is_refused_before_anything_is_sent(
    model: AirflowModel, arguments: dict[str, Any], message: str
) -> None:
    # What a request that is still to come says of the others, no parser can know.
    coming: dict[str, Any] = {
        name: Later(value) for name, value in {**BASE, "request": None, **arguments}.items()
    }
    running, context = rendered(model.slot(), **coming)
    with pytest.raises(VapiConfigurationError, match=f"(?i){message}") as refusal:
        running.execute(context)
    assert_discreet(refusal.value)
    assert model.simulator.requests == []


TEMPLATES = [
    pytest.param("{{ params.x }}", id="expression"),
    pytest.param("{% if ds %}x{% endif %}", id="statement"),
    pytest.param("text {# comment #}", id="comment"),
    pytest.param(Later("x"), id="return-value"),
]
UNKNOWN = object()
"""Stands for a template in the cases below."""

PARTLY_WRONG = [
    case("customer's number .* E.164", "number", customer={"number": "2025550143", "name": UNKNOWN}),
    case("customer's name has 41", "customer-name", customer={"number": UNKNOWN, "name": "n" * 41}),
    case("customer has unknown keys", "customer-key", customer={"number": NUMBER, "phone": UNKNOWN}),
    case("customer must have either", "customer-neither", customer={"name": UNKNOWN}),
    case("earliest_at must be", "earliest", schedule_plan={"earliest_at": datetime(2040, 1, 1), "latest_at": UNKNOWN}),
    case("latest_at must be", "latest", schedule_plan={"earliest_at": UNKNOWN, "latest_at": "2040-01-01"}),
    case("must have earliest_at", "no-earliest", schedule_plan={"latest_at": UNKNOWN}),
    case("schedule_plan has unknown keys", "plan-key", schedule_plan={"earliest_at": LATER, "at": UNKNOWN}),
    *(case(f"request must not have {field}", f"request-{field}", request={field: UNKNOWN}) for field in OWN_FIELDS),
    case("request must not have customers", "request-customers", request={"customers": [{"number": UNKNOWN}]}),
    case("request must not have customers", "request-customers-beside", request={"x": UNKNOWN, "customers": [PERSON]}),
    case("exactly one", "two-talkers", request={"squad": {"members": [UNKNOWN]}}),
    case("exactly one", "no-talker", assistant_id=None, request={"assistantVersion": UNKNOWN}),
    case("exactly one", "two-templates", squad_id=UNKNOWN),
    case("either phone_number_id", "no-phone-number", phone_number_id=None, request={"transport": UNKNOWN}),
    case("either customer", "no-customer", customer=None, request={"transport": UNKNOWN}),
    case("'airflow_token' is taken", "token",
         assistant_overrides={"variableValues": {"first_name": UNKNOWN, "airflow_token": "x"}}),
    case("'airflow_token' is taken", "token-is-a-template",
         assistant_overrides={"variableValues": {"airflow_token": UNKNOWN}}),
    case("assistant_overrides cannot be written", "overrides-nan",
         assistant_overrides={"variableValues": {"first_name": UNKNOWN, "x": [math.nan]}}),
    case("assistant cannot be written", "assistant-datetime",
         assistant_id=None, assistant={"firstMessage": UNKNOWN, "at": LATER}),
    case("request cannot be written", "request-nan", request={"x": math.nan, "transport": {"y": UNKNOWN}}),
    case("name has 31", "name-beside-templates", name="n" * 31, customer=UNKNOWN, assistant_id=UNKNOWN),
]  # fmt: skip


def fill_in(value: Any, template: Any) -> Any:
    if isinstance(value, dict):
        return {name: fill_in(part, template) for name, part in value.items()}
    if isinstance(value, list):
        return [fill_in(part, template) for part in value]
    return template if value is UNKNOWN else value


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(("arguments", "message"), PARTLY_WRONG)
def test_what_is_wrong_beside_a_template_is_refused_when_the_dag_is_parsed(
    arguments: dict[str, Any], message: str, template: Any
) -> None:
    with pytest.raises(VapiConfigurationError, match=f"(?i){message}"):
        operator(**fill_in(arguments, template))


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
        pytest.param({"assistant_id": None, "request": UNKNOWN}, id="request"),
        pytest.param(
            {"assistant_id": None, "request": {"squad": UNKNOWN, "squadOverrides": UNKNOWN}}, id="squad"
        ),
        pytest.param({"phone_number_id": None, "request": {"phoneNumber": UNKNOWN}}, id="phone-number"),
    ],
)
def test_what_only_a_template_can_tell_passes_the_parsing(arguments: dict[str, Any], template: Any) -> None:
    operator(**fill_in(arguments, template))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        case("customer's number \\*\\*\\*43 is not in E.164", "number", customer={"number": "{{ '2025550143' }}"}),
        case("customer must have either", "customer-nothing", customer={"number": "{{ '' }}"}),
        case("customer must have either", "customer-both",
             customer={"number": NUMBER, "sip_uri": "{{ 'sip:ada@example.com' }}"}),
        case("customer must be a dictionary.*template makes a text", "customer-text", customer="{{ {'number': 5} }}"),
        case("customer's name is 'None'", "customer-none", customer={"number": NUMBER, "name": "{{ none }}"}),
        case("name must be a text; got 'None'", "name-none", name="{{ none }}"),
        case("name has 31", "name-long", name="{{ 'n' * 31 }}"),
        case("assistant_id must be an id; got 'None'", "assistant-none", assistant_id="{{ none }}"),
        case("earliest_at must be a datetime with a time zone", "naive",
             schedule_plan={"earliest_at": "{{ '2040-01-01T10:00:00' }}"}),
        case("latest_at must be after", "latest", schedule_plan={"earliest_at": LATER, "latest_at": "{{ '2039-01-01T00:00Z' }}"}),
        case("assistant_overrides must be a dictionary.*template makes a text", "overrides-text",
             assistant_overrides="{{ {'x': 1} }}"),
        case("request must be a dictionary.*template makes a text", "request-text", request="{{ {'x': 1} }}"),
        case("exactly one", "request-nobody", assistant_id=None, request=Later({"transport": {}})),
        case("either phone_number_id", "request-no-phone", phone_number_id=None, request=Later({"transport": {}})),
    ],
)  # fmt: skip
def test_what_templates_render_to_is_checked_before_anything_is_sent(
    model: AirflowModel, arguments: dict[str, Any], message: str
) -> None:
    running, context = rendered(model.slot(), **{"name": None, **arguments})
    with pytest.raises(VapiConfigurationError, match=f"(?i){message}") as refusal:
        running.execute(context)
    assert_discreet(refusal.value)
    assert model.simulator.requests == []


def test_a_native_template_of_a_number_is_refused_with_the_reason(model: AirflowModel) -> None:
    running, context = rendered(model.slot(), native=True, customer={"number": "{{ '+12025550143' }}"})
    with pytest.raises(
        VapiConfigurationError, match="number must be a text; got int; with render_template_as_native_obj"
    ):
        running.execute(context)
    assert model.simulator.requests == []


def test_an_argument_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="metadata"):
        operator(metadata={"x": 1})


# How it waits


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"fail_on": ["gone"]}, id="unknown-outcome"),
        pytest.param({"fail_on": "failed"}, id="lone-outcome"),
        pytest.param({"fail_on": CallOutcome.FAILED}, id="lone-outcome-member"),
        pytest.param({"fail_on": [None]}, id="no-outcome"),
        pytest.param({"include": ["recording"]}, id="unknown-include"),
        pytest.param({"include": "transcript"}, id="lone-include"),
        pytest.param({"poll_interval": 0}, id="poke-interval-0"),
        pytest.param({"poll_interval": timedelta(0)}, id="poke-interval-0-span"),
        pytest.param({"analysis_timeout": -1}, id="analysis-negative"),
        pytest.param({"analysis_timeout": "60"}, id="analysis-text"),
        pytest.param({"analysis_timeout": True}, id="analysis-bool"),
        pytest.param({"analysis_timeout": None}, id="analysis-none"),
        pytest.param({"analysis_timeout": math.nan}, id="analysis-nan"),
    ],
)
def test_how_to_wait_is_checked_as_the_sensor_checks_it(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))) as of_sensor:
        VapiCallSensor(task_id="wait", call_id="x", **arguments)
    with pytest.raises(ValueError, match=next(iter(arguments))) as of_operator:
        operator(**arguments)
    assert str(of_operator.value) == str(of_sensor.value)


@pytest.mark.parametrize("name", ["poll_interval", "timeout"])
@pytest.mark.parametrize("value", [-1, timedelta(-1), "15", None, math.inf, math.nan], ids=str)
def test_a_time_that_no_wait_can_have_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        operator(**{name: value})


def test_spans_and_outcomes_are_taken_in_each_of_their_forms() -> None:
    waiting = operator(
        fail_on=(CallOutcome.FAILED, "no_answer"),
        include=iter(["transcript"]),
        poll_interval=timedelta(minutes=1),
        analysis_timeout=timedelta(minutes=2),
        timeout=timedelta(hours=1),
    )
    assert (waiting.fail_on, waiting.include) == (("failed", "no_answer"), ("transcript",))
    assert (waiting.poll_interval, waiting.analysis_timeout, waiting.timeout) == (60, 120, 3600)


def test_the_defaults_are_the_sensors_and_end_no_call() -> None:
    sensor, waiting = VapiCallSensor(task_id="wait", call_id="x"), operator()
    for name in (
        "poll_interval",
        "timeout",
        "fail_on",
        "include",
        "wait_for_analysis",
        "analysis_timeout",
        "deferrable",
        "vapi_conn_id",
    ):
        assert getattr(waiting, name) == getattr(sensor, name), name
    assert not waiting.wait_for_completion
    assert not waiting.hang_up_on_kill
    assert not waiting.hang_up_on_timeout


def test_default_args_of_a_dag_reach_the_operator() -> None:
    defaults = {**BASE, "vapi_conn_id": "clinic", "fail_on": ["failed"], "hang_up_on_kill": True}
    with DAG("calls", schedule=None, default_args=defaults):
        made = VapiCreateCallOperator(task_id="call")
    assert (made.vapi_conn_id, made.fail_on, made.hang_up_on_kill) == ("clinic", ("failed",), True)


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


def test_a_dag_with_a_call_loads_neither_http_nor_models_nor_triggers() -> None:
    arguments = {**BASE, **FULL, "assistant_overrides": VALUES, "request": {"assistantVersion": "3"}}
    command = [sys.executable, "-c", PROGRAM, json.dumps(arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "vapi_provider.placing.request" in loaded
    assert [name for name in loaded if name.startswith(HEAVY)] == []
