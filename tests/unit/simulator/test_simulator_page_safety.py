# SPDX-License-Identifier: Apache-2.0
"""What the pages must not show or load, and who may open them; the count of rings."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from page_reader import Page, open_path

from vapi_provider.simulator import Fault, ManualClock, StructuredOutput, VapiSimulator

UNKNOWN_ID = "0198a3f0-0000-7000-8000-00000000000a"
NUMBER = "+12025550143"
SCRIPT = "<script>alert('x')</script>&amp;"

Api = Callable[..., requests.Response]


# What a page must not do.


def scripted_call(simulator: VapiSimulator) -> str:
    """Add a call with markup in every text that a page shows."""
    call_id = simulator.add_call(
        body={
            "status": SCRIPT,
            "name": SCRIPT,
            "endedReason": SCRIPT,
            "assistantId": SCRIPT,
            "customer": {"name": SCRIPT, "number": SCRIPT},
            "analysis": {SCRIPT: SCRIPT, "other": {SCRIPT: [SCRIPT]}},
            "artifact": {"messages": [{"role": "user", "message": SCRIPT}]},
        }
    )
    simulator.add_structured_output(call_id, StructuredOutput(SCRIPT, SCRIPT))
    return call_id


def test_pages_escape_everything(simulator: VapiSimulator, api: Api) -> None:
    call_id = scripted_call(simulator)
    api("GET", f"/call/{SCRIPT}", params={"assistantId": SCRIPT})
    for path, at_least in ((f"/calls/{call_id}", 11), ("/", 4)):
        page = Page(open_path(simulator, path))
        assert page.elements.isdisjoint({"script", "img", "iframe", "form"})
        assert page.text.count(SCRIPT) >= at_least


def test_pages_shorten_long_texts(simulator: VapiSimulator, api: Api) -> None:
    long = "x" * 1_000_000
    call_id = simulator.add_call(
        body={
            "status": long,
            "name": long,
            "endedReason": long,
            "assistantId": long,
            "customer": {"name": long, "number": long},
            "analysis": {long: long, "other": {long: [long]}},
            "artifact": {"messages": [{"role": "user", "message": long}]},
        }
    )
    simulator.add_structured_output(call_id, StructuredOutput(long, long))
    api("GET", "/call", params={"assistantId": long[:5000]})
    for path in (f"/calls/{call_id}", "/"):
        page = open_path(simulator, path).text
        assert "…" in page
        assert len(page) < 50_000


def test_call_page_shows_the_latest_of_many(simulator: VapiSimulator) -> None:
    messages = [{"role": "user", "message": f"message {number}."} for number in range(1000)]
    outputs = {f"id-{number}": {"name": f"output {number}.", "result": 1} for number in range(1000)}
    call_id = simulator.add_call(body={"artifact": {"messages": messages, "structuredOutputs": outputs}})
    for number in range(1000):
        simulator.set_status(call_id, f"status {number}.")
    page = Page(open_path(simulator, f"/calls/{call_id}"))
    for text, most in (("message", 200), ("output", 50), ("status", 100)):
        assert f"{text} 999." in page.text
        assert f"{text} 500." not in page.text
        assert f"latest {most} of 100" in page.text


def test_page_escapes_an_unknown_id(simulator: VapiSimulator) -> None:
    response = open_path(simulator, "/calls/%3Cscript%3Ealert(1)%3C%2Fscript%3E")
    assert response.status_code == 404
    assert "script" not in Page(response).elements


def test_pages_contain_no_credential(
    simulator: VapiSimulator, api: Api, clock: ManualClock, request_body: dict[str, Any]
) -> None:
    del request_body["assistantId"], request_body["phoneNumberId"]
    request_body |= {
        "assistant": {"server": {"secret": "planted-1"}, "credentials": [{"apiKey": "planted-2"}]},
        "assistantOverrides": {"variableValues": {"token": "planted-3"}},
        "phoneNumber": {
            "twilioPhoneNumber": "+12025550199",
            "twilioAccountSid": "planted-4",
            "twilioAuthToken": "planted-5",
        },
    }
    call = api("POST", "/call", json=request_body).json()
    clock.advance(4)
    control_token = call["monitor"]["controlUrl"].rpartition("/")[2]
    api("GET", "/call", params={"key": simulator.api_key})
    requests.post(call["monitor"]["controlUrl"], json={"type": "say"}, timeout=20)
    for seconds in (0, 60):
        clock.advance(seconds)
        for path in ("/", f"/calls/{call['id']}", "/__simulator/rings"):
            content = open_path(simulator, path).text
            for secret in ("planted-", simulator.api_key, control_token):
                assert secret not in content


def test_pages_load_nothing_and_refresh_themselves(simulator: VapiSimulator) -> None:
    for path in ("/", f"/calls/{simulator.add_call()}", f"/calls/{UNKNOWN_ID}"):
        response = open_path(simulator, path)
        page = Page(response)
        assert ("http-equiv", "refresh") in page.attributes
        targets = [value for name, value in page.attributes if name in ("src", "href", "action", "data")]
        assert [each for each in targets if each and not each.startswith(("/", "data:"))] == []
        assert "url(" not in response.text
        assert "@import" not in response.text
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "frame-ancestors 'none'" in policy
        assert response.headers["Cache-Control"] == "no-store"


def test_pages_are_not_part_of_the_api(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call()
    simulator.faults.add(Fault(status=503))
    for path in ("/", f"/calls/{call_id}", "/__simulator/rings"):
        assert open_path(simulator, path).status_code == 200
    assert simulator.requests == []
    assert len(simulator.faults) == 1


# Who may open them.


def test_server_listens_on_one_loopback_address(simulator: VapiSimulator) -> None:
    port = urlsplit(simulator.url).port
    assert port is not None
    # All of 127.0.0.0/8 is this machine, and the simulator listens on one address of it.
    with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.2", port), timeout=20):
        pass


@pytest.mark.parametrize("path", ["/", f"/calls/{UNKNOWN_ID}", "/__simulator/rings"])
@pytest.mark.parametrize(
    "host",
    [
        "rebound.example.invalid",
        "rebound.example.invalid:80",
        "127.0.0.1.example.invalid",
        "10.0.0.1",
        "[",
    ],
)
def test_pages_refuse_foreign_host_names(simulator: VapiSimulator, path: str, host: str) -> None:
    simulator.add_call(body={"id": UNKNOWN_ID, "name": "Reminder"})
    response = open_path(simulator, path, Host=host)
    assert response.status_code == 403
    assert "serves only its own machine" in response.json()["message"]
    assert "Reminder" not in response.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8765", "127.0.0.1", "127.0.0.1:8765", "[::1]:8765"])
def test_pages_accept_loopback_host_names(simulator: VapiSimulator, host: str) -> None:
    assert open_path(simulator, Host=host).status_code == 200


@pytest.mark.parametrize(
    ("client", "status"),
    [(("10.0.0.1", 5000), 403), (None, 403), (("127.0.0.1", 5000), 200), (("::1", 5000), 200)],
)
def test_pages_refuse_other_machines(client: tuple[str, int] | None, status: int) -> None:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "root_path": "",
        "client": client,
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(VapiSimulator().app({**scope, "headers": [(b"host", b"localhost")]}, receive, send))
    assert sent[0]["status"] == status


def test_rings_can_be_read_without_the_key(
    simulator: VapiSimulator, api: Api, clock: ManualClock, request_body: dict[str, Any]
) -> None:
    for _ in range(2):
        api("POST", "/call", json=request_body)
    assert open_path(simulator, "/__simulator/rings").json() == {}
    clock.advance(2)
    response = open_path(simulator, "/__simulator/rings")
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == simulator.rings == {NUMBER: 2}
