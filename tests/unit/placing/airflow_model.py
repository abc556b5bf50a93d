# SPDX-License-Identifier: Apache-2.0
"""
A small model of Airflow: runs, task instances, their tries, what is stored between them, and time.

It runs the real operator against the real simulator, and time is its own: a wait of a minute takes none. Each thing that
a try does to the world outside passes :attr:`AirflowModel.at`, where a test can look on, interrupt or kill.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from task_instances import Run, TaskInstance, TaskStateStore, ignore, use_worker_clock

from vapi_provider.exceptions import VapiTransientError
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.simulator import ManualClock, VapiSimulator

if TYPE_CHECKING:
    import pytest

ASSISTANT_ID = "0198a3f0-0000-7000-8000-000000000002"
PHONE_NUMBER_ID = "0198a3f0-0000-7000-8000-000000000003"
NUMBER = "+12025550143"


NOON = datetime(2026, 11, 26, 12, tzinfo=timezone.utc).timestamp()
"""When a test begins, whatever the time of day it runs at."""

NO_TIME = 0.001
"""The time limit of a request that has no time left."""


class Killed(BaseException):
    """The process of a try is gone; unlike an exception, it has no say in that."""


@dataclass
class Slot:
    """A task instance over all its tries."""

    model: AirflowModel
    run: Run
    arguments: dict[str, Any]
    task_id: str = "call"
    map_index: int = -1
    try_number: int = 0
    cleared_at_try: int = 0
    """After which try a user has cleared it last."""
    stored: dict[str, str] = field(default_factory=dict)
    xcoms: dict[str, Any] = field(default_factory=dict)
    operator: VapiCreateCallOperator | None = None
    """The operator of the last try; a task that is stopped has its ``on_kill`` called."""

    def prepare(self, **arguments: Any) -> Callable[[], Any]:
        """Begin another try, and return what runs it."""
        self.try_number += 1
        self.xcoms.clear()
        self.operator = operator = self._operator(**arguments)
        context = self.context()
        return lambda: operator.execute(context)

    def resume(self, next_method: str, next_kwargs: dict[str, Any], **arguments: Any) -> Any:
        """Go on with the try after its deferral, in a process of its own."""
        return self._operator(**arguments).resume_execution(next_method, next_kwargs, self.context())

    def _operator(self, **arguments: Any) -> VapiCreateCallOperator:
        return VapiCreateCallOperator(task_id=self.task_id, **{**self.arguments, **arguments})

    def context(self) -> Any:
        number = self.try_number
        ti = TaskInstance(
            run=self.run,
            run_id=self.run.run_id,
            task_id=self.task_id,
            map_index=self.map_index,
            try_number=number,
            max_tries=self.cleared_at_try + self.arguments.get("retries", 0),
            xcoms=self.xcoms,
            at=self._reach,
        )
        if not self.model.has_store:
            return ti.context()
        store = TaskStateStore(self.stored, self._reach, lambda: self.try_number == number)
        return ti.context(task_state_store=store)

    def _reach(self, point: str) -> None:
        self.model.at(point)

    def clear(self) -> None:
        """Give it its retries once more, as when a user clears the run."""
        self.run.clear_number += 1
        self.cleared_at_try = self.try_number

    def attempt(self, **arguments: Any) -> Any:
        """Run another try to its end."""
        return self.prepare(**arguments)()

    def until_done(self, tries: int = 8, **arguments: Any) -> Any:
        """Run tries as Airflow does, until one succeeds or fails for good."""
        for _ in range(tries - 1):
            try:
                return self.attempt(**arguments)
            except VapiTransientError:
                self.model.pass_time(300)
        return self.attempt(**arguments)


@dataclass
class AirflowModel:
    """
    An Airflow.

    :param simulator: the Vapi that it calls; its clock is moved along with Airflow's, however they differ
    :param has_store: whether it has a task state store, as from 3.3 on
    """

    simulator: VapiSimulator
    clock: ManualClock
    has_store: bool
    now: float
    at: Callable[[str], None] = ignore
    requested: str = ""
    """The last request that was about to be sent, such as ``GET /call/{id}``."""

    def run(self, **arguments: Any) -> Run:
        return Run(run_after=datetime.fromtimestamp(self.now, timezone.utc), **arguments)

    def slot(self, run: Run | None = None, *, number: str = NUMBER, **arguments: Any) -> Slot:
        """Make a task instance that calls a person, and does not wait for the call's end unless a test says so."""
        own = {name: arguments.pop(name) for name in ("task_id", "map_index") if name in arguments}
        usual = {
            "assistant_id": ASSISTANT_ID,
            "phone_number_id": PHONE_NUMBER_ID,
            "customer": {"number": number},
            "name": "Reminder",
            "wait_for_completion": False,
        }
        return Slot(self, run or self.run(), {**usual, **arguments}, **own)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.clock.advance(seconds)

    def sleep(self, seconds: float) -> None:
        self.at("sleep")
        self.pass_time(seconds)

    def rings(self) -> dict[str, int]:
        """Let all phones ring that will, and count."""
        self.pass_time(3600)
        return dict(self.simulator.rings)

    def assert_rang_once(self, *slots: Slot, after: str = "all tries") -> None:
        """Assert that each slot's person was called once, by the very call whose id its last try has published."""
        rings = self.rings()
        for slot in slots:
            person = _person(slot.arguments)
            assert rings.get(person) == 1, f"{person} was called {rings.get(person, 0)} times after {after}"
            call = self.simulator.get_call(slot.xcoms["call_id"])
            assert (_person(call), "startedAt" in call) == (person, True)

    def posts(self) -> int:
        return sum(request.method == "POST" for request in self.simulator.requests)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the place of time, and watch the requests."""
        clock = SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now, sleep=self.sleep)
        use_worker_clock(clock, monkeypatch)
        monkeypatch.setattr("vapi_provider.client.transport.time", clock)
        monkeypatch.setattr("tenacity.time", clock)
        monkeypatch.setattr("tenacity.nap.time.sleep", self.sleep)
        send = requests.adapters.HTTPAdapter.send

        def watched(
            adapter: Any, request: requests.PreparedRequest, stream: bool, timeout: float, *more: Any
        ) -> Any:
            self.requested = f"{request.method} {urlsplit(str(request.url)).path}"
            self.at(f"send.{request.method}")
            if timeout <= NO_TIME:
                # All tries together have used up their time, by the model's clock.
                raise requests.ReadTimeout
            response = send(adapter, request, stream, timeout, *more)
            self.at(f"sent.{request.method}")
            return response

        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", watched)


def _person(call: dict[str, Any]) -> str:
    """Return the callee, as the simulator counts rings."""
    customer = call["customer"]
    extension = customer.get("extension")
    return f"{customer['number']};ext={extension}" if extension else str(customer["number"])


def vapis_clock(model_now: float, ahead: timedelta = timedelta()) -> ManualClock:
    """Make Vapi's clock, which may differ from Airflow's."""
    return ManualClock(datetime.fromtimestamp(model_now, timezone.utc) + ahead)
