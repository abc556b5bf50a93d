# SPDX-License-Identifier: Apache-2.0
"""Requests on the wire: URL, headers, body, and the key, which only the API gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests_mock
from http_helpers import (
    API,
    CALL,
    CALL_ID,
    CALL_URL,
    KEY,
    PATH,
    RawServer,
    client_of,
    make_client,
    respond_with,
)

from vapi_provider import __version__

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator

USER_AGENT = f"airflow-provider-vapi/{__version__}"


def test_call_is_read_with_one_plain_get(api: requests_mock.Mocker) -> None:
    api.get(CALL_URL, json=CALL)
    call = make_client().get_call(CALL_ID)
    assert (call.id, call.status, call.name) == (CALL_ID, "ended", "Reminder")
    [request] = api.request_history
    assert (request.method, request.url, request.body) == ("GET", CALL_URL, None)


def test_update_sends_only_the_name(api: requests_mock.Mocker) -> None:
    api.patch(CALL_URL, json={**CALL, "name": "Grüße 👋"})
    call = make_client().update_call(CALL_ID, name="Grüße 👋")
    assert call.name == "Grüße 👋"
    [request] = api.request_history
    assert (request.method, request.url) == ("PATCH", CALL_URL)
    assert json.loads(request.body) == {"name": "Grüße 👋"}
    assert request.headers["Content-Type"] == "application/json"


def test_name_arrives_unchanged(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(body={"name": "before"})
    call = client_of(simulator).update_call(call_id, name="  after \N{BELL} ")
    assert call.name == "  after \N{BELL} "
    assert simulator.get_call(call_id)["name"] == "  after \N{BELL} "


@pytest.mark.parametrize("use", ["get_call", "get_status", "update_call", "list_calls", "run", "session"])
def test_requests_have_the_key_and_a_user_agent(api: requests_mock.Mocker, use: str) -> None:
    api.get(CALL_URL, json=CALL)
    api.patch(CALL_URL, json=CALL)
    api.get(f"{API}/call", json=[CALL])
    client = make_client()
    uses: dict[str, Any] = {
        "get_call": lambda: client.get_call(CALL_ID),
        "update_call": lambda: client.update_call(CALL_ID, name="Reminder"),
        "list_calls": lambda: list(client.list_calls({}, 100)),
        "get_status": lambda: client.get_status(CALL_ID),
        "run": lambda: client.run("GET", "/call"),
        "session": lambda: client.session.get(f"{API}/call"),
    }
    uses[use]()
    assert api.called
    for request in api.request_history:
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        assert request.headers["User-Agent"] == USER_AGENT
        assert KEY not in request.url
        assert KEY not in (request.text or "")


@pytest.mark.parametrize("given", [CALL_ID.upper(), f"  {CALL_ID}\n", f"\t{CALL_ID.upper()} "])
def test_id_is_sent_in_lower_case_without_white_space(api: requests_mock.Mocker, given: str) -> None:
    api.get(CALL_URL, json=CALL)
    assert make_client().get_call(given).id == CALL_ID
    # requests-mock compares without case.
    assert api.last_request._request.path_url == PATH


@pytest.mark.parametrize("returned", [CALL_ID.upper(), f" {CALL_ID} "])
def test_id_of_the_response_is_compared_without_case(api: requests_mock.Mocker, returned: str) -> None:
    api.get(CALL_URL, json={**CALL, "id": returned})
    assert make_client().get_call(CALL_ID).status == "ended"


@pytest.mark.parametrize("version", "1345678")
def test_id_may_be_a_uuid_of_any_version(api: requests_mock.Mocker, version: str) -> None:
    call_id = f"{CALL_ID[:14]}{version}{CALL_ID[15:]}"
    api.get(f"{API}/call/{call_id}", json={"id": call_id})
    assert make_client().get_call(call_id).id == call_id


@pytest.fixture
def _netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine api.vapi.ai login someone password else\ndefault login any password one\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))


@pytest.mark.usefixtures("_netrc")
def test_netrc_does_not_replace_the_key(api: requests_mock.Mocker) -> None:
    api.get(requests_mock.ANY, json=CALL)
    client = make_client()
    client.get_call(CALL_ID)
    client.session.get(CALL_URL)
    sent = [request.headers["Authorization"] for request in api.request_history]
    assert sent == [f"Bearer {KEY}"] * 2


@pytest.mark.usefixtures("_netrc")
def test_netrc_does_not_replace_the_key_after_a_redirect(api: requests_mock.Mocker) -> None:
    api.get(f"{CALL_URL}/call-logs", status_code=302, headers={"Location": f"{API}/logs"})
    api.get(f"{API}/logs", text="a log")
    assert make_client().session.get(f"{CALL_URL}/call-logs").text == "a log"
    assert api.last_request.headers["Authorization"] == f"Bearer {KEY}"


def test_client_sends_over_its_one_session(api: requests_mock.Mocker) -> None:
    api.get(CALL_URL, json=CALL)
    client = make_client()
    session = client.session
    session.headers["X-Mark"] = "seen"
    client.get_call(CALL_ID)
    assert client.session is session
    assert api.last_request.headers["X-Mark"] == "seen"


@pytest.mark.parametrize("url", [CALL_URL, "https://API.vapi.ai/call", "https://api.vapi.ai:443/call"])
def test_session_sends_the_key_to_the_api(api: requests_mock.Mocker, url: str) -> None:
    api.get(requests_mock.ANY, json=CALL)
    make_client().session.get(url)
    assert api.last_request.headers["Authorization"] == f"Bearer {KEY}"


OTHER_ORIGINS = [
    "https://storage.example.org/recording.wav",
    "https://vapi.ai/",
    "https://eu.api.vapi.ai/",
    "https://api.vapi.ai.example.org/",
    "https://api.vapi.ai:8443/",
    "http://api.vapi.ai/",
    "http://api.vapi.ai:443/",
    "https://api.vapi.ai@example.org/",
    "https://example.org\\@api.vapi.ai/",
    "https://example.org/https://api.vapi.ai/",
    "https://example.org#@api.vapi.ai/",
    "https://example.org?@api.vapi.ai/",
]


@pytest.mark.parametrize("url", OTHER_ORIGINS)
def test_session_sends_the_key_to_no_other_origin(api: requests_mock.Mocker, url: str) -> None:
    api.get(requests_mock.ANY, text="recording")
    make_client().session.get(url)
    assert api.call_count == 1
    assert KEY not in str(api.last_request.headers)


# A backslash in a Location is quoted, so the text before it becomes a user name at the API.
@pytest.mark.parametrize(
    "url", [url for url in OTHER_ORIGINS if url.startswith("https:") and "\\" not in url]
)
def test_followed_redirect_does_not_get_the_key(api: requests_mock.Mocker, url: str) -> None:
    recording = f"{CALL_URL}/mono-recording"
    api.get(requests_mock.ANY, text="recording")
    api.get(recording, status_code=302, headers={"Location": url})
    assert make_client().session.get(recording).text == "recording"
    first, second = api.request_history
    assert first.headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in str(second.headers)


def test_requests_to_loopback_bypass_proxies(
    monkeypatch: pytest.MonkeyPatch, raw_server: Callable[..., RawServer]
) -> None:
    proxy = raw_server(respond_with(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"))
    api = raw_server(respond_with(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", proxy.url)
    assert make_client(api.url, max_retries=0).list_page({"limit": 1}) == []
    assert proxy.heads == []
