# SPDX-License-Identifier: Apache-2.0
"""What the pages show: all calls at ``/``, one call at ``/calls/{id}``."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import pytest
import requests
from page_reader import Page, call_page, open_path

from vapi_provider.simulator import ManualClock, Scenario, StructuredOutput, Timeline, VapiSimulator

UNKNOWN_ID = "0198a3f0-0000-7000-8000-00000000000a"
NUMBER = "+12025550143"

Api = Callable[..., requests.Response]


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


@pytest.mark.parametrize(
    ("reason", "tone"),
    [
        ("call.forwarding.operator-busy", "good"),
        ("customer-did-not-answer", "warn"),
        ("vonage-rejected", "bad"),
        ("manually-canceled", "idle"),
        ("a-reason-of-tomorrow", "idle"),
    ],
)
def test_ended_reason_has_the_colour_of_its_outcome(simulator: VapiSimulator, reason: str, tone: str) -> None:
    call_id = simulator.add_call(status="in-progress")
    simulator.end_call(call_id, reason)
    assert f'<span class="pill {tone}">{reason}</span>' in open_path(simulator, f"/calls/{call_id}").text


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
