# SPDX-License-Identifier: Apache-2.0
"""The values of a wait's arguments are checked when the task runs, once, before any request."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from waiting_helpers import REQUEST, Airflow, failure

from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.sdk import DAG
from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.models.outcome import CallOutcome
from vapi_provider.operators.call import VapiCreateCallOperator

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator

SPAN = "must be a timedelta or a number of seconds from 0; got"

COMMON = [
    pytest.param({"fail_on": ["gone"]}, r"fail_on must be .*completed.*\['gone'\]", id="unknown-outcome"),
    pytest.param({"fail_on": "failed"}, r"fail_on must be a list .*'failed'", id="lone-outcome"),
    pytest.param({"fail_on": CallOutcome.FAILED}, "fail_on must be a list", id="lone-outcome-member"),
    pytest.param({"fail_on": [None]}, "fail_on must be a list", id="no-outcome"),
    pytest.param({"fail_on": None}, "fail_on must be a list", id="fail-on-none"),
    pytest.param({"include": ["recording"]}, "include must be .*transcript.*recording", id="unknown-include"),
    pytest.param({"include": "transcript"}, "include must be a list .*'transcript'", id="lone-include"),
    pytest.param({"include": None}, "include must be a list .*None", id="include-none"),
    pytest.param({"analysis_timeout": -1}, f"analysis_timeout {SPAN} -1", id="analysis-negative"),
    pytest.param(
        {"analysis_timeout": timedelta(-1)}, f"analysis_timeout {SPAN}", id="analysis-negative-span"
    ),
    pytest.param({"analysis_timeout": "60"}, f"analysis_timeout {SPAN} '60'", id="analysis-text"),
    pytest.param({"analysis_timeout": True}, f"analysis_timeout {SPAN} True", id="analysis-bool"),
    pytest.param({"analysis_timeout": None}, f"analysis_timeout {SPAN} None", id="analysis-none"),
    pytest.param({"analysis_timeout": math.nan}, f"analysis_timeout {SPAN} nan", id="analysis-nan"),
]

OF_THE_SENSOR = [
    # Airflow itself refuses the rest when the DAG is parsed.
    pytest.param({"poke_interval": 0}, "poke_interval must be more than 0 seconds", id="interval-0"),
    pytest.param({"poke_interval": timedelta(0)}, "poke_interval must be more than 0", id="interval-0-span"),
]

OF_THE_OPERATOR = [
    pytest.param({"poll_interval": 0}, "poll_interval must be more than 0 seconds", id="interval-0"),
    pytest.param({"poll_interval": timedelta(0)}, "poll_interval must be more than 0", id="interval-0-span"),
    pytest.param({"poll_interval": -5}, f"poll_interval {SPAN} -5", id="interval-negative"),
    pytest.param({"poll_interval": "15"}, f"poll_interval {SPAN} '15'", id="interval-text"),
    pytest.param({"poll_interval": math.inf}, f"poll_interval {SPAN} inf", id="interval-inf"),
    pytest.param({"timeout": -1}, f"timeout {SPAN} -1", id="timeout-negative"),
    pytest.param({"timeout": math.inf}, f"timeout {SPAN} inf", id="timeout-inf"),
    pytest.param({"timeout": None}, f"timeout {SPAN} None", id="timeout-none"),
]


@pytest.mark.parametrize("how", ["poke", "reschedule", "deferrable"])
@pytest.mark.parametrize(("arguments", "message"), COMMON + OF_THE_SENSOR)
def test_bad_value_fails_the_sensor_before_any_request(
    simulator: VapiSimulator, worker: Any, arguments: dict[str, Any], message: str, how: str
) -> None:
    call_id = simulator.add_call(status="ringing")
    waits = {"deferrable": True} if how == "deferrable" else {"mode": how}
    arguments = {"call_id": call_id, **waits, **arguments}
    failed = worker.failure(**arguments)
    assert type(failed) is VapiConfigurationError
    assert isinstance(failed, ValueError)
    with pytest.raises(VapiConfigurationError, match=message):
        raise failed
    assert simulator.requests == []
    assert worker.task_instance.xcoms == {}

    skipped = worker.failure(**arguments, soft_fail=True)
    assert type(skipped) is AirflowSkipException
    assert str(skipped) == str(failed)


@pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferrable"])
@pytest.mark.parametrize(("arguments", "message"), COMMON + OF_THE_OPERATOR)
def test_bad_value_fails_the_operator_before_the_call(
    airflow: Airflow, simulator: VapiSimulator, arguments: dict[str, Any], message: str, deferrable: bool
) -> None:
    failed = failure(airflow.first, deferrable=deferrable, **arguments)
    assert type(failed) is VapiConfigurationError
    with pytest.raises(VapiConfigurationError, match=message):
        raise failed
    assert simulator.requests == []
    assert airflow.task_instance.xcoms == {}


def test_value_that_turns_bad_while_deferred_is_an_error(airflow: Airflow, simulator: VapiSimulator) -> None:
    """The DAG file can change, and the process that resumes reads the new one."""
    call_id = simulator.add_call(status="ringing")
    deferral = airflow.deferral(call_id=call_id)
    sent = len(simulator.requests)
    failed = failure(airflow.resume, deferral, None, call_id=call_id, fail_on="failed")
    assert type(failed) is VapiConfigurationError
    assert len(simulator.requests) == sent


@pytest.mark.parametrize(
    "arguments",
    [
        {"fail_on": (CallOutcome.FAILED, "no_answer")},
        {"fail_on": {"failed"}},
        {"include": {"transcript"}},
        {"poke_interval": timedelta(minutes=1)},
        {"analysis_timeout": timedelta(minutes=2)},
        {"timeout": timedelta(hours=1)},
    ],
    ids=str,
)
def test_good_value_may_have_any_of_its_forms(
    simulator: VapiSimulator, worker: Any, arguments: dict[str, Any]
) -> None:
    call_id = simulator.add_call(status="ended", body={"artifact": {"transcript": "User: Yes."}})
    summary = worker.run(call_id=call_id, **arguments)
    assert summary.get("transcript") == ("User: Yes." if "include" in arguments else None)


# Arguments without effect


def place(**arguments: Any) -> VapiCreateCallOperator:
    return VapiCreateCallOperator(task_id="call", wait_for_completion=False, **REQUEST, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"deferrable": True},
        {"poll_interval": 5},
        {"poll_interval": 0},
        {"timeout": timedelta(hours=1)},
        {"timeout": timedelta(0)},
        {"fail_on": ["failed"]},
        {"wait_for_analysis": True},
        {"analysis_timeout": 0},
        {"hang_up_on_timeout": True},
    ],
    ids=str,
)
def test_argument_without_effect_is_an_error_at_parse_time(arguments: dict[str, Any]) -> None:
    (name,) = arguments
    with pytest.raises(
        VapiConfigurationError, match=f"^Task 'call': {name} has no effect with wait_for_comp"
    ):
        place(**arguments)
    # Unless the DAG has it for all of its tasks.
    with DAG("calls", schedule=None, default_args=arguments):
        place()


@pytest.mark.parametrize(
    "arguments",
    [
        {"deferrable": False},
        {"poll_interval": 15.0},
        {"poll_interval": timedelta(seconds=15)},
        {"timeout": timedelta(hours=12)},
        {"fail_on": []},
        {"wait_for_analysis": False},
        {"analysis_timeout": timedelta(minutes=1)},
        {"hang_up_on_timeout": False},
    ],
    ids=str,
)
def test_argument_with_its_default_may_be_spelled_out(arguments: dict[str, Any]) -> None:
    place(**arguments)


def test_default_args_may_give_a_span_in_another_form() -> None:
    with DAG("calls", schedule=None, default_args={"timeout": timedelta(hours=1)}):
        place(timeout=3600)
