# SPDX-License-Identifier: Apache-2.0
"""Runs the processes of a task that waits for its call in the triggerer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from task_instances import LINK, Deferral, Run, TaskInstance, TaskStateStore, stored

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import Timeline

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator

TRIGGER_FAILED = "__fail__", {"error": "Trigger failure", "traceback": ["Traceback: ...", "boom"]}

RINGS_ON = Timeline(ringing=0, answered=None, ended=None, analysis=None)

REQUEST = {
    "assistant_id": "0198a3f0-0000-7000-8000-000000000002",
    "phone_number_id": "0198a3f0-0000-7000-8000-000000000003",
    "customer": {"number": "+12025550143"},
}


class Airflow:
    """Runs each process of a deferrable task with a new operator, as Airflow's workers do."""

    def __init__(
        self, task_instance: TaskInstance, simulator: VapiSimulator, store: TaskStateStore | None
    ) -> None:
        self.simulator = simulator
        self.task_instance = task_instance
        self.store = store
        self.now = float(int(time.time())) + 0.25

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pass_time(seconds)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.simulator.clock.advance(seconds)  # type: ignore[attr-defined]

    def first(self, **arguments: Any) -> Any:
        """Run the first process."""
        return self._run(lambda task, context: task.execute(context), arguments)

    def deferral(self, **arguments: Any) -> Deferral:
        """Run the first process, which must defer."""
        deferral = self.first(**arguments)
        assert isinstance(deferral, Deferral), deferral
        return deferral

    def resume(self, deferral: Deferral, event: Any, **arguments: Any) -> Any:
        """Run the process that a trigger's event starts."""
        kwargs = {**deferral.kwargs, "event": event}
        return self.resume_with(deferral.method, kwargs, **arguments)

    def resume_with(self, method: str, kwargs: dict[str, Any] | None, **arguments: Any) -> Any:
        return self._run(lambda task, context: task.resume_execution(method, kwargs, context), arguments)

    def kept(self) -> str:
        """Return everything that is stored for the task, except its link."""
        xcoms = {key: value for key, value in self.task_instance.xcoms.items() if key != LINK}
        return json.dumps([xcoms, self.store and self.store.stored], allow_nan=False)

    def change_state(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the stored state of the wait, as if another version of the package had written it."""
        if self.store is not None:
            state = self.store.get("wait")
            change(state)
            self.store.set("wait", state)
        else:
            change(self.task_instance.xcoms["wait"])

    def _run(self, process: Callable[[Any, Any], Any], arguments: dict[str, Any]) -> Any:
        # Without a call id, the task places a call.
        kind: Any = VapiCallSensor if "call_id" in arguments else VapiCreateCallOperator
        usual = {} if "call_id" in arguments else REQUEST
        task = kind(**{"task_id": "wait", "deferrable": True, **usual, **arguments})
        run = Run(datetime.fromtimestamp(self.now, timezone.utc))
        context: Any = self.task_instance.context(dag_run=run)
        if self.store is not None:
            context["task_state_store"] = self.store
        try:
            return process(task, context)
        except TaskDeferred as deferred:
            deferral = deferred
        return stored(deferral)


def failure(run: Callable[..., Any], *args: Any, **arguments: Any) -> BaseException:
    """Return the exception that a process raised."""
    try:
        result = run(*args, **arguments)
    except (Exception, AirflowTaskTimeout) as error:
        return error
    raise AssertionError(f"the process ended with {result}")
