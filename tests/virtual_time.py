# SPDX-License-Identifier: Apache-2.0
"""A clock and an event loop in which time passes only while everything waits, so that hours pass instantly."""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from datetime import datetime, timezone
from typing import Any, TypeVar

T = TypeVar("T")

REAL_SECONDS = 300.0
"""The longest real time that a test may take."""


class VirtualClock:
    """
    Replaces the module ``time``: a monotonic clock that advances only during waits, and a settable wall clock.

    :param wall: the wall clock's initial time, in seconds since 1970
    """

    def __init__(self, wall: float = 1_790_001_000.0) -> None:
        self.now = 1_000.0
        self.wall_offset = wall - self.now
        self.took = 0.0
        """The duration of the work in a thread, set by that work."""

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + self.wall_offset

    def utc(self) -> datetime:
        return datetime.fromtimestamp(self.time(), timezone.utc)


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Moves the clock to the next timer instead of waiting for it."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self._gives_up_at = time.monotonic() + REAL_SECONDS

    def select(self, timeout: float | None = None) -> Any:
        if time.monotonic() > self._gives_up_at:
            # Only once, so that the remaining tasks can be cancelled.
            self._gives_up_at = math.inf
            raise AssertionError("the test takes too long")
        ready = super().select(0)
        if not ready:
            # Threads do their work at once, so none can wake the loop later.
            assert timeout is not None, "deadlock: everything waits and no timer is set"
            # As in reality, no two rounds happen at the same time.
            self._clock.now += max(timeout, 1e-9)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """
    An event loop on a virtual clock, in which a thread's work takes as long as ``clock.took``.

    :param clock: the clock
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        super().__init__(_JumpingSelector(clock))

    def time(self) -> float:
        return self.clock.now

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        self.clock.took = 0.0
        future = self.create_future()
        try:
            result, error = (executor.submit(func, *args).result() if executor else func(*args)), None
        except Exception as raised:
            result, error = None, raised

        def deliver() -> None:
            if not future.done():
                future.set_result(result) if error is None else future.set_exception(error)

        self.call_later(self.clock.took, deliver)
        return future


async def _leave_nothing(main: Awaitable[T]) -> T:
    result = await main
    # A cancelled task needs a round or two of the loop.
    for _ in range(5):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks are left: {left}"
    return result


def run_virtually(main: Coroutine[Any, Any, T], clock: VirtualClock) -> T:
    """
    Run a coroutine in a virtual loop, like ``asyncio.run``, and check that it leaves no task behind.

    :param main: the coroutine
    :param clock: the clock, which advances only while the coroutine and its tasks wait
    """
    loop = VirtualLoop(clock)
    try:
        return loop.run_until_complete(_leave_nothing(main))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.wait({task}))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def until(check: Callable[[], object]) -> None:
    """Wait until a condition is true, in virtual time."""
    for _ in range(10_000):
        if check():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it never came true")
