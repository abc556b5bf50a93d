# SPDX-License-Identifier: Apache-2.0
"""Access: the key, the User-Agent, unknown routes, and the headers of every response."""

from __future__ import annotations

import http.client
from email.utils import parsedate_to_datetime

import pytest
import requests

from vapi_provider.simulator import Fault, VapiSimulator

CALL = "0198a3f0-0000-7000-8000-00000000000a"


@pytest.mark.parametrize(("method", "path"), [("GET", "/call"), ("POST", "/call")])
@pytest.mark.parametrize(
    "authorization", [None, "Bearer wrong-key", "simulator-key", "Bearer ", "Bearer schl\xfcssel"]
)
def test_every_route_needs_the_key(simulator, method, path, authorization):
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    response = requests.request(method, simulator.url + path, headers=headers, json={}, timeout=20)
    assert response.status_code == 401
    assert response.json()["statusCode"] == 401
    assert response.json()["error"] == "Unauthorized"
    assert response.json()["message"].startswith("Invalid Key")
    assert "wrong-key" not in response.text


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_every_route_of_one_call_needs_the_key(simulator, method):
    call_id = simulator.add_call()
    response = requests.request(method, f"{simulator.url}/call/{call_id}", json={}, timeout=20)
    assert response.status_code == 401
    assert call_id in simulator.calls


def test_request_without_a_user_agent_gets_a_403(simulator):
    connection = http.client.HTTPConnection(simulator.url.removeprefix("http://"), timeout=20)
    connection.request("GET", "/call", headers={"Authorization": f"Bearer {simulator.api_key}"})
    response = connection.getresponse()
    assert response.status == 403
    assert response.headers.get_content_type() == "text/plain"
    assert response.read() == b"error code: 1010"
    connection.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/"), ("PUT", "/call"), ("POST", f"/call/{CALL}"), ("GET", "/call/"), ("GET", "/docs")],
)
def test_unknown_route_is_not_found(api, method, path):
    response = api(method, path)
    assert response.status_code == 404
    assert response.json() == {"message": f"Cannot {method} {path}", "error": "Not Found", "statusCode": 404}


def test_every_response_has_the_date_of_the_clock(api, clock):
    clock.advance(3600)
    for path in ("/call", "/unknown"):
        date = parsedate_to_datetime(api("GET", path).headers["Date"])
        assert abs((clock.now() - date).total_seconds()) < 1


def test_another_key_can_be_required(client):
    with VapiSimulator(api_key="another-key") as simulator:
        assert client(simulator)("GET", "/call").status_code == 200
        wrong = client(simulator)("GET", "/call", headers={"Authorization": "Bearer simulator-key"})
        assert wrong.status_code == 401


FOREIGN_HOSTS = [
    "rebound.example.invalid",
    "rebound.example.invalid:80",
    "127.0.0.1.example.invalid",
    "10.0.0.1",
    "[",
]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
@pytest.mark.parametrize("path", ["/call", "/control/x", "/unknown"])
def test_foreign_host_name_is_refused(simulator, api, path, host):
    simulator.faults.add(Fault(status=503))
    for method in ("GET", "POST"):
        response = api(method, path, json={}, headers={"Host": host})
        assert response.status_code == 403
        assert "serves only its own machine" in response.json()["message"]
    assert simulator.requests == []
    assert len(simulator.faults) == 1


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8765", "127.0.0.1", "127.0.0.1:8765", "[::1]:8765"])
def test_loopback_host_name_is_accepted(api, host):
    assert api("GET", "/call", headers={"Host": host}).status_code == 200


def test_recording_is_not_served_to_a_foreign_host_name(simulator, api):
    call_id = simulator.add_call()
    simulator.add_artifact(call_id, "call-logs", b"log")
    link = api("GET", f"/call/{call_id}/call-logs").headers["Location"]
    assert requests.get(link, timeout=20).content == b"log"
    assert requests.get(link, headers={"Host": "rebound.example.invalid"}, timeout=20).status_code == 403
