# SPDX-License-Identifier: Apache-2.0
"""The connection: accepted values, the meaning of each field, and errors that name the field but no secret."""

from __future__ import annotations

import json
from typing import Any

import pytest
from http_helpers import API, CALL_ID, CONN_ID, KEY, failure, make_connection

from airflow.providers.common.compat.sdk import Connection
from vapi_provider.connection import CONN_FIELDS, VapiSettings, read_settings
from vapi_provider.exceptions import VapiConfigurationError

SECRET = "hush-hush-hush"
KEY_FIELD, HOST_FIELD = "password (API key)", "host (API base URL)"
EU = "https://api.eu.vapi.ai"
GATEWAY = "https://gateway.example.org"


def settings_of(**fields: Any) -> VapiSettings:
    return read_settings(make_connection(**fields))


UNUSABLE = {
    "no key": ({"password": None}, KEY_FIELD, "dashboard.vapi.ai"),
    "an empty key": ({"password": ""}, KEY_FIELD, "is empty"),
    "a blank key": ({"password": " \t\n"}, KEY_FIELD, "is empty"),
    "a pasted header": ({"password": f"Bearer {SECRET}"}, KEY_FIELD, '"Bearer"'),
    "a pasted header in lower case": ({"password": f"bearer {SECRET}"}, KEY_FIELD, '"Bearer"'),
    "the word Bearer alone": ({"password": "Bearer "}, KEY_FIELD, '"Bearer"'),
    "the mask of the form": ({"password": "***"}, KEY_FIELD, "mask"),
    "a space in the key": ({"password": f"{SECRET} {SECRET}"}, KEY_FIELD, "whitespace"),
    "a tab in the key": ({"password": f"{SECRET}\t{SECRET}"}, KEY_FIELD, "whitespace"),
    "a line break in the key": ({"password": f"{SECRET}\r\nX: y"}, KEY_FIELD, "whitespace"),
    "a control character in the key": ({"password": f"{SECRET}\x00"}, KEY_FIELD, "characters"),
    "a letter that is not ASCII": ({"password": f"{SECRET}ü"}, KEY_FIELD, "characters"),
    "an invisible character": ({"password": f"\u200b{SECRET}"}, KEY_FIELD, "characters"),
    "http to another machine": ({"host": "http://api.vapi.ai"}, HOST_FIELD, "must use https://"),
    "http to a private address": ({"host": "http://10.0.0.1"}, HOST_FIELD, "only for localhost"),
    "http to a name like localhost": (
        {"host": "http://localhost.example.org"},
        HOST_FIELD,
        "only for localhost",
    ),
    "http in capitals": ({"host": "HTTP://api.vapi.ai"}, HOST_FIELD, "must use https://"),
    "another scheme": ({"host": "ftp://api.vapi.ai"}, HOST_FIELD, API),
    "a scheme without a host name": ({"host": "https://"}, HOST_FIELD, API),
    "no scheme and no host name": ({"host": "://"}, HOST_FIELD, API),
    "a path alone": ({"host": "/call"}, HOST_FIELD, API),
    "an invalid port": ({"host": "https://api.vapi.ai:99999"}, HOST_FIELD, API),
    "an invalid port of a bare host": ({"host": "api.vapi.ai:port"}, HOST_FIELD, API),
    "an unfinished IPv6 address": ({"host": "https://[::1"}, HOST_FIELD, API),
    "a user and password": ({"host": f"https://user:{SECRET}@api.vapi.ai"}, HOST_FIELD, "user name"),
    "a user": ({"host": f"https://{SECRET}@api.vapi.ai"}, HOST_FIELD, "user name"),
    "a user of a bare host": ({"host": f"{SECRET}@api.vapi.ai"}, HOST_FIELD, "user name"),
    "a query": ({"host": f"{API}/?token={SECRET}"}, HOST_FIELD, API),
    "an empty query": ({"host": f"{API}?"}, HOST_FIELD, API),
    "a query of a bare host": ({"host": f"api.vapi.ai?{SECRET}"}, HOST_FIELD, API),
    "a fragment": ({"host": f"{API}#{SECRET}"}, HOST_FIELD, API),
    "an empty fragment": ({"host": f"{API}#"}, HOST_FIELD, API),
    "a space in the host": ({"host": "https://api.vapi.ai /call"}, HOST_FIELD, API),
    "an invalid host name": ({"host": "https://api..vapi.ai"}, HOST_FIELD, API),
    "an invalid bare host name": ({"host": "api..vapi.ai"}, HOST_FIELD, API),
    "a label that is too long": ({"host": f"https://{'a' * 64}.example.org"}, HOST_FIELD, API),
    # With these, requests would contact another host or send no key.
    "a letter with an umlaut": ({"host": "https://bücher.example"}, HOST_FIELD, API),
    "a capital with an umlaut": ({"host": "https://BÜCHER.example/vapi/"}, HOST_FIELD, API),
    "a bare host with an umlaut": ({"host": "bücher.example"}, HOST_FIELD, API),
    "a sharp s": ({"host": "https://faß.de"}, HOST_FIELD, API),
    "a long s": ({"host": "ſ.example"}, HOST_FIELD, API),
    "an escaped dot": ({"host": "https://api%2eevil.com"}, HOST_FIELD, API),
    "an escaped letter of a bare host": ({"host": "%61pi.vapi.ai"}, HOST_FIELD, API),
    "a backslash": ({"host": r"https://api.vapi.ai\.evil.com"}, HOST_FIELD, API),
    "a backslash of a bare host": ({"host": r"api.vapi.ai\.evil.com"}, HOST_FIELD, API),
    "a semicolon": ({"host": "https://api.vapi.ai;x"}, HOST_FIELD, API),
    "a full-width digit": ({"host": "https://\uff11\uff12\uff17.0.0.1"}, HOST_FIELD, API),
    "a full-width digit without https": ({"host": "http://\uff11\uff12\uff17.0.0.1"}, HOST_FIELD, ""),
    "an ideographic full stop": ({"host": "https://api\u3002vapi.ai"}, HOST_FIELD, API),
    "an Arabic digit": ({"host": "https://api\u0661.example.org"}, HOST_FIELD, API),
    "a negative port": ({"port": -1}, "port", "from 1 to 65535"),
    "too large a port": ({"port": 65_536}, "port", "from 1 to 65535"),
    "a port that is text": ({"port": "many"}, "port", "from 1 to 65535"),
    "extra that is not JSON": ({"extra": SECRET}, "extra", "JSON object"),
    "extra that is a list": ({"extra": f'["{SECRET}"]'}, "extra", "JSON object"),
    "extra that is a number": ({"extra": "5"}, "extra", "JSON object"),
    "an unknown field": ({"extra": json.dumps({"api_key": SECRET})}, "extra", "'api_key'"),
    "an unknown field, named": (
        {"extra": '{"time_out": 5}'},
        "extra",
        "['artifact_hosts', 'max_retries', 'timeout']",
    ),
    **{
        f"timeout {text}": (
            {"extra": f'{{"timeout": {text}}}'},
            "extra field timeout",
            "must be a number from 1 to 75",
        )
        for text in (
            *("0", "-1", "0.25", "0.999", "75.001", "76", "86400", "NaN", "Infinity", "1e999", "true"),
            *("false", "[]", "{}", '"soon"', '"nan"', '"0"', '"86400"'),
        )
    },
    **{
        f"max_retries {text}": (
            {"extra": f'{{"max_retries": {text}}}'},
            "extra field max_retries",
            "must be a whole number from 0 to 10",
        )
        for text in ("-1", "11", "1.5", "NaN", "Infinity", "true", "[]", '"many"', '"1.5"', '"11"')
    },
}


@pytest.mark.parametrize(("fields", "where", "says"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_invalid_connection_error_names_the_field(fields: dict[str, Any], where: str, says: str) -> None:
    conn = make_connection()
    for name, value in fields.items():
        setattr(conn, name, value)
    # Airflow 3.0 drops an id that contains a space.
    conn.conn_id = None
    error = failure(VapiConfigurationError, lambda: read_settings(conn, "my vapi"), secret=SECRET)
    assert str(error).startswith(f"Connection 'my vapi': {where} ")
    assert says in str(error)
    assert str(error).endswith("The request was not sent.")
    assert (error.method, error.path, error.status_code) == (None, None, None)
    # VapiConfigurationError is a ValueError, too.
    assert isinstance(error, ValueError)


def test_connection_of_another_type_is_refused() -> None:
    error = failure(VapiConfigurationError, lambda: settings_of(conn_type="http"))
    assert (
        str(error) == f"Connection {CONN_ID!r}: type is 'http'; it must be 'vapi'. The request was not sent."
    )


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
        ('{"timeout": 1, "max_retries": "1e1"}', 1, 10),
    ],
)
def test_extra_may_be_empty_and_numbers_may_be_strings(
    extra: str | None, timeout: float, max_retries: int
) -> None:
    settings = settings_of(extra=extra)
    assert (settings.timeout, settings.max_retries) == (timeout, max_retries)
    assert isinstance(settings.max_retries, int)


@pytest.mark.parametrize("name", CONN_FIELDS)
def test_parser_and_form_have_the_same_bounds(name: str) -> None:
    schema = CONN_FIELDS[name]["schema"]
    low, high = schema["minimum"], schema["maximum"]
    for value in (low, high):
        assert getattr(settings_of(extra=json.dumps({name: value})), name) == value
    for value in (low - 1, high + 1):
        failure(VapiConfigurationError, lambda value=value: settings_of(extra=json.dumps({name: value})))


@pytest.mark.parametrize(
    ("value", "hosts"),
    [
        (None, set()),
        ("", set()),
        (" , ", set()),
        ("a.example.org", {"a.example.org"}),
        (" A.example.org,b-2.example.org ,", {"a.example.org", "b-2.example.org"}),
        (["a.example.org"], {"a.example.org"}),
    ],
)
def test_artifact_hosts_are_names_with_commas(value: Any, hosts: set[str]) -> None:
    assert settings_of(extra=json.dumps({"artifact_hosts": value})).artifact_hosts == hosts


@pytest.mark.parametrize("value", [5, True, {"a": 1}, [1], "https://a.example.org", "a b", "*.example.org"])
def test_artifact_hosts_that_are_not_names_are_refused(value: Any) -> None:
    error = failure(VapiConfigurationError, lambda: settings_of(extra=json.dumps({"artifact_hosts": value})))
    assert "artifact_hosts must be host names separated by commas" in str(error)


# The base URL.


@pytest.mark.parametrize(
    ("host", "base_url"),
    [
        (None, API),
        ("", API),
        (" ", API),
        (f"  {API}/ ", API),
        ("HTTPS://api.vapi.ai", API),
        (f"{GATEWAY}/vapi/", f"{GATEWAY}/vapi"),
        (f"{GATEWAY}:8443", f"{GATEWAY}:8443"),
        ("api.vapi.ai", API),
        ("api.vapi.ai/", API),
        ("api.eu.vapi.ai", EU),
        (" api.eu.vapi.ai ", EU),
        (EU, EU),
        ("gateway.example.org:8443", f"{GATEWAY}:8443"),
        ("gateway.example.org/vapi", f"{GATEWAY}/vapi"),
        ("https://a_b-c.example.org", "https://a_b-c.example.org"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        # No scheme means https, even for this machine.
        ("localhost:8080", "https://localhost:8080"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.1.2.3", "http://127.1.2.3"),
        ("http://LocalHost:8080", "http://LocalHost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_host_is_the_base_url(host: str | None, base_url: str) -> None:
    assert settings_of(host=host).base_url == base_url


@pytest.mark.parametrize(
    ("host", "port", "base_url"),
    [
        (None, None, API),
        (None, 0, API),
        (None, 8443, f"{API}:8443"),
        ("api.eu.vapi.ai", 443, f"{EU}:443"),
        ("api.eu.vapi.ai", 8443, f"{EU}:8443"),
        (f"{GATEWAY}/vapi", 8443, f"{GATEWAY}:8443/vapi"),
        ("gateway.example.org:", 8443, f"{GATEWAY}:8443"),
        # The host has a port.
        (f"{GATEWAY}:9443", 8443, f"{GATEWAY}:9443"),
        ("gateway.example.org:9443", 8443, f"{GATEWAY}:9443"),
        ("http://[::1]", 8080, "http://[::1]:8080"),
        ("http://127.0.0.1", 8080, "http://127.0.0.1:8080"),
    ],
)
def test_port_applies_if_the_host_has_none(host: str | None, port: int | None, base_url: str) -> None:
    assert settings_of(host=host, port=port).base_url == base_url


@pytest.mark.parametrize(
    ("host", "url"),
    [
        (None, "https://dashboard.vapi.ai/calls/{}"),
        ("https://API.vapi.ai", "https://dashboard.vapi.ai/calls/{}"),
        ("https://api.vapi.ai:443/v1", "https://dashboard.vapi.ai/calls/{}"),
        ("api.eu.vapi.ai", "https://dashboard.eu.vapi.ai/calls/{}"),
        ("https://api.eu.vapi.ai/", "https://dashboard.eu.vapi.ai/calls/{}"),
        # A proxy's host name does not reveal the region.
        (f"{GATEWAY}:8443/vapi", "https://dashboard.vapi.ai/calls/{}"),
        ("https://api.example.org", "https://dashboard.vapi.ai/calls/{}"),
        ("https://api.eu.vapi.ai.example.org", "https://dashboard.vapi.ai/calls/{}"),
        ("https://api.evil-vapi.ai", "https://dashboard.vapi.ai/calls/{}"),
        ("https://vapi.ai", "https://dashboard.vapi.ai/calls/{}"),
        # The simulator's own page.
        ("http://127.0.0.1:4010", "http://127.0.0.1:4010/calls/{}"),
        ("http://localhost:4010/", "http://localhost:4010/calls/{}"),
        ("http://[::1]:4010", "http://[::1]:4010/calls/{}"),
    ],
)
def test_dashboard_url_follows_the_base_url(host: str | None, url: str) -> None:
    assert settings_of(host=host).dashboard_url(CALL_ID) == url.format(CALL_ID)


# The rest.


def test_whitespace_around_the_key_is_removed() -> None:
    assert settings_of(password=f" {KEY}\n").api_key == KEY


def test_repr_does_not_contain_the_key() -> None:
    assert KEY not in f"{settings_of()!r} {settings_of()}"


def test_settings_are_read_without_airflow() -> None:
    """On Airflow 3.0 and 3.1, calling Airflow from a triggerer's thread is an error."""

    class Guarded(Connection):
        @property
        def extra_dejson(self) -> dict[str, Any]:
            raise AssertionError("this property makes Airflow mask secrets")

        @classmethod
        def get(cls, conn_id: str) -> Any:
            raise AssertionError("this makes Airflow look up a connection")

    conn = Guarded(conn_id="unknown", conn_type="vapi", password=KEY, extra='{"timeout": 3}')
    settings = read_settings(conn)
    assert (settings.label, settings.timeout) == ("connection 'unknown'", 3)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, (30, 4, float("inf"))),
        ({"timeout": 10}, (10, 4, float("inf"))),
        ({"timeout": 31}, (30, 4, float("inf"))),
        ({"max_retries": 0}, (30, 0, float("inf"))),
        ({"max_retries": 5}, (30, 4, float("inf"))),
        ({"max_response_bytes": 1000}, (30, 4, 1000)),
    ],
    ids=str,
)
def test_limits_can_only_be_tightened(limits: dict[str, Any], expected: tuple[float, ...]) -> None:
    settings = settings_of()
    limited = settings.limited(**limits)
    assert (limited.timeout, limited.max_retries, limited.max_response_bytes) == expected
    assert (limited.base_url, limited.api_key, limited.label) == (API, KEY, settings.label)
    # Two limits keep the tighter one.
    assert limited.limited(max_response_bytes=2000).max_response_bytes == min(2000, expected[2])
