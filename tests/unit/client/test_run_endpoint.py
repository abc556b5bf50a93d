# SPDX-License-Identifier: Apache-2.0
"""``run``: any other endpoint, with the key, the limits and the errors, and without blind retries."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any

import pytest
import requests_mock
from case_tables import in_turn, row_and_diagonal
from http_helpers import API, CONN_ID, KEY, client_of, failure, make_client, vapi_error

from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiCallNotFoundError,
    VapiConcurrencyLimitError,
    VapiConfigurationError,
    VapiError,
    VapiPermanentError,
    VapiRateLimitError,
    VapiTransientError,
)
from vapi_provider.simulator import Fault, VapiSimulator

URL = f"{API}/assistant"
HTML = "<html><head><title>502 Bad Gateway</title></head></html>"
MAY_HAVE = "may have taken effect; check before you send it again"
WRITES = ["POST", "PATCH", "PUT", "DELETE"]
EACH_WRITE = pytest.mark.parametrize("method", WRITES)


@pytest.mark.parametrize("method", ["GET", *WRITES, "get", "Patch"])
def test_request_has_key_query_body_and_limit(api: requests_mock.Mocker, method: str) -> None:
    api.register_uri(requests_mock.ANY, URL, json=[{"id": "x"}])
    body = {"name": "Grüße", "n": [1, None, 2.5]}
    result = make_client(timeout=7).run(method, "/assistant", params={"limit": 2, "a": "b c"}, json=body)
    assert result == [{"id": "x"}]
    [request] = api.request_history
    assert request.method == method.upper()
    assert request.url == f"{URL}?limit=2&a=b+c"
    assert request.json() == body
    assert request.timeout == pytest.approx(7, abs=0.01)
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["User-Agent"].startswith("airflow-provider-vapi/")


def test_request_without_body_sends_none(api: requests_mock.Mocker) -> None:
    api.get(URL, json=[])
    assert make_client().run("GET", "/assistant") == []
    assert (api.last_request.body, api.last_request.url) == (None, URL)


@pytest.mark.parametrize(
    ("value", "method"), in_turn([{"a": [1]}, [], {}, "text", 7, 1.5, True, None], ["GET", "POST"])
)
def test_parsed_json_is_returned(api: requests_mock.Mocker, method: str, value: Any) -> None:
    api.register_uri(method, URL, text=json.dumps(value))
    assert make_client().run(method, "/assistant") == value
    assert api.call_count == 1


@pytest.mark.parametrize(
    "response", [{"status_code": 204}, {"text": ""}, {"text": " \r\n", "status_code": 202}], ids=str
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_empty_2xx_is_none(api: requests_mock.Mocker, method: str, response: dict[str, Any]) -> None:
    api.register_uri(method, URL, **response)
    assert make_client().run(method, "/assistant") is None
    assert api.call_count == 1


def test_echoed_key_is_masked_in_the_result(api: requests_mock.Mocker) -> None:
    api.get(URL, json=[{"server": {"headers": {"Authorization": f"Bearer {KEY}"}}}])
    assert make_client().run("GET", "/assistant") == [
        {"server": {"headers": {"Authorization": "Bearer ***"}}}
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/assistant",
        "/assistant/019a7c2e-5f00-7000-8000-0000000000aa",
        "/phone-number",
        "/call",
        "/eval/run",
        "/x.y/a_b~c/@me",
        "/callers",
    ],
)
def test_plain_paths_are_sent_unchanged(api: requests_mock.Mocker, path: str) -> None:
    api.get(requests_mock.ANY, json=[])
    make_client("https://gateway.example.org/vapi").run("GET", path)
    assert api.last_request.url == f"https://gateway.example.org/vapi{path}"


# Refused before any request.


BAD_PATHS = [
    None,
    7,
    b"/assistant",
    ["/assistant"],
    "",
    " ",
    "/",
    "assistant",
    " /assistant",
    "/assistant ",
    "/assistant\n",
    "/a b",
    "/assistant/",
    "/a//b",
    "//evil.example",
    "//evil.example/assistant",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "http://evil.example/assistant",
    f"{API}/assistant",
    "@evil.example/assistant",
    ":80/assistant",
    ".evil.example/assistant",
    "/..",
    "/.",
    "/../assistant",
    "/a/../b",
    "/a/./b",
    "/a/..",
    "/.hidden",
    "/..%2fassistant",
    "/%2e%2e/assistant",
    "/a%2fb",
    "/a%20b",
    "/%63all",
    "/assistant?limit=1",
    "/assistant?",
    "/assistant#x",
    "/assistant;x=y",
    "/assistänt",
    "/assistant/\u2025/x",
    "/assistant\x00",
    "/{{ params.id }}",
]


@pytest.mark.parametrize(("path", "method"), in_turn(BAD_PATHS, ["GET", "DELETE"]))
def test_bad_paths_are_refused(api: requests_mock.Mocker, method: str, path: Any) -> None:
    api.register_uri(requests_mock.ANY, requests_mock.ANY, json=[])
    error = failure(VapiConfigurationError, lambda: make_client().run(method, path))
    assert str(error).startswith("path must be a plain path of the API")
    assert "Nothing was sent" in str(error)
    assert not api.called


BAD_QUERIES: dict[str, tuple[Any, str]] = {
    "text": ("limit=1", "params must be a mapping; got str."),
    "empty text": ("", "params must be a mapping; got str."),
    "a lone surrogate": ("\ud800", "params must be a mapping; got str."),
    "bytes": (b"limit=1", "params must be a mapping; got bytes."),
    "pairs": ([("limit", 1)], "params must be a mapping; got list."),
    "a list": ([1, 2], "params must be a mapping; got list."),
    "an iterator": ((pair for pair in [("limit", 1)]), "params must be a mapping; got generator."),
    "a number": (5, "params must be a mapping; got int."),
    "zero": (0, "params must be a mapping; got int."),
    "a boolean": (False, "params must be a mapping; got bool."),
    "NaN": ({"limit": math.nan}, "cannot be written as JSON"),
    "an instant": ({"at": datetime(2026, 8, 1, tzinfo=timezone.utc)}, "cannot be written as JSON"),
    "an object": ({"x": object()}, "cannot be written as JSON"),
    "a tuple as a key": ({(1, 2): "x"}, "cannot be written as JSON"),
    **{
        f"half a character in a {where}": (query, "contains a lone surrogate")
        for where, query in {
            "value": {"a": "x\ud800"},
            "name": {"\udfff": 1},
            "list": {"a": ["\ud800"]},
        }.items()
    },
}


@pytest.mark.parametrize(("params", "says", "method"), in_turn(BAD_QUERIES, ["GET", *WRITES]))
def test_bad_queries_are_refused(
    api: requests_mock.Mocker, naps: list[float], method: str, params: Any, says: str
) -> None:
    api.register_uri(requests_mock.ANY, requests_mock.ANY, json=[])
    error = failure(VapiConfigurationError, lambda: make_client().run(method, "/assistant", params=params))
    assert says in str(error)
    assert str(error).endswith("Nothing was sent.")
    assert (api.called, naps) == (False, [])


@pytest.mark.parametrize("params", [{}, None, {"limit": 2}, {"a": ["x", "y"]}, {"a": None}], ids=repr)
def test_query_may_be_any_mapping(api: requests_mock.Mocker, params: Any) -> None:
    api.get(URL, json=[])
    assert make_client().run("GET", "/assistant", params=params and MappingProxyType(params)) == []
    expected = {name: value for name, value in (params or {}).items() if value is not None}
    assert api.last_request.qs == {
        name: [str(each) for each in (value if isinstance(value, list) else [value])]
        for name, value in expected.items()
    }


@pytest.mark.parametrize(
    ("path", "method"),
    in_turn(["/call", "/CALL", "/Call", "/call/phone", "/call/web", "/call/x/y"], ["POST", "post"]),
)
def test_placing_a_call_is_refused(api: requests_mock.Mocker, method: str, path: str) -> None:
    api.register_uri(requests_mock.ANY, requests_mock.ANY, json=[])
    error = failure(VapiConfigurationError, lambda: make_client().run(method, path, json={"a": "b"}))
    assert str(error).startswith(f"POST {path} would place a call")
    assert "create_call" in str(error)
    assert "Nothing was sent" in str(error)
    assert not api.called


@pytest.mark.parametrize(
    "path", ["/call/", "//call", "/call//", "/call?x=y", "/%63all", "/./call", "/x/../call"]
)
def test_disguised_call_path_is_refused(api: requests_mock.Mocker, path: str) -> None:
    api.register_uri(requests_mock.ANY, requests_mock.ANY, json=[])
    failure(VapiConfigurationError, lambda: make_client().run("POST", path, json={"a": "b"}))
    assert not api.called


@pytest.mark.parametrize(
    "method", [None, "", "HEAD", "OPTIONS", "TRACE", "CONNECT", " GET", "GET\r\n", "FETCH", 7, b"GET"]
)
def test_other_methods_are_refused(api: requests_mock.Mocker, method: Any) -> None:
    error = failure(VapiConfigurationError, lambda: make_client().run(method, "/assistant"))
    assert str(error).startswith("method must be one of GET, POST, PATCH, PUT, DELETE; got ")
    assert "Nothing was sent" in str(error)
    assert not api.called


ENDLESS: dict[str, Any] = {}
ENDLESS["itself"] = ENDLESS


BAD_BODIES: dict[str, Any] = {
    "NaN": {"n": math.nan},
    "infinity": [math.inf],
    "datetime": {"at": datetime.now(timezone.utc)},
    "set": {"a": {1, 2}},
    "bytes": b"{}",
    "tuple key": {(1, 2): 3},
    "mapping": MappingProxyType({"a": "hush-hush"}),
    "endless": ENDLESS,
}


@pytest.mark.parametrize(("body", "method"), in_turn(BAD_BODIES, ["GET", "POST"]))
def test_body_that_is_not_json_is_refused(api: requests_mock.Mocker, method: str, body: Any) -> None:
    error = failure(VapiConfigurationError, lambda: make_client().run(method, "/assistant", json=body))
    assert str(error).startswith(f"The body for {method} /assistant cannot be written as JSON")
    assert "Nothing was sent" in str(error)
    assert "hush-hush" not in str(error)
    assert not api.called


# Retries.


@pytest.mark.parametrize(
    "response",
    [
        {"status_code": 503},
        {"status_code": 429},
        {"exc": ConnectionResetError},
        {"text": HTML},
        {"text": "{"},
    ],
    ids=str,
)
def test_get_is_retried(api: requests_mock.Mocker, naps: list[float], response: dict[str, Any]) -> None:
    api.get(URL, [response, response, {"json": [1]}])
    assert make_client(max_retries=2).run("GET", "/assistant") == [1]
    assert (api.call_count, len(naps)) == (3, 2)


@pytest.mark.parametrize("response", [{"status_code": 503}, {"text": HTML}], ids=str)
def test_get_that_fails_to_the_end_is_transient(api: requests_mock.Mocker, response: dict[str, Any]) -> None:
    api.get(URL, **response)
    error = failure(VapiTransientError, lambda: make_client(max_retries=1).run("GET", "/assistant"))
    assert str(error).startswith("GET /assistant returned ")
    assert MAY_HAVE not in str(error)
    assert api.call_count == 2


LOST: dict[str, tuple[dict[str, Any], int | None]] = {
    **{f"{status}": ({"status_code": status}, status) for status in (408, 425, 500, 502, 503, 504, 524)},
    "503 that asks for a pause": ({"status_code": 503, "headers": {"Retry-After": "1"}}, 503),
    "302": ({"status_code": 302, "headers": {"Location": "/x"}}, 302),
    "403 in HTML": ({"status_code": 403, "text": HTML}, 403),
    "404 in HTML": ({"status_code": 404, "text": HTML}, 404),
    "reset": ({"exc": ConnectionResetError}, None),
    "time-out": ({"exc": TimeoutError}, None),
    "200 in HTML": ({"text": HTML}, 200),
    "201 that is cut off": ({"status_code": 201, "text": '{"id": "x"'}, 201),
}


@pytest.mark.parametrize(("response", "status", "method"), row_and_diagonal(LOST, WRITES))
def test_lost_response_to_a_write_is_permanent(
    api: requests_mock.Mocker, naps: list[float], method: str, response: dict[str, Any], status: int | None
) -> None:
    api.register_uri(method, URL, **response)
    error = failure(VapiPermanentError, lambda: make_client().run(method, "/assistant", json={"a": "b"}))
    assert str(error).startswith(f"{method} /assistant ")
    assert MAY_HAVE in str(error)
    assert (error.status_code, error.method, error.path) == (status, method, "/assistant")
    assert not error.had_no_effect
    assert (api.call_count, naps) == (1, [])


@EACH_WRITE
def test_write_that_was_never_sent_is_transient(naps: list[float], method: str) -> None:
    with VapiSimulator() as simulator:
        client = client_of(simulator)
    error = failure(VapiTransientError, lambda: client.run(method, "/assistant", json={}))
    assert "the connection was refused" in str(error)
    assert MAY_HAVE not in str(error)
    assert (error.had_no_effect, error.is_repeatable, naps) == (True, True, [])


@EACH_WRITE
def test_429_to_a_write_is_transient(api: requests_mock.Mocker, naps: list[float], method: str) -> None:
    api.register_uri(method, URL, status_code=429, headers={"Retry-After": "7"})
    error = failure(VapiRateLimitError, lambda: make_client().run(method, "/assistant", json={}))
    assert MAY_HAVE not in str(error)
    assert (error.had_no_effect, error.retry_after) == (True, 7)
    assert (api.call_count, naps) == (1, [])


@EACH_WRITE
@pytest.mark.parametrize("effect", [False, True])
def test_write_arrives_once(simulator: VapiSimulator, method: str, effect: bool) -> None:
    simulator.faults.add(Fault(status=502, times=None, effect=effect))
    client = client_of(simulator)
    failure(VapiPermanentError, lambda: client.run(method, "/assistant", json={}), secret=simulator.api_key)
    assert [(request.method, request.path) for request in simulator.requests] == [(method, "/assistant")]


# Errors.


REFUSALS: dict[str, tuple[int, str, type[VapiError], str]] = {
    "400": (400, vapi_error(400, ["name must be a string"]), VapiPermanentError, "name must be a string"),
    "400 of a gateway": (400, '{"message": "bad request"}', VapiPermanentError, "bad request"),
    "401": (401, vapi_error(401, "Invalid Key"), VapiAuthenticationError, CONN_ID),
    "403": (403, vapi_error(403, "Forbidden"), VapiAuthenticationError, "lacks the permission"),
    "404": (404, vapi_error(404, "No such assistant"), VapiPermanentError, "No such assistant"),
    "409": (409, vapi_error(409, "Conflict"), VapiPermanentError, "Conflict"),
    "422": (422, vapi_error(422, "Unprocessable"), VapiPermanentError, "Unprocessable"),
    "the limit": (400, '{"error": "Over Concurrency Limit"}', VapiConcurrencyLimitError, "concurrency limit"),
}


@pytest.mark.parametrize(
    ("status", "body", "kind", "says", "method"), row_and_diagonal(REFUSALS, ["GET", *WRITES])
)
def test_refusals_have_the_class_of_other_methods(
    api: requests_mock.Mocker,
    naps: list[float],
    method: str,
    status: int,
    body: str,
    kind: type[VapiError],
    says: str,
) -> None:
    api.register_uri(method, URL, status_code=status, text=body)
    error = failure(kind, lambda: make_client().run(method, "/assistant"))
    assert str(error).startswith(f"{method} /assistant returned {status}")
    assert says in str(error)
    assert MAY_HAVE not in str(error)
    assert (error.status_code, error.method, error.path) == (status, method, "/assistant")
    assert (api.call_count, naps) == (1, [])


def test_404_of_a_call_is_call_not_found(simulator: VapiSimulator) -> None:
    path = "/call/019a7c2e-5f00-7000-8000-0000000000aa"
    for method in ("GET", "PATCH", "DELETE"):
        failure(
            VapiCallNotFoundError,
            lambda method=method: client_of(simulator).run(
                method, path, json={} if method != "PATCH" else {"name": "x"}
            ),
            secret=simulator.api_key,
        )


def test_errors_do_not_contain_the_requests_body(api: requests_mock.Mocker) -> None:
    # Not a literal: a traceback shows this file.
    secret = "-".join(["hush"] * 3)
    for response in ({"status_code": 503}, {"exc": ConnectionResetError}, {"text": HTML}):
        api.post(URL, **response)
        failure(
            VapiPermanentError,
            lambda: make_client().run("POST", "/assistant", json={"secret": secret}),
            secret=secret,
        )
