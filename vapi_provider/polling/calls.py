# SPDX-License-Identifier: Apache-2.0
"""The calls that a poller polls: their waiters, their turns, and the waits that a response ends."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Container, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from vapi_provider.models.results import ARRIVED

if TYPE_CHECKING:
    from vapi_provider.models.call import CallStatusView

T = TypeVar("T")

LOT = 100
"""How many waits may end at once, because each resumes its trigger in the same round of the event loop."""

_REMEMBERED_ENDS = 10_000


class Verdict(NamedTuple):
    """The result of a wait in the triggerer, as in the trigger's event."""

    status: Literal["done", "timeout", "error"]
    message: str


@dataclass(eq=False)
class Waiter:
    """
    A trigger that waits for a call.

    :param call_id: the call's id, checked
    :param poll_interval: the most seconds between two polls
    :param since: the call's ``updatedAt`` when the task last read it; None if unknown
    :param wait_for_analysis: whether to wait for results of the call, too
    :param analysis_timeout: how many seconds after the call's end to wait for them
    :param results: which of them; none for whichever comes first
    :param results_before: how many parts of them were there at the poll before; at first, when the task last read it
    """

    call_id: str
    poll_interval: float
    since: datetime | None = None
    wait_for_analysis: bool = False
    analysis_timeout: float = 60.0
    results: tuple[str, ...] = ()
    results_before: int | None = None

    verdict: asyncio.Future[Verdict] = field(init=False)
    _results_now: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.verdict = asyncio.get_running_loop().create_future()
        self._results_now = self.results_before

    def begin_poll(self) -> None:
        """Compare with the results of the last poll; one poll may read a call twice."""
        self.results_before = self._results_now

    def due_in(self, view: CallStatusView) -> float:
        """Return how many more seconds to wait for what follows the end of a call."""
        if not self.wait_for_analysis:
            return view.reason_due_in
        results_due_in = view.results_due_in(self.results, self.analysis_timeout, self.results_before)
        return max(view.reason_due_in, results_due_in)

    def judge(self, view: CallStatusView) -> None:
        """End the wait for a call that is over, if there is nothing more to wait for."""
        results = view.results(self.results)
        if self.due_in(view) == 0:
            is_complete = self.wait_for_analysis and results.have_arrived(self.results_before)
            self.end(results_arrived(self.call_id) if is_complete else may_have_ended(self.call_id))
        self._results_now = results.arrived

    def end(self, verdict: Verdict) -> None:
        """End the wait; only the first verdict counts."""
        if not self.verdict.done():
            self.verdict.set_result(verdict)


@dataclass(eq=False)
class PolledCall:
    """A call and its waiters."""

    call_id: str
    waiters: list[Waiter] = field(default_factory=list)
    was_read: bool = False
    # Not time.monotonic itself: tests replace the module.
    turn_at: float = field(default_factory=lambda: time.monotonic())
    """When its last turn came; at first, when the first waiter joined."""
    due_at: float | None = None
    """When to stop waiting for what follows its end, by our own clock; None unless only that is missing."""

    def end(self, verdict: Verdict) -> None:
        """End all waits for this call."""
        for waiter in self.waiters:
            waiter.end(verdict)

    def judge(self, view: CallStatusView, waiters: Iterable[Waiter] | None = None) -> None:
        """End the waits that the call's state ends, and note when the others are due."""
        if not view.is_terminal:
            if view.over_in is not None:
                self.due_at = time.monotonic() + view.over_in
            return
        for waiter in list(self.waiters if waiters is None else waiters):
            waiter.judge(view)
        pending = [
            waiter.due_in(view)
            for waiter in self.waiters
            if not waiter.verdict.done() and (waiter.wait_for_analysis or view.reason_due_in > 0)
        ]
        if pending:
            self.due_at = time.monotonic() + max(pending)


class PolledCalls:
    """All calls of one poller."""

    def __init__(self) -> None:
        self._calls: dict[str, PolledCall] = {}
        """By id, the one whose last turn is longest ago first."""
        self._intervals: Counter[float] = Counter()
        """How many waiters ask for each interval."""
        self._ended: dict[str, datetime] = {}
        """Recently ended calls, so that late joiners are notified at once."""
        self._late: list[Waiter] = []

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, call: PolledCall) -> bool:
        return self._calls.get(call.call_id) is call

    @property
    def ids(self) -> Container[str]:
        """The ids of the calls."""
        return self._calls.keys()

    @property
    def shortest_interval(self) -> float:
        """The shortest interval that a waiter asks for."""
        return min(self._intervals, default=math.inf)

    def join(self, waiter: Waiter) -> None:
        """Add a waiter."""
        self._calls.setdefault(waiter.call_id, PolledCall(waiter.call_id)).waiters.append(waiter)
        self._intervals[waiter.poll_interval] += 1
        ended_at = self._ended.get(waiter.call_id)
        if ended_at is not None and waiter.since is not None and ended_at > waiter.since:
            self._late.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter."""
        call = self._calls.get(waiter.call_id)
        if call is not None and waiter in call.waiters:
            call.waiters.remove(waiter)
            self._intervals[waiter.poll_interval] -= 1
            if not self._intervals[waiter.poll_interval]:
                del self._intervals[waiter.poll_interval]
            if not call.waiters:
                del self._calls[waiter.call_id]

    async def notify_late(self) -> None:
        """
        End the waits that joined after the end of their call was listed.

        Only after a poll that succeeded: a task that cannot reach Vapi would defer again at once.
        """
        late, self._late = self._late, []
        async for waiter in in_lots(late):
            waiter.end(may_have_ended(waiter.call_id))

    async def end_all(self, verdict: Verdict) -> None:
        """End all waits."""
        async for call in in_lots(list(self._calls.values())):
            call.end(verdict)

    async def begin_poll(self) -> None:
        """Start a poll and end the waits that are overdue."""
        now = time.monotonic()
        async for call in in_lots([call for call in self._calls.values() if call.due_at is not None]):
            for waiter in call.waiters:
                waiter.begin_poll()
            if call.due_at is not None and call.due_at <= now:
                call.end(may_have_ended(call.call_id))

    def take_row(self, row: CallStatusView) -> None:
        """Process a row of the list, for waiters that know an older state of the call."""
        if not row.is_terminal and row.over_in is None:
            return
        call_id = row.id.strip().lower()
        if row.is_terminal and row.updated_at is not None:
            self._ended[call_id] = row.updated_at
            if len(self._ended) > _REMEMBERED_ENDS:
                del self._ended[next(iter(self._ended))]
        call = self._calls.get(call_id)
        if call is not None:
            call.judge(row, [waiter for waiter in call.waiters if _is_news(row, waiter)])

    def forget_ended(self) -> None:
        """Forget the ends that the list has shown."""
        self._ended.clear()

    def take_turn(self, call: PolledCall) -> None:
        """Record that a call is being read now."""
        call.was_read, call.turn_at = True, time.monotonic()
        self._calls[call.call_id] = self._calls.pop(call.call_id)

    def next_in_turn(self, number: int) -> list[PolledCall]:
        """
        Return the calls to read one by one.

        Up to half of them are new, or have ended and miss what follows. The rest are those that were not read for the
        longest time, so that every call gets a turn, whatever the list hides.
        """
        calls = self._calls.values()
        most_urgent = (number + 1) // 2
        chosen = set(islice((call for call in calls if not call.was_read), most_urgent))
        due = (call for call in calls if call.due_at is not None and call not in chosen)
        chosen.update(islice(due, most_urgent - len(chosen)))
        others = (call for call in calls if call not in chosen)
        chosen.update(islice(others, number - len(chosen)))
        # Last comes a call that fails every time, which ends the poll.
        return sorted(chosen, key=lambda call: call.turn_at)


async def in_lots(items: Collection[T]) -> AsyncIterator[T]:
    """Yield items, and let other tasks run after each lot."""
    for number, item in enumerate(items, 1):
        yield item
        if number % LOT == 0:
            await asyncio.sleep(0)


def may_have_ended(call_id: str) -> Verdict:
    """Return the verdict that sends the task to read its call."""
    return Verdict("done", f"Call {call_id} may have ended.")


def results_arrived(call_id: str) -> Verdict:
    """Return the verdict that sends the task to read its call, and says that its results are there."""
    return Verdict("done", ARRIVED.format(call_id))


def _is_news(row: CallStatusView, waiter: Waiter) -> bool:
    return waiter.since is None or row.updated_at is None or row.updated_at > waiter.since
