# SPDX-License-Identifier: Apache-2.0
"""What ``build_request`` refuses of the arguments of a call, each once, and with which message."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import pytest
from airflow_model import ASSISTANT_ID, NUMBER, PHONE_NUMBER_ID

from airflow.providers.common.compat.sdk import AirflowFailException
from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.placing.request import build_request

SECRET = "a secret of the script"
PERSON = {"number": NUMBER}
SQUAD_ID = "0198a3f0-0000-7000-8000-0000000000b1"
ASSISTANT = {"firstMessage": "Hello", "model": {"messages": [{"role": "system", "content": SECRET}]}}
SQUAD = {"members": [{"assistantId": ASSISTANT_ID}]}
VALUES = {"variableValues": {"first_name": "Ada"}}
NO_ASSISTANT: dict[str, Any] = {"assistant_id": None}
LATER = datetime(2040, 1, 1, 10, tzinfo=timezone.utc)

BASE: dict[str, Any] = {
    "assistant_id": ASSISTANT_ID,
    "squad_id": None,
    "assistant": None,
    "phone_number_id": PHONE_NUMBER_ID,
    "customer": PERSON,
    "name": None,
    "assistant_overrides": None,
    "schedule_plan": None,
    "extra_body": None,
}
"""Arguments that are accepted."""


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
    case("either customer .*got neither .None counts", "no-customer", customer=None),
    case("either customer .* got both", "two-customers", extra_body={"customerId": "c-1"}),
]  # fmt: skip

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
        "none": "None",
    }.items()
]

WRONG_CUSTOMERS = [
    case("customer's number must be a string; got int.*native", "number-int", customer={"number": 12025550143}),
    case("customer's number has 41 characters.* 40", "number-long", customer={"number": f"+{'1' * 40}"}),
    case("customer must have either a number or a sip_uri", "number-blank", customer={"number": "  "}),
    case("customer must have either a number or a sip_uri; got neither .None counts", "number-none", customer={"number": None}),
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
    case("customer's email has 41 characters", "email-long", customer={**PERSON, "email": "e" * 41}),
    case("customer's external_id has 41 characters", "external-id-long", customer={**PERSON, "external_id": "e" * 41}),
    case("customer must be a dictionary.*got str", "text", customer=NUMBER),
    case("customer must be a dictionary.*got list", "list", customer=[PERSON]),
]  # fmt: skip

TRUNK = {"number_e164_check_enabled": False}
"""A customer whose number need not be in E.164, as those of a SIP trunk."""

WRONG_TRUNK_NUMBERS = [
    *(case("customer's number .* must be letters and digits .* 3 to 40 characters", f"trunk-{case_id}",
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
    case("name has 31 characters; the limit is 30", "name-long", name="n" * 31),
    *(case(f"{name} must be a non-empty string; got {got}", f"{name}-{kind}", **{**talker, name: value})
      for name, talker in (("assistant_id", {}), ("squad_id", NO_ASSISTANT), ("phone_number_id", {}), ("name", {}))
      for kind, value, got in (("empty", "", "''"), ("blank", " \n", "' "), ("int", 5, "int"), ("list", ["x"], "list"))),
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


def assert_discreet(error: VapiConfigurationError) -> None:
    """Assert that a message says that nothing was sent, and shows neither the number nor the script."""
    message = str(error)
    assert "Nothing was sent" in message
    assert SECRET not in message
    for number in (NUMBER, "2025550143", "202 555", "２０２", "202-555", "٢٠٢"):
        assert number not in message.replace("such as +12025550143", "")
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *WRONG_TALKERS,
        *WRONG_PARTIES,
        *WRONG_NUMBERS,
        *WRONG_CUSTOMERS,
        *WRONG_TRUNK_NUMBERS,
        *WRONG_TEXTS,
        *WRONG_PLANS,
        *WRONG_EXTRAS,
        *WRONG_CONTENT,
    ],
)
def test_wrong_argument_is_refused_and_not_shown(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(VapiConfigurationError, match=f"^{message}") as refusal:
        build_request({**BASE, **arguments})
    assert isinstance(refusal.value, AirflowFailException)
    assert isinstance(refusal.value, ValueError)
    assert_discreet(refusal.value)


def test_base_of_these_cases_is_accepted() -> None:
    assert build_request(BASE).body["customer"] == PERSON


@pytest.mark.parametrize("name", ["assistant_overrides", "customer", "extra_body"])
def test_mapping_that_is_not_a_dict_is_accepted(name: str) -> None:
    value: dict[str, Any] = {"customer": PERSON}.get(name, {"metadata": {"ward": 7}})
    arguments = {**BASE, name: value}
    assert build_request({**arguments, name: MappingProxyType(value)}) == build_request(arguments)


@pytest.mark.parametrize(
    ("arguments", "hidden"),
    [
        pytest.param({"customer": {"+12025550171": "Augusta"}}, ("0171", "Augusta"), id="number-as-a-key"),
        pytest.param(
            {"schedule_plan": {"earliest_at": "+12025550171"}}, ("0171",), id="number-as-an-instant"
        ),
        pytest.param({"schedule_plan": {"earliest_at": 12025550171}}, ("0171",), id="number-as-an-int"),
        pytest.param(
            {"schedule_plan": {"earliest_at": {"number": "+12025550171"}}}, ("0171",), id="number-in-a-dict"
        ),
    ],
)
def test_misplaced_number_is_not_shown(arguments: dict[str, Any], hidden: tuple[str, ...]) -> None:
    with pytest.raises(VapiConfigurationError) as refusal:
        build_request({**BASE, **arguments})
    assert not [word for word in hidden if word in str(refusal.value)]
