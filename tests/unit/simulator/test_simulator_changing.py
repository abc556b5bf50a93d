# SPDX-License-Identifier: Apache-2.0
"""PATCH and DELETE /call/{id}, and the control URL."""

from __future__ import annotations

import pytest
import requests

from vapi_provider.simulator import Timeline

UNKNOWN = "0198a3f0-0000-7000-8000-00000000000a"


def refused(response, message):
    assert response.status_code == 400
    assert response.json() == {"message": message, "error": "Bad Request", "statusCode": 400}


def test_call_is_renamed(simulator, api, clock):
    call_id = simulator.add_call(status="ended")
    before = simulator.get_call(call_id)
    clock.advance(1)
    name = "\u263a" * 40
    response = api("PATCH", f"/call/{call_id}", json={"name": name})
    assert response.status_code == 200
    assert (
        response.json()
        == simulator.get_call(call_id)
        == {**before, "name": name, "updatedAt": response.json()["updatedAt"]}
    )
    assert response.json()["updatedAt"] > before["updatedAt"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": "x" * 41}, ["name must be shorter than or equal to 40 characters"]),
        ({"name": None}, ["name must be a string"]),
        ({"name": 5}, ["name must be a string"]),
        (
            {"status": "ended", "metadata": {}},
            ["property status should not exist", "property metadata should not exist"],
        ),
        ([], "The request's body must be a JSON object"),
        ("name", "The request's body must be a JSON object"),
    ],
)
def test_invalid_updates_are_refused(simulator, api, body, message):
    call_id = simulator.add_call()
    before = simulator.get_call(call_id)
    refused(api("PATCH", f"/call/{call_id}", json=body), message)
    assert simulator.get_call(call_id) == before


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"name": NaN}', b"[" * 100_000])
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_body_that_is_not_json_is_refused(simulator, api, method, content):
    call_id = simulator.add_call()
    headers = {"Content-Type": "application/json; charset=utf-8"}
    response = api(method, f"/call/{call_id}", data=content, headers=headers)
    refused(response, "The request's body is not valid JSON")
    assert call_id in simulator.calls


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_content_type_must_be_json(simulator, api, method):
    response = api(method, f"/call/{simulator.add_call()}", data={"name": "form"})
    refused(response, "The request's Content-Type must be application/json")


@pytest.mark.parametrize(
    ("method", "body"), [("PATCH", {"name": "x"}), ("DELETE", {}), ("DELETE", {"ids": []})]
)
def test_unknown_call_is_not_found(api, method, body):
    assert api(method, f"/call/{UNKNOWN}", json=body).status_code == 404


def test_call_is_erased(simulator, api):
    call_id = simulator.add_call(status="ended")
    call = simulator.get_call(call_id)
    response = api("DELETE", f"/call/{call_id}", json={})
    assert (response.status_code, response.json()) == (200, call)
    assert api("GET", f"/call/{call_id}").status_code == 404
    assert simulator.calls == {}


def test_ids_in_the_body_replace_the_id_in_the_path(simulator, api):
    first, second, third = (simulator.add_call() for _ in range(3))
    response = api("DELETE", f"/call/{third}", json={"ids": [first, second, UNKNOWN]})
    assert (response.status_code, response.json()["id"]) == (200, first)
    assert list(simulator.calls) == [third]


def test_deleting_a_scheduled_call_cancels_it(simulator, api, clock):
    call_id = simulator.add_call(status="scheduled")
    clock.advance(2)
    response = api("DELETE", f"/call/{call_id}", json={})
    assert response.status_code == 200
    call = api("GET", f"/call/{call_id}").json()
    assert call == response.json()
    assert (call["status"], call["endedReason"]) == ("ended", "scheduled-call-deleted")
    assert call["endedAt"] == call["updatedAt"] > call["createdAt"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"id": UNKNOWN}, ["property id should not exist"]),
        ({"ids": UNKNOWN}, ["ids must be an array"]),
        ({"ids": [1]}, ["each value in ids must be a string"]),
    ],
)
def test_invalid_deletions_are_refused(simulator, api, body, message):
    call_id = simulator.add_call()
    refused(api("DELETE", f"/call/{call_id}", json=body), message)
    assert call_id in simulator.calls


def hang_up(simulator, call_id, body, **headers):
    control_url = simulator.get_call(call_id)["monitor"]["controlUrl"]
    return control_url, requests.post(control_url, json=body, headers=headers, timeout=20)


def test_control_url_ends_a_live_call(simulator, clock):
    other = simulator.add_call(status="in-progress")
    call_id = simulator.add_call(timeline=Timeline(ended=10, analysis=12))
    clock.advance(4)
    control_url, response = hang_up(simulator, call_id, {"type": "end-call"})
    assert response.status_code == 200
    call = simulator.get_call(call_id)
    assert (call["status"], call["endedReason"]) == ("ended", "manually-canceled")
    assert simulator.get_call(other)["status"] == "in-progress"
    again = requests.post(control_url, json={"type": "end-call"}, timeout=20)
    assert again.status_code == 404
    clock.advance(1.9)
    assert "analysis" not in simulator.get_call(call_id)
    clock.advance(0.1)
    assert "analysis" in simulator.get_call(call_id)


def test_without_a_timeline_nothing_follows_a_hang_up(simulator, clock):
    call_id = simulator.add_call(status="ringing")
    hang_up(simulator, call_id, {"type": "end-call"})
    clock.advance(1000)
    assert "analysis" not in simulator.get_call(call_id)


def test_control_url_refuses_the_private_key(simulator):
    call_id = simulator.add_call()
    _, response = hang_up(
        simulator, call_id, {"type": "end-call"}, Authorization=f"Bearer {simulator.api_key}"
    )
    refused(response, "A control URL must not be sent the private key")
    assert simulator.get_call(call_id)["status"] == "queued"


@pytest.mark.parametrize("body", [{}, {"type": "say"}, {"type": "end-call", "more": 1}])
def test_unknown_control_messages_are_refused(simulator, body):
    call_id = simulator.add_call()
    _, response = hang_up(simulator, call_id, body)
    refused(response, ["the simulator only understands the type end-call"])
    assert simulator.get_call(call_id)["status"] == "queued"


def test_unknown_control_url_is_not_found(simulator):
    simulator.add_call()
    response = requests.post(f"{simulator.url}/control/guess", json={"type": "end-call"}, timeout=20)
    assert response.status_code == 404
