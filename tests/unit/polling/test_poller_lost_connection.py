# SPDX-License-Identifier: Apache-2.0
"""A connection that is gone, or that only seems so, after it has worked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from polling_world import CONN_ID, World, verdicts, watching
from task_instances import TaskInstance, TaskStateStore, reported

from airflow.providers.common.compat.sdk import TaskDeferred
from vapi_provider.exceptions import VapiConfigurationError, VapiConnectionNotFoundError
from vapi_provider.hooks import vapi
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.polling.connection import CONNECTION_SECONDS
from vapi_provider.sensors.call import VapiCallSensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from vapi_provider.polling.calls import Verdict

FIVE_MINUTES = 300
VARIABLE = "AIRFLOW_CONN_VAPI_DEFAULT"


async def seconds_until_all_end(world: World, tasks: dict[str, asyncio.Task[Verdict]]) -> float:
    """Wait for all verdicts, but not much longer than five minutes."""
    began_at = world.clock.now
    await asyncio.wait(tasks.values(), timeout=FIVE_MINUTES + CONNECTION_SECONDS + 3 * 5)
    return world.clock.now - began_at


def delete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete the connection, which Airflow keeps in the environment here."""
    monkeypatch.delenv(VARIABLE)


@pytest.mark.parametrize("worked_for", [7, 100, 3600])
def test_deleted_connection_ends_its_waits_after_five_minutes(
    world: World, monkeypatch: pytest.MonkeyPatch, worked_for: float
) -> None:
    call_ids = world.add_calls(3)

    async def main() -> None:
        async with watching(call_ids) as tasks:
            await asyncio.sleep(worked_for)
            assert verdicts(tasks) == {}
            delete(monkeypatch)
            took = await seconds_until_all_end(world, tasks)
            assert took >= FIVE_MINUTES
            assert len(verdicts(tasks)) == len(call_ids)
            for task in tasks.values():
                assert task.result().status == "error"
                assert f"cannot find connection {CONN_ID!r}" in task.result().message

    world.run(main())


def test_restored_connection_ends_no_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time it is gone for less than five minutes; its last fields are used meanwhile."""
    (call_id,) = world.add_calls(1)

    async def main() -> None:
        async with watching([call_id]) as tasks:
            for _ in range(3):
                await asyncio.sleep(CONNECTION_SECONDS)
                with monkeypatch.context() as patch:
                    delete(patch)
                    await asyncio.sleep(FIVE_MINUTES - 10)
                await asyncio.sleep(CONNECTION_SECONDS)
            assert verdicts(tasks) == {}
            delete(monkeypatch)
            world.end(call_id)
            assert await world.seconds_until(tasks[call_id]) <= 5.1
            assert tasks[call_id].result().status == "done"

    world.run(main())


def report_of_deleted_connection(world: World, call_id: str, monkeypatch: pytest.MonkeyPatch) -> Verdict:
    """Delete the connection of a wait, and return what its trigger reports then, in a process of its own."""
    vapi._looked_up.clear()

    async def main() -> Verdict:
        async with watching([call_id]) as tasks:
            await asyncio.sleep(100)
            delete(monkeypatch)
            await seconds_until_all_end(world, tasks)
            return tasks[call_id].result()

    return world.run(main())


class DeferredSensor:
    """A deferred sensor, and what Airflow keeps of it."""

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id
        self._task_instance = TaskInstance(task_id="wait")
        self._store = TaskStateStore()
        with pytest.raises(TaskDeferred):
            self._sensor().execute(self._context())

    def resume(self, verdict: Verdict) -> Any:
        event = reported(verdict.status, self.call_id, verdict.message)
        return self._sensor().resume_execution("execute_complete", {"event": event}, self._context())

    def _sensor(self) -> VapiCallSensor:
        return VapiCallSensor(task_id="wait", call_id=self.call_id, deferrable=True)

    def _context(self) -> Any:
        return self._task_instance.context(task_state_store=self._store)


def test_deleted_connection_fails_the_deferred_task(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (call_id,) = world.add_calls(1)
    sensor = DeferredSensor(call_id)
    verdict = report_of_deleted_connection(world, call_id, monkeypatch)
    with pytest.raises(VapiConnectionNotFoundError, match="Airflow found no connection 'vapi_default'"):
        sensor.resume(verdict)


def test_second_missing_connection_in_the_triggerer_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (call_id,) = world.add_calls(1)
    sensor = DeferredSensor(call_id)
    with monkeypatch.context() as patch:
        verdict = report_of_deleted_connection(world, call_id, patch)
    with pytest.raises(TaskDeferred):
        sensor.resume(verdict)
    with pytest.raises(VapiConfigurationError, match="cannot read call .* but this worker can"):
        sensor.resume(verdict)


def test_remembered_connection_is_used_where_airflow_finds_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in ``dag.test()``, where the trigger runs in the process of a task that has looked it up."""
    (call_id,) = world.add_calls(1)
    VapiHook(CONN_ID).get_call(call_id)
    delete(monkeypatch)

    async def main() -> None:
        async with watching([call_id]) as tasks:
            await asyncio.sleep(2 * FIVE_MINUTES)
            assert verdicts(tasks) == {}
            world.end(call_id)
            assert await world.seconds_until(tasks[call_id]) <= 5.1
            assert tasks[call_id].result().status == "done"

    world.run(main())


def test_what_airflow_finds_is_used_before_what_is_remembered(
    world: World, set_connection: Callable[..., None]
) -> None:
    other = world.beside(api_key="another-key-0123456789")
    (call_id,) = world.add_calls(1)
    VapiHook(CONN_ID).get_call(call_id)
    asked = len(world.simulator.requests)
    set_connection(other.simulator)
    other.simulator.add_call(status="in-progress", body={"id": call_id})

    async def main() -> None:
        async with watching([call_id]):
            await asyncio.sleep(20)

    world.run(main())
    assert other.simulator.requests
    assert len(world.simulator.requests) == asked


def test_connection_that_a_task_no_longer_finds_is_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (call_id,) = world.add_calls(1)
    VapiHook(CONN_ID).get_call(call_id)
    delete(monkeypatch)
    with pytest.raises(VapiConnectionNotFoundError):
        VapiHook(CONN_ID).get_call(call_id)

    async def main() -> None:
        async with watching([call_id]) as tasks:
            assert await seconds_until_all_end(world, tasks) >= FIVE_MINUTES
            assert list(verdicts(tasks)) == [call_id]

    world.run(main())
