# SPDX-License-Identifier: Apache-2.0
"""The flow of a first try that goes well: calls run down the rooms of the package, and visit few of its files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest
from ways import caller

import vapi_provider
from vapi_provider.operators.call import VapiCreateCallOperator

if TYPE_CHECKING:
    from airflow_model import AirflowModel, Slot

MOST_FILES = 16

ROOMS = (
    {"operators", "sensors"},
    {"placing"},
    {"waiting"},
    {"triggers"},
    {"polling"},
    {"hooks"},
    {"client"},
    {"connection", "models", "rendering", "links"},
    {"exceptions"},
)
"""From the top down."""

PACKAGE = Path(vapi_provider.__file__).parent
GO_BETWEENS = ("functools.py", "tenacity/__init__.py")
"""What stands between two files of the package although one calls the other."""


class Flow:
    """Records which file of the package calls which."""

    def __init__(self) -> None:
        self.calls: set[tuple[str, str]] = set()
        """Caller and called, whatever stands between them."""
        self.entered: set[str] = set()
        """Files that another one calls itself, and not only through requests or pydantic."""

    def watch(self, run: Callable[[], Any]) -> Any:
        sys.setprofile(self._note)
        try:
            return run()
        finally:
            sys.setprofile(None)

    def climbs(self) -> set[tuple[str, str]]:
        """Return the calls from a room into a higher one."""
        return {(above, below) for above, below in self.calls if rank(below) < rank(above)}

    def _note(self, frame: FrameType, event: str, _arg: Any) -> None:
        called = file_of(frame)
        # The body of a module runs when it is imported.
        if event != "call" or called is None or frame.f_code.co_name == "<module>":
            return
        is_direct = True
        for back in callers(frame):
            calling = file_of(back)
            if calling is not None:
                if calling != called:
                    self.calls.add((calling, called))
                    self.entered |= {called} if is_direct else set()
                return
            is_direct = is_direct and back.f_code.co_filename.endswith(GO_BETWEENS)


def callers(frame: FrameType) -> Iterator[FrameType]:
    back = frame.f_back
    while back is not None:
        yield back
        back = back.f_back


def file_of(frame: FrameType) -> str | None:
    """Return the file of the package that runs in a frame; the simulator is not a part of the flow."""
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(PACKAGE):
        return None
    file = path.relative_to(PACKAGE).as_posix()
    return None if file.startswith("simulator/") else file


def rank(file: str) -> int:
    room = file.partition("/")[0].removesuffix(".py")
    return next(number for number, rooms in enumerate(ROOMS) if room in rooms)


def watched(slot: Slot) -> Flow:
    flow = Flow()
    summary = flow.watch(slot.prepare())
    assert summary["status"] == "queued"
    return flow


@pytest.fixture
def slot(model: AirflowModel) -> Slot:
    """A task instance for a first try, in a process that has imported everything it needs."""
    caller(model, 0).attempt()
    return caller(model, 1)


def test_calls_run_down_the_rooms(slot: Slot) -> None:
    flow = watched(slot)
    assert flow.climbs() == set()
    assert ("placing/mixin.py", "placing/placement.py") in flow.calls


def test_first_try_visits_few_files(slot: Slot) -> None:
    entered = watched(slot).entered
    assert "placing/placement.py" in entered
    assert "client/transport.py" in entered
    assert len(entered) <= MOST_FILES, " ".join(sorted(entered))


def test_upward_callback_is_noticed(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    class CallingBack:
        def info(self, *_: Any) -> None:
            assert slot.operator is not None
            slot.operator._find_conflict({})

    monkeypatch.setattr(VapiCreateCallOperator, "log", CallingBack())
    assert watched(slot).climbs() == {("placing/placement.py", "operators/call.py")}
