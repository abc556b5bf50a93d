# SPDX-License-Identifier: Apache-2.0
"""With a thousand waiters and large calls the event loop, in which all triggers live, is never held up."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

import pytest
from polling_world import verdicts, watching

MOST_SECONDS_LATE = 0.1

# In a process of its own, so that its work is not ours.
VAPI = """
import json, sys, threading
from datetime import datetime, timedelta, timezone
from vapi_provider.simulator import VapiSimulator

simulator = VapiSimulator()
simulator.start()
now = datetime.now(timezone.utc)
call_ids = []
for place in range(1_000):
    created = (now - timedelta(seconds=600 - place / 2)).isoformat(timespec="milliseconds")
    text = "Yes, Tuesday at ten is fine. " * (70_000 if place == 500 else 1_700)
    body = {"createdAt": created, "updatedAt": created, "transcript": text}
    call_ids.append(simulator.add_call(status="in-progress", body=body))
print(json.dumps({"connection": simulator.connection, "call_ids": call_ids}), flush=True)
stopping = threading.Event()

def change():
    place = 0
    while not stopping.wait(0.25):
        for call_id in [call_ids[500], *(call_ids[(place + step) % 1_000] for step in range(70))]:
            simulator.set_status(call_id, "in-progress")
        place += 70

changing = threading.Thread(target=change)
changing.start()
sys.stdin.readline()
stopping.set()
changing.join()
for call_id in call_ids:
    simulator.end_call(call_id)
print(sum(request.bytes_sent for request in simulator.requests), flush=True)
sys.stdin.readline()
simulator.stop()
"""


@pytest.fixture
def start_vapi(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], tuple[Any, list[str]]]]:
    """Start a simulator in another process; return the process and the ids of its calls."""
    running: list[subprocess.Popen[str]] = []

    def start() -> tuple[Any, list[str]]:
        process = subprocess.Popen(
            [sys.executable, "-c", VAPI], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        while not line.startswith("{"):
            assert line, "the simulator did not start"
            line = process.stdout.readline()
        described = json.loads(line)
        monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", described["connection"])
        return process, described["call_ids"]

    yield start
    for process in running:
        process.communicate("\n\n", timeout=60)


async def beat(late: list[float]) -> None:
    """Record how late each of a hundred beats per second is; waiting for a CPU does not count."""
    while True:
        due, used = time.monotonic() + 0.01, time.process_time()
        await asyncio.sleep(0.01)
        late.append(min(time.monotonic() - due, time.process_time() - used))


@pytest.mark.deep
@pytest.mark.usefixtures("imported_modules_are_no_garbage")
def test_event_loop_is_never_late_by_100_ms(
    run: Callable[..., Any],
    start_vapi: Callable[[], tuple[Any, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Ten times as often as for anyone, so that a few seconds see many polls.
    monkeypatch.setattr("vapi_provider.polling.poller.MIN_INTERVAL_SECONDS", 0.5)

    async def main() -> tuple[list[float], int]:
        process, call_ids = start_vapi()
        late: list[float] = []
        heart = asyncio.create_task(beat(late))
        async with watching(call_ids, poll_interval=0.5) as tasks:
            await asyncio.sleep(3)
            assert verdicts(tasks) == {}
            tell(process.stdin)
            await asyncio.wait(tasks.values())
        heart.cancel()
        return late, int(await asyncio.to_thread(process.stdout.readline))

    def tell(stream: IO[str]) -> None:
        stream.write("\n")
        stream.flush()

    late, size = run(main())
    # It did have something to do: some fifty megabytes until the end of all, and as many again after it.
    assert size > 20_000_000
    assert max(late) <= MOST_SECONDS_LATE
