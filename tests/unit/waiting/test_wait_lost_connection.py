# SPDX-License-Identifier: Apache-2.0
"""The connection becomes unreadable during a wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from task_instances import reported
from waiting_helpers import RINGS_ON, Airflow, failure

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseHook
from vapi_provider.exceptions import VapiConnectionNotFoundError, VapiTransientError

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator

VARIABLE = "AIRFLOW_CONN_VAPI_DEFAULT"
SECRET = "4711-is-secret"


@pytest.fixture
def call_id(simulator: VapiSimulator) -> str:
    return simulator.add_call(status="ringing")


@pytest.fixture
def restore(simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setenv(VARIABLE, simulator.connection)


@pytest.fixture
def delete(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.delenv(VARIABLE)


def break_backend(patch: pytest.MonkeyPatch) -> None:
    """Make Airflow's connection look-up fail with another error than "not found"."""

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError(SECRET)

    patch.setattr(BaseHook, "get_connection", fail)


def pass_on() -> None:
    """Do nothing."""


@pytest.mark.parametrize("soft_fail", [False, True])
def test_deleted_connection_ends_a_rescheduled_wait(
    worker: Any, call_id: str, delete: Callable[[], None], soft_fail: bool
) -> None:
    failed = worker.failure(
        call_id=call_id,
        mode="reschedule",
        poke_interval=100,
        soft_fail=soft_fail,
        then=[pass_on, delete],
    )
    assert type(failed) is (AirflowSkipException if soft_fail else VapiConnectionNotFoundError)
    assert "Airflow found no connection 'vapi_default'" in str(failed)
    # The first failure is at the poke right after the deletion.
    assert worker.slept == 200 + 300


def test_restored_connection_keeps_a_rescheduled_wait(
    worker: Any,
    simulator: VapiSimulator,
    call_id: str,
    delete: Callable[[], None],
    restore: Callable[[], None],
) -> None:
    outage = [delete, pass_on, pass_on, restore]
    then = [*outage, *outage, lambda: simulator.end_call(call_id)]
    result = worker.run(call_id=call_id, mode="reschedule", poke_interval=100, then=then)
    assert result["status"] == "ended"


def test_one_process_looks_up_its_connection_once(
    worker: Any, simulator: VapiSimulator, call_id: str, delete: Callable[[], None]
) -> None:
    then = [delete, *[pass_on] * 5, lambda: simulator.end_call(call_id)]
    result = worker.run(call_id=call_id, mode="poke", poke_interval=100, then=then)
    assert result["status"] == "ended"


def test_broken_backend_is_waited_out_when_rescheduled(
    worker: Any,
    simulator: VapiSimulator,
    call_id: str,
    monkeypatch: pytest.MonkeyPatch,
    warnings: Callable[[], list[str]],
) -> None:
    with monkeypatch.context() as patch:
        then = [
            lambda: break_backend(patch),
            *[pass_on] * 8,
            patch.undo,
            lambda: simulator.end_call(call_id),
        ]
        result = worker.run(call_id=call_id, mode="reschedule", poke_interval=100, then=then)
    assert result["status"] == "ended"
    assert "Airflow could not read connection 'vapi_default' (RuntimeError)." in "".join(warnings())
    assert SECRET not in "".join(warnings())


@pytest.mark.parametrize("store", [False, True], ids=["before-3.3", "from-3.3"], indirect=True)
@pytest.mark.parametrize("is_placed", [False, True], ids=["sensor", "operator"])
@pytest.mark.parametrize("status", ["done", "error"])
def test_broken_backend_is_waited_out_on_resume(
    airflow: Airflow,
    simulator: VapiSimulator,
    call_id: str,
    is_placed: bool,
    status: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulator.timeline = RINGS_ON
    arguments = {} if is_placed else {"call_id": call_id}
    deferral = airflow.deferral(**arguments)
    polled = str(deferral.trigger.call_id)
    with monkeypatch.context() as patch:
        break_backend(patch)
        for _ in range(3):
            airflow.pass_time(400)
            again = airflow.resume(deferral, reported(status, polled), **arguments)
            assert again.trigger == deferral.trigger
    simulator.end_call(polled)
    assert airflow.resume(deferral, reported("done", polled), **arguments)["id"] == polled


def test_broken_backend_at_first_poke_fails_the_try(
    airflow: Airflow, call_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_backend(monkeypatch)
    failed = failure(airflow.first, call_id=call_id)
    assert type(failed) is VapiTransientError
    assert SECRET not in str(failed)
    assert failed.__cause__ is failed.__context__ is None
