# SPDX-License-Identifier: Apache-2.0
"""When VapiCreateCallOperator checks its arguments, on each route; each check has its test with ``build_request``."""

from __future__ import annotations

import inspect
import json
import math
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow_model import ASSISTANT_ID, NUMBER, PHONE_NUMBER_ID, AirflowModel
from placing_helpers import Later, rendered

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, task
from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.models.outcome import CallOutcome
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.sensors.call import VapiCallSensor

SECRET = "a secret of the script"
PERSON = {"number": NUMBER}
SQUAD_ID = "0198a3f0-0000-7000-8000-0000000000b1"
ASSISTANT = {"firstMessage": SECRET}
SQUAD = {"members": [{"assistantId": ASSISTANT_ID}]}
BASE: dict[str, Any] = {
    "assistant_id": ASSISTANT_ID,
    "phone_number_id": PHONE_NUMBER_ID,
    "customer": PERSON,
}
LATER = datetime(2040, 1, 1, 10, tzinfo=timezone.utc)


@pytest.fixture
def has_store() -> bool:
    return True


def operator(**arguments: Any) -> VapiCreateCallOperator:
    return VapiCreateCallOperator(task_id="call", **{**BASE, **arguments})


def case(message: str, case_id: str, **arguments: Any) -> Any:
    return pytest.param(arguments, message, id=case_id)


# When the DAG is parsed


WRONG_ARGUMENTS = [
    case("exactly one of .* got none of them", "no-talker", assistant_id=None),
    case("exactly one of .* got assistant_id and assistant", "two-talkers", assistant=ASSISTANT),
    case("exactly one of .* got assistant_id and squad", "squad-in-extra_body", extra_body={"squad": SQUAD}),
    case("assistant_overrides requires", "overrides", assistant_id=None, squad_id=SQUAD_ID, assistant_overrides=ASSISTANT),
    case("either phone_number_id", "no-phone-number", phone_number_id=None),
    case("either customer", "two-customers", extra_body={"customerId": "c-1"}),
]  # fmt: skip
"""Arguments that are missing or exclude each other, whatever their values are."""


@pytest.mark.parametrize(("arguments", "message"), WRONG_ARGUMENTS)
def test_dag_with_wrong_arguments_is_not_parsed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(VapiConfigurationError, match=f"^Task 'call': .*{message}") as refusal:
        operator(**arguments)
    assert isinstance(refusal.value, ValueError)
    # The reader of an import error fears no call.
    assert "Nothing was sent" not in str(refusal.value)
    assert SECRET not in str(refusal.value)


TEMPLATES = ["{{ params.x }}", "{% if ds %}x{% endif %}", "text {# comment #}", Later("x")]
UNKNOWN = object()
"""Stands for a template in the cases below."""

WRONG_WITH_TEMPLATES = [
    case("exactly one of", "two-talkers", extra_body={"squad": {"members": [UNKNOWN]}}),
    case("exactly one of", "two-templates", squad_id=UNKNOWN),
    case("exactly one of", "no-talker", assistant_id=None, extra_body={"assistantVersion": UNKNOWN}),
    case("assistant_overrides requires", "overrides-and-squad", assistant_id=None, squad_id=UNKNOWN,
         assistant_overrides=UNKNOWN),
    case("either phone_number_id", "no-phone-number", phone_number_id=None, extra_body={"transport": UNKNOWN}),
    case("either phone_number_id", "two-phone-numbers", extra_body={"phoneNumber": UNKNOWN}),
    case("either customer", "no-customer", customer=None, extra_body={"transport": UNKNOWN}),
    case("either customer", "two-customers", customer=UNKNOWN, extra_body={"customerId": UNKNOWN}),
]  # fmt: skip


def fill_in(value: Any, template: Any) -> Any:
    if isinstance(value, dict):
        return {name: fill_in(part, template) for name, part in value.items()}
    if isinstance(value, list):
        return [fill_in(part, template) for part in value]
    return template if value is UNKNOWN else value


def with_templates(cases: list[Any]) -> list[Any]:
    """Fill a template into each case, each time one of another kind."""
    return [
        pytest.param(
            fill_in(case.values[0], TEMPLATES[number % len(TEMPLATES)]), *case.values[1:], id=case.id
        )
        for number, case in enumerate(cases)
    ]


@pytest.mark.parametrize(("arguments", "message"), with_templates(WRONG_WITH_TEMPLATES))
def test_which_arguments_are_given_is_checked_with_templates(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(VapiConfigurationError, match=message):
        operator(**arguments)


PARSED = [
    pytest.param({name: UNKNOWN for name in ("assistant_id", "phone_number_id", "customer", "name")}, id="whole"),
    pytest.param({"customer": {"number": UNKNOWN, "sip_uri": UNKNOWN}}, id="number-or-sip-uri"),
    pytest.param({"customer": {"number": NUMBER, "name": UNKNOWN}}, id="customer-name"),
    pytest.param({"schedule_plan": {"earliest_at": UNKNOWN, "latest_at": LATER}}, id="earliest"),
    pytest.param({"schedule_plan": UNKNOWN}, id="plan"),
    pytest.param({"assistant_overrides": {"variableValues": UNKNOWN}}, id="values"),
    pytest.param({"assistant_overrides": {"metadata": [{"x": UNKNOWN}]}}, id="deep"),
    pytest.param({"assistant_id": None, "extra_body": UNKNOWN}, id="extra_body"),
    pytest.param({"assistant_id": None, "extra_body": {"squad": UNKNOWN, "squadOverrides": UNKNOWN}}, id="squad"),
    pytest.param({"phone_number_id": None, "extra_body": {"phoneNumber": UNKNOWN}}, id="phone-number"),
]  # fmt: skip


@pytest.mark.parametrize("arguments", with_templates(PARSED))
def test_dag_with_templates_is_parsed(arguments: dict[str, Any]) -> None:
    operator(**arguments)


def test_dag_with_references_to_other_tasks_is_parsed() -> None:
    with DAG("calls", schedule=None) as dag:

        @task
        def anything() -> Any: ...

        coming: Any = anything()
        VapiCreateCallOperator(
            task_id="whole",
            assistant=coming,
            phone_number_id=coming,
            customer=coming,
            name=coming,
            assistant_overrides=coming,
            schedule_plan=coming,
            extra_body=coming,
        )
        VapiCreateCallOperator(
            task_id="parts",
            assistant_id=coming["assistant"],
            phone_number_id=coming["from"],
            customer={"number": coming["number"], "name": coming["name"]},
            assistant_overrides={"variableValues": {"first_name": coming["name"]}},
            schedule_plan={"earliest_at": coming["at"]},
            extra_body={"transport": {"x": [coming]}},
        )
        VapiCreateCallOperator.partial(task_id="mapped", assistant_id="a", phone_number_id="p").expand(
            customer=coming
        )
    # They run after it, so Airflow has seen the references, too.
    assert dag.get_task("anything").downstream_task_ids == {"whole", "parts", "mapped"}


def test_dag_with_a_function_as_an_argument_is_parsed() -> None:
    made = operator(customer=lambda context, jinja_env: PERSON)
    assert callable(made.customer)


def test_argument_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="metadata"):
        operator(metadata={"x": 1})


# When the task runs


WRONG_VALUES = [
    case("customer's number .* E.164", "number", customer={"number": "+1-202-555-0143"}),
    case("customer must be a dictionary.*got list", "customer-list", customer=[PERSON]),
    case("name has 31 characters; the limit is 30", "name-long", name="n" * 31),
    case("schedule_plan's earliest_at must be a datetime", "naive", schedule_plan={"earliest_at": datetime(2040, 1, 1)}),
    case("extra_body must not contain customers", "customers", extra_body={"customers": [PERSON]}),
    case("assistant_overrides cannot be written as JSON", "overrides-nan",
         assistant_overrides={"variableValues": {"secret": SECRET, "x": math.nan}}),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "_message"), WRONG_VALUES)
def test_values_are_not_checked_when_a_dag_is_parsed(arguments: dict[str, Any], _message: str) -> None:
    operator(**arguments)


def run_refused(model: AirflowModel, arguments: dict[str, Any], message: str) -> None:
    """Run a task with wrong arguments, and assert that it fails without a retry and has sent nothing."""
    running, context = rendered(model.slot(), **arguments)
    with pytest.raises(VapiConfigurationError, match=f"^{message}") as refusal:
        running.execute(context)
    assert isinstance(refusal.value, AirflowFailException)
    assert "Nothing was sent" in str(refusal.value)
    for secret in (SECRET, NUMBER, "2025550143", "202-555"):
        assert secret not in str(refusal.value).replace("such as +12025550143", "")
    assert model.simulator.requests == []


@pytest.mark.parametrize(("arguments", "message"), WRONG_VALUES)
def test_wrong_value_is_refused_when_the_task_runs(
    model: AirflowModel, arguments: dict[str, Any], message: str
) -> None:
    run_refused(model, {"name": None, **arguments}, message)


@pytest.mark.parametrize(("arguments", "message"), [*WRONG_ARGUMENTS[:3], *WRONG_VALUES[:3]])
def test_wrong_value_from_upstream_is_refused(
    model: AirflowModel, arguments: dict[str, Any], message: str
) -> None:
    # Which fields a later extra_body has, no parser can know.
    given = {"name": None, **BASE, "extra_body": None, **arguments}
    run_refused(model, {name: Later(value) for name, value in given.items()}, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        case("customer's number \\*\\*\\*43 is not in E.164", "number", customer={"number": "{{ '2025550143' }}"}),
        case("customer must have either", "customer-both",
             customer={"number": NUMBER, "sip_uri": "{{ 'sip:ada@example.com' }}"}),
        case("customer must be a dictionary.*got str.*renders to a string", "customer-text", customer="{{ {'number': 5} }}"),
        case("customer's number_e164_check_enabled must be a bool; got str", "customer-flag",
             customer={"number": NUMBER, "number_e164_check_enabled": "{{ false }}"}),
        case("schedule_plan's latest_at must be after", "latest",
             schedule_plan={"earliest_at": LATER, "latest_at": "{{ '2039-01-01T00:00Z' }}"}),
        case("either phone_number_id", "no-phone-number", phone_number_id=None, extra_body=Later({"transport": {}})),
    ],
)  # fmt: skip
def test_rendered_values_are_checked(model: AirflowModel, arguments: dict[str, Any], message: str) -> None:
    run_refused(model, {"name": None, **arguments}, message)


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        pytest.param({"customer": {"number": "{{ '' }}"}}, "customer.number", id="number-empty"),
        pytest.param({"customer": {"number": NUMBER, "name": "{{ none }}"}}, "customer.name", id="customer-none"),
        pytest.param({"name": "{{ none }}"}, "name", id="name-none"),
        pytest.param({"assistant_id": "{{ none }}"}, "assistant_id", id="assistant-none"),
    ],
)  # fmt: skip
def test_template_that_renders_to_nothing_is_refused(
    model: AirflowModel, arguments: dict[str, Any], place: str
) -> None:
    run_refused(
        model, {"name": None, **arguments}, f"{place}: a template, or an expression in it, rendered to"
    )


def test_native_template_of_a_number_is_refused(model: AirflowModel) -> None:
    running, context = rendered(model.slot(), native=True, customer={"number": "{{ '+12025550143' }}"})
    with pytest.raises(
        VapiConfigurationError, match="number must be a string; got int.*render_template_as_native_obj"
    ):
        running.execute(context)
    assert model.simulator.requests == []


# How it waits


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"fail_on": "failed"}, id="lone-outcome"),
        pytest.param({"include": ["recording"]}, id="unknown-include"),
        pytest.param({"analysis_timeout": -1}, id="analysis-negative"),
    ],
)
def test_how_to_wait_is_checked_as_in_the_sensor(model: AirflowModel, arguments: dict[str, Any]) -> None:
    sensor = VapiCallSensor(task_id="wait", call_id=ASSISTANT_ID, **arguments)
    with pytest.raises(VapiConfigurationError, match=next(iter(arguments))) as of_sensor:
        sensor.execute(model.slot().context())
    slot = model.slot(wait_for_completion=True, **arguments)
    with pytest.raises(VapiConfigurationError) as of_operator:
        slot.attempt()
    assert str(of_operator.value) == str(of_sensor.value)
    assert model.simulator.requests == []


def test_unknown_include_is_refused_without_a_wait(model: AirflowModel) -> None:
    slot = model.slot(include=["recording"])
    with pytest.raises(VapiConfigurationError, match="include"):
        slot.attempt()
    assert model.simulator.requests == []


def test_each_form_of_spans_and_names_is_accepted(model: AirflowModel) -> None:
    slot = model.slot(
        wait_for_completion=True,
        fail_on=(outcome for outcome in (CallOutcome.FAILED, "no_answer")),
        include=iter(["transcript"]),
        poll_interval=timedelta(minutes=1),
        timeout=timedelta(hours=1),
    )
    began_at = model.now
    summary = slot.attempt()
    assert summary["outcome"] == "completed"
    assert summary["transcript"]
    assert model.now - began_at == 60


def test_defaults() -> None:
    made = operator()
    assert {
        name: getattr(made, name)
        for name in inspect.signature(VapiCreateCallOperator).parameters
        if name not in ("kwargs", *BASE)
    } == {
        "squad_id": None,
        "assistant": None,
        "name": None,
        "assistant_overrides": None,
        "schedule_plan": None,
        "extra_body": None,
        "vapi_conn_id": "vapi_default",
        "wait_for_completion": True,
        "deferrable": False,
        "poll_interval": 15,
        "timeout": 12 * 60 * 60,
        "fail_on": (),
        "wait_for_analysis": False,
        "analysis_timeout": 60,
        "include": (),
        "hang_up_on_kill": False,
        "hang_up_on_timeout": False,
        "redial_on": (),
        "max_attempts": None,
        "calling_hours": None,
        "outside_hours": "wait",
        "on_limit": "wait",
        "limit_timeout": 12 * 60 * 60,
    }


@pytest.mark.parametrize(
    "name", ["fail_on", "include", "wait_for_analysis", "analysis_timeout", "vapi_conn_id"]
)
def test_defaults_that_the_sensor_has_are_the_same(name: str) -> None:
    assert getattr(operator(), name) == getattr(VapiCallSensor(task_id="wait", call_id="x"), name)


def test_default_args_of_a_dag_reach_the_operator() -> None:
    defaults = {**BASE, "vapi_conn_id": "clinic", "fail_on": ["failed"], "hang_up_on_kill": True}
    with DAG("calls", schedule=None, default_args=defaults):
        made = VapiCreateCallOperator(task_id="call")
    assert (made.vapi_conn_id, made.fail_on, made.hang_up_on_kill) == ("clinic", ["failed"], True)


# What a DAG file loads

PROGRAM = """
import json, sys
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator
# What Airflow loads for any task is not ours to avoid.
with DAG("any", schedule=None):
    BaseOperator(task_id="any")
    BaseOperator.partial(task_id="mapped").expand(doc=["x"])
before = set(sys.modules)
from vapi_provider.operators.call import VapiCreateCallOperator
with DAG("calls", schedule=None):
    VapiCreateCallOperator(task_id="literal", **json.loads(sys.argv[1]))
    VapiCreateCallOperator(task_id="template", assistant_id="{{ x }}", phone_number_id="{{ x }}", customer="{{ x }}")
    VapiCreateCallOperator.partial(task_id="mapped", assistant_id="x", phone_number_id="x").expand(customer=[])
print(json.dumps(sorted(set(sys.modules) - before)))
"""
HEAVY = (
    "airflow.triggers",
    "pydantic",
    "requests",
    "tenacity",
    "urllib3",
    "vapi_provider.hooks.vapi",
    "vapi_provider.client.transport",
    "vapi_provider.models.call",
    "vapi_provider.placing.placement",
    "vapi_provider.triggers",
)


def test_dag_with_a_call_loads_nothing_heavy() -> None:
    arguments = {
        **BASE,
        "name": "Reminder",
        "schedule_plan": {"earliest_at": "2040-01-01T10:00:00Z"},
        "assistant_overrides": {"variableValues": {"first_name": "Ada"}},
        "extra_body": {"assistantVersion": "3"},
    }
    command = [sys.executable, "-c", PROGRAM, json.dumps(arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "vapi_provider.placing.request" in loaded
    assert [name for name in loaded if name.startswith(HEAVY)] == []
