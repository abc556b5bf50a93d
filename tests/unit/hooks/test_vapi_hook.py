# SPDX-License-Identifier: Apache-2.0
"""The hook looks its connection up once, owns one client, and delegates."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from http_helpers import API, CALL, CALL_ID, CALL_URL, CONN_ID, KEY, OTHER_ID, PATH, failure, make_connection

from vapi_provider.exceptions import (
    VapiCallNotFoundError,
    VapiConfigurationError,
    VapiConnectionNotFoundError,
    VapiPermanentError,
    VapiTransientError,
)
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.simulator import Fault, VapiSimulator

if TYPE_CHECKING:
    import requests_mock

GATEWAY = "https://gateway.example.org"
EU = "https://api.eu.vapi.ai"
ENDED = {"status": "ended", "endedReason": "customer-ended-call"}


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> VapiHook:
    """Return a hook for Vapi itself, which the fixture ``api`` fakes."""
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", f"vapi://:{KEY}@")
    return VapiHook()


@pytest.fixture
def simulated(simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch) -> VapiHook:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_SIMULATED", simulator.connection)
    return VapiHook("vapi_simulated")


def sent(simulator: VapiSimulator) -> list[str]:
    return [request.method for request in simulator.requests]


USES: dict[str, Any] = {
    "get_call": lambda hook: hook.get_call(CALL_ID),
    "update_call": lambda hook: hook.update_call(CALL_ID, name="Reminder"),
    "create_call": lambda hook: hook.create_call({"assistantId": "a"}),
    "end_call": lambda hook: hook.end_call(CALL_ID),
    "delete_call": lambda hook: hook.delete_call(CALL_ID),
    "list_calls": lambda hook: hook.list_calls(),
    "run": lambda hook: hook.run("GET", "/assistant"),
    "get_conn": lambda hook: hook.get_conn(),
    "base_url": lambda hook: hook.base_url,
    "dashboard_url": lambda hook: hook.dashboard_url(CALL_ID),
}
EACH_USE = pytest.mark.parametrize("use", USES.values(), ids=USES)


# The connection.


@EACH_USE
def test_missing_connection_is_named_with_advice(api: requests_mock.Mocker, use: Any) -> None:
    error = failure(VapiConnectionNotFoundError, lambda: use(VapiHook("vapi_nowhere")))
    assert str(error).startswith("Airflow found no connection 'vapi_nowhere'")
    assert "AIRFLOW_CONN_VAPI_NOWHERE" in str(error)
    assert "The request was not sent." in str(error)
    assert not api.called


@EACH_USE
def test_unusable_connection_is_an_error_of_each_method(
    api: requests_mock.Mocker, monkeypatch: pytest.MonkeyPatch, use: Any
) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", f"vapi://:{KEY}@?timeout=0")
    error = failure(VapiConfigurationError, lambda: use(VapiHook(CONN_ID)))
    assert str(error).startswith(f"Connection {CONN_ID!r}: extra field timeout ")
    assert not api.called


@pytest.mark.parametrize(
    ("conn_id", "shown"), [(None, "None"), ("", "''"), (" ", "' '"), (7, "int"), ({"password": KEY}, "dict")]
)
def test_bad_connection_id_is_refused(api: requests_mock.Mocker, conn_id: Any, shown: str) -> None:
    error = failure(VapiConfigurationError, lambda: VapiHook(conn_id).get_call(CALL_ID))
    assert str(error) == f"vapi_conn_id must be the id of a connection; got {shown}. Nothing was sent."
    assert not api.called


@pytest.mark.parametrize(("host", "region"), [("", ""), ("api.eu.vapi.ai", ".eu"), ("vapi.example.com", "")])
def test_missing_key_links_to_the_dashboard_of_the_region(
    api: requests_mock.Mocker, monkeypatch: pytest.MonkeyPatch, host: str, region: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", json.dumps({"conn_type": "vapi", "host": host}))
    error = failure(VapiConfigurationError, lambda: VapiHook().get_call(CALL_ID))
    assert f"Enter the private key from https://dashboard{region}.vapi.ai/org/api-keys." in str(error)
    assert not api.called


NOT_FOUND = "Airflow found no connection 'vapi_default': AIRFLOW_CONN_VAPI_DEFAULT is"
NO_KEY = (
    "Connection 'vapi_default': password (API key) is empty (AIRFLOW_CONN_VAPI_DEFAULT must be a JSON object"
)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        pytest.param(
            f'{{"password": "{KEY}"',
            f"{NOT_FOUND} not valid JSON (Expecting ',' delimiter at line 1, column 46)",
            id="unfinished",
        ),
        pytest.param("{}x", f"{NOT_FOUND} not valid JSON (Extra data at line 1, column 3)", id="too-much"),
        pytest.param(
            f'{{"api_key": "{KEY}"}}', f"{NOT_FOUND} JSON but not a valid connection; its", id="field"
        ),
        pytest.param(
            '{"port": "x"}', f"{NOT_FOUND} JSON but not a valid connection; its fields are", id="port"
        ),
        pytest.param(
            f"vapi://:{KEY}@api.vapi.ai:x", f"{NOT_FOUND} set but is neither a JSON object", id="uri"
        ),
        pytest.param(f'["{KEY}"]', NO_KEY, id="list"),
        pytest.param(KEY, NO_KEY, id="bare-key"),
    ],
)
def test_malformed_variable_is_explained_and_not_shown(
    api: requests_mock.Mocker, monkeypatch: pytest.MonkeyPatch, value: str, says: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", value)
    kind = VapiConnectionNotFoundError if says.startswith(NOT_FOUND) else VapiConfigurationError
    error = failure(kind, lambda: VapiHook().get_call(CALL_ID))
    assert str(error).startswith(says)
    assert str(error).endswith(" The request was not sent.")
    assert not api.called


def test_connection_of_another_type_is_refused_by_the_hook(
    api: requests_mock.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", json.dumps({"conn_type": "http", "password": KEY}))
    error = failure(VapiConfigurationError, lambda: VapiHook().get_call(CALL_ID))
    assert "'vapi_default': type is 'http'; it must be 'vapi'" in str(error)
    assert not api.called


def test_connection_is_looked_up_once_on_first_use(
    api: requests_mock.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.get(CALL_URL, json=CALL)
    looked_up: list[str] = []

    def get_connection(conn_id: str) -> Any:
        looked_up.append(conn_id)
        return make_connection(conn_id=conn_id)

    monkeypatch.setattr(VapiHook, "get_connection", staticmethod(get_connection))
    hook = VapiHook("vapi_later")
    assert looked_up == []
    client = hook.client
    hook.get_call(CALL_ID)
    hook.get_conn()
    hook.close()
    assert hook.dashboard_url(CALL_ID) == f"https://dashboard.vapi.ai/calls/{CALL_ID}"
    hook.get_call(CALL_ID)
    assert hook.client is client
    assert looked_up == ["vapi_later"]


def test_missing_connection_is_looked_up_again(
    api: requests_mock.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.get(CALL_URL, json=CALL)
    hook = VapiHook("vapi_later")
    failure(VapiConnectionNotFoundError, lambda: hook.get_call(CALL_ID))
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_LATER", f"vapi://:{KEY}@")
    assert hook.get_call(CALL_ID).id == CALL_ID


@pytest.mark.parametrize(
    "value",
    [
        json.dumps(
            {
                "conn_type": "vapi",
                "host": GATEWAY,
                "port": 81,
                "password": KEY,
                "extra": {"timeout": 5, "max_retries": None},
            }
        ),
        json.dumps(
            {"conn_type": "vapi", "host": f"{GATEWAY}:81", "password": KEY, "extra": '{"timeout": "5"}'}
        ),
        f"vapi://:{KEY}@https%3A%2F%2Fgateway.example.org:81/?timeout=5&max_retries=",
    ],
    ids=["JSON", "JSON with extra as text", "URI"],
)
def test_connection_is_read_from_the_environment(
    api: requests_mock.Mocker, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", value)
    api.get(f"{GATEWAY}:81{PATH}", json=CALL)
    assert VapiHook().get_call(CALL_ID).id == CALL_ID
    assert api.last_request.url == f"{GATEWAY}:81{PATH}"
    assert api.last_request.timeout == 5
    assert api.last_request.headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("uri", "base_url"),
    [
        (f"vapi://:{KEY}@", API),
        (f"vapi://:{KEY}@api.eu.vapi.ai", EU),
        (f"vapi://:{KEY}@api.eu.vapi.ai:8443", f"{EU}:8443"),
        (f"vapi://:{KEY}@https%3A%2F%2Fgateway.example.org/", GATEWAY),
        (f"vapi://:{KEY}@https%3A%2F%2Fgateway.example.org%3A82:81/", f"{GATEWAY}:82"),
        (f"vapi://:{KEY}@http%3A%2F%2F127.0.0.1:8080/", "http://127.0.0.1:8080"),
    ],
)
def test_uri_names_host_and_port(monkeypatch: pytest.MonkeyPatch, uri: str, base_url: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", f"{uri}?timeout=5&max_retries=")
    hook = VapiHook()
    assert hook.base_url == base_url
    settings = hook.client.settings
    assert (settings.api_key, settings.timeout, settings.max_retries) == (KEY, 5, 4)


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"timeout": 86400}, "extra field timeout must be a number from 1 to 75"),
        ({"max_retries": 11}, "extra field max_retries must be a whole number from 0 to 10"),
    ],
    ids=["timeout", "max_retries"],
)
@pytest.mark.parametrize("form", ["JSON", "URI"])
def test_environment_variable_has_the_bounds_of_the_form(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, int], says: str, form: str
) -> None:
    [(name, number)] = extra.items()
    as_json = json.dumps({"conn_type": "vapi", "password": KEY, "extra": extra})
    value = as_json if form == "JSON" else f"vapi://:{KEY}@?{name}={number}"
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", value)
    assert says in str(failure(VapiConfigurationError, lambda: VapiHook().get_call(CALL_ID)))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", f"https://dashboard.vapi.ai/calls/{CALL_ID}"),
        ("api.eu.vapi.ai", f"https://dashboard.eu.vapi.ai/calls/{CALL_ID}"),
        ("http%3A%2F%2F127.0.0.1:4010", f"http://127.0.0.1:4010/calls/{CALL_ID}"),
    ],
    ids=["US", "EU", "loopback"],
)
def test_dashboard_url_of_the_hook(monkeypatch: pytest.MonkeyPatch, host: str, url: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", f"vapi://:{KEY}@{host}")
    assert VapiHook().dashboard_url(CALL_ID) == url


# The client.


def test_hook_uses_the_session_of_get_conn(api: requests_mock.Mocker, hook: VapiHook) -> None:
    api.get(CALL_URL, json=CALL)
    session = hook.get_conn()
    session.headers["X-Mark"] = "seen"
    hook.get_call(CALL_ID)
    assert hook.get_conn() is session is hook.client.session
    assert api.last_request.headers["X-Mark"] == "seen"
    assert api.last_request.headers["Authorization"] == f"Bearer {KEY}"


def test_closed_hook_works_again(simulator: VapiSimulator, simulated: VapiHook) -> None:
    call_id = simulator.add_call()
    simulated.close()
    assert simulated.get_call(call_id).id == call_id
    simulated.close()
    assert simulated.get_call(call_id).id == call_id


def test_retries_are_in_the_task_log(
    api: requests_mock.Mocker,
    hook: VapiHook,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    api.get(CALL_URL, [{"status_code": 503}, {"json": CALL}])
    hook.get_call(CALL_ID)
    # Airflow 3.1 and later log with structlog, Airflow 3.0 with logging.
    captured = capfd.readouterr()
    log = caplog.text or captured.out + captured.err
    [line] = [line for line in log.splitlines() if "Retrying in" in line]
    assert "warning" in line.lower()
    assert f"GET {PATH} returned 503" in line
    assert KEY not in caplog.text + captured.out + captured.err


def test_key_is_in_no_repr_of_the_hook(hook: VapiHook) -> None:
    hook.get_conn()
    assert KEY not in f"{hook!r} {hook} {hook.client!r} {hook.get_conn()!r} {hook.get_conn().auth!r}"


def test_each_method_sends_its_request(simulator: VapiSimulator, simulated: VapiHook) -> None:
    call = simulated.create_call(
        {"assistantId": "a", "phoneNumberId": "p", "customer": {"number": "+12025550143"}}
    )
    assert simulated.get_call(call.id).id == call.id
    assert simulated.update_call(call.id, name="Reminder").name == "Reminder"
    assert [listed.id for listed in simulated.list_calls(page_size=10)] == [call.id]
    assert simulated.run("get", "/call", params={"limit": 1})[0]["id"] == call.id
    assert simulated.end_call(call.id) == f"Call {call.id} was ended."
    simulated.delete_call(call.id)
    assert simulator.calls == {}
    failure(VapiCallNotFoundError, lambda: simulated.get_call(call.id), secret=simulator.api_key)


def test_list_calls_passes_every_filter_on(api: requests_mock.Mocker, hook: VapiHook) -> None:
    api.get(f"{API}/call", json=[])
    instant = "2026-08-01T09:00:00+00:00"
    names = ("created_at_ge", "created_at_lt", "updated_at_ge", "updated_at_lt")
    listed = hook.list_calls(
        assistant_id=CALL_ID, phone_number_id=OTHER_ID, page_size=7, **dict.fromkeys(names, instant)
    )
    assert list(listed) == []
    bounds = dict.fromkeys(("createdatge", "createdatlt", "updatedatge", "updatedatlt"), [instant.lower()])
    assert api.request_history[0].qs == {
        "assistantid": [CALL_ID],
        "phonenumberid": [OTHER_ID],
        "limit": ["7"],
        **bounds,
    }


def test_run_returns_none_for_an_empty_response(api: requests_mock.Mocker, hook: VapiHook) -> None:
    api.delete(f"{API}/assistant/x", status_code=204)
    assert hook.run("DELETE", "/assistant/x") is None


def test_run_passes_query_and_body_on(api: requests_mock.Mocker, hook: VapiHook) -> None:
    api.patch(f"{API}/assistant/x", json={"id": "x"})
    assert hook.run("PATCH", "/assistant/x", params={"a": 1}, json={"name": "y"}) == {"id": "x"}
    assert (api.last_request.query, api.last_request.json()) == ("a=1", {"name": "y"})


def test_run_refuses_to_place_a_call(api: requests_mock.Mocker, hook: VapiHook) -> None:
    failure(VapiConfigurationError, lambda: hook.run("POST", "/call", json={"assistantId": "a"}))
    assert not api.called


def test_run_reports_a_lost_response_as_permanent(api: requests_mock.Mocker, hook: VapiHook) -> None:
    api.post(f"{API}/assistant", status_code=502)
    error = failure(VapiPermanentError, lambda: hook.run("POST", "/assistant", json={}))
    assert "may have taken effect" in str(error)
    assert api.call_count == 1


@pytest.mark.parametrize("params", ["limit=1", [("limit", 1)], 5, "\ud800"], ids=ascii)
def test_run_refuses_a_query_that_is_not_a_mapping(
    api: requests_mock.Mocker, hook: VapiHook, params: Any
) -> None:
    error = failure(VapiConfigurationError, lambda: hook.run("GET", "/assistant", params=params))
    assert str(error) == f"params must be a mapping; got {type(params).__name__}. Nothing was sent."
    assert not api.called


# The request of create_call.


NUMBER = "+12025550143"
REQUEST: dict[str, Any] = {"assistantId": "a", "customer": {"number": NUMBER}}
ENDLESS: dict[str, Any] = {}
ENDLESS["itself"] = ENDLESS
BAD_REQUESTS = {
    "empty": ({}, "not empty; got dict"),
    "None": (None, "not empty; got NoneType"),
    "a list": ([REQUEST], "not empty; got list"),
    "text": (json.dumps(REQUEST), "not empty; got str"),
    "customers": ({**REQUEST, "customers": [{"number": NUMBER}]}, "has the field customers"),
    "no customers": ({**REQUEST, "customers": []}, "has the field customers"),
    "NaN": ({**REQUEST, "n": float("nan")}, "cannot be written as JSON"),
    "deep infinity": ({**REQUEST, "n": [{"m": -float("inf")}]}, "cannot be written as JSON"),
    "deep set": ({**REQUEST, "a": {"b": [{1, 2}]}}, "cannot be written as JSON"),
    "object": ({**REQUEST, "at": object()}, "cannot be written as JSON"),
    "tuple as a key": ({**REQUEST, (1, 2): 3}, "cannot be written as JSON"),
    "endless": (ENDLESS, "cannot be written as JSON"),
}


@pytest.mark.parametrize(("request_body", "says"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_bad_requests_are_not_sent(
    api: requests_mock.Mocker, hook: VapiHook, request_body: Any, says: str
) -> None:
    error = failure(VapiConfigurationError, lambda: hook.create_call(request_body))
    assert says in str(error)
    assert "Nothing was sent" in str(error)
    assert NUMBER not in str(error)
    assert not api.called


def test_request_may_be_any_mapping(api: requests_mock.Mocker, hook: VapiHook) -> None:
    api.post(f"{API}/call", status_code=201, json={"id": CALL_ID})
    assert hook.create_call(MappingProxyType(REQUEST)).id == CALL_ID
    assert api.last_request.json() == REQUEST


# end_call and delete_call.


@pytest.mark.parametrize(
    ("status", "requests", "says"),
    [
        *((status, ["GET", "POST"], "Call {} was ended.") for status in ("queued", "ringing", "in-progress")),
        ("forwarding", ["GET", "POST"], "Call {} was ended."),
        ("scheduled", ["GET", "DELETE"], "Scheduled call {} was cancelled."),
        *(
            (status, ["GET"], "Call {} had already ended.")
            for status in ("ended", "not-found", "deletion-failed")
        ),
    ],
)
def test_end_call_returns_what_it_did(
    simulator: VapiSimulator, simulated: VapiHook, status: str, requests: list[str], says: str
) -> None:
    call_id = simulator.add_call(status=status)
    assert simulated.end_call(call_id) == says.format(call_id)
    assert sent(simulator) == requests
    assert simulator.get_call(call_id)["status"] == ("ended" if len(requests) == 2 else status)


def test_end_call_of_a_missing_call_is_an_error(simulator: VapiSimulator, simulated: VapiHook) -> None:
    failure(VapiCallNotFoundError, lambda: simulated.end_call(OTHER_ID), secret=simulator.api_key)


def test_end_call_does_not_erase_a_cancelled_call(simulator: VapiSimulator, simulated: VapiHook) -> None:
    call_id = simulator.add_call(status="scheduled")
    simulator.faults.add(Fault(method="DELETE", status=502, effect=True))
    assert simulated.end_call(call_id) == f"Call {call_id} has ended."
    assert sent(simulator) == ["GET", "DELETE", "GET"]
    assert simulator.get_call(call_id)["endedReason"] == "scheduled-call-deleted"


def test_delete_call_does_not_erase_a_cancelled_call(simulator: VapiSimulator, simulated: VapiHook) -> None:
    call_id = simulator.add_call(status="scheduled")
    simulator.faults.add(Fault(method="DELETE", status=502, effect=True))
    error = failure(VapiTransientError, lambda: simulated.delete_call(call_id), secret=simulator.api_key)
    assert "delete it again to erase" in str(error)
    assert sent(simulator) == ["DELETE", "GET"]
    assert simulator.get_call(call_id)["endedReason"] == "scheduled-call-deleted"


def test_delete_call_of_a_missing_call_is_an_error(simulator: VapiSimulator, simulated: VapiHook) -> None:
    failure(VapiCallNotFoundError, lambda: simulated.delete_call(OTHER_ID), secret=simulator.api_key)
    assert sent(simulator) == ["DELETE"]


def test_delete_call_succeeds_when_a_lost_delete_worked(
    simulator: VapiSimulator, simulated: VapiHook
) -> None:
    call_id = simulator.add_call(status="ended")
    simulator.faults.add(Fault(method="DELETE", status=502, effect=True))
    simulated.delete_call(call_id)
    assert (sent(simulator), simulator.calls) == (["DELETE", "GET"], {})
