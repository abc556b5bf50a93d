# SPDX-License-Identifier: Apache-2.0
"""The token of a call: what it is made of, where a request carries it, and how it is recognised."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from airflow_model import ASSISTANT_ID, NUMBER, PHONE_NUMBER_ID, AirflowModel

from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.models.call import PlacedCallView
from vapi_provider.placing.attempts import fingerprint_person, make_token
from vapi_provider.placing.request import CallRequest, build_request
from vapi_provider.placing.search import carried_token

OTHER_ID = "0198a3f0-0000-7000-8000-00000000000a"
NONE: dict[str, Any] = dict.fromkeys(
    (
        "assistant_id",
        "squad_id",
        "assistant",
        "phone_number_id",
        "customer",
        "name",
        "assistant_overrides",
        "schedule_plan",
        "extra_body",
    )
)
CALL: dict[str, Any] = {
    "assistant_id": ASSISTANT_ID,
    "phone_number_id": PHONE_NUMBER_ID,
    "customer": {"number": NUMBER},
}


def request(**arguments: Any) -> CallRequest:
    return build_request({**NONE, **CALL, **arguments})


def context(**more: Any) -> Any:
    ti = {"dag_id": "calls", "run_id": "monday", "task_id": "call", "map_index": -1, "try_number": 1}
    return {"ti": SimpleNamespace(**{**ti, **more})}


def token(ti: dict[str, Any] | None = None, **arguments: Any) -> str:
    return make_token(context(**(ti or {})), request(**arguments))


SQUAD = {"assistant_id": None, "squad_id": OTHER_ID}
INLINE = {"assistant_id": None, "assistant": {"firstMessage": "Hello"}}

OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "DAG": ({"dag_id": "other"}, {}),
    "run": ({"run_id": "tuesday"}, {}),
    "task": ({"task_id": "other"}, {}),
    "number": ({}, {"customer": {"number": "+12025550199"}}),
    "extension": ({}, {"customer": {"number": NUMBER, "extension": "12"}}),
    "SIP URI": ({}, {"customer": {"sip_uri": "sip:ada@example.com"}}),
    "customer id": ({}, {"customer": None, "extra_body": {"customerId": OTHER_ID}}),
    "assistant": ({}, {"assistant_id": OTHER_ID}),
    "squad": ({}, SQUAD),
    "inline assistant": ({}, INLINE),
    "phone number": ({}, {"phone_number_id": OTHER_ID}),
}
SAMES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "try": ({"try_number": 7}, {}),
    "map index": ({"map_index": 3}, {}),
    "name": ({}, {"name": "Reminder"}),
    "overrides": ({}, {"assistant_overrides": {"variableValues": {"first_name": "Ada"}}}),
    "schedule": ({}, {"schedule_plan": {"earliest_at": "2099-01-01T00:00:00Z"}}),
    "customer's name": ({}, {"customer": {"number": NUMBER, "name": "Ada", "email": "ada@example.com"}}),
    "white space": ({}, {"customer": {"number": f" {NUMBER} "}, "assistant_id": f" {ASSISTANT_ID} "}),
}


@pytest.mark.parametrize(("ti", "arguments"), OTHERS.values(), ids=OTHERS)
def test_another_call_has_another_token(ti: dict[str, Any], arguments: dict[str, Any]) -> None:
    assert token(ti, **arguments) != token()


def test_all_these_calls_have_different_tokens() -> None:
    assert len({token(ti, **arguments) for ti, arguments in OTHERS.values()}) == len(OTHERS)


@pytest.mark.parametrize(("ti", "arguments"), SAMES.values(), ids=SAMES)
def test_token_does_not_depend_on_details(ti: dict[str, Any], arguments: dict[str, Any]) -> None:
    assert token(ti, **arguments) == token()


@pytest.mark.parametrize("field", ["dag_id", "run_id", "task_id"])
def test_names_are_separated_before_they_are_hashed(field: str) -> None:
    names = {"dag_id": "a", "run_id": "a", "task_id": "a"}
    assert len({token({**names, field: "aa"}), token({**names, "dag_id": "aaa"}), token(names)}) == 3


def test_squad_and_assistant_of_one_id_differ() -> None:
    assert token(**SQUAD) != token(assistant_id=OTHER_ID)


def test_inline_assistant_may_differ_in_each_try() -> None:
    other = {**INLINE, "assistant": {"firstMessage": "Good evening"}}
    assert token(**INLINE) == token(**other)


def test_another_airflow_has_another_token(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = {token()}
    for host in ("staging", "production"):
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", f"https://{host}.example.com")
        tokens |= {token(), token()}
    assert len(tokens) == 3


def test_token_is_the_same_in_every_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version of the package must find the calls that an older one has placed."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    assert token() == "pru6ohmf"


def test_fingerprint_depends_on_the_callee_alone() -> None:
    person = fingerprint_person(context(), request())
    assert fingerprint_person(context(), request(assistant_id=OTHER_ID)) == person
    assert fingerprint_person(context(), request(customer={"number": "+12025550199"})) != person
    assert NUMBER[1:] not in person


# In the request.

CARRIERS = {
    "assistant": ({}, "assistantOverrides"),
    "inline assistant": (INLINE, "assistantOverrides"),
    "squad": (SQUAD, "squadOverrides"),
}
carriers = pytest.mark.parametrize(("arguments", "field"), CARRIERS.values(), ids=CARRIERS)


@carriers
def test_overrides_in_use_carry_the_token(arguments: dict[str, Any], field: str) -> None:
    body = request(**arguments).carrying("7f3k9q2m")
    assert body[field] == {"variableValues": {"airflow_token": "7f3k9q2m"}}
    assert len([each for each in body if each.endswith("Overrides")]) == 1


@carriers
def test_other_overrides_and_variable_values_are_kept(arguments: dict[str, Any], field: str) -> None:
    own = {"variableValues": {"first_name": "Ada"}, "metadata": {"row": 7}}
    given = {"assistant_overrides": own} if field == "assistantOverrides" else {"extra_body": {field: own}}
    body = request(**arguments, **given).carrying("7f3k9q2m")
    assert body[field] == {
        "variableValues": {"first_name": "Ada", "airflow_token": "7f3k9q2m"},
        "metadata": {"row": 7},
    }
    # They are the user's, and another try begins with them.
    assert own == {"variableValues": {"first_name": "Ada"}, "metadata": {"row": 7}}


@carriers
def test_variable_of_the_token_is_refused_in_overrides(arguments: dict[str, Any], field: str) -> None:
    own = {"variableValues": {"airflow_token": "mine"}}
    given = {"assistant_overrides": own} if field == "assistantOverrides" else {"extra_body": {field: own}}
    with pytest.raises(VapiConfigurationError, match="airflow_token"):
        request(**arguments, **given)


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("Reminder", "Reminder #7f3k9q2m"),
        (None, "#7f3k9q2m"),
        (" Reminder ", "Reminder #7f3k9q2m"),
        ("Reminder #1", "Reminder #1 #7f3k9q2m"),
        ("x" * 30, f"{'x' * 30} #7f3k9q2m"),
    ],
)
def test_token_is_the_end_of_the_name(name: str | None, sent: str) -> None:
    assert request(name=name).carrying("7f3k9q2m")["name"] == sent
    assert len(sent) <= 40


def test_longer_name_is_refused() -> None:
    with pytest.raises(VapiConfigurationError, match="31 characters"):
        request(name="x" * 31)


@pytest.mark.parametrize("has_store", [True], ids=[""])
def test_token_fits_behind_the_longest_name(model: AirflowModel) -> None:
    summary = model.slot(name="x" * 30).attempt()
    assert re.fullmatch(r"x{30} #[a-z2-7]{8}", summary["name"])


# Read back.


def view(**fields: Any) -> PlacedCallView:
    return PlacedCallView.model_validate({"id": OTHER_ID, **fields})


@pytest.mark.parametrize("field", ["assistantOverrides", "squadOverrides"])
def test_token_is_read_from_variable_values(field: str) -> None:
    call = view(**{field: {"variableValues": {"airflow_token": "7f3k9q2m"}}}, name="Renamed")
    assert carried_token(call, ["7f3k9q2m"])
    assert not carried_token(call, ["7f3k9q2n"])


@pytest.mark.parametrize("name", ["Reminder #7f3k9q2m", "#7f3k9q2m", "Renamed #7f3k9q2m  "])
def test_token_is_read_from_the_name(name: str) -> None:
    assert carried_token(view(name=name), ["7f3k9q2m"])
    assert not carried_token(view(name=name), ["7f3k9q2n"])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": None, "assistantOverrides": None},
        {"name": "7f3k9q2m"},
        {"name": "#7f3k9q2m called"},
        {"name": "Reminder #7f3k9q2mx"},
        {"assistantOverrides": []},
        {"assistantOverrides": {"variableValues": None}},
        {"assistantOverrides": {"variableValues": ["7f3k9q2m"]}},
        {"assistantOverrides": {"airflow_token": "7f3k9q2m"}},
        {"assistantOverrides": {"variableValues": {"token": "7f3k9q2m"}}},
    ],
)
def test_other_text_is_not_a_token(fields: dict[str, Any]) -> None:
    assert not carried_token(view(**fields), ["7f3k9q2m"])


def test_either_carrier_of_a_request_is_recognised() -> None:
    body = request(name="Reminder").carrying("7f3k9q2m")
    assert carried_token(view(**body), ["7f3k9q2m"])
    assert carried_token(view(name=body["name"]), ["7f3k9q2m"])
    assert carried_token(view(assistantOverrides=body["assistantOverrides"]), ["7f3k9q2m"])
