# SPDX-License-Identifier: Apache-2.0
"""One call for all alerts with the same key, in this process and others, within a bounded time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from late_responses import LATE

from vapi_provider.notifications import alert
from vapi_provider.notifications.call import VapiNotifier
from vapi_provider.simulator import Fault, ManualClock, VapiSimulator

MakeNotifier = Callable[..., VapiNotifier]
Context = dict[str, Any]


def sent(simulator: VapiSimulator) -> list[str]:
    return [request.method for request in simulator.requests]


@pytest.mark.parametrize("lag", [0, 60], ids=["list", "lagging-list"])
@pytest.mark.parametrize("vapi_options", [{"list_lag": 60}], ids=[""])
def test_500_failed_tasks_ring_once(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context, lag: float
) -> None:
    notify = notifier()
    simulator.clock.advance(lag)  # type: ignore[attr-defined]
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda number: notify({**context, "exception": ValueError(number)}), range(500)))
    assert len(simulator.calls) == 1
    assert sent(simulator) == ["GET", "POST"]


def test_async_notifiers_ring_once(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context
) -> None:
    async def notify() -> None:
        await asyncio.gather(*(notifier().async_notify(context) for _ in range(50)))

    asyncio.run(notify())
    assert len(simulator.calls) == 1


def test_other_processes_find_the_call(
    simulator: VapiSimulator,
    notifier: MakeNotifier,
    context: Context,
    another_process: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    notifier()(context)
    another_process()
    with caplog.at_level(logging.INFO, logger="notifier"):
        notifier()(context)
        notifier()(context)
    assert len(simulator.calls) == 1
    assert sent(simulator) == ["GET", "POST", "GET"]
    assert "A call for alert 'sales/run 1' was placed 0 s ago; not calling again." in caplog.text


@pytest.mark.parametrize(
    "changes",
    [{"dedup_key": "another"}, {"customer": {"number": "+12025550144"}}, {"quiet_for": 0}],
    ids=["key", "number", "no-quiet-time"],
)
@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["here", "elsewhere"])
def test_other_alerts_ring(
    simulator: VapiSimulator,
    notifier: MakeNotifier,
    context: Context,
    another_process: Callable[[], None],
    changes: dict[str, Any],
    is_elsewhere: bool,
) -> None:
    notifier()(context)
    if is_elsewhere:
        simulator.clock.advance(1)  # type: ignore[attr-defined]
        another_process()
    notifier(**changes)(context)
    assert len(simulator.calls) == 2


@pytest.mark.parametrize("broken", ["{{ 1 / 0 }}", "{{ nothing }}", "{{ none }}", "{{ '\\0' }}"])
def test_broken_key_becomes_the_default_key(
    simulator: VapiSimulator,
    notifier: MakeNotifier,
    context: Context,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    notifier(dedup_key=broken)(context)
    assert "dedup_key cannot be rendered" in caplog.text
    notifier()(context)
    notifier(dedup_key=broken)({**context, "run_id": "run 2"})
    assert len(simulator.calls) == 2


# The quiet time


@pytest.mark.parametrize("off", [timedelta(), timedelta(minutes=50), timedelta(minutes=-50)], ids=str)
def test_quiet_time_is_measured_by_vapis_clock(
    set_connection: Callable[..., None],
    notifier: MakeNotifier,
    context: Context,
    another_process: Callable[[], None],
    off: timedelta,
) -> None:
    clock = ManualClock(datetime.now(timezone.utc) + off)
    with VapiSimulator(clock=clock) as simulator:
        set_connection(simulator)
        for age, calls in ((0, 1), (895, 1), (10, 2)):
            clock.advance(age)
            another_process()
            notifier()(context)
            assert len(simulator.calls) == calls


def test_found_call_is_quiet_from_its_own_time(
    simulator: VapiSimulator,
    notifier: MakeNotifier,
    context: Context,
    another_process: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notifier()(context)
    another_process()
    simulator.clock.advance(800)  # type: ignore[attr-defined]
    notifier()(context)
    # Two minutes later.
    earlier = {token: dialled._replace(at=dialled.at - 120) for token, dialled in alert._dialled.items()}
    monkeypatch.setattr(alert, "_dialled", earlier)
    simulator.clock.advance(120)  # type: ignore[attr-defined]
    notifier()(context)
    assert len(simulator.calls) == 2


def test_memory_forgets_alerts_that_are_no_longer_quiet(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, quiet_for in enumerate((60, 60, 900)):
        notifier(dedup_key=f"key {number}", quiet_for=quiet_for)(context)
    earlier = {token: dialled._replace(at=dialled.at - 120) for token, dialled in alert._dialled.items()}
    monkeypatch.setattr(alert, "_dialled", earlier)
    notifier(dedup_key="key 3")(context)
    assert sorted(dialled.quiet_seconds for dialled in alert._dialled.values()) == [900, 900]


@pytest.mark.parametrize("quiet_for", [1e12, timedelta.max], ids=["seconds", "timedelta"])
def test_quiet_time_may_be_for_ever(
    simulator: VapiSimulator,
    notifier: MakeNotifier,
    context: Context,
    another_process: Callable[[], None],
    quiet_for: Any,
) -> None:
    notifier(quiet_for=quiet_for)(context)
    another_process()
    notifier(quiet_for=quiet_for)(context)
    assert len(simulator.calls) == 1


def test_call_that_was_never_dialled_does_not_count(
    simulator: VapiSimulator,
    notifier: MakeNotifier,
    context: Context,
    another_process: Callable[[], None],
) -> None:
    notifier()(context)
    (call_id,) = simulator.calls
    reason = "call.start.error-subscription-concurrency-limit-reached"
    simulator.end_call(call_id, ended_reason=reason)
    another_process()
    notifier()(context)
    assert len(simulator.calls) == 2


# Failures


@pytest.mark.parametrize(
    "fault",
    [{"status": 500}, {"status": 401}, {"status": 200, "body": "<html>"}, {"reset": "before"}],
    ids=["500", "401", "html", "reset"],
)
def test_failed_search_dials_once_per_process(
    simulator: VapiSimulator,
    notifier: MakeNotifier,
    context: Context,
    caplog: pytest.LogCaptureFixture,
    fault: dict[str, Any],
) -> None:
    simulator.faults.add(Fault(method="GET", times=None, **fault))
    notifier()(context)
    notifier()(context)
    assert sent(simulator) == ["GET", "POST"]
    assert "Could not check whether this alert has already called, so it calls now." in caplog.text


@pytest.mark.parametrize("status", [400, 429])
def test_refused_alert_is_tried_by_the_next_failure(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context, status: int
) -> None:
    simulator.faults.add(Fault(method="POST", status=status))
    notifier()(context)
    assert simulator.calls == {}
    notifier()(context)
    assert len(simulator.calls) == 1


@pytest.mark.parametrize("fault", [{"status": 502}, {"reset": "before"}, {"headers": LATE}], ids=str)
@pytest.mark.usefixtures("late_responses_time_out")
def test_doubt_is_not_resolved_by_dialling_again(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context, fault: dict[str, Any]
) -> None:
    simulator.faults.add(Fault(method="POST", effect=True, **fault))
    notifier()(context)
    notifier()(context)
    assert sent(simulator) == ["GET", "POST"]


# Time limits


def test_requests_have_ten_seconds_each_and_no_retry(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests

    limits = []
    request = requests.Session.request

    def record(session: Any, *args: Any, **named: Any) -> Any:
        limits.append(named["timeout"])
        return request(session, *args, **named)

    monkeypatch.setattr(requests.Session, "request", record)
    simulator.faults.add(Fault(times=None, status=503))
    notifier()(context)
    assert limits == [10.0, 10.0]


def test_long_list_is_not_searched_for_ever(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        simulator.add_call(
            body={
                "assistantId": "0198a3f0-0000-7000-8000-000000000002",
                "phoneNumberId": "0198a3f0-0000-7000-8000-000000000003",
            }
        )
    monkeypatch.setattr(alert, "PAGE_SIZE", 1)
    monkeypatch.setattr(alert, "SEARCH_SECONDS", 0.0)
    notifier()(context)
    assert sent(simulator)[-1] == "POST"
    assert sent(simulator).count("GET") <= 1


def test_search_reads_only_the_calls_of_this_assistant(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context
) -> None:
    for _ in range(250):
        simulator.add_call(status="ended", body={"assistantId": "0198a3f0-0000-7000-8000-000000000009"})
    notifier()(context)
    assert sent(simulator) == ["GET", "POST"]


def test_defect_of_the_search_does_not_silence_the_alert(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("said in confidence")

    monkeypatch.setattr(alert, "newest_first", fail)
    notifier()(context)
    assert len(simulator.calls) == 1
