# SPDX-License-Identifier: Apache-2.0
"""
One person, one ring, whatever breaks: a test for each fault, with and without a task state store.

The judge is always the simulator's count of rings, and that the XCom ``call_id`` is the call that rang.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

import pytest
import requests
from airflow_model import ASSISTANT_ID, NUMBER, PHONE_NUMBER_ID, AirflowModel, Killed, Slot
from late_responses import LATE
from task_instances import ignore
from ways import FIRST, SECOND, Way, at_nth, kill_at, once_at

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, TaskDeferred
from vapi_provider.exceptions import (
    VapiCallInDoubtError,
    VapiConcurrencyLimitError,
    VapiPermanentError,
    VapiRateLimitError,
    VapiTransientError,
)
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.simulator import Fault, Timeline

REQUEST_SECONDS = 30
KILL_SECONDS = 5
LIST_LAG_SECONDS = 30
"""What the design promises to sit out: a request on its way, a process that is being ended, a list that lags."""

OTHER_ID = "0198a3f0-0000-7000-8000-00000000000a"

HTML = {"body": "<html><title>Sorry</title></html>", "content_type": "text/html"}
CLOUDFLARE = {"body": "error code: 520", "content_type": "text/plain"}
LOST_RESPONSES: dict[str, dict[str, Any]] = {
    "reset": {"reset": "before"},
    "reset after effect": {"reset": "before", "effect": True},
    "reset midway": {"reset": "midway", "effect": True},
    "500": {"status": 500},
    "500 after effect": {"status": 500, "effect": True},
    "502 in HTML": {"status": 502, **HTML},
    "502 in HTML after effect": {"status": 502, **HTML, "effect": True},
    "504": {"status": 504},
    "504 after effect": {"status": 504, "effect": True},
    "520": {"status": 520, **CLOUDFLARE},
    "520 after effect": {"status": 520, **CLOUDFLARE, "effect": True},
    "201 empty": {"status": 201, "body": "", "effect": True},
    "201 cut off": {"status": 201, "body": '{"id": "0198a3f0-00', "effect": True},
    "201 in HTML": {"status": 201, **HTML, "effect": True},
    "201 in HTML without effect": {"status": 201, **HTML},
    "201 without an id": {"status": 201, "body": '{"status": "queued"}', "effect": True},
    "302": {"status": 302, "headers": {"Location": "/elsewhere"}, "body": ""},
    "404 in HTML": {"status": 404, **HTML},
    "408 after effect": {"status": 408, "effect": True},
}
"""What comes in place of the response to POST, with and without an effect of the request."""

lost_responses = pytest.mark.parametrize("fault", LOST_RESPONSES.values(), ids=LOST_RESPONSES)
with_a_store = pytest.mark.parametrize("has_store", [True], ids=["with-store"])


def list_lags(seconds: int) -> Any:
    return pytest.mark.parametrize("vapi_options", [{"list_lag": seconds}], ids=[f"list-lags-{seconds}s"])


def lose_response(model: AirflowModel, *, effect: bool = True) -> None:
    model.simulator.faults.add(Fault(method="POST", path="/call", reset="before", effect=effect))


def respond_to_post(model: AirflowModel, **fault: Any) -> None:
    model.simulator.faults.add(Fault(method="POST", path="/call", **fault))


def break_list(model: AirflowModel, *, times: int | None = None, **fault: Any) -> None:
    model.simulator.faults.add(Fault(method="GET", path="/call", times=times, **fault))


def pages_read(model: AirflowModel) -> int:
    return sum((each.method, each.path) == ("GET", "/call") for each in model.simulator.requests)


def last_call(model: AirflowModel) -> dict[str, Any]:
    return list(model.simulator.calls.values())[-1]


def token_of(call: dict[str, Any]) -> str:
    token: str = call["assistantOverrides"]["variableValues"]["airflow_token"]
    return token


def rename_last(model: AirflowModel, name: str) -> None:
    VapiHook().update_call(last_call(model)["id"], name=name)


def add_calls_to_others(model: AirflowModel, count: int, *, seconds: float = 0.1) -> None:
    for _ in range(count):
        model.pass_time(seconds)
        model.simulator.add_call(status="ended", body={"customer": {"number": "+12025550177"}})


def refuse_state(model: AirflowModel, *, after: str = "", point: str = "store.set") -> None:
    """Let Airflow's API server be away from a point on, for the store alone."""
    passed: list[str] = []

    def at(now: str) -> None:
        if now == point and (not after or after in passed):
            raise ConnectionError("Airflow's API server is away")
        passed.append(now)

    model.at = at


def failure_of(slot: Slot, kind: type[Exception] = VapiTransientError, **arguments: Any) -> str:
    with pytest.raises(kind) as caught:
        slot.attempt(**arguments)
    return str(caught.value)


# The response to POST is lost.


@lost_responses
def test_lost_response_causes_no_second_call(model: AirflowModel, fault: dict[str, Any]) -> None:
    respond_to_post(model, **fault)
    slot = model.slot()
    slot.until_done()
    model.assert_rang_once(slot)
    assert model.posts() == (1 if fault.get("effect") else 2)


@lost_responses
def test_lost_response_and_kill_cause_no_second_call(model: AirflowModel, fault: dict[str, Any]) -> None:
    respond_to_post(model, **fault)
    slot = model.slot()
    kill_at(model, slot, "send.GET")
    slot.until_done()
    model.assert_rang_once(slot)


@pytest.mark.usefixtures("late_responses_time_out")
@pytest.mark.parametrize("fault", [{}, {"status": 504}], ids=["after-effect", "without-effect"])
def test_timed_out_request_causes_no_second_call(model: AirflowModel, fault: dict[str, Any]) -> None:
    respond_to_post(model, headers=LATE, **fault)
    slot = model.slot()
    slot.until_done()
    model.assert_rang_once(slot)


def test_lost_requests_are_sent_again_until_one_works(model: AirflowModel) -> None:
    respond_to_post(model, reset="before", times=3)
    slot = model.slot()
    slot.until_done()
    model.assert_rang_once(slot)
    assert model.posts() == 4


def test_try_sends_one_request_and_reports_no_ring(model: AirflowModel) -> None:
    lose_response(model, effect=False)
    assert "so no phone rang" in failure_of(model.slot())
    assert model.posts() == 1


def test_no_ring_is_reported_after_the_list_has_settled(model: AirflowModel) -> None:
    lose_response(model, effect=False)
    began_at = model.now
    failure_of(model.slot())
    assert model.now - began_at == REQUEST_SECONDS + KILL_SECONDS + LIST_LAG_SECONDS


@pytest.mark.parametrize("seconds", [10, 75])
def test_search_waits_for_the_connections_time_limit(
    model: AirflowModel, seconds: int, set_connection: Callable[..., None]
) -> None:
    set_connection(model.simulator, extra={"timeout": seconds})
    lose_response(model, effect=False)
    began_at = model.now
    failure_of(model.slot())
    assert model.now - began_at == seconds + KILL_SECONDS + LIST_LAG_SECONDS


def test_lost_request_is_named_after_an_unreadable_list(model: AirflowModel) -> None:
    lose_response(model, effect=False)
    break_list(model, status=503, times=5)
    assert failure_of(model.slot()).startswith("POST /call")
    assert pages_read(model) > 5


# The task state store.


def test_try_after_a_refusal_places_at_once(model: AirflowModel) -> None:
    respond_to_post(model, status=429, headers={"Retry-After": "3600"})
    slot = model.slot()
    failure_of(slot, VapiRateLimitError)
    slot.attempt()
    if model.has_store:
        assert pages_read(model) == 0
    assert model.posts() == 2
    model.assert_rang_once(slot)


def test_refused_call_is_placed_after_a_clear(model: AirflowModel) -> None:
    respond_to_post(model, status=400)
    slot = model.slot()
    failure_of(slot, VapiPermanentError)
    slot.run.clear_number += 1
    slot.attempt()
    assert model.posts() == 2
    model.assert_rang_once(slot)


@with_a_store
def test_refusal_that_cannot_be_recorded_leaves_doubt(model: AirflowModel) -> None:
    respond_to_post(model, status=400)
    slot = model.slot()
    refuse_state(model, after="sent.POST")
    failure_of(slot, VapiPermanentError)
    model.at = ignore
    slot.attempt()
    assert pages_read(model) > 0
    model.assert_rang_once(slot)


@with_a_store
@pytest.mark.parametrize("point", ["store.set", "store.was_set"])
def test_nothing_is_sent_without_a_record(model: AirflowModel, point: str) -> None:
    slot = model.slot()
    refuse_state(model, point=point)
    assert "so this try placed no call" in failure_of(slot)
    assert model.simulator.requests == []
    model.at = ignore
    slot.until_done()
    model.assert_rang_once(slot)


@with_a_store
def test_nothing_is_sent_if_the_record_cannot_be_read(model: AirflowModel) -> None:
    slot = model.slot()
    refuse_state(model, point="store.get")
    failure_of(slot, ConnectionError)
    assert model.simulator.requests == []
    model.at = ignore
    slot.until_done()
    model.assert_rang_once(slot)


@with_a_store
@pytest.mark.parametrize("point", ["store.set", "store.was_set"])
def test_call_whose_id_cannot_be_recorded_is_a_success(model: AirflowModel, point: str) -> None:
    slot = model.slot()
    refuse_state(model, after="sent.POST", point=point)
    slot.attempt()
    model.at = ignore
    slot.attempt()
    model.assert_rang_once(slot)
    assert model.posts() == 1


def test_call_whose_id_cannot_be_pushed_is_found_again(model: AirflowModel) -> None:
    slot = model.slot()
    refuse_state(model, point="xcom.push")
    failure_of(slot, ConnectionError)
    model.at = ignore
    slot.attempt()
    model.assert_rang_once(slot)
    assert model.posts() == 1


# A try that is stopped: Airflow calls on_kill, and the interrupted code goes on for up to five seconds.


def stop_at(model: AirflowModel, slot: Slot, point: str) -> Callable[[], Any]:
    run = slot.prepare()
    assert slot.operator is not None
    once_at(model, point, slot.operator.on_kill)
    return run


@with_a_store
@pytest.mark.parametrize("point", ["store.get", "store.set", "store.was_set"])
def test_stop_before_the_request_sends_nothing(model: AirflowModel, point: str) -> None:
    slot = model.slot()
    run = stop_at(model, slot, point)
    with pytest.raises(VapiTransientError, match="was stopped, so it sends nothing more"):
        run()
    assert model.simulator.requests == []
    slot.attempt()
    if point != "store.get":
        # It was recorded that nothing had been sent.
        assert pages_read(model) == 0
    model.assert_rang_once(slot)


@pytest.mark.parametrize("point", ["send.GET", "sent.GET", "sleep"])
def test_stop_between_search_and_request_sends_nothing(model: AirflowModel, point: str) -> None:
    slot = model.slot()
    kill_at(model, slot, "send.POST")
    run = stop_at(model, slot, point)
    with pytest.raises(VapiTransientError, match="was stopped, so it sends nothing more"):
        run()
    assert model.posts() == 0
    slot.until_done()
    model.assert_rang_once(slot)


def test_stop_before_a_repetition_sends_nothing_more(model: AirflowModel) -> None:
    respond_to_post(model, status=429)
    slot = model.slot()
    run = stop_at(model, slot, "sleep")
    with pytest.raises(VapiTransientError, match="was stopped, so it sends nothing more"):
        run()
    assert model.posts() == 1
    slot.until_done()
    model.assert_rang_once(slot)


@pytest.mark.parametrize("point", ["send.POST", "sent.POST", "xcom.push"])
def test_stop_during_the_request_causes_no_second_call(model: AirflowModel, point: str) -> None:
    slot = model.slot()
    stop_at(model, slot, point)()
    slot.attempt()
    model.assert_rang_once(slot)
    assert model.posts() == 1


# The task is tried again.


def test_retry_after_success_adopts_the_call(model: AirflowModel) -> None:
    slot = model.slot()
    first = slot.attempt()
    assert slot.attempt()["id"] == first["id"]
    model.assert_rang_once(slot)


@pytest.mark.parametrize("is_emptied", [False, True], ids=["", "store-emptied"])
@pytest.mark.parametrize("seconds", [0, 86_400], ids=["at-once", "a-day-later"])
def test_clear_after_success_adopts_the_call(model: AirflowModel, seconds: int, is_emptied: bool) -> None:
    slot = model.slot()
    slot.attempt()
    if is_emptied:
        slot.stored.clear()
    model.pass_time(seconds)
    slot.run.clear_number += 1
    slot.attempt()
    model.assert_rang_once(slot)
    assert model.posts() == 1


@pytest.mark.parametrize("is_emptied", [False, True], ids=["", "store-emptied"])
@pytest.mark.parametrize("clears", [0, 1], ids=["retried", "cleared"])
@pytest.mark.parametrize("point", ["send.POST", "sent.POST"])
def test_try_after_a_kill_causes_no_second_call(
    model: AirflowModel, point: str, clears: int, is_emptied: bool
) -> None:
    slot = model.slot()
    kill_at(model, slot, point)
    if is_emptied:
        slot.stored.clear()
    slot.run.clear_number += clears
    slot.attempt()
    model.assert_rang_once(slot)
    assert model.posts() == 1


@with_a_store
@pytest.mark.parametrize("point", ["send.POST", "sent.POST"])
def test_request_long_past_needs_no_wait(model: AirflowModel, point: str) -> None:
    slot = model.slot()
    kill_at(model, slot, point)
    model.pass_time(86_400)
    began_at = model.now
    slot.attempt()
    assert model.now == began_at
    model.assert_rang_once(slot)


def test_another_run_calls_again(model: AirflowModel) -> None:
    monday, tuesday = (model.slot(model.run(run_id=day)) for day in ("monday", "tuesday"))
    ids = [slot.attempt()["id"] for slot in (monday, tuesday, monday, tuesday)]
    assert ids[:2] == ids[2:]
    assert model.rings() == {NUMBER: 2}


@with_a_store
def test_erased_call_is_not_placed_again(model: AirflowModel) -> None:
    slot = model.slot()
    call_id = slot.attempt()["id"]
    assert model.rings() == {NUMBER: 1}
    VapiHook().delete_call(call_id)
    failure_of(slot, VapiPermanentError)
    assert model.rings() == {NUMBER: 1}


# Another try while the old one still runs.


WAYS = {**FIRST, "second try": SECOND["second try, nothing sent"]}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@pytest.mark.parametrize(
    ("way", "seconds"),
    [
        *[pytest.param(way, 0, id=name) for name, way in WAYS.items()],
        pytest.param(next(iter(WAYS.values())), 3 * 3600, id="for hours"),
    ],
)
def test_frozen_try_and_its_successor_ring_once(model: AirflowModel, way: Way, seconds: int) -> None:
    for number, point in enumerate(way.points(model)):
        if point == "send.POST":
            # A worker that is frozen here for minutes, and wakes up, is what nothing can be done about.
            continue
        model.rings()
        slot = way.prepare(model, number + 1)
        run, tries = slot.prepare(), slot.try_number

        def stand_still(slot: Slot = slot) -> None:
            slot.until_done()
            model.pass_time(seconds)

        at_nth(model, number, stand_still)
        with suppress(VapiTransientError):
            run()
        assert slot.try_number > tries, "there was no successor"
        model.assert_rang_once(slot)


class Successor(threading.Thread):
    """
    Another try in a thread of its own. It stands still where a test wants it to, so that of two tries one goes on at a time.

    :param run: runs the try
    :param stands_still: says at which points of its way
    """

    def __init__(self, run: Callable[[], Any], stands_still: Callable[[str], bool]) -> None:
        super().__init__(daemon=True)
        self.error: BaseException | None = None
        self._run_try = run
        self._stands_still = stands_still
        self._theirs, self._mine = threading.Semaphore(0), threading.Semaphore(0)
        self._goes_on = False

    def run(self) -> None:
        try:
            self._run_try()
        except BaseException as error:
            self.error = error
        self._goes_on = True
        self._theirs.release()

    def at(self, point: str) -> None:
        if not self._goes_on and self._stands_still(point):
            self._goes_on = True
            self._theirs.release()
            self._mine.acquire()

    def begin(self) -> None:
        """Let it run until it stands still or is over."""
        self.start()
        self._theirs.acquire()

    def end(self) -> None:
        """Let it run to its end."""
        self._mine.release()
        self.join()
        if self.error is not None:
            raise self.error


def overlap(
    model: AirflowModel, slot: Slot, *, begins_at: int, stands_still: Callable[[str], bool], killed_at: str
) -> None:
    """Run a try; let another begin at a point of it, stand still, and go on when the first one is over."""
    run = slot.prepare()
    successors: list[Successor] = []
    points = iter(range(begins_at + 1))

    def at(point: str) -> None:
        if successors and threading.current_thread() is successors[0]:
            successors[0].at(point)
        elif successors:
            if point == killed_at:
                raise Killed
        elif next(points) == begins_at:
            successors.append(Successor(slot.until_done, stands_still))
            successors[0].begin()

    model.at = at
    with suppress(VapiTransientError, Killed):
        run()
    assert successors, "there was no successor"
    successors[0].end()
    model.at = ignore


@ways
def test_try_beside_a_waiting_successor_rings_once(model: AirflowModel, way: Way) -> None:
    for number in range(len(way.points(model))):
        model.rings()
        slot = way.prepare(model, number + 1)
        # The first one does not live long enough to sleep.
        overlap(model, slot, begins_at=number, stands_still=lambda point: point == "sleep", killed_at="sleep")
        model.assert_rang_once(slot)


@list_lags(LIST_LAG_SECONDS)
def test_late_effect_of_a_killed_try_rings_once(model: AirflowModel) -> None:
    slot = model.slot()
    late = model.now + REQUEST_SECONDS + KILL_SECONDS
    overlap(
        model,
        slot,
        begins_at=3 if model.has_store else 0,
        stands_still=lambda point: point == "sleep" and model.now >= late,
        killed_at="sent.POST",
    )
    assert model.posts() == 1
    model.assert_rang_once(slot)


# What the call is found by: the end of its name, and a variable value. Either is enough.

RENAMED = pytest.mark.parametrize("name", ["Called twice?", "Reminder"])


@RENAMED
def test_renamed_call_is_adopted_after_success(model: AirflowModel, name: str) -> None:
    slot = model.slot()
    slot.attempt()
    rename_last(model, name)
    slot.attempt()
    model.assert_rang_once(slot)


@RENAMED
def test_renamed_call_is_adopted_after_a_kill(model: AirflowModel, name: str) -> None:
    slot = model.slot()
    kill_at(model, slot, "sent.POST")
    rename_last(model, name)
    slot.attempt()
    model.assert_rang_once(slot)


@RENAMED
def test_call_renamed_during_the_search_is_adopted(model: AirflowModel, name: str) -> None:
    slot = model.slot()
    lose_response(model)
    once_at(model, "send.GET", lambda: rename_last(model, name))
    slot.attempt()
    model.assert_rang_once(slot)


@pytest.mark.parametrize("point", ["send.POST", "sent.POST"])
@pytest.mark.parametrize(
    "vapi_options",
    [{"hidden_fields": ("assistantOverrides",)}, {"hidden_fields": ("name",)}],
    ids=["no-variable-values", "no-name"],
)
def test_one_carrier_of_the_token_is_enough(model: AirflowModel, point: str) -> None:
    slot = model.slot()
    kill_at(model, slot, point)
    slot.attempt()
    slot.stored.clear()
    slot.attempt()
    model.assert_rang_once(slot)
    assert model.posts() == 1


@pytest.mark.parametrize("name", ["Reminder", None], ids=["renamed", "own-name"])
def test_call_of_a_squad_is_found(model: AirflowModel, name: str | None) -> None:
    slot = model.slot(assistant_id=None, squad_id=OTHER_ID)
    kill_at(model, slot, "sent.POST")
    if name:
        rename_last(model, name)
    slot.attempt()
    model.assert_rang_once(slot)


def test_call_of_a_transient_assistant_is_found(model: AirflowModel) -> None:
    slot = model.slot(assistant_id=None, assistant={"firstMessage": "Good morning"})
    kill_at(model, slot, "sent.POST")
    slot.attempt(assistant={"firstMessage": "Good evening"})
    model.assert_rang_once(slot)


# A list of customers that the task is mapped over, and that is another one after a clear.

ADA, BOB, CLEO, DORA = (f"+1202555010{digit}" for digit in range(4))


def expand(model: AirflowModel, *numbers: str, before: list[Slot] | None = None) -> list[Slot]:
    """Map a task over a list; the record of a map index stays with it, whichever person comes to have it."""
    before = before or []
    run = before[0].run if before else model.run()
    run.clear_number += bool(before)
    for slot, number in zip(before, numbers, strict=False):
        slot.arguments["customer"] = {"number": number}
    more = range(len(before), len(numbers))
    return [*before, *(model.slot(run, map_index=index, number=numbers[index]) for index in more)]


@pytest.mark.parametrize("is_emptied", [False, True], ids=["", "store-emptied"])
@pytest.mark.parametrize(
    "then",
    [(BOB, CLEO, ADA), (CLEO, BOB, ADA), (DORA, ADA, BOB, CLEO), (ADA, BOB, CLEO, DORA)],
    ids=["rotated", "reversed", "one-more-in-front", "one-more-at-the-end"],
)
def test_clear_of_a_changed_mapped_list_rings_once_each(
    model: AirflowModel, then: tuple[str, ...], is_emptied: bool
) -> None:
    slots = expand(model, ADA, BOB, CLEO)
    for slot in slots:
        slot.attempt()
        if is_emptied:
            slot.stored.clear()
    slots = expand(model, *then, before=slots)
    for slot in slots:
        slot.until_done()
    assert model.posts() == len(then)
    model.assert_rang_once(*slots)


@pytest.mark.parametrize("point", ["send.POST", "sent.POST"])
def test_mapped_list_that_changes_in_doubt_rings_once_each(model: AirflowModel, point: str) -> None:
    slots = expand(model, ADA, BOB)
    kill_at(model, slots[0], point)
    slots[1].attempt()
    slots = expand(model, BOB, ADA, CLEO, before=slots)
    for slot in slots:
        slot.until_done()
    assert model.posts() == 3
    model.assert_rang_once(*slots)


@pytest.mark.parametrize("call_ends", [False, True], ids=["refused", "never-dialled"])
def test_uncalled_callee_that_moves_in_the_list_rings_once(model: AirflowModel, call_ends: bool) -> None:
    slots = expand(model, ADA, BOB)
    if call_ends:
        model.simulator.end_call(slots[0].attempt()["id"], "call.start.error-get-assistant")
    else:
        respond_to_post(model, status=400)
        failure_of(slots[0], VapiPermanentError)
    slots[1].attempt()
    # Only one of them gets that far before the next clear.
    slots = expand(model, BOB, ADA, before=slots)
    slots[1].until_done()
    slots = expand(model, ADA, BOB, before=slots)
    for slot in slots:
        slot.until_done()
    assert model.posts() == 3
    model.assert_rang_once(*slots)


def test_mapped_list_that_changes_back_rings_once_each(model: AirflowModel) -> None:
    slots = expand(model, ADA, BOB)
    for order in ((ADA, BOB), (BOB, ADA), (ADA, BOB)):
        slots = expand(model, *order, before=slots)
        for slot in slots:
            slot.until_done()
    assert model.posts() == 2
    model.assert_rang_once(*slots)


# Templates that render differently in a retry.

SAME_TOKEN: dict[str, dict[str, Any]] = {
    "name": {"name": "Reminder, again"},
    "no name": {"name": None},
    "overrides": {"assistant_overrides": {"variableValues": {"first_name": "Ada"}}},
    "schedule": {"schedule_plan": {"earliest_at": "2099-01-01T00:00:00Z"}},
    "customer's name": {"customer": {"number": NUMBER, "name": "Ada"}},
}
OTHER_TOKEN: dict[str, dict[str, Any]] = {
    "assistant": {"assistant_id": OTHER_ID},
    "squad": {"assistant_id": None, "squad_id": OTHER_ID},
    "phone number": {"phone_number_id": OTHER_ID},
    "customer": {"customer": {"number": "+12025550199"}},
}


@pytest.mark.parametrize("other", SAME_TOKEN.values(), ids=SAME_TOKEN)
@pytest.mark.parametrize("point", ["sent.POST", "xcom.push"])
def test_retry_with_other_details_adopts_the_call(
    model: AirflowModel, other: dict[str, Any], point: str
) -> None:
    slot = model.slot()
    kill_at(model, slot, point)
    slot.attempt(**other)
    model.assert_rang_once(slot)
    assert model.posts() == 1


@with_a_store
@pytest.mark.parametrize("other", OTHER_TOKEN.values(), ids=OTHER_TOKEN)
@pytest.mark.parametrize("point", ["sent.POST", "xcom.push"])
def test_retry_with_another_callee_keeps_the_token(
    model: AirflowModel, other: dict[str, Any], point: str
) -> None:
    slot = model.slot()
    kill_at(model, slot, point)
    slot.attempt(**other)
    model.assert_rang_once(slot)
    assert model.posts() == 1


@with_a_store
@pytest.mark.parametrize("other", OTHER_TOKEN.values(), ids=OTHER_TOKEN)
def test_two_different_retries_place_one_call(model: AirflowModel, other: dict[str, Any]) -> None:
    slot = model.slot()
    kill_at(model, slot, "send.POST")
    kill_at(model, slot, "sent.POST", **other)
    slot.attempt()
    assert list(model.rings().values()) == [1]
    assert model.posts() == 1


# The triggerer.

DEFERRED: dict[str, Any] = {"wait_for_completion": True, "deferrable": True}


def defer(slot: Slot) -> None:
    with pytest.raises(TaskDeferred):
        slot.attempt(**DEFERRED)


def test_dead_triggerer_of_an_ended_call_causes_no_new_call(model: AirflowModel) -> None:
    slot = model.slot()
    defer(slot)
    model.pass_time(600)
    summary = slot.resume("__fail__", {"error": "Trigger timeout"}, **DEFERRED)
    assert (summary["id"], summary["status"]) == (slot.xcoms["call_id"], "ended")
    assert model.posts() == 1
    model.assert_rang_once(slot)


def test_dead_triggerer_of_a_live_call_causes_no_new_call(model: AirflowModel) -> None:
    model.simulator.timeline = Timeline(ended=None, analysis=None)
    slot = model.slot()
    defer(slot)
    model.pass_time(600)
    with pytest.raises(AirflowSensorTimeout, match="in-progress"):
        slot.resume("__fail__", {"error": "Trigger timeout"}, **DEFERRED)
    assert model.posts() == 1
    model.assert_rang_once(slot)


def test_failed_trigger_causes_no_second_call(model: AirflowModel) -> None:
    slot = model.slot()
    defer(slot)
    with pytest.raises(Exception, match="Trigger failure"):
        slot.resume("__fail__", {"error": "Trigger failure"}, **DEFERRED)
    model.pass_time(600)
    assert slot.attempt(**DEFERRED)["status"] == "ended"
    assert model.posts() == 1
    model.assert_rang_once(slot)


# The list.


@pytest.mark.parametrize(
    "vapi_options", [{"list_lag": seconds} for seconds in (3, 20, 29)], ids=["3s", "20s", "29s"]
)
@pytest.mark.parametrize("is_killed", [False, True], ids=["looks-itself", "is-killed"])
def test_lagging_list_causes_no_second_call(model: AirflowModel, is_killed: bool) -> None:
    slot = model.slot()
    if is_killed:
        kill_at(model, slot, "sent.POST")
    else:
        lose_response(model)
    slot.attempt()
    assert model.posts() == 1
    model.assert_rang_once(slot)


def test_call_on_a_later_page_is_adopted(model: AirflowModel) -> None:
    slot = model.slot()
    kill_at(model, slot, "sent.POST")
    add_calls_to_others(model, 250)
    slot.attempt()
    assert pages_read(model) >= 3
    assert model.posts() == 1
    model.assert_rang_once(slot)


def test_other_calls_are_not_adopted(model: AirflowModel) -> None:
    add_calls_to_others(model, 250)
    slot = model.slot()
    lose_response(model, effect=False)
    slot.until_done()
    model.assert_rang_once(slot)


def cap_pages(monkeypatch: pytest.MonkeyPatch, cap: int) -> None:
    """Let the list return fewer calls than were requested, as a server with a cap of its own does."""
    send = requests.adapters.HTTPAdapter.send

    def capped(adapter: Any, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        url = str(request.url)
        request.url = re.sub(r"\blimit=(\d+)", lambda limit: f"limit={min(cap, int(limit[1]))}", url)
        return send(adapter, request, *args, **kwargs)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", capped)


def add_others(model: AirflowModel, count: int, *, seconds_apart: float = 0) -> None:
    """Let others call, all in one instant or one after another."""
    for number in range(count):
        model.pass_time(seconds_apart)
        model.simulator.add_call(
            status="ended",
            body={
                "assistantId": ASSISTANT_ID,
                "phoneNumberId": PHONE_NUMBER_ID,
                "customer": {"number": f"+1202555{number:04}"},
            },
        )


@pytest.mark.parametrize(("cap", "others"), [(100, 101), (100, 150), (50, 60), (10, 10), (10, 11)])
def test_capped_list_that_may_hide_the_call_places_none(model: AirflowModel, cap: int, others: int) -> None:
    """More calls of one instant than a page holds are listed before it."""
    slot = model.slot()
    kill_at(model, slot, "sent.POST")
    model.pass_time(100)
    add_others(model, others)
    with pytest.MonkeyPatch.context() as monkeypatch:
        cap_pages(monkeypatch, cap)
        for _ in range(3):
            with pytest.raises(VapiTransientError, match="the list of calls cannot be read"):
                slot.attempt()
            model.pass_time(300)
    assert model.posts() == 1
    slot.attempt()
    assert model.posts() == 1
    model.assert_rang_once(slot)


@pytest.mark.parametrize("cap", [2, 10, 50, 100])
def test_capped_list_is_searched_to_its_end(
    model: AirflowModel, monkeypatch: pytest.MonkeyPatch, cap: int
) -> None:
    slot = model.slot()
    kill_at(model, slot, "sent.POST")
    add_others(model, 120, seconds_apart=1)
    cap_pages(monkeypatch, cap)
    slot.attempt()
    assert model.posts() == 1
    model.assert_rang_once(slot)


@pytest.mark.parametrize("seconds", [0.5, 3])
def test_slow_list_causes_no_second_call(
    model: AirflowModel, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vapi_provider.placing.search.PAGE_SIZE", 10)
    add_calls_to_others(model, 120, seconds=5)
    slot = model.slot()
    kill_at(model, slot, "send.POST")
    model.at = lambda point: model.pass_time(seconds) if point == "sent.GET" else None
    slot.attempt()
    assert pages_read(model) > 24
    model.assert_rang_once(slot)


def test_slow_list_is_not_read_twice_in_full(model: AirflowModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vapi_provider.placing.search.PAGE_SIZE", 10)
    add_calls_to_others(model, 120, seconds=5)
    slot = model.slot()
    kill_at(model, slot, "send.POST")
    model.pass_time(600)
    model.at = lambda point: model.pass_time(3) if point == "sent.GET" else None
    slot.attempt()
    bounds = [each.query["createdAtGe"] for each in model.simulator.requests if each.method == "GET"]
    # What was not there a minute ago can only be among the newest.
    assert len(set(bounds)) == 2
    assert bounds[-1] > bounds[0]
    assert bounds.count(bounds[-1]) <= 3 < 12 < bounds.count(bounds[0])
    model.assert_rang_once(slot)


def test_page_that_is_empty_by_mistake_does_not_hide_the_call(
    model: AirflowModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vapi_provider.placing.search.PAGE_SIZE", 10)
    slot = model.slot()
    kill_at(model, slot, "sent.POST")
    add_calls_to_others(model, 10)
    model.pass_time(600)
    empty = [Fault(method="GET", path="/call", body="[]")]
    model.at = lambda point: (
        model.simulator.faults.add(empty.pop()) if point == "sent.GET" and empty else None
    )
    with suppress(VapiTransientError):
        slot.attempt()
    assert empty == []
    slot.attempt()
    model.assert_rang_once(slot)


BROKEN_LISTS: dict[str, dict[str, Any]] = {
    "503": {"status": 503},
    "HTML": {"status": 200, **HTML},
    "time-out": {"headers": LATE},
}


@pytest.mark.usefixtures("late_responses_time_out")
@pytest.mark.parametrize("broken", BROKEN_LISTS.values(), ids=BROKEN_LISTS)
@pytest.mark.parametrize("effect", [True, False], ids=["after-effect", "without-effect"])
def test_unreadable_list_places_no_call(
    model: AirflowModel, broken: dict[str, Any], effect: bool, set_connection: Callable[..., None]
) -> None:
    set_connection(model.simulator, extra={"max_retries": 0})
    lose_response(model, effect=effect)
    break_list(model, **broken)
    slot = model.slot()
    messages = [failure_of(slot), failure_of(slot)]
    assert model.posts() == 1
    model.simulator.faults.clear()
    slot.until_done()
    assert model.posts() == (1 if effect else 2)
    model.assert_rang_once(slot)
    for message in messages:
        assert "A call may have been placed" in message
        assert token_of(last_call(model)) in message


def test_list_that_recovers_resolves_the_doubt(model: AirflowModel) -> None:
    lose_response(model)
    break_list(model, status=503, times=7)
    slot = model.slot()
    slot.attempt()
    model.assert_rang_once(slot)


@pytest.mark.parametrize(
    ("limit", "value"), [("MAX_PAGES", 2), ("MAX_BYTES", 1000)], ids=["in-pages", "in-bytes"]
)
def test_too_long_a_list_places_no_call(
    model: AirflowModel, limit: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = model.slot()
    kill_at(model, slot, "send.POST")
    add_calls_to_others(model, 300)
    with monkeypatch.context() as patch:
        patch.setattr(f"vapi_provider.placing.search.{limit}", value)
        message = failure_of(slot, VapiCallInDoubtError)
    assert model.posts() == 0
    # A user has searched, found nothing, and clears the task when there are fewer calls.
    slot.run.clear_number += 1
    slot.attempt()
    assert f"python -m vapi_provider find {token_of(last_call(model))} --since " in message
    model.assert_rang_once(slot)


def test_call_in_the_read_part_of_a_long_list_is_adopted(
    model: AirflowModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vapi_provider.placing.search.MAX_PAGES", 2)
    add_calls_to_others(model, 300)
    slot = model.slot()
    kill_at(model, slot, "sent.POST")
    slot.attempt()
    model.assert_rang_once(slot)


@list_lags(20)
def test_long_lagging_list_causes_no_second_call(
    model: AirflowModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vapi_provider.placing.search.MAX_PAGES", 2)
    add_calls_to_others(model, 300)
    slot = model.slot()
    kill_at(model, slot, "sent.POST")
    slot.attempt()
    assert model.posts() == 1
    model.assert_rang_once(slot)


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("point", ["send.POST", "sent.POST"])
def test_refused_list_places_no_call(model: AirflowModel, point: str, status: int) -> None:
    slot = model.slot()
    kill_at(model, slot, point)
    posts = model.posts()
    break_list(model, status=status)
    message = failure_of(slot, VapiCallInDoubtError)
    assert model.posts() == posts
    model.simulator.faults.clear()
    slot.run.clear_number += 1
    slot.attempt()
    assert f"python -m vapi_provider find {token_of(last_call(model))} --since " in message
    assert model.posts() == 1
    model.assert_rang_once(slot)


# Clocks.


@pytest.mark.parametrize("minutes", [-50, -10, 10, 50])
@pytest.mark.parametrize("effect", [True, False], ids=["after-effect", "without-effect"])
def test_different_clocks_cause_no_second_call(model: AirflowModel, minutes: int, effect: bool) -> None:
    model.now -= 60 * minutes
    slot = model.slot()
    lose_response(model, effect=effect)
    kill_at(model, slot, "send.GET")
    slot.until_done()
    assert model.posts() == (1 if effect else 2)
    model.assert_rang_once(slot)


@list_lags(29)
@pytest.mark.parametrize("minutes", [-50, -10, 10, 50])
def test_different_clocks_and_a_lag_cause_no_second_call(model: AirflowModel, minutes: int) -> None:
    model.now -= 60 * minutes
    slot = model.slot()
    lose_response(model)
    slot.attempt()
    assert model.posts() == 1
    model.assert_rang_once(slot)


# Two instances of Airflow.


@pytest.mark.parametrize("point", ["sent.POST", "xcom.push"])
def test_two_airflows_with_one_dag_keep_their_own_calls(
    model: AirflowModel, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own: dict[str, list[str]] = {}
    slots = {name: model.slot() for name in ("staging", "production")}
    for name, slot in slots.items():
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", f"https://{name}.example.com")
        kill_at(model, slot, point)
        own[name] = [last_call(model)["id"]]
    for name, slot in slots.items():
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", f"https://{name}.example.com")
        own[name] += [slot.attempt()["id"], slot.xcoms["call_id"]]
    assert [len(set(ids)) for ids in own.values()] == [1, 1]
    assert own["staging"] != own["production"]
    assert model.rings() == {NUMBER: 2}


# Over the limit.


def fill_lines(model: AirflowModel) -> None:
    model.simulator.timeline = Timeline(ended=600, analysis=None)
    for number in range(10):
        model.slot(number=f"+120255501{number:02}").attempt()


def test_call_refused_over_the_limit_is_placed_later(model: AirflowModel) -> None:
    fill_lines(model)
    slot = model.slot(on_limit="fail")
    assert "the limit is 10, 0 left" in failure_of(slot, VapiConcurrencyLimitError)
    assert "the limit is 10, 0 left" in failure_of(slot, VapiConcurrencyLimitError)
    model.pass_time(600)
    slot.attempt()
    model.assert_rang_once(slot)


@pytest.mark.parametrize("vapi_options", [{"over_limit": "end"}], ids=["end"])
@pytest.mark.parametrize("deferrable", [False, True], ids=["in-the-worker", "deferrable"])
def test_undialled_call_over_the_limit_is_placed_again(model: AirflowModel, deferrable: bool) -> None:
    fill_lines(model)
    slot = model.slot(wait_for_completion=True, deferrable=deferrable, on_limit="fail")
    with pytest.raises(TaskDeferred if deferrable else VapiConcurrencyLimitError):
        slot.attempt()
    if deferrable:
        model.pass_time(15)
        event = {"status": "done", "call_id": slot.xcoms["call_id"], "message": ""}
        with pytest.raises(VapiConcurrencyLimitError):
            slot.resume("execute_complete", {"event": event})
    model.pass_time(600)
    slot.attempt(wait_for_completion=False, deferrable=None)
    assert model.posts() == 12
    model.assert_rang_once(slot)


@pytest.mark.parametrize("vapi_options", [{"over_limit": "queue"}], ids=["queue"])
def test_dialled_call_over_the_limit_is_adopted(model: AirflowModel) -> None:
    fill_lines(model)
    slot = model.slot()
    slot.attempt()
    slot.attempt()
    assert model.posts() == 11
    model.assert_rang_once(slot)


# What an earlier try has placed, and how that went.


@pytest.mark.parametrize(
    "reason",
    [
        "call.start.error-get-assistant",
        "call.start.error-vapi-number-outbound-daily-limit",
        "call.start.error-subscription-concurrency-limit-reached",
    ],
)
def test_call_that_was_never_dialled_is_placed_again(model: AirflowModel, reason: str) -> None:
    slot = model.slot()
    model.simulator.end_call(slot.attempt()["id"], reason)
    slot.attempt()
    assert model.posts() == 2
    model.assert_rang_once(slot)


@pytest.mark.parametrize(
    "reason",
    ["customer-did-not-answer", "customer-busy", "voicemail", "manually-canceled", "pipeline-error-x"],
)
@pytest.mark.parametrize("is_killed", [False, True], ids=["", "killed"])
def test_any_other_end_is_a_result(model: AirflowModel, reason: str, is_killed: bool) -> None:
    slot = model.slot()
    if is_killed:
        kill_at(model, slot, "sent.POST")
    else:
        slot.attempt()
    model.pass_time(2)
    call_id = last_call(model)["id"]
    model.simulator.end_call(call_id, reason)
    assert slot.attempt()["ended_reason"] == reason
    assert slot.xcoms["call_id"] == call_id
    assert model.posts() == 1
    assert model.rings() == {NUMBER: 1}


def test_scheduled_call_that_was_cancelled_is_a_result(model: AirflowModel) -> None:
    slot = model.slot(schedule_plan={"earliest_at": "2099-01-01T00:00:00Z"})
    VapiHook().delete_call(slot.attempt()["id"])
    assert slot.attempt()["ended_reason"] == "scheduled-call-deleted"
    assert model.posts() == 1
    assert model.rings() == {}


LIKENESSES: dict[str, dict[str, Any]] = {
    "never dialled": {"status": "ended", "endedReason": "call.start.error-get-assistant"},
    "queued": {"status": "queued"},
    "scheduled": {"status": "scheduled"},
}


@pytest.mark.parametrize("likeness", LIKENESSES.values(), ids=LIKENESSES)
@pytest.mark.parametrize("seconds", [-65, -55], ids=["older", "newer"])
def test_call_that_rang_is_adopted_among_several(
    model: AirflowModel, likeness: dict[str, Any], seconds: int
) -> None:
    slot = model.slot()
    call_id = slot.attempt()["id"]
    slot.stored.clear()
    model.pass_time(60)
    call = model.simulator.get_call(call_id)
    created_at = datetime.fromtimestamp(model.now + seconds, timezone.utc).isoformat()
    model.simulator.add_call(body={"name": call["name"], "createdAt": created_at, **likeness})
    assert slot.attempt()["id"] == slot.xcoms["call_id"] == call_id
    assert model.posts() == 1
