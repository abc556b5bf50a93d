# SPDX-License-Identifier: Apache-2.0
"""Arguments are checked before anything is sent, and an error names the argument."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from http_helpers import API, CALL, CALL_ID, CALL_URL, failure, make_client, make_hook

from vapi_provider.exceptions import VapiConfigurationError

if TYPE_CHECKING:
    import requests_mock

    from vapi_provider.hooks.vapi import VapiHook

NO_IDS: list[tuple[Any, str]] = [
    (None, "(NoneType)"),
    ("", "'' (str)"),
    (" ", "' ' (str)"),
    ("\n", "(str)"),
    ("None", "'None' (str)"),
    (" None ", "(str)"),
    ("../assistant", "'../assistant'"),
    (f"../call/{CALL_ID}", "'../call/"),
    (f"{CALL_ID}/../x", CALL_ID),
    (f"{CALL_ID}?x=y", CALL_ID),
    (f"{CALL_ID}#", CALL_ID),
    (f"https://dashboard.vapi.ai/calls/{CALL_ID}", "'https://dashboard"),
    (CALL_ID.replace("-", ""), CALL_ID.replace("-", "")),
    (f"urn:uuid:{CALL_ID}", "urn:uuid"),
    (CALL_ID[:-1], CALL_ID[:-1]),
    (f"{CALL_ID[:-1]}g", CALL_ID[:-1]),
    (CALL_ID.replace("-", "_"), "_"),
    (f"{CALL_ID[:-1]}٣", CALL_ID[:-1]),
    (f"0{CALL_ID[1:8]}0-{CALL_ID[10:]}", CALL_ID[10:]),
    ("x" * 5000, "x" * 50),
    (0, "'0' (int)"),
    (True, "'True' (bool)"),
    (CALL_ID.encode(), "(bytes)"),
    ([CALL_ID], "(list)"),
]

# A call's summary is an id too, but what else it contains is not shown.
MAPPINGS: list[tuple[Any, str]] = [
    ({}, "a mapping without an id"),
    ({"transcript": "hush-hush"}, "a mapping without an id"),
    ({"id": {"transcript": "hush-hush"}}, "a mapping without an id"),
    (str({"id": CALL_ID, "transcript": "hush-hush"}), "the text of a mapping"),
    (f' {{"id": "{CALL_ID}", "transcript": "hush-hush"}}', "the text of a mapping"),
    (f"{{{CALL_ID}}}", "the text of a mapping"),
    ("{{ ti.xcom_pull('place') }}", "the text of a mapping"),
]


USES: dict[str, Callable[[VapiHook, Any], Any]] = {
    "get_call": lambda hook, value: hook.get_call(value),
    "update_call": lambda hook, value: hook.update_call(value, name="Reminder"),
    "assistant_id": lambda hook, value: list(hook.list_calls(assistant_id=value)),
    "phone_number_id": lambda hook, value: list(hook.list_calls(phone_number_id=value)),
}


@pytest.mark.parametrize(
    ("use", "value", "shown"),
    [
        # None means no filter, and the form of Vapi's other ids is not checked.
        pytest.param(use, value, shown, id=f"{use} {str(value)[:40]!r}")
        for use in USES
        for value, shown in NO_IDS
        if use.endswith("_call") or (value is not None and shown.endswith(")"))
    ],
)
def test_bad_ids_are_refused_and_nothing_is_sent(
    api: requests_mock.Mocker, use: str, value: Any, shown: str
) -> None:
    api.get(f"{API}/call", json=[])
    error = failure(VapiConfigurationError, lambda: USES[use](make_hook(), value))
    parameter = use if use.endswith("_id") else "call_id"
    assert str(error).startswith(f"{parameter} ")
    assert shown in str(error)
    assert "Nothing was sent" in str(error)
    assert len(str(error)) < 300
    assert not api.called


@pytest.mark.parametrize("method", ["get_call", "get_status", "delete_call", "erase_call"])
@pytest.mark.parametrize(("value", "says"), MAPPINGS, ids=[str(value)[:30] for value, _ in MAPPINGS])
def test_mappings_without_id_are_refused_and_not_shown(
    api: requests_mock.Mocker, method: str, value: Any, says: str
) -> None:
    error = failure(VapiConfigurationError, lambda: getattr(make_client(), method)(value))
    assert str(error).startswith(f"call_id is {says}; pass a call id")
    assert "call_id=call.output" in str(error)
    assert "hush-hush" not in str(error)
    assert not api.called


@pytest.mark.parametrize("kind", [dict, MappingProxyType])
def test_summary_of_a_call_is_taken_as_its_id(api: requests_mock.Mocker, kind: type[Any]) -> None:
    api.get(CALL_URL, json=CALL)
    summary = kind({"id": f" {CALL_ID.upper()}", "transcript": "hush-hush"})
    assert make_client().get_call(summary).id == CALL_ID
    assert api.last_request._request.path_url == f"/call/{CALL_ID}"


@pytest.mark.parametrize("value", [None, "", "None", {"id": None}])
def test_empty_id_points_to_template_and_xcom(value: Any) -> None:
    error = failure(VapiConfigurationError, lambda: make_client().get_call(value))
    assert "template" in str(error)
    assert "XCom" in str(error)


BAD_NAMES: list[tuple[Any, str]] = [
    (None, "must be a string, not NoneType"),
    (7, "must be a string, not int"),
    (True, "must be a string, not bool"),
    (b"Reminder", "must be a string, not bytes"),
    (["Reminder"], "must be a string, not list"),
    ("", "is ''"),
    ("  ", "is '  '"),
    ("\t\n", "template"),
    ("\u00a0", "template"),
    ("None", "is 'None'"),
    (" None ", "template"),
    ("n" * 41, "has 41 characters; Vapi accepts at most 40"),
    ("👋" * 41, "has 41 characters; Vapi accepts at most 40"),
    (" " * 39 + "ab", "has 41 characters"),
    ("n" * 100_000, "has 100000 characters"),
]


@pytest.mark.parametrize(
    ("name", "says"), BAD_NAMES, ids=[f"{str(name)[:10]!r} {says[:24]}" for name, says in BAD_NAMES]
)
def test_bad_names_are_refused_with_the_call_id(api: requests_mock.Mocker, name: Any, says: str) -> None:
    error = failure(VapiConfigurationError, lambda: make_client().update_call(CALL_ID, name=name))
    assert str(error).startswith(f"name for call {CALL_ID} ")
    assert says in str(error)
    assert "Nothing was sent" in str(error)
    assert len(str(error)) < 300
    assert not api.called


@pytest.mark.parametrize("name", ["n", "n" * 40, "👋" * 40, "none", "None of them", " padded ", "0"])
def test_names_up_to_40_characters_are_sent_unchanged(api: requests_mock.Mocker, name: str) -> None:
    api.patch(CALL_URL, json=CALL)
    make_client().update_call(CALL_ID, name=name)
    assert api.last_request.json() == {"name": name}


def test_name_is_keyword_only(api: requests_mock.Mocker) -> None:
    with pytest.raises(TypeError):
        make_client().update_call(CALL_ID, "Reminder")  # type: ignore[call-arg]
    assert not api.called


BOUNDS = {
    "created_at_ge": "createdAtGe",
    "created_at_lt": "createdAtLt",
    "updated_at_ge": "updatedAtGe",
    "updated_at_lt": "updatedAtLt",
}
INSTANT = datetime(2026, 8, 1, 9, 30, 0, 250_000, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(
    "value", [INSTANT, INSTANT.isoformat(), "2026-08-01T07:30:00.250Z"], ids=["datetime", "offset", "Z"]
)
def test_bounds_are_sent_as_iso_8601_with_an_offset(
    api: requests_mock.Mocker, bound: str, value: datetime | str
) -> None:
    api.get(f"{API}/call", json=[])
    assert list(make_hook().list_calls(**{bound: value})) == []
    query = api.last_request.qs
    assert set(query) == {"limit", BOUNDS[bound].lower()}
    sent = query[BOUNDS[bound].lower()][0].upper()
    assert datetime.fromisoformat(sent) == INSTANT
    # The plus of an offset is not a space on the other side.
    assert f"{BOUNDS[bound]}=" in api.last_request.url
    assert " " not in sent


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 8, 1),
        "2026-08-01T09:30:00",
        "2026-08-01",
        "yesterday",
        "None",
        "",
        date(2026, 8, 1),
        time(9, 30, tzinfo=timezone.utc),
        1_785_000_000,
        timedelta(days=1),
    ],
    ids=repr,
)
def test_bad_bounds_are_refused_at_once(api: requests_mock.Mocker, bound: str, value: Any) -> None:
    api.get(f"{API}/call", json=[])
    error = failure(VapiConfigurationError, lambda: make_hook().list_calls(**{bound: value}))
    assert str(error).startswith(f"{bound} must be a datetime with a time zone")
    assert type(value).__name__ in str(error)
    assert "Nothing was sent" in str(error)
    assert not api.called


@pytest.mark.parametrize("page_size", [0, -1, 1001, 2.0, "10", True, None])
def test_page_sizes_outside_1_to_1000_are_refused(api: requests_mock.Mocker, page_size: Any) -> None:
    error = failure(VapiConfigurationError, lambda: make_hook().list_calls(page_size=page_size))
    assert str(error).startswith("page_size must be a whole number from 1 to 1000")
    assert "Nothing was sent" in str(error)
    assert not api.called


def test_id_filters_are_sent_in_lower_case(api: requests_mock.Mocker) -> None:
    api.get(f"{API}/call", json=[])
    assistant, number = str(uuid.uuid4()), str(uuid.uuid4())
    listed = make_hook().list_calls(assistant_id=f" {assistant.upper()}", phone_number_id=number.upper())
    assert list(listed) == []
    assert f"assistantId={assistant}&phoneNumberId={number}&" in api.last_request.url
