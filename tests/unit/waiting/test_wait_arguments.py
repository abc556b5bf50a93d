# SPDX-License-Identifier: Apache-2.0
"""Argument values of a wait are checked once, when the task runs, before any request."""

from __future__ import annotations

import itertools
import math
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from waiting_helpers import Airflow, failure

from airflow.providers.common.compat.sdk import AirflowSkipException
from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.models.outcome import CallOutcome, check_outcomes
from vapi_provider.models.summary import check_include
from vapi_provider.waiting.policy import seconds_of

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator

SPAN = "must be a timedelta or a non-negative number of seconds; got"


# Each check once


@pytest.mark.parametrize(
    "fail_on",
    [
        pytest.param(["gone"], id="unknown-outcome"),
        pytest.param("failed", id="lone-outcome"),
        pytest.param(CallOutcome.FAILED, id="lone-outcome-member"),
        pytest.param([None], id="no-outcome"),
        pytest.param(None, id="none"),
    ],
)
def test_fail_on_must_be_a_list_of_outcomes(fail_on: Any) -> None:
    expected = rf"^fail_on must be a list of .*completed.*{re.escape(repr(fail_on))}"
    with pytest.raises(VapiConfigurationError, match=expected):
        check_outcomes("fail_on", fail_on)


@pytest.mark.parametrize("include", [["recording"], "transcript", None], ids=["unknown", "lone", "none"])
def test_include_must_be_a_list_of_names(include: Any) -> None:
    expected = rf"^include must be a list of .*transcript.*{re.escape(repr(include))}"
    with pytest.raises(VapiConfigurationError, match=expected):
        check_include(include)


@pytest.mark.parametrize(
    "span", [-1, -0.001, timedelta(-1), "60", True, None, math.nan, math.inf, -math.inf], ids=str
)
def test_span_must_be_a_number_of_seconds(span: Any) -> None:
    with pytest.raises(VapiConfigurationError, match=f"^timeout {SPAN} {re.escape(repr(span))}"):
        seconds_of("timeout", span)


def test_span_beyond_every_float_is_refused() -> None:
    with pytest.raises(VapiConfigurationError, match="analysis_timeout must be"):
        seconds_of("analysis_timeout", 10**400)


def test_only_some_spans_may_be_infinite() -> None:
    assert seconds_of("analysis_timeout", math.inf, may_be_infinite=True) == math.inf


# Each route with some of the checks


SOME = [
    pytest.param({"fail_on": ["gone"]}, "fail_on must be", id="unknown-outcome"),
    pytest.param({"fail_on": "failed"}, "fail_on must be a list", id="lone-outcome"),
    pytest.param({"include": ["recording"]}, "include must be", id="unknown-include"),
    pytest.param({"analysis_timeout": -1}, f"analysis_timeout {SPAN} -1", id="analysis-negative"),
]

OF_THE_SENSOR = [
    # Airflow itself refuses other values at DAG parse time.
    pytest.param({"poke_interval": 0}, "poke_interval must be more than 0 seconds", id="interval-0"),
    pytest.param({"poke_interval": timedelta(0)}, "poke_interval must be more than 0", id="interval-0-span"),
]

OF_THE_OPERATOR = [
    pytest.param({"poll_interval": 0}, "poll_interval must be more than 0 seconds", id="interval-0"),
    pytest.param({"poll_interval": "15"}, f"poll_interval {SPAN} '15'", id="interval-text"),
    pytest.param({"timeout": -1}, f"timeout {SPAN} -1", id="timeout-negative"),
    pytest.param({"timeout": math.inf}, f"timeout {SPAN} inf", id="timeout-inf"),
]


def in_turn(cases: list[Any], *modes: str) -> list[Any]:
    """Assign the modes to the cases in turn."""
    return [
        pytest.param(*case.values, mode, id=f"{case.id}-{mode}")
        for case, mode in zip(cases, itertools.cycle(modes), strict=False)
    ]


@pytest.mark.parametrize(
    ("arguments", "message", "how"), in_turn([*SOME, *OF_THE_SENSOR], "poke", "reschedule", "deferrable")
)
def test_invalid_value_fails_the_sensor_before_any_request(
    simulator: VapiSimulator, worker: Any, arguments: dict[str, Any], message: str, how: str
) -> None:
    call_id = simulator.add_call(status="ringing")
    waits = {"deferrable": True} if how == "deferrable" else {"mode": how}
    arguments = {"call_id": call_id, **waits, **arguments}
    failed = worker.failure(**arguments)
    assert type(failed) is VapiConfigurationError
    assert isinstance(failed, ValueError)
    assert str(failed).endswith(" Nothing was sent.")
    with pytest.raises(VapiConfigurationError, match=message):
        raise failed
    assert simulator.requests == []
    assert worker.task_instance.xcoms == {}

    skipped = worker.failure(**arguments, soft_fail=True)
    assert type(skipped) is AirflowSkipException
    assert str(skipped) == str(failed)


@pytest.mark.parametrize(
    ("arguments", "message", "how"), in_turn([*SOME, *OF_THE_OPERATOR], "poke", "deferrable")
)
def test_invalid_value_fails_the_operator_before_the_call(
    airflow: Airflow, simulator: VapiSimulator, arguments: dict[str, Any], message: str, how: str
) -> None:
    failed = failure(airflow.first, deferrable=how == "deferrable", **arguments)
    assert type(failed) is VapiConfigurationError
    with pytest.raises(VapiConfigurationError, match=message):
        raise failed
    assert simulator.requests == []
    assert airflow.task_instance.xcoms == {}


def test_value_that_turns_invalid_while_deferred_is_refused(
    airflow: Airflow, simulator: VapiSimulator
) -> None:
    """The DAG file may have changed by the time the task resumes."""
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
def test_valid_values_are_accepted_in_every_form(
    simulator: VapiSimulator, worker: Any, arguments: dict[str, Any]
) -> None:
    call_id = simulator.add_call(status="ended", body={"artifact": {"transcript": "User: Yes."}})
    summary = worker.run(call_id=call_id, **arguments)
    assert summary.get("transcript") == ("User: Yes." if "include" in arguments else None)
