# SPDX-License-Identifier: Apache-2.0
"""Which error a response raises, what its message says, and what it must not contain."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from case_tables import in_turn
from http_helpers import (
    API,
    CALL,
    CALL_ID,
    CALL_URL,
    CONN_ID,
    KEY,
    OTHER_ID,
    PATH,
    RawServer,
    client_of,
    failure,
    make_client,
    respond_with,
    response_bytes,
    vapi_error,
)

from airflow.providers.common.compat.sdk import AirflowFailException
from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiCallNotFoundError,
    VapiError,
    VapiPermanentError,
    VapiRateLimitError,
    VapiTransientError,
)
from vapi_provider.simulator import Fault, VapiSimulator

if TYPE_CHECKING:
    import requests_mock

    from vapi_provider.client.client import VapiClient

HTML = "<html><head><title>502 Bad Gateway</title></head><body><h1>Bad gateway</h1></body></html>"
KEYS_PAGE = "https://dashboard.vapi.ai/org/api-keys"


REFUSALS: dict[str, tuple[int, str, type[VapiError], list[str]]] = {
    "400 with a message": (400, vapi_error(400, "name is odd"), VapiPermanentError, ["name is odd."]),
    "400 with a list of messages": (
        400,
        vapi_error(400, ["property x should not exist", "name must be a string"]),
        VapiPermanentError,
        ["property x should not exist; name must be a string."],
    ),
    "400 with a list of objects": (
        400,
        vapi_error(400, [{"property": "name"}]),
        VapiPermanentError,
        ["400"],
    ),
    "400 with an empty list": (400, vapi_error(400, []), VapiPermanentError, ["400"]),
    "400 without a body": (400, "", VapiPermanentError, ["400"]),
    "400 in another shape": (400, '{"oops": true}', VapiPermanentError, ["400"]),
    "400 nested too deep to read": (400, "[" * 100_000, VapiPermanentError, ["400"]),
    "401": (
        401,
        vapi_error(401, "Invalid Key"),
        VapiAuthenticationError,
        ["Invalid Key.", "Replace the API key", KEYS_PAGE, CONN_ID],
    ),
    "401 as plain text": (401, "no", VapiAuthenticationError, ["Replace the API key", KEYS_PAGE, CONN_ID]),
    "402": (402, vapi_error(402, "Out of credits!"), VapiPermanentError, ["Out of credits!"]),
    "403": (
        403,
        vapi_error(403, "Forbidden"),
        VapiAuthenticationError,
        ["lacks the permission", "private key, not the public one", KEYS_PAGE, CONN_ID],
    ),
    "403 as HTML": (
        403,
        "<html><head><title>Sign in &mdash; Proxy</title>",
        VapiTransientError,
        ["not Vapi's own", CONN_ID, "prox"],
    ),
    "403 of Cloudflare": (
        403,
        "error code: 1010",
        VapiTransientError,
        ["Cloudflare", "User-Agent", "the API key is not the cause"],
    ),
    "404": (
        404,
        vapi_error(404, "No such call"),
        VapiCallNotFoundError,
        ["No such call.", "Check the call id", "organization", CONN_ID],
    ),
    "404 as HTML": (
        404,
        "<html><title>Not here</title>",
        VapiTransientError,
        ["Not here", "not Vapi's own", CONN_ID],
    ),
    "404 of Vapi without the status": (
        404,
        '{"message": "No such call", "error": "Not Found"}',
        VapiCallNotFoundError,
        ["No such call.", CONN_ID],
    ),
    "404 of a gateway": (
        404,
        '{"message": "no Route matched with those values"}',
        VapiTransientError,
        ["not Vapi's own", CONN_ID],
    ),
    "403 of a gateway": (
        403,
        '{"message": "Forbidden"}',
        VapiTransientError,
        ["not Vapi's own", CONN_ID],
    ),
    "404 in another JSON": (404, '{"error": "x"}', VapiTransientError, ["not Vapi's own", CONN_ID]),
    "404 that says another status": (
        404,
        vapi_error(200, "x"),
        VapiTransientError,
        ["not Vapi's own", CONN_ID],
    ),
    "404 without a body": (404, "", VapiTransientError, ["not Vapi's own", CONN_ID]),
    "405": (405, "Method Not Allowed", VapiPermanentError, ["Method Not Allowed"]),
    "409": (409, vapi_error(409, "Conflict"), VapiPermanentError, ["Conflict."]),
    "422": (422, vapi_error(422, ["name is too long"]), VapiPermanentError, ["name is too long"]),
    "429": (
        429,
        vapi_error(429, "Rate limit exceeded"),
        VapiRateLimitError,
        ["Rate limit exceeded.", "rate limit", "poll less often", "max_active_tis_per_dag"],
    ),
    "429 as HTML": (429, HTML, VapiRateLimitError, ["rate limit", "poll less often"]),
    **{
        f"{status} as HTML": (status, HTML, VapiTransientError, ["502 Bad Gateway", "later try"])
        for status in (500, 501, 502, 503, 504, 520, 521, 522, 523, 524, 529, 599)
    },
    "500 in the shape of Vapi": (500, vapi_error(500, "Oh"), VapiTransientError, ["Oh.", "later try"]),
    "408": (408, "", VapiTransientError, ["later try"]),
    "425": (425, "", VapiTransientError, ["later try"]),
}


@pytest.mark.parametrize(("status", "body", "kind", "says", "method"), in_turn(REFUSALS, ["GET", "PATCH"]))
def test_refusals_have_the_right_class_and_advice(
    api: requests_mock.Mocker, method: str, status: int, body: str, kind: type[VapiError], says: list[str]
) -> None:
    api.register_uri(method, CALL_URL, status_code=status, text=body)
    client = make_client(max_retries=0)
    error = failure(
        kind,
        lambda: client.get_call(CALL_ID) if method == "GET" else client.update_call(CALL_ID, name="Reminder"),
    )
    assert str(error).startswith(f"{method} {PATH} returned {status}")
    for words in says:
        assert words in str(error)
    assert "<" not in str(error)
    assert (error.status_code, error.method, error.path) == (status, method, PATH)
    # Airflow fails at once, or retries.
    assert isinstance(error, AirflowFailException) is issubclass(kind, VapiPermanentError)
    assert api.call_count == 1


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, vapi_error(401, "Invalid Key"), VapiAuthenticationError),
        (404, vapi_error(404, "Cannot GET /call"), VapiPermanentError),
        (404, HTML, VapiTransientError),
        (400, vapi_error(400, ["limit must not be greater than 1000"]), VapiPermanentError),
    ],
)
def test_refused_list_is_not_an_empty_list(
    api: requests_mock.Mocker, status: int, body: str, kind: type[VapiError]
) -> None:
    api.get(f"{API}/call", status_code=status, text=body)
    error = failure(kind, lambda: list(make_client(max_retries=0).list_calls({}, 100)))
    assert (error.status_code, error.method, error.path) == (status, "GET", "/call")


REQUESTS: dict[str, Callable[[VapiClient], Any]] = {
    "GET /v1/call": lambda client: client.list_page({}),
    "POST /v1/call": lambda client: client.create_call({"name": "Reminder"}),
    f"GET /v1{PATH}": lambda client: client.get_call(CALL_ID),
    f"PATCH /v1{PATH}": lambda client: client.update_call(CALL_ID, name="Reminder"),
    f"DELETE /v1{PATH}": lambda client: client.erase_call(CALL_ID),
    "GET /v1/assistant": lambda client: client.run("GET", "/assistant"),
}


@pytest.mark.parametrize(("sent", "send"), REQUESTS.items(), ids=REQUESTS)
def test_base_url_with_a_path_is_the_advice(
    simulator: VapiSimulator, sent: str, send: Callable[[VapiClient], Any]
) -> None:
    client = make_client(f"{simulator.url}/v1", password=simulator.api_key)
    error = failure(VapiPermanentError, lambda: send(client))
    says = f"Cannot {sent}. API base URL (host) of connection '{CONN_ID}' should have no path such as /v1."
    assert says in str(error)
    assert len(simulator.requests) == 1


def test_unknown_endpoint_is_reported(simulator: VapiSimulator) -> None:
    error = failure(VapiPermanentError, lambda: client_of(simulator).run("GET", "/asistant"))
    assert "There is no such endpoint; check the path and the API base URL (host) of" in str(error)


@pytest.mark.parametrize("status", [401, 403])
def test_advice_links_to_the_dashboard_of_the_region(api: requests_mock.Mocker, status: int) -> None:
    api.get(f"https://api.eu.vapi.ai{PATH}", status_code=status, text=vapi_error(status, "No"))
    error = failure(VapiAuthenticationError, lambda: make_client("api.eu.vapi.ai").get_call(CALL_ID))
    assert "https://dashboard.eu.vapi.ai/org/api-keys" in str(error)


def test_detail_is_the_message_of_vapi(api: requests_mock.Mocker) -> None:
    api.get(CALL_URL, status_code=400, text=vapi_error(400, ["a", "b"]))
    assert failure(VapiPermanentError, lambda: make_client().get_call(CALL_ID)).detail == "a; b"
    api.get(CALL_URL, status_code=400, text="")
    assert failure(VapiPermanentError, lambda: make_client().get_call(CALL_ID)).detail is None


def test_simulator_refuses_with_the_same_classes(simulator: VapiSimulator) -> None:
    client = client_of(simulator)
    failure(VapiCallNotFoundError, lambda: client.get_call(OTHER_ID))
    failure(VapiCallNotFoundError, lambda: client.update_call(OTHER_ID, name="Reminder"))
    failure(VapiAuthenticationError, lambda: make_client(simulator.url).get_call(OTHER_ID))


# The key, echoed by a server.

# Any printable ASCII may be in a key.
ODD_KEY = 'k"e\\y/+&=%<~>'

ECHOES: dict[str, Callable[[str], str]] = {
    "in Vapi's message": lambda key: vapi_error(400, f"Invalid key {key}"),
    "in a list of messages": lambda key: vapi_error(400, ["x", f"key {key} is unknown"]),
    "in plain text": lambda key: f"your request: Authorization: Bearer {key}",
    "in a title": lambda key: f"<html><title>Bearer {key}</title>",
    "quoted for a URL": lambda key: f"see /login?token={quote(key, safe='')}&x",
    "twice": lambda key: f"{key}{key}",
}


KEYS = {"plain key": KEY, "odd key": ODD_KEY}
ECHOED = {f"{name} {what}": (key, echo) for name, key in KEYS.items() for what, echo in ECHOES.items()}


@pytest.mark.parametrize(("key", "echo", "status"), in_turn(ECHOED, [400, 401, 403, 404, 409, 429, 502]))
def test_echoed_key_is_masked_in_errors(
    api: requests_mock.Mocker, status: int, key: str, echo: Callable[[str], str]
) -> None:
    body = echo(key).replace('"statusCode": 400', f'"statusCode": {status}')
    api.get(CALL_URL, status_code=status, text=body)
    with pytest.raises(VapiError) as caught:
        make_client(password=key, max_retries=0).get_call(CALL_ID)
    kind = next(k for k in type(caught.value).__mro__ if k.__module__ == "vapi_provider.exceptions")
    error = failure(kind, lambda: make_client(password=key, max_retries=0).get_call(CALL_ID), secret=key)
    assert "***" in (error.detail or "")
    assert quote(key, safe="") not in str(error)
    assert json.dumps(key)[1:-1] not in str(error)


def test_echoed_key_is_masked_in_calls(api: requests_mock.Mocker) -> None:
    api.get(CALL_URL, json={**CALL, "name": f"as {KEY}", "metadata": {KEY: [KEY]}})
    call = make_client().get_call(CALL_ID)
    assert call.name == "as ***"
    assert KEY not in str(call.model_dump())


def test_message_parts_that_are_not_text_are_not_shown(api: requests_mock.Mocker) -> None:
    api.get(
        CALL_URL, status_code=400, text=vapi_error(400, [{"target": {"secret": "hush-hush"}}, "name is odd"])
    )
    error = failure(VapiPermanentError, lambda: make_client().get_call(CALL_ID))
    assert error.detail == "name is odd"


def test_key_is_masked_before_a_long_text_is_cut(api: requests_mock.Mocker) -> None:
    # A key across every length at which a text may be cut.
    for before in [*range(450, 520), *range(960, 1040), *range(1950, 2050), *range(4060, 4100)]:
        api.get(CALL_URL, status_code=409, text="x" * before + KEY + "y" * 5000)
        error = failure(VapiPermanentError, lambda: make_client().get_call(CALL_ID))
        assert len(str(error)) < 800, f"a key after {before} characters"
        assert KEY[:6] not in str(error), f"a key after {before} characters"


def test_two_megabytes_of_text_are_cut(api: requests_mock.Mocker) -> None:
    api.get(CALL_URL, status_code=409, text="é" * 490 + KEY + "z" * 2_000_000)
    error = failure(VapiPermanentError, lambda: make_client().get_call(CALL_ID))
    assert len(str(error)) < 800
    assert "é***z" in str(error)
    assert KEY[:8] not in str(error)


@pytest.mark.parametrize("message", ["m" * 5000, ["m" * 200] * 100])
def test_long_messages_are_cut(api: requests_mock.Mocker, message: Any) -> None:
    api.get(CALL_URL, status_code=400, text=vapi_error(400, message))
    error = failure(VapiPermanentError, lambda: make_client().get_call(CALL_ID))
    assert 500 < len(str(error)) < 800


@pytest.mark.parametrize("text", ["a\x00b\x1b[31mc\r\nd\x7fe\x85f\u2028g", "\ud800 half \udfff"])
@pytest.mark.parametrize("in_vapis_shape", [True, False])
def test_control_characters_are_removed(api: requests_mock.Mocker, text: str, in_vapis_shape: bool) -> None:
    body = vapi_error(400, text).encode() if in_vapis_shape else text.encode("utf-8", "surrogatepass")
    api.get(CALL_URL, status_code=400, content=body)
    error = failure(VapiPermanentError, lambda: make_client().get_call(CALL_ID))
    str(error).encode("utf-8")
    assert "\n" not in str(error)
    assert [char for char in str(error) if not char.isprintable()] == []


# Redirects.


@pytest.mark.parametrize(("status", "method"), in_turn([301, 302, 303, 307, 308], ["GET", "PATCH"]))
def test_redirects_are_never_followed(
    simulator: VapiSimulator, raw_server: Callable[..., RawServer], method: str, status: int
) -> None:
    other = raw_server(respond_with(response_bytes(json.dumps(CALL).encode())))
    location = f"{other.url}/signed?signature=hush-hush#hush-hush"
    simulator.faults.add(Fault(status=status, headers={"Location": location}, times=None))
    client = client_of(simulator)
    error = failure(
        VapiTransientError,
        lambda: client.get_call(CALL_ID) if method == "GET" else client.update_call(CALL_ID, name="Reminder"),
        secret=simulator.api_key,
    )
    assert str(error).startswith(f"{method} {PATH} returned {status}")
    assert "Redirects are not followed" in str(error)
    assert "http://127.0.0.1" in str(error)
    assert CONN_ID in str(error)
    assert "hush-hush" not in str(error)
    assert len(simulator.requests) == 1
    assert other.heads == []


@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        "/login",
        "//",
        "http://[",
        "https://exa mple.org/",
        "https://example.org:port/",
        "/caf\xe9",
        "https://user:hush-hush@example.org/",
        "mailto:someone",
        f"https://{KEY}.example.org/{KEY}",
        f"https://example.org/{'x' * 5000}",
    ],
)
def test_malformed_redirects_are_transient_errors(
    raw_server: Callable[..., RawServer], location: str | None
) -> None:
    header = "" if location is None else f"Location: {location}\r\n"
    head = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n{header}Connection: close\r\n\r\n"
    server = raw_server(respond_with(head.encode("latin-1")))
    error = failure(VapiTransientError, lambda: make_client(server.url, max_retries=0).get_call(CALL_ID))
    assert "returned 302" in str(error)
    assert "Redirects are not followed" in str(error)
    assert "hush-hush" not in str(error)
    assert len(str(error)) < 500


# A 2xx that the endpoint never returns.


UNREADABLE = {
    "null": ("null", "in place of a call"),
    "a string": ('"call"', "in place of a call"),
    "a number": ("7", "in place of a call"),
    "true": ("true", "in place of a call"),
    "a list": (f"[{json.dumps(CALL)}]", "a list in place of a call"),
    "an empty list": ("[]", "a list in place of a call"),
    "an empty object": ("{}", "without an id"),
    "an error under a 200": (vapi_error(500, "Oh"), "without an id"),
    "an id that is null": ('{"id": null}', "without an id"),
    "an id that is a number": ('{"id": 7}', "without an id"),
    "an empty id": ('{"id": " "}', "without an id"),
    "another call": (json.dumps({**CALL, "id": OTHER_ID}), "another call"),
}


@pytest.mark.parametrize(("body", "says", "method"), in_turn(UNREADABLE, ["GET", "PATCH"]))
def test_wrong_json_is_an_error_and_not_repeated(
    api: requests_mock.Mocker, method: str, body: str, says: str
) -> None:
    api.register_uri(method, CALL_URL, text=body)
    client = make_client()
    error = failure(
        VapiTransientError,
        lambda: client.get_call(CALL_ID) if method == "GET" else client.update_call(CALL_ID, name="Reminder"),
    )
    assert str(error).startswith(f"{method} {PATH} returned 200 with ")
    assert says in str(error)
    assert "later try" in str(error)
    assert "Bad gateway" not in str(error)
    assert (error.status_code, error.method, error.path) == (200, method, PATH)
    assert api.call_count == 1


UNPARSABLE = {
    "nothing": b"",
    "white space": b" \r\n",
    "half an object": json.dumps(CALL).encode()[:-9],
    "a brace": b"{",
    "HTML": HTML.encode(),
    "plain text": b"OK",
    "no encoding": b'{"id": "\xff"}',
    "half a letter": json.dumps({**CALL, "name": "é"}, ensure_ascii=False).encode().partition(b"\xa9")[0],
}


@pytest.mark.parametrize(("body", "method"), in_turn(UNPARSABLE, ["GET", "PATCH"]))
def test_unparsable_success_is_retried(api: requests_mock.Mocker, method: str, body: bytes) -> None:
    def send() -> Any:
        client = make_client(max_retries=2)
        return client.get_call(CALL_ID) if method == "GET" else client.update_call(CALL_ID, name="Reminder")

    api.register_uri(method, CALL_URL, [{"content": body}, {"json": CALL}])
    assert send().name == "Reminder"
    assert api.call_count == 2
    api.register_uri(method, CALL_URL, content=body)
    error = failure(VapiTransientError, send)
    assert str(error).startswith(f"{method} {PATH} returned 200 with ")
    assert "Bad gateway" not in str(error)
    assert api.call_count == 2 + 3


@pytest.mark.parametrize(
    ("body", "says", "tries"),
    [
        ("", "empty body", 2),
        ("[", "not JSON", 2),
        (HTML, "not JSON", 2),
        ("null", "in place of a list", 1),
        (json.dumps(CALL), "in place of a list", 1),
        ('[{"id": "x"}, null]', "in place of a call", 1),
        ('[{"name": "x"}]', "without an id", 1),
    ],
)
def test_wrong_lists_are_errors(api: requests_mock.Mocker, body: str, says: str, tries: int) -> None:
    api.get(f"{API}/call", text=body)
    error = failure(VapiTransientError, lambda: list(make_client(max_retries=1).list_calls({}, 100)))
    assert says in str(error)
    assert api.call_count == tries


# Odd but accepted responses.


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


ODD_CALLS = {
    "a cost that is not a number": ('"cost": NaN', {"cost": None}),
    "an infinite cost": ('"cost": Infinity', {"cost": None}),
    "a cost beyond all floats": ('"cost": 1' + "0" * 400, {"cost": None}),
    "a cost that is text": ('"cost": "1.5"', {"cost": None}),
    "a cost that is a whole number": ('"cost": 2', {"cost": 2.0}),
    "fields of the wrong type": (
        '"status": 5, "endedReason": [], "createdAt": 17, "endedAt": {}, "customer": "x", "messages": {}',
        {"status": None, "ended_reason": None, "created_at": None, "ended_at": None, "customer": None},
    ),
    "null everywhere": (
        '"status": null, "cost": null, "createdAt": null, "artifact": null',
        {"status": None},
    ),
    "300 levels of lists": (f'"metadata": {nested(300)}', {}),
    "a NUL in the name": ('"name": "a\\u0000b"', {"name": "a\0b"}),
    "a lone surrogate in the name": ('"name": "a\\ud83d"', {"name": "a\ud83d"}),
    "a lone surrogate in a property's name": ('"\\ud83d": 1', {}),
    "a property twice": ('"name": "a", "name": "b"', {"name": "b"}),
    "an unknown status": ('"status": "on-hold"', {"status": "on-hold"}),
    "an instant that is none": ('"createdAt": "yesterday"', {"created_at": None}),
}


@pytest.mark.parametrize(("fields", "expected"), ODD_CALLS.values(), ids=ODD_CALLS.keys())
def test_odd_calls_are_read(api: requests_mock.Mocker, fields: str, expected: dict[str, Any]) -> None:
    api.get(CALL_URL, text=f'{{"id": "{CALL_ID}", {fields}}}')
    call = make_client().get_call(CALL_ID)
    assert {name: getattr(call, name) for name in expected} == expected
    # XCom needs plain JSON in UTF-8.
    json.dumps(call.summary(), allow_nan=False, ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Type": "text/plain"}, json.dumps(CALL).encode()),
        ({}, b"\xef\xbb\xbf" + json.dumps(CALL).encode()),
        ({}, b"\n\n" + json.dumps(CALL).encode() + b"\n"),
        ({"Content-Encoding": "gzip"}, gzip.compress(json.dumps(CALL).encode())),
    ],
    ids=["another content type", "a byte order mark", "white space", "gzip"],
)
def test_unusual_encodings_are_read(simulator: VapiSimulator, headers: dict[str, str], body: bytes) -> None:
    simulator.faults.add(Fault(body=body, headers=headers))
    assert client_of(simulator).get_call(CALL_ID).name == "Reminder"


# Responses that are hardly HTTP.

GARBAGE = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "random bytes": bytes(range(256)),
    "no status": b"HTTP/1.1\r\n\r\n",
    "a status that is none": b"HTTP/1.1 abc OK\r\n\r\n",
    "an endless header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
    "a thousand headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n{}",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    "less than promised": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
    "a chunk that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    "chunks without an end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "gzip that is none": response_bytes(json.dumps(CALL).encode(), headers="Content-Encoding: gzip\r\n"),
    "a header in another encoding": response_bytes(b"", headers="Retry-After: \u00e9\r\nDate: \u00ff\r\n"),
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_a_transient_error(raw_server: Callable[..., RawServer], content: bytes) -> None:
    server = raw_server(respond_with(content))
    error = failure(VapiTransientError, lambda: make_client(server.url, max_retries=1).get_call(CALL_ID))
    assert str(error).startswith(f"GET {PATH} ")
    assert (error.method, error.path) == ("GET", PATH)
    assert len(str(error)) < 500
    assert len(server.heads) == 2


def escaped(key: str) -> str:
    return "".join(f"\\u{ord(letter):04x}" for letter in key)


SPELLINGS: dict[str, Callable[[str], bytes]] = {
    "escapes": lambda text: text.replace(KEY, escaped(KEY)).encode(),
    "one escape": lambda text: text.replace(KEY, KEY.replace("-", "\\u002d")).encode(),
    "capitals": lambda text: text.replace(KEY, KEY.upper()).encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_key_is_masked_in_every_spelling(api: requests_mock.Mocker, spelling: str) -> None:
    spell = SPELLINGS[spelling]
    api.get(CALL_URL, status_code=401, content=spell(vapi_error(401, f"no {KEY}")))
    error = failure(VapiAuthenticationError, lambda: make_client().get_call(CALL_ID))
    assert error.detail == "no ***"
    body = json.dumps({**CALL, "name": f"as {KEY}", "metadata": {KEY: [[KEY]]}})
    api.get(CALL_URL, content=spell(body))
    call = make_client().get_call(CALL_ID)
    assert call.name == "as ***"
    assert KEY.lower() not in str(call.model_dump()).lower()


@pytest.mark.parametrize("key", ["id", "ended", "test", "a"])
def test_short_key_does_not_garble_calls(api: requests_mock.Mocker, key: str) -> None:
    api.get(CALL_URL, json={**CALL, "status": "ended", "name": "a test"})
    call = make_client(password=key).get_call(CALL_ID)
    assert (call.status, call.name) == ("ended", "a test")


def test_errors_do_not_contain_the_body(api: requests_mock.Mocker) -> None:
    for body in (b'{"secret": "hush-hush"', b'{"secret": "hush-hush\xff"}', b'{"secret": "hush-hush"}'):
        api.get(CALL_URL, content=body)
        error: BaseException | None = failure(
            VapiTransientError, lambda: make_client(max_retries=0).get_call(CALL_ID)
        )
        while error is not None:
            assert "hush-hush" not in f"{error!r} {vars(error)}", body
            error = error.__context__
