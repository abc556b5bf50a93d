# SPDX-License-Identifier: Apache-2.0
"""Over the concurrency limit a task waits for a free line, without using a retry."""

from __future__ import annotations

import heapq
import itertools
import logging
import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow_model import NUMBER, AirflowModel, Slot, vapis_clock
from depth import at_depth
from placing_helpers import OVER, await_event, begin, deferral, resume, wait_out
from task_instances import Deferral, reported
from ways import kill_at, once_at

from airflow.providers.common.compat.sdk import AirflowTaskTimeout
from vapi_provider.exceptions import VapiConcurrencyLimitError, VapiTransientError
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.placing.line import pause_for_line
from vapi_provider.simulator import Fault, ManualClock, Timeline, VapiSimulator

LIMIT = 3
LIMITED = Timeline(
    ringing=None,
    answered=None,
    ended=1,
    analysis=None,
    ended_reason="call.start.error-subscription-concurrency-limit-reached",
)
MINUTES = 10
"""For how long all lines are taken."""
OVER_LIMIT = '{"message": "Over Concurrency Limit", "statusCode": 400}'

modes = pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferrable"])
shapes = pytest.mark.parametrize("over_limit", ["refuse", "end"])


NOON = datetime(2026, 11, 26, 12, tzinfo=timezone.utc).timestamp()


@pytest.fixture
def clock() -> ManualClock:
    return vapis_clock(NOON)


@pytest.fixture
def over_limit() -> str:
    return "refuse"


@pytest.fixture
def lines() -> int:
    return LIMIT


@pytest.fixture
def vapi_options(over_limit: str, lines: int) -> dict[str, Any]:
    return {"concurrency_limit": lines, "over_limit": over_limit}


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    # Airflow's own logger writes past pytest.
    monkeypatch.setattr(VapiCreateCallOperator, "log", logging.getLogger("task"))
    caplog.set_level(logging.INFO)


@pytest.fixture(autouse=True)
def _lines_are_taken(model: AirflowModel, simulator: VapiSimulator) -> None:
    """Let other calls take all lines, and end in time."""
    calls = [simulator.add_call(status="in-progress") for _ in range(LIMIT)]
    ends_at = model.now + 60 * MINUTES
    pass_time = model.pass_time

    def pass_time_and_end(seconds: float) -> None:
        pass_time(seconds)
        while calls and model.now >= ends_at:
            simulator.end_call(calls.pop())

    model.pass_time = pass_time_and_end  # type: ignore[method-assign]


def waits(slot: Slot, count: int) -> list[float]:
    """Return the pauses of the first waits of a deferrable task."""
    deferred, pauses = deferral(slot), list[float]()
    for _ in range(count):
        assert deferred.trigger.call_id is None
        pauses.append(deferred.trigger.end_time - slot.model.now)
        deferred = resume(slot, deferred, await_event(slot.model, deferred.trigger))
    return pauses


# Every shape of the limit


@modes
@shapes
def test_task_waits_for_a_line_in_its_first_try(
    model: AirflowModel, deferrable: bool, over_limit: str
) -> None:
    slot = model.slot(deferrable=deferrable)
    began_at = model.now
    assert wait_out(slot)["outcome"] == "completed"
    assert slot.try_number == 1
    assert 60 * MINUTES <= model.now - began_at < 60 * MINUTES + 400
    model.assert_rang_once(slot)


@modes
@shapes
def test_task_that_does_not_wait_for_its_call_waits_for_a_line(
    model: AirflowModel, deferrable: bool, over_limit: str
) -> None:
    slot = model.slot(deferrable=deferrable)
    assert wait_out(slot, wait_for_completion=False)["status"] == "queued"
    model.assert_rang_once(slot)


@shapes
def test_undialled_call_is_no_attempt(model: AirflowModel, over_limit: str) -> None:
    slot = model.slot(deferrable=True, redial_on=["no_answer"], retries=3, fail_on=["failed"])
    assert wait_out(slot)["attempts"] == 1
    model.assert_rang_once(slot)


@pytest.mark.parametrize("over_limit", ["queue"])
def test_call_that_vapi_queues_is_waited_for(model: AirflowModel, over_limit: str) -> None:
    slot = model.slot(deferrable=True)
    assert wait_out(slot)["outcome"] == "completed"
    assert model.posts() == 1


@modes
def test_refusal_that_only_has_an_error_is_waited_out(model: AirflowModel, deferrable: bool) -> None:
    body = '{"error": "Over Concurrency Limit"}'
    model.simulator.faults.add(Fault(method="POST", path="/call", status=400, body=body))
    slot = model.slot(deferrable=deferrable)
    wait_out(slot)
    model.assert_rang_once(slot)


def ended_undialled(model: AirflowModel, slot: Slot) -> Deferral:
    """Run a try until its call has ended undialled, and it waits for a line."""
    model.simulator.timeline = LIMITED
    deferred = deferral(slot)
    while deferred.trigger.call_id is not None:
        deferred = resume(slot, deferred, await_event(model, deferred.trigger))
    model.simulator.timeline = Timeline()
    return deferred


@pytest.mark.parametrize("lines", [100])
@pytest.mark.parametrize("status", [404, 503])
def test_undialled_call_need_not_be_readable_any_more(model: AirflowModel, status: int) -> None:
    slot = model.slot(retries=0)
    result: Any = ended_undialled(model, slot)
    model.pass_time(120)
    undialled = slot.xcoms["call_id"]
    for _ in range(10):
        model.simulator.faults.add(Fault(method="GET", path=f"/call/{undialled}", status=status))
    while isinstance(result, Deferral):
        result = resume(slot, result, await_event(model, result.trigger))
    assert result["outcome"] == "completed"
    assert slot.xcoms["call_id"] != undialled
    model.assert_rang_once(slot)


@pytest.mark.parametrize("has_store", [True])
@pytest.mark.parametrize("vapi_options", [{"list_lag": 29}], ids=["lag"])
def test_try_that_is_resumed_twice_places_one_call(model: AirflowModel) -> None:
    slot = model.slot(retries=0)
    deferred = ended_undialled(model, slot)
    event, saved = await_event(model, deferred.trigger), slot.stored["wait"]
    resume(slot, deferred, event)
    slot.stored["wait"] = saved
    model.pass_time(10)
    resume(slot, deferred, event)
    model.assert_rang_once(slot)


# Pauses


def test_pauses_grow_and_differ() -> None:
    first, later, last = ([pause_for_line(waits, None) for _ in range(200)] for waits in (0, 2, 20))
    assert (min(first) >= 15, max(first) <= 30) == (True, True)
    assert (min(later) >= 15, 60 < max(later) <= 120) == (True, True)
    assert (min(last) >= 15, 200 < max(last) <= 300) == (True, True)
    assert len(set(first)) > 100


def test_pause_that_vapi_asks_for_is_kept() -> None:
    assert pause_for_line(0, 200.0) == 200.0
    assert pause_for_line(0, 1.0) >= 15


def test_deferred_waits_have_growing_pauses(model: AirflowModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda _least, most: most)
    assert waits(model.slot(), 3) == [30, 60, 120]


def test_retry_after_of_a_refusal_is_honoured(model: AirflowModel) -> None:
    fault = Fault(method="POST", path="/call", status=400, body=OVER_LIMIT, headers={"Retry-After": "250"})
    model.simulator.faults.add(fault)
    assert waits(model.slot(), 1) == [250]


# Limits


@modes
@shapes
def test_limit_timeout_ends_the_wait(model: AirflowModel, deferrable: bool, over_limit: str) -> None:
    slot = model.slot(deferrable=deferrable, limit_timeout=timedelta(minutes=5))
    began_at = model.now
    with pytest.raises(VapiConcurrencyLimitError, match="over its concurrency limit"):
        wait_out(slot)
    assert 300 <= model.now - began_at < 345
    assert model.rings() == {}


def test_retry_after_beyond_limit_timeout_is_cut_short(model: AirflowModel) -> None:
    headers = {"Retry-After": "250"}
    model.simulator.faults.add(
        Fault(method="POST", path="/call", status=400, body=OVER_LIMIT, headers=headers)
    )
    slot = model.slot(limit_timeout=100)
    deferred = deferral(slot)
    assert deferred.trigger.end_time - model.now == 100
    # All lines are still taken.
    with pytest.raises(VapiConcurrencyLimitError):
        resume(slot, deferred, await_event(model, deferred.trigger))


def test_wait_for_a_line_may_be_of_any_length(model: AirflowModel) -> None:
    headers = {"Retry-After": "1" + "0" * 11}
    model.simulator.faults.add(
        Fault(method="POST", path="/call", status=400, body=OVER_LIMIT, headers=headers)
    )
    # Airflow adds it to the current time, and dates end in the year 9999.
    assert deferral(model.slot(limit_timeout=1e12)).timeout == timedelta(days=365_000)


def test_retry_after_limit_timeout_waits_again(model: AirflowModel) -> None:
    slot = model.slot(limit_timeout=240)
    for _ in range(2):
        with pytest.raises(VapiConcurrencyLimitError):
            wait_out(slot)
    assert wait_out(slot)["outcome"] == "completed"
    model.assert_rang_once(slot)


def test_execution_timeout_ends_the_deferred_wait(model: AirflowModel) -> None:
    slot = model.slot(deferrable=True, execution_timeout=timedelta(minutes=2))
    began_at = model.now
    with pytest.raises(
        AirflowTaskTimeout, match=r"No call was placed within 2 min 0 s \(execution_timeout=120\)"
    ):
        wait_out(slot)
    assert model.now - began_at == 120


def test_timeout_counts_from_the_placement(model: AirflowModel) -> None:
    slot = model.slot(deferrable=True, timeout=120)
    assert wait_out(slot)["outcome"] == "completed"


@pytest.mark.parametrize("has_store", [False])
def test_new_token_after_a_wait_is_logged(model: AirflowModel, caplog: pytest.LogCaptureFixture) -> None:
    """Without a store, a try that goes on after a wait places what its templates render now."""
    caplog.set_level(logging.INFO)
    slot = model.slot(deferrable=True)
    deferred = deferral(slot)
    deferred = resume(slot, deferred, await_event(model, deferred.trigger))
    other = "0198a3f0-0000-7000-8000-0000000000f1"
    resume(slot, deferred, await_event(model, deferred.trigger), phone_number_id=other)
    tokens = [line for line in caplog.messages if line.startswith("The call's token is ")]
    assert len(tokens) == len(set(tokens)) == 2


def test_wait_for_hours_ends_the_wait_for_a_line(
    model: AirflowModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    # It is noon.
    hours = {"opens": "09:00", "closes": "12:02", "timezone": "UTC"}
    slot = model.slot(deferrable=True, calling_hours=hours, limit_timeout=600)
    deferred = deferral(slot)
    while deferred.trigger.end_time - model.now < 3600:
        deferred = resume(slot, deferred, await_event(model, deferred.trigger))
    assert caplog.messages.count("No line became free within the calling hours.") == 1
    # All night; and then all lines are taken again.
    event = await_event(model, deferred.trigger)
    for _ in range(LIMIT):
        model.simulator.add_call(status="in-progress")
    assert isinstance(resume(slot, deferred, event), Deferral)


# What else a wait keeps


@modes
def test_doubt_is_settled_once(model: AirflowModel, deferrable: bool) -> None:
    slot = model.slot(deferrable=deferrable)
    kill_at(model, slot, "send.POST")
    sent_at: list[float] = []
    model.at = lambda point: sent_at.append(model.now) if point == "send.POST" else None
    began_at = model.now
    wait_out(slot)
    # 65 s at first, and no more than a pause between two requests.
    pauses = [later - earlier for earlier, later in itertools.pairwise([began_at, *sent_at])]
    assert 60 <= pauses[0] <= 66
    assert max(pauses) <= 300
    assert min(pauses[1:]) < 60
    model.assert_rang_once(slot)


def test_stopped_task_is_not_deferred(model: AirflowModel) -> None:
    slot = model.slot(deferrable=True)
    run = slot.prepare()
    assert slot.operator is not None
    once_at(model, "sent.POST", slot.operator.on_kill)
    with pytest.raises(VapiTransientError, match="^The task was stopped, so it sends nothing more."):
        run()
    assert model.posts() == 1


@pytest.mark.parametrize("has_store", [False])
def test_call_of_a_superseded_try_is_found_first(model: AirflowModel) -> None:
    slot = model.slot(deferrable=True)
    deferred = deferral(slot)
    model.pass_time(60 * MINUTES)
    # The same task, in a process that was thought to be dead.
    model.slot(slot.run).attempt()
    deferred = resume(slot, deferred, await_event(model, deferred.trigger))
    assert deferred.trigger.call_id == slot.xcoms["call_id"]
    assert model.rings() == {NUMBER: 1}


@modes
@shapes
def test_one_line_begins_the_wait_and_one_ends_it(
    model: AirflowModel, deferrable: bool, over_limit: str, caplog: pytest.LogCaptureFixture
) -> None:
    slot = model.slot(deferrable=deferrable)
    wait_out(slot)
    begun = [line for line in caplog.messages if "Waiting for a free line, for up to 12 h 0 min." in line]
    assert len(begun) == 1
    assert "the limit is 3, 0 left" in begun[0]
    assert len([line for line in caplog.messages if line.startswith("A line became free after")]) == 1


@modes
@pytest.mark.parametrize("lines", [100], ids=["100-lines"])
def test_line_is_logged_once_the_call_is_dialled(
    model: AirflowModel, simulator: VapiSimulator, deferrable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Vapi accepts each call within the limit, and ends the first ones undialled all the same."""
    placed = itertools.count()
    simulator.timeline = lambda _request: LIMITED if next(placed) < 4 else Timeline()
    slot = model.slot(deferrable=deferrable)
    assert wait_out(slot)["outcome"] == "completed"
    assert model.posts() == 5
    begun = [line for line in caplog.messages if "Waiting for a free line" in line]
    ended = [line for line in caplog.messages if line.startswith("A line became free after")]
    assert (len(begun), len(ended)) == (1, 1)
    model.assert_rang_once(slot)


# Campaigns that know nothing of each other

CAMPAIGNS = 4
PEOPLE = at_depth(5, 50)
"""In each campaign."""


class Campaigns:
    """Runs many tasks on the clock of a model, each step at its time."""

    def __init__(self, model: AirflowModel) -> None:
        self.results: dict[str, Any] = {}
        self._model = model
        self._order = itertools.count()
        self._coming: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, instant: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._coming, (instant, next(self._order), act))

    def add(self, slot: Slot) -> None:
        self.at(self._model.now + random.uniform(0, 5), lambda: self._follow(slot, begin(slot)))

    def run(self) -> None:
        while self._coming:
            instant, _, act = heapq.heappop(self._coming)
            self._model.pass_time(max(0.0, instant - self._model.now))
            act()

    def _follow(self, slot: Slot, result: Any) -> None:
        if isinstance(result, Deferral):
            self._await(slot, result)
        else:
            self.results[slot.arguments["customer"]["number"]] = result

    def _await(self, slot: Slot, deferred: Deferral) -> None:
        trigger, now = deferred.trigger, self._model.now
        if trigger.call_id is None:
            event = reported("timeout", "")
            self.at(
                trigger.end_time,
                lambda: self._follow(slot, resume(slot, deferred, {**event, "call_id": None})),
            )
        elif self._model.simulator.get_call(trigger.call_id)["status"] in OVER:
            event = reported("done", trigger.call_id)
            self.at(now + 1, lambda: self._follow(slot, resume(slot, deferred, event)))
        else:
            self.at(now + trigger.poll_interval, lambda: self._await(slot, deferred))


@pytest.mark.searches
@shapes
@pytest.mark.parametrize("lines", [10], ids=["10-lines"])
def test_campaigns_share_the_lines_and_call_each_person_once(
    model: AirflowModel, simulator: VapiSimulator, lines: int, over_limit: str
) -> None:
    random.seed(15)
    simulator.timeline = Timeline(ringing=2, answered=8, ended=40, analysis=None)
    campaigns = Campaigns(model)
    for campaign, person in itertools.product(range(CAMPAIGNS), range(PEOPLE)):
        run = model.run(run_id=f"run {campaign}")
        slot = model.slot(
            run,
            number=f"+1202555{campaign}{person:03}",
            task_id=f"campaign_{campaign}",
            map_index=person,
            deferrable=True,
            wait_for_completion=True,
            retries=0,
            name=None,
        )
        campaigns.add(slot)
    # Inbound calls, which take lines at random for the first half an hour.
    for _ in range(60):
        came_at = model.now + random.uniform(0, 1800)

        def come(came_at: float = came_at) -> None:
            call_id = simulator.add_call(status="in-progress")
            campaigns.at(came_at + random.uniform(20, 300), lambda: simulator.end_call(call_id))

        campaigns.at(came_at, come)
    campaigns.run()
    assert len(campaigns.results) == CAMPAIGNS * PEOPLE
    assert {result["outcome"] for result in campaigns.results.values()} == {"completed"}
    assert model.rings() == dict.fromkeys(campaigns.results, 1)
