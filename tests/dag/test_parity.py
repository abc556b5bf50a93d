# SPDX-License-Identifier: Apache-2.0
"""A waiting task ends in the same state, with the same result and message, in every mode."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from packaging.version import Version
from parity_rows import NOON, ROWS, URL, Row

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from vapi_provider.models.call import Call
from vapi_provider.simulator import ManualClock, VapiSimulator

TRIES = 3
MOST_DEFERRALS = 20


@dataclass(frozen=True)
class Outcome:
    """What a user sees of a task that is over."""

    state: str
    tries: int
    result: Any
    link: str | None
    errors: list[type[Exception]]
    """What ended the tries."""
    events: list[str]
    """The statuses of the triggers' events."""
    log: list[str]
    """What the task's log says of the call: the sensor's lines, and the messages of those exceptions."""

    @classmethod
    def of(cls, heard: list[Any], call_id: Any, *seen: Any) -> Outcome:
        errors = [type(line) for line in heard if isinstance(line, Exception)]
        events = [line["status"] for line in heard if isinstance(line, dict)]
        # Airflow's sensors log other things as well.
        log = [str(line) for line in heard if isinstance(line, Exception) or str(call_id) in line]
        return cls(*seen, errors, events, log)

    def at(self, url: str) -> Outcome:
        """Return the same outcome with one address in place of the simulator's, for a comparison."""
        log = [line.replace(url, URL) for line in self.log]
        return replace(self, link=self.link and self.link.replace(url, URL), log=log)


Waits = list[dict[str, Any]]


@dataclass(frozen=True)
class Lab:
    """What the modes need to run tasks."""

    dags: ModuleType
    run_dag: Callable[..., Any]


Runner = Callable[[Lab, Waits, list[Row]], list[Outcome]]


def in_a_dag(**arguments: Any) -> Runner:
    """Run all in one run of a DAG: the first in a process takes Airflow seconds, and each task little."""

    def run(lab: Lab, waits: Waits, rows: list[Row]) -> list[Outcome]:
        run = lab.run_dag("wait_for_each", waits=[{**wait, **arguments} for wait in waits])
        seen = zip(run.states("wait"), run.tries("wait"), run.results("wait"), run.links("wait"), strict=True)
        return [
            Outcome.of(lab.dags.heard[index], wait["call_id"], *of_task)
            for index, (wait, of_task) in enumerate(zip(waits, seen, strict=True))
        ]

    return run


class TaskInstance:
    """What of a task instance a deferrable sensor asks for."""

    task_id = "wait"

    def __init__(self, map_index: int) -> None:
        self.map_index = map_index
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = through_json(value)

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.xcoms.get(key)


def fed(lab: Lab, waits: Waits, rows: list[Row]) -> list[Outcome]:
    """Run each without a triggerer: the task gets the trigger's event from here, as from Airflow's task runner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow.sdk.bases.operator.ExecutorSafeguard.test_mode", True)
        return [
            _feed(lab, wait, row.event, TaskInstance(index))
            for index, (wait, row) in enumerate(zip(waits, rows, strict=True))
        ]


def _feed(lab: Lab, wait: dict[str, Any], event: str, ti: TaskInstance) -> Outcome:
    state, result, number = "failed", None, 0
    while number < TRIES:
        number += 1
        ti.xcoms.clear()
        try:
            state, result = "success", _feed_one_try(lab, wait, event, ti)
        except AirflowSkipException:
            state = "skipped"
        except (AirflowFailException, AirflowSensorTimeout):
            pass
        except Exception:
            # Airflow tries again.
            continue
        break
    link = ti.xcoms.get("_link_VapiCallLink")
    return Outcome.of(lab.dags.heard[ti.map_index], wait["call_id"], state, number, result, link)


def _feed_one_try(lab: Lab, wait: dict[str, Any], event: str, ti: TaskInstance) -> Any:
    context: Any = {"ti": ti, "task_reschedule_count": 0}
    method, kwargs = "execute", {}
    for _ in range(MOST_DEFERRALS):
        # Each time in another process.
        sensor = lab.dags.OverheardSensor(task_id="wait", deferrable=True, **wait)
        try:
            if method == "execute":
                return sensor.execute(context)
            return sensor.resume_execution(method, kwargs, context)
        except TaskDeferred as deferred:
            classpath, arguments = deferred.trigger.serialize()
            module, _, name = classpath.rpartition(".")
            trigger = getattr(import_module(module), name)(**through_json(arguments))
            reported = {"status": event, "call_id": trigger.call_id, "message": "So it is."}
            method, kwargs = deferred.method_name, {**through_json(deferred.kwargs or {}), "event": reported}
    # Not one that the sensor raises, so that no row expects it.
    raise AirflowFailException(f"deferred {MOST_DEFERRALS} times")


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


REFERENCE = "poke"
"""The mode whose messages the others must have."""


class Mode(NamedTuple):
    run: Runner
    defers: bool = False
    forgets: bool = False
    """Whether each poke is a process that knows nothing of those before it."""


MODES = {
    "poke": Mode(in_a_dag(mode="poke")),
    # Airflow 3.3 is the first that keeps something for a task that is rescheduled.
    "reschedule": Mode(in_a_dag(mode="reschedule"), forgets=Version(airflow_version) < Version("3.3")),
    "deferrable": Mode(in_a_dag(deferrable=True), defers=True),
    "fed": Mode(fed, defers=True),
}


@dataclass(frozen=True)
class Run:
    """All rows in one mode."""

    outcomes: dict[str, Outcome]
    simulator: VapiSimulator
    waits: dict[str, dict[str, Any]]

    def summary_of(self, name: str) -> dict[str, Any]:
        wait = self.waits[name]
        call = Call.model_validate(self.simulator.get_call(wait["call_id"]))
        return call.summary(wait.get("include", ()))


@pytest.fixture(scope="module")
def run_all(dag_module: ModuleType, run_dag: Callable[..., Any]) -> Callable[[str, bool], Run]:
    lab = Lab(dag_module, run_dag)

    @cache
    def run(mode: str, soft_fail: bool) -> Run:
        dag_module.heard.clear()
        with VapiSimulator(clock=ManualClock(NOON)) as simulator, pytest.MonkeyPatch.context() as patch:
            # Requests are not repeated, so that one fault is one failed poke.
            good = {**json.loads(simulator.connection), "extra": {"max_retries": 0}}
            patch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", json.dumps(good))
            patch.setenv("AIRFLOW_CONN_KEYLESS", json.dumps({**good, "password": ""}))
            patch.setattr("vapi_provider.triggers.call.SETTLE_SECONDS", 0.05)
            patch.setattr("vapi_provider.polling.poller.MIN_INTERVAL_SECONDS", 0.05)
            waits = {
                name: {"soft_fail": soft_fail, "poke_interval": 0.01, **row.arrange(simulator, name)}
                for name, row in ROWS.items()
            }
            outcomes = [
                outcome.at(simulator.url)
                for outcome in MODES[mode].run(lab, list(waits.values()), list(ROWS.values()))
            ]
        return Run(dict(zip(waits, outcomes, strict=True)), simulator, waits)

    return run


@pytest.mark.parametrize("soft_fail", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ROWS)
def test_wait_ends_as_the_table_says_in_every_mode(
    run_all: Callable[[str, bool], Run], name: str, mode: str, soft_fail: bool
) -> None:
    row, run = ROWS[name], run_all(mode, soft_fail)
    outcome, call_id = run.outcomes[name], run.waits[name]["call_id"]

    is_skipped = soft_fail and row.is_softened
    errors = (AirflowSkipException,) if is_skipped else row.errors
    assert outcome.state == ("skipped" if is_skipped else row.state), outcome.log
    assert len(outcome.errors) == len(errors), outcome.log
    assert all(map(issubclass, outcome.errors, errors)), outcome.log
    assert row.says_of(call_id, forgets=MODES[mode].forgets).match(outcome.log[-1]), outcome.log[-1]
    assert row.warns.replace("{id}", str(call_id)) in "\n".join(outcome.log)
    assert outcome.events[-1:] == ([row.event] if MODES[mode].defers and row.is_long else [])
    assert outcome.tries == row.tries
    assert outcome.result == (run.summary_of(name) if row.state == "success" else None)
    assert outcome.link == (f"{URL}/calls/{call_id}" if row.has_link else None)

    # With ``soft_fail`` only state and type differ.
    same_way, first = (run_all(REFERENCE, soft).outcomes[name] for soft in (soft_fail, False))
    assert (outcome.errors, outcome.result) == (same_way.errors, first.result)
    if not (MODES[mode].forgets and row.forgotten):
        assert outcome.log[-1] == first.log[-1]
