# SPDX-License-Identifier: Apache-2.0
"""``on_kill`` with a trigger in the task's own process, as in ``dag.test()``, and without one."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from waiting_helpers import REQUEST

from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.sensors.call import VapiCallSensor

TASKS: list[Any] = [
    pytest.param(lambda: VapiCallSensor(task_id="wait", call_id="x", deferrable=True), id="sensor"),
    pytest.param(lambda: VapiCreateCallOperator(task_id="call", deferrable=True, **REQUEST), id="operator"),
]


@pytest.mark.parametrize("make", TASKS)
def test_stopped_task_ends_a_process_that_runs_a_trigger(make: Any) -> None:
    left = []

    async def trigger() -> None:
        try:
            # It would continue, but only for a few rounds.
            for _ in range(5):
                await asyncio.sleep(0)
        finally:
            left.append("in order")

    async def main() -> None:
        # Like a signal handler in the middle of the event loop.
        asyncio.get_running_loop().call_soon(make().on_kill)
        await trigger()

    with pytest.raises(SystemExit) as stopped:
        asyncio.run(main())
    assert stopped.value.code == 128 + signal.SIGTERM
    assert left == ["in order"]


@pytest.mark.parametrize("make", TASKS)
def test_stopped_task_in_a_worker_continues(make: Any) -> None:
    """There, Airflow itself ends the process."""
    make().on_kill()
