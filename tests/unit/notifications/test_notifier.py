# SPDX-License-Identifier: Apache-2.0
"""Alerts by phone: what is said, that one key rings once, and that a failing alert changes nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from airflow.sdk import DAG
from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.notifications import alert
from vapi_provider.notifications.call import VapiNotifier
from vapi_provider.simulator import Fault, VapiSimulator

NUMBER = "+12025550143"
ARGUMENTS: dict[str, Any] = {
    "customer": {"number": NUMBER},
    "assistant_id": "0198a3f0-0000-7000-8000-000000000002",
    "phone_number_id": "0198a3f0-0000-7000-8000-000000000003",
}


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[VapiSimulator]:
    monkeypatch.setattr(alert, "_rung_at", {})
    with VapiSimulator() as running:
        monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", running.connection)
        yield running


@pytest.fixture
def context() -> dict[str, Any]:
    """The context of a task's callback."""
    return {"dag": DAG("sales"), "run_id": "run 1", "exception": ValueError("no rows")}


def said(simulator: VapiSimulator) -> list[str]:
    return [call["assistantOverrides"]["variableValues"]["message"] for call in simulator.calls.values()]


def forget() -> None:
    """Do as another process does."""
    alert._rung_at.clear()


def test_message_names_dag_and_exception(simulator: VapiSimulator, context: dict[str, Any]) -> None:
    VapiNotifier(**ARGUMENTS)(context)
    (call,) = simulator.calls.values()
    assert said(simulator) == ["sales failed: no rows"]
    assert call["customer"]["number"] == NUMBER
    assert call["name"].startswith("Airflow alert #")
    assert "firstMessage" not in call["assistantOverrides"]


def test_dag_callback_says_the_reason(simulator: VapiSimulator) -> None:
    VapiNotifier(**ARGUMENTS)({"dag": DAG("sales"), "run_id": "run 1", "reason": "task_failure"})
    assert said(simulator) == ["sales failed: task_failure"]


def test_deadline_alert_names_its_dag(simulator: VapiSimulator) -> None:
    VapiNotifier(**ARGUMENTS)({"dag_run": {"dag_id": "sales", "dag_run_id": "run 1"}, "deadline": {}})
    assert said(simulator) == ["sales failed: a deadline was missed"]


def test_message_is_spoken_first_if_asked_for(simulator: VapiSimulator, context: dict[str, Any]) -> None:
    overrides = {"variableValues": {"team": "data"}, "maxDurationSeconds": 60}
    VapiNotifier(**ARGUMENTS, speak_first=True, assistant_overrides=overrides)(context)
    (call,) = simulator.calls.values()
    assert call["assistantOverrides"]["firstMessage"] == "sales failed: no rows"
    assert call["assistantOverrides"]["maxDurationSeconds"] == 60
    assert call["assistantOverrides"]["variableValues"]["team"] == "data"


def test_squad_gets_the_message_as_a_variable(simulator: VapiSimulator, context: dict[str, Any]) -> None:
    arguments = {**ARGUMENTS, "assistant_id": None, "squad_id": "0198a3f0-0000-7000-8000-000000000004"}
    VapiNotifier(**arguments)(context)
    (call,) = simulator.calls.values()
    assert call["squadOverrides"]["variableValues"]["message"] == "sales failed: no rows"


def test_message_is_cut(simulator: VapiSimulator, context: dict[str, Any]) -> None:
    VapiNotifier(**ARGUMENTS, message="x" * 5_000)(context)
    assert said(simulator) == ["x" * 1_000]


def test_secrets_that_airflow_knows_are_not_spoken(simulator: VapiSimulator, context: dict[str, Any]) -> None:
    from airflow.sdk.log import mask_secret

    mask_secret("hunter2-hunter2")
    VapiNotifier(**ARGUMENTS)({**context, "exception": ValueError("password hunter2-hunter2 refused")})
    assert said(simulator) == ["sales failed: password *** refused"]


def test_many_failures_of_a_run_ring_once(simulator: VapiSimulator, context: dict[str, Any]) -> None:
    notifier = VapiNotifier(**ARGUMENTS)
    for number in range(50):
        notifier({**context, "exception": ValueError(number)})
    assert len(simulator.calls) == 1
    assert said(simulator) == ["sales failed: 0"]


def test_other_processes_find_the_call(simulator: VapiSimulator, context: dict[str, Any]) -> None:
    VapiNotifier(**ARGUMENTS)(context)
    forget()
    VapiNotifier(**ARGUMENTS)(context)
    assert len(simulator.calls) == 1


@pytest.mark.parametrize(
    "changes",
    [{"dedup_key": "another"}, {"customer": {"number": "+12025550144"}}, {"quiet_for": 0}],
    ids=["key", "number", "no-quiet-time"],
)
def test_other_alerts_ring(
    simulator: VapiSimulator, context: dict[str, Any], changes: dict[str, Any]
) -> None:
    VapiNotifier(**ARGUMENTS)(context)
    VapiNotifier(**{**ARGUMENTS, **changes})(context)
    assert len(simulator.calls) == 2


def test_it_dials_when_the_search_fails(simulator: VapiSimulator, context: dict[str, Any]) -> None:
    simulator.faults.add(Fault(method="GET", status=500))
    VapiNotifier(**ARGUMENTS)(context)
    VapiNotifier(**ARGUMENTS)(context)
    assert len(simulator.calls) == 1


def test_refused_alert_is_tried_by_the_next_failure(
    simulator: VapiSimulator, context: dict[str, Any]
) -> None:
    simulator.faults.add(Fault(method="POST", status=429))
    VapiNotifier(**ARGUMENTS)(context)
    assert simulator.calls == {}
    VapiNotifier(**ARGUMENTS)(context)
    assert len(simulator.calls) == 1


FAILING: dict[str, dict[str, Any]] = {
    "number": {"customer": {"number": "911"}},
    "number template": {"customer": {"number": "{{ 1 / 0 }}"}},
    "connection": {"vapi_conn_id": "absent"},
    "assistant template": {"assistant_id": "{{ nothing }}"},
}


@pytest.mark.parametrize("case", FAILING)
def test_failing_alert_is_logged_and_raises_nothing(
    simulator: VapiSimulator, context: dict[str, Any], caplog: pytest.LogCaptureFixture, case: str
) -> None:
    with caplog.at_level(logging.INFO):
        VapiNotifier(**{**ARGUMENTS, **FAILING[case]})(context)
        asyncio.run(VapiNotifier(**{**ARGUMENTS, **FAILING[case]}, context=context).async_notify(context))
    assert simulator.calls == {}
    assert "911" not in caplog.text


@pytest.mark.parametrize(
    "message", ["{{ 1 / 0 }}", "{{ exception.args[7].name }} {% if %}"], ids=["error", "syntax"]
)
def test_broken_message_becomes_a_fixed_sentence(
    simulator: VapiSimulator, context: dict[str, Any], message: str
) -> None:
    VapiNotifier(**ARGUMENTS, message=message)(context)
    assert said(simulator) == [
        "Something failed in Airflow. The message of this alert could not be rendered."
    ]


def test_unknown_names_render_as_nothing(simulator: VapiSimulator, context: dict[str, Any]) -> None:
    VapiNotifier(**ARGUMENTS, message="{{ dag.dag_id }}{{ ti.task_id }}{{ nothing.at.all }} failed")(context)
    assert said(simulator) == ["sales failed"]


def test_notifier_and_context_stay_as_they_are(simulator: VapiSimulator, context: dict[str, Any]) -> None:
    notifier = VapiNotifier(**ARGUMENTS)
    before = dict(context)
    notifier(context)
    assert context == before
    assert notifier.message == "{{ dag.dag_id }} failed: {{ exception | default(reason) }}"
    notifier({**context, "run_id": "run 2", "exception": ValueError("other")})
    assert said(simulator) == ["sales failed: no rows", "sales failed: other"]


def test_awaiting_it_places_the_call(simulator: VapiSimulator, context: dict[str, Any]) -> None:
    async def notify() -> None:
        await VapiNotifier(**ARGUMENTS, context=context)

    asyncio.run(notify())
    assert said(simulator) == ["sales failed: no rows"]


MISUSED: dict[str, dict[str, Any]] = {
    "exactly one of assistant_id": {"assistant_id": None},
    "speak_first has no effect": {
        "assistant_id": None,
        "squad_id": "0198a3f0-0000-7000-8000-000000000004",
        "speak_first": True,
    },
    "quiet_for must be": {"quiet_for": timedelta(minutes=-1)},
}


@pytest.mark.parametrize("problem", MISUSED)
def test_misuse_is_refused_when_the_dag_is_parsed(problem: str) -> None:
    with pytest.raises(VapiConfigurationError, match=problem):
        VapiNotifier(**{**ARGUMENTS, **MISUSED[problem]})
