# SPDX-License-Identifier: Apache-2.0
"""What an alert says, and that a failing one raises nothing."""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from airflow.sdk import DAG
from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.notifications.call import MAX_MESSAGE_LENGTH, VapiNotifier
from vapi_provider.simulator import Fault, VapiSimulator

NUMBER = "+12025550143"
SQUAD = {"assistant_id": None, "squad_id": "0198a3f0-0000-7000-8000-000000000004"}
FALLBACK = "Something failed in Airflow. The message of this alert could not be rendered."

MakeNotifier = Callable[..., VapiNotifier]
Context = dict[str, Any]


def messages(simulator: VapiSimulator) -> list[str]:
    return [call["assistantOverrides"]["variableValues"]["message"] for call in simulator.calls.values()]


# What it says


def test_message_names_dag_and_exception(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context
) -> None:
    notifier()(context)
    (call,) = simulator.calls.values()
    assert messages(simulator) == ["sales failed: no rows"]
    assert call["customer"]["number"] == NUMBER
    assert call["name"].startswith("Airflow alert #")
    assert "firstMessage" not in call["assistantOverrides"]


@pytest.mark.parametrize(
    ("context", "message"),
    [
        pytest.param(
            {"dag": DAG("sales"), "run_id": "run 1", "reason": "task_failure"},
            "sales failed: task_failure",
            id="dag",
        ),
        pytest.param(
            {"dag": DAG("sales"), "run_id": "run 1"}, "sales failed: see its logs", id="killed-task"
        ),
        pytest.param(
            {"dag_run": {"dag_id": "sales", "dag_run_id": "run 1"}, "deadline": {"deadline_time": "soon"}},
            "sales failed: it missed a deadline",
            id="deadline",
        ),
        pytest.param({}, "failed: see its logs", id="nothing"),
    ],
)
def test_default_message_suits_every_callback(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context, message: str
) -> None:
    notifier()(context)
    assert [text.strip() for text in messages(simulator)] == [message]


def test_message_is_spoken_first_if_asked_for(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context
) -> None:
    overrides = {"variableValues": {"team": "data"}, "maxDurationSeconds": 60}
    notifier(speak_first=True, assistant_overrides=overrides)(context)
    (call,) = simulator.calls.values()
    assert call["assistantOverrides"]["firstMessage"] == "sales failed: no rows"
    assert call["assistantOverrides"]["maxDurationSeconds"] == 60
    assert call["assistantOverrides"]["variableValues"]["team"] == "data"


def test_squad_gets_the_message_as_a_variable(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context
) -> None:
    notifier(**SQUAD)(context)
    (call,) = simulator.calls.values()
    assert call["squadOverrides"]["variableValues"]["message"] == "sales failed: no rows"


def test_message_is_cut(simulator: VapiSimulator, notifier: MakeNotifier, context: Context) -> None:
    notifier(message="x" * 5_000)(context)
    assert messages(simulator) == ["x" * MAX_MESSAGE_LENGTH]


def test_long_message_is_cut_before_it_is_searched_for_secrets(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.providers.common.compat import sdk

    redact, lengths = sdk.redact, []

    def measure(text: str) -> Any:
        lengths.append(len(text))
        return redact(text)

    monkeypatch.setattr(sdk, "redact", measure, raising=False)
    notifier(message="x" * 1_000_000)(context)
    assert lengths == [20_000]


def test_context_may_be_passed_by_name(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context
) -> None:
    notifier()(context=context)
    assert messages(simulator) == ["sales failed: no rows"]


def test_control_characters_are_not_spoken(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context
) -> None:
    notifier()({**context, "exception": ValueError("\x1b[31mno\x00\r\n\trows\x1b[0m \ud800 left\x9f")})
    assert messages(simulator) == ["sales failed:  no rows    left"]


def test_secrets_known_to_airflow_are_not_spoken(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context
) -> None:
    try:
        from airflow.sdk.log import mask_secret
    except ImportError:
        # Before Airflow 3.0.5.
        from airflow.sdk.execution_time.secrets_masker import mask_secret

    mask_secret("hunter2-hunter2")
    notifier()({**context, "exception": ValueError("password hunter2-hunter2 refused")})
    assert messages(simulator) == ["sales failed: password *** refused"]


def test_unknown_names_render_as_empty(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context
) -> None:
    notifier(message="{{ dag.dag_id }}{{ ti.task_id }}{{ nothing.at.all }} failed")(context)
    assert messages(simulator) == ["sales failed"]


@pytest.mark.parametrize(
    "message", ["{{ 1 / 0 }}", "{% if %}", "{{ nothing }}", "{{ none }}", "{{ '\\0' }}", "{{ exception }}"]
)
def test_broken_message_becomes_a_fixed_sentence(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context, message: str
) -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    notifier(message=message)({**context, "exception": SilentError()})
    assert messages(simulator) == [FALLBACK]


def test_broken_template_environment_of_the_dag_rings(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context
) -> None:
    dag = DAG("broken", schedule=None, jinja_environment_kwargs={"extensions": ["no.such.Extension"]})
    notifier()({**context, "dag": dag})
    assert len(simulator.calls) == 1


def test_number_stays_text_in_a_native_dag(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context
) -> None:
    dag = DAG("sales", render_template_as_native_obj=True)
    notifier(customer={"number": "{{ '+1202' }}5550143"}, message="{{ 404 }}")({**context, "dag": dag})
    (call,) = simulator.calls.values()
    assert call["customer"]["number"] == NUMBER
    assert messages(simulator) == ["404"]


def test_macros_and_filters_of_the_dag_are_known(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context
) -> None:
    dag = DAG("sales", user_defined_macros={"team": "data"}, user_defined_filters={"loud": str.upper})
    notifier(message="{{ team | loud }}")({**context, "dag": dag})
    assert messages(simulator) == ["DATA"]


def test_notifier_and_context_stay_as_they_are(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context
) -> None:
    alert = notifier()
    before = dict(context)
    alert(context)
    assert context == before
    alert({**context, "run_id": "run 2", "exception": ValueError("other")})
    assert messages(simulator) == ["sales failed: no rows", "sales failed: other"]


def test_call_without_a_context_uses_its_own(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context
) -> None:
    notifier(context=context)()
    assert messages(simulator) == ["sales failed: no rows"]


def test_copied_notifier_works(simulator: VapiSimulator, notifier: MakeNotifier, context: Context) -> None:
    # Airflow copies the default_args of a DAG for each task.
    copy.deepcopy(notifier())(context)
    assert messages(simulator) == ["sales failed: no rows"]


def test_notifiers_that_share_a_context_do_not_mix(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context
) -> None:
    for number, message in ((NUMBER, "one"), ("+12025550144", "two")):
        notifier(customer={"number": number}, message=message)(context)
    calls = list(simulator.calls.values())
    assert [call["customer"]["number"] for call in calls] == [NUMBER, "+12025550144"]
    assert messages(simulator) == ["one", "two"]


# Asynchronously


def test_awaiting_it_places_the_call(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context
) -> None:
    async def notify() -> None:
        await notifier(context=context)

    asyncio.run(notify())
    assert messages(simulator) == ["sales failed: no rows"]


def deadline_trigger(context: Context, **arguments: Any) -> Any:
    """Return Airflow's trigger for a missed deadline, as the versions from 3.1 on have it."""
    try:
        from airflow.sdk import AsyncCallback
        from airflow.triggers.callback import CallbackTrigger
    except ImportError:
        pytest.importorskip("airflow.triggers.deadline", reason="requires Airflow 3.1")
        from airflow.sdk.definitions.deadline import AsyncCallback  # type: ignore[no-redef,attr-defined]
        from airflow.triggers.deadline import DeadlineCallbackTrigger as CallbackTrigger  # type: ignore

    callback = AsyncCallback(VapiNotifier, kwargs=arguments)
    return CallbackTrigger(callback.path, {**(callback.kwargs or {}), "context": context})


def test_missed_deadline_places_the_call_in_the_triggerer(
    simulator: VapiSimulator, notifier: MakeNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {name: getattr(notifier(), name) for name in ("assistant_id", "phone_number_id")}
    context = {"dag_run": {"dag_id": "sales", "dag_run_id": "run 1"}, "deadline": {"deadline_time": "soon"}}
    # Airflow gives a deadline no ``var``.
    monkeypatch.setenv("AIRFLOW_VAR_ON_CALL", "+12025550143")
    customer = {"number": "{{ var.value.on_call }}"}
    trigger = deadline_trigger(context, customer=customer, **arguments, quiet_for=timedelta(minutes=5))

    async def run() -> list[str]:
        return [str(event.payload["state"]) async for event in trigger.run()]

    assert asyncio.run(run())[-1].lower().endswith("success")
    assert messages(simulator) == ["sales failed: it missed a deadline"]
    assert [call["customer"]["number"] for call in simulator.calls.values()] == ["+12025550143"]


def test_template_that_asks_the_triggerer_is_answered(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's triggerer reads a Variable in its event loop, for a thread that waits."""
    loops = []

    async def answer() -> str:
        loops.append(asyncio.get_running_loop())
        return "+12025550143"

    def ask(*_: Any) -> str:
        return async_to_sync(answer)()

    monkeypatch.setattr("airflow.sdk.execution_time.context._get_variable", ask)

    async def notify() -> None:
        await notifier(customer={"number": "{{ var.value.on_call }}"}).async_notify(context)
        assert loops == [asyncio.get_running_loop()]

    asyncio.run(notify())
    assert [call["customer"]["number"] for call in simulator.calls.values()] == ["+12025550143"]


def test_event_loop_is_not_blocked(
    simulator: VapiSimulator,
    notifier: MakeNotifier,
    context: Context,
    held_responses: Any,
) -> None:
    simulator.faults.add(Fault(method="POST", delay=60))

    async def notify() -> None:
        calling = asyncio.ensure_future(notifier().async_notify(context))
        ends_at = time.monotonic() + 60
        while not simulator.calls:
            # If the request ran in the loop, it would end before this line.
            await asyncio.sleep(0.005)
            assert time.monotonic() < ends_at
        assert not calling.done()
        held_responses.let_all_go()
        await calling

    asyncio.run(notify())
    assert messages(simulator) == ["sales failed: no rows"]


# What fails

FAILING: dict[str, tuple[dict[str, Any], str]] = {
    "number": ({"customer": {"number": "911"}}, "is not in E.164"),
    "number-template": ({"customer": {"number": "{{ 1 / 0 }}"}}, "customer cannot be rendered (ZeroDivision"),
    "empty-number": ({"customer": {"number": "{{ nothing }}"}}, "must have either a number or a sip_uri"),
    "no-connection": ({"vapi_conn_id": "absent"}, "absent"),
    "empty-assistant": ({"assistant_id": "{{ nothing }}"}, "assistant_id must be a non-empty string"),
    "overrides": ({"assistant_overrides": "{{ 'text' }}"}, "assistant_overrides must be a dictionary"),
    "variables": ({"assistant_overrides": {"variableValues": [1]}}, "must be an object; got list"),
}


@pytest.mark.parametrize("case", FAILING)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_unusable_alert_is_logged_and_raises_nothing(
    simulator: VapiSimulator,
    notifier: MakeNotifier,
    context: Context,
    caplog: pytest.LogCaptureFixture,
    case: str,
    is_async: bool,
) -> None:
    changes, problem = FAILING[case]
    alert = notifier(**changes, context=context)
    with caplog.at_level(logging.INFO):
        if is_async:
            asyncio.run(alert.async_notify(context))
        else:
            alert(context)
    assert simulator.requests == []
    (record,) = (record for record in caplog.records if record.name == "notifier")
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("The alert call failed. ")
    assert problem in record.getMessage()
    assert "911" not in caplog.text


@pytest.mark.parametrize("status", [400, 401, 429, 500, 502])
def test_refusal_is_logged_without_number_and_message(
    simulator: VapiSimulator,
    notifier: MakeNotifier,
    context: Context,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    body = f'{{"message": "no call to {NUMBER}: sales failed: no rows", "statusCode": {status}}}'
    simulator.faults.add(Fault(method="POST", status=status, body=body))
    with caplog.at_level(logging.DEBUG, logger="notifier"):
        notifier()(context)
    assert [request.method for request in simulator.requests] == ["GET", "POST"]
    assert str(status) in caplog.text
    assert NUMBER[2:] not in caplog.text
    assert "no rows" not in caplog.text


def test_log_shows_only_the_end_of_the_number(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="notifier"):
        notifier()(context)
    assert "to ***43 for alert 'sales/run 1'" in caplog.text
    assert NUMBER[2:] not in caplog.text


def test_log_shows_no_number_of_the_key(
    simulator: VapiSimulator, notifier: MakeNotifier, context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="notifier"):
        for _ in range(2):
            notifier(dedup_key="2026-11-27T00:00:00.123456 of +12025550177")(context)
    assert caplog.text.count("for alert '2026-11-27T00:00:00.123456 of +***77'") == 2
    assert "2025550177" not in caplog.text


MISUSED: dict[str, dict[str, Any]] = {
    "seconds from 0; got '15'": {"quiet_for": "15"},
    "seconds from 0; got nan": {"quiet_for": math.nan},
    "exactly one of assistant_id": {"assistant_id": None},
    "speak_first has no effect": {**SQUAD, "speak_first": True},
    "assistant_overrides requires an assistant": {**SQUAD, "assistant_overrides": {"voice": {}}},
    "quiet_for must be": {"quiet_for": timedelta(minutes=-1)},
    r"dedup_key must be a non-empty string; got 'None' \(NoneType\)": {"dedup_key": None},
    r"dedup_key must be a non-empty string; got 'None' \(str\)": {"dedup_key": "None"},
    r"dedup_key must be a non-empty string; got ' ' \(str\)": {"dedup_key": " "},
    r"message must be a non-empty string; got 'None' \(NoneType\)": {"message": None},
}


@pytest.mark.parametrize("problem", MISUSED)
def test_misuse_is_refused_at_parse_time(notifier: MakeNotifier, problem: str) -> None:
    with pytest.raises(VapiConfigurationError, match=problem):
        notifier(**MISUSED[problem])


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_misuse_by_a_deadline_is_logged_without_the_arguments(
    simulator: VapiSimulator,
    notifier: MakeNotifier,
    context: Context,
    caplog: pytest.LogCaptureFixture,
    is_async: bool,
) -> None:
    # If its constructor raised, Airflow would log all arguments.
    overrides = {"variableValues": {"said": "in confidence"}}
    alert = notifier(assistant_id=None, assistant_overrides=overrides, context=context)
    asyncio.run(alert.async_notify(context)) if is_async else alert()
    assert simulator.requests == []
    assert "The alert call failed. VapiNotifier: exactly one of assistant_id" in caplog.text
    assert "in confidence" not in caplog.text
