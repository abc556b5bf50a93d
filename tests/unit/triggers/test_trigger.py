# SPDX-License-Identifier: Apache-2.0
"""VapiCallTrigger: what Airflow stores of it, its one event, its deadline by the wall clock, and its cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib
import json
import logging
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from late_responses import HELD_SECONDS, HeldResponses, wait_until
from polling_world import come_true, poller_threads
from triggerer_model import (
    CLOCK_CHECK,
    CONN_ID,
    LATENCY,
    MIN_INTERVAL,
    MISSING,
    SETTLE,
    Triggerer,
    Wait,
    ago,
    call_id_of,
    collect,
    virtual_world,
)
from virtual_time import VirtualLoop, run_virtually, until

from vapi_provider.polling.calls import Waiter
from vapi_provider.polling.poller import CallPoller
from vapi_provider.simulator import Fault, VapiSimulator
from vapi_provider.triggers.call import VapiCallTrigger

CALL_ID = call_id_of(1)
ARGUMENTS: dict[str, Any] = {
    "vapi_conn_id": CONN_ID,
    "call_id": CALL_ID,
    "poll_interval": 15.0,
    "end_time": 1_790_000_000.123456,
    "since": "2026-08-01T10:00:00.123000+00:00",
    "wait_for_analysis": True,
    "analysis_timeout": 90.5,
    "hang_up_on_kill": True,
    "results": ["analysis", "structured_outputs"],
    "results_before": 2,
}
ARGUMENTS_OF_0_1_0 = {name: value for name, value in ARGUMENTS.items() if not name.startswith("results")}

Main = Callable[[Triggerer], Any]


@pytest.fixture
def triggerer() -> Iterator[Triggerer]:
    """A triggerer in a world in which time jumps."""
    with virtual_world() as triggerer:
        yield triggerer


def drive(triggerer: Triggerer, main: Main) -> Any:
    """Run a test's coroutine; afterwards no trigger may be at work, nor anything be left of one."""

    async def whole() -> Any:
        try:
            return await main(triggerer)
        finally:
            await triggerer.stop_all()

    return run_virtually(whole(), triggerer.clock)


def only_event(
    triggerer: Triggerer, call_id: Any, *, most: float = 2_000.0, **arguments: Any
) -> tuple[dict[str, Any], float]:
    """Run one trigger to its end; return its event and how long it took."""

    async def main(triggerer: Triggerer) -> Any:
        wait = triggerer.start(call_id, **arguments)
        took = await triggerer.until_told(wait, most)
        (event,) = wait.events
        return event, took

    event, took = drive(triggerer, main)
    return event, took


# What Airflow stores


def test_trigger_is_stored_as_json_and_restored_equal() -> None:
    trigger = VapiCallTrigger(**ARGUMENTS)
    path, stored = trigger.serialize()
    assert path == "vapi_provider.triggers.call.VapiCallTrigger"
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored == ARGUMENTS
    module, _, name = path.rpartition(".")
    restored = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(stored)))
    assert restored == trigger
    assert hash(restored) == hash(trigger)
    assert restored.serialize() == trigger.serialize()


def test_defaults_are_restored_equal() -> None:
    trigger = VapiCallTrigger(CONN_ID, CALL_ID, 5, 1_790_000_000)
    assert VapiCallTrigger(**trigger.serialize()[1]) == trigger


def test_arguments_of_other_versions_are_accepted() -> None:
    older = VapiCallTrigger(**ARGUMENTS_OF_0_1_0)
    assert (older.results, older.results_before) == ([], None)
    newer = VapiCallTrigger(**ARGUMENTS, something_new=1)
    assert newer == VapiCallTrigger(**ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_trigger_of_other_arguments_is_another(name: str) -> None:
    trigger = VapiCallTrigger(**ARGUMENTS)
    other = VapiCallTrigger(**{**ARGUMENTS, name: None})
    assert trigger != other
    assert trigger != "a trigger"
    assert len({trigger, other, VapiCallTrigger(**ARGUMENTS)}) == 2


def test_airflow_stores_and_restores_the_trigger() -> None:
    from airflow.models.trigger import Trigger

    stored = Trigger.from_object(VapiCallTrigger(**ARGUMENTS))
    restored = VapiCallTrigger(**Trigger._decrypt_kwargs(stored.encrypted_kwargs))
    assert restored == VapiCallTrigger(**ARGUMENTS)


# Its event


def test_trigger_polls_after_one_interval_and_reports_once(triggerer: Triggerer) -> None:
    vapi = triggerer.vapi
    vapi.end(vapi.add(1))
    event, took = only_event(triggerer, CALL_ID)
    assert event == {
        "status": "done",
        "call_id": CALL_ID,
        "message": f"Call {CALL_ID} may have ended.",
    }
    assert took == pytest.approx(MIN_INTERVAL + LATENCY, abs=0.01)
    assert [request.path for request in vapi.log] == [f"/call/{CALL_ID}"]


def test_nothing_of_the_call_is_in_the_event(triggerer: Triggerer) -> None:
    vapi = triggerer.vapi
    vapi.change(vapi.add(1), transcript="what was said", customer={"number": "+12025550123"})
    vapi.end(vapi.calls[CALL_ID], analysis=True)
    event, _ = only_event(triggerer, CALL_ID, wait_for_analysis=True)
    assert sorted(event) == ["call_id", "message", "status"]
    for content in ("what was said", "555", "Confirmed", '"ended"', "key-of-the-tests"):
        assert content not in json.dumps(event)


@pytest.mark.parametrize(
    "call_id",
    ["", "None", "../call", "019a7c2e", ["019a7c2e-5f00-7000-8000-000000000001"]],
    ids=["empty", "rendered-none", "another-path", "no-uuid", "list"],
)
def test_bad_id_is_an_error_and_no_request(triggerer: Triggerer, call_id: Any) -> None:
    event, took = only_event(triggerer, call_id)
    assert (event["status"], event["call_id"]) == ("error", call_id)
    assert "call_id" in event["message"]
    assert took == pytest.approx(SETTLE, abs=0.01)
    assert triggerer.vapi.log == []
    json.dumps(event)


def test_unknown_call_is_an_error(triggerer: Triggerer) -> None:
    triggerer.vapi.add(1).erased = True
    event, _ = only_event(triggerer, CALL_ID)
    assert event["status"] == "error"
    assert f"GET /call/{CALL_ID} returned 404" in event["message"]
    assert "key-of-the-tests" not in json.dumps(event)


def test_permanently_refused_key_is_an_error(triggerer: Triggerer) -> None:
    triggerer.vapi.add(1)
    triggerer.vapi.faults = [{"status": 401, "times": -1}]
    event, took = only_event(triggerer, CALL_ID)
    assert event["status"] == "error"
    assert "returned 401" in event["message"]
    assert f"connection {CONN_ID!r}" in event["message"]
    assert took <= 3 * MIN_INTERVAL + 1
    assert len(triggerer.vapi.log) == 2


def test_key_refused_once_is_no_error(triggerer: Triggerer) -> None:
    triggerer.vapi.end(triggerer.vapi.add(1))
    triggerer.vapi.faults = [{"status": 401, "times": 1}]
    assert only_event(triggerer, CALL_ID)[0]["status"] == "done"


def test_missing_connection_is_an_error(triggerer: Triggerer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"AIRFLOW_CONN_{CONN_ID.upper()}")
    event, took = only_event(triggerer, CALL_ID)
    assert event["status"] == "error"
    assert f"cannot find connection {CONN_ID!r}" in event["message"]
    # Airflow also reports this while it cannot reach its database.
    assert took >= MISSING
    assert triggerer.vapi.log == []


def test_malformed_variable_of_the_triggerer_is_explained(
    triggerer: Triggerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"AIRFLOW_CONN_{CONN_ID.upper()}"
    monkeypatch.setenv(variable, '{"password": hush-hush}')
    message = only_event(triggerer, CALL_ID)[0]["message"]
    assert f"cannot find connection {CONN_ID!r}: {variable} is not valid JSON (Expecting value" in message
    assert "hush" not in message


def test_no_event_before_the_deferral_is_stored(triggerer: Triggerer) -> None:
    """A late joiner has its verdict at once, and its event still waits."""
    vapi = triggerer.vapi

    async def main(triggerer: Triggerer) -> None:
        for number in range(2, 30):
            triggerer.start(vapi.add(number).id, since=ago(triggerer.clock, 600))
        call = vapi.add(1)
        before = ago(triggerer.clock, 1)
        await asyncio.sleep(20)
        vapi.end(call)
        await asyncio.sleep(3 * MIN_INTERVAL)
        asked = len(vapi.log)
        late = triggerer.start(CALL_ID, since=before)
        assert SETTLE <= await triggerer.until_told(late) <= MIN_INTERVAL + 1
        assert late.events[0]["status"] == "done"
        assert len(vapi.log) - asked <= 20

    drive(triggerer, main)


def test_late_joiner_of_a_live_call_waits_for_its_end(
    triggerer: Triggerer,
) -> None:
    vapi = triggerer.vapi

    async def main(triggerer: Triggerer) -> None:
        for number in range(2, 30):
            triggerer.start(vapi.add(number).id, since=ago(triggerer.clock, 600))
        call = vapi.add(1)
        before = ago(triggerer.clock, 1)
        await asyncio.sleep(20)
        vapi.change(call, status="in-progress")
        await asyncio.sleep(3 * MIN_INTERVAL)
        late = triggerer.start(CALL_ID, since=before)
        await asyncio.sleep(6 * MIN_INTERVAL)
        assert late.events == []
        vapi.end(call)
        assert await triggerer.until_told(late) <= MIN_INTERVAL + 1

    drive(triggerer, main)


@pytest.mark.parametrize(
    "call_id", [CALL_ID, CALL_ID.upper(), f" {CALL_ID}\n"], ids=["lower", "upper", "space"]
)
def test_event_names_the_call_as_the_task_did(triggerer: Triggerer, call_id: str) -> None:
    triggerer.vapi.end(triggerer.vapi.add(1))
    event, _ = only_event(triggerer, call_id)
    assert (event["status"], event["call_id"]) == ("done", call_id)


@pytest.mark.parametrize("since", ["soon", 1_790_000_000, "", "2026-99-99T00:00:00Z"])
def test_unreadable_since_is_harmless(triggerer: Triggerer, since: Any) -> None:
    triggerer.vapi.end(triggerer.vapi.add(1))
    event, _ = only_event(triggerer, CALL_ID, since=since)
    assert event["status"] == "done"


def test_analysis_is_waited_for_until_its_timeout(triggerer: Triggerer) -> None:
    vapi = triggerer.vapi
    vapi.end(vapi.add(1))
    event, took = only_event(triggerer, CALL_ID, wait_for_analysis=True, analysis_timeout=60)
    assert event["status"] == "done"
    assert 60 <= took <= 60 + 2 * MIN_INTERVAL + 1


def test_endless_analysis_timeout_is_accepted(triggerer: Triggerer) -> None:
    vapi = triggerer.vapi
    vapi.end(vapi.add(1))
    arguments = {"wait_for_analysis": True, "analysis_timeout": 86_399_999_999_999.0, "end_after": 500}
    assert only_event(triggerer, CALL_ID, **arguments)[0]["status"] == "timeout"


# Its deadline


TIMEOUT = {
    "status": "timeout",
    "call_id": CALL_ID,
    "message": f"Call {CALL_ID} did not end in time.",
}


@pytest.mark.parametrize("end_after", [-86_400, -1, 0])
def test_past_deadline_ends_without_a_request(triggerer: Triggerer, end_after: float) -> None:
    triggerer.vapi.add(1)
    event, took = only_event(triggerer, CALL_ID, end_after=end_after)
    assert event == TIMEOUT
    assert took == pytest.approx(SETTLE, abs=0.01)
    assert triggerer.vapi.log == []


@pytest.mark.parametrize("end_after", [2, 7, 31, 100, 86_400])
def test_deadline_ends_the_wait(triggerer: Triggerer, end_after: float) -> None:
    triggerer.vapi.add(1)
    event, took = only_event(triggerer, CALL_ID, end_after=end_after, poll_interval=3600, most=1e5)
    assert event == TIMEOUT
    assert took == pytest.approx(max(SETTLE, end_after), abs=0.01)


@pytest.mark.parametrize("end_after", [-60, 2, 65])
def test_trigger_without_a_call_waits_for_its_deadline(triggerer: Triggerer, end_after: float) -> None:
    event, took = only_event(triggerer, None, end_after=end_after, hang_up_on_kill=True)
    assert event == {"status": "timeout", "call_id": None, "message": "The end time has passed."}
    assert took == pytest.approx(max(SETTLE, end_after), abs=0.01)
    assert triggerer.vapi.log == []


def test_trigger_without_a_deadline_waits_for_the_call(triggerer: Triggerer) -> None:
    call = triggerer.vapi.add(1)

    async def main(triggerer: Triggerer) -> Any:
        wait = triggerer.start(CALL_ID, end_after=math.inf, poll_interval=3600)
        await asyncio.sleep(86_400)
        assert wait.events == []
        triggerer.vapi.end(call)
        await triggerer.until_told(wait, most=2 * 3600)
        return wait.events

    assert [event["status"] for event in drive(triggerer, main)] == ["done"]


def test_deadline_ends_the_wait_while_vapi_is_down(triggerer: Triggerer) -> None:
    triggerer.vapi.add(1)
    triggerer.vapi.faults = [{"status": 503, "times": -1, "headers": {"Retry-After": "3600"}}]
    event, took = only_event(triggerer, CALL_ID, end_after=120)
    assert event == TIMEOUT
    assert took == pytest.approx(120, abs=0.01)


@pytest.mark.parametrize("step", [300, 86_400], ids=["to-the-deadline", "past-it"])
def test_wall_clock_jump_is_noticed_within_half_a_minute(triggerer: Triggerer, step: float) -> None:
    """A triggerer's machine that slept, or whose clock was wrong: the deadline is the wall clock's."""
    triggerer.vapi.add(1)

    async def main(triggerer: Triggerer) -> float:
        wait = triggerer.start(CALL_ID, end_after=310)
        await asyncio.sleep(11)
        triggerer.clock.wall_offset += step
        took = await triggerer.until_told(wait)
        assert wait.events == [TIMEOUT]
        return took

    assert drive(triggerer, main) <= 30


def test_wall_clock_set_back_ends_no_wait_early(triggerer: Triggerer) -> None:
    triggerer.vapi.add(1)

    async def main(triggerer: Triggerer) -> None:
        wait = triggerer.start(CALL_ID, end_after=100, poll_interval=60)
        await asyncio.sleep(60)
        triggerer.clock.wall_offset -= 3600
        await asyncio.sleep(3000)
        assert not wait.events
        await triggerer.until_told(wait, most=640 + CLOCK_CHECK)
        assert wait.events == [TIMEOUT]
        assert triggerer.clock.time() >= wait.trigger.end_time

    drive(triggerer, main)


def test_end_noticed_in_time_survives_a_clock_jump(
    triggerer: Triggerer,
) -> None:
    vapi = triggerer.vapi
    vapi.end(vapi.add(1))

    async def main(triggerer: Triggerer) -> None:
        wait = triggerer.start(CALL_ID, end_after=60)
        await until(lambda: bool(vapi.log))
        triggerer.clock.wall_offset += 3600
        await triggerer.until_told(wait)
        assert wait.events[0]["status"] == "done"

    drive(triggerer, main)


# Its end by force


@pytest.mark.parametrize(
    "after",
    [0, 2.5, MIN_INTERVAL + LATENCY / 2, MIN_INTERVAL + LATENCY + 1, 60],
    ids=["at-once", "before-the-first-poll", "amid-a-request", "between-two-polls", "later"],
)
def test_cancelled_trigger_leaves_nothing(triggerer: Triggerer, after: float) -> None:
    triggerer.vapi.add(1)

    async def main(triggerer: Triggerer) -> None:
        wait = triggerer.start(CALL_ID)
        await asyncio.sleep(after)
        await triggerer.stop(wait)
        assert wait.events == []
        asked = len(triggerer.vapi.log)
        await asyncio.sleep(100)
        assert len(triggerer.vapi.log) == asked

    drive(triggerer, main)


def test_trigger_cancelled_with_verdict_leaves_nothing(triggerer: Triggerer) -> None:
    async def main(triggerer: Triggerer) -> None:
        wait = triggerer.start("no id")
        await asyncio.sleep(SETTLE / 2)
        await triggerer.stop(wait)
        assert wait.events == []

    drive(triggerer, main)


@pytest.mark.parametrize("rounds", range(8))
def test_cancelling_right_after_a_join_stops_polling(triggerer: Triggerer, rounds: int) -> None:
    """
    Both go within a few rounds of the event loop, as when a user clears two tasks at once.

    The one that came asks for shorter intervals, which wakes the poll's sleep at the very moment of its end.
    """
    triggerer.vapi.add(1)

    async def main(triggerer: Triggerer) -> None:
        first = triggerer.start(CALL_ID, poll_interval=600)
        await asyncio.sleep(20)
        second = triggerer.start(CALL_ID, poll_interval=60)
        for _ in range(rounds):
            await asyncio.sleep(0)
        for wait in (first, second):
            assert wait.task is not None
            wait.task.cancel()
        await asyncio.wait({first.task, second.task})  # type: ignore[type-var]
        await asyncio.sleep(1)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"the poll goes on without a wait: {left}"

    drive(triggerer, main)


def test_remaining_triggers_are_still_served(triggerer: Triggerer) -> None:
    vapi = triggerer.vapi

    async def main(triggerer: Triggerer) -> None:
        going = triggerer.start(vapi.add(1).id)
        staying = triggerer.start(CALL_ID)
        await asyncio.sleep(12)
        await triggerer.stop(going)
        vapi.end(vapi.calls[CALL_ID])
        assert await triggerer.until_told(staying) <= MIN_INTERVAL + 1
        assert staying.events[0]["status"] == "done"
        assert going.events == []

    drive(triggerer, main)


@pytest.mark.parametrize(
    "fault",
    [Fault(delay=HELD_SECONDS, times=None), Fault(drip=HELD_SECONDS, times=None)],
    ids=["late", "slow"],
)
def test_request_in_flight_ends_with_its_thread_and_socket(
    fault: Fault, held_responses: HeldResponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a real socket: a task that is cancelled does not wait for it."""
    monkeypatch.setattr("vapi_provider.polling.poller.MIN_INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr("vapi_provider.polling.connection.TIMEOUT_SECONDS", HELD_SECONDS)
    closed = threading.Event()
    with VapiSimulator() as simulator:
        call_id = simulator.add_call()
        simulator.faults.add(fault)
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", simulator.connection)
        real_close = requests.Session.close

        def close(session: Any) -> None:
            real_close(session)
            closed.set()

        monkeypatch.setattr(requests.Session, "close", close)

        async def main() -> None:
            arguments = {"poll_interval": 0.01, "end_time": 4e9}
            trigger = VapiCallTrigger(vapi_conn_id=CONN_ID, call_id=call_id, **arguments)
            task = asyncio.get_running_loop().create_task(collect(trigger.run()))  # type: ignore[arg-type]
            await come_true(lambda: bool(simulator.requests), "it polls")
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            for _ in range(3):
                await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert not closed.is_set()

        asyncio.run(main())
        held_responses.let_all_go()
        assert closed.wait(60)
        wait_until(lambda: not poller_threads(), "the thread ends")
        assert len(simulator.requests) == 1


def test_poll_logs_outside_the_first_tasks_context(
    triggerer: Triggerer, caplog: pytest.LogCaptureFixture
) -> None:
    """Airflow sends what is logged in a trigger's context to its task's log; the poll belongs to no task."""
    whose: contextvars.ContextVar[str] = contextvars.ContextVar("whose", default="none")
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{whose.get()}: {record.getMessage()}")

    triggerer.vapi.add(1)
    triggerer.vapi.faults = [{"status": 503, "times": 1}]
    logger, handler = logging.getLogger("vapi_provider.polling.outage"), Handler()

    async def main(triggerer: Triggerer) -> None:
        whose.set("the first task")
        triggerer.start(CALL_ID)
        await asyncio.sleep(30)

    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        drive(triggerer, main)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert [line.split(":")[0] for line in lines] == ["none", "none"]
    assert f"Polling Vapi failed (connection {CONN_ID!r}, 1 call pending)" in lines[0]
    assert "works again" in lines[1]


def test_event_loops_share_nothing(triggerer: Triggerer) -> None:
    """A registry by connection alone would hand a poller to a loop that it does not run in."""
    vapi, first = triggerer.vapi, VirtualLoop(triggerer.clock)
    vapi.end(vapi.add(1))
    wait = first.run_until_complete(started(triggerer, vapi.add(2).id))
    assert only_event(Triggerer(vapi), CALL_ID)[0]["status"] == "done"
    vapi.end(vapi.calls[wait.call_id])
    first.run_until_complete(triggerer.until_told(wait))
    first.run_until_complete(triggerer.stop(wait))
    first.close()


async def started(triggerer: Triggerer, call_id: str) -> Wait:
    wait = triggerer.start(call_id)
    await asyncio.sleep(1)
    return wait


def test_waiter_gets_one_verdict(triggerer: Triggerer) -> None:
    triggerer.vapi.add(1)

    async def main(triggerer: Triggerer) -> None:
        waiter = Waiter(CALL_ID, 5)
        with CallPoller.join(CONN_ID, waiter):
            triggerer.vapi.end(triggerer.vapi.calls[CALL_ID])
            await asyncio.wait_for(asyncio.shield(waiter.verdict), 60)
            first = waiter.verdict.result()
            triggerer.vapi.calls[CALL_ID].erased = True
            await asyncio.sleep(30)
            assert waiter.verdict.result() is first

    drive(triggerer, main)
