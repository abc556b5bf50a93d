# SPDX-License-Identifier: Apache-2.0
"""Faults on demand, as a client sees them."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
import requests
from late_responses import HELD_SECONDS, wait_until

from vapi_provider.simulator import Fault, VapiSimulator


def raw_request(simulator, path="/call", method="GET", body=b""):
    """Send a request over a bare socket, which shows each byte of the response as it arrives."""
    host, port = simulator.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    headers = [f"Host: {host}", "User-Agent: bare", f"Authorization: Bearer {simulator.api_key}"]
    headers += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *headers, "", ""])
    connection.sendall(head.encode() + body)
    return connection


def read_to_end(connection):
    content = b""
    while piece := connection.recv(65536):
        content += piece
    return content


def test_status_has_the_shape_of_the_api_and_counts_once(simulator, api):
    simulator.faults.add(Fault(status=429, headers={"Retry-After": "7"}))
    response = api("GET", "/call")
    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")
    assert response.json() == {
        "message": "Too Many Requests",
        "error": "Too Many Requests",
        "statusCode": 429,
    }
    assert "Date" in response.headers
    assert api("GET", "/call").status_code == 200


def test_status_without_a_phrase_is_sent(simulator, api):
    simulator.faults.add(Fault(status=520, times=2))
    simulator.faults.add(Fault(status=520, drip=0))
    for _ in range(3):
        assert api("GET", "/call").json() == {"message": "Error", "error": "Error", "statusCode": 520}


@pytest.mark.parametrize("status", [204, 304])
def test_bodiless_status_has_no_body(simulator, api, status):
    simulator.faults.add(Fault(status=status, body="ignored"))
    response = api("GET", "/call")
    assert (response.status_code, response.content) == (status, b"")


@pytest.mark.parametrize(
    ("fault", "status", "content", "content_type"),
    [
        (Fault(body=""), 200, b"", "application/json"),
        (Fault(body=b"\xff\x00"), 200, b"\xff\x00", "application/json"),
        (Fault(status=502, body="<h1>Bad</h1>", content_type="text/html"), 502, b"<h1>Bad</h1>", "text/html"),
        (Fault(body="[]", headers={"content-type": "text/plain"}), 200, b"[]", "text/plain"),
    ],
)
def test_any_response_can_be_given(simulator, api, fault, status, content, content_type):
    simulator.faults.add(fault)
    response = api("GET", "/call")
    assert (response.status_code, response.content) == (status, content)
    assert response.headers["Content-Type"] == content_type


def test_redirect(simulator, api):
    simulator.faults.add(Fault(status=302, headers={"Location": "https://elsewhere.example.invalid/"}))
    response = api("GET", "/call")
    assert (response.status_code, response.headers["Location"]) == (302, "https://elsewhere.example.invalid/")


def test_headers_alone_are_added_to_the_response(simulator, api):
    simulator.faults.add(Fault(headers={"Date": "Mon, 01 Jan 2024 00:00:00 GMT"}))
    response = api("GET", "/call")
    assert (response.json(), response.headers["Date"]) == ([], "Mon, 01 Jan 2024 00:00:00 GMT")


def test_fault_hits_only_what_it_matches(simulator, api):
    call_id = simulator.add_call()
    simulator.faults.add(Fault(method="GET", path=f"/call/{call_id}", times=None, status=500))
    assert api("GET", "/call").status_code == 200
    assert api("PATCH", f"/call/{call_id}", json={"name": "x"}).status_code == 200
    assert api("GET", f"/call/{call_id}").status_code == 500
    assert api("GET", f"/call/{call_id}").status_code == 500
    assert len(simulator.faults) == 1
    simulator.faults.clear()
    assert api("GET", f"/call/{call_id}").status_code == 200
    assert list(simulator.faults) == []


def test_first_fault_that_matches_wins(simulator, api):
    only_post, twice, last = Fault(method="POST", status=500), Fault(status=502, times=2), Fault(status=503)
    for fault in (only_post, twice, last):
        simulator.faults.add(fault)
    assert [api("GET", "/call").status_code for _ in range(4)] == [502, 502, 503, 200]
    assert list(simulator.faults) == [only_post]


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("kind", [{"status": 502}, {"body": "<html>"}, {"reset": "before"}])
def test_request_takes_effect_or_not(simulator, api, request_body, effect, kind):
    simulator.faults.add(Fault(**kind, effect=effect))
    if "reset" in kind:
        with pytest.raises(requests.ConnectionError):
            api("POST", "/call", json=request_body)
    else:
        assert "id" not in api("POST", "/call", json=request_body).text
    assert len(simulator.calls) == effect


def test_reset_before_the_response(simulator, api):
    simulator.faults.add(Fault(reset="before"))
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        api("GET", "/call")
    assert [(record.status, record.bytes_sent) for record in simulator.requests] == [(None, 0)]
    assert api("GET", "/call").status_code == 200


@pytest.mark.parametrize("length", [100, 30_000_000])
def test_reset_midway(simulator, api, length):
    call_id = simulator.add_call(body={"note": "x" * length})
    simulator.faults.add(Fault(reset="midway"))
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="reset by peer"):
        api("GET", f"/call/{call_id}")
    record = simulator.requests[-1]
    assert record.status == 200
    assert record.bytes_sent >= length // 2


def test_client_that_disconnects_early_is_harmless(simulator, api):
    call_id = simulator.add_call(body={"note": "x" * 30_000_000})
    simulator.faults.add(Fault(reset="midway"))
    connection = raw_request(simulator, f"/call/{call_id}")
    assert connection.recv(4)
    connection.close()
    assert api("GET", "/call?limit=0").status_code == 200


def test_delay_is_between_effect_and_response(simulator, api, request_body):
    simulator.faults.add(Fault(delay=0.01))
    assert api("GET", "/call").json() == []
    simulator.faults.add(Fault(delay=3600))
    with raw_request(simulator, method="POST", body=json.dumps(request_body).encode()) as connection:
        wait_until(lambda: simulator.calls, "the request takes effect")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert simulator.requests[-1].status is None


def test_delay_does_not_delay_other_requests(simulator, api):
    simulator.faults.add(Fault(delay=3600))
    with raw_request(simulator):
        assert api("GET", "/call").status_code == 200
        assert {record.status for record in simulator.requests} == {None, 200}


def byte_by_byte(connection, held_responses, number):
    for _ in range(number):
        held_responses.let_go()
        yield connection.recv(65536)


def test_body_drips_after_its_headers(simulator, held_responses):
    simulator.faults.add(Fault(body="abc", drip=HELD_SECONDS))
    with raw_request(simulator) as connection:
        head = connection.recv(65536)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert head.endswith(b"\r\n\r\n")
        assert list(byte_by_byte(connection, held_responses, 3)) == [b"a", b"b", b"c"]
        assert connection.recv(65536) == b""
    assert simulator.requests[-1].bytes_sent == 3


def test_headers_drip_as_well(simulator, held_responses):
    simulator.faults.add(Fault(body="abc", drip=HELD_SECONDS, drip_headers=True))
    with raw_request(simulator) as connection:
        assert list(byte_by_byte(connection, held_responses, 3)) == [b"H", b"T", b"T"]
    held_responses.let_all_go()
    simulator.faults.add(Fault(drip=0, drip_headers=True))
    with raw_request(simulator) as connection:
        assert read_to_end(connection).endswith(b"\r\n\r\n[]")


def test_dripping_response_is_complete(simulator, api):
    call_id = simulator.add_call()
    simulator.faults.add(Fault(drip=0, drip_headers=True))
    response = api("GET", f"/call/{call_id}")
    assert response.json() == simulator.get_call(call_id)
    assert simulator.requests[-1].bytes_sent == len(response.content)


@pytest.mark.parametrize("fault", [Fault(drip=30), Fault(drip=0.5, drip_headers=True), Fault(delay=30)])
def test_stop_does_not_wait_for_responses(fault):
    simulator = VapiSimulator()
    simulator.start()
    simulator.faults.add(fault)
    with raw_request(simulator) as connection:
        wait_until(lambda: simulator.requests, "the response is under way")
        simulator.stop()
        assert read_to_end(connection).find(b"[]") == -1


def test_resets_require_the_simulators_server():
    simulator = VapiSimulator()
    simulator.faults.add(Fault(reset="before"))
    scope = {"type": "http", "method": "GET", "path": "/call", "query_string": b"", "headers": []}

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        raise AssertionError(message)

    with pytest.raises(RuntimeError, match="own server"):
        asyncio.run(simulator.app(scope, receive, send))
