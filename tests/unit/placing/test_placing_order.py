# SPDX-License-Identifier: Apache-2.0
"""What happens once a call's id is known, in this order: published, hung up if the task was stopped, then read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import requests
from airflow_model import AirflowModel, Killed, Slot
from task_instances import LINK, ignore
from ways import once_at

from vapi_provider.simulator import Fault, Timeline

LIMIT = 2


@pytest.fixture
def vapi_options() -> dict[str, Any]:
    live = Timeline(ringing=1, answered=3, ended=None)
    return {"concurrency_limit": LIMIT, "over_limit": "queue", "timeline": live}


# The routes by which an id becomes known; each prepares a task instance whose next try takes it.


def placed(model: AirflowModel, **arguments: Any) -> Slot:
    return model.slot(wait_for_completion=True, timeout=60, **arguments)


def placed_over_the_limit(model: AirflowModel, **arguments: Any) -> Slot:
    for _ in range(LIMIT):
        model.simulator.add_call(status="in-progress", body={"customer": {"number": "+12025550177"}})
    return model.slot(**arguments)


def found_by_search(model: AirflowModel, **arguments: Any) -> Slot:
    model.simulator.faults.add(Fault(method="POST", path="/call", reset="before", effect=True))
    return model.slot(**arguments)


def found_by_search_in_a_retry(model: AirflowModel, **arguments: Any) -> Slot:
    slot = model.slot(**arguments)
    once_at(model, "sent.POST", kill)
    with pytest.raises(Killed):
        slot.attempt()
    return slot


def recorded(model: AirflowModel, **arguments: Any) -> Slot:
    slot = model.slot(**arguments)
    slot.attempt()
    return slot


ROUTES = [placed, placed_over_the_limit, found_by_search, found_by_search_in_a_retry, recorded]
routes = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.__name__)

Route = Callable[..., Slot]


def kill() -> None:
    raise Killed


def fail_reads(model: AirflowModel, fail: Callable[[], None]) -> list[str]:
    """Let each read of a call fail, and return the list of the reads."""
    reads: list[str] = []

    def at(point: str) -> None:
        if point == "send.GET" and model.requested.startswith("GET /call/"):
            reads.append(model.requested.removeprefix("GET /call/"))
            fail()

    model.at = at
    return reads


def fail_to_connect() -> None:
    raise requests.ConnectionError("the network is gone")


@routes
@pytest.mark.parametrize("fail", [kill, fail_to_connect], ids=["killed", "unreachable"])
def test_id_and_link_are_published_before_the_call_is_read(
    model: AirflowModel, route: Route, fail: Callable[[], None]
) -> None:
    slot = route(model)
    slot.xcoms.clear()
    reads = fail_reads(model, fail)
    with suppress(Killed, Exception):
        slot.attempt()
    call_id = reads[0]
    assert set(reads) == {call_id}
    assert slot.xcoms["call_id"] == call_id
    assert slot.xcoms[LINK] == f"{model.simulator.url}/calls/{call_id}"
    assert slot.operator is not None
    assert slot.operator._placement is not None
    assert slot.operator._placement.call_id == call_id
    assert model.simulator.get_call(call_id)["name"].startswith("Reminder #")
    # The next try finds it again.
    model.at = ignore
    assert slot.attempt(wait_for_completion=False, timeout=43_200)["id"] == slot.xcoms["call_id"] == call_id
    assert model.posts() == 1


# A task that is stopped: Airflow calls on_kill, and the code goes on for up to five seconds.


def steps_once_stopped(model: AirflowModel, slot: Slot, *, stop_at: str | None) -> list[str]:
    """Run a try that is stopped at a point, or at its first one, and return what it does from then on."""
    steps: list[str] = []
    run, task = slot.prepare(), threading.current_thread()
    assert slot.operator is not None
    on_kill = slot.operator.on_kill
    is_stopped = False

    def at(point: str) -> None:
        nonlocal is_stopped
        if not is_stopped and stop_at in (None, point):
            is_stopped = True
            on_kill()
        elif is_stopped and point == "xcom.push":
            steps.append("publish")
        if is_stopped and point.startswith("send."):
            method, path = model.requested.split()
            what = "the list" if model.requested == "GET /call" else path.split("/")[1]
            who = "" if threading.current_thread() is task else "hang up: "
            steps.append(f"{who}{method} {what}")

    model.at = at
    with suppress(Exception):
        run()
    model.at = ignore
    return steps


HANG_UP = ["publish", "publish", "hang up: GET call", "hang up: POST control"]


@pytest.mark.parametrize("point", ["send.POST", "sent.POST"])
@pytest.mark.parametrize("route", [placed, placed_over_the_limit], ids=lambda route: route.__name__)
def test_stop_during_the_post_hangs_up_before_any_read(model: AirflowModel, route: Route, point: str) -> None:
    slot = route(model, hang_up_on_kill=True)
    steps = steps_once_stopped(model, slot, stop_at=point)
    assert steps == [*["POST call"] * (point == "send.POST"), *HANG_UP, "GET call"]
    assert model.simulator.get_call(slot.xcoms["call_id"])["endedReason"] == "manually-canceled"


def test_stop_during_a_lost_post_hangs_up_once_it_is_found(model: AirflowModel) -> None:
    slot = found_by_search(model, hang_up_on_kill=True)
    steps = steps_once_stopped(model, slot, stop_at="send.POST")
    assert [step for step in steps if step not in ("POST call", "GET the list")] == [*HANG_UP, "GET call"]
    assert model.simulator.get_call(slot.xcoms["call_id"])["endedReason"] == "manually-canceled"


@pytest.mark.parametrize("route", [found_by_search_in_a_retry, recorded], ids=lambda route: route.__name__)
def test_stopped_retry_hangs_up_before_it_reads_the_call(model: AirflowModel, route: Route) -> None:
    slot = route(model, hang_up_on_kill=True)
    steps = steps_once_stopped(model, slot, stop_at=None)
    assert [step for step in steps if step not in ("POST call", "GET the list")] == [*HANG_UP, "GET call"]
    assert model.simulator.get_call(slot.xcoms["call_id"])["endedReason"] == "manually-canceled"


def test_stop_leaves_the_call_alone_by_default(model: AirflowModel) -> None:
    slot = placed(model)
    assert not [step for step in steps_once_stopped(model, slot, stop_at="send.POST") if "hang up" in step]
    assert model.simulator.get_call(slot.xcoms["call_id"])["status"] == "in-progress"
