# SPDX-License-Identifier: Apache-2.0
"""Waiting for the call that was placed: the same as VapiCallSensor does, in this process or with a triggerer."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow_model import NUMBER, AirflowModel, Slot
from placing_helpers import await_event, begin, deferral, resume, wait_out
from task_instances import BACKSTOP, LINK, Deferral, reported
from ways import kill_at

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowTaskTimeout,
    TaskDeferred,
)
from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiCallFailedError,
    VapiCallNotFoundError,
    VapiConfigurationError,
    VapiTransientError,
)
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import Fault, Timeline
from vapi_provider.triggers.call import VapiCallTrigger

OTHER_ID = "019a7c2e-5f00-7000-8000-0000000000bb"

waits = pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferrable"])


@pytest.fixture(autouse=True)
def _surroundings(model: AirflowModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the operator and the sensor a log that pytest sees."""
    for kind in (VapiCreateCallOperator, VapiCallSensor):
        monkeypatch.setattr(kind, "log", logging.getLogger("task"))


def after_placing(model: AirflowModel, act: Callable[[str], None]) -> None:
    """Let something happen to a call as soon as it is placed."""

    def at(point: str) -> None:
        if point == "sent.POST":
            act(list(model.simulator.calls)[-1])

    model.at = at


def outcome_of(run: Callable[[], Any], call_id: Callable[[], str]) -> Any:
    """Return what a task leaves, success or not, without what differs from call to call."""
    try:
        result = run()
    except (Exception, AirflowTaskTimeout) as error:
        return type(error), str(error).replace(call_id(), "ID")
    return _relative(json.loads(json.dumps(result).replace(call_id(), "ID")))


def _relative(summary: dict[str, Any]) -> dict[str, Any]:
    begin_of = datetime.fromisoformat(summary["created_at"])
    for name in ("created_at", "started_at", "ended_at"):
        if summary[name] is not None:
            summary[name] = (datetime.fromisoformat(summary[name]) - begin_of).total_seconds()
    for message in summary.get("messages") or []:
        message["time"] = message["end_time"] = None
    summary["name"] = summary["name"].partition(" #")[0]
    return summary


# The same as the sensor


def scenario(
    case_id: str, timeline: Timeline, act: Callable[[AirflowModel], Any] | None = None, **arguments: Any
) -> Any:
    return pytest.param(timeline, act, arguments, id=case_id)


UNANSWERED = Timeline(answered=None, ended=40, analysis=None, ended_reason="customer-did-not-answer")
SCENARIOS = [
    scenario("completed", Timeline()),
    scenario("long", Timeline(ended=900, analysis=905)),
    scenario("unanswered", UNANSWERED),
    scenario("in-fail_on", UNANSWERED, fail_on=["no_answer", "failed"]),
    scenario("not-in-fail_on", UNANSWERED, fail_on=["completed", "failed"]),
    scenario("never-dialled", Timeline(ringing=None, answered=None, ended=5, analysis=None,
                                       ended_reason="call.start.error-get-phone-number"), fail_on=["failed"]),
    scenario("content", Timeline(), include=["analysis", "transcript", "messages", "customer", "cost_breakdown",
                                             "structured_outputs"], wait_for_analysis=True),
    scenario("content-before-the-analysis", Timeline(ended=15, analysis=80), include=["analysis", "transcript"]),
    scenario("analysis", Timeline(ended=15, analysis=50), wait_for_analysis=True, include=["analysis"]),
    scenario("analysis-too-late", Timeline(ended=15, analysis=500), wait_for_analysis=True, analysis_timeout=60,
             include=["analysis"]),
    scenario("analysis-in-fail_on", UNANSWERED, wait_for_analysis=True, fail_on=["no_answer"]),
    scenario("analysis-beyond-the-timeout", Timeline(ended=15, analysis=500), wait_for_analysis=True,
             analysis_timeout=1000, timeout=90, include=["analysis"]),
    scenario("timeout", Timeline(ended=None), timeout=90),
    scenario("erased", Timeline(ended=None), lambda model: lambda call_id:
             model.simulator.set_status(call_id, "deletion-failed")),
    scenario("unknown-status", Timeline(ended=None), lambda model: lambda call_id:
             model.simulator.set_status(call_id, "pondering"), timeout=90),
    scenario("refused", Timeline(), lambda model: lambda call_id:
             model.simulator.faults.add(Fault(path=f"/call/{call_id}", status=401, times=None))),
    scenario("gone", Timeline(), lambda model: lambda call_id:
             model.simulator.faults.add(Fault(path=f"/call/{call_id}", status=404, times=None))),
]  # fmt: skip


@waits
@pytest.mark.parametrize(("timeline", "act", "arguments"), SCENARIOS)
def test_operator_waits_as_the_sensor_does(
    model: AirflowModel,
    deferrable: bool,
    timeline: Timeline,
    act: Callable[[AirflowModel], Callable[[str], None]] | None,
    arguments: dict[str, Any],
) -> None:
    model.simulator.timeline = timeline
    if act is not None:
        after_placing(model, act(model))
    own = model.slot(task_id="own", **arguments)
    ours = outcome_of(lambda: wait_out(own, deferrable=deferrable), lambda: own.xcoms["call_id"])
    for call_id in model.simulator.calls:
        model.simulator.end_call(call_id)
    model.pass_time(3600)
    other = model.slot(task_id="other")
    call_id = begin(other)["id"]
    sensor = VapiCallSensor(task_id="wait", call_id=call_id, deferrable=False, **arguments)
    theirs = outcome_of(lambda: sensor.execute(model.slot(task_id="wait").context()), lambda: call_id)
    if isinstance(theirs, dict):
        theirs["attempts"] = 1
    assert ours == theirs


@waits
@pytest.mark.parametrize(
    ("timeline", "arguments", "expected"),
    [
        pytest.param(UNANSWERED, {"fail_on": ["no_answer"]}, VapiCallFailedError, id="fail_on"),
        pytest.param(Timeline(ended=None), {"timeout": 90}, AirflowSensorTimeout, id="timeout"),
    ],
)
def test_failed_wait_names_the_call_and_its_state(
    model: AirflowModel,
    deferrable: bool,
    timeline: Timeline,
    arguments: dict[str, Any],
    expected: type[Exception],
) -> None:
    model.simulator.timeline = timeline
    slot = model.slot(deferrable=deferrable, **arguments)
    with pytest.raises(expected) as failure:
        wait_out(slot)
    call_id = slot.xcoms["call_id"]
    assert call_id in str(failure.value)
    if expected is AirflowSensorTimeout:
        assert "(timeout=90): its last status was 'in-progress'" in str(failure.value)
    else:
        assert "customer-did-not-answer" in str(failure.value)


@waits
def test_wait_begins_with_the_call(model: AirflowModel, deferrable: bool) -> None:
    """Finding out whether the call was placed takes a minute, which is none of the timeout."""
    model.simulator.faults.add(Fault(method="POST", reset="before", effect=False, times=1))
    model.simulator.timeline = Timeline(ended=80, analysis=None)
    slot = model.slot(deferrable=deferrable, timeout=100)
    with pytest.raises(Exception, match="A retry may place the call"):
        wait_out(slot)
    assert wait_out(slot)["status"] == "ended"
    assert model.rings() == {NUMBER: 1}


@pytest.mark.parametrize("timeout", [0, 7, 100])
def test_wait_ends_at_the_timeout(model: AirflowModel, timeout: float) -> None:
    model.simulator.timeline = Timeline(ended=None)
    began = model.now
    with pytest.raises(AirflowSensorTimeout):
        wait_out(model.slot(timeout=timeout, poll_interval=60))
    assert model.now - began == timeout


def plan(model: AirflowModel, **seconds: float) -> dict[str, Any]:
    """Make the plan of a call that is due in so many seconds."""
    instants = {
        name: datetime.fromtimestamp(model.now + later, timezone.utc) for name, later in seconds.items()
    }
    return {"schedule_plan": instants}


@pytest.mark.parametrize(
    ("due", "counts_from"),
    [
        pytest.param({"earliest_at": 600}, 600, id="earliest_at"),
        pytest.param({"earliest_at": 600, "latest_at": 900}, 900, id="latest_at"),
        pytest.param({"earliest_at": -600, "latest_at": 900}, 900, id="only-latest_at-to-come"),
        pytest.param({"earliest_at": -600}, 0, id="earliest_at-past"),
        pytest.param({"earliest_at": -900, "latest_at": -600}, 0, id="both-past"),
    ],
)
@waits
def test_timeout_counts_from_when_a_scheduled_call_is_due(
    model: AirflowModel, deferrable: bool, due: dict[str, float], counts_from: float
) -> None:
    model.simulator.timeline = Timeline(ended=None)
    slot = model.slot(timeout=60, **plan(model, **due))
    began_at = model.now
    if deferrable:
        assert deferral(slot).trigger.end_time == began_at + counts_from + 60
    else:
        with pytest.raises(AirflowSensorTimeout, match=r"had not ended after 1 min 0 s \(timeout=60\)"):
            wait_out(slot)
        assert model.now == began_at + counts_from + 60


@waits
def test_call_scheduled_for_tomorrow_is_waited_for(model: AirflowModel, deferrable: bool) -> None:
    slot = model.slot(deferrable=deferrable, timeout=60, poll_interval=900, **plan(model, earliest_at=86_400))
    assert wait_out(slot)["outcome"] == "completed"
    assert model.rings() == {NUMBER: 1}


def test_resumed_wait_still_counts_from_when_the_call_is_due(model: AirflowModel) -> None:
    model.simulator.timeline = Timeline(ended=None)
    slot = model.slot(timeout=60, **plan(model, earliest_at=600))
    deferred = deferral(slot)
    model.pass_time(100)
    again = resume(slot, deferred, reported("done", deferred.trigger.call_id))
    assert isinstance(again, Deferral)
    assert again.trigger.end_time == deferred.trigger.end_time


# What is there before it begins


@waits
def test_id_and_link_are_there_before_the_first_read(model: AirflowModel, deferrable: bool) -> None:
    slot, seen = model.slot(deferrable=deferrable), []

    def at(point: str) -> None:
        if point == "send.GET":
            seen.append({key: slot.xcoms.get(key) for key in ("call_id", LINK)})

    model.at = at
    wait_out(slot)
    (call_id,) = model.simulator.calls
    assert len(seen) > 0
    there = {"call_id": call_id, LINK: f"{model.simulator.url}/calls/{call_id}"}
    assert seen == [there] * len(seen)


def test_id_and_link_are_there_while_it_is_deferred(model: AirflowModel) -> None:
    slot = model.slot()
    call_id = deferral(slot).trigger.call_id
    assert slot.xcoms["call_id"] == call_id
    assert slot.xcoms[LINK] == f"{model.simulator.url}/calls/{call_id}"


def test_task_that_does_not_wait_reads_nothing(model: AirflowModel) -> None:
    summary = model.slot(include=["customer"], hang_up_on_kill=True).attempt()
    assert summary["status"] == "queued"
    assert [request.method for request in model.simulator.requests] == ["POST"]


# Passing errors


@waits
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"status": 503}, id="503"),
        pytest.param({"status": 429}, id="429"),
        pytest.param({"reset": "before"}, id="reset"),
        pytest.param({"status": 200, "body": "<html>", "content_type": "text/html"}, id="html"),
    ],
)
def test_outage_right_after_placing_is_waited_out(
    model: AirflowModel, deferrable: bool, fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    # Each poke is five requests.
    model.simulator.faults.add(Fault(method="GET", times=11, **fault))
    slot = model.slot(deferrable=deferrable)
    assert wait_out(slot)["outcome"] == "completed"
    assert "Still waiting" in caplog.text
    assert model.posts() == 1
    assert model.rings() == {NUMBER: 1}


@waits
def test_outage_at_the_timeout_is_named(model: AirflowModel, deferrable: bool) -> None:
    model.simulator.faults.add(Fault(method="GET", status=503, times=None))
    slot = model.slot(deferrable=deferrable, timeout=200)
    with pytest.raises(
        AirflowSensorTimeout, match=r"its last status is unknown\. The last error was: GET /call/.* 503"
    ):
        wait_out(slot)
    assert "call_id" in slot.xcoms


def test_unreadable_connection_is_waited_out(model: AirflowModel, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = model.slot()
    deferred = deferral(slot)
    model.pass_time(60)
    with monkeypatch.context() as patch:
        patch.delenv("AIRFLOW_CONN_VAPI_DEFAULT")
        again = resume(slot, deferred, reported("done", deferred.trigger.call_id))
    assert isinstance(again, Deferral)
    assert again.trigger.end_time == deferred.trigger.end_time
    assert resume(slot, again, reported("done", again.trigger.call_id))["status"] == "ended"


# A 404 right after a slow placement


def slow_post(model: AirflowModel, seconds: float, *, hidden: int = 0) -> None:
    """Let the response to POST take so long, and hide the call from the first reads."""

    def at(point: str) -> None:
        if point == "sent.POST":
            model.at = lambda _point: None
            model.pass_time(seconds)
            if hidden:
                hide(model, times=hidden)

    model.at = at


def hide(model: AirflowModel, times: int = 1) -> None:
    (call_id,) = model.simulator.calls
    model.simulator.faults.add(Fault(method="GET", path=f"/call/{call_id}", status=404, times=times))


@pytest.mark.parametrize(("posting", "later"), [(0, 29), (10, 21), (26, 5), (29, 2), (29, 29)])
def test_404_within_30_s_of_the_response_is_waited_out(
    model: AirflowModel, posting: float, later: float
) -> None:
    model.simulator.timeline = Timeline(ended=None)
    slow_post(model, posting)
    slot = model.slot()
    deferred = deferral(slot)
    model.pass_time(later)
    hide(model)
    again = resume(slot, deferred, reported("error", deferred.trigger.call_id))
    assert isinstance(again, Deferral)
    assert again.trigger.end_time == deferred.trigger.end_time


@pytest.mark.parametrize("posting", [0, 26])
def test_404_from_30_s_after_the_response_on_is_permanent(model: AirflowModel, posting: float) -> None:
    model.simulator.timeline = Timeline(ended=None)
    slow_post(model, posting)
    slot = model.slot()
    deferred = deferral(slot)
    model.pass_time(30)
    hide(model)
    with pytest.raises(VapiCallNotFoundError):
        resume(slot, deferred, reported("done", deferred.trigger.call_id))


def test_404_after_a_slow_placement_is_waited_out_in_poke_mode(model: AirflowModel) -> None:
    """The pokes come 26 and 31 s after the request was sent, 0 and 5 s after its response."""
    slow_post(model, 26, hidden=2)
    slot = model.slot(poll_interval=5)
    assert wait_out(slot)["outcome"] == "completed"
    model.assert_rang_once(slot)


# The organization's limits

LIMITS = {"concurrencyLimit": 10, "remainingConcurrentCalls": 4, "concurrencyBlocked": False}


def test_only_known_limits_get_into_the_state_of_the_wait(model: AirflowModel) -> None:
    """Everything else that Vapi sends beside them could be content."""
    body = {"id": OTHER_ID, "status": "queued", "subscriptionLimits": {**LIMITS, "note": "planted-note"}}
    faults = model.simulator.faults
    faults.add(Fault(method="POST", path="/call", status=201, body=json.dumps(body)))
    faults.add(Fault(method="GET", path=f"/call/{OTHER_ID}", body=json.dumps(body), times=None))
    slot = model.slot()
    deferral(slot)
    kept = json.loads(slot.stored["wait"]) if model.has_store else slot.xcoms["wait"]
    assert kept["limits"] == LIMITS
    assert "planted" not in json.dumps([slot.xcoms, slot.stored])


# What is left to the triggerer


def test_trigger_gets_only_ids_and_numbers(model: AirflowModel) -> None:
    slot = model.slot(
        customer={"number": NUMBER, "name": "Ada"},
        assistant_overrides={"variableValues": {"diagnosis": "measles"}},
        poll_interval=timedelta(seconds=20),
        timeout=600,
        wait_for_analysis=True,
        analysis_timeout=timedelta(minutes=2),
        include=["customer", "transcript"],
        hang_up_on_kill=True,
    )
    deferred = deferral(slot)
    call = model.simulator.get_call(deferred.trigger.call_id)
    assert deferred.trigger == VapiCallTrigger(
        vapi_conn_id="vapi_default",
        call_id=call["id"],
        poll_interval=20,
        end_time=model.now + 600,
        since=call["updatedAt"].replace(".000Z", "+00:00"),
        wait_for_analysis=True,
        analysis_timeout=120,
        hang_up_on_kill=True,
    )
    assert (deferred.method, deferred.kwargs, deferred.timeout) == (
        "execute_complete",
        {},
        timedelta(seconds=720),
    )
    kept = json.dumps([slot.xcoms, slot.stored, deferred.trigger.serialize()])
    for content in ("2025550143", "Ada", "measles", "simulator-key", "control"):
        assert content not in kept


def test_trigger_ends_the_call_only_with_hang_up_on_kill(model: AirflowModel) -> None:
    assert not deferral(model.slot()).trigger.hang_up_on_kill
    assert not deferral(model.slot(number="+12025550101", hang_up_on_timeout=True)).trigger.hang_up_on_kill


# The process after the deferral


def test_resumed_process_finds_its_call(model: AirflowModel) -> None:
    slot = model.slot()
    deferred = deferral(slot)
    model.pass_time(60)
    # However its templates render now.
    changed = {
        "assistant_id": None,
        "assistant": {"firstMessage": "Hi"},
        "customer": {"number": "+12025550199"},
    }
    result = resume(slot, deferred, reported("done", deferred.trigger.call_id), **changed)
    assert result["id"] == deferred.trigger.call_id
    assert model.posts() == 1


def test_mapped_task_finds_the_call_of_its_own_element(model: AirflowModel) -> None:
    slots = [model.slot(number=f"+1202555010{place}", map_index=place) for place in range(3)]
    deferred = [deferral(slot) for slot in slots]
    model.pass_time(60)
    for slot, each in reversed(list(zip(slots, deferred, strict=True))):
        assert resume(slot, each, reported("done", each.trigger.call_id))["id"] == slot.xcoms["call_id"]
    assert len({each.trigger.call_id for each in deferred}) == 3


def test_deferring_again_keeps_the_end_time(model: AirflowModel) -> None:
    model.simulator.timeline = Timeline(ended=None)
    slot = model.slot(timeout=300)
    deferred = first = deferral(slot, timeout=300)
    for _ in range(3):
        model.pass_time(50)
        deferred = resume(slot, deferred, reported("done", first.trigger.call_id))
        assert isinstance(deferred, Deferral)
        assert deferred.trigger.end_time == first.trigger.end_time
    with pytest.raises(AirflowSensorTimeout, match=r"after 5 min 0 s \(timeout=300\)"):
        resume(slot, deferred, await_event(model, deferred.trigger))


@pytest.mark.parametrize("ends", [True, False], ids=["call-over", "call-goes-on"])
def test_task_reads_the_call_if_no_trigger_reports(model: AirflowModel, ends: bool) -> None:
    model.simulator.timeline = Timeline(ended=50 if ends else None, analysis=None)
    slot = model.slot(deferrable=True, wait_for_completion=True, timeout=300)
    deferred = deferral(slot)
    model.pass_time(300 + 120)
    if ends:
        assert slot.resume(*BACKSTOP)["id"] == deferred.trigger.call_id
    else:
        with pytest.raises(
            AirflowSensorTimeout, match=f"{deferred.trigger.call_id} had not ended .*timeout=300"
        ):
            slot.resume(*BACKSTOP)


def test_event_of_another_call_is_an_error(model: AirflowModel) -> None:
    slot = model.slot()
    deferred = deferral(slot)
    with pytest.raises(VapiConfigurationError, match="does not understand"):
        resume(slot, deferred, reported("done", OTHER_ID))


@pytest.mark.parametrize("by", ["event", "backstop"])
@pytest.mark.parametrize("lost", ["xcoms", "state", "both"])
def test_resumed_process_that_lost_its_state_places_no_call(model: AirflowModel, lost: str, by: str) -> None:
    """A user has deleted the task's XComs, or what Airflow keeps of its state, while it was deferred."""
    slot = model.slot()
    deferred = deferral(slot)
    call_id = deferred.trigger.call_id
    if lost != "state":
        slot.xcoms.clear()
    if lost != "xcoms":
        slot.stored.clear()
    model.pass_time(60)
    event = reported("done", str(call_id))
    try:
        if by == "event":
            summary = resume(slot, deferred, event)
        else:
            summary = slot.resume(*BACKSTOP, deferrable=True, wait_for_completion=True)
    except (VapiTransientError, TaskDeferred):
        # Without anything that names the call, it is searched for.
        summary = None
    assert summary is None or summary["id"] == call_id
    assert by == "backstop" or summary is not None
    assert model.posts() == 1
    assert model.rings() == {NUMBER: 1}


def test_execution_timeout_bounds_a_deferred_wait(model: AirflowModel) -> None:
    model.simulator.timeline = Timeline(ended=None)
    slot = model.slot(execution_timeout=timedelta(seconds=100), timeout=300)
    deferred = deferral(slot)
    assert deferred.trigger.end_time == model.now + 100
    with pytest.raises(AirflowTaskTimeout, match=r"\(execution_timeout=100\)"):
        resume(slot, deferred, await_event(model, deferred.trigger))


def test_execution_timeout_counts_from_the_start_of_the_try(model: AirflowModel) -> None:
    """Finding out whether the call was placed is a part of the try, too."""
    model.simulator.timeline = Timeline(ended=None)
    slot = model.slot(execution_timeout=timedelta(seconds=100), timeout=300)
    kill_at(model, slot, "send.POST", wait_for_completion=True)
    began_at = model.now
    deferred = deferral(slot)
    assert model.now == began_at
    assert deferred.trigger.end_time == began_at + 65
    deferred = resume(slot, deferred, await_event(model, deferred.trigger))
    assert model.now == began_at + 65
    assert deferred.trigger.end_time == began_at + 100
    model.pass_time(20)
    again = resume(slot, deferred, reported("done", deferred.trigger.call_id))
    assert again.trigger.end_time == began_at + 100
    with pytest.raises(AirflowTaskTimeout, match=r"\(execution_timeout=100\)"):
        resume(slot, again, await_event(model, again.trigger))


def test_execution_timeout_of_a_retry_counts_anew(model: AirflowModel) -> None:
    model.simulator.timeline = Timeline(ended=None)
    slot = model.slot(execution_timeout=timedelta(seconds=100), timeout=300)
    deferral(slot)
    model.pass_time(1000)
    assert deferral(slot).trigger.end_time == model.now + 100


# The same object before and after the deferral, as in dag.test()


def waiting_task(kind: str, model: AirflowModel, **arguments: Any) -> tuple[Any, Slot]:
    """Make one operator or sensor for all processes of a try, and its slot."""
    slot = model.slot(task_id="call" if kind == "operator" else "wait")
    slot.try_number = 1
    if kind == "operator":
        own: Any = {**slot.arguments, "wait_for_completion": True}
        return VapiCreateCallOperator(task_id="call", deferrable=True, **{**own, **arguments}), slot
    call_id = begin(model.slot(task_id="other"))["id"]
    return VapiCallSensor(task_id="wait", call_id=call_id, deferrable=True, **arguments), slot


def defer_and_resume(model: AirflowModel, task: Any, slot: Slot, process: Callable[[Any], Any]) -> Any:
    with pytest.raises(TaskDeferred) as caught:
        process(task).execute(slot.context())
    model.pass_time(100)
    event = {"event": reported("done", caught.value.trigger.call_id)}  # type: ignore[attr-defined]
    return process(task).resume_execution(caught.value.method_name, event, slot.context())


PROCESSES: dict[str, Callable[[Any], Any]] = {
    "same": lambda task: task,
    "prepared": lambda task: task.prepare_for_execution(),
    "copied": copy.deepcopy,
}
kinds = pytest.mark.parametrize("kind", ["operator", "sensor"])
processes = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


@kinds
@processes
def test_iterator_as_fail_on_counts_after_the_deferral(
    model: AirflowModel, kind: str, process: Callable[[Any], Any]
) -> None:
    task, slot = waiting_task(kind, model, fail_on=iter(["completed", "failed"]))
    with pytest.raises(VapiCallFailedError, match="customer-ended-call"):
        defer_and_resume(model, task, slot, process)


@kinds
@processes
def test_iterator_as_include_counts_after_the_deferral(
    model: AirflowModel, kind: str, process: Callable[[Any], Any]
) -> None:
    task, slot = waiting_task(kind, model, include=iter(["transcript", "customer"]))
    summary = defer_and_resume(model, task, slot, process)
    assert summary["transcript"]
    assert summary["customer"]["number"] == NUMBER


@kinds
@pytest.mark.parametrize("name", ["fail_on", "include"])
def test_iterator_is_kept_as_its_values(model: AirflowModel, kind: str, name: str) -> None:
    values = {"fail_on": ["no_answer", "failed"], "include": ["transcript"]}[name]
    task, _ = waiting_task(kind, model, **{name: (value for value in values)})
    for each in (task, task, copy.copy(task)):
        assert list(getattr(each, name)) == values


@kinds
@pytest.mark.parametrize("name", ["fail_on", "include"])
def test_iterator_that_was_read_is_copied_with_its_values(model: AirflowModel, kind: str, name: str) -> None:
    """Airflow copies whole DAGs, as for a part of one."""
    values = {"fail_on": ["no_answer", "failed"], "include": ["transcript"]}[name]
    task, _ = waiting_task(kind, model, **{name: iter(values)})
    assert list(getattr(task, name)) == values
    assert list(getattr(copy.deepcopy(task), name)) == values


@kinds
@pytest.mark.parametrize("value", [["failed"], "failed", None, {"failed"}], ids=repr)
def test_other_iterables_are_kept_unchanged(model: AirflowModel, kind: str, value: Any) -> None:
    """A template or an error message shows what the DAG has."""
    task, _ = waiting_task(kind, model, fail_on=value, include=value)
    assert task.fail_on is value
    assert task.include is value


# The try after it


@waits
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        pytest.param(401, VapiAuthenticationError, id="401"),
        pytest.param(404, VapiCallNotFoundError, id="404"),
    ],
)
def test_task_cleared_after_its_wait_failed_keeps_its_call(
    model: AirflowModel, deferrable: bool, fault: int, expected: type[Exception]
) -> None:
    model.simulator.faults.add(Fault(method="GET", status=fault, times=None))
    slot = model.slot(deferrable=deferrable)
    with pytest.raises(expected):
        wait_out(slot)
    call_id = slot.xcoms["call_id"]
    model.simulator.faults.clear()
    slot.run.clear_number += 1
    model.pass_time(60)
    assert wait_out(slot)["id"] == call_id
    assert model.rings() == {NUMBER: 1}


def test_retry_that_airflow_resumes_begins_anew(model: AirflowModel) -> None:
    """Airflow 3.0 runs a retry as if it resumed the deferral of the try before."""
    model.simulator.timeline = Timeline(ended=None)
    slot = model.slot(execution_timeout=timedelta(seconds=100), timeout=300)
    deferred = deferral(slot)
    model.pass_time(1000)
    slot.try_number += 1
    again = resume(slot, deferred, reported("done", deferred.trigger.call_id))
    assert isinstance(again, Deferral)
    assert again.trigger.call_id == deferred.trigger.call_id
    assert again.trigger.end_time == model.now + 100
    assert model.posts() == 1


@waits
def test_retry_waits_anew_for_the_call_of_the_first_try(model: AirflowModel, deferrable: bool) -> None:
    """A worker that was lost in the middle of its wait."""
    model.simulator.timeline = Timeline(ended=400, analysis=None)
    slot: Slot = model.slot(deferrable=deferrable, timeout=300)
    with pytest.raises(AirflowSensorTimeout):
        wait_out(slot)
    first = slot.xcoms["call_id"]
    assert wait_out(slot)["id"] == first
    assert model.rings() == {NUMBER: 1}
