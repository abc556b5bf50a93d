# SPDX-License-Identifier: Apache-2.0
"""A waiting task ends in the same state, with the same result and message, in every mode."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from packaging.version import Version
from parity_rows import NOON, ROWS, URL

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import AirflowSkipException, BaseSensorOperator
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.simulator import ManualClock, VapiSimulator


@dataclass(frozen=True)
class Outcome:
    """What a user sees of a finished task."""

    state: str
    tries: int
    result: Any
    link: str | None
    errors: list[type[Exception]]
    """The exceptions that ended the tries."""
    events: list[str]
    """The statuses of the triggers' events."""
    log: list[str]
    """The log lines about the call: the sensor's own, and the messages of those exceptions."""

    @classmethod
    def of(cls, heard: list[Any], call_id: Any, *seen: Any) -> Outcome:
        errors = [type(line) for line in heard if isinstance(line, Exception)]
        events = [line["status"] for line in heard if isinstance(line, dict)]
        # Airflow's base sensor logs other lines, too.
        log = [str(line) for line in heard if isinstance(line, Exception) or str(call_id) in line]
        return cls(*seen, errors, events, log)

    def at(self, url: str) -> Outcome:
        """Return the outcome with a fixed URL instead of the simulator's, for comparison."""
        log = [line.replace(url, URL) for line in self.log]
        return replace(self, link=self.link and self.link.replace(url, URL), log=log)


REFERENCE = "poke"
"""The mode that all others must match."""


class Mode(NamedTuple):
    arguments: dict[str, Any]
    """The sensor's arguments."""
    forgets: bool = False
    """Whether each poke runs in a process without stored state."""


MODES = {
    "poke": Mode({"mode": "poke"}),
    # Before Airflow 3.3, no state survives a reschedule.
    "reschedule": Mode({"mode": "reschedule"}, forgets=Version(airflow_version) < Version("3.3")),
    "deferrable": Mode({"deferrable": True}),
}


def first_of_each_end() -> list[str]:
    """Return one row for each way to end: ``soft_fail`` changes nothing else."""
    firsts = {(row.errors, row.event, row.state): name for name, row in reversed(ROWS.items())}
    return [name for name in ROWS if name in firsts.values()]


NAMES = {False: list(ROWS), True: first_of_each_end()}
"""The rows to run without and with ``soft_fail``."""


@dataclass(frozen=True)
class Run:
    """All rows in one mode."""

    outcomes: dict[str, Outcome]
    summaries: dict[str, Any]
    """The summary of each call two minutes after its end, if the wait succeeds."""
    waits: dict[str, dict[str, Any]]


class SensorClock:
    """The clock of Airflow's sensor loop, which stands still during a poke, however slow."""

    def __init__(self) -> None:
        self._now = time.time()

    def begin_process(self) -> None:
        self._now = time.time()

    def time(self) -> float:
        return self._now

    monotonic = time

    def utcnow(self) -> datetime:
        return datetime.fromtimestamp(self._now, timezone.utc)

    def sleep(self, seconds: float) -> None:
        # The shortest timeout of a row expires after a few pokes.
        self._now += max(seconds, 0.5)

    def install(self, dag_module: ModuleType, patch: pytest.MonkeyPatch) -> None:
        # Its module differs between Airflow versions.
        sensor_module = sys.modules[BaseSensorOperator.__module__]
        patch.setattr(sensor_module, "time", self)
        patch.setattr(sensor_module, "timezone", self)
        listening = dag_module.listening

        def begin_and_listen(context: Any) -> Any:
            self.begin_process()
            return listening(context)

        patch.setattr(dag_module, "listening", begin_and_listen)


@pytest.fixture(scope="module")
def run_all(dag_module: ModuleType, run_dag: Callable[..., Any]) -> Callable[[str, bool], Run]:
    @cache
    def run(mode: str, soft_fail: bool) -> Run:
        dag_module.heard.clear()
        rows = {name: ROWS[name] for name in NAMES[soft_fail]}
        with VapiSimulator(clock=ManualClock(NOON)) as simulator, pytest.MonkeyPatch.context() as patch:
            # Without repetition, one fault is one failed poke.
            good = {**json.loads(simulator.connection), "extra": {"max_retries": 0}}
            patch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", json.dumps(good))
            patch.setenv("AIRFLOW_CONN_KEYLESS", json.dumps({**good, "password": ""}))
            SensorClock().install(dag_module, patch)
            patch.setattr("vapi_provider.triggers.call.SETTLE_SECONDS", 0.05)
            patch.setattr("vapi_provider.polling.poller.MIN_INTERVAL_SECONDS", 0.05)
            waits = {
                name: {
                    "soft_fail": soft_fail,
                    "poke_interval": 0.01,
                    **row.arrange(simulator, name),
                    **MODES[mode].arguments,
                }
                for name, row in rows.items()
            }
            # All in one DAG run, because each run takes seconds and each task little.
            ran = run_dag("wait_for_each", waits=list(waits.values()))
            seen = (ran.states("wait"), ran.tries("wait"), ran.results("wait"), ran.links("wait"))
            outcomes = {
                name: Outcome.of(dag_module.heard[index], waits[name]["call_id"], *of_task).at(simulator.url)
                for index, (name, *of_task) in enumerate(zip(waits, *seen, strict=True))
            }
            simulator.faults.clear()
            simulator.clock.advance(120)
            summaries = {
                name: VapiHook().get_call(waits[name]["call_id"]).summary(waits[name].get("include", ()))
                for name, row in rows.items()
                if row.state == "success"
            }
        return Run(outcomes, summaries, waits)

    return run


@pytest.mark.parametrize(
    ("soft_fail", "name"),
    [
        pytest.param(soft_fail, name, id=f"{'soft' if soft_fail else 'hard'}-{name}")
        for soft_fail, names in NAMES.items()
        for name in names
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_wait_ends_the_same_in_every_mode(
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
    assert outcome.events[-1:] == ([row.event] if mode == "deferrable" and row.is_long else [])
    assert outcome.tries == row.tries
    assert outcome.result == run.summaries.get(name)
    assert outcome.link == (f"{URL}/calls/{call_id}" if row.has_link else None)

    # With ``soft_fail`` only state and type differ.
    same_way, first = (run_all(REFERENCE, soft).outcomes[name] for soft in (soft_fail, False))
    assert (outcome.errors, outcome.result) == (same_way.errors, first.result)
    if not (MODES[mode].forgets and row.forgotten):
        assert outcome.log[-1] == first.log[-1]
