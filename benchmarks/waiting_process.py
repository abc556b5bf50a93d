# SPDX-License-Identifier: Apache-2.0
"""
The process that ``benchmarks.waiting`` measures: one event loop that waits for N calls, like Airflow's triggerer.

It receives commands on stdin and returns results on stdout, one line of JSON each; Airflow's log goes to stderr. It ends
when stdin closes.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import resource
import selectors
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

Wait = Callable[[str, str], Coroutine[Any, Any, None]]
"""Waits for the end of one call, given its id and its ``updatedAt`` at the start of the wait."""
Contender = Callable[[dict[str, Any]], AbstractAsyncContextManager[Wait]]
"""Prepares a wait for a task, and imports its modules only then, because memory is measured."""


@asynccontextmanager
async def ours(task: dict[str, Any]) -> AsyncIterator[Wait]:
    from vapi_provider.triggers.call import VapiCallTrigger

    async def wait(call_id: str, updated_at: str) -> None:
        event = await _one_event(
            VapiCallTrigger(
                vapi_conn_id="vapi_default",
                call_id=call_id,
                poll_interval=task["interval"],
                end_time=time.time() + 3600,
                since=updated_at,
                wait_for_analysis=False,
                analysis_timeout=60,
            )
        )
        if event["status"] != "done" or event["call_id"] != call_id:
            raise RuntimeError(f"unexpected event: {event}")

    yield wait


@asynccontextmanager
async def http_sensor(task: dict[str, Any]) -> AsyncIterator[Wait]:
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    async def wait(call_id: str, _: str) -> None:
        event = await _one_event(
            HttpSensorTrigger(
                endpoint=f"until-ended/{call_id}",
                http_conn_id="http_default",
                method="GET",
                poke_interval=task["interval"],
            )
        )
        if event is not True:
            raise RuntimeError(f"unexpected event: {event}")

    yield wait


@asynccontextmanager
async def shared_session(task: dict[str, Any]) -> AsyncIterator[Wait]:
    import aiohttp

    headers = {"Authorization": f"Bearer {task['key']}"}
    async with aiohttp.ClientSession(task["url"], headers=headers) as session:

        async def wait(call_id: str, _: str) -> None:
            while True:
                # After an error, the next poll is the retry.
                with suppress(aiohttp.ClientError, asyncio.TimeoutError):
                    async with session.get(f"/call/{call_id}") as answer:
                        answer.raise_for_status()
                        call = await answer.json()
                    if call["status"] == "ended":
                        return
                await asyncio.sleep(task["interval"])

        yield wait


CONTENDERS: dict[str, Contender] = {
    "ours": ours,
    "http-sensor": http_sensor,
    "shared-session": shared_session,
}


async def _one_event(trigger: BaseTrigger) -> Any:
    async for event in trigger.run():
        return event.payload
    raise RuntimeError("the trigger ended without an event")


class TimingSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Measures the longest time for which the event loop did not get to wait for anything."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self.longest = 0.0
        self._resumed_at, self._cpu = time.perf_counter(), time.process_time()

    def select(self, timeout: float | None = None) -> Any:
        # Waiting for a CPU does not count, but what the other threads use meanwhile does.
        held = min(time.perf_counter() - self._resumed_at, time.process_time() - self._cpu)
        self.longest = max(self.longest, held)
        ready = super().select(timeout)
        self._resumed_at, self._cpu = time.perf_counter(), time.process_time()
        return ready


class Waiting:
    """
    Waits for all calls of a task, and measures the cost.

    :param commands: the stream of the measuring process's commands
    :param answers: the stream for the results
    :param baseline: the peak memory before any contender was loaded, in bytes
    :param selector: the event loop's
    """

    def __init__(
        self, commands: asyncio.StreamReader, answers: TextIO, baseline: int, selector: TimingSelector
    ) -> None:
        self._commands = commands
        self._answers = answers
        self._baseline = baseline
        self._selector = selector
        self._events: dict[str, float] = {}
        self._failures: dict[str, str] = {}
        self._over: asyncio.Queue[None] = asyncio.Queue()

    async def run(self) -> None:
        task = await self._hear()
        async with AsyncExitStack() as stack:
            try:
                wait = await stack.enter_async_context(CONTENDERS[task["contender"]](task))
            except ModuleNotFoundError as error:
                self._say(problem=f"not installed (no module {error.name})")
                return
            # So that a garbage collection does not search all imported modules, which are not the contender's.
            gc.collect()
            gc.freeze()
            self._say(problem="")
            await self._wait_for_all(task, wait)

    async def _wait_for_all(self, task: dict[str, Any], wait: Wait) -> None:
        loaded = _cpu_seconds()
        self._say(began=time.time())
        self._selector.reset()
        waits = []
        for call in task["calls"]:
            waits.append(asyncio.create_task(self._note(wait, *call)))
            # As Airflow's triggerer does.
            await asyncio.sleep(0)
        plan = await self._hear()
        await _sleep_until(plan["begin"])
        at_begin = _cpu_seconds()
        await _sleep_until(plan["end"])
        at_end = _cpu_seconds()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._see_over(plan["endings"]), plan["give_up"] - time.time())
        self._say(
            events=self._events,
            failures=self._failures,
            startup_cpu=at_begin - loaded,
            window_cpu=at_end - at_begin,
            cpu=_cpu_seconds() - at_begin,
            held=self._selector.longest,
            finished=time.time(),
            memory=_peak_bytes() - self._baseline,
        )
        for waiting in waits:
            waiting.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    async def _note(self, wait: Wait, call_id: str, updated_at: str) -> None:
        try:
            await wait(call_id, updated_at)
        except Exception as error:
            self._failures[call_id] = repr(error)
        else:
            self._events[call_id] = time.time()
        self._over.put_nowait(None)

    async def _see_over(self, number: int) -> None:
        for _ in range(number):
            await self._over.get()

    async def _hear(self) -> dict[str, Any]:
        command: dict[str, Any] = json.loads(await self._commands.readline())
        return command

    def _say(self, **answer: Any) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)


class _Stdin(asyncio.StreamReaderProtocol):
    def eof_received(self) -> NoReturn:
        # Leaves the event loop, whatever is still waiting in it.
        raise SystemExit("the measuring process has ended")


async def _sleep_until(instant: float) -> None:
    await asyncio.sleep(max(0.0, instant - time.time()))


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


async def _run(answers: TextIO, selector: TimingSelector) -> None:
    # Every triggerer has loaded this module anyway.
    importlib.import_module("airflow.triggers.base")
    baseline = _peak_bytes()
    commands = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: _Stdin(commands), sys.stdin)
    await Waiting(commands, answers, baseline, selector).run()


def main() -> int:
    # Airflow logs to stdout, which must contain only results.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    selector = TimingSelector()
    loop = asyncio.SelectorEventLoop(selector)
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_run(answers, selector))
    return 0


if __name__ == "__main__":
    sys.exit(main())
