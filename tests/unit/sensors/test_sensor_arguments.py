# SPDX-License-Identifier: Apache-2.0
"""VapiCallSensor checks at DAG parse time which arguments are given, but not their values."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from airflow.sdk import DAG, TaskGroup
from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.sensors.call import VapiCallSensor

CALL_ID = "019a7c2e-5f00-7000-8000-000000000001"


def sensor(**arguments: Any) -> VapiCallSensor:
    return VapiCallSensor(task_id="wait", **{"call_id": CALL_ID, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"exponential_backoff": True}, "exponential_backoff: .*poke_interval", id="backoff"),
        pytest.param({"exponential_backoff": 2.0}, "exponential_backoff: ", id="backoff-factor"),
        pytest.param({"never_fail": True}, "never_fail: .*soft_fail", id="never-fail"),
        pytest.param(
            {"silent_fail": True}, "silent_fail: .*fails the try, and retries apply", id="silent-fail"
        ),
    ],
)
def test_unsupported_argument_is_an_error_at_parse_time(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^Task 'wait': VapiCallSensor does not support {message}"
    ) as failure:
        sensor(**arguments)
    assert type(failure.value) is VapiConfigurationError
    assert "Nothing was sent" not in str(failure.value)


def test_error_at_parse_time_names_the_task_in_its_group() -> None:
    with DAG("waiting", schedule=None), TaskGroup("calls"):
        with pytest.raises(VapiConfigurationError, match=r"^Task 'calls\.wait': "):
            sensor(never_fail=True)


@pytest.mark.parametrize("argument", ["exponential_backoff", "never_fail", "silent_fail"])
def test_unsupported_argument_in_default_args_is_an_error(argument: str) -> None:
    with DAG("waiting", schedule=None, default_args={argument: True}):
        with pytest.raises(VapiConfigurationError, match=f"VapiCallSensor does not support {argument}"):
            sensor()


def test_dag_without_a_call_id_does_not_parse() -> None:
    with DAG("waiting", schedule=None), pytest.raises(Exception, match="call_id"):
        VapiCallSensor(task_id="wait")  # type: ignore[call-arg]


def test_unsupported_arguments_may_be_off() -> None:
    assert sensor(exponential_backoff=False, never_fail=False, silent_fail=False).call_id == CALL_ID


@pytest.mark.parametrize(
    "arguments",
    [
        {"call_id": None},
        {"fail_on": "gone"},
        {"include": ["recording"]},
        {"poke_interval": 0},
        {"analysis_timeout": -1},
        {"vapi_conn_id": ""},
    ],
    ids=str,
)
def test_values_are_not_checked_at_parse_time(arguments: dict[str, Any]) -> None:
    ((name, value),) = arguments.items()
    assert getattr(sensor(**arguments), name) == value


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
    assert waiting.fail_on == ["failed"]
    assert waiting.soft_fail


def test_spans_are_kept_in_seconds() -> None:
    waiting = sensor(poke_interval=timedelta(minutes=1), timeout=timedelta(hours=1))
    assert (waiting.poke_interval, waiting.timeout) == (60, 3600)


def test_call_and_connection_are_templated() -> None:
    assert set(VapiCallSensor.template_fields) == {"call_id", "vapi_conn_id"}
