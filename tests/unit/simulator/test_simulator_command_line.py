# SPDX-License-Identifier: Apache-2.0
"""``python -m vapi_provider.simulator``: its output, its options and their errors."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from late_responses import wait_until

import vapi_provider
from vapi_provider.simulator import VapiSimulator, __main__ as command_line

REPOSITORY = Path(vapi_provider.__file__).parents[1]

MakeClient = Callable[[VapiSimulator], Callable[..., requests.Response]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_program_serves_until_a_signal(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "vapi_provider.simulator", "--port", "0", "--api-key", "it's a key"]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        listening, connection, page = (process.stdout.readline() for _ in range(3))
        found = re.fullmatch(r"Vapi simulator listening on (http://127\.0\.0\.1:\d+)\n", listening)
        assert found is not None
        url = found[1]
        export, assignment = shlex.split(connection)
        name, _, value = assignment.partition("=")
        assert (export, name) == ("export", "AIRFLOW_CONN_VAPI_DEFAULT")
        assert json.loads(value) == {"conn_type": "vapi", "host": url, "password": "it's a key"}
        assert page == f"Watch the calls in a browser: {url}/\n"
        response = requests.get(f"{url}/call", headers={"Authorization": "Bearer it's a key"}, timeout=20)
        assert response.json() == []
        assert requests.get(f"{url}/", timeout=20).status_code == 200
        process.send_signal(number)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0
    finally:
        process.kill()


def test_default_key_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # Each signal arrives as soon as it has a handler.
    monkeypatch.setattr(signal, "signal", lambda number, handler: handler(number, None))
    command_line.main([])
    assert '"password": "simulator-key"' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command_line.main(["--help"])
    assert "(default: simulator-key, not a secret)" in " ".join(capsys.readouterr().out.split())


def test_outcome_and_speed(client: MakeClient, request_body: dict[str, Any]) -> None:
    arguments = ["--speed", "1e6", "--outcome", "+1202555010*=customer-busy", "--outcome", "sip:*=voicemail"]
    callees = [{"number": "+12025550101"}, {"sipUri": "sip:a@example.invalid"}, {"number": "+12025550143"}]
    with command_line.make_simulator(arguments) as simulator:
        for customer in callees:
            client(simulator)("POST", "/call", json={**request_body, "customer": customer})
        wait_until(
            lambda: all(call["status"] == "ended" for call in simulator.calls.values()), "all calls end"
        )
        reasons = [call["endedReason"] for call in simulator.calls.values()]
    assert reasons == ["customer-busy", "voicemail", "customer-ended-call"]


def test_times_are_options(client: MakeClient, request_body: dict[str, Any]) -> None:
    simulator = command_line.make_simulator(
        ["--answer-after", "4", "--end-after", "20", "--analysis-after", "5", "--speed", "0.5"]
    )
    assert callable(simulator.timeline)
    timeline = simulator.timeline(request_body)
    assert (timeline.ringing, timeline.answered, timeline.ended, timeline.analysis) == (2, 10, 50, 60)


def test_slowest_call_can_be_placed(client: MakeClient, request_body: dict[str, Any]) -> None:
    year = "31536000"
    arguments = ["--speed", "0.001", "--answer-after", year, "--end-after", year, "--analysis-after", year]
    plan = {"earliestAt": "2999-12-31T23:59:59Z"}
    with command_line.make_simulator(arguments) as simulator:
        for body in (request_body, {**request_body, "schedulePlan": plan}):
            assert client(simulator)("POST", "/call", json=body).status_code == 201


def test_limits_are_options(client: MakeClient, request_body: dict[str, Any]) -> None:
    arguments = [
        "--concurrency-limit",
        "1",
        "--over-limit",
        "queue",
        "--list-lag",
        "3600",
        "--end-after",
        "3600",
    ]
    with command_line.make_simulator(arguments) as simulator:
        api = client(simulator)
        placed = [api("POST", "/call", json=request_body) for _ in range(2)]
        assert [response.status_code for response in placed] == [201, 201]
        assert placed[1].json()["subscriptionLimits"]["concurrencyBlocked"]
        assert api("GET", "/call").json() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--speed", "0"], "--speed: '0' is not a factor of 0.001 or more, such as 10 or 0.5"),
        (["--speed", "1e-320"], "--speed: '1e-320' is not a factor of 0.001 or more"),
        (["--speed", "fast"], "--speed: 'fast' is not a factor of 0.001 or more"),
        (["--speed", "inf"], "--speed: 'inf' is not a factor of 0.001 or more"),
        (["--answer-after", "-1"], "--answer-after: '-1' is not a number of seconds from 0 to a year"),
        (["--end-after", "1e12"], "--end-after: '1e12' is not a number of seconds from 0 to a year"),
        (["--end-after", "nan"], "--end-after: 'nan' is not a number of seconds"),
        (["--analysis-after", "2s"], "--analysis-after: '2s' is not a number of seconds"),
        (["--list-lag", ""], "--list-lag: '' is not a number of seconds"),
        (["--concurrency-limit", "1.5"], "--concurrency-limit: '1.5' is not a whole number, 0 or more"),
        (["--port", "65536"], "--port: '65536' is not a whole number from 0 to 65535"),
        (["--over-limit", "drop"], "--over-limit: invalid choice: 'drop'"),
        (["--outcome", "voicemail"], "--outcome: 'voicemail' has no callee; write CALLEE=REASON"),
        (["--outcome", "=voicemail"], "--outcome: '=voicemail' has no callee"),
        (["--outcome", "*=no answer"], "--outcome: 'no answer' is not an endedReason of Vapi"),
        (
            ["--outcome", "*=customer-bussy"],
            "'customer-bussy' is not an endedReason of Vapi, such as customer-busy",
        ),
        (["--outcome", "*=gone-fishing"], "'gone-fishing' is not an endedReason of Vapi, such as "),
        (["--outcome", "*="], "--outcome: '' is not an endedReason of Vapi"),
        (["--api-key", " "], "--api-key: a key consists of printable ASCII characters"),
        (["--spee", "2"], "unrecognized arguments: --spee 2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_values_are_explained(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.make_simulator(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_bad_key_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.make_simulator(["--api-key", "schl\u00fcssel-secret"])
    assert "secret" not in capsys.readouterr().err


def test_port_in_use_is_explained(simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    with pytest.raises(SystemExit, match=r"Cannot listen: Address already in use. Choose another --port"):
        command_line.main(["--port", simulator.url.rpartition(":")[2]])
