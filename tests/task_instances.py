# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for what a task sees of Airflow: DAG run, task instance, task state store and deferral."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseSensorOperator
from vapi_provider.triggers.call import VapiCallTrigger

if TYPE_CHECKING:
    import pytest

    from airflow.providers.common.compat.sdk import TaskDeferred

LINK = "_link_VapiCallLink"
"""The XCom key of the *Vapi Call* button's URL."""

BACKSTOP = "__fail__", {"error": "Trigger timeout"}
"""The method and arguments with which Airflow resumes a task whose trigger missed its deadline."""


SENSOR_MODULE: Any = sys.modules[BaseSensorOperator.__module__]
"""The module of Airflow's sensors and their reschedule exception, which differs between versions."""


def use_worker_clock(clock: Any, patch: pytest.MonkeyPatch) -> None:
    """Make the code that runs in workers use a clock with ``time``, ``monotonic`` and ``sleep``."""
    for module in (
        "operators.call",
        "placing.deferral",
        "placing.dialling",
        "placing.placement",
        "placing.search",
        "sensors.call",
        "waiting.mixin",
        "waiting.wait",
    ):
        patch.setattr(f"vapi_provider.{module}.time", clock)
    patch.setattr(SENSOR_MODULE, "time", clock)


def ignore(_point: str) -> None:
    """Do nothing at any point."""


@dataclass
class Run:
    """A DAG run."""

    run_after: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    run_id: str = "manual__2026-11-23"
    clear_number: int = 0


@dataclass
class TaskInstance:
    """
    The task instance, as a task sees it.

    :param xcoms: the pushed values, as Airflow stores them
    :param at: called before each push, which it may refuse
    """

    dag_id: str = "calls"
    run_id: str = Run.run_id
    task_id: str = "call"
    map_index: int = -1
    try_number: int = 1
    xcoms: dict[str, Any] = field(default_factory=dict)
    at: Callable[[str], None] = ignore
    run: Run = field(default_factory=Run)
    first_reschedule_date: datetime | None = None

    def xcom_push(self, key: str, value: Any) -> None:
        self.at("xcom.push")
        self.xcoms[key] = through_json(value)

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.xcoms.get(key)

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.first_reschedule_date

    def context(self, **more: Any) -> Any:
        """Return the part of a task's context that the operators use."""
        return {"ti": self, "dag_run": self.run, **more}


@dataclass
class TaskStateStore:
    """
    Airflow's task state store (3.3 and later), as one try sees it.

    :param stored: the values kept for the next try
    :param at: called before each access, which it may refuse
    :param is_current: returns whether the try may still write; Airflow refuses a superseded try
    """

    stored: dict[str, str] = field(default_factory=dict)
    at: Callable[[str], None] = ignore
    is_current: Callable[[], bool] = lambda: True

    def get(self, key: str, default: Any = None) -> Any:
        self.at("store.get")
        return json.loads(self.stored[key]) if self.is_current() and key in self.stored else default

    def set(self, key: str, value: Any) -> None:
        self.at("store.set")
        if not self.is_current():
            raise SupersededError("404")
        self.stored[key] = json.dumps(value, allow_nan=False)
        self.at("store.was_set")


class SupersededError(Exception):
    """Raised in a try that another one has superseded, as by Airflow."""


@dataclass
class Deferral:
    """The data that Airflow stores for a deferred task."""

    trigger: VapiCallTrigger
    method: str
    kwargs: dict[str, Any]
    timeout: timedelta


def stored(deferred: TaskDeferred) -> Deferral:
    """Return a deferral as restored from Airflow's database, where it must be plain JSON with finite numbers."""
    path, arguments = deferred.trigger.serialize()
    assert path == "vapi_provider.triggers.call.VapiCallTrigger"
    assert isinstance(deferred.timeout, timedelta)
    kwargs = deferred.kwargs or {}
    restored = through_json(arguments), through_json(kwargs)
    assert restored == (arguments, kwargs)
    trigger = VapiCallTrigger(**restored[0])
    assert trigger == deferred.trigger
    return Deferral(trigger, deferred.method_name, restored[1], deferred.timeout)


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


def reported(status: str, call_id: str, message: str = "So it is.") -> dict[str, Any]:
    """Return the payload of a trigger's event."""
    return {"status": status, "call_id": call_id, "message": message}
