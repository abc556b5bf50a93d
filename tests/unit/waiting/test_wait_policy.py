# SPDX-License-Identifier: Apache-2.0
"""How a wait ends: the same in both worker modes, and with the same message if ``soft_fail`` skips the task."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
import requests_mock
from task_instances import LINK

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiCallFailedError,
    VapiCallNotFoundError,
    VapiConfigurationError,
    VapiConnectionNotFoundError,
    VapiPermanentError,
    VapiTransientError,
)
from vapi_provider.simulator import Fault, Timeline, VapiSimulator

UNKNOWN_ID = "019a7c2e-5f00-7000-8000-000000000001"

Arrange = Callable[[VapiSimulator, pytest.MonkeyPatch], dict[str, Any]]


def call(status: str, **body: Any) -> Arrange:
    return lambda simulator, _: {"call_id": simulator.add_call(status=status, body=body)}


def refusal(status: int) -> Arrange:
    """Make Vapi refuse every request, with an error in its own format."""

    def arrange(simulator: VapiSimulator, _: pytest.MonkeyPatch) -> dict[str, Any]:
        simulator.faults.add(Fault(status=status, times=None))
        return {"call_id": simulator.add_call()}

    return arrange


def with_id(value: Any) -> Arrange:
    return lambda simulator, _: {"call_id": value}


def connection(**fields: Any) -> Arrange:
    def arrange(simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        changed = {**json.loads(simulator.connection), **fields}
        monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", json.dumps(changed))
        return {"call_id": simulator.add_call()}

    return arrange


def connection_id(value: Any) -> Arrange:
    return lambda simulator, _: {"call_id": simulator.add_call(), "vapi_conn_id": value}


@pytest.mark.parametrize(
    ("arrange", "error", "message", "requests"),
    [
        pytest.param(
            call("ended", endedReason="customer-did-not-answer"),
            VapiCallFailedError,
            r"ended with outcome no_answer \(customer-did-not-answer\), which is in fail_on",
            1,
            id="fail-on",
        ),
        pytest.param(
            call("ended", endedReason=None, endedAt="2026-08-01T10:00:00.000Z"),
            VapiCallFailedError,
            r"ended with outcome unknown \(no reason given\), which is in fail_on",
            1,
            id="fail-on-no-reason",
        ),
        pytest.param(call("not-found"), VapiCallFailedError, "has status 'not-found'", 1, id="not-found"),
        pytest.param(
            call("deletion-failed"),
            VapiCallFailedError,
            "has status 'deletion-failed'",
            1,
            id="deletion-failed",
        ),
        pytest.param(refusal(400), VapiPermanentError, "returned 400", 1, id="400"),
        pytest.param(connection(password="wrong"), VapiAuthenticationError, "returned 401", 1, id="401"),
        pytest.param(refusal(403), VapiAuthenticationError, "returned 403", 1, id="403"),
        pytest.param(with_id(UNKNOWN_ID), VapiCallNotFoundError, "returned 404", 1, id="404"),
        pytest.param(with_id(""), VapiConfigurationError, r"call_id is empty \(got ''\)", 0, id="id-empty"),
        pytest.param(
            with_id("None"),
            VapiConfigurationError,
            r"call_id is empty \(got 'None'\)",
            0,
            id="id-rendered-none",
        ),
        pytest.param(
            with_id(None),
            VapiConfigurationError,
            r"call_id is empty \(got None\)",
            0,
            id="id-none",
        ),
        pytest.param(with_id("../x"), VapiConfigurationError, "call_id must be", 0, id="id-another-path"),
        pytest.param(
            connection(password=""), VapiConfigurationError, "'vapi_default': password", 0, id="no-key"
        ),
        pytest.param(
            connection(host="http://api.vapi.ai"),
            VapiConfigurationError,
            "'vapi_default': host",
            0,
            id="key-in-the-clear",
        ),
        pytest.param(
            connection(extra={"timeout": "soon"}), VapiConfigurationError, "timeout", 0, id="bad-extra"
        ),
        pytest.param(
            connection_id("nowhere"),
            VapiConnectionNotFoundError,
            "no connection 'nowhere'",
            0,
            id="no-connection",
        ),
        pytest.param(
            connection_id(""),
            VapiConfigurationError,
            "vapi_conn_id must be .* got ''",
            0,
            id="connection-empty",
        ),
        pytest.param(
            connection_id(None),
            VapiConfigurationError,
            "vapi_conn_id must be .* got None",
            0,
            id="connection-none",
        ),
        pytest.param(
            connection_id("None"), VapiConnectionNotFoundError, "'None'", 0, id="connection-rendered-none"
        ),
    ],
)
def test_permanent_error_fails_or_skips_with_same_message(
    simulator: VapiSimulator,
    worker: Any,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    arrange: Arrange,
    error: type[Exception],
    message: str,
    requests: int,
) -> None:
    wait = {"mode": mode, "fail_on": ["no_answer", "unknown"], **arrange(simulator, monkeypatch)}

    failed = worker.failure(**wait)
    assert type(failed) is error
    assert isinstance(failed, AirflowFailException)
    with pytest.raises(error, match=message):
        raise failed
    assert len(simulator.requests) == requests

    skipped = worker.failure(**wait, soft_fail=True)
    assert type(skipped) is AirflowSkipException
    assert str(skipped) == str(failed)
    assert worker.pauses == 0


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param("ended", {"endedReason": "customer-ended-call"}, id="ended"),
        pytest.param("ended", {"endedReason": "voicemail"}, id="outcome-not-in-fail-on"),
        pytest.param("ended", {"endedReason": "call-vanished"}, id="ended-for-a-new-reason"),
        pytest.param("Ended", {"endedReason": "voicemail"}, id="ended-in-another-case"),
        pytest.param("archived", {"endedAt": "2026-08-01T10:00:00.000Z"}, id="new-status-with-an-end"),
    ],
)
def test_ended_call_is_success_at_the_first_poke(
    simulator: VapiSimulator, worker: Any, mode: str, soft_fail: bool, status: str, body: dict[str, Any]
) -> None:
    call_id = simulator.add_call(status=status, body=body)
    summary = worker.run(call_id=call_id, mode=mode, soft_fail=soft_fail, fail_on=["cancelled"])
    assert (summary["id"], summary["status"]) == (call_id, status)
    assert summary["ended_reason"] == body.get("endedReason")
    assert worker.pauses == 0
    assert worker.task_instance.xcoms == {LINK: f"{simulator.url}/calls/{call_id}"}


def test_call_is_waited_for_through_every_status(simulator: VapiSimulator, worker: Any, mode: str) -> None:
    call_id = simulator.add_call(timeline=Timeline(ringing=10, answered=20, ended=100, analysis=None))
    summary = worker.run(call_id=call_id, mode=mode, poke_interval=15)
    assert summary["status"] == "ended"
    assert summary["outcome"] == "completed"
    assert worker.slept == 105
    assert len(simulator.requests) == 8


@pytest.mark.parametrize("included", ["analysis", "transcript", "messages", "customer", "cost_breakdown"])
def test_result_has_only_what_is_included(
    simulator: VapiSimulator, worker: Any, mode: str, included: str
) -> None:
    call_id = simulator.add_call(status="in-progress")
    ending: dict[str, Any] = {"analysis": {"summary": "Confirmed."}, "transcript": "User: Yes.\n"}
    arguments = {"call_id": call_id, "mode": mode}
    bare = worker.run(**arguments, then=[lambda: simulator.end_call(call_id, **ending)])
    summary = worker.run(**arguments, include=[included])
    assert summary.pop(included)
    assert summary == bare
    assert "customer" not in bare


def test_unknown_status_is_logged_once_and_waited_out(
    simulator: VapiSimulator, worker: Any, mode: str, warnings: Callable[[], list[str]]
) -> None:
    status = f"on-hold-{mode}"
    call_id = simulator.add_call(status=status)
    worker.run(
        call_id=call_id, mode=mode, then=[lambda: None, lambda: None, lambda: simulator.end_call(call_id)]
    )
    assert worker.pauses == 3
    (logged,) = warnings()
    assert f"Call {call_id} has status {status}, which" in logged


def test_missing_status_is_waited_out(simulator: VapiSimulator, worker: Any, mode: str) -> None:
    call_id = simulator.add_call(body={"status": None, "endedAt": "2026-08-01T10:00:00.000Z"})
    summary = worker.run(call_id=call_id, mode=mode, then=[lambda: simulator.end_call(call_id)])
    assert summary["status"] == "ended"
    assert worker.pauses == 1


TRANSIENT = [
    pytest.param(Fault(status=503), "503", id="overload"),
    pytest.param(Fault(status=429), "rate limit", id="rate-limit"),
    pytest.param(
        Fault(body="<html></html>", content_type="text/html"), "not JSON", id="page-in-place-of-json"
    ),
    pytest.param(Fault(status=404, body="<html></html>"), "not Vapi's own", id="404-of-a-proxy"),
    pytest.param(Fault(reset="before"), "closed|reset", id="reset"),
    pytest.param(Fault(body='{"status": "ended"}'), "without an id", id="call-without-id"),
]


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize(("fault", "message"), TRANSIENT)
def test_transient_error_at_first_poke_fails_the_try(
    simulator: VapiSimulator, worker: Any, mode: str, soft_fail: bool, fault: Fault, message: str
) -> None:
    call_id = simulator.add_call(status="ended")
    simulator.faults.add(fault)
    with pytest.raises(VapiTransientError, match=message) as failure:
        worker.run(call_id=call_id, mode=mode, soft_fail=soft_fail)
    assert not isinstance(failure.value, AirflowFailException)
    # The next try is a new process, with a first poke of its own.
    assert worker.run(call_id=call_id, mode=mode, soft_fail=soft_fail)["status"] == "ended"


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize(("fault", "message"), TRANSIENT)
def test_later_transient_error_is_waited_out_with_a_warning(
    simulator: VapiSimulator,
    worker: Any,
    mode: str,
    soft_fail: bool,
    fault: Fault,
    message: str,
    warnings: Callable[[], list[str]],
) -> None:
    call_id = simulator.add_call(status="ringing")

    def fail() -> None:
        simulator.faults.add(fault)

    then = [fail, fail, fail, lambda: simulator.end_call(call_id)]
    assert worker.run(call_id=call_id, mode=mode, soft_fail=soft_fail, then=then)["status"] == "ended"
    logged = warnings()
    assert len(logged) == 3
    assert [warning for warning in logged if not re.search(rf"({message}).*Still waiting", warning)] == []


def test_outage_of_vapi_is_waited_out(simulator: VapiSimulator, worker: Any, mode: str) -> None:
    call_id = simulator.add_call(timeline=Timeline(ended=20, analysis=None))
    then = [simulator.stop, lambda: None, simulator.start]
    assert worker.run(call_id=call_id, mode=mode, then=then)["status"] == "ended"


@pytest.mark.parametrize(
    ("then", "error"),
    [
        pytest.param("not-found", VapiCallFailedError, id="erased"),
        pytest.param(Fault(status=401), VapiAuthenticationError, id="key-revoked"),
        pytest.param(Fault(status=404), VapiCallNotFoundError, id="gone"),
    ],
)
def test_permanent_error_at_a_later_poke_fails_too(
    simulator: VapiSimulator, worker: Any, mode: str, then: str | Fault, error: type[Exception]
) -> None:
    def strike() -> None:
        if isinstance(then, Fault):
            simulator.faults.add(then)
        else:
            simulator.set_status(call_id, then)

    call_id = simulator.add_call(status="ringing")
    failed = worker.failure(call_id=call_id, mode=mode, then=[strike])
    assert type(failed) is error
    simulator.set_status(call_id, "ringing")
    skipped = worker.failure(call_id=call_id, mode=mode, then=[strike], soft_fail=True)
    assert type(skipped) is AirflowSkipException
    assert str(skipped) == str(failed)


def test_timeout_names_the_call_and_its_last_status(simulator: VapiSimulator, worker: Any, mode: str) -> None:
    call_id = simulator.add_call(status="ringing")
    arguments = {"call_id": call_id, "mode": mode, "poke_interval": 10, "timeout": 30}
    failed = worker.failure(**arguments)
    assert type(failed) is AirflowSensorTimeout
    assert str(failed) == (
        f"Call {call_id} had not ended after 30 s (timeout=30): its last status was 'ringing'. "
        f"See {simulator.url}/calls/{call_id}, or raise the timeout."
    )
    assert worker.slept == 30
    assert worker.task_instance.xcoms[LINK] == f"{simulator.url}/calls/{call_id}"

    skipped = worker.failure(**arguments, soft_fail=True)
    assert type(skipped) is AirflowSkipException
    assert str(skipped) == str(failed)


@pytest.mark.parametrize("soft_fail", [False, True])
def test_timeout_in_an_outage_names_last_status_and_error(
    simulator: VapiSimulator, worker: Any, mode: str, soft_fail: bool
) -> None:
    def begin_outage() -> None:
        simulator.faults.add(Fault(status=502, times=None))

    call_id = simulator.add_call(status="in-progress")
    arguments = {"call_id": call_id, "mode": mode, "soft_fail": soft_fail}
    message = str(worker.failure(**arguments, poke_interval=10, timeout=30, then=[begin_outage]))
    assert call_id in message
    assert "(timeout=30)" in message
    assert "returned 502" in message
    assert "its last status was 'in-progress'." in message
    assert ".." not in message


def test_reschedule_before_3_3_names_only_the_last_error(simulator: VapiSimulator, worker: Any) -> None:
    worker.keeps_state = False
    call_id = simulator.add_call(status="in-progress")
    then = [lambda: simulator.faults.add(Fault(status=502, times=None))]
    failed = worker.failure(call_id=call_id, mode="reschedule", poke_interval=10, timeout=30, then=then)
    assert "its last status is unknown. The last error was: GET" in str(failed)


def test_timeout_does_not_name_a_past_error(simulator: VapiSimulator, worker: Any, mode: str) -> None:
    call_id = simulator.add_call(status="in-progress")
    then = [lambda: simulator.faults.add(Fault(status=502))]
    failed = worker.failure(call_id=call_id, mode=mode, poke_interval=10, timeout=30, then=then)
    assert "its last status was 'in-progress'. See" in str(failed)
    assert "The last error" not in str(failed)


@pytest.mark.parametrize("soft_fail", [False, True])
def test_execution_timeout_during_a_poke_fails_the_task(
    worker: Any, mode: str, soft_fail: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", json.dumps({"conn_type": "vapi", "password": "the-key"}))
    with requests_mock.Mocker() as vapi:
        vapi.get(f"https://api.vapi.ai/call/{UNKNOWN_ID}", exc=AirflowTaskTimeout("Timeout, PID: 1"))
        with pytest.raises(AirflowTaskTimeout, match="PID"):
            worker.run(call_id=UNKNOWN_ID, mode=mode, soft_fail=soft_fail)


def test_link_is_published_while_the_task_waits(simulator: VapiSimulator, worker: Any, mode: str) -> None:
    call_id = simulator.add_call(status="ringing")
    seen: list[dict[str, Any]] = []

    def note() -> None:
        seen.append(dict(worker.task_instance.xcoms))
        simulator.end_call(call_id)

    worker.run(call_id=call_id, mode=mode, then=[note])
    assert [xcoms[LINK] for xcoms in seen] == [f"{simulator.url}/calls/{call_id}"]


def test_invalid_id_publishes_no_link(simulator: VapiSimulator, worker: Any, mode: str) -> None:
    worker.failure(call_id="../x", mode=mode)
    assert worker.task_instance.xcoms == {}


def test_id_may_have_any_case_and_whitespace(simulator: VapiSimulator, worker: Any, mode: str) -> None:
    call_id = simulator.add_call(status="ended")
    assert worker.run(call_id=f"{call_id.upper()}\n", mode=mode)["id"] == call_id
    assert [request.path for request in simulator.requests] == [f"/call/{call_id}"]


def test_summary_can_be_stored_as_json(simulator: VapiSimulator, worker: Any, mode: str) -> None:
    created_at = datetime(2026, 8, 1, tzinfo=timezone.utc).isoformat()
    call_id = simulator.add_call(status="ended", body={"createdAt": created_at, "cost": 1, "name": "a\x00b"})
    includes = ["analysis", "transcript", "messages", "customer", "structured_outputs", "cost_breakdown"]
    summary = worker.run(call_id=call_id, mode=mode, include=includes)
    assert json.loads(json.dumps(summary)) == summary
    assert summary["name"] == "ab"
