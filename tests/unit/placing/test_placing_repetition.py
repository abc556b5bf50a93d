# SPDX-License-Identifier: Apache-2.0
"""
Sending again after a request that certainly had no effect: after 429, and without a connection.

Each repetition goes through all steps again: the stop flag, the record, a search if the last one is too old.
"""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
import requests
from task_instances import ignore
from urllib3.exceptions import NewConnectionError
from ways import kill_at, once_at

from vapi_provider.exceptions import (
    VapiCallInDoubtError,
    VapiConcurrencyLimitError,
    VapiError,
    VapiPermanentError,
    VapiRateLimitError,
    VapiTransientError,
)
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.simulator import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_model import AirflowModel, Slot

REQUEST_SECONDS = 30
ALL_TRIES_SECONDS = 75
FRESH_SECONDS = 5

with_a_store = pytest.mark.parametrize("has_store", [True], ids=["with-store"])


def limit_rate(model: AirflowModel, *, times: int | None = 1, retry_after: float | None = None) -> None:
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    model.simulator.faults.add(Fault(method="POST", path="/call", status=429, headers=headers, times=times))


def sendings(model: AirflowModel, *, refuse: int = 0, seconds: float = 0) -> list[float]:
    """
    Return when requests to place a call are sent.

    :param refuse: how many of them get no connection
    :param seconds: how long it takes to notice that
    """
    began_at, sent_at = model.now, list[float]()

    def at(point: str) -> None:
        if point == "send.POST":
            sent_at.append(model.now - began_at)
            if len(sent_at) <= refuse:
                model.pass_time(seconds)
                raise requests.ConnectionError(NewConnectionError(None, "refused"))  # type: ignore[arg-type]

    model.at = at
    return sent_at


def pauses(sent_at: list[float]) -> list[float]:
    return [later - earlier for earlier, later in zip(sent_at, sent_at[1:], strict=False)]


def searches(model: AirflowModel) -> int:
    return sum((each.method, each.path) == ("GET", "/call") for each in model.simulator.requests)


def recorded(slot: Slot) -> str:
    return str(json.loads(slot.stored["placing"])["state"])


def failure_of(slot: Slot, kind: type[VapiError]) -> VapiError:
    with pytest.raises(kind) as failure:
        slot.attempt()
    return failure.value


# When, and how often


@pytest.mark.parametrize("retry_after", [2, 40])
def test_retry_after_is_honoured(model: AirflowModel, retry_after: int) -> None:
    limit_rate(model, retry_after=retry_after)
    sent_at = sendings(model)
    slot = model.slot()
    slot.attempt()
    (pause,) = pauses(sent_at)
    # With a little jitter, since a thousand tasks may get the same response.
    assert retry_after <= pause <= retry_after + 1
    model.assert_rang_once(slot)


def test_without_retry_after_the_pauses_grow(model: AirflowModel) -> None:
    limit_rate(model, times=4)
    sent_at = sendings(model)
    slot = model.slot()
    slot.attempt()
    too_long = [pair for pair in zip(pauses(sent_at), (1, 2, 4, 8), strict=True) if pair[0] > pair[1]]
    assert too_long == []
    assert model.now > sent_at[0]
    model.assert_rang_once(slot)


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_max_retries_is_kept(
    model: AirflowModel, max_retries: int, set_connection: Callable[..., None]
) -> None:
    set_connection(model.simulator, extra={"max_retries": max_retries})
    limit_rate(model, times=None, retry_after=1)
    sent_at = sendings(model)
    error = failure_of(model.slot(), VapiRateLimitError)
    assert isinstance(error, VapiTransientError)
    assert len(sent_at) == max_retries + 1
    assert model.rings() == {}


@pytest.mark.parametrize("refuse", [1, 4])
def test_refused_connection_is_repeated(model: AirflowModel, refuse: int) -> None:
    sent_at = sendings(model, refuse=refuse)
    slot = model.slot()
    slot.attempt()
    assert len(sent_at) == refuse + 1
    assert model.posts() == 1
    model.assert_rang_once(slot)


def test_network_that_stays_down_fails_the_try(model: AirflowModel) -> None:
    sent_at = sendings(model, refuse=5)
    slot = model.slot()
    assert "could be made" in str(failure_of(slot, VapiTransientError))
    assert len(sent_at) == 5
    slot.until_done()
    model.assert_rang_once(slot)


@pytest.mark.parametrize(
    ("timeout", "retry_after", "sent"),
    [
        pytest.param(30, 40, 2, id="second-pause-too-long"),
        pytest.param(30, 20, 3, id="third-pause-too-long"),
        pytest.param(30, 50, 1, id="first-pause-too-long"),
        pytest.param(10, 60, 2, id="short-requests-leave-more"),
        pytest.param(75, 1, 1, id="long-requests-leave-nothing"),
    ],
)
def test_all_pauses_end_75_s_less_one_request(
    model: AirflowModel, timeout: int, retry_after: int, sent: int, set_connection: Callable[..., None]
) -> None:
    set_connection(model.simulator, extra={"timeout": timeout})
    limit_rate(model, times=None, retry_after=retry_after)
    sent_at = sendings(model)
    failure_of(model.slot(), VapiRateLimitError)
    assert len(sent_at) == sent
    assert max(sent_at) + timeout <= ALL_TRIES_SECONDS


def test_time_without_a_connection_counts(model: AirflowModel) -> None:
    sent_at = sendings(model, refuse=10, seconds=REQUEST_SECONDS)
    failure_of(model.slot(), VapiTransientError)
    assert len(sent_at) == 2
    assert max(sent_at) + REQUEST_SECONDS <= ALL_TRIES_SECONDS


def test_search_for_an_earlier_request_does_not_count(model: AirflowModel) -> None:
    slot = model.slot()
    kill_at(model, slot, "send.POST")
    limit_rate(model, retry_after=40)
    sent_at = sendings(model)
    slot.attempt()
    # It was settled after 65 s, when the time for repetitions began.
    assert sent_at[0] == 65
    assert len(sent_at) == 2
    model.assert_rang_once(slot)


def test_longer_pause_is_left_to_airflows_retries(model: AirflowModel) -> None:
    limit_rate(model, retry_after=61)
    sent_at = sendings(model)
    error = failure_of(model.slot(), VapiRateLimitError)
    assert len(sent_at) == 1
    assert isinstance(error, VapiTransientError)
    assert error.retry_after == 61


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        pytest.param({"status": 400}, VapiPermanentError, id="refusal"),
        pytest.param(
            {"status": 400, "body": '{"error": "Over Concurrency Limit"}'},
            VapiConcurrencyLimitError,
            id="limit",
        ),
        pytest.param({"status": 401}, VapiPermanentError, id="key"),
    ],
)
def test_refusal_is_not_repeated(model: AirflowModel, fault: dict[str, Any], kind: type[VapiError]) -> None:
    model.simulator.faults.add(Fault(method="POST", path="/call", times=None, **fault))
    sent_at = sendings(model)
    assert not isinstance(failure_of(model.slot(on_limit="fail"), kind), VapiCallInDoubtError)
    assert sent_at == [0]


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 408}, {"reset": "before"}], ids=str)
def test_request_in_doubt_is_not_repeated(model: AirflowModel, fault: dict[str, Any]) -> None:
    model.simulator.faults.add(Fault(method="POST", path="/call", times=None, **fault))
    sent_at = sendings(model)
    assert "so no phone rang" in str(failure_of(model.slot(), VapiTransientError))
    assert sent_at == [0]


def test_doubt_after_a_repetition_is_doubt(model: AirflowModel) -> None:
    limit_rate(model, retry_after=1)
    model.simulator.faults.add(Fault(method="POST", path="/call", reset="before", effect=True))
    sent_at = sendings(model)
    slot = model.slot()
    slot.attempt()
    assert len(sent_at) == 2
    assert searches(model) > 0
    model.assert_rang_once(slot)


# What is recorded, and what is searched


@with_a_store
def test_record_says_not_sent_during_the_pause(model: AirflowModel) -> None:
    limit_rate(model, times=2, retry_after=2)
    slot, states = model.slot(), list[tuple[str, str]]()

    def at(point: str) -> None:
        if point in ("sleep", "send.POST"):
            states.append((point, recorded(slot)))

    model.at = at
    slot.attempt()
    assert states == [
        ("send.POST", "sending"),
        ("sleep", "not sent"),
        ("send.POST", "sending"),
        ("sleep", "not sent"),
        ("send.POST", "sending"),
    ]
    assert recorded(slot) == "placed"


@pytest.mark.parametrize("retry_after", [2, 40])
def test_after_a_kill_in_the_pause_the_next_try_places_at_once(model: AirflowModel, retry_after: int) -> None:
    limit_rate(model, retry_after=retry_after)
    slot = model.slot()
    kill_at(model, slot, "sleep")
    began_at = model.now
    slot.attempt()
    if model.has_store:
        assert model.now == began_at
        assert searches(model) == 0
    else:
        # Nothing is known of the first try.
        assert model.now - began_at == 65
    assert model.posts() == 2
    model.assert_rang_once(slot)


@with_a_store
def test_kill_in_the_repetition_leaves_doubt(model: AirflowModel) -> None:
    limit_rate(model, retry_after=2)
    slot = model.slot()
    points: list[str] = []

    def at(point: str) -> None:
        points.append(point)
        if points.count("send.POST") == 2:
            model.at = ignore
            raise KeyboardInterrupt

    model.at = at
    with pytest.raises(KeyboardInterrupt):
        slot.attempt()
    assert recorded(slot) == "sending"
    slot.attempt()
    assert searches(model) > 0
    model.assert_rang_once(slot)


def test_nothing_is_searched_after_a_short_pause(model: AirflowModel) -> None:
    limit_rate(model, retry_after=2)
    slot = model.slot()
    slot.attempt()
    assert searches(model) == 0
    assert model.posts() == 2


@pytest.mark.parametrize("times", [1, 2])
def test_list_is_searched_before_each_late_repetition(model: AirflowModel, times: int) -> None:
    limit_rate(model, times=times, retry_after=FRESH_SECONDS + 1)
    slot = model.slot()
    slot.attempt()
    methods = [each.method for each in model.simulator.requests if each.path == "/call"]
    # That a list is empty is verified.
    assert methods == ["POST", *["GET", "GET", "POST"] * times]
    model.assert_rang_once(slot)


def test_pauses_add_up_until_a_search_is_due(model: AirflowModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vapi_provider.client.transport._RETRY_AFTER_JITTER_SECONDS", 0)
    limit_rate(model, times=3, retry_after=2)
    slot = model.slot()
    slot.attempt()
    methods = [each.method for each in model.simulator.requests if each.path == "/call"]
    # The third pause ends 6 s after it was known that there is no call.
    assert methods == ["POST", "POST", "POST", "GET", "GET", "POST"]


def test_call_placed_during_the_pause_is_adopted(model: AirflowModel) -> None:
    limit_rate(model, retry_after=40)
    slot = model.slot()
    run = slot.prepare()
    once_at(model, "sleep", slot.until_done)
    if model.has_store:
        # Airflow refuses to record anything for a try that another one has superseded.
        with pytest.raises(VapiTransientError, match="so this try placed no call"):
            run()
    else:
        assert run()["id"] == slot.xcoms["call_id"]
    assert model.posts() == 2
    model.assert_rang_once(slot)


def test_unreadable_list_before_a_repetition_fails_the_try(model: AirflowModel) -> None:
    limit_rate(model, retry_after=40)
    model.simulator.faults.add(Fault(method="GET", path="/call", status=503, times=5))
    slot = model.slot()
    assert "GET /call returned 503" in str(failure_of(slot, VapiTransientError))
    assert model.posts() == 1
    if model.has_store:
        assert recorded(slot) == "not sent"
    slot.until_done()
    model.assert_rang_once(slot)


@with_a_store
@pytest.mark.parametrize("point", ["store.set", "store.was_set"])
def test_repetition_that_cannot_be_recorded_is_not_sent(model: AirflowModel, point: str) -> None:
    limit_rate(model, retry_after=2)
    slot = model.slot()
    slept: list[str] = []

    def at(now: str) -> None:
        if now == "sleep":
            slept.append(now)
        if slept and now == point:
            raise ConnectionError("Airflow's API server is away")

    model.at = at
    assert "so this try placed no call" in str(failure_of(slot, VapiTransientError))
    assert model.posts() == 1
    model.at = ignore
    slot.until_done()
    model.assert_rang_once(slot)


@with_a_store
def test_429_that_cannot_be_recorded_leaves_doubt(model: AirflowModel) -> None:
    """The pause goes on, and what is recorded of it is the safe thing."""
    limit_rate(model, retry_after=2)
    slot = model.slot()
    states: list[str] = []

    def at(now: str) -> None:
        if now == "sleep":
            states.append(recorded(slot))
            model.at = ignore
        if now == "store.set" and model.posts() == 1 and not states:
            raise ConnectionError("Airflow's API server is away")

    model.at = at
    slot.attempt()
    assert states == ["sending"]
    model.assert_rang_once(slot)


@pytest.mark.parametrize("retry_after", [2, 40])
def test_stop_during_the_pause_sends_nothing_more(model: AirflowModel, retry_after: int) -> None:
    limit_rate(model, retry_after=retry_after)
    slot = model.slot(hang_up_on_kill=True)
    run = slot.prepare()
    assert slot.operator is not None
    once_at(model, "sleep", slot.operator.on_kill)
    with pytest.raises(VapiTransientError, match=r"was stopped, so it sends nothing more\.$"):
        run()
    assert model.posts() == 1
    assert searches(model) == 0
    if model.has_store:
        assert recorded(slot) == "not sent"
    slot.until_done()
    model.assert_rang_once(slot)


def test_log_says_why_it_is_sent_again(
    model: AirflowModel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Airflow's own logger writes past pytest.
    monkeypatch.setattr(VapiCreateCallOperator, "log", logging.getLogger("task"))
    limit_rate(model, times=2, retry_after=2)
    model.slot().attempt()
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert [message.partition(":")[0] for message in warnings] == ["POST /call returned 429"] * 2
    assert [text for text in warnings if not re.search(r"Retrying in (2\.\d|3\.0) s", text)] == []
    assert ["(attempt 1 failed)" in warnings[0], "(attempt 2 failed)" in warnings[1]] == [True, True]
