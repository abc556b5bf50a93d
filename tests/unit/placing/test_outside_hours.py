# SPDX-License-Identifier: Apache-2.0
"""Outside the callee's calling hours no request is sent; the task waits, is skipped, or fails."""

from __future__ import annotations

import logging
import random
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from airflow_model import NUMBER, AirflowModel, Slot, vapis_clock
from placing_helpers import Later, await_event, begin, deferral, rendered, resume, sent_body, wait_out
from task_instances import Deferral
from ways import kill_at, once_at

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from vapi_provider.exceptions import VapiConfigurationError, VapiNotReachedError, VapiOutsideHoursError
from vapi_provider.links.call import VapiCallLink
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.simulator import Fault, ManualClock, Timeline

HOURS = {"opens": "09:00", "closes": "20:00", "timezone": "America/New_York"}
SETTLED_AFTER = 65

modes = pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferrable"])


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("America/New_York")).timestamp()


NIGHT, OPENING, LAST_MINUTE, CLOSING, TOMORROW = map(
    at,
    ("2026-11-26T07:00", "2026-11-26T09:00", "2026-11-26T19:59:30", "2026-11-26T20:00", "2026-11-27T09:00"),
)


@pytest.fixture
def clock() -> ManualClock:
    return vapis_clock(NIGHT)


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    # Airflow's own logger writes past pytest.
    monkeypatch.setattr(VapiCreateCallOperator, "log", logging.getLogger("task"))
    caplog.set_level(logging.INFO)


@pytest.fixture(autouse=True)
def _shortest_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda least, _most: least)


def go_to(model: AirflowModel, instant: float) -> None:
    model.pass_time(instant - model.now)


def sent_at(model: AirflowModel) -> list[float]:
    """Record when requests to place a call are sent."""
    instants: list[float] = []
    model.at = lambda point: instants.append(model.now) if point == "send.POST" else None
    return instants


def night_slot(model: AirflowModel, **arguments: Any) -> Slot:
    return model.slot(calling_hours=HOURS, **arguments)


@pytest.mark.parametrize("name", ["calling_hours", "schedule_plan"])
def test_times_that_are_none_at_run_time_are_refused(model: AirflowModel, name: str) -> None:
    operator, context = rendered(model.slot(), **{name: Later(None)})
    with pytest.raises(VapiConfigurationError, match=f"^{name} is None, .* Nothing was sent"):
        operator.execute(context)
    assert model.simulator.requests == []


# wait


def test_deferrable_task_waits_for_the_opening(model: AirflowModel) -> None:
    slot = night_slot(model)
    sendings = sent_at(model)
    deferred = deferral(slot)
    assert (deferred.trigger.call_id, deferred.trigger.end_time) == (None, OPENING)
    assert deferred.timeout == timedelta(seconds=OPENING - NIGHT + 120)
    summary = resume(slot, deferred, await_event(model, deferred.trigger))
    assert isinstance(summary, Deferral)
    assert summary.trigger.call_id == slot.xcoms["call_id"]
    assert sendings == [OPENING]
    model.assert_rang_once(slot)


def test_task_that_does_not_wait_for_its_call_waits_for_hours(model: AirflowModel) -> None:
    slot = night_slot(model, deferrable=True)
    summary = wait_out(slot, wait_for_completion=False)
    assert summary["status"] == "queued"
    assert model.now == OPENING
    model.assert_rang_once(slot)


def test_waiting_for_hours_searches_once(model: AirflowModel) -> None:
    slot = night_slot(model, deferrable=True)
    wait_out(slot, wait_for_completion=False)
    # That a list is empty is verified.
    assert [request.method for request in model.simulator.requests] == ["GET", "GET", "POST"]


def test_wait_for_hours_does_not_count_for_timeout(model: AirflowModel) -> None:
    slot = night_slot(model, deferrable=True, timeout=300)
    assert wait_out(slot)["outcome"] == "completed"
    model.assert_rang_once(slot)


def test_task_that_is_not_deferrable_names_the_opening(model: AirflowModel) -> None:
    slot = night_slot(model)
    with pytest.raises(VapiOutsideHoursError) as error:
        slot.attempt()
    assert not isinstance(error.value, AirflowFailException)
    assert error.value.opening == datetime(2026, 11, 26, 14, tzinfo=timezone.utc)
    assert str(error.value) == (
        "Outside calling_hours, which open at Thu 2026-11-26 09:00 America/New_York (2026-11-26 14:00 UTC). Nothing was "
        "sent. This try cannot wait, because the task is not deferrable. A retry within the hours places the call; set "
        "retries and retry_delay so that one starts within them."
    )
    assert model.simulator.requests == []
    go_to(model, OPENING)
    slot.attempt()
    model.assert_rang_once(slot)


@pytest.mark.parametrize("has_store", [True])
def test_retry_within_the_hours_does_not_search(model: AirflowModel) -> None:
    slot = night_slot(model)
    with pytest.raises(VapiOutsideHoursError):
        slot.attempt()
    go_to(model, OPENING)
    slot.attempt()
    assert [request.method for request in model.simulator.requests] == ["POST"]


@modes
def test_opening_within_ten_seconds_is_slept(model: AirflowModel, deferrable: bool) -> None:
    go_to(model, OPENING - 9)
    slot = night_slot(model, deferrable=deferrable)
    sendings = sent_at(model)
    assert begin(slot)["status"] == "queued"
    assert sendings == [OPENING]
    model.assert_rang_once(slot)


@modes
def test_open_hours_do_not_matter(model: AirflowModel, deferrable: bool) -> None:
    go_to(model, OPENING)
    slot = night_slot(model, deferrable=deferrable)
    assert begin(slot)["status"] == "queued"
    assert [request.method for request in model.simulator.requests] == ["POST"]


def test_execution_timeout_before_the_opening_fails_at_once(model: AirflowModel) -> None:
    slot = night_slot(model, deferrable=True, execution_timeout=timedelta(hours=1))
    with pytest.raises(VapiOutsideHoursError, match="because execution_timeout ends before that. A retry"):
        slot.attempt()
    assert model.now == NIGHT


def test_tasks_that_wait_for_one_opening_are_spread(
    model: AirflowModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", random.Random(15).uniform)
    opening = {"calling_hours": {**HOURS, "closes": "09:01"}}
    people = [model.slot(number=f"+12025550{number}", **opening) for number in range(100, 120)]
    deferrals = [deferral(slot) for slot in people]
    ends = sorted(each.trigger.end_time for each in deferrals)
    assert len(set(ends)) == 20
    assert OPENING <= ends[0] < ends[-1] <= OPENING + 30
    assert ends[-1] - ends[0] > 15
    go_to(model, OPENING + 30)
    for slot, deferred in zip(people, deferrals, strict=True):
        resume(slot, deferred, await_event(model, deferred.trigger))
    assert set(model.rings().values()) == {1}


def test_spread_does_not_exceed_execution_timeout(
    model: AirflowModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda _least, most: most)
    slot = night_slot(model, execution_timeout=timedelta(seconds=OPENING - NIGHT + 8))
    deferred = deferral(slot)
    assert OPENING < deferred.trigger.end_time < OPENING + 8
    resume(slot, deferred, await_event(model, deferred.trigger))
    model.assert_rang_once(slot)


def test_short_wait_does_not_exceed_execution_timeout(model: AirflowModel) -> None:
    go_to(model, OPENING - 9)
    slot = night_slot(model, deferrable=True, execution_timeout=timedelta(seconds=5))
    with pytest.raises(VapiOutsideHoursError, match="execution_timeout"):
        slot.attempt()


def test_wait_logs_the_opening_once(model: AirflowModel, caplog: pytest.LogCaptureFixture) -> None:
    slot = night_slot(model, deferrable=True)
    wait_out(slot, wait_for_completion=False)
    lines = [line for line in caplog.messages if "calling_hours" in line]
    assert lines == [
        "Outside calling_hours, which open at Thu 2026-11-26 09:00 America/New_York (2026-11-26 14:00 UTC). Nothing was "
        "sent. Waiting for the calling hours to open."
    ]
    tokens = [line for line in caplog.messages if line.startswith("The call's token")]
    assert len(tokens) == 1


# skip and fail


@modes
@pytest.mark.parametrize(
    ("outside_hours", "kind"), [("skip", AirflowSkipException), ("fail", VapiConfigurationError)]
)
def test_other_choices_end_the_task(
    model: AirflowModel, deferrable: bool, outside_hours: str, kind: type[Exception]
) -> None:
    slot = night_slot(model, deferrable=deferrable, outside_hours=outside_hours)
    with pytest.raises(kind, match="which open at Thu 2026-11-26 09:00"):
        slot.attempt()
    assert model.simulator.requests == []


def test_unknown_choice_is_refused(model: AirflowModel) -> None:
    with pytest.raises(
        VapiConfigurationError, match="^outside_hours must be one of wait, skip, fail; got 'hold'"
    ):
        night_slot(model, outside_hours="hold").attempt()
    assert model.simulator.requests == []


UNANSWERED = Timeline(
    ringing=1, answered=None, ended=20, analysis=None, ended_reason="customer-did-not-answer"
)


@modes
@pytest.mark.parametrize(
    ("outside_hours", "kind"),
    [("skip", AirflowSkipException), ("fail", VapiConfigurationError), ("wait", VapiOutsideHoursError)],
)
def test_call_id_of_an_earlier_attempt_stays(
    model: AirflowModel, deferrable: bool, outside_hours: str, kind: type[Exception]
) -> None:
    go_to(model, OPENING)
    model.simulator.timeline = UNANSWERED
    slot = night_slot(
        model,
        outside_hours=outside_hours,
        deferrable=deferrable,
        redial_on=["no_answer"],
        retries=5,
        wait_for_completion=True,
    )
    with pytest.raises(VapiNotReachedError) as not_reached:
        wait_out(slot)
    go_to(model, CLOSING)
    for _ in range(2):
        if deferrable and outside_hours == "wait":
            slot.xcoms.clear()
            assert deferral(slot).trigger.call_id is None
        else:
            with pytest.raises(kind):
                wait_out(slot)
        if model.has_store or outside_hours != "wait":
            assert slot.xcoms["call_id"] == not_reached.value.call_id
            assert slot.xcoms[VapiCallLink().xcom_key].endswith(not_reached.value.call_id)
    go_to(model, TOMORROW)
    model.simulator.timeline = Timeline()
    assert wait_out(slot, outside_hours="wait")["attempts"] == 2
    assert slot.xcoms["call_id"] != not_reached.value.call_id


@pytest.mark.parametrize("has_store", [True])
def test_wait_for_hours_survives_an_emptied_store(model: AirflowModel) -> None:
    go_to(model, OPENING)
    model.simulator.timeline = UNANSWERED
    slot = night_slot(model, redial_on=["no_answer"], retries=5)
    with pytest.raises(VapiNotReachedError):
        wait_out(slot, deferrable=True)
    go_to(model, CLOSING)
    deferred = deferral(slot)
    slot.stored.clear()
    event = await_event(model, deferred.trigger)
    model.simulator.timeline = Timeline()
    # The search finds the first attempt, and not the task's last call.
    searching = resume(slot, deferred, event)
    with pytest.raises(VapiNotReachedError):
        resume(slot, searching, await_event(model, searching.trigger))
    assert wait_out(slot, deferrable=True)["attempts"] == 2


# Each way to a request passes the hours.


@pytest.mark.parametrize("has_store", [True])
def test_slow_write_across_the_closing_is_taken_back(model: AirflowModel) -> None:
    go_to(model, LAST_MINUTE)
    slot = night_slot(model)
    once_at(model, "store.was_set", lambda: model.pass_time(60))
    with pytest.raises(VapiOutsideHoursError):
        slot.attempt()
    assert model.posts() == 0
    before = len(model.simulator.requests)
    go_to(model, TOMORROW)
    slot.attempt()
    # The record says that nothing was sent, so there is no doubt.
    assert [request.method for request in model.simulator.requests][before:] == ["POST"]
    model.assert_rang_once(slot)


@modes
def test_repetition_after_a_pause_passes_the_hours(model: AirflowModel, deferrable: bool) -> None:
    go_to(model, LAST_MINUTE)
    fault = Fault(method="POST", path="/call", status=429, headers={"Retry-After": "40"})
    model.simulator.faults.add(fault)
    slot = night_slot(model, deferrable=deferrable)
    if deferrable:
        wait_out(slot, wait_for_completion=False)
        assert model.now == TOMORROW
    else:
        with pytest.raises(VapiOutsideHoursError):
            slot.attempt()
        assert model.posts() == 1
        go_to(model, TOMORROW)
        slot.attempt()
    assert model.posts() == 2
    model.assert_rang_once(slot)


def test_doubt_that_settles_after_the_closing_waits(model: AirflowModel) -> None:
    go_to(model, LAST_MINUTE)
    slot = night_slot(model)
    kill_at(model, slot, "send.POST")
    model.pass_time(1)
    sendings = sent_at(model)
    wait_out(slot, deferrable=True, wait_for_completion=False)
    # The doubt is not settled again after the wait for the hours.
    assert sendings == [TOMORROW]
    model.assert_rang_once(slot)


def test_call_placed_in_time_is_adopted_after_the_closing(model: AirflowModel) -> None:
    go_to(model, LAST_MINUTE)
    slot = night_slot(model)
    kill_at(model, slot, "sent.POST")
    model.pass_time(SETTLED_AFTER)
    assert slot.attempt()["id"] == next(iter(model.simulator.calls))
    assert model.posts() == 1
    model.assert_rang_once(slot)


def test_resumed_task_uses_the_hours_of_its_templates(model: AirflowModel) -> None:
    slot = night_slot(model)
    deferred = deferral(slot)
    go_to(model, OPENING)
    again = resume(
        slot, deferred, await_event(model, deferred.trigger), calling_hours={**HOURS, "opens": "10:00"}
    )
    assert (again.trigger.call_id, again.trigger.end_time) == (None, OPENING + 3600)
    assert model.posts() == 0


def test_retry_of_3_0_with_an_old_event_begins_anew(model: AirflowModel) -> None:
    slot = night_slot(model)
    deferred = deferral(slot)
    slot.try_number += 1
    slot.xcoms.clear()
    go_to(model, OPENING)
    again = resume(slot, deferred, {"status": "timeout", "call_id": None, "message": ""})
    while again.trigger.call_id is None:
        again = resume(slot, again, await_event(model, again.trigger))
    assert model.posts() == 1
    model.assert_rang_once(slot)


# With a schedule, the instant of ringing counts.


def plan_sent(model: AirflowModel) -> tuple[float, float]:
    plan = sent_body(model)["schedulePlan"]
    earliest, latest = (datetime.fromisoformat(plan[name]) for name in ("earliestAt", "latestAt"))
    return earliest.timestamp(), latest.timestamp()


def instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


@pytest.mark.parametrize(
    ("earliest", "latest", "sent"),
    [
        pytest.param(NIGHT - 3600, None, (OPENING, CLOSING), id="past"),
        pytest.param(OPENING + 60, None, (OPENING + 60, CLOSING), id="open"),
        pytest.param(CLOSING, None, (TOMORROW, TOMORROW + 11 * 3600), id="closed"),
        pytest.param(NIGHT, OPENING + 60, (OPENING, OPENING + 60), id="latest_at"),
        pytest.param(OPENING, TOMORROW, (OPENING, CLOSING), id="late latest_at"),
    ],
)
def test_schedule_is_fitted_to_the_hours(
    model: AirflowModel, earliest: float, latest: float | None, sent: tuple[float, float]
) -> None:
    plan = {"earliest_at": instant(earliest), **({"latest_at": instant(latest)} if latest else {})}
    slot = night_slot(model, schedule_plan=plan)
    assert slot.attempt()["status"] == "scheduled"
    assert model.now == NIGHT
    assert plan_sent(model) == sent


def test_schedule_outside_the_hours_is_refused(model: AirflowModel) -> None:
    plan = {"earliest_at": instant(NIGHT), "latest_at": instant(OPENING)}
    with pytest.raises(
        VapiConfigurationError, match="^schedule_plan ends before calling_hours open, at Thu 2026-11-26 09:00"
    ):
        night_slot(model, schedule_plan=plan).attempt()
    assert model.simulator.requests == []


@pytest.mark.parametrize("point", ["", "sent.POST"], ids=["first try", "retry"])
def test_timeout_counts_from_the_fitted_schedule(model: AirflowModel, point: str) -> None:
    slot = night_slot(model, schedule_plan={"earliest_at": instant(NIGHT)}, timeout=60)
    if point:
        kill_at(model, slot, point, wait_for_completion=True)
        model.pass_time(SETTLED_AFTER)
    deferred = deferral(slot)
    assert deferred.trigger.call_id is not None
    assert deferred.trigger.end_time == CLOSING + 60


@pytest.mark.parametrize("point", ["", "sent.POST"], ids=["first try", "retry"])
@pytest.mark.parametrize(("ahead", "behind"), [(300, 0), (0, 300)], ids=["Vapi is ahead", "Vapi is behind"])
def test_timeout_does_not_depend_on_vapis_clock(
    model: AirflowModel, point: str, ahead: int, behind: int
) -> None:
    go_to(model, CLOSING - 120 - behind)
    model.clock.advance(ahead)
    model.now += behind
    model.simulator.timeline = Timeline(ended=3600, analysis=None)
    slot = night_slot(model, schedule_plan={"earliest_at": instant(NIGHT)}, timeout=60)
    if point:
        kill_at(model, slot, point, wait_for_completion=True)
        model.pass_time(SETTLED_AFTER)
    assert deferral(slot).trigger.end_time == CLOSING + 60


@pytest.mark.parametrize("vapi_options", [{"hidden_fields": ["schedulePlan"]}], ids=["hidden"])
def test_timeout_of_a_plan_that_vapi_does_not_show(model: AirflowModel) -> None:
    slot = night_slot(model, schedule_plan={"earliest_at": instant(NIGHT)}, timeout=60)
    kill_at(model, slot, "sent.POST", wait_for_completion=True)
    model.pass_time(SETTLED_AFTER)
    assert deferral(slot).trigger.end_time == CLOSING + 60


@pytest.mark.parametrize("before", [0.3, 29])
def test_schedule_moves_on_when_the_closing_is_near(model: AirflowModel, before: float) -> None:
    go_to(model, CLOSING - before)
    night_slot(model, schedule_plan={"earliest_at": instant(NIGHT)}).attempt()
    assert plan_sent(model) == (TOMORROW, TOMORROW + 11 * 3600)


def test_schedule_that_ends_at_once_is_refused(model: AirflowModel) -> None:
    go_to(model, OPENING)
    plan = {"earliest_at": instant(NIGHT), "latest_at": instant(OPENING + 1)}
    with pytest.raises(VapiConfigurationError, match="^schedule_plan ends within 30 seconds"):
        night_slot(model, schedule_plan=plan).attempt()
    assert model.simulator.requests == []


@pytest.mark.parametrize("has_store", [True])
def test_schedule_fitted_anew_after_a_slow_write(model: AirflowModel) -> None:
    go_to(model, LAST_MINUTE)
    slot = night_slot(model, schedule_plan={"earliest_at": instant(NIGHT)})
    once_at(model, "store.was_set", lambda: model.pass_time(60))
    slot.attempt()
    assert plan_sent(model)[0] == TOMORROW


def test_hours_per_callee(model: AirflowModel) -> None:
    """Each mapped task has its own hours."""
    go_to(model, OPENING)
    run = model.run()
    east = model.slot(run, calling_hours=HOURS, map_index=0)
    west = model.slot(
        run,
        number="+12025550199",
        calling_hours={**HOURS, "timezone": "America/Los_Angeles"},
        map_index=1,
        outside_hours="skip",
    )
    east.attempt()
    with pytest.raises(AirflowSkipException):
        west.attempt()
    assert model.rings() == {NUMBER: 1}
