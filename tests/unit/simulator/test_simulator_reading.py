# SPDX-License-Identifier: Apache-2.0
"""GET /call/{id} and GET /call."""

from __future__ import annotations

import pytest

from vapi_provider.simulator import Timeline, VapiSimulator
from vapi_provider.simulator.timestamps import read_timestamp

UNKNOWN = "0198a3f0-0000-7000-8000-00000000000a"


def ids(response):
    assert response.status_code == 200
    return [call["id"] for call in response.json()]


def test_whole_call_is_returned(simulator, api):
    call_id = simulator.add_call(status="in-progress", body={"name": "Erinnerung f\xfcr \u263a"})
    response = api("GET", f"/call/{call_id.upper()}")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == simulator.get_call(call_id)


def test_lone_surrogate_is_escaped(simulator, api):
    call_id = simulator.add_call(body={"name": "\ud800"})
    assert api("GET", f"/call/{call_id}").json()["name"] == "\ud800"


def test_unknown_call_is_not_found(api):
    response = api("GET", f"/call/{UNKNOWN}")
    assert response.status_code == 404
    assert response.json()["error"] == "Not Found"
    assert response.json()["statusCode"] == 404


@pytest.mark.parametrize(
    "call_id", ["None", "1", UNKNOWN.replace("-", ""), f"{{{UNKNOWN}}}", f"{UNKNOWN}%20"]
)
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_id_that_is_not_a_uuid_is_refused(api, method, call_id):
    response = api(method, f"/call/{call_id}", json={})
    assert response.status_code == 400
    assert response.json() == {"message": ["id must be a UUID"], "error": "Bad Request", "statusCode": 400}


def test_live_call_has_a_control_url_on_the_simulator(simulator, api):
    call_id = simulator.add_call(status="ringing")
    monitor = api("GET", f"/call/{call_id}").json()["monitor"]
    assert monitor["controlUrl"].startswith(f"{simulator.url}/control/")
    assert monitor["listenUrl"].startswith("ws://127.0.0.1:")
    simulator.end_call(call_id)
    assert "monitor" not in api("GET", f"/call/{call_id}").json()


def test_list_is_empty_at_first(api):
    assert ids(api("GET", "/call")) == []


def test_list_is_newest_first_and_100_by_default(simulator, api, clock):
    added = []
    for _ in range(105):
        added.insert(0, simulator.add_call())
        clock.advance(1)
    assert ids(api("GET", "/call")) == added[:100]
    assert ids(api("GET", "/call?limit=1000")) == added
    assert ids(api("GET", "/call?limit=2")) == added[:2]
    assert ids(api("GET", "/call?limit=0")) == []


def test_list_shows_whole_current_calls(simulator, api, clock):
    call_id = simulator.add_call(timeline=Timeline())
    assert api("GET", "/call").json() == [simulator.get_call(call_id)]
    clock.advance(10)
    assert api("GET", "/call").json() == [simulator.get_call(call_id)]
    assert api("GET", "/call").json()[0]["status"] == "ended"


def test_exact_filters(simulator, api):
    first = simulator.add_call(body={"assistantId": "a", "phoneNumberId": "p"})
    second = simulator.add_call(body={"assistantId": "b", "phoneNumberId": "p"})
    assert ids(api("GET", "/call", params={"assistantId": "a"})) == [first]
    assert set(ids(api("GET", "/call", params={"phoneNumberId": "p"}))) == {first, second}
    assert ids(api("GET", "/call", params={"phoneNumberId": "p", "assistantId": "b"})) == [second]
    assert ids(api("GET", "/call", params={"id": second})) == [second]
    assert ids(api("GET", "/call", params={"assistantId": ""})) == []


@pytest.mark.parametrize(
    ("comparison", "positions"), [("Gt", [2]), ("Ge", [2, 1]), ("Lt", [0]), ("Le", [1, 0])]
)
@pytest.mark.parametrize("name", ["createdAt", "updatedAt"])
def test_time_filters(simulator, api, clock, name, comparison, positions):
    added = []
    for _ in range(3):
        added.append(simulator.add_call())
        clock.advance(1)
    bound = simulator.get_call(added[1])[name]
    expected = [added[position] for position in positions]
    assert ids(api("GET", "/call", params={f"{name}{comparison}": bound})) == expected
    shifted = read_timestamp(bound).isoformat()
    assert ids(api("GET", "/call", params={f"{name}{comparison}": shifted})) == expected


def test_updated_at_moves_with_every_change(simulator, api, clock):
    call_id = simulator.add_call()
    clock.advance(5)
    since = {"updatedAtGt": simulator.get_call(call_id)["updatedAt"]}
    assert ids(api("GET", "/call", params=since)) == []
    simulator.set_status(call_id, "ringing")
    assert ids(api("GET", "/call", params=since)) == [call_id]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("status=ended", "property status should not exist"),
        ("limit=1001", "limit must not be greater than 1000"),
        ("limit=-1", "limit must be a number"),
        ("limit=ten", "limit must be a number"),
        ("limit=", "limit must be a number"),
        ("createdAtGe=yesterday", "createdAtGe must be a valid ISO 8601 date string"),
        # The plus sign of the offset is not percent-encoded.
        ("updatedAtLt=2026-01-01T00:00:00+00:00", "updatedAtLt must be a valid ISO 8601 date string"),
        ("limit=1&limit=2", "a query parameter must not be repeated"),
    ],
)
def test_invalid_filters_are_refused(simulator, api, query, message):
    simulator.add_call()
    response = api("GET", f"/call?{query}")
    assert response.status_code == 400
    assert response.json() == {"message": [message], "error": "Bad Request", "statusCode": 400}


def test_lagging_list_shows_earlier_states(clock, client):
    with VapiSimulator(clock=clock, list_lag=5) as simulator:
        api = client(simulator)
        call_id = simulator.add_call()
        assert ids(api("GET", "/call")) == []
        assert api("GET", f"/call/{call_id}").status_code == 200
        clock.advance(5)
        assert ids(api("GET", "/call")) == [call_id]
        simulator.end_call(call_id)
        ended_at = simulator.get_call(call_id)["updatedAt"]
        clock.advance(4)
        assert [call["status"] for call in api("GET", "/call").json()] == ["queued"]
        assert ids(api("GET", "/call", params={"updatedAtGe": ended_at})) == []
        clock.advance(1)
        assert [call["status"] for call in api("GET", "/call").json()] == ["ended"]
        assert ids(api("GET", "/call", params={"updatedAtGe": ended_at})) == [call_id]


def test_lagging_list_follows_timelines(clock, client):
    with VapiSimulator(clock=clock, list_lag=2) as simulator:
        simulator.add_call(timeline=Timeline(ringing=1, answered=3, ended=10))
        clock.advance(4)
        assert client(simulator)("GET", "/call").json()[0]["status"] == "ringing"
