# SPDX-License-Identifier: Apache-2.0
"""VapiCallTrigger.on_kill: a task that a user stops ends its call, although Airflow does not wait for it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from late_responses import HELD_SECONDS, HeldResponses
from polling_world import CONN_ID, come_true

from vapi_provider.simulator import Fault, VapiSimulator
from vapi_provider.triggers import call as trigger_module
from vapi_provider.triggers.call import VapiCallTrigger

GOES_ON = "may still be live"
AIRFLOWS_PATIENCE = 0.1
"""Airflow's own is a second or more; the test holds the responses for longer."""


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch) -> None:
    # Airflow's own logger writes past pytest.
    monkeypatch.setattr(VapiCallTrigger, "log", logging.getLogger("trigger"))


@pytest.fixture(autouse=True)
def _nothing_goes_on() -> Iterator[None]:
    """Fail a test after which a call is still being ended."""
    yield
    left = set(trigger_module._endings)
    trigger_module._endings.clear()
    assert not left


def trigger(call_id: str, *, hang_up_on_kill: bool = True) -> VapiCallTrigger:
    return VapiCallTrigger(CONN_ID, call_id, 0.02, 4e9, hang_up_on_kill=hang_up_on_kill)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "trigger"]


def requests_to(simulator: VapiSimulator) -> list[str]:
    return [f"{request.method} {request.path.split('/')[1]}" for request in simulator.requests]


async def kill(stopped: VapiCallTrigger, patience: float = 60.0) -> bool:
    """Do what Airflow does; return whether on_kill had the time to come to its end."""
    try:
        await asyncio.wait_for(stopped.on_kill(), patience)
    except asyncio.TimeoutError:
        return False
    return True


async def settled() -> None:
    await come_true(lambda: not trigger_module._endings, "nothing is being ended any more")


def kill_and_settle(stopped: VapiCallTrigger) -> Callable[[], Any]:
    async def main() -> bool:
        ended = await kill(stopped)
        await settled()
        return ended

    return main


# Whether it ends the call


def test_call_is_left_alone_without_hang_up_on_kill(
    simulator: VapiSimulator, run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(status="in-progress")
    assert run(kill_and_settle(trigger(call_id, hang_up_on_kill=False))())
    assert simulator.requests == []
    assert logged(caplog) == []


@pytest.mark.parametrize("status", ["queued", "ringing", "in-progress", "forwarding"])
def test_live_call_is_hung_up(
    simulator: VapiSimulator, run: Callable[..., Any], status: str, caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(status=status)
    run(kill_and_settle(trigger(call_id))())
    # The simulator refuses a control URL that is sent the API key.
    assert simulator.get_call(call_id)["endedReason"] == "manually-canceled"
    assert requests_to(simulator) == ["GET call", "POST control"]
    assert logged(caplog) == [f"The task was stopped. Call {call_id} was ended."]


def test_scheduled_call_is_cancelled(
    simulator: VapiSimulator, run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(status="scheduled")
    run(kill_and_settle(trigger(call_id))())
    assert simulator.get_call(call_id)["endedReason"] == "scheduled-call-deleted"
    assert requests_to(simulator) == ["GET call", "DELETE call"]
    assert logged(caplog) == [f"The task was stopped. Scheduled call {call_id} was cancelled."]


def test_call_that_is_over_is_left_alone(
    simulator: VapiSimulator, run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(status="ended")
    run(kill_and_settle(trigger(call_id))())
    assert requests_to(simulator) == ["GET call"]
    assert logged(caplog) == [f"The task was stopped. Call {call_id} had already ended."]


@pytest.mark.parametrize(
    ("monitor", "why"),
    [
        pytest.param({}, "has no control URL", id="none"),
        pytest.param(
            {"controlUrl": "https://elsewhere.example.com/capability"}, "not an https address", id="elsewhere"
        ),
    ],
)
def test_call_without_vapi_control_url_is_left_alone(
    simulator: VapiSimulator,
    run: Callable[..., Any],
    monitor: dict[str, str],
    why: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    call_id = simulator.add_call(status="in-progress", body={"monitor": monitor})
    run(kill_and_settle(trigger(call_id))())
    assert simulator.get_call(call_id)["status"] == "in-progress"
    assert requests_to(simulator) == ["GET call"]
    (line,) = logged(caplog)
    assert GOES_ON in line
    assert why in line
    assert "capability" not in line
    assert caplog.records[-1].levelno == logging.WARNING


# Airflow does not wait


@pytest.mark.parametrize(
    ("status", "method", "reason"),
    [
        pytest.param("in-progress", "GET", "manually-canceled", id="slow-read"),
        pytest.param("in-progress", "POST", "manually-canceled", id="slow-end"),
        pytest.param("scheduled", "GET", "scheduled-call-deleted", id="slow-read-scheduled"),
    ],
)
def test_call_is_ended_though_airflow_stops_waiting(
    simulator: VapiSimulator,
    run: Callable[..., Any],
    held_responses: HeldResponses,
    status: str,
    method: str,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    call_id = simulator.add_call(status=status)
    simulator.faults.add(Fault(method=method, delay=HELD_SECONDS))

    async def main() -> None:
        assert not await kill(trigger(call_id), AIRFLOWS_PATIENCE)
        assert logged(caplog) == []
        held_responses.let_go()
        await settled()

    run(main())
    assert simulator.get_call(call_id)["endedReason"] == reason
    assert len(logged(caplog)) == 1


def test_call_is_ended_though_on_kill_is_cancelled(simulator: VapiSimulator, run: Callable[..., Any]) -> None:
    call_id = simulator.add_call(status="in-progress")

    async def main() -> None:
        killing = asyncio.ensure_future(trigger(call_id).on_kill())
        # One round of the loop, so that it has begun.
        await asyncio.sleep(0)
        killing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killing
        await settled()

    run(main())
    assert simulator.get_call(call_id)["status"] == "ended"


def test_hang_up_survives_garbage_collection(
    simulator: VapiSimulator, run: Callable[..., Any], held_responses: HeldResponses
) -> None:
    call_id = simulator.add_call(status="in-progress")
    simulator.faults.add(Fault(method="GET", delay=HELD_SECONDS))

    async def main() -> None:
        await kill(trigger(call_id), AIRFLOWS_PATIENCE)
        gc.collect()
        held_responses.let_go()
        await settled()

    run(main())
    assert simulator.get_call(call_id)["status"] == "ended"


# Failures


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"status": 503}, id="503"),
        pytest.param({"status": 429}, id="429"),
        pytest.param({"reset": "before"}, id="reset"),
        pytest.param({"status": 200, "body": "<html>", "content_type": "text/html"}, id="html"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_hang_up_is_tried_twice(
    simulator: VapiSimulator,
    run: Callable[..., Any],
    method: str,
    fault: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    if method == "POST" and fault.get("status") == 200:
        fault = {"status": 502}
    call_id = simulator.add_call(status="in-progress")
    simulator.faults.add(Fault(method=method, times=1, **fault))
    run(kill_and_settle(trigger(call_id))())
    assert simulator.get_call(call_id)["status"] == "ended"
    assert logged(caplog) == [f"The task was stopped. Call {call_id} was ended."]
    assert requests_to(simulator).count("GET call") == 2


def test_hang_up_with_lost_response_is_not_repeated(
    simulator: VapiSimulator, run: Callable[..., Any]
) -> None:
    call_id = simulator.add_call(status="in-progress")
    simulator.faults.add(Fault(method="POST", reset="before", effect=True))
    run(kill_and_settle(trigger(call_id))())
    assert requests_to(simulator) == ["GET call", "POST control", "GET call"]


def test_hang_up_gives_up_after_two_failures(
    simulator: VapiSimulator, run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(status="in-progress")
    simulator.faults.add(Fault(method="GET", status=503, times=None))
    run(kill_and_settle(trigger(call_id))())
    assert len(simulator.requests) == 2
    (line,) = logged(caplog)
    assert line.startswith(f"The task was stopped. Call {call_id} ")
    assert GOES_ON in line
    assert "503" in line


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_refusal_is_logged_and_not_retried(
    simulator: VapiSimulator, run: Callable[..., Any], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    call_id = simulator.add_call(status="in-progress")
    simulator.faults.add(Fault(method="GET", status=status, times=None))
    run(kill_and_settle(trigger(call_id))())
    assert len(simulator.requests) == 1
    (line,) = logged(caplog)
    assert GOES_ON in line
    assert str(status) in line
    assert simulator.api_key not in line


@pytest.mark.parametrize("call_id", ["", "None", "../call", 5])
def test_bad_id_is_logged_and_sends_nothing(
    simulator: VapiSimulator, run: Callable[..., Any], call_id: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run(kill_and_settle(trigger(call_id))())
    assert simulator.requests == []
    assert GOES_ON in logged(caplog)[0]


def test_missing_connection_is_logged(
    simulator: VapiSimulator,
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def missing(conn_id: str) -> Any:
        raise RuntimeError(f"no {conn_id}, and a secret")

    monkeypatch.setattr(trigger_module, "get_async_connection", missing)
    call_id = simulator.add_call(status="in-progress")
    run(kill_and_settle(trigger(call_id))())
    assert logged(caplog) == [
        f"The task was stopped. Could not end call {call_id}, which {GOES_ON}: RuntimeError."
    ]


def test_unusable_connection_is_logged_without_its_key(
    simulator: VapiSimulator,
    run: Callable[..., Any],
    set_connection: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_connection(simulator, password="Bearer of-a-secret")
    call_id = simulator.add_call(status="in-progress")
    run(kill_and_settle(trigger(call_id))())
    (line,) = logged(caplog)
    assert call_id in line
    assert GOES_ON in line
    assert "password (API key)" in line
    assert "of-a-secret" not in line


def test_control_url_is_in_no_log(
    simulator: VapiSimulator, run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("urllib3", "urllib3.connectionpool", "requests", "vapi_provider", "trigger", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    call_id = simulator.add_call(status="in-progress")
    capability = simulator.get_call(call_id)["monitor"]["controlUrl"].rpartition("/")[2]
    simulator.faults.add(Fault(method="POST", status=503))
    run(kill_and_settle(trigger(call_id))())
    assert simulator.get_call(call_id)["status"] == "ended"
    assert f"GET /call/{call_id}" in caplog.text, "urllib3 did log at this level"
    assert capability not in caplog.text
    assert "/control/" not in caplog.text


# The others in the triggerer


def test_event_loop_is_not_blocked_by_a_hang_up(
    simulator: VapiSimulator, run: Callable[..., Any], held_responses: HeldResponses
) -> None:
    call_id = simulator.add_call(status="in-progress")
    simulator.faults.add(Fault(method="GET", delay=HELD_SECONDS))
    simulator.faults.add(Fault(method="POST", delay=HELD_SECONDS))

    async def main() -> None:
        killing = asyncio.ensure_future(kill(trigger(call_id)))
        for number in (1, 2):
            # A request that ran in the loop would hold it up until its time limit, as only the loop lets it go.
            await come_true(lambda number=number: len(simulator.requests) == number, "the request is sent")  # type: ignore[misc]
            assert not killing.done()
            held_responses.let_go()
        assert await killing

    run(main())
    assert simulator.get_call(call_id)["status"] == "ended"


def test_many_stopped_tasks_all_end_their_calls(
    simulator: VapiSimulator, run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    call_ids = [simulator.add_call(status="in-progress") for _ in range(30)]

    async def main() -> None:
        await asyncio.gather(*(kill(trigger(call_id), AIRFLOWS_PATIENCE) for call_id in call_ids))
        await settled()

    run(main())
    assert {simulator.get_call(call_id)["status"] for call_id in call_ids} == {"ended"}
    assert len(logged(caplog)) == len(call_ids)


def test_other_calls_of_the_connection_go_on(
    simulator: VapiSimulator, run: Callable[..., Any], short_pauses: None
) -> None:
    mine, other = (simulator.add_call(status="in-progress") for _ in range(2))
    events: list[Any] = []

    async def wait(waiting: VapiCallTrigger) -> None:
        async for event in waiting.run():
            events.append(event.payload)

    async def main() -> None:
        stopped, staying = trigger(mine), trigger(other)
        tasks = [asyncio.ensure_future(wait(each)) for each in (stopped, staying)]
        await come_true(lambda: len(simulator.requests) >= 2, "both are read")
        tasks[0].cancel()
        await kill(stopped)
        assert simulator.get_call(other)["status"] == "in-progress"
        simulator.end_call(other)
        await tasks[1]

    run(main())
    assert [(event["status"], event["call_id"]) for event in events] == [("done", other)]
    assert simulator.get_call(mine)["endedReason"] == "manually-canceled"


# What is left


@pytest.mark.parametrize(
    "fault", [None, Fault(method="GET", status=503, times=None)], ids=["ended", "failed"]
)
def test_no_connection_to_vapi_is_left_open(
    simulator: VapiSimulator, run: Callable[..., Any], fault: Fault | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, closed = [], []
    real_init, real_close = requests.Session.__init__, requests.Session.close

    def init(session: Any) -> None:
        opened.append(session)
        real_init(session)

    def close(session: Any) -> None:
        closed.append(session)
        real_close(session)

    monkeypatch.setattr(requests.Session, "__init__", init)
    monkeypatch.setattr(requests.Session, "close", close)
    if fault:
        simulator.faults.add(fault)
    threads = set(threading.enumerate())
    run(kill_and_settle(trigger(simulator.add_call(status="in-progress")))())
    assert opened
    assert [session for session in opened if session not in closed] == []
    assert set(threading.enumerate()) <= threads
