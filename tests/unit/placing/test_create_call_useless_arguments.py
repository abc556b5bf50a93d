# SPDX-License-Identifier: Apache-2.0
"""Arguments without effect with ``wait_for_completion=False``: given to the task itself, each one is an error."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow_model import ASSISTANT_ID, NUMBER, PHONE_NUMBER_ID, AirflowModel
from placing_helpers import render

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, TaskGroup
from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.operators.call import VapiCreateCallOperator

CALL: dict[str, Any] = {
    "assistant_id": ASSISTANT_ID,
    "phone_number_id": PHONE_NUMBER_ID,
    "customer": {"number": NUMBER},
}

USELESS: dict[str, tuple[str, Any]] = {
    "poll_interval": ("poll_interval", 30),
    "poll_interval as a timedelta": ("poll_interval", timedelta(seconds=30)),
    "poll_interval of 0": ("poll_interval", 0),
    "timeout": ("timeout", 60),
    "timeout as a timedelta": ("timeout", timedelta(hours=1)),
    "timeout of 0": ("timeout", 0),
    "timeout of 0 as a timedelta": ("timeout", timedelta(0)),
    "fail_on": ("fail_on", ["failed"]),
    "fail_on as a tuple": ("fail_on", ("failed", "no_answer")),
    "wait_for_analysis": ("wait_for_analysis", True),
    "analysis_timeout": ("analysis_timeout", 5),
    "analysis_timeout of 0": ("analysis_timeout", 0),
    "hang_up_on_timeout": ("hang_up_on_timeout", True),
}
EACH_USELESS = pytest.mark.parametrize(("name", "value"), USELESS.values(), ids=USELESS)

SOME = (
    "hang_up_on_timeout",
    "poll_interval of 0",
    "timeout as a timedelta",
    "fail_on",
    "wait_for_analysis",
    "analysis_timeout",
)
SOME_USELESS = pytest.mark.parametrize(("name", "value"), [USELESS[each] for each in SOME], ids=SOME)
"""For the other routes by which an argument reaches the task."""

DEFAULTS: dict[str, tuple[str, Any]] = {
    "deferrable": ("deferrable", False),
    "no deferrable": ("deferrable", None),
    "poll_interval": ("poll_interval", 15),
    "poll_interval as a float": ("poll_interval", 15.0),
    "poll_interval as a timedelta": ("poll_interval", timedelta(seconds=15)),
    "timeout": ("timeout", 43_200),
    "timeout as a timedelta": ("timeout", timedelta(hours=12)),
    "fail_on": ("fail_on", ()),
    "fail_on as a list": ("fail_on", []),
    "wait_for_analysis": ("wait_for_analysis", False),
    "analysis_timeout": ("analysis_timeout", 60),
    "analysis_timeout as a timedelta": ("analysis_timeout", timedelta(minutes=1)),
    "hang_up_on_timeout": ("hang_up_on_timeout", False),
}


@pytest.fixture
def has_store() -> bool:
    return True


def operator(**arguments: Any) -> VapiCreateCallOperator:
    usual = {"task_id": "call", "wait_for_completion": False}
    return VapiCreateCallOperator(**{**usual, **CALL, **arguments})


def refusal_of(**arguments: Any) -> str:
    with pytest.raises(VapiConfigurationError) as refusal:
        operator(**arguments)
    return str(refusal.value)


@EACH_USELESS
def test_error_names_task_and_argument(name: str, value: Any) -> None:
    assert refusal_of(**{name: value}) == f"Task 'call': {name} has no effect with wait_for_completion=False."


@SOME_USELESS
def test_waiting_task_accepts_the_argument(name: str, value: Any) -> None:
    assert getattr(operator(wait_for_completion=True, **{name: value}), name) == value


def test_several_are_named_together() -> None:
    assert refusal_of(timeout=60, hang_up_on_timeout=True, fail_on=["failed"]) == (
        "Task 'call': timeout and fail_on and hang_up_on_timeout have no effect with wait_for_completion=False."
    )


@pytest.mark.parametrize(("name", "value"), DEFAULTS.values(), ids=DEFAULTS)
def test_default_is_accepted(name: str, value: Any) -> None:
    operator(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("include", ["customer"]), ("hang_up_on_kill", True), ("deferrable", True)]
)
def test_argument_with_an_effect_is_accepted(name: str, value: Any) -> None:
    operator(**{name: value})


def test_default_deferrable_is_accepted(model: AirflowModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    assert operator().deferrable
    assert model.slot().attempt()["status"] == "queued"


# The default_args of a DAG, or of a task group, need not fit every task of it.


@SOME_USELESS
def test_default_args_of_the_dag_are_accepted(name: str, value: Any) -> None:
    with DAG("calls", schedule=None, default_args={name: value, "retries": 3}):
        assert getattr(operator(), name) == value
        # It says what the DAG says already.
        operator(task_id="same", **{name: value})


@SOME_USELESS
def test_default_args_of_a_task_group_are_accepted(name: str, value: Any) -> None:
    with (
        DAG("calls", schedule=None, default_args={name: "of the DAG"}),
        TaskGroup("outer", default_args={name: value}),
        TaskGroup("inner", default_args={"retries": 3}),
    ):
        assert getattr(operator(), name) == value


def test_default_args_may_give_a_span_in_another_form() -> None:
    with DAG("calls", schedule=None, default_args={"timeout": timedelta(hours=1)}):
        operator(timeout=3600)


def test_value_other_than_default_args_is_an_error() -> None:
    with DAG("calls", schedule=None, default_args={"timeout": 60}):
        assert "timeout has no effect" in refusal_of(timeout=90)
        assert "poll_interval has no effect" in refusal_of(task_id="other", poll_interval=5)


# A mapped operator is built in the worker.


def mapped(**arguments: Any) -> Any:
    usual = {"task_id": "call", "wait_for_completion": False, "assistant_id": ASSISTANT_ID}
    partial = VapiCreateCallOperator.partial(**{**usual, "phone_number_id": PHONE_NUMBER_ID, **arguments})
    return partial.expand(customer=[{"number": NUMBER}])


@SOME_USELESS
def test_useless_argument_fails_a_mapped_task(model: AirflowModel, name: str, value: Any) -> None:
    with DAG("calls", schedule=None):
        parsed = mapped(**{name: value})
    with pytest.raises(VapiConfigurationError, match=f"Task 'call': {name} has no effect") as refusal:
        render(parsed, model.slot(map_index=0))
    # Airflow does not retry after it, wherever in the task's process it is raised.
    assert isinstance(refusal.value, AirflowFailException)
    assert model.simulator.requests == []


@SOME_USELESS
def test_default_args_of_a_mapped_task_are_accepted(model: AirflowModel, name: str, value: Any) -> None:
    with DAG("calls", schedule=None, default_args={name: value}), TaskGroup("group"):
        parsed = mapped(wait_for_completion=False)
    running, context = render(parsed, model.slot(map_index=0))
    assert running.execute(context)["status"] == "queued"


def test_wrong_arguments_fail_a_mapped_task(model: AirflowModel) -> None:
    with DAG("calls", schedule=None):
        parsed = mapped(squad_id=ASSISTANT_ID)
    with pytest.raises(VapiConfigurationError, match="Task 'call': exactly one of") as refusal:
        render(parsed, model.slot(map_index=0))
    assert isinstance(refusal.value, AirflowFailException)
    assert model.simulator.requests == []
