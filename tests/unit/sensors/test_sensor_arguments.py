# SPDX-License-Identifier: Apache-2.0
"""What VapiCallSensor takes, and what it refuses as soon as the DAG is parsed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from airflow.sdk import DAG
from vapi_provider.models.outcome import CallOutcome
from vapi_provider.sensors.call import VapiCallSensor

CALL_ID = "019a7c2e-5f00-7000-8000-000000000001"


def sensor(**arguments: Any) -> VapiCallSensor:
    return VapiCallSensor(task_id="wait", **{"call_id": CALL_ID, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"fail_on": ["gone"]}, r"fail_on must be .*completed.*\['gone'\]", id="unknown-outcome"),
        pytest.param({"fail_on": "failed"}, r"fail_on must be a list .*'failed'", id="lone-outcome"),
        pytest.param({"fail_on": CallOutcome.FAILED}, "fail_on must be a list", id="lone-outcome-member"),
        pytest.param({"fail_on": [None]}, "fail_on must be a list", id="no-outcome"),
        pytest.param(
            {"include": ["recording"]}, "include must be .*transcript.*recording", id="unknown-include"
        ),
        pytest.param({"include": "transcript"}, "include must be a list .*'transcript'", id="lone-include"),
        pytest.param({"poke_interval": 0}, "poke_interval must be above 0", id="poke-interval-0"),
        pytest.param(
            {"poke_interval": timedelta(0)}, "poke_interval must be above 0", id="poke-interval-0-span"
        ),
        pytest.param({"analysis_timeout": -1}, "analysis_timeout must be .* -1", id="analysis-negative"),
        pytest.param(
            {"analysis_timeout": timedelta(-1)}, "analysis_timeout must be", id="analysis-negative-span"
        ),
        pytest.param({"analysis_timeout": "60"}, "analysis_timeout must be .*'60'", id="analysis-text"),
        pytest.param({"analysis_timeout": True}, "analysis_timeout must be .*True", id="analysis-bool"),
        pytest.param({"analysis_timeout": None}, "analysis_timeout must be .*None", id="analysis-none"),
        pytest.param({"analysis_timeout": float("nan")}, "analysis_timeout must be .*nan", id="analysis-nan"),
        pytest.param({"exponential_backoff": True}, "exponential_backoff: .*poke_interval", id="backoff"),
        pytest.param({"exponential_backoff": 2.0}, "exponential_backoff: ", id="backoff-factor"),
        pytest.param({"never_fail": True}, "never_fail: .*soft_fail", id="never-fail"),
        pytest.param({"silent_fail": True}, "silent_fail: .*waited out", id="silent-fail"),
    ],
)
def test_an_argument_is_refused_when_the_dag_is_parsed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sensor(**arguments)


@pytest.mark.parametrize("argument", ["exponential_backoff", "never_fail", "silent_fail"])
def test_an_argument_is_refused_from_default_args_as_well(argument: str) -> None:
    with DAG("waiting", schedule=None, default_args={argument: True}):
        with pytest.raises(ValueError, match=f"VapiCallSensor does not take {argument}"):
            sensor()


def test_a_dag_without_a_call_id_is_not_parsed() -> None:
    with DAG("waiting", schedule=None), pytest.raises(Exception, match="call_id"):
        VapiCallSensor(task_id="wait")  # type: ignore[call-arg]


def test_the_arguments_that_are_refused_may_be_spelled_out_as_off() -> None:
    assert sensor(exponential_backoff=False, never_fail=False, silent_fail=False).call_id == CALL_ID


def test_default_args_of_a_dag_reach_the_sensor() -> None:
    start = datetime(2026, 1, 1)
    with DAG(
        "waiting",
        schedule=None,
        start_date=start,
        default_args={"vapi_conn_id": "clinic", "poke_interval": 5, "fail_on": ["failed"], "soft_fail": True},
    ):
        waiting = sensor()
    assert waiting.vapi_conn_id == "clinic"
    assert waiting.poke_interval == 5
    assert waiting.fail_on == (CallOutcome.FAILED,)
    assert waiting.soft_fail


def test_spans_and_outcomes_are_taken_in_each_of_their_forms() -> None:
    waiting = sensor(
        fail_on=(CallOutcome.FAILED, "no_answer"),
        include=iter(["transcript"]),
        poke_interval=timedelta(minutes=1),
        analysis_timeout=timedelta(minutes=2),
        timeout=timedelta(hours=1),
    )
    assert waiting.fail_on == ("failed", "no_answer")
    assert waiting.include == ("transcript",)
    assert (waiting.poke_interval, waiting.analysis_timeout, waiting.timeout) == (60, 120, 3600)


def test_call_and_connection_are_templated() -> None:
    assert set(VapiCallSensor.template_fields) == {"call_id", "vapi_conn_id"}
