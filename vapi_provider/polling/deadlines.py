# SPDX-License-Identifier: Apache-2.0
"""The end times of all waits in one event loop, with one timer for all of them."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from vapi_provider.polling.calls import LOT, Verdict

CLOCK_CHECK_SECONDS = 30.0
"""How often to check the wall clock, which can be changed while triggers wait."""


class Deadline(NamedTuple):
    """
    When a wait times out.

    :param end_time: the seconds since 1970
    :param number: makes deadlines at the same time comparable
    :param verdict: the future that the wait awaits
    :param timeout: its result if the end time comes first
    """

    end_time: float
    number: int
    verdict: asyncio.Future[Verdict]
    timeout: Verdict

    def pass_by(self) -> None:
        """End the wait, unless it has ended."""
        if not self.verdict.done():
            self.verdict.set_result(self.timeout)


class Deadlines:
    """
    Ends the waits of one event loop at their end times, by the wall clock.

    It depends on no poller, so neither a request nor a pause delays a timeout.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._heap: list[Deadline] = []
        """The earliest comes first; waits that have ended are removed now and then."""
        self._numbers = itertools.count()
        self._pending = 0
        self._alarm: asyncio.TimerHandle | None = None

    @classmethod
    @contextmanager
    def limit(cls, verdict: asyncio.Future[Verdict], end_time: float, timeout: Verdict) -> Iterator[None]:
        """
        Limit a wait for the length of a block.

        :param verdict: the future that the block awaits
        :param end_time: when to give up, in seconds since 1970
        :param timeout: the future's result if the end time comes first
        """
        loop = asyncio.get_running_loop()
        deadlines = _deadlines.get(loop)
        if deadlines is None:
            deadlines = _deadlines[loop] = cls()
        deadlines._add(verdict, end_time, timeout)
        try:
            yield
        finally:
            verdict.cancel()
            deadlines._remove()

    def _add(self, verdict: asyncio.Future[Verdict], end_time: float, timeout: Verdict) -> None:
        deadline = Deadline(end_time, next(self._numbers), verdict, timeout)
        self._pending += 1
        heapq.heappush(self._heap, deadline)
        if self._heap[0] is deadline:
            self._set_alarm()

    def _remove(self) -> None:
        self._pending -= 1
        if not self._pending:
            del _deadlines[self._loop]
            self._cancel_alarm()
        elif len(self._heap) > 2 * self._pending + LOT:
            self._heap = [deadline for deadline in self._heap if not deadline.verdict.done()]
            heapq.heapify(self._heap)

    def _pass_by(self) -> None:
        """End the waits whose time has come; what is left of them follows after other callbacks."""
        now = time.time()
        for _ in range(LOT):
            if not self._heap or self._heap[0].end_time > now:
                break
            heapq.heappop(self._heap).pass_by()
        self._set_alarm()

    def _set_alarm(self) -> None:
        self._cancel_alarm()
        if self._heap:
            pause = min(self._heap[0].end_time - time.time(), CLOCK_CHECK_SECONDS)
            # In a context of its own, because it does not belong to the task that joined last.
            self._alarm = self._loop.call_later(pause, self._pass_by, context=contextvars.Context())

    def _cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()


_deadlines: dict[asyncio.AbstractEventLoop, Deadlines] = {}
