# SPDX-License-Identifier: Apache-2.0
"""Access: the key, the User-Agent, unknown routes, and the headers of every response."""

from __future__ import annotations

import http.client
from email.utils import parsedate_to_datetime

import pytest
import requests

from vapi_provider.simulator import VapiSimulator

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
