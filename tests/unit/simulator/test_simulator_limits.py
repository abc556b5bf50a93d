# SPDX-License-Identifier: Apache-2.0
"""Calls over the concurrency limit in the three reported ways, and hidden fields."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

import pytest
import requests

from vapi_provider.simulator import ManualClock, Timeline, VapiSimulator

NUMBER = "+12025550143"
REASON = "call.start.error-subscription-concurrency-limit-reached"
MakeClient = Callable[[VapiSimulator], Callable[..., requests.Response]]


def limits(blocked: bool, limit: int, left: int) -> dict[str, Any]:
    return {"concurrencyBlocked": blocked, "concurrencyLimit": limit, "remainingConcurrentCalls": left}


def callee_field(number: int) -> dict[str, Any]:
    return {"customer": {"number": f"+120255501{number:02}"}}


def test_each_response_has_the_remaining_calls(
    clock: ManualClock, client: MakeClient, request_body: dict[str, Any]
) -> None:
    with VapiSimulator(clock=clock, concurrency_limit=3) as simulator:
        api = client(simulator)
        reported = [api("POST", "/call", json=request_body).json()["subscriptionLimits"] for _ in range(3)]
        assert reported == [limits(False, 3, 2), limits(False, 3, 1), limits(False, 3, 0)]
        clock.advance(10)
        response = api("POST", "/call", json=request_body).json()
        assert response["subscriptionLimits"] == limits(False, 3, 2)


def test_only_the_placing_response_has_the_limits(
    simulator: VapiSimulator, api: Callable[..., requests.Response], request_body: dict[str, Any]
) -> None:
    call_id = api("POST", "/call", json=request_body).json()["id"]
    assert "subscriptionLimits" not in api("GET", f"/call/{call_id}").json()
    assert "subscriptionLimits" not in api("GET", "/call").json()[0]
    assert "subscriptionLimits" not in api("PATCH", f"/call/{call_id}", json={"name": "x"}).json()
    assert "subscriptionLimits" not in simulator.get_call(call_id)


@pytest.mark.parametrize("options", [{}, {"over_limit": "refuse"}], ids=["by default", "when asked to"])
def test_call_over_the_limit_is_refused(
    clock: ManualClock, client: MakeClient, request_body: dict[str, Any], options: dict[str, Any]
) -> None:
    with VapiSimulator(clock=clock, concurrency_limit=1, **options) as simulator:
        api = client(simulator)
        assert api("POST", "/call", json={**request_body, **callee_field(43)}).status_code == 201
        response = api("POST", "/call", json={**request_body, **callee_field(44)})
        assert response.status_code == 400
        assert response.json()["message"].startswith("Over Concurrency Limit")
        assert response.json()["statusCode"] == 400
        assert response.json()["subscriptionLimits"] == limits(True, 1, 0)
        assert len(simulator.calls) == 1
        clock.advance(100)
        assert simulator.rings == {"+12025550143": 1}


def test_accepted_call_over_the_limit_ends_without_a_ring(
    clock: ManualClock, client: MakeClient, request_body: dict[str, Any]
) -> None:
    with VapiSimulator(clock=clock, concurrency_limit=1, over_limit="end") as simulator:
        api = client(simulator)
        assert api("POST", "/call", json={**request_body, **callee_field(43)}).json()["status"] == "queued"
        response = api("POST", "/call", json={**request_body, **callee_field(44)})
        assert response.status_code == 201
        assert response.json()["status"] == "queued"
        assert response.json()["subscriptionLimits"] == limits(True, 1, 0)
        call_id = response.json()["id"]
        clock.advance(1)
        call = api("GET", f"/call/{call_id}").json()
        assert (call["status"], call["endedReason"]) == ("ended", REASON)
        assert "startedAt" not in call
        clock.advance(100)
        assert simulator.rings == {"+12025550143": 1}
        assert not {"analysis", "cost"} & simulator.get_call(call_id).keys()
        # The first call has ended, so a line is free.
        third = api("POST", "/call", json={**request_body, **callee_field(44)}).json()
        assert third["subscriptionLimits"] == limits(False, 1, 0)
        clock.advance(100)
        assert simulator.get_call(third["id"])["endedReason"] == "customer-ended-call"
        assert simulator.rings == {"+12025550143": 1, "+12025550144": 1}


def test_accepted_call_over_the_limit_rings(
    clock: ManualClock, client: MakeClient, request_body: dict[str, Any]
) -> None:
    with VapiSimulator(clock=clock, concurrency_limit=1, over_limit="queue") as simulator:
        api = client(simulator)
        reported = []
        for number in (43, 44, 45):
            response = api("POST", "/call", json={**request_body, **callee_field(number)})
            assert (response.status_code, response.json()["status"]) == (201, "queued")
            reported.append(response.json()["subscriptionLimits"])
        assert reported == [limits(False, 1, 0), limits(True, 1, 0), limits(True, 1, 0)]
        clock.advance(100)
        assert simulator.rings == {f"+120255501{number}": 1 for number in (43, 44, 45)}
        assert {call["endedReason"] for call in simulator.calls.values()} == {"customer-ended-call"}


OVER_LIMIT: list[Literal["refuse", "end", "queue"]] = ["refuse", "end", "queue"]


@pytest.mark.parametrize("over_limit", OVER_LIMIT)
def test_scheduled_call_is_never_over_the_limit(
    clock: ManualClock, client: MakeClient, request_body: dict[str, Any], over_limit: Any
) -> None:
    request_body["schedulePlan"] = {"earliestAt": (clock.now() + timedelta(hours=1)).isoformat()}
    with VapiSimulator(clock=clock, concurrency_limit=1, over_limit=over_limit) as simulator:
        simulator.add_call(timeline=Timeline())
        response = client(simulator)("POST", "/call", json=request_body)
        assert (response.status_code, response.json()["status"]) == (201, "scheduled")
        assert response.json()["subscriptionLimits"] == limits(False, 1, 0)
        clock.advance(3700)
        assert simulator.rings == {NUMBER: 1}


@pytest.mark.parametrize(
    ("over_limit", "taken"), [("refuse", 1), ("end", 3), ("queue", 3)], ids=["refuse", "end", "queue"]
)
def test_batch_over_the_limit_is_marked(
    clock: ManualClock, client: MakeClient, request_body: dict[str, Any], over_limit: Any, taken: int
) -> None:
    del request_body["customer"]
    customers = [callee_field(number)["customer"] for number in (43, 44, 45)]
    with VapiSimulator(clock=clock, concurrency_limit=1, over_limit=over_limit) as simulator:
        response = client(simulator)("POST", "/call", json={**request_body, "customers": customers})
        assert response.status_code == 201
        assert (len(response.json()["results"]), len(response.json()["errors"])) == (taken, 3 - taken)
        assert response.json()["subscriptionLimits"] == limits(True, 1, 0)


# Hidden fields.


@pytest.mark.parametrize(
    "hidden",
    [{"name"}, ["assistantOverrides", "name"], ("customer",), {"endedReason"}, {"monitor"}],
    ids=lambda hidden: "+".join(hidden),
)
def test_no_response_shows_a_hidden_field(
    clock: ManualClock, client: MakeClient, request_body: dict[str, Any], hidden: Any
) -> None:
    request_body |= {"name": "Reminder", "assistantOverrides": {"variableValues": {"a": "b"}}}
    with VapiSimulator(clock=clock, hidden_fields=hidden) as simulator:
        api = client(simulator)
        placed = api("POST", "/call", json=request_body).json()
        path = f"/call/{placed['id']}"
        responses = [placed, api("GET", path).json(), *api("GET", "/call").json()]
        clock.advance(60)
        responses += [api("GET", path).json(), *api("GET", "/call").json()]
        responses += [
            api("PATCH", path, json={"name": "Another"}).json(),
            api("DELETE", path, json={}).json(),
        ]
        assert simulator.rings == {NUMBER: 1}
    assert len(responses) == 7
    shown = {"name", "assistantOverrides", "customer", "id", "status"} - set(hidden)
    for response in responses:
        assert not set(hidden) & response.keys()
        assert shown <= response.keys()


def test_lagging_list_shows_no_hidden_field(
    clock: ManualClock, client: MakeClient, request_body: dict[str, Any]
) -> None:
    with VapiSimulator(clock=clock, hidden_fields={"name"}, list_lag=5) as simulator:
        api = client(simulator)
        placed = api("POST", "/call", json={**request_body, "name": "Reminder"}).json()
        clock.advance(6)
        [listed] = api("GET", "/call").json()
        assert (listed["id"], "name" in listed) == (placed["id"], False)


def test_by_default_every_field_is_shown(
    api: Callable[..., requests.Response], request_body: dict[str, Any]
) -> None:
    request_body |= {"name": "Reminder", "assistantOverrides": {"metadata": {"a": "b"}}}
    placed = api("POST", "/call", json=request_body).json()
    shown = api("GET", f"/call/{placed['id']}").json()
    assert {**shown, **request_body} == shown
    assert "monitor" in shown
