# SPDX-License-Identifier: Apache-2.0
"""Ways that a try can go, and what can happen to it at a point of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from airflow_model import NUMBER, AirflowModel, Killed, Slot
from task_instances import ignore

from vapi_provider.exceptions import VapiTransientError
from vapi_provider.simulator import Fault


def once_at(model: AirflowModel, point: str, act: Callable[[], Any]) -> None:
    """Let something happen when a point is reached for the first time."""

    def at(now: str) -> None:
        if now == point:
            model.at = ignore
            act()

    model.at = at


def at_nth(model: AirflowModel, number: int, act: Callable[[], Any]) -> None:
    """Let something happen at the point of a number, from 0."""
    left = iter(range(number))

    def at(_point: str) -> None:
        if next(left, None) is None:
            model.at = ignore
            act()

    model.at = at


def be_killed() -> None:
    raise Killed


def kill_at(model: AirflowModel, slot: Slot, point: str, **arguments: Any) -> None:
    """Run a try that is killed the first time that it gets to a point."""
    once_at(model, point, be_killed)
    with pytest.raises(Killed):
        slot.attempt(**arguments)


def caller(model: AirflowModel, extension: int) -> Slot:
    """Make a task instance of a run of its own, and with a person of its own."""
    customer = {"number": NUMBER, "extension": str(extension)}
    return model.slot(model.run(run_id=f"run {extension}"), customer=customer)


def attempt(slot: Slot) -> None:
    with suppress(VapiTransientError):
        slot.attempt()


@dataclass(frozen=True)
class Way:
    """
    A way that a try goes.

    :param fault: what comes in place of the response to POST
    :param before: what an earlier try did
    """

    fault: dict[str, Any] | None = None
    before: Callable[[Slot], Any] | None = None

    def prepare(self, model: AirflowModel, extension: int) -> Slot:
        """Make a task instance whose next try goes this way."""
        model.simulator.faults.clear()
        slot = caller(model, extension)
        if self.before is not None:
            self.before(slot)
        if self.fault is not None:
            model.simulator.faults.add(Fault(method="POST", path="/call", **self.fault))
        return slot

    def points(self, model: AirflowModel) -> list[str]:
        """Return the points that an undisturbed try passes."""
        slot, points = self.prepare(model, 0), list[str]()
        model.at = points.append
        attempt(slot)
        model.at = ignore
        return points


def _clear_emptied(slot: Slot) -> None:
    slot.attempt()
    slot.stored.clear()
    slot.run.clear_number += 1


FIRST = {
    "first try": Way(),
    "first try, the response is lost": Way({"reset": "before", "effect": True}),
    "first try, the request is lost": Way({"reset": "before"}),
    "first try, 429": Way({"status": 429, "headers": {"Retry-After": "20"}}),
}
SECOND = {
    "second try, nothing sent": Way(before=lambda slot: kill_at(slot.model, slot, "send.POST")),
    "second try, sent": Way(before=lambda slot: kill_at(slot.model, slot, "sent.POST")),
    "second try, placed": Way(before=Slot.attempt),
    "cleared, store emptied": Way(before=_clear_emptied),
}
