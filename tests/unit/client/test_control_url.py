# SPDX-License-Identifier: Apache-2.0
"""The control URL of a live call: on Vapi's hosts only, without the key, never in logs or errors."""

from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests_mock
from http_helpers import (
    API,
    CALL_ID,
    KEY,
    PATH,
    RawServer,
    assert_no_secret,
    client_of,
    failure,
    make_client,
    response_bytes,
)
from late_responses import LATE, LATE_BODY

from vapi_provider.client.hang_up import end_call
from vapi_provider.exceptions import VapiError, VapiPermanentError, VapiTransientError
from vapi_provider.models.call import Call
from vapi_provider.simulator import Fault, VapiSimulator

TOKEN = "8c1e-the-capability-of-this-call"
CONTROL_URL = f"https://phone-call-websocket.eu.vapi.ai/{TOKEN}/control"
LOCAL = "http://127.0.0.1:4010"
END_CALL = {"type": "end-call"}
HTML = "<html><head><title>Something in between</title></head></html>"


def live_call(url: Any = CONTROL_URL, **fields: Any) -> dict[str, Any]:
    return {"id": CALL_ID, "status": "in-progress", "monitor": {"controlUrl": url}, **fields}


def serve_call(api: requests_mock.Mocker, call: dict[str, Any]) -> None:
    """Return a call for any base URL, and an empty object for every other request."""
    api.register_uri(requests_mock.ANY, requests_mock.ANY, json={})
    api.get(re.compile(f"{PATH}$"), json=call)


def posts(api: requests_mock.Mocker) -> list[Any]:
    return [request for request in api.request_history if request.method != "GET"]


def control_path(simulator: VapiSimulator, call_id: str) -> str:
    return urlsplit(simulator.get_call(call_id)["monitor"]["controlUrl"]).path


@pytest.fixture
def _netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "netrc"
    hosts = (urlsplit(CONTROL_URL).hostname, "api.vapi.ai", "127.0.0.1")
    lines = [f"machine {host} login someone password else" for host in hosts]
    file.write_text("\n".join([*lines, "default login any password one", ""]))
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))


@pytest.mark.parametrize(
    "url", [CONTROL_URL, f"{API}/control/{TOKEN}"], ids=["below vapi.ai", "the API's host"]
)
@pytest.mark.usefixtures("_netrc")
def test_control_url_gets_one_request_without_the_key(api: requests_mock.Mocker, url: str) -> None:
    serve_call(api, live_call(url))
    client = make_client()
    client.session.headers["X-Mark"] = "of the session with the key"
    end_call(client, CALL_ID)
    [request] = posts(api)
    assert (request.method, request.url) == ("POST", url)
    assert request.json() == END_CALL
    assert request.headers["User-Agent"].startswith("airflow-provider-vapi/")
    assert "Authorization" not in request.headers
    assert "X-Mark" not in request.headers
    assert KEY not in str(request.headers)


@pytest.mark.usefixtures("_netrc")
def test_netrc_adds_no_key_to_the_simulators_control_url(simulator: VapiSimulator) -> None:
    # The simulator rejects requests with a key there.
    call_id = simulator.add_call(status="ringing")
    end_call(client_of(simulator), call_id)
    assert simulator.get_call(call_id)["status"] == "ended"


@pytest.mark.parametrize(
    "response", [{"json": {}}, {"text": HTML}, {"status_code": 202}, {"status_code": 204}], ids=str
)
def test_any_2xx_from_the_control_url_is_a_success(
    api: requests_mock.Mocker, response: dict[str, Any]
) -> None:
    serve_call(api, live_call())
    api.post(CONTROL_URL, **response)
    assert end_call(make_client(), CALL_ID) == f"Call {CALL_ID} was ended."
    assert len(posts(api)) == 1


# Allowed control URLs.


TRUSTED = [
    (None, CONTROL_URL),
    (None, f"https://vapi.ai/{TOKEN}"),
    (None, f"https://api.vapi.ai/{TOKEN}/control"),
    (None, f"https://API.Vapi.AI/{TOKEN}"),
    (None, f"https://a.b.c.vapi.ai:8443/{TOKEN}?x=y"),
    (API, f"https://aws-us-west-2.vapi.ai/{TOKEN}"),
    ("https://vapi.example.org", f"https://vapi.example.org/{TOKEN}"),
    ("https://Vapi.example.org:8443/v1", f"https://vapi.EXAMPLE.org:9443/{TOKEN}"),
    ("https://vapi.example.org", CONTROL_URL),
    (LOCAL, f"{LOCAL}/control/{TOKEN}"),
    (f"{LOCAL}/v1", f"{LOCAL}/control/{TOKEN}"),
    (LOCAL, CONTROL_URL),
]


@pytest.mark.parametrize(("host", "url"), TRUSTED)
def test_control_urls_of_vapi_are_used(api: requests_mock.Mocker, host: str | None, url: str) -> None:
    serve_call(api, live_call(url))
    end_call(make_client(host), CALL_ID)
    [request] = posts(api)
    assert request.json() == END_CALL
    assert TOKEN in request.url
    assert request.hostname == urlsplit(url).hostname


UNTRUSTED = [
    # Unencrypted.
    (None, f"http://api.vapi.ai/{TOKEN}"),
    (None, f"http://vapi.ai/{TOKEN}"),
    (None, f"http://phone-call-websocket.eu.vapi.ai/{TOKEN}"),
    (None, f"http://127.0.0.1/{TOKEN}"),
    (None, f"{LOCAL}/{TOKEN}"),
    (LOCAL, f"http://127.0.0.1:4011/{TOKEN}"),
    (LOCAL, f"http://127.0.0.1/{TOKEN}"),
    (LOCAL, f"http://127.0.0.2:4010/{TOKEN}"),
    (LOCAL, f"http://localhost:4010/{TOKEN}"),
    (LOCAL, f"http://someone@127.0.0.1:4010/{TOKEN}"),
    (LOCAL, f"http://evil.example:4010/{TOKEN}"),
    (LOCAL, f"http://api.vapi.ai/{TOKEN}"),
    ("https://127.0.0.1:4010", f"{LOCAL}/{TOKEN}"),
    # To another host.
    (None, f"https://evil.example/{TOKEN}"),
    (None, f"https://evil.example/vapi.ai/{TOKEN}"),
    (None, f"https://evil.example/.vapi.ai/{TOKEN}"),
    (None, f"https://evil.example?.vapi.ai/{TOKEN}"),
    (None, f"https://evil.example#.vapi.ai/{TOKEN}"),
    (None, f"https://vapi.ai.evil.example/{TOKEN}"),
    (None, f"https://notvapi.ai/{TOKEN}"),
    (None, f"https://api-vapi.ai/{TOKEN}"),
    (None, f"https://vapi.aichat.example/{TOKEN}"),
    (None, f"https://127.0.0.1:4010/{TOKEN}"),
    (None, f"https://[::1]/{TOKEN}"),
    ("https://vapi.example.org", f"https://example.org/{TOKEN}"),
    ("https://vapi.example.org", f"https://sub.vapi.example.org/{TOKEN}"),
    # With a user name.
    (None, f"https://vapi.ai@evil.example/{TOKEN}"),
    (None, f"https://api.vapi.ai:443@evil.example/{TOKEN}"),
    (None, f"https://someone@api.vapi.ai/{TOKEN}"),
    (None, f"https://someone:else@api.vapi.ai/{TOKEN}"),
    (None, f"https://evil.example\\@api.vapi.ai/{TOKEN}"),
    # requests ends the host at the backslash, urllib does not.
    (None, f"https://evil.example\\.vapi.ai/{TOKEN}"),
    (None, f"https://evil.example:443\\.vapi.ai/{TOKEN}"),
    (LOCAL, f"https://evil.example\\.vapi.ai/{TOKEN}"),
    # Not an https URL.
    (None, f"ftp://api.vapi.ai/{TOKEN}"),
    (None, f"wss://api.vapi.ai/{TOKEN}"),
    (None, f"file:///vapi.ai/{TOKEN}"),
    (None, f"javascript://vapi.ai/{TOKEN}"),
    (None, f"//api.vapi.ai/{TOKEN}"),
    (None, f"/control/{TOKEN}"),
    (None, f"api.vapi.ai/{TOKEN}"),
    (None, f"https:/api.vapi.ai/{TOKEN}"),
    (None, f"https:///api.vapi.ai/{TOKEN}"),
    (None, f"https:\\\\api.vapi.ai\\{TOKEN}"),
    (None, f"https://[api.vapi.ai/{TOKEN}"),
    (None, f"https://evil.example\u2100.vapi.ai/{TOKEN}"),
    (None, TOKEN),
    (None, " "),
]


@pytest.mark.parametrize(("host", "url"), UNTRUSTED)
def test_nothing_is_sent_to_other_control_urls(api: requests_mock.Mocker, host: str | None, url: str) -> None:
    serve_call(api, live_call(url))
    error = failure(VapiPermanentError, lambda: end_call(make_client(host), CALL_ID), secret=TOKEN)
    assert [request.method for request in api.request_history] == ["GET"]
    assert CALL_ID in str(error)
    assert "nothing was sent to it" in str(error)
    assert "evil" not in str(error)


@pytest.mark.parametrize(
    "url",
    [
        f"https://vapi.ai:port/{TOKEN}",
        f"https://vapi.ai:99999/{TOKEN}",
        f"https://.vapi.ai/{TOKEN}",
        f"https://evil.example .vapi.ai/{TOKEN}",
        f"https://evil.example\x00.vapi.ai/{TOKEN}",
        f"https://evil.example\t.vapi.ai/{TOKEN}",
    ],
)
def test_malformed_control_urls_are_not_shown(api: requests_mock.Mocker, url: str) -> None:
    serve_call(api, live_call(url))
    with pytest.raises(VapiError) as caught:
        end_call(make_client(), CALL_ID)
    assert_no_secret(caught.value, TOKEN)
    assert posts(api) == []


@pytest.mark.parametrize(
    "monitor",
    [
        None,
        {},
        [],
        "x",
        7,
        *({"controlUrl": url} for url in (None, "", 5, True, [CONTROL_URL], {"url": "x"})),
    ],
    ids=repr,
)
def test_call_without_control_url_is_an_error(api: requests_mock.Mocker, monitor: Any) -> None:
    serve_call(api, live_call(monitor=monitor))
    error = failure(VapiPermanentError, lambda: end_call(make_client(), CALL_ID))
    assert f"Call {CALL_ID} has no control URL" in str(error)
    assert "cannot be ended from here" in str(error)
    assert api.call_count == 1


# Failures.


FAILURES: dict[str, tuple[Callable[[str], dict[str, Any]], type[VapiError], str]] = {
    "404": (lambda url: {"status": 404}, VapiPermanentError, "returned 404"),
    "400": (lambda url: {"status": 400}, VapiPermanentError, "returned 400"),
    "401": (lambda url: {"status": 401}, VapiPermanentError, "returned 401"),
    "403 in HTML": (
        lambda url: {"status": 403, "body": HTML, "content_type": "text/html"},
        VapiTransientError,
        "returned 403",
    ),
    "429": (
        lambda url: {"status": 429, "headers": {"Retry-After": "1"}},
        VapiTransientError,
        "returned 429",
    ),
    "500": (lambda url: {"status": 500}, VapiTransientError, "returned 500"),
    "502 in HTML": (
        lambda url: {"status": 502, "body": f"<title>{url} is down</title>", "content_type": "text/html"},
        VapiTransientError,
        "returned 502",
    ),
    "an echo in a refusal": (
        lambda url: {"status": 404, "body": f'{{"message": "Cannot POST {url}", "statusCode": 404}}'},
        VapiPermanentError,
        "returned 404",
    ),
    "an echo in plain text": (
        lambda url: {"status": 500, "body": f"{url} is down", "content_type": "text/plain"},
        VapiTransientError,
        "returned 500",
    ),
    "redirect to itself": (
        lambda url: {"status": 307, "headers": {"Location": url}},
        VapiTransientError,
        "returned 307",
    ),
    "redirect to another host": (
        lambda url: {"status": 302, "headers": {"Location": f"https://{TOKEN}.evil.example/"}},
        VapiTransientError,
        "returned 302",
    ),
    "reset": (lambda url: {"reset": "before"}, VapiTransientError, "did not respond"),
    # A fault with a status has no effect, so the second try fails like the first.
    "time-out": (lambda url: {"headers": LATE, "status": 503}, VapiTransientError, "did not respond"),
    "time-out of the body": (
        lambda url: {"headers": LATE_BODY, "status": 503},
        VapiTransientError,
        "did not respond",
    ),
}


@pytest.mark.usefixtures("late_responses_time_out")
@pytest.mark.parametrize(("fault", "kind", "says"), FAILURES.values(), ids=FAILURES)
def test_failures_of_the_control_url_do_not_show_it(
    simulator: VapiSimulator,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    naps: list[float],
    fault: Callable[[str], dict[str, Any]],
    kind: type[VapiError],
    says: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    call_id = simulator.add_call(status="in-progress")
    path = control_path(simulator, call_id)
    simulator.faults.add(Fault(method="POST", times=None, **fault(f"{simulator.url}{path}")))
    token = path.rpartition("/")[2]
    client = client_of(simulator)
    error = failure(kind, lambda: end_call(client, call_id), secret=token)
    assert str(error) == f"Call {call_id} was not ended: its control URL {says}."
    assert_no_secret(error, simulator.api_key)
    assert_no_secret(error, TOKEN)
    assert (error.method, error.detail) == ("POST", None)
    # A refusal is final; after a transient failure, one more read and request follow.
    tries = 1 if kind is VapiPermanentError else 2
    assert [request.method for request in simulator.requests] == ["GET", "POST"] * tries
    assert naps == []
    captured = capfd.readouterr()
    assert token not in caplog.text + captured.out + captured.err


def test_refused_connection_does_not_show_the_control_url(
    api: requests_mock.Mocker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    serve_call(api, live_call())
    api.post(CONTROL_URL, exc=ConnectionRefusedError)
    error = failure(VapiTransientError, lambda: end_call(make_client(), CALL_ID), secret=TOKEN)
    assert str(error) == f"Call {CALL_ID} was not ended: its control URL did not respond."
    assert TOKEN not in caplog.text


# The log.


def lines_of(caplog: pytest.LogCaptureFixture, name: str = "urllib3") -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith(name)]


def test_only_the_control_url_is_kept_out_of_the_log(
    simulator: VapiSimulator, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    call_id = simulator.add_call(status="in-progress")
    client = client_of(simulator)
    token = control_path(simulator, call_id).rpartition("/")[2]
    end_call(client, call_id)
    assert simulator.get_call(call_id)["status"] == "ended"
    captured = capfd.readouterr()
    assert token not in caplog.text + captured.out + captured.err
    assert [record for record in caplog.records if token in str(record.args)] == []
    # Only the request that reads the call.
    [line] = [line for line in lines_of(caplog) if " HTTP/" in line]
    assert f"GET /call/{call_id}" in line

    client.get_call(call_id)
    assert len([line for line in lines_of(caplog) if f"GET /call/{call_id}" in line]) == 2


def test_requests_are_logged_again_after_a_failure(
    simulator: VapiSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    call_id = simulator.add_call(status="in-progress")
    client = client_of(simulator)
    simulator.faults.add(Fault(method="POST", reset="before", times=None))
    failure(VapiTransientError, lambda: end_call(client, call_id))
    caplog.clear()
    client.get_call(call_id)
    assert any(f"GET /call/{call_id}" in line for line in lines_of(caplog))


def respond_after_get(
    talk: Callable[[socket.socket, RawServer], None], server_url: Callable[[], str]
) -> Callable[[socket.socket, RawServer], None]:
    """Return a live call for each GET, and pass other requests to ``talk``."""

    def respond(connection: socket.socket, server: RawServer) -> None:
        if server.read_head(connection).startswith("GET "):
            call = live_call(f"{server_url()}/{TOKEN}")
            connection.sendall(response_bytes(json.dumps(call).encode()))
        else:
            talk(connection, server)

    return respond


def test_requests_of_other_threads_are_logged_meanwhile(
    simulator: VapiSimulator, raw_server: Callable[..., RawServer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    call_id = simulator.add_call()

    def talk(connection: socket.socket, _server: RawServer) -> None:
        client_of(simulator).get_call(call_id)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server: RawServer = raw_server(respond_after_get(talk, lambda: server.url))
    end_call(make_client(server.url), CALL_ID)
    assert any(f"GET /call/{call_id}" in line for line in lines_of(caplog))
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nno header at all\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n : \r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["line", "colon"],
)
def test_bad_headers_do_not_leak_the_control_url(
    raw_server: Callable[..., RawServer], caplog: pytest.LogCaptureFixture, head: bytes
) -> None:
    caplog.set_level(logging.DEBUG)

    def talk(connection: socket.socket, _server: RawServer) -> None:
        connection.recv(len(json.dumps(END_CALL)), socket.MSG_WAITALL)
        connection.sendall(head)

    server: RawServer = raw_server(respond_after_get(talk, lambda: server.url))
    end_call(make_client(server.url), CALL_ID)
    assert [line.split()[0] for line in server.heads] == ["GET", "POST"]
    assert TOKEN not in caplog.text


def test_call_does_not_show_its_control_url() -> None:
    call = Call.model_validate(live_call())
    assert TOKEN not in f"{call!r} {call!s} {call.summary()!r}"
