# SPDX-License-Identifier: Apache-2.0
"""Starting and stopping, the log of requests, and the ways to run a simulator."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import requests

import vapi_provider
from vapi_provider.simulator import Fault, VapiSimulator

pytest_plugins = ["pytester"]

REPOSITORY = Path(vapi_provider.__file__).parents[1]
NUMBER = "+12025550143"


def test_stop_leaves_no_thread_and_no_socket(client):
    before = set(threading.enumerate())
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with VapiSimulator() as simulator, requests.Session() as session:
            # A kept-alive connection is open while the simulator stops.
            assert session.get(simulator.url, timeout=20).status_code == 200
            assert client(simulator)("GET", "/call").status_code == 200
        assert set(threading.enumerate()) == before
        gc.collect()
    with pytest.raises(requests.ConnectionError, match="refused"):
        client(simulator)("GET", "/call")


def test_outage_keeps_the_calls_and_the_address(client):
    simulator = VapiSimulator()
    with simulator:
        url, call_id = simulator.url, simulator.add_call()
        client(simulator)("GET", "/call")
    with simulator:
        assert simulator.url == url
        assert client(simulator)("GET", f"/call/{call_id}").status_code == 200


def test_only_starting_twice_is_an_error():
    simulator = VapiSimulator()
    simulator.stop()
    simulator.start()
    with pytest.raises(RuntimeError, match="already running"):
        simulator.start()
    simulator.stop()
    simulator.stop()


def test_address_is_unknown_before_the_start():
    with pytest.raises(RuntimeError, match="until it is started"):
        _ = VapiSimulator().url


def test_port_can_be_chosen_and_may_be_taken(simulator):
    port = int(simulator.url.rpartition(":")[2])
    second = VapiSimulator(port=port)
    with pytest.raises(OSError, match="in use"):
        second.start()
    simulator.stop()
    with second:
        assert second.url == f"http://127.0.0.1:{port}"


def test_connection_is_the_json_of_airflow(simulator):
    assert json.loads(simulator.connection) == {
        "conn_type": "vapi",
        "host": simulator.url,
        "password": simulator.api_key,
    }


def test_simulators_share_no_calls():
    with VapiSimulator() as one, VapiSimulator() as other:
        one.add_call()
        assert other.calls == {}
        assert one.url != other.url


def test_calls_can_be_driven_during_requests(client):
    errors = []
    with VapiSimulator() as simulator:

        def drive():
            try:
                for _ in range(100):
                    simulator.end_call(simulator.add_call())
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=drive) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert client(simulator)("GET", "/call?limit=1000").status_code == 200
        assert len(client(simulator)("GET", "/call?limit=1000").json()) == 400
    assert errors == []


def test_log_has_each_request(simulator, api, clock):
    call_id = simulator.add_call()
    api("GET", f"/call/{call_id}")
    clock.advance(3)
    response = api("GET", "/call", params={"limit": 5, "assistantId": "", "token": "private"})
    first, second = simulator.requests
    assert (first.method, first.path, first.query, first.status) == ("GET", f"/call/{call_id}", {}, 200)
    assert (second.at - first.at).total_seconds() == 3
    assert (second.path, second.query, second.status) == ("/call", {"limit": "5", "assistantId": ""}, 400)
    assert second.bytes_sent == len(response.content)


def test_log_holds_nothing_secret(simulator, api, request_body, capfd, caplog):
    # Only the server's log counts: the client of this test logs its own headers.
    caplog.set_level(logging.DEBUG, logger="uvicorn")
    request_body["customer"] = {"number": NUMBER, "name": "Secret Person"}
    call = api("POST", "/call", json=request_body, headers={"X-Private": "private-header"}).json()
    api("GET", "/call", params={"key": simulator.api_key})
    requests.post(call["monitor"]["controlUrl"], json={"type": "end-call"}, timeout=20)
    assert [record.path for record in simulator.requests] == ["/call", "/call", "/control/***"]
    server_log = [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")]
    seen = repr(simulator.requests) + "".join(server_log) + "".join(capfd.readouterr())
    token = call["monitor"]["controlUrl"].rpartition("/")[2]
    for secret in (simulator.api_key, "Bearer", "Secret Person", NUMBER, "private-header", token):
        assert secret not in seen


def test_garbage_does_not_stop_the_server(simulator, api):
    host, port = simulator.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"POST /call HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
    assert api("GET", "/call").status_code == 200
    assert len(simulator.requests) == 1


def test_body_in_pieces_is_read_to_its_end(simulator, api):
    call_id = simulator.add_call()
    pieces = iter([b'{"name"', b": ", b'"in pieces"}'])
    response = api("PATCH", f"/call/{call_id}", data=pieces, headers={"Content-Type": "application/json"})
    assert response.json()["name"] == "in pieces"


def test_other_servers_can_run_the_application():
    simulator = VapiSimulator()
    simulator.faults.add(Fault(status=500, delay=0.01))
    key = (b"authorization", f"Bearer {simulator.api_key}".encode())
    scope = {"type": "http", "method": "GET", "path": "/call", "query_string": b"", "root_path": ""}
    scope["headers"] = [(b"user-agent", b"bare"), key]
    sent = []

    async def ask():
        arriving = [{"type": "http.request", "body": b""}, {"type": "http.request", "body": b""}]

        async def receive():
            # Servers differ in how often they signal the end of the body.
            return arriving.pop() if arriving else await asyncio.Future()

        async def send(message):
            sent.append(message)

        await simulator.app(scope, receive, send)

    asyncio.run(ask())
    asyncio.run(ask())
    assert [message.get("status") for message in sent] == [500, None, 200, None]
    assert sent[-1]["body"] == b"[]"


def test_other_servers_can_start_and_stop_the_application():
    sent = []

    async def run():
        arriving = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive():
            return next(arriving)

        async def send(message):
            sent.append(message["type"])

        await VapiSimulator().app({"type": "lifespan", "state": {}}, receive, send)

    asyncio.run(run())
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_pytest_plugin(pytester):
    pytester.makeconftest('pytest_plugins = ["vapi_provider.simulator.pytest_plugin"]')
    pytester.makepyfile(
        """
        import json, os, requests

        seen = []

        def test_it_is_there(vapi_simulator):
            connection = json.loads(os.environ["AIRFLOW_CONN_VAPI_DEFAULT"])
            headers = {"Authorization": "Bearer " + connection["password"]}
            assert requests.get(connection["host"] + "/call", headers=headers).json() == []
            seen.append(vapi_simulator.add_call())

        def test_it_is_fresh(vapi_simulator):
            assert seen and vapi_simulator.calls == {}

        def test_it_is_gone():
            assert "AIRFLOW_CONN_VAPI_DEFAULT" not in os.environ
        """
    )
    os.environ.pop("AIRFLOW_CONN_VAPI_DEFAULT", None)
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)


def test_package_needs_no_airflow():
    code = (
        "import sys, vapi_provider.simulator, vapi_provider.simulator.__main__\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('airflow', 'pytest', 'requests')])\n"
        "print([name for name in sys.modules if name.startswith('vapi_provider.')\n"
        "       and not name.startswith('vapi_provider.simulator')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n[]\n"
