# SPDX-License-Identifier: Apache-2.0
"""POST /call: single calls, batches, scheduled calls, limits and counted rings."""

from __future__ import annotations

from datetime import timedelta

import pytest

from vapi_provider.simulator import ManualClock, Timeline, VapiSimulator
from vapi_provider.simulator.timestamps import read_timestamp, write_timestamp

NUMBER, OTHER, THIRD = "+12025550143", "+12025550144", "+12025550145"
KINDS = "exactly one of assistantId, assistant, squadId, squad must be given"
PARTY = "exactly one of customer, customers, customerId must be given"
LINE = "a phone call needs either phoneNumberId or phoneNumber"


def test_call_is_placed_and_echoes_its_request(simulator, api, request_body):
    request_body |= {
        "name": "Reminder",
        "assistantVersion": "3",
        "assistantOverrides": {"metadata": {"a": 1}, "variableValues": {"b": 2}},
        "customer": {"number": NUMBER, "externalId": "x", "extension": "12", "email": "a@example.invalid"},
    }
    response = api("POST", "/call", json=request_body)
    assert response.status_code == 201
    call = response.json()
    assert call.pop("subscriptionLimits") == {
        "concurrencyBlocked": False,
        "concurrencyLimit": 10,
        "remainingConcurrentCalls": 9,
    }
    assert call == api("GET", f"/call/{call['id']}").json() == simulator.get_call(call["id"])
    assert {**call, **request_body} == call
    assert (call["status"], call["type"]) == ("queued", "outboundPhoneCall")
    assert call["monitor"]["controlUrl"].startswith(simulator.url)


def test_placed_call_keeps_its_timeline(simulator, api, clock, request_body):
    first = api("POST", "/call", json=request_body).json()["id"]
    simulator.timeline = Timeline(
        ringing=None, answered=None, ended=1, ended_reason="call.start.error-get-org"
    )
    second = api("POST", "/call", json=request_body).json()["id"]
    clock.advance(20)
    assert simulator.get_call(first)["endedReason"] == "customer-ended-call"
    assert simulator.get_call(second)["endedReason"] == "call.start.error-get-org"
    assert simulator.rings == {NUMBER: 1}


@pytest.mark.parametrize(
    "change",
    [
        {"assistantId": None, "assistant": {"model": {}}},
        {"assistantId": None, "squadId": "squad-1", "squadOverrides": {"variableValues": {}}},
        {"assistantVersion": None, "transport": {}},
        {
            "phoneNumberId": None,
            "phoneNumber": {"twilioPhoneNumber": "+12025550199", "twilioAccountSid": "AC"},
        },
        {"customer": None, "customerId": "customer-1"},
        {"customer": {"sipUri": "sip:someone@example.invalid"}},
        {"customer": {"number": "0202555", "numberE164CheckEnabled": False}},
        {"customer": {"number": "+desk12", "numberE164CheckEnabled": False}},
        {"customer": {"number": NUMBER, "numberE164CheckEnabled": True}},
        {"customer": {"number": NUMBER, "assistantOverrides": {"variableValues": {"a": 1}}}},
        {"assistantOverrides": {"tools:append": [], "voicemailDetection": "off", "maxDurationSeconds": 60.5}},
        {
            "squadId": "squad-1",
            "assistantId": None,
            "squadOverrides": {"voicemailDetection": {"provider": "vapi"}},
        },
        {"schedulePlan": {"earliestAt": "2020-01-01T00:00:00Z", "latestAt": "2020-01-02T00:00:00+01:00"}},
    ],
)
def test_valid_variants_are_placed(api, request_body, change):
    body = {name: value for name, value in (request_body | change).items() if value is not None}
    response = api("POST", "/call", json=body)
    assert (response.status_code, response.json().get("status")) == (201, "queued"), response.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"metadata": {}, "tries": 1},
            ["property metadata should not exist", "property tries should not exist"],
        ),
        ({"workflowId": "workflow-1"}, ["property workflowId should not exist"]),
        ({"workflow": {"nodes": []}}, ["property workflow should not exist"]),
        ({"workflowOverrides": {}}, ["property workflowOverrides should not exist"]),
        ({"name": "x" * 41}, ["name must be shorter than or equal to 40 characters"]),
        ({"name": None}, ["name must be a string"]),
        ({"assistantId": 1}, ["assistantId must be a string"]),
        ({"assistantOverrides": []}, ["assistantOverrides must be an object"]),
        ({"assistantOverrides": {"metadata": "x"}}, ["assistantOverrides.metadata must be an object"]),
        ({"squadOverrides": {"variableValues": 1}}, ["squadOverrides.variableValues must be an object"]),
        (
            {"assistantOverrides": {"first_name": "Ada"}},
            ["assistantOverrides.property first_name should not exist"],
        ),
        ({"squadOverrides": {"day": 1}}, ["squadOverrides.property day should not exist"]),
        (
            {"assistantOverrides": {"voicemailMessage": "x" * 1001, "maxDurationSeconds": "60"}},
            [
                "assistantOverrides.voicemailMessage must be shorter than or equal to 1000 characters",
                "assistantOverrides.maxDurationSeconds must be a number",
            ],
        ),
        (
            {"assistantId": ..., "assistant": {"variableValues": {}}},
            ["assistant.property variableValues should not exist"],
        ),
        ({"assistant": {}}, [KINDS]),
        ({"assistantId": ...}, [KINDS]),
        (
            {"assistantId": ..., "squadId": "s", "assistantVersion": "1"},
            ["assistantVersion needs assistantId"],
        ),
        ({"customer": ...}, [PARTY]),
        ({"customerId": "c"}, [PARTY]),
        ({"customer": ..., "customers": []}, ["customers must not be empty"]),
        ({"customers": {}}, ["customers must be an array"]),
        ({"phoneNumberId": ...}, [LINE]),
        (
            {"phoneNumber": {"twilioPhoneNumber": 1, "twilioAccountSid": "AC"}},
            [LINE, "phoneNumber.twilioPhoneNumber must be a string"],
        ),
        (
            {"phoneNumberId": ..., "phoneNumber": {"twilioPhoneNumber": "+12025550199"}},
            ["phoneNumber.twilioAccountSid must be a string"],
        ),
        ({"customer": NUMBER}, ["customer must be an object"]),
        ({"customer": {"number": NUMBER, "age": 7}}, ["customer.property age should not exist"]),
        ({"customer": {"number": 5}}, ["customer.number must be a string"]),
        (
            {"customer": {"number": NUMBER, "externalId": "x" * 41}},
            ["customer.externalId must be shorter than or equal to 40 characters"],
        ),
        (
            {"customer": {"number": "2025550143"}},
            ["customer.number must be a valid phone number in the E.164 format"],
        ),
        (
            {"customer": {"number": "+1", "numberE164CheckEnabled": False}},
            ["customer.number must be longer than or equal to 3 characters"],
        ),
        (
            {"customer": {"number": "0202 555", "numberE164CheckEnabled": False}},
            ["customer.number must contain only alphanumeric characters, after an optional plus"],
        ),
        (
            {"customer": {"number": "0202555", "numberE164CheckEnabled": True}},
            ["customer.number must be a valid phone number in the E.164 format"],
        ),
        (
            {"customer": {"number": NUMBER, "numberE164CheckEnabled": "no"}},
            ["customer.numberE164CheckEnabled must be a boolean"],
        ),
        (
            {"customer": {"number": NUMBER, "workflowOverrides": {}}},
            ["customer.property workflowOverrides should not exist"],
        ),
        ({"customer": {}}, ["customer.number or customer.sipUri must be given, and not both"]),
        ({"customer": {"sipUri": "example.invalid"}}, ["customer.sipUri must be a valid SIP URI"]),
        (
            {"customer": {"number": NUMBER, "assistantOverrides": {"metadata": 1}}},
            ["customer.assistantOverrides.metadata must be an object"],
        ),
        (
            {"customer": {"number": NUMBER, "squadOverrides": {"first_name": "Ada"}}},
            ["customer.squadOverrides.property first_name should not exist"],
        ),
        ({"schedulePlan": {}}, ["schedulePlan.earliestAt must be given"]),
        (
            {"schedulePlan": {"earliestAt": "9999-12-31T23:59:59Z", "latestAt": "3000-01-01T00:00:00Z"}},
            [
                "schedulePlan.earliestAt must be before the year 3000",
                "schedulePlan.latestAt must be before the year 3000",
            ],
        ),
        (
            {"schedulePlan": {"earliestAt": "2030-01-01T10:00:00"}},
            ["schedulePlan.earliestAt must be a valid ISO 8601 date string with an offset"],
        ),
        (
            {"schedulePlan": {"earliestAt": "2030-01-01T10:00:00Z", "latestAt": "later", "zone": "UTC"}},
            [
                "schedulePlan.property zone should not exist",
                "schedulePlan.latestAt must be a valid ISO 8601 date string with an offset",
            ],
        ),
    ],
)
def test_invalid_requests_are_refused(simulator, api, request_body, change, message):
    body = {name: value for name, value in (request_body | change).items() if value is not ...}
    response = api("POST", "/call", json=body)
    assert response.status_code == 400
    assert response.json() == {"message": message, "error": "Bad Request", "statusCode": 400}
    assert simulator.calls == {}


def test_body_that_is_not_json_is_refused(api):
    assert api("POST", "/call", data="{", headers={"Content-Type": "application/json"}).status_code == 400
    assert api("POST", "/call", data={"name": "form"}).status_code == 400


def test_batch_can_fail_in_part(simulator, api, clock, request_body):
    del request_body["customer"]
    customers = [{"number": NUMBER}, {"number": "12"}, "not an object", {"number": OTHER, "externalId": "o"}]
    response = api("POST", "/call", json={**request_body, "customers": customers})
    assert response.status_code == 201
    batch = response.json()
    assert [call["customer"] for call in batch["results"]] == [customers[0], customers[3]]
    assert batch["results"] == [simulator.get_call(call["id"]) for call in batch["results"]]
    assert [call for call in batch["results"] if "customers" in call] == []
    assert [error["customer"] for error in batch["errors"]] == customers[1:3]
    assert [error for error in batch["errors"] if not isinstance(error["error"], str)] == []
    assert batch["subscriptionLimits"] == {
        "concurrencyBlocked": False,
        "concurrencyLimit": 10,
        "remainingConcurrentCalls": 8,
    }
    clock.advance(1)
    assert simulator.rings == {NUMBER: 1, OTHER: 1}


class CountingClock(ManualClock):
    """Counts how often it is read, which is once for each call that is brought up to date."""

    def __init__(self):
        super().__init__()
        self.reads = 0

    def now(self):
        self.reads += 1
        return super().now()


def test_work_of_a_batch_grows_with_its_size(client, request_body):
    del request_body["customer"]
    clock, size = CountingClock(), 1000
    customers = [{"number": f"+12025550{number:03}"} for number in range(size)]
    with VapiSimulator(clock=clock, concurrency_limit=size - 1) as simulator:
        response = client(simulator)("POST", "/call", json={**request_body, "customers": customers})
    assert len(response.json()["results"]) == size - 1
    assert len(response.json()["errors"]) == 1
    assert clock.reads < 5 * size


def test_batch_over_the_limit_is_blocked_in_part(clock, client, request_body):
    del request_body["customer"]
    customers = [{"number": NUMBER}, {"number": OTHER}, {"number": THIRD}]
    with VapiSimulator(clock=clock, concurrency_limit=2) as simulator:
        response = client(simulator)("POST", "/call", json={**request_body, "customers": customers})
    assert response.status_code == 201
    batch = response.json()
    assert [call["customer"] for call in batch["results"]] == customers[:2]
    assert [error["customer"] for error in batch["errors"]] == customers[2:]
    assert batch["subscriptionLimits"] == {
        "concurrencyBlocked": True,
        "concurrencyLimit": 2,
        "remainingConcurrentCalls": 0,
    }


def test_call_over_the_limit_waits_for_a_free_line(clock, client, request_body):
    with VapiSimulator(clock=clock, concurrency_limit=1) as simulator:
        api = client(simulator)
        assert api("POST", "/call", json=request_body).status_code == 201
        response = api("POST", "/call", json=request_body)
        assert response.status_code == 400
        assert response.json()["message"].startswith("Over Concurrency Limit")
        clock.advance(10)
        assert api("POST", "/call", json=request_body).status_code == 201


def test_scheduled_call_takes_no_line_before_it_is_due(clock, client, request_body):
    earliest = clock.now() + timedelta(hours=1)
    request_body["schedulePlan"] = {"earliestAt": earliest.isoformat()}
    with VapiSimulator(clock=clock, concurrency_limit=1) as simulator:
        simulator.add_call()
        response = client(simulator)("POST", "/call", json=request_body)
        assert (response.status_code, response.json()["status"]) == (201, "scheduled")
        assert "monitor" not in response.json()
        call_id = response.json()["id"]
        clock.advance(3599.9)
        assert simulator.get_call(call_id)["status"] == "scheduled"
        clock.advance(0.1)
        call = simulator.get_call(call_id)
        assert (call["status"], call["updatedAt"]) == ("queued", write_timestamp(earliest))
        assert simulator.rings == {}
        clock.advance(12)
        call = simulator.get_call(call_id)
        assert call["analysis"]
        assert (read_timestamp(call["endedAt"]) - earliest).total_seconds() == pytest.approx(10, abs=0.001)
        assert simulator.rings == {NUMBER: 1}


def test_scheduled_call_that_is_cancelled_never_rings(simulator, api, clock, request_body):
    request_body["schedulePlan"] = {"earliestAt": write_timestamp(clock.now() + timedelta(hours=1))}
    call_id = api("POST", "/call", json=request_body).json()["id"]
    assert api("DELETE", f"/call/{call_id}", json={}).status_code == 200
    clock.advance(10_000)
    assert simulator.get_call(call_id)["endedReason"] == "scheduled-call-deleted"
    assert simulator.rings == {}


@pytest.mark.parametrize(
    ("party", "callee"),
    [
        ({"customer": {"number": NUMBER}}, NUMBER),
        ({"customer": {"number": NUMBER, "extension": "12"}}, f"{NUMBER};ext=12"),
        ({"customer": {"sipUri": "sip:a@example.invalid"}}, "sip:a@example.invalid"),
        ({"customerId": "customer-1"}, "customer-1"),
    ],
)
def test_phone_rings_once_per_call(simulator, api, clock, request_body, party, callee):
    del request_body["customer"]
    for _ in range(2):
        assert api("POST", "/call", json={**request_body, **party}).status_code == 201
    assert simulator.rings == {}
    clock.advance(1)
    assert simulator.rings == {callee: 2}
    clock.advance(100)
    assert simulator.rings == {callee: 2}


def test_rings_of_erased_calls_still_count(simulator, api, clock, request_body):
    call_id = api("POST", "/call", json=request_body).json()["id"]
    clock.advance(1)
    api("DELETE", f"/call/{call_id}", json={})
    assert simulator.rings == {NUMBER: 1}


def test_only_placed_calls_that_ring_are_counted(simulator, api, clock, request_body):
    simulator.add_call(timeline=Timeline())
    simulator.timeline = Timeline(ringing=None)
    api("POST", "/call", json=request_body)
    clock.advance(100)
    assert simulator.rings == {}
