# SPDX-License-Identifier: Apache-2.0
"""Ending a call: the control URL stays a secret and leads to nobody but Vapi, and hanging up is a matter of seconds."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests_mock
from hook_helpers import (
    API,
    CALL_ID,
    CALL_URL,
    KEY,
    OTHER_ID,
    RawServer,
    assert_no_secret,
    failure,
    make_connection,
    make_hook,
)

from vapi_provider.client.hang_up import HANG_UP_LIMITS, hang_up, hang_up_soon
from vapi_provider.exceptions import (
    VapiCallNotFoundError,
    VapiConfigurationError,
    VapiError,
    VapiPermanentError,
    VapiTransientError,
)
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.models.call import Call
from vapi_provider.simulator import Fault, VapiSimulator

TOKEN = "8c1e-the-capability-of-this-call"
CONTROL_URL = f"https://phone-call-websocket.eu.vapi.ai/{TOKEN}/control"
LOCAL = "http://127.0.0.1:4010"
END_CALL = {"type": "end-call"}
HTML = "<html><head><title>Something in between</title></head></html>"


def live_call(url: Any = CONTROL_URL, status: str | None = "in-progress", **fields: Any) -> Call:
    return Call.model_validate({"id": CALL_ID, "status": status, "monitor": {"controlUrl": url}, **fields})


def hook_over(simulator: VapiSimulator, **extra: Any) -> VapiHook:
    return make_hook(simulator.url, password=simulator.api_key, **extra)


def control_path(simulator: VapiSimulator, call_id: str) -> str:
    return urlsplit(simulator.get_call(call_id)["monitor"]["controlUrl"]).path


def sent(simulator: VapiSimulator) -> list[str]:
    """Return what arrived, as ``GET``, ``DELETE`` or ``POST``, which can only be for the control URL."""
    return [request.method for request in simulator.requests]


# Ending a live call.


def test_a_live_call_is_ended_through_its_control_url(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="in-progress")
    hook = hook_over(simulator)
    hook.end_call(hook.get_call(call_id))
    call = simulator.get_call(call_id)
    assert (call["status"], call["endedReason"]) == ("ended", "manually-canceled")
    assert sent(simulator) == ["GET", "POST"]


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
def test_the_control_url_gets_one_request_without_any_key(api: requests_mock.Mocker, url: str) -> None:
    api.post(url, text="")
    hook = make_hook()
    hook.get_conn().headers["X-Mark"] = "of the session with the key"
    hook.end_call(live_call(url))
    [request] = api.request_history
    assert (request.method, request.url) == ("POST", url)
    assert request.json() == END_CALL
    assert request.headers["User-Agent"].startswith("airflow-provider-vapi/")
    assert "Authorization" not in request.headers
    assert "X-Mark" not in request.headers
    assert KEY not in str(request.headers)


@pytest.mark.usefixtures("_netrc")
def test_a_netrc_gives_the_control_url_on_a_simulator_no_key_either(simulator: VapiSimulator) -> None:
    # The simulator refuses a key there.
    call_id = simulator.add_call(status="ringing")
    hook = hook_over(simulator)
    hook.end_call(hook.get_call(call_id))
    assert simulator.get_call(call_id)["status"] == "ended"


@pytest.mark.parametrize("status", ["queued", "ringing", "in-progress", "forwarding", "a new status", None])
def test_a_call_in_any_live_state_is_ended(api: requests_mock.Mocker, status: str | None) -> None:
    api.post(CONTROL_URL, json={})
    make_hook().end_call(live_call(status=status))
    assert api.call_count == 1


@pytest.mark.parametrize(
    "answer", [{"json": {}}, {"text": HTML}, {"status_code": 202}, {"status_code": 204}], ids=str
)
def test_any_success_is_one(api: requests_mock.Mocker, answer: dict[str, Any]) -> None:
    api.post(CONTROL_URL, **answer)
    make_hook().end_call(live_call())
    assert api.call_count == 1


@pytest.mark.parametrize("status", ["ended", "ENDED", "not-found", "deletion-failed", "a new end"])
def test_a_call_that_is_over_is_left_alone(api: requests_mock.Mocker, status: str) -> None:
    make_hook().end_call(live_call(status=status, endedAt="2026-08-01T10:00:00Z"))
    assert api.call_count == 0


def test_a_scheduled_call_is_not_hung_up_but_to_be_deleted(api: requests_mock.Mocker) -> None:
    error = failure(VapiPermanentError, lambda: make_hook().end_call(live_call(status="scheduled")))
    assert CALL_ID in str(error)
    assert "delete_call" in str(error)
    assert api.call_count == 0


# Whom the control URL may lead to.


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
def test_a_control_url_of_vapis_is_used(api: requests_mock.Mocker, host: str | None, url: str) -> None:
    api.post(requests_mock.ANY, json={})
    make_hook(host).end_call(live_call(url))
    [request] = api.request_history
    assert request.json() == END_CALL
    assert TOKEN in request.url
    assert request.hostname == urlsplit(url).hostname


UNTRUSTED = [
    # In the clear.
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
    # To somebody else.
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
    # As somebody.
    (None, f"https://vapi.ai@evil.example/{TOKEN}"),
    (None, f"https://api.vapi.ai:443@evil.example/{TOKEN}"),
    (None, f"https://someone@api.vapi.ai/{TOKEN}"),
    (None, f"https://someone:else@api.vapi.ai/{TOKEN}"),
    (None, f"https://evil.example\\@api.vapi.ai/{TOKEN}"),
    # Which requests reads in another way than urllib does: it ends the host at the backslash.
    (None, f"https://evil.example\\.vapi.ai/{TOKEN}"),
    (None, f"https://evil.example:443\\.vapi.ai/{TOKEN}"),
    (LOCAL, f"https://evil.example\\.vapi.ai/{TOKEN}"),
    # No address of the web.
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
def test_nothing_is_sent_to_a_control_url_that_is_not_vapis(
    api: requests_mock.Mocker, host: str | None, url: str
) -> None:
    api.register_uri(requests_mock.ANY, requests_mock.ANY, json={})
    error = failure(VapiPermanentError, lambda: make_hook(host).end_call(live_call(url)), secret=TOKEN)
    assert api.call_count == 0
    assert CALL_ID in str(error)
    assert "nothing was sent" in str(error)
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
def test_a_control_url_that_makes_no_sense_is_an_error_that_does_not_show_it(
    api: requests_mock.Mocker, url: str
) -> None:
    api.register_uri(requests_mock.ANY, requests_mock.ANY, json={})
    with pytest.raises(VapiError) as caught:
        make_hook().end_call(live_call(url))
    assert_no_secret(caught.value, TOKEN)
    assert api.call_count == 0


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
def test_a_call_without_a_control_url_is_left_alone(api: requests_mock.Mocker, monitor: Any) -> None:
    call = Call.model_validate({"id": CALL_ID, "status": "in-progress", "monitor": monitor})
    error = failure(VapiPermanentError, lambda: make_hook().end_call(call))
    assert f"Call {CALL_ID} has no control URL" in str(error)
    assert api.call_count == 0


# What goes wrong, and what is said of it.


TROUBLES: dict[str, tuple[Callable[[str], Fault], type[VapiError], str]] = {
    "404": (lambda url: Fault(status=404), VapiPermanentError, "answered 404"),
    "400": (lambda url: Fault(status=400), VapiPermanentError, "answered 400"),
    "401": (lambda url: Fault(status=401), VapiPermanentError, "answered 401"),
    "403 in HTML": (
        lambda url: Fault(status=403, body=HTML, content_type="text/html"),
        VapiTransientError,
        "answered 403",
    ),
    "429": (lambda url: Fault(status=429, headers={"Retry-After": "1"}), VapiTransientError, "answered 429"),
    "500": (lambda url: Fault(status=500), VapiTransientError, "answered 500"),
    "502 in HTML": (
        lambda url: Fault(status=502, body=f"<title>{url} is down</title>", content_type="text/html"),
        VapiTransientError,
        "answered 502",
    ),
    "an echo in a refusal": (
        lambda url: Fault(status=404, body=f'{{"message": "Cannot POST {url}", "statusCode": 404}}'),
        VapiPermanentError,
        "answered 404",
    ),
    "an echo in plain text": (
        lambda url: Fault(status=500, body=f"{url} is down", content_type="text/plain"),
        VapiTransientError,
        "answered 500",
    ),
    "redirect to itself": (
        lambda url: Fault(status=307, headers={"Location": url}),
        VapiTransientError,
        "answered 307",
    ),
    "redirect to another host": (
        lambda url: Fault(status=302, headers={"Location": f"https://{TOKEN}.evil.example/"}),
        VapiTransientError,
        "answered 302",
    ),
    "reset": (lambda url: Fault(reset="before"), VapiTransientError, "gave no answer"),
    "reset midway": (lambda url: Fault(reset="midway"), VapiTransientError, "gave no answer"),
    "time-out": (lambda url: Fault(delay=60), VapiTransientError, "gave no answer"),
    "drip": (lambda url: Fault(drip=0.1, drip_headers=True), VapiTransientError, "gave no answer"),
}


@pytest.mark.parametrize(("trouble", "kind", "says"), TROUBLES.values(), ids=TROUBLES)
def test_a_failure_is_told_without_the_address_and_nothing_is_repeated(
    simulator: VapiSimulator,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    naps: list[float],
    trouble: Callable[[str], Fault],
    kind: type[VapiError],
    says: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    call_id = simulator.add_call(status="in-progress")
    hook = hook_over(simulator, timeout=0.5)
    call = hook.get_call(call_id)
    path = control_path(simulator, call_id)
    simulator.faults.add(trouble(f"{simulator.url}{path}"))
    token = path.rpartition("/")[2]
    error = failure(kind, lambda: hook.end_call(call), secret=token)
    assert f"Call {call_id} was not ended: its control URL {says}." in str(error)
    assert_no_secret(error, simulator.api_key)
    assert_no_secret(error, TOKEN)
    assert (error.method, error.detail) == ("POST", None)
    assert sent(simulator) == ["GET", "POST"]
    assert naps == []
    captured = capfd.readouterr()
    assert token not in caplog.text + captured.out + captured.err


def test_a_refused_connection_to_the_control_url_is_told_without_the_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with VapiSimulator() as simulator:
        url = simulator.url
    error = failure(
        VapiTransientError, lambda: make_hook(url).end_call(live_call(f"{url}/{TOKEN}")), secret=TOKEN
    )
    assert "gave no answer" in str(error)
    assert TOKEN not in caplog.text


# The log.


def lines_of(caplog: pytest.LogCaptureFixture, name: str = "urllib3") -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith(name)]


def test_the_address_is_in_no_record_of_any_level_and_other_requests_still_are(
    simulator: VapiSimulator, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    call_id = simulator.add_call(status="in-progress")
    hook = hook_over(simulator)
    call = hook.get_call(call_id)
    token = control_path(simulator, call_id).rpartition("/")[2]
    assert any(f"GET /call/{call_id}" in line for line in lines_of(caplog))
    told = len(lines_of(caplog))

    hook.end_call(call)
    assert simulator.get_call(call_id)["status"] == "ended"
    captured = capfd.readouterr()
    assert token not in caplog.text + captured.out + captured.err
    assert not any(token in str(record.args) for record in caplog.records)
    assert len(lines_of(caplog)) == told

    hook.get_call(call_id)
    assert any(f"GET /call/{call_id}" in line for line in lines_of(caplog)[told:])


def test_after_a_failure_other_requests_are_in_the_log_again(
    simulator: VapiSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    call_id = simulator.add_call(status="in-progress")
    hook = hook_over(simulator)
    call = hook.get_call(call_id)
    simulator.faults.add(Fault(reset="before"))
    failure(VapiTransientError, lambda: hook.end_call(call))
    caplog.clear()
    hook.get_call(call_id)
    assert any(f"GET /call/{call_id}" in line for line in lines_of(caplog))


def test_what_other_threads_send_meanwhile_is_in_the_log(
    simulator: VapiSimulator, raw_server: Callable[..., RawServer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    call_id = simulator.add_call()

    def talk(connection: socket.socket, server: RawServer) -> None:
        server.read_head(connection)
        hook_over(simulator).get_call(call_id)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = raw_server(talk)
    make_hook(server.url).end_call(live_call(f"{server.url}/{TOKEN}"))
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
def test_headers_that_make_no_sense_do_not_bring_the_address_into_the_log(
    raw_server: Callable[..., RawServer], caplog: pytest.LogCaptureFixture, head: bytes
) -> None:
    caplog.set_level(logging.DEBUG)

    def talk(connection: socket.socket, server: RawServer) -> None:
        server.read_head(connection)
        connection.recv(len(json.dumps(END_CALL)), socket.MSG_WAITALL)
        connection.sendall(head)

    server = raw_server(talk)
    make_hook(server.url).end_call(live_call(f"{server.url}/{TOKEN}"))
    assert len(server.heads) == 1
    assert TOKEN not in caplog.text


def test_a_call_shows_its_control_url_to_nobody() -> None:
    call = live_call()
    assert TOKEN not in f"{call!r} {call!s} {call.summary()!r}"


# Deleting.


@pytest.mark.parametrize("given", [CALL_ID, f" {CALL_ID.upper()}\n"])
@pytest.mark.parametrize("answer", [{"json": {"id": CALL_ID}}, {"text": ""}, {"status_code": 204}], ids=str)
def test_a_call_is_deleted_with_an_empty_object(
    api: requests_mock.Mocker, given: str, answer: dict[str, Any]
) -> None:
    api.delete(CALL_URL, **answer)
    make_hook().delete_call(given)
    [request] = api.request_history
    assert (request.method, request._request.path_url) == ("DELETE", f"/call/{CALL_ID}")
    assert request.body in (b"{}", "{}")
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("call_id", [None, "", "None", "../x", f"{CALL_ID}/", [CALL_ID], 7])
def test_a_bad_id_deletes_nothing(api: requests_mock.Mocker, call_id: Any) -> None:
    error = failure(VapiConfigurationError, lambda: make_hook().delete_call(call_id))
    assert "call_id" in str(error)
    assert api.call_count == 0


def test_a_scheduled_call_is_cancelled(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="scheduled")
    hook_over(simulator).delete_call(call_id)
    call = simulator.get_call(call_id)
    assert (call["status"], call["endedReason"]) == ("ended", "scheduled-call-deleted")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_deletion_that_did_not_work_is_sent_again(
    simulator: VapiSimulator, naps: list[float], status: int
) -> None:
    call_id, other_id = simulator.add_call(status="scheduled"), simulator.add_call(status="scheduled")
    simulator.faults.add(Fault(status=status, times=2))
    hook_over(simulator).delete_call(call_id)
    assert sent(simulator) == ["DELETE"] * 3
    assert len(naps) == 2
    assert simulator.get_call(call_id)["endedReason"] == "scheduled-call-deleted"
    assert simulator.get_call(other_id)["status"] == "scheduled"


def test_a_call_that_is_not_there_cannot_be_deleted(simulator: VapiSimulator) -> None:
    error = failure(
        VapiCallNotFoundError, lambda: hook_over(simulator).delete_call(OTHER_ID), secret=simulator.api_key
    )
    assert str(error).startswith(f"DELETE /call/{OTHER_ID} was answered 404")
    assert sent(simulator) == ["DELETE"]


# Hanging up, whatever the call is at.


@pytest.fixture
def quick_hook(simulator: VapiSimulator) -> VapiHook:
    connection = make_connection(host=simulator.url, password=simulator.api_key)
    return VapiHook.from_connection(connection, HANG_UP_LIMITS)


STATES = [
    *(
        pytest.param(status, {}, ["GET", "POST"], "ended", "has been ended", id=status)
        for status in ("queued", "ringing", "in-progress", "forwarding")
    ),
    pytest.param("scheduled", {}, ["GET", "DELETE"], "ended", "has been cancelled", id="scheduled"),
    *(
        pytest.param(status, {}, ["GET"], status, "was over already", id=status)
        for status in ("ended", "not-found", "deletion-failed")
    ),
    pytest.param(
        "a new end",
        {"endedAt": "2026-08-01T10:00:00Z"},
        ["GET"],
        "a new end",
        "was over already",
        id="unknown-and-over",
    ),
    *(
        pytest.param("in-progress", {"monitor": monitor}, ["GET"], "in-progress", "no control URL", id=name)
        for name, monitor in {"no-monitor": None, "no-url": {}, "empty-url": {"controlUrl": ""}}.items()
    ),
    *(
        pytest.param(
            "in-progress",
            {"monitor": {"controlUrl": url}},
            ["GET"],
            "in-progress",
            "nothing was sent there",
            id=f"foreign-url-{number}",
        )
        for number, url in enumerate(
            (f"https://evil.example/{TOKEN}", f"http://127.0.0.1:9/{TOKEN}", f"http://api.vapi.ai/{TOKEN}")
        )
    ),
]


@pytest.mark.parametrize(("status", "fields", "requests", "became", "says"), STATES)
def test_hanging_up_does_what_the_state_of_the_call_asks_for(
    simulator: VapiSimulator,
    quick_hook: VapiHook,
    status: str,
    fields: dict[str, Any],
    requests: list[str],
    became: str,
    says: str,
) -> None:
    call_id = simulator.add_call(status=status, body=fields)
    done = hang_up(quick_hook, call_id)
    assert call_id in done
    assert says in done
    assert TOKEN not in done
    assert ("may go on" in done) is (requests == ["GET"] and became == "in-progress")
    assert sent(simulator) == requests
    assert simulator.get_call(call_id)["status"] == became


LOST = [
    pytest.param(Fault(status=503), id="503"),
    pytest.param(Fault(status=429, headers={"Retry-After": "30"}), id="429"),
    pytest.param(Fault(status=404, body=HTML, content_type="text/html"), id="404-in-html"),
    pytest.param(Fault(reset="before"), id="reset"),
]


@pytest.mark.parametrize("fault", LOST)
@pytest.mark.parametrize(
    ("status", "failing", "requests"),
    [
        ("in-progress", "GET", ["GET", "GET", "POST"]),
        ("in-progress", "POST", ["GET", "POST", "GET", "POST"]),
        ("scheduled", "GET", ["GET", "GET", "DELETE"]),
        ("scheduled", "DELETE", ["GET", "DELETE", "GET", "DELETE"]),
    ],
)
def test_a_passing_failure_is_tried_again_at_once(
    simulator: VapiSimulator,
    quick_hook: VapiHook,
    naps: list[float],
    status: str,
    failing: str,
    requests: list[str],
    fault: Fault,
) -> None:
    call_id = simulator.add_call(status=status)
    simulator.faults.add(_only(fault, failing))
    done = hang_up(quick_hook, call_id)
    assert "has been" in done
    assert sent(simulator) == requests
    assert simulator.get_call(call_id)["status"] == "ended"
    assert naps == []


@pytest.mark.parametrize("fault", LOST)
@pytest.mark.parametrize(
    ("status", "failing", "requests"),
    [
        ("in-progress", "GET", ["GET", "GET"]),
        ("in-progress", "POST", ["GET", "POST", "GET", "POST"]),
        ("scheduled", "DELETE", ["GET", "DELETE", "GET", "DELETE"]),
    ],
)
def test_a_failure_that_lasts_is_tried_twice_and_said(
    simulator: VapiSimulator,
    quick_hook: VapiHook,
    status: str,
    failing: str,
    requests: list[str],
    fault: Fault,
) -> None:
    call_id = simulator.add_call(status=status)
    simulator.faults.add(_only(fault, failing, times=None))
    done = hang_up(quick_hook, call_id)
    assert done.startswith(f"Call {call_id} was to be ended and may go on. ")
    assert simulator.api_key not in done
    if failing == "POST":
        assert control_path(simulator, call_id).rpartition("/")[2] not in done
    assert sent(simulator) == requests
    assert simulator.get_call(call_id)["status"] == status


@pytest.mark.parametrize(("status", "failing"), [("in-progress", "POST"), ("scheduled", "DELETE")])
def test_what_worked_and_was_not_confirmed_is_not_done_twice(
    simulator: VapiSimulator, quick_hook: VapiHook, status: str, failing: str
) -> None:
    call_id = simulator.add_call(status=status)
    simulator.faults.add(Fault(method=failing, reset="before", effect=True))
    assert "was over already" in hang_up(quick_hook, call_id)
    assert sent(simulator) == ["GET", failing, "GET"]
    # Deleted a second time, it would be gone.
    assert simulator.get_call(call_id)["status"] == "ended"


@pytest.mark.parametrize(
    ("status", "failing", "answer", "requests"),
    [
        ("in-progress", "GET", 401, ["GET"]),
        ("in-progress", "GET", 403, ["GET"]),
        ("in-progress", "GET", 404, ["GET"]),
        ("in-progress", "POST", 404, ["GET", "POST"]),
        ("scheduled", "DELETE", 400, ["GET", "DELETE"]),
    ],
)
def test_a_refusal_is_said_and_not_tried_again(
    simulator: VapiSimulator,
    quick_hook: VapiHook,
    status: str,
    failing: str,
    answer: int,
    requests: list[str],
) -> None:
    call_id = simulator.add_call(status=status)
    simulator.faults.add(Fault(method=failing, status=answer, times=None))
    done = hang_up(quick_hook, call_id)
    assert done.startswith(f"Call {call_id} was to be ended and may go on. ")
    assert str(answer) in done
    assert sent(simulator) == requests


@pytest.mark.parametrize(
    ("fields", "call_id", "says"),
    [
        ({"password": ""}, CALL_ID, "password"),
        ({"host": "ftp://x"}, CALL_ID, "host"),
        ({}, "None", "call_id"),
        ({}, "../x", "call_id"),
    ],
    ids=["no-key", "bad-host", "rendered-none", "no-uuid"],
)
def test_what_cannot_even_be_sent_is_said_and_not_raised(
    api: requests_mock.Mocker, fields: dict[str, Any], call_id: str, says: str
) -> None:
    done = hang_up(VapiHook.from_connection(make_connection(**fields), HANG_UP_LIMITS), call_id)
    assert "may go on" in done
    assert says in done
    assert api.call_count == 0


def test_a_vapi_that_is_not_there_is_said_and_not_raised() -> None:
    with VapiSimulator() as simulator:
        connection = make_connection(host=simulator.url, password=simulator.api_key)
    assert "the connection was refused" in hang_up(
        VapiHook.from_connection(connection, HANG_UP_LIMITS), CALL_ID
    )


SLOW = [
    pytest.param([Fault(method="GET", delay=60, times=2)], id="get"),
    # With a status in its place the request has no effect, so that it is worth a second try.
    pytest.param([Fault(method="POST", delay=60, status=503, times=2)], id="post"),
    pytest.param([Fault(method="GET", drip=0.2), Fault(method="POST", drip=0.2)], id="drips"),
    pytest.param(
        [
            Fault(method="GET", delay=HANG_UP_LIMITS.timeout * 0.8, times=2),
            Fault(method="POST", delay=60, status=503, times=2),
        ],
        id="slow-but-in-time-and-then-silent",
    ),
]


@pytest.mark.parametrize("faults", SLOW)
def test_hanging_up_soon_ends_in_time_whatever_happens(simulator: VapiSimulator, faults: list[Fault]) -> None:
    call_id = simulator.add_call(status="in-progress")
    for fault in faults:
        simulator.faults.add(fault)
    hook = hook_over(simulator, timeout=60)
    began = time.monotonic()
    done = hang_up_soon(hook, call_id)
    # Airflow kills a task 5 seconds after it told it to end.
    assert time.monotonic() - began < 3.5
    assert call_id in done


def test_a_hanging_up_that_does_not_end_in_time_says_so(
    simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vapi_provider.client.hang_up.HANG_UP_SECONDS", 0.2)
    call_id = simulator.add_call(status="in-progress")
    simulator.faults.add(Fault(method="GET", delay=1))
    hook = hook_over(simulator)
    done = hang_up_soon(hook, call_id)
    assert done == f"Call {call_id} was to be ended and may go on. It could not be ended within 0.2 s."
    # It goes on for as long as the process does, so that the call may be ended all the same.
    gives_up_at = time.monotonic() + 10
    while simulator.get_call(call_id)["status"] != "ended":
        assert time.monotonic() < gives_up_at
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("status", "says"),
    [("in-progress", "has been ended"), ("scheduled", "has been cancelled"), ("ended", "was over already")],
)
def test_hanging_up_soon_says_what_was_done(simulator: VapiSimulator, status: str, says: str) -> None:
    call_id = simulator.add_call(status=status)
    assert says in hang_up_soon(hook_over(simulator), call_id)
    assert simulator.get_call(call_id)["status"] == "ended"


def test_hanging_up_soon_does_not_wait_for_the_request_that_the_hook_is_in(
    simulator: VapiSimulator,
) -> None:
    call_id = simulator.add_call(status="in-progress")
    hook = hook_over(simulator, timeout=60, max_retries=0)
    simulator.faults.add(Fault(method="GET", delay=60))
    errors: list[VapiError] = []

    def read() -> None:
        try:
            hook.get_call(call_id)
        except VapiError as error:
            errors.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    while thread.is_alive() and not simulator.requests:
        time.sleep(0.01)
    assert "has been ended" in hang_up_soon(hook, call_id)
    assert thread.is_alive()
    simulator.stop()
    thread.join(5)
    assert len(errors) == 1


@pytest.mark.parametrize("soon", [False, True], ids=["hang_up", "hang_up_soon"])
def test_each_request_of_a_hanging_up_ends_within_its_limit(
    simulator: VapiSimulator, quick_hook: VapiHook, soon: bool
) -> None:
    call_id = simulator.add_call(status="in-progress")
    simulator.faults.add(Fault(method="GET", delay=60))
    began = time.monotonic()
    done = hang_up_soon(hook_over(simulator), call_id) if soon else hang_up(quick_hook, call_id)
    assert "has been ended" in done
    assert HANG_UP_LIMITS.timeout * 0.9 <= time.monotonic() - began < HANG_UP_LIMITS.timeout + 1


def _only(fault: Fault, method: str, times: int | None = 1) -> Fault:
    values = {name: getattr(fault, name) for name in Fault.__dataclass_fields__}
    return Fault(**{**values, "method": method, "times": times})
