# SPDX-License-Identifier: Apache-2.0
"""The fields, methods, exceptions, outcomes and files that the documentation names match the code."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from markdown_pages import DOCS, ROOT, code_in, read, sentence, table

import vapi_provider.exceptions
from airflow.providers.common.compat.sdk import AirflowFailException
from vapi_provider.exceptions import VapiError
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.models.call import Call, CallStatus
from vapi_provider.models.outcome import CallOutcome, outcome_of
from vapi_provider.models.summary import CallSummary, check_include

CALL_ID = "0198a3f0-0000-7000-8000-000000000001"


def test_fields_of_a_call() -> None:
    listed = sentence("api.md", r"A call's fields are (.*?)\. ")
    assert sorted(code_in(listed)) == sorted(Call.model_fields)


def test_names_for_include() -> None:
    named = [code_in(row[0])[0] for row in table("outcomes.md", "| name | adds |")]
    with pytest.raises(ValueError, match="include must be") as refused:
        check_include(["x"])
    known = re.search(r"\((.*)\);", str(refused.value))
    assert known is not None
    assert sorted(named) == sorted(known[1].split(", "))


def test_each_promise_about_security_names_its_tests() -> None:
    sources = "".join(read(path) for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^(?:async )?def (test_\w+)\(", sources, re.MULTILINE))
    named = [code_in(row[-1]) for row in table("SECURITY.md", "| what | how | tests |")]
    assert [] not in named
    assert {name for names in named for name in names} - there == set()


def test_type_of_the_summary_has_its_fields() -> None:
    named = {code_in(row[0])[0] for row in table("outcomes.md", "| name | adds |")}
    base = Call.model_validate({"id": CALL_ID}).summary()
    assert CallSummary.__annotations__.keys() == base.keys() | named


def test_columns_of_an_export() -> None:
    rows = table("exporting.md", "| column |")
    always = [code_in(row[0])[0] for row in rows if row[2] == "always"]
    assert always == list(Call.model_validate({"id": CALL_ID}).summary())
    assert {code_in(row[0])[0] for row in rows} == CallSummary.__annotations__.keys()


def test_fields_within_the_columns_of_an_export() -> None:
    call = Call.model_validate({"id": CALL_ID, "messages": [{}], "analysis": {}, "customer": {}})
    summary: dict[str, Any] = {**call.summary(["messages", "analysis", "customer"])}
    shown = {code_in(row[0])[0]: code_in(row[1]) for row in table("exporting.md", "| column |")}
    assert shown["messages"] == list(summary["messages"][0])
    assert shown["analysis"] == list(summary["analysis"])
    assert shown["customer"] == list(summary["customer"])


def test_methods_of_the_hook() -> None:
    listed = {code_in(row[0])[0] for row in table("api.md", "| method |")}
    public = {name for name in vars(VapiHook) if not name.startswith("_")}
    airflows = {"conn_name_attr", "default_conn_name", "conn_type", "hook_name", "get_ui_field_behaviour"}
    assert listed == public - airflows - {"get_connection_form_widgets", "client"}
    [reference] = re.findall(r"VapiHook\n +:members: (.*)", read(DOCS / "api.md"))
    assert set(reference.split(", ")) == listed


def test_exceptions_and_whether_they_retry() -> None:
    rows = {code_in(row[0])[0]: row[2] for row in table("troubleshooting.md", "| exception |")}
    kinds = {
        name: kind
        for name, kind in vars(vapi_provider.exceptions).items()
        if inspect.isclass(kind) and issubclass(kind, VapiError) and kind is not VapiError
    }
    assert rows.keys() == kinds.keys()
    without_retry = {name for name, kind in kinds.items() if issubclass(kind, AirflowFailException)}
    assert {name for name, effect in rows.items() if effect == "fails, no retry"} == without_retry


def test_outcomes_and_their_examples() -> None:
    rows = table("outcomes.md", "| outcome | meaning")
    assert {row[0].strip("`") for row in rows} == {outcome.value for outcome in CallOutcome}
    shown = {reason: outcome.strip("`") for outcome, _, reasons in rows for reason in code_in(reasons)}
    assert shown == {reason: outcome_of(reason) for reason in shown}


def test_families_of_reasons_match_the_code() -> None:
    rows = table("outcomes.md", "| outcome | families")
    shown = {family: outcome.strip("`") for outcome, families in rows for family in code_in(families)}
    assert shown == {family: outcome_of(family.replace("*", "some-thing")) for family in shown}
    assert len(shown) > 30


def test_arguable_reasons_have_the_outcome_of_the_code() -> None:
    rows = table("outcomes.md", "| reason | outcome | why")
    shown = {reason: outcome.strip("`") for reasons, outcome, _ in rows for reason in code_in(reasons)}
    assert shown == {reason: outcome_of(reason.replace("*", "some-thing")) for reason in shown}
    assert len(shown) > 20


def test_statuses() -> None:
    live, ended, other = (set(code_in(row[0])) for row in table("outcomes.md", "| status |"))
    assert live == CallStatus.LIVE
    assert (ended, ended | other) == ({CallStatus.ENDED}, CallStatus.TERMINAL)


def test_files_that_contributing_names_exist() -> None:
    named = set(re.findall(r"`([\w.]+/[\w./]*)`", read(ROOT / "CONTRIBUTING.md")))
    ours = sorted(path for path in named if not path.startswith(("build/", "apache/")))
    places = (ROOT, ROOT / "vapi_provider", ROOT / "tests")
    assert len(ours) > 20
    assert [path for path in ours if not any((place / path).exists() for place in places)] == []


def test_contributing_maps_every_room() -> None:
    named = {code_in(row[0])[0] for row in table("CONTRIBUTING.md", "| where |")}
    paths = [path for path in (ROOT / "vapi_provider").iterdir() if not path.name.startswith(("_", "py."))]
    rooms = {f"vapi_provider/{path.name}{'/' if path.is_dir() else ''}" for path in paths}
    assert {name for name in named if name.startswith("vapi_provider/")} == rooms
