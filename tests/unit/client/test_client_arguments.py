# SPDX-License-Identifier: Apache-2.0
"""Arguments are checked before any request, and errors name the argument."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from case_tables import row_and_diagonal
from http_helpers import API, CALL, CALL_ID, CALL_URL, failure, make_client, make_hook

from vapi_provider.exceptions import VapiConfigurationError

if TYPE_CHECKING:
    import requests_mock

    from vapi_provider.hooks.vapi import VapiHook

EMPTY_IDS: list[tuple[Any, str]] = [
    (None, "None"),
    ("", "''"),
    (" ", "' '"),
    ("\n", "'\\n'"),
    ("None", "'None'"),
    (" None ", "' None '"),
]

# A bad id can be anything, such as a phone number, so errors show only its kind.
NO_IDS: list[tuple[Any, str]] = [
    ("+12025550143", "a string of 12 characters"),
    ("../assistant", "a string of 12 characters"),
    (f"../call/{CALL_ID}", "a string of 44 characters"),
    (f"{CALL_ID}/../x", "a string of 41 characters"),
    (f"{CALL_ID}?x=y", "a string of 40 characters"),
    (f"{CALL_ID}#", "a string of 37 characters"),
    (f"https://dashboard.vapi.ai/calls/{CALL_ID}", "a string of 68 characters"),
    (CALL_ID.replace("-", ""), "a string of 32 characters"),
    (f"urn:uuid:{CALL_ID}", "a string of 45 characters"),
    (CALL_ID[:-1], "a string of 35 characters"),
    (f"{CALL_ID[:-1]}g", "a string of 36 characters"),
    (CALL_ID.replace("-", "_"), "a string of 36 characters"),
    (f"{CALL_ID[:-1]}٣", "a string of 36 characters"),
    (f"0{CALL_ID[1:8]}0-{CALL_ID[10:]}", "a string of 36 characters"),
    ("x" * 5000, "a string of 5000 characters"),
    (12025550143, "int"),
    (True, "bool"),
    (CALL_ID.encode(), "bytes"),
    ([CALL_ID], "list"),
]

# A summary is accepted as an id, but errors show nothing else of it.
MAPPINGS: list[tuple[Any, str]] = [
    ({}, "a dict without an id"),
    ({"transcript": "hush-hush"}, "a dict without an id"),
    ({"id": {"transcript": "hush-hush"}}, "a dict without an id"),
    (str({"id": CALL_ID, "transcript": "hush-hush"}), "a dict rendered to a string"),
    (f' {{"id": "{CALL_ID}", "transcript": "hush-hush"}}', "a dict rendered to a string"),
    (f"{{{CALL_ID}}}", "a dict rendered to a string"),
    ("{{ ti.xcom_pull('place') }}", "a dict rendered to a string"),
]


USES: dict[str, Callable[[VapiHook, Any], Any]] = {
    "get_call": lambda hook, value: hook.get_call(value),
    "update_call": lambda hook, value: hook.update_call(value, name="Reminder"),
    "assistant_id": lambda hook, value: list(hook.list_calls(assistant_id=value)),
    "phone_number_id": lambda hook, value: list(hook.list_calls(phone_number_id=value)),
}


# None means no filter, and ids of other resources need not be UUIDs.
NO_FILTERS = [
    (value, shown)
    for value, shown in [*EMPTY_IDS, *NO_IDS]
    if value is not None and not shown.startswith("a string")
]


@pytest.mark.parametrize(
    ("value", "shown", "use"),
    [
        *row_and_diagonal([*EMPTY_IDS, *NO_IDS], ["get_call", "update_call"]),
        *row_and_diagonal(NO_FILTERS, ["assistant_id", "phone_number_id"]),
    ],
)
def test_bad_ids_are_refused_before_any_request(
    api: requests_mock.Mocker, use: str, value: Any, shown: str
) -> None:
    api.get(f"{API}/call", json=[])
    error = failure(VapiConfigurationError, lambda: USES[use](make_hook(), value))
    parameter = use if use.endswith("_id") else "call_id"
    assert str(error).startswith(f"{parameter} ")
    assert f"got {shown}" in str(error)
    assert str(value).strip() in ("", "None", "True") or str(value) not in str(error)
    assert not api.called


@pytest.mark.parametrize("use", ["assistant_id", "phone_number_id"])
def test_lone_surrogate_in_a_filter_is_refused(api: requests_mock.Mocker, use: str) -> None:
    error = failure(VapiConfigurationError, lambda: USES[use](make_hook(), "x\ud800"))
    assert str(error) == f"{use} must be an id; got a string of 2 characters."


@pytest.mark.parametrize(
    ("value", "says", "method"),
    row_and_diagonal(MAPPINGS, ["get_call", "get_status", "delete_call", "erase_call"]),
)
def test_mappings_without_id_are_refused_and_not_shown(
    api: requests_mock.Mocker, method: str, value: Any, says: str
) -> None:
    error = failure(VapiConfigurationError, lambda: getattr(make_client(), method)(value))
    assert str(error).startswith(f"call_id is {says}; pass a call id")
    assert "call_id=call.output" in str(error)
    assert "hush-hush" not in str(error)
    assert not api.called


@pytest.mark.parametrize("kind", [dict, MappingProxyType])
def test_summary_serves_as_call_id(api: requests_mock.Mocker, kind: type[Any]) -> None:
    api.get(CALL_URL, json=CALL)
    summary = kind({"id": f" {CALL_ID.upper()}", "transcript": "hush-hush"})
    assert make_client().get_call(summary).id == CALL_ID
    assert api.last_request._request.path_url == f"/call/{CALL_ID}"


@pytest.mark.parametrize("value", [None, "", "None", {"id": None}])
def test_empty_id_points_to_param_and_xcom(value: Any) -> None:
    error = failure(VapiConfigurationError, lambda: make_client().get_call(value))
    assert "If it comes from a param, the run may have been triggered without one" in str(error)
    assert "XCom" in str(error)


BAD_NAMES: list[tuple[Any, str]] = [
    (None, "must be a string, not NoneType"),
    (7, "must be a string, not int"),
    (True, "must be a string, not bool"),
    (b"Reminder", "must be a string, not bytes"),
    (["Reminder"], "must be a string, not list"),
    ("", "is empty"),
    ("  ", "is empty"),
    ("\t\n", "is empty"),
    ("\u00a0", "is empty"),
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
    assert len(str(error)) < 300
    assert not api.called


@pytest.mark.parametrize("name", ["n", "n" * 40, "👋" * 40, "None", " padded ", "0"])
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


@pytest.mark.parametrize(
    ("bound", "value"),
    row_and_diagonal(
        BOUNDS.keys(), {"datetime": INSTANT, "offset": INSTANT.isoformat(), "Z": "2026-08-01T07:30:00.250Z"}
    ),
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
    # The plus of an offset does not arrive as a space.
    assert f"{BOUNDS[bound]}=" in api.last_request.url
    assert " " not in sent


BAD_INSTANTS = [
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
]


@pytest.mark.parametrize(("value", "bound"), row_and_diagonal(BAD_INSTANTS, BOUNDS.keys()))
def test_bad_bounds_are_refused_at_once(api: requests_mock.Mocker, bound: str, value: Any) -> None:
    api.get(f"{API}/call", json=[])
    error = failure(VapiConfigurationError, lambda: make_hook().list_calls(**{bound: value}))
    assert str(error).startswith(f"{bound} must be a datetime with a time zone")
    assert type(value).__name__ in str(error)
    assert not api.called


@pytest.mark.parametrize("page_size", [0, -1, 1001, 2.0, "10", True, None])
def test_page_sizes_outside_1_to_1000_are_refused(api: requests_mock.Mocker, page_size: Any) -> None:
    error = failure(VapiConfigurationError, lambda: make_hook().list_calls(page_size=page_size))
    assert str(error).startswith("page_size must be a whole number from 1 to 1000")
    assert not api.called


def test_id_filters_are_sent_in_lower_case(api: requests_mock.Mocker) -> None:
    api.get(f"{API}/call", json=[])
    assistant, number = str(uuid.uuid4()), str(uuid.uuid4())
    listed = make_hook().list_calls(assistant_id=f" {assistant.upper()}", phone_number_id=number.upper())
    assert list(listed) == []
    assert f"assistantId={assistant}&phoneNumberId={number}&" in api.last_request.url
