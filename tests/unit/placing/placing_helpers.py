# SPDX-License-Identifier: Apache-2.0
"""What Airflow does with a task besides running it: rendering, storing a deferral, and the triggerer in short."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from task_instances import Deferral, reported, stored

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import DAG
from vapi_provider.models.fields import read_instant
from vapi_provider.operators.call import VapiCreateCallOperator

if TYPE_CHECKING:
    from airflow_model import AirflowModel, Slot

    from vapi_provider.triggers.call import VapiCallTrigger

OVER = ("ended", "not-found", "deletion-failed")

# What the simulator adds to the request that it is sent.
_MADE_UP = {
    "id",
    "orgId",
    "type",
    "status",
    "phoneCallProvider",
    "phoneCallTransport",
    "createdAt",
    "updatedAt",
    "monitor",
}


class Later:
    """A value that is known only when the task runs, as what another task returns."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def resolve(self, context: Any, **_: Any) -> Any:
        return self._value


def templated(value: Any) -> Any:
    """Make a template of each text, however deep, that renders to the same text."""
    if isinstance(value, Mapping):
        return {name: templated(part) for name, part in value.items()}
    if isinstance(value, list):
        return [templated(part) for part in value]
    return f"{{{{ {value!r} }}}}" if isinstance(value, str) else value


def task_context(slot: Slot, dag: DAG, task: Any) -> Any:
    """Begin another try, and make as much of its context as templates and mapping need."""
    slot.try_number += 1
    run = slot.run
    more = {"dag": dag, "task": task, "run_id": run.run_id, "params": {}}
    if not hasattr(run, "conf"):
        run.conf = {}  # type: ignore[attr-defined]
    return {**slot.context(), **more}


def rendered(
    slot: Slot, *, native: bool = False, macros: Mapping[str, Any] | None = None, **arguments: Any
) -> tuple[VapiCreateCallOperator, Any]:
    """Render a task's templates as a worker does, and return what it would run, and with what context."""
    macros = dict(macros or {})
    with DAG("calls", schedule=None, render_template_as_native_obj=native, user_defined_macros=macros):
        parsed = VapiCreateCallOperator(task_id=slot.task_id, **{**slot.arguments, **arguments})
    return render(parsed, slot)


def render(parsed: Any, slot: Slot) -> tuple[Any, Any]:
    """Render the templates of a task of a parsed DAG, mapped or not."""
    context = task_context(slot, parsed.dag, parsed)
    running = parsed.prepare_for_execution()
    context["task"] = running
    running.render_template_fields(context, parsed.dag.get_template_env())
    return context["task"], context


def sent_body(model: AirflowModel) -> dict[str, Any]:
    """Return what arrived at Vapi to place the only call."""
    (call,) = model.simulator.calls.values()
    return {name: value for name, value in call.items() if name not in _MADE_UP}


def begin(slot: Slot, **arguments: Any) -> Any:
    """Run the first process of a try, and return its result or its deferral."""
    try:
        return slot.attempt(**arguments)
    except TaskDeferred as deferred:
        return stored(deferred)


def deferral(slot: Slot, **arguments: Any) -> Deferral:
    """Run the first process of a try, which must defer."""
    result = begin(slot, deferrable=True, wait_for_completion=True, **arguments)
    assert isinstance(result, Deferral), result
    return result


def resume(slot: Slot, deferred: Deferral, event: Any, **arguments: Any) -> Any:
    """Run the process that a trigger's event starts, and return its result or its deferral."""
    arguments = {"deferrable": True, "wait_for_completion": True, **arguments}
    try:
        return slot.resume(deferred.method, {**deferred.kwargs, "event": event}, **arguments)
    except TaskDeferred as again:
        return stored(again)


def await_event(model: AirflowModel, trigger: VapiCallTrigger) -> dict[str, Any]:
    """Wait as the triggerer does, but for its requests."""
    while True:
        if model.now >= trigger.end_time:
            return reported("timeout", trigger.call_id)
        if trigger.call_id is None:
            # It waits for that time only.
            model.pass_time(trigger.end_time - model.now)
            continue
        model.pass_time(min(trigger.poll_interval, trigger.end_time - model.now))
        call = model.simulator.get_call(trigger.call_id)
        if call["status"] in OVER and (not trigger.wait_for_analysis or _is_analysed(model, trigger, call)):
            return reported("done", trigger.call_id)


def _is_analysed(model: AirflowModel, trigger: VapiCallTrigger, call: dict[str, Any]) -> bool:
    ended_at = read_instant(call.get("endedAt"))
    return (
        "analysis" in call
        or ended_at is None
        or (model.clock.now() - ended_at).total_seconds() > trigger.analysis_timeout
    )


def wait_out(slot: Slot, **arguments: Any) -> Any:
    """Run a try to its end, in one process or in several with a triggerer between them."""
    arguments = {"wait_for_completion": True, **arguments}
    result = begin(slot, **arguments)
    while isinstance(result, Deferral):
        result = resume(slot, result, await_event(slot.model, result.trigger), **arguments)
    return result
