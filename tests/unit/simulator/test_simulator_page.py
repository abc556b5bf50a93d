# SPDX-License-Identifier: Apache-2.0
"""The pages for a browser: all calls at ``/``, one call at ``/calls/{id}``, and the count of rings."""

from __future__ import annotations

import asyncio
import html
import socket
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from vapi_provider.simulator import Fault, ManualClock, Scenario, StructuredOutput, Timeline, VapiSimulator

UNKNOWN_ID = "0198a3f0-0000-7000-8000-00000000000a"
NUMBER = "+12025550143"
SCRIPT = "<script>alert('x')</script>&amp;"

Api = Callable[..., requests.Response]


class Page(HTMLParser):
    """Collects the elements, the attributes and the text of a page."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(response.text)
        self.text = " ".join(self.texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def has_in_order(self, *texts: str) -> bool:
        """Return True if the page has these texts in this order."""
        position = 0
        for text in texts:
            position = self.text.find(text, position)
            if position < 0:
                return False
        return True


def open_path(simulator: VapiSimulator, path: str = "/", **headers: str) -> requests.Response:
    """Open a page like a browser, without the key."""
    return requests.get(simulator.url + path, headers=headers, timeout=20)


def call_page(simulator: VapiSimulator, call_id: str) -> Page:
    response = open_path(simulator, f"/calls/{call_id}")
    assert response.status_code == 200
    return Page(response)


# All calls.


def test_list_shows_each_call(
    simulator: VapiSimulator, api: Api, clock: ManualClock, request_body: dict[str, Any]
) -> None:
    simulator.timeline = Scenario(outcomes={"+12025550101": "customer-busy"})
    people = {"Ada": "+12025550101", "Grace": "+12025550102"}
    for name, number in people.items():
        body = {**request_body, "customer": {"name": name, "number": number}, "name": f"Reminder {name}"}
        assert api("POST", "/call", json=body).status_code == 201
        clock.advance(125)
    api("POST", "/call", json=request_body)
    clock.advance(5)
    response = open_path(simulator)
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    page = Page(response)
    assert page.has_in_order(
        "1", "of 10 lines", "Live calls", "3", "Calls", "3", "Rings", "3", "API requests"
    )
    assert page.has_in_order("in-progress", NUMBER, "1", "5 s")
    assert page.has_in_order(
        "ended", "Grace", "+12025550102", "Reminder Grace", "customer-ended-call", "2 min"
    )
    assert page.has_in_order("ended", "Ada", "+12025550101", "Reminder Ada", "customer-busy", "1", "4 min")
    links = {value for name, value in page.attributes if name == "href"}
    assert {f"/calls/{call_id}" for call_id in simulator.calls} <= links


def test_list_counts_rings_per_call_and_callee(
    simulator: VapiSimulator, api: Api, clock: ManualClock, request_body: dict[str, Any]
) -> None:
    for _ in range(2):
        api("POST", "/call", json=request_body)
    clock.advance(2)
    simulator.add_call(timeline=Timeline(ringing=0))
    assert open_path(simulator).text.count('1<small class="muted"> of 2') == 2
    assert Page(open_path(simulator)).text.count(" of 2") == 2


def test_empty_list_shows_where_to_point_a_connection(simulator: VapiSimulator) -> None:
    page = Page(open_path(simulator))
    assert page.has_in_order("No calls yet", simulator.url, "Latest requests", "None so far.")


def test_list_shows_the_latest_requests(simulator: VapiSimulator, api: Api) -> None:
    for limit in range(25):
        api("GET", "/call", params={"limit": limit})
    api("PATCH", f"/call/{UNKNOWN_ID}", json={"name": "x"})
    page = Page(open_path(simulator))
    assert page.has_in_order(
        "latest 20 of 26", "PATCH", f"/call/{UNKNOWN_ID}", "404", "/call?limit=24", "200"
    )
    assert "limit=5" not in page.text


def test_list_shows_the_newest_100_calls(simulator: VapiSimulator, clock: ManualClock) -> None:
    for number in range(101):
        simulator.add_call(body={"name": f"Call {number:03}"})
        clock.advance(1)
    page = Page(open_path(simulator))
    assert page.has_in_order("latest 100 of 101", "Call 100", "Call 001")
    assert "Call 000" not in page.text


# One call.


def test_page_shows_the_life_of_a_call(
    simulator: VapiSimulator, api: Api, clock: ManualClock, request_body: dict[str, Any]
) -> None:
    mood, skipped = (
        StructuredOutput("Mood", {"mood": "good"}, lag=1),
        StructuredOutput("Score", is_skipped=True),
    )
    simulator.timeline = Timeline(structured_outputs=(mood, skipped))
    call = api("POST", "/call", json={**request_body, "name": "Reminder"}).json()
    clock.advance(4)
    api("PATCH", f"/call/{call['id']}", json={"name": "Reminder: talking"})
    clock.advance(60)
    page = call_page(simulator, call["id"].upper())
    assert page.has_in_order(
        "Timeline", "queued", "+0.0 s", "ringing", "+1.0 s", "in-progress", "+3.0 s", "renamed to ",
        "Reminder: talking", "+4.0 s", "ended", "+10.0 s", "output ", "Mood", "+11.0 s", "skipped output ", "Score",
        "+12.0 s", "analysis, transcript and cost", "+12.0 s",
    )  # fmt: skip
    assert page.has_in_order(
        "Details",
        call["id"],
        NUMBER,
        "Rings",
        "1",
        "Call name",
        "Reminder: talking",
        "assistant-1",
        "7.0 s",
        "$0.0512",
    )
    assert page.text.count("output ") == 2
    assert page.has_in_order(
        "Transcript", "Assistant", "this is Riley", "Callee", "Yes, Tuesday at ten is fine."
    )
    assert page.has_in_order(
        "Results", "Summary", "confirmed the appointment", "Mood", '"mood": "good"', "Score", "skipped"
    )
    assert page.has_in_order("Latest requests for this call", "PATCH", f"/call/{call['id']}", "200")


def test_page_of_a_scheduled_call_shows_when_it_is_due(
    simulator: VapiSimulator, api: Api, request_body: dict[str, Any]
) -> None:
    plan = {"earliestAt": "2099-12-24T18:00:00+01:00"}
    call = api("POST", "/call", json={**request_body, "schedulePlan": plan}).json()
    page = call_page(simulator, call["id"])
    assert page.has_in_order("scheduled", "Due", "2099-12-24 17:00:00 UTC")
    assert "Answered" not in page.texts


def test_page_follows_the_call(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="ringing")
    assert "ended" not in call_page(simulator, call_id).texts
    simulator.end_call(call_id, "customer-busy", transcript="User: Not now.")
    assert call_page(simulator, call_id).has_in_order("ended", "customer-busy", "Callee", "Not now.")


def test_page_shows_an_analysis_that_is_added_later(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="ended")
    simulator.add_analysis(call_id, {"summary": "Late.", "other": [1]})
    assert call_page(simulator, call_id).has_in_order("analysis", "Summary", "Late.", "other", "1")


@pytest.mark.parametrize(
    "body",
    [
        {"name": None},
        {"name": 7},
        {"name": ["a"]},
        {"name": "a\ud800b"},
        {"name": "M\u00fcller"},
        {"customer": "text", "artifact": 5, "analysis": [], "cost": "free", "createdAt": 7},
        {
            "customer": {"number": ["a"]},
            "artifact": {"messages": [None], "structuredOutputs": {"so-1": None}},
        },
    ],
)
def test_pages_show_any_field(simulator: VapiSimulator, body: dict[str, Any]) -> None:
    response = open_path(simulator, f"/calls/{simulator.add_call(body=body)}")
    assert (response.status_code, open_path(simulator).status_code) == (200, 200)
    if body.get("name") is not None:
        assert html.escape(str(body["name"]).replace("\ud800", "?")) in response.text


def test_page_of_an_unknown_call_is_404(simulator: VapiSimulator) -> None:
    response = open_path(simulator, f"/calls/{UNKNOWN_ID}")
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert Page(response).has_in_order("All calls", "No such call", UNKNOWN_ID)


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
    assert "browsers on its own machine" in response.json()["message"]
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
