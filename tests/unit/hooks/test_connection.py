# SPDX-License-Identifier: Apache-2.0
"""The connection: what is accepted, and what a refusal says before anything is sent."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import requests_mock
from hook_helpers import API, CALL, CALL_ID, CALL_URL, CONN_ID, KEY, PATH, failure, make_connection, make_hook

from airflow.providers.common.compat.sdk import Connection
from vapi_provider.connection import read_settings
from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiConfigurationError,
    VapiConnectionNotFoundError,
)
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.simulator import Fault, VapiSimulator

SECRET = "hush-hush-hush"

UNUSABLE = {
    "no key": ({"password": None}, "password (API key)", "dashboard.vapi.ai"),
    "an empty key": ({"password": ""}, "password (API key)", "is empty"),
    "a blank key": ({"password": " \t\n"}, "password (API key)", "is empty"),
    "a pasted header": ({"password": f"Bearer {SECRET}"}, "password (API key)", '"Bearer"'),
    "a pasted header in lower case": ({"password": f"bearer {SECRET}"}, "password (API key)", '"Bearer"'),
    "the word Bearer alone": ({"password": "Bearer "}, "password (API key)", '"Bearer"'),
    "the mask of the form": ({"password": "***"}, "password (API key)", "mask"),
    "a space in the key": ({"password": f"{SECRET} {SECRET}"}, "password (API key)", "white space"),
    "a tab in the key": ({"password": f"{SECRET}\t{SECRET}"}, "password (API key)", "white space"),
    "a line break in the key": ({"password": f"{SECRET}\r\nX: y"}, "password (API key)", "white space"),
    "a control character in the key": ({"password": f"{SECRET}\x00"}, "password (API key)", "characters"),
    "a letter that is not ASCII": ({"password": f"{SECRET}ü"}, "password (API key)", "characters"),
    "an invisible character": ({"password": f"\u200b{SECRET}"}, "password (API key)", "characters"),
    "http to another machine": ({"host": "http://api.vapi.ai"}, "host (API base URL)", "in the clear"),
    "http to a private address": ({"host": "http://10.0.0.1"}, "host (API base URL)", "in the clear"),
    "http to a name like localhost": (
        {"host": "http://localhost.example.org"},
        "host (API base URL)",
        "in the clear",
    ),
    "http in capitals": ({"host": "HTTP://api.vapi.ai"}, "host (API base URL)", "in the clear"),
    "a host without a scheme": ({"host": "api.vapi.ai"}, "host (API base URL)", "https://"),
    "a host and port without a scheme": ({"host": "api.vapi.ai:443"}, "host (API base URL)", "https://"),
    "another scheme": ({"host": "ftp://api.vapi.ai"}, "host (API base URL)", "https://"),
    "no host name": ({"host": "https://"}, "host (API base URL)", "https://"),
    "a port that is none": ({"host": "https://api.vapi.ai:99999"}, "host (API base URL)", "https://"),
    "an unfinished IPv6 address": ({"host": "https://[::1"}, "host (API base URL)", "https://"),
    "a user and password": (
        {"host": f"https://user:{SECRET}@api.vapi.ai"},
        "host (API base URL)",
        "user name",
    ),
    "a user": ({"host": f"https://{SECRET}@api.vapi.ai"}, "host (API base URL)", "user name"),
    "a query": ({"host": f"{API}/?token={SECRET}"}, "host (API base URL)", API),
    "an empty query": ({"host": f"{API}?"}, "host (API base URL)", API),
    "a fragment": ({"host": f"{API}#{SECRET}"}, "host (API base URL)", API),
    "an empty fragment": ({"host": f"{API}#"}, "host (API base URL)", API),
    "a space in the host": ({"host": "https://api.vapi.ai /call"}, "host (API base URL)", API),
    "a host name that cannot be one": ({"host": "https://api..vapi.ai"}, "host (API base URL)", "https://"),
    "a label that is too long": (
        {"host": f"https://{'a' * 64}.example.org"},
        "host (API base URL)",
        "https://",
    ),
    "extra that is not JSON": ({"extra": SECRET}, "extra", "JSON object"),
    "extra that is a list": ({"extra": f'["{SECRET}"]'}, "extra", "JSON object"),
    "extra that is a number": ({"extra": "5"}, "extra", "JSON object"),
    "an unknown field": ({"extra": json.dumps({"api_key": SECRET})}, "extra", "'api_key'"),
    "an unknown field, named": ({"extra": '{"time_out": 5}'}, "extra", "['max_retries', 'timeout']"),
    **{
        f"timeout {text}": ({"extra": f'{{"timeout": {text}}}'}, "extra field timeout", "number")
        for text in (
            "0",
            "-1",
            "NaN",
            "Infinity",
            "1e999",
            "true",
            "false",
            "[]",
            "{}",
            '"soon"',
            '"nan"',
        )
    },
    **{
        f"max_retries {text}": ({"extra": f'{{"max_retries": {text}}}'}, "extra field max_retries", "number")
        for text in ("-1", "11", "1.5", "NaN", "true", "[]", '"many"', '"1.5"')
    },
}


@pytest.mark.parametrize(("fields", "where", "says"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_unusable_connection_is_named_with_its_field_and_nothing_is_sent(
    api: requests_mock.Mocker, fields: dict[str, Any], where: str, says: str
) -> None:
    api.register_uri(requests_mock.ANY, requests_mock.ANY, json=CALL)
    hook = VapiHook.from_connection(make_connection(**fields))
    error = failure(VapiConfigurationError, lambda: hook.get_call(CALL_ID))
    message = str(error)
    assert message.startswith(f"Call {CALL_ID}: Connection {CONN_ID!r}: {where}")
    assert says in message
    assert "Nothing was sent" in message
    assert SECRET not in message
    assert (error.method, error.path, error.status_code) == (None, None, None)
    assert not api.called
    failure(VapiConfigurationError, hook.get_conn, secret=SECRET)
    assert hook.test_connection() == (False, message.removeprefix(f"Call {CALL_ID}: "))
    assert not api.called


def test_a_missing_connection_is_named_with_what_to_do(api: requests_mock.Mocker) -> None:
    hook = VapiHook("vapi_nowhere")
    error = failure(VapiConnectionNotFoundError, lambda: hook.update_call(CALL_ID, name="Reminder"))
    assert "'vapi_nowhere'" in str(error)
    assert "AIRFLOW_CONN_VAPI_NOWHERE" in str(error)
    assert "Nothing was sent" in str(error)
    assert not api.called


@pytest.mark.parametrize("conn_id", [None, "", " ", 7])
def test_an_id_that_names_no_connection_is_refused(api: requests_mock.Mocker, conn_id: Any) -> None:
    error = failure(VapiConfigurationError, lambda: VapiHook(conn_id).get_call(CALL_ID))
    assert str(error).startswith(f"Call {CALL_ID}: vapi_conn_id is {conn_id!r}")
    assert "Nothing was sent" in str(error)
    assert not api.called


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (f'{{"password": "{KEY}"', VapiConnectionNotFoundError),
        (f'["{KEY}"]', VapiConfigurationError),
        ("{}x", VapiConnectionNotFoundError),
    ],
)
def test_a_connection_that_airflow_cannot_read_is_told_without_what_is_in_it(
    api: requests_mock.Mocker, monkeypatch: pytest.MonkeyPatch, value: str, kind: type[VapiConfigurationError]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", value)
    error = failure(kind, lambda: VapiHook().get_call(CALL_ID))
    assert "'vapi_default'" in str(error)
    assert "Nothing was sent" in str(error)
    assert not api.called


def test_a_connection_of_another_type_is_refused(
    api: requests_mock.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", json.dumps({"conn_type": "http", "password": KEY}))
    error = failure(VapiConfigurationError, lambda: VapiHook().get_call(CALL_ID))
    assert "'vapi_default': type is 'http'; it must be 'vapi'" in str(error)
    assert not api.called


@pytest.mark.parametrize(
    ("extra", "timeout", "max_retries"),
    [
        (None, 30, 4),
        ("", 30, 4),
        ("{}", 30, 4),
        ('{"timeout": null, "max_retries": null}', 30, 4),
        ('{"timeout": "", "max_retries": " "}', 30, 4),
        ('{"timeout": "5", "max_retries": "0"}', 5, 0),
        ('{"timeout": " 2.5 ", "max_retries": 10}', 2.5, 10),
        ('{"timeout": 75, "max_retries": 2.0}', 75, 2),
        ('{"timeout": 0.25}', 0.25, 4),
    ],
)
def test_extra_may_be_empty_and_hold_numbers_as_strings(
    api: requests_mock.Mocker, extra: str | None, timeout: float, max_retries: int
) -> None:
    api.get(CALL_URL, status_code=503)
    hook = VapiHook.from_connection(make_connection(extra=extra))
    with pytest.raises(Exception, match="answered 503"):
        hook.get_call(CALL_ID)
    assert api.call_count == max_retries + 1
    # All tries together have their own limit, of which a moment is over already.
    assert api.request_history[0].timeout == pytest.approx(timeout, abs=0.5 if timeout == 75 else 0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        (None, CALL_URL),
        ("", CALL_URL),
        (" ", CALL_URL),
        (f"  {API}/ ", CALL_URL),
        ("https://gateway.example.org/vapi/", f"https://gateway.example.org/vapi{PATH}"),
        ("https://gateway.example.org:8443", f"https://gateway.example.org:8443{PATH}"),
        ("http://127.0.0.1:8080", f"http://127.0.0.1:8080{PATH}"),
        ("http://127.1.2.3", f"http://127.1.2.3{PATH}"),
        ("http://LocalHost:8080", f"http://localhost:8080{PATH}"),
        ("http://[::1]:8080", f"http://[::1]:8080{PATH}"),
    ],
)
def test_the_host_is_the_base_url(api: requests_mock.Mocker, host: str | None, url: str) -> None:
    api.get(requests_mock.ANY, json=CALL)
    make_hook(host).get_call(CALL_ID)
    assert [request.url.lower() for request in api.request_history] == [url]


def test_white_space_around_the_key_is_removed(api: requests_mock.Mocker) -> None:
    api.get(CALL_URL, json=CALL)
    make_hook(password=f" {KEY}\n").get_call(CALL_ID)
    assert api.last_request.headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "value",
    [
        json.dumps(
            {
                "conn_type": "vapi",
                "host": "https://gateway.example.org",
                "password": KEY,
                "extra": {"timeout": 5, "max_retries": None},
            }
        ),
        json.dumps({"conn_type": "vapi", "host": "https://gateway.example.org", "password": KEY, "port": 81})[
            :-1
        ]
        + ', "extra": "{\\"timeout\\": \\"5\\"}"}',
        f"vapi://:{KEY}@https%3A%2F%2Fgateway.example.org/?timeout=5",
        f"vapi://:{KEY}@https%3A%2F%2Fgateway.example.org:81/?timeout=5&max_retries=",
    ],
    ids=["JSON", "JSON with extra as text and a port", "URI", "URI with a port"],
)
def test_airflow_reads_the_connection_from_the_environment(
    api: requests_mock.Mocker, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", value)
    api.get(f"https://gateway.example.org{PATH}", json=CALL)
    assert VapiHook().get_call(CALL_ID).id == CALL_ID
    # The port of the connection, which its form does not show, is not part of the URL.
    assert api.last_request.url == f"https://gateway.example.org{PATH}"
    assert api.last_request.timeout == 5
    assert api.last_request.headers["Authorization"] == f"Bearer {KEY}"


def test_the_shortest_uri_is_enough(api: requests_mock.Mocker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", f"vapi://:{KEY}@")
    api.get(CALL_URL, json=CALL)
    assert VapiHook().get_call(CALL_ID).name == "Reminder"


def test_the_connection_is_looked_up_when_first_needed_and_once(
    api: requests_mock.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.get(CALL_URL, json=CALL)
    hook = VapiHook("vapi_later")
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_LATER", f"vapi://:{KEY}@")
    hook.get_call(CALL_ID)
    monkeypatch.delenv("AIRFLOW_CONN_VAPI_LATER")
    hook.get_call(CALL_ID)
    assert api.call_count == 2


def test_a_connection_that_was_read_before_is_used_without_asking_airflow(api: requests_mock.Mocker) -> None:
    class Guarded(Connection):
        @property
        def extra_dejson(self) -> dict[str, Any]:
            raise AssertionError("this property asks Airflow to mask what it finds")

        @classmethod
        def get(cls, conn_id: str) -> Any:
            raise AssertionError("this asks Airflow for a connection")

    api.get(CALL_URL, json=CALL)
    conn = Guarded(conn_id="known_to_nobody", conn_type="vapi", password=KEY, extra='{"timeout": 3}')
    hook = VapiHook.from_connection(conn)
    assert hook.vapi_conn_id == "known_to_nobody"
    assert hook.get_call(CALL_ID).id == CALL_ID
    assert api.last_request.timeout == 3


def test_the_key_is_in_no_repr() -> None:
    settings = read_settings(make_connection())
    hook = make_hook()
    assert KEY not in f"{settings!r} {settings} {hook!r} {hook} {hook.get_conn()!r} {hook.get_conn().auth!r}"


def test_testing_a_good_connection_reads_at_most_one_call_and_says_so(simulator: VapiSimulator) -> None:
    for _ in range(3):
        simulator.add_call()
    before = simulator.calls
    worked, sentence = make_hook(simulator.url, password=simulator.api_key).test_connection()
    assert worked is True
    assert sentence == f"{simulator.url} accepts the API key."
    assert [(r.method, r.path, r.query) for r in simulator.requests] == [("GET", "/call", {"limit": "1"})]
    assert simulator.calls == before


def test_testing_with_a_wrong_key_says_where_the_right_one_is(simulator: VapiSimulator) -> None:
    worked, sentence = make_hook(simulator.url).test_connection()
    assert worked is False
    assert "401" in sentence
    assert "private API key" in sentence
    assert "https://dashboard.vapi.ai/org/api-keys" in sentence
    assert "into this connection" in sentence
    assert KEY not in sentence
    assert len(simulator.requests) == 1


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(status=503), "503"),
        (Fault(status=429, headers={"Retry-After": "1"}), "rate limit"),
        (Fault(reset="before"), "reset"),
        (Fault(body=""), "empty body"),
        (Fault(body="<html>portal</html>"), "not JSON"),
        (Fault(body="{}"), "in place of a list"),
        (Fault(body='[{"name": "x"}]'), "without an id"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_testing_is_never_repeated(
    simulator: VapiSimulator, naps: list[float], fault: Fault, says: str
) -> None:
    simulator.faults.add(fault)
    worked, sentence = make_hook(simulator.url, password=simulator.api_key).test_connection()
    assert worked is False
    assert says in sentence
    assert (len(simulator.requests), naps) == (1, [])


def test_testing_a_missing_connection_says_that_there_is_none() -> None:
    worked, sentence = VapiHook("vapi_nowhere").test_connection()
    assert worked is False
    assert "There is no connection 'vapi_nowhere'" in sentence


def test_testing_while_nobody_listens_says_that_the_connection_was_refused(naps: list[float]) -> None:
    with VapiSimulator() as simulator:
        hook = make_hook(simulator.url, password=simulator.api_key)
    worked, sentence = hook.test_connection()
    assert worked is False
    assert "refused" in sentence
    assert simulator.url in sentence
    assert naps == []


def test_testing_refuses_with_the_class_that_tasks_see(simulator: VapiSimulator) -> None:
    error = failure(VapiAuthenticationError, lambda: make_hook(simulator.url).get_call(CALL_ID))
    assert (error.status_code, error.method, error.path) == (401, "GET", PATH)


def test_the_form_of_airflow_3_0_and_3_1_hides_and_names_airflows_own_fields() -> None:
    behaviour = VapiHook.get_ui_field_behaviour()
    assert set(behaviour) == {"hidden_fields", "relabeling", "placeholders"}
    assert set(behaviour["hidden_fields"]) == {"schema", "port", "login"}
    assert behaviour["relabeling"] == {"password": "API key", "host": "API base URL"}
    assert set(behaviour["placeholders"]) == {"password", "host"}


class StandIn:
    """A field as Airflow 3.1's API server puts it in place of that of wtforms."""

    def __init__(
        self,
        label: str | None = None,
        validators: Any = None,
        description: str = "",
        default: str | None = None,
        widget: Any = None,
    ) -> None:
        self.label, self.validators, self.description, self.widget = label, validators, description, widget


class StringField(StandIn):
    pass


class IntegerField(StandIn):
    pass


class Optional:
    pass


class BS3TextFieldWidget:
    pass


def install(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)


def test_the_form_gets_its_own_fields_where_wtforms_or_its_stand_ins_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    validators = SimpleNamespace(Optional=Optional)
    install(monkeypatch, "wtforms", StringField=StringField, IntegerField=IntegerField, validators=validators)
    install(monkeypatch, "wtforms.validators", Optional=Optional)
    install(monkeypatch, "flask_appbuilder")
    install(monkeypatch, "flask_appbuilder.fieldwidgets", BS3TextFieldWidget=BS3TextFieldWidget)
    widgets = VapiHook.get_connection_form_widgets()
    assert {name: type(field) for name, field in widgets.items()} == {
        # A wtforms IntegerField would refuse 2.5 seconds.
        "timeout": StringField,
        "max_retries": IntegerField,
    }
    for field in widgets.values():
        assert field.label
        assert field.description
        assert isinstance(field.widget, BS3TextFieldWidget)
        assert [type(validator) for validator in field.validators] == [Optional]


@pytest.mark.parametrize("missing", ["wtforms", "flask_appbuilder.fieldwidgets"])
def test_the_form_survives_without_wtforms(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert VapiHook.get_connection_form_widgets() == {}
