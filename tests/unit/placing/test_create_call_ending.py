# SPDX-License-Identifier: Apache-2.0
"""Ending the call of a task that is stopped or has waited too long: only when asked for, and within seconds."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow_model import NUMBER, AirflowModel, Slot
from late_responses import HELD_SECONDS, HeldResponses, wait_until
from placing_helpers import await_event, begin, deferral, resume, wait_out
from task_instances import BACKSTOP, Deferral, reported

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowTaskTimeout
from vapi_provider.exceptions import VapiTransientError
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.simulator import Fault, Timeline

LIVE = Timeline(ringing=1, answered=3, ended=None)
SCHEDULED: dict[str, Any] = {"schedule_plan": {"earliest_at": "2040-01-01T10:00:00Z"}}

waits = pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferrable"])


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    # Airflow's own logger writes past pytest.
    monkeypatch.setattr(VapiCreateCallOperator, "log", logging.getLogger("task"))
    caplog.set_level(logging.INFO)


@pytest.fixture(autouse=True)
def _nothing_goes_on() -> Iterator[None]:
    """Wait for what was still ending a call when its task did not wait any longer."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(60)


def the_call(model: AirflowModel) -> dict[str, Any]:
    (call,) = model.simulator.calls.values()
    return call


def requests(model: AirflowModel) -> list[str]:
    return [f"{request.method} {request.path.split('/')[1]}" for request in model.simulator.requests]


def ended_by_us(model: AirflowModel) -> bool:
    return the_call(model).get("endedReason") == "manually-canceled"


def during(model: AirflowModel, point: str, act: Callable[[], Any], *, times: int = 1, skip: int = 0) -> None:
    """Let something happen when the task comes to a point, as a signal would."""
    left = [act] * times
    passed = [None] * skip

    def at(reached: str) -> None:
        if reached != point:
            return
        if passed:
            passed.pop()
        elif left:
            left.pop()()

    model.at = at


def stop(slot: Slot) -> Callable[[], None]:
    """Return what Airflow does to a task that it stops: it calls on_kill, and lets the code go on for a while."""

    def kill() -> None:
        assert slot.operator is not None
        slot.operator.on_kill()

    return kill


def run(slot: Slot, **arguments: Any) -> Any:
    """Run a try that may be stopped, and return its result or what it raised."""
    try:
        return begin(slot, **arguments)
    except (Exception, AirflowTaskTimeout) as error:
        return error


# Not asked for


@pytest.mark.parametrize("point", ["send.POST", "sent.POST", "xcom.push", "send.GET", "sent.GET", "sleep"])
def test_stopped_task_leaves_its_call_alone_by_default(model: AirflowModel, point: str) -> None:
    slot = model.slot(wait_for_completion=True)
    during(model, point, stop(slot))
    assert run(slot)["outcome"] == "completed"
    assert the_call(model)["endedReason"] == "customer-ended-call"
    assert set(requests(model)) == {"POST call", "GET call"}


@waits
def test_timeout_leaves_the_call_alone_by_default(model: AirflowModel, deferrable: bool) -> None:
    model.simulator.timeline = LIVE
    with pytest.raises(AirflowSensorTimeout):
        wait_out(model.slot(deferrable=deferrable, timeout=60, hang_up_on_kill=True))
    assert the_call(model)["status"] == "in-progress"


def test_task_stopped_before_it_runs_has_nothing_to_end(model: AirflowModel) -> None:
    slot = model.slot(hang_up_on_kill=True)
    slot.prepare()
    stop(slot)()
    assert model.simulator.requests == []


# A task that is stopped while it waits


def test_live_call_is_hung_up(model: AirflowModel, caplog: pytest.LogCaptureFixture) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot(wait_for_completion=True, hang_up_on_kill=True)
    during(model, "sleep", stop(slot))
    result = run(slot)
    # The simulator refuses a control URL that is sent the API key.
    assert ended_by_us(model)
    assert requests(model)[-3:] == ["GET call", "POST control", "GET call"]
    assert f"The task was stopped. Call {result['id']} was ended." in caplog.text
    assert (result["status"], result["outcome"]) == ("ended", "cancelled")


@pytest.mark.parametrize("status", ["queued", "ringing", "in-progress", "forwarding"])
def test_call_in_any_live_state_is_hung_up(model: AirflowModel, status: str) -> None:
    slot = model.slot(wait_for_completion=True, hang_up_on_kill=True)

    def kill() -> None:
        model.simulator.set_status(the_call(model)["id"], status)
        stop(slot)()

    during(model, "sleep", kill)
    run(slot)
    assert ended_by_us(model)


def test_scheduled_call_is_cancelled(model: AirflowModel, caplog: pytest.LogCaptureFixture) -> None:
    slot = model.slot(wait_for_completion=True, hang_up_on_kill=True, **SCHEDULED)
    during(model, "sleep", stop(slot))
    run(slot)
    assert the_call(model)["endedReason"] == "scheduled-call-deleted"
    assert requests(model).count("DELETE call") == 1
    assert "POST control" not in requests(model)
    assert "was cancelled" in caplog.text
    assert model.simulator.rings == {}


def test_call_that_is_over_is_left_alone(model: AirflowModel, caplog: pytest.LogCaptureFixture) -> None:
    slot = model.slot(hang_up_on_kill=True)
    slot.attempt()
    model.pass_time(60)
    asked = len(model.simulator.requests)
    stop(slot)()
    assert requests(model)[asked:] == ["GET call"]
    assert the_call(model)["endedReason"] == "customer-ended-call"
    assert "had already ended" in caplog.text


def test_call_without_a_control_url_gets_a_warning(
    model: AirflowModel, caplog: pytest.LogCaptureFixture
) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot(hang_up_on_kill=True)
    call_id = slot.attempt()["id"]
    model.simulator._store.drive(call_id, lambda record, now: record.change(now, {"monitor": {}}))
    stop(slot)()
    assert the_call(model)["status"] == "queued"
    (warning,) = [record for record in caplog.records if "has no control URL" in record.getMessage()]
    assert warning.levelno == logging.WARNING
    assert call_id in warning.getMessage()


def test_control_url_elsewhere_is_not_used(model: AirflowModel, caplog: pytest.LogCaptureFixture) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot(hang_up_on_kill=True)
    call_id = slot.attempt()["id"]
    elsewhere = {"monitor": {"controlUrl": "https://elsewhere.example.com/capability"}}
    model.simulator._store.drive(call_id, lambda record, now: record.change(now, elsewhere))
    stop(slot)()
    assert the_call(model)["status"] == "queued"
    assert "not an https address of Vapi," in caplog.text
    assert "capability" not in caplog.text


@pytest.mark.parametrize("times", [1, 2], ids=["second-try-works", "both-fail"])
def test_failure_is_tried_once_more_and_logged(
    model: AirflowModel, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot(hang_up_on_kill=True)
    slot.attempt()
    model.simulator.faults.add(Fault(method="GET", status=503, times=times))
    asked = len(model.simulator.requests)
    stop(slot)()
    assert ended_by_us(model) is (times == 1)
    assert requests(model)[asked:].count("GET call") == 2
    assert ("could not be ended and may still be live" in caplog.text) is (times == 2)


@pytest.mark.usefixtures("held_responses")
@pytest.mark.parametrize("has_store", [True], ids=["with-store"])
@pytest.mark.parametrize("method", ["GET", "POST"], ids=["read-hangs", "control-url-hangs"])
def test_hang_up_stops_waiting_at_its_limit(
    model: AirflowModel, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot(hang_up_on_kill=True)
    slot.attempt()
    model.simulator.faults.add(Fault(method=method, status=503, delay=HELD_SECONDS, times=None))
    monkeypatch.setattr("vapi_provider.client.hang_up.HANG_UP_SECONDS", 0.2)
    stop(slot)()
    assert "could not be ended and may still be live. It did not end within 0.2 s." in caplog.text
    assert the_call(model)["status"] == "queued"


def test_hang_up_does_not_wait_while_vapi_is_down(
    model: AirflowModel, caplog: pytest.LogCaptureFixture
) -> None:
    slot = model.slot(hang_up_on_kill=True)
    slot.attempt()
    model.simulator.stop()
    stop(slot)()
    assert "could not be ended and may still be live" in caplog.text


def test_stop_of_one_try_does_not_stop_the_next(model: AirflowModel) -> None:
    """In ``dag.test()`` all tries of a task come from one operator."""
    slot = model.slot()
    parsed = VapiCreateCallOperator(task_id="call", **slot.arguments)
    parsed.prepare_for_execution().on_kill()
    slot.try_number += 1
    assert parsed.prepare_for_execution().execute(slot.context())["status"] == "queued"


def test_second_stop_does_nothing_more(model: AirflowModel) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot(hang_up_on_kill=True)
    slot.attempt()
    stop(slot)()
    stop(slot)()
    assert ended_by_us(model)
    assert requests(model).count("POST control") == 1


def test_stopped_resumed_process_ends_the_call(model: AirflowModel) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot(hang_up_on_kill=True, deferrable=True, wait_for_completion=True)
    deferred = deferral(slot)
    operator = slot._operator()
    during(model, "sent.GET", operator.on_kill)
    context = slot.context()
    with pytest.raises(AirflowSensorTimeout):
        operator.resume_execution(
            "execute_complete", {"event": reported("timeout", deferred.trigger.call_id)}, context
        )
    assert ended_by_us(model)


# One operator that runs twice


def runs_twice(model: AirflowModel, **arguments: Any) -> tuple[VapiCreateCallOperator, Slot, Slot]:
    """Make one operator, and two runs that it calls the same person in."""
    slots = [model.slot(model.run(run_id=f"run {number}"), **arguments) for number in (1, 2)]
    for slot in slots:
        slot.try_number = 1
    return VapiCreateCallOperator(task_id="call", **slots[0].arguments), slots[0], slots[1]


@pytest.mark.parametrize("wait", [True, False], ids=["waiting", "not-waiting"])
def test_second_execution_returns_its_own_call(model: AirflowModel, wait: bool) -> None:
    operator, first, second = runs_twice(model, wait_for_completion=wait)
    summaries = [operator.execute(slot.context()) for slot in (first, second)]
    assert [summary["id"] for summary in summaries] == [slot.xcoms["call_id"] for slot in (first, second)]
    assert summaries[0]["id"] != summaries[1]["id"]
    assert model.rings() == {NUMBER: 2}


@pytest.mark.parametrize("point", ["sent.POST", "xcom.push", "send.GET", "sleep"])
def test_stop_of_a_second_execution_ends_its_own_call(model: AirflowModel, point: str) -> None:
    operator, first, second = runs_twice(model, wait_for_completion=True, hang_up_on_kill=True)
    call_id = operator.execute(first.context())["id"]
    model.simulator.timeline = LIVE
    during(model, point, operator.on_kill)
    summary = operator.execute(second.context())
    assert summary["id"] == second.xcoms["call_id"] != call_id
    assert model.simulator.get_call(summary["id"])["endedReason"] == "manually-canceled"
    assert model.simulator.get_call(call_id)["endedReason"] == "customer-ended-call"


# A task that is stopped while it places the call


@pytest.mark.parametrize("point", ["send.POST", "sent.POST", "xcom.push"])
@pytest.mark.parametrize("wait", [True, False], ids=["waiting", "not-waiting"])
def test_call_is_hung_up_as_soon_as_its_id_is_known(
    model: AirflowModel, point: str, wait: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot(hang_up_on_kill=True, wait_for_completion=wait)
    during(model, point, stop(slot))
    run(slot)
    assert ended_by_us(model)
    assert slot.xcoms["call_id"] == the_call(model)["id"]
    assert "was ended" in caplog.text
    assert model.rings() == {}


def test_call_is_hung_up_although_its_id_cannot_be_pushed(model: AirflowModel) -> None:
    """Airflow's API server is gone, which is why the task is stopped."""
    model.simulator.timeline = LIVE
    slot = model.slot(hang_up_on_kill=True)

    stopped: list[None] = []

    def at(point: str) -> None:
        if point == "send.POST" and not stopped:
            stopped.append(stop(slot)())
        if point == "xcom.push":
            raise ConnectionError("no API server")

    model.at = at
    with pytest.raises(ConnectionError):
        slot.attempt()
    assert ended_by_us(model)


def test_real_signal_during_the_request_hangs_up_its_call(
    model: AirflowModel, held_responses: HeldResponses
) -> None:
    model.simulator.timeline = LIVE
    model.simulator.faults.add(Fault(method="POST", path="/call", delay=HELD_SECONDS))
    slot = model.slot(hang_up_on_kill=True)
    task = slot.prepare()
    signals: list[bool] = []

    def handle(_number: int, _frame: Any) -> None:
        assert slot.operator is not None
        slot.operator.on_kill()
        signals.append(ended_by_us(model))
        held_responses.let_go()

    def send() -> None:
        wait_until(lambda: model.simulator.calls, "the call is placed")
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        sender = threading.Thread(target=send)
        sender.start()
        result = task()
        sender.join()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signals == [False]
    assert ended_by_us(model)
    assert slot.xcoms["call_id"] == result["id"]


@pytest.mark.parametrize("point", ["store.get", "store.set", "store.was_set"])
@pytest.mark.parametrize("has_store", [True])
@pytest.mark.parametrize("hangs_up", [True, False])
def test_try_stopped_before_the_request_sends_nothing(
    model: AirflowModel, point: str, hangs_up: bool
) -> None:
    slot = model.slot(hang_up_on_kill=hangs_up)
    during(model, point, stop(slot))
    result = run(slot)
    assert isinstance(result, VapiTransientError)
    assert "The task was stopped, so it sends nothing more." in str(result)
    assert model.simulator.requests == []
    assert model.rings() == {}


@pytest.mark.parametrize("point", ["store.set", "store.was_set"])
@pytest.mark.parametrize("has_store", [True])
def test_retry_after_an_early_stop_calls_at_once(model: AirflowModel, point: str) -> None:
    slot = model.slot()
    during(model, point, stop(slot))
    run(slot)
    slot.attempt()
    assert requests(model) == ["POST call"]
    assert model.rings() == {NUMBER: 1}


@pytest.mark.parametrize("point", ["send.GET", "sent.GET", "sleep"])
def test_try_stopped_during_the_search_sends_nothing_more(model: AirflowModel, point: str) -> None:
    slot = model.slot()
    slot.try_number = 1
    if model.has_store:
        slot.stored.clear()
    during(model, point, stop(slot))
    result = run(slot)
    assert isinstance(result, VapiTransientError)
    assert "The task was stopped, so it sends nothing more." in str(result)
    assert "may have been placed before" in str(result)
    assert set(requests(model)) == {"GET call"}
    assert wait_out(slot)["outcome"] == "completed"
    assert model.rings() == {NUMBER: 1}


def test_call_of_an_earlier_try_is_hung_up_when_found(model: AirflowModel) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot(hang_up_on_kill=True)
    slot.attempt()
    slot.stored.clear()
    during(model, "sent.GET", stop(slot))
    run(slot)
    assert ended_by_us(model)


def test_lost_response_leaves_no_live_call_behind(model: AirflowModel) -> None:
    model.simulator.timeline = LIVE
    model.simulator.faults.add(Fault(method="POST", reset="before", effect=True))
    slot = model.slot(hang_up_on_kill=True)
    during(model, "send.POST", stop(slot))
    run(slot)
    assert ended_by_us(model)


# A task that has waited too long


@waits
def test_call_is_hung_up_at_the_timeout(model: AirflowModel, deferrable: bool) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot(deferrable=deferrable, timeout=60, hang_up_on_timeout=True)
    with pytest.raises(AirflowSensorTimeout, match="had not ended after 1 min 0 s") as failure:
        wait_out(slot)
    assert ended_by_us(model)
    assert str(failure.value).endswith(f" Call {slot.xcoms['call_id']} was ended.")


def due_in(model: AirflowModel, seconds: float) -> dict[str, Any]:
    """Make the plan for a call that is due in so many seconds, by Airflow's clock."""
    due_at = datetime.fromtimestamp(model.now + seconds, timezone.utc)
    return {"schedule_plan": {"earliest_at": due_at}}


@waits
def test_call_still_scheduled_at_the_timeout_is_cancelled(model: AirflowModel, deferrable: bool) -> None:
    # Vapi's clock is behind, so that the call is not due there when Airflow has waited for it.
    model.now += 600
    plan = due_in(model, 300)
    with pytest.raises(AirflowSensorTimeout, match="Scheduled call .* was cancelled.$"):
        wait_out(model.slot(deferrable=deferrable, timeout=60, hang_up_on_timeout=True, **plan))
    assert the_call(model)["endedReason"] == "scheduled-call-deleted"


@waits
@pytest.mark.parametrize("lost", [{"status": 502}, {"reset": "before"}], ids=["502", "reset"])
def test_cancellation_with_a_lost_response_erases_nothing(
    model: AirflowModel, deferrable: bool, lost: dict[str, Any]
) -> None:
    model.now += 600
    plan = due_in(model, 300)
    model.simulator.faults.add(Fault(method="DELETE", effect=True, **lost))
    with pytest.raises(AirflowSensorTimeout, match="Call .* has ended.$"):
        wait_out(model.slot(deferrable=deferrable, timeout=60, hang_up_on_timeout=True, **plan))
    assert requests(model).count("DELETE call") == 1
    # A second DELETE would have erased it.
    assert the_call(model)["status"] == "ended"
    assert the_call(model)["endedReason"] == "scheduled-call-deleted"
    assert model.rings() == {}


@waits
def test_call_without_its_analysis_is_left_alone(
    model: AirflowModel, deferrable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model.simulator.timeline = Timeline(ended=15, analysis=500)
    slot = model.slot(
        deferrable=deferrable,
        timeout=60,
        hang_up_on_timeout=True,
        wait_for_analysis=True,
        analysis_timeout=1000,
    )
    assert wait_out(slot)["status"] == "ended"
    assert requests(model).count("POST call") == 1
    assert "already ended" not in caplog.text
    assert not {"POST control", "DELETE call"} & set(requests(model))


@waits
def test_call_that_ends_in_time_is_left_alone(model: AirflowModel, deferrable: bool) -> None:
    slot = model.slot(deferrable=deferrable, timeout=600, hang_up_on_timeout=True, hang_up_on_kill=True)
    assert wait_out(slot)["outcome"] == "completed"
    assert set(requests(model)) == {"POST call", "GET call"}


@waits
def test_task_that_cannot_end_the_call_still_times_out(model: AirflowModel, deferrable: bool) -> None:
    model.simulator.faults.add(Fault(method="GET", status=503, times=None))
    slot = model.slot(deferrable=deferrable, timeout=60, hang_up_on_timeout=True)
    with pytest.raises(
        AirflowSensorTimeout, match="The last error was.*could not be ended and may still be live"
    ):
        wait_out(slot)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("timeout", AirflowSensorTimeout), ("execution_timeout", AirflowTaskTimeout)],
)
@pytest.mark.parametrize("reports", [True, False], ids=["trigger-reports", "no-report"])
def test_task_without_its_connection_still_times_out(
    model: AirflowModel,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    expected: type[BaseException],
    reports: bool,
) -> None:
    """The connection was there when the call was placed."""
    model.simulator.timeline = LIVE
    arguments: dict[str, Any] = {"hang_up_on_timeout": True, "timeout": 300, limit: timedelta(seconds=60)}
    slot = model.slot(deferrable=True, wait_for_completion=True, **arguments)
    deferred = deferral(slot)
    model.pass_time(61)
    monkeypatch.delenv("AIRFLOW_CONN_VAPI_DEFAULT")
    call_id = deferred.trigger.call_id
    process = deferred.method, {"event": reported("timeout", call_id)}
    with pytest.raises(expected, match=rf"Call {call_id} had not ended after .* \({limit}=60\)") as failure:
        slot.resume(*(process if reports else BACKSTOP))
    assert type(failure.value) is expected
    fate = str(failure.value).partition(f" Call {call_id} could not be ended and may still be live.")[2]
    assert "AIRFLOW_CONN_VAPI_DEFAULT" in fate
    assert not ended_by_us(model)


def test_call_is_hung_up_if_no_trigger_reported_in_time(model: AirflowModel) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot(deferrable=True, wait_for_completion=True, timeout=60, hang_up_on_timeout=True)
    deferral(slot)
    model.pass_time(200)
    with pytest.raises(AirflowSensorTimeout):
        slot.resume(*BACKSTOP)
    assert ended_by_us(model)


@pytest.mark.parametrize("point", ["sleep", "send.GET"], ids=["amid-a-pause", "amid-a-look"])
def test_call_is_hung_up_at_the_execution_timeout(model: AirflowModel, point: str) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot(wait_for_completion=True, hang_up_on_timeout=True)

    def strike() -> None:
        raise AirflowTaskTimeout("execution_timeout")

    during(model, point, strike, skip=2)
    failure = run(slot)
    assert type(failure) is AirflowTaskTimeout
    assert str(failure) == f"execution_timeout. Call {the_call(model)['id']} was ended."
    assert ended_by_us(model)


@pytest.mark.parametrize("process", ["first", "second"])
def test_execution_timeout_in_a_deferrable_task_hangs_up(model: AirflowModel, process: str) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot(hang_up_on_timeout=True, deferrable=True)

    def strike() -> None:
        raise AirflowTaskTimeout("execution_timeout")

    work: Callable[[], Any] = partial(deferral, slot)
    if process == "second":
        deferred = deferral(slot)
        work = partial(resume, slot, deferred, reported("done", deferred.trigger.call_id))
    during(model, "send.GET", strike)
    with pytest.raises(AirflowTaskTimeout, match=r"^execution_timeout\. Call [0-9a-f-]+ was ended\.$"):
        work()
    assert ended_by_us(model)


def test_execution_timeout_leaves_the_call_alone_by_default(model: AirflowModel) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot(wait_for_completion=True)

    def strike() -> None:
        raise AirflowTaskTimeout("execution_timeout")

    during(model, "sleep", strike)
    assert isinstance(run(slot), AirflowTaskTimeout)
    # Airflow says so to the task, too.
    stop(slot)()
    assert the_call(model)["status"] in ("queued", "ringing", "in-progress")


def test_execution_timeout_of_a_deferred_wait_hangs_up(model: AirflowModel) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot(execution_timeout=timedelta(seconds=100), timeout=300, hang_up_on_timeout=True)
    deferred = deferral(slot)
    with pytest.raises(AirflowTaskTimeout, match="execution_timeout=100.* was ended.$"):
        resume(slot, deferred, await_event(model, deferred.trigger))
    assert ended_by_us(model)


def test_task_that_defers_again_does_not_hang_up(model: AirflowModel) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot(timeout=300, hang_up_on_timeout=True, hang_up_on_kill=True)
    deferred = deferral(slot)
    model.pass_time(60)
    assert isinstance(resume(slot, deferred, reported("done", deferred.trigger.call_id)), Deferral)
    assert the_call(model)["status"] == "in-progress"


# What is logged


@waits
def test_control_url_is_in_no_log(
    model: AirflowModel, deferrable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "urllib3.connectionpool", "requests", "vapi_provider"):
        caplog.set_level(logging.DEBUG, logger=name)
    model.simulator.timeline = LIVE
    slot = model.slot(deferrable=deferrable, timeout=60, hang_up_on_timeout=True, hang_up_on_kill=True)
    capabilities = []

    def look() -> None:
        url = the_call(model)["monitor"]["controlUrl"]
        capabilities.append(urlsplit(url).path.rpartition("/")[2])

    during(model, "sent.POST", look)
    with pytest.raises(AirflowSensorTimeout) as failure:
        wait_out(slot)
    assert ended_by_us(model)
    (capability,) = capabilities
    assert "GET /call/" in caplog.text, "urllib3 did log at this level"
    for text in (caplog.text, str(failure.value), str(slot.xcoms), str(slot.stored)):
        assert capability not in text
        assert "/control/" not in text
