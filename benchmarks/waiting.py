# SPDX-License-Identifier: Apache-2.0
"""
The cost of waiting for many calls in a triggerer, compared with the HTTP provider's trigger and with hand-written polling.

Run ``python -m benchmarks.waiting`` from the repository's root, or ``python -m benchmarks.waiting --window 20 --calls 10
100`` for a first impression. Each measurement starts two processes that communicate over 127.0.0.1: the simulator with
N calls (``benchmarks.campaign``), and one event loop that waits for them (``benchmarks.waiting_process``). The cost of
the latter is measured.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.report import machine
from benchmarks.waiting_results import (
    INTERVAL_SECONDS,
    NAMES,
    OURS,
    Cell,
    Result,
    Results,
    tables,
    verdicts,
)

ROOT = Path(__file__).resolve().parent.parent
CALLS = (10, 1000, 10_000)
SIZES = (50, 2)
"""The sizes of a call's JSON, in KB; only the first is measured for all."""
MOST_CALLS_FOR_PEERS = 1000
"""With more calls, their requests would saturate the simulator, which would then be the bottleneck."""
FEWEST_SMALL_CALLS = 1000
"""With fewer calls, their size makes no difference."""
ENDINGS_PER_SECOND = 40 / 60
BURST_SECONDS = 1.0
QUIET_SECONDS = 1.0
"""A poll is over after this time without a response."""
START_SECONDS = 120.0
DRAIN_SECONDS = 120.0
FEW_CALLS = 1000
CATCH_UP_SECONDS = 90.0
"""With more calls than these few, our first polls take so long to read what changed in the 15 minutes before."""

SCENARIOS = {
    "steady": "calls end evenly over the window, 40 a minute but at most 8 in 10",
    "burst": "all calls end within one second, in the middle of the window",
}

NOTES = """\
Waiting for N calls, each polled every {interval:.0f} s, in a window of {window:.0f} s ({machine})
One call in ten is live and changes every 5 s, the others are quiet; each has about {sizes} KB of JSON.
requests, MB: requests received and response bodies sent by the simulator (clients may stop reading early).
CPU: user and system time of the waiting process. Steady: in the window; burst: from its start to the last event.
RSS: growth of the peak since before the contender's modules were loaded.
1st poll: from before the first trigger is created until the response to the first poll: one per call for the peers,
  one for all triggers for ours.
start-up: the same without the {interval:.0f} s that ours pauses first, because the deferring task has just polled. Its CPU:
  until the window begins, after the first poll.
median, p99: from the call's end in the simulator to the event in the waiting process, by the same clock.
held: the longest time for which the event loop was busy without a break, from the first trigger to the last event, in
  CPU time of the process, without Python's garbage collection of the imported modules.
Steady, more than 1000 calls: the window begins {catch_up:.0f} s after the first poll, when ours has read what changed in the
  15 minutes before. Burst: that is part of it.
missed: ends without an event, events without an end, and failed waits.
Not measured: the triggerer's handling of an event, and its supervisor, from which it reads connections."""


class Worker:
    """
    A process that receives commands and returns results, one line of JSON each.

    :param module: the module that it runs
    :param arguments: its command line
    :param environment: additional environment variables
    """

    def __init__(self, module: str, *arguments: str, **environment: str) -> None:
        self._module = module
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env={**os.environ, **environment},
            # Ctrl-C reaches only this process, which stops the other.
            start_new_session=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        # It has nothing to clean up; if this process is killed, it ends because its stdin closes.
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command, and return the result."""
        self.tell(**command)
        return self.hear()

    def tell(self, **command: Any) -> None:
        print(json.dumps(command), file=self._process.stdin, flush=True)

    def hear(self, seconds: float = START_SECONDS) -> dict[str, Any]:
        """
        Return the next result.

        :raises RuntimeError: with the end of its stderr, if there is no result in time
        """
        patience = threading.Timer(seconds, self._process.kill)
        patience.start()
        try:
            line = self._process.stdout.readline()
        finally:
            patience.cancel()
        if not line:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace")[-4000:]
            raise RuntimeError(f"{self._module} returned no result. The end of its stderr:\n{said}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def measure(cell: Cell, window: float) -> Result | str:
    """Measure one cell, or return why the contender cannot run."""
    with tempfile.TemporaryDirectory() as home, _campaign(cell) as server:
        campaign = server.ask(do="describe")
        with Worker("benchmarks.waiting_process", **_environment(campaign, home)) as process:
            problem: str = process.ask(contender=cell.contender, interval=INTERVAL_SECONDS, **campaign)[
                "problem"
            ]
            if problem:
                return problem
            began = process.hear()["began"]
            first_look = _all_asked(server, cell) - began
            return _watch(cell, window, server, process, first_look)


def _campaign(cell: Cell) -> Worker:
    return Worker("benchmarks.campaign", str(cell.calls), str(cell.kilobytes * 1000))


def _environment(campaign: dict[str, Any], home: str) -> dict[str, str]:
    url, key = campaign["url"], campaign["key"]
    http = {"conn_type": "http", "host": url, "extra": {"Authorization": f"Bearer {key}"}}
    return {
        "AIRFLOW_HOME": home,
        "AIRFLOW_CONN_VAPI_DEFAULT": json.dumps({"conn_type": "vapi", "host": url, "password": key}),
        "AIRFLOW_CONN_HTTP_DEFAULT": json.dumps(http),
    }


def _all_asked(server: Worker, cell: Cell) -> float:
    """Wait for the end of the first poll, as NOTES defines it, and return when that was."""
    give_up = time.time() + START_SECONDS
    while time.time() < give_up:
        answered = server.ask(do="answered")
        if cell.contender == OURS:
            if 0 < answered["last"] < time.time() - QUIET_SECONDS:
                return float(answered["last"])
        elif answered["calls"] == cell.calls:
            return float(answered["last_first"])
        time.sleep(0.1)
    raise RuntimeError(
        f"{NAMES[cell.contender]} did not poll {cell.calls} calls within {START_SECONDS:.0f} s"
    )


def _watch(cell: Cell, window: float, server: Worker, process: Worker, first_look: float) -> Result:
    begin = time.time() + 0.5
    if cell.scenario == "steady" and cell.calls > FEW_CALLS:
        begin += CATCH_UP_SECONDS
    end = begin + window
    endings = _endings(cell, begin, window)
    process.tell(begin=begin, end=end, endings=endings["number"], give_up=end + DRAIN_SECONDS)
    server.ask(do="end_calls", **endings)
    time.sleep(max(0.0, begin - time.time()))
    simulator_cpu = server.ask(do="cpu")["cpu"]
    time.sleep(max(0.0, end - time.time()))
    simulator_cpu = server.ask(do="cpu")["cpu"] - simulator_cpu
    cost = process.hear(DRAIN_SECONDS + START_SECONDS)
    is_burst = cell.scenario == "burst"
    measured_until = cost["finished"] if is_burst else end
    totals = server.ask(do="totals", begin=begin, end=measured_until)
    ended, events, failures = totals["ended"], cost["events"], cost["failures"]
    for call_id, failure in failures.items():
        print(f"{NAMES[cell.contender]}, call {call_id}: {failure}", file=sys.stderr)
    return Result(
        cell=cell,
        seconds=measured_until - begin,
        requests=totals["requests"],
        megabytes=totals["bytes"] / 1e6,
        cpu=cost["cpu"] if is_burst else cost["window_cpu"],
        memory=cost["memory"] / 1e6,
        startup=first_look - (INTERVAL_SECONDS if cell.contender == OURS else 0),
        first_look=first_look,
        startup_cpu=cost["startup_cpu"],
        simulator_load=simulator_cpu / window,
        latencies=[at - ended[call_id] for call_id, at in events.items() if call_id in ended],
        held=cost["held"],
        missed=_count_missed(ended, events, failures),
    )


def _endings(cell: Cell, begin: float, window: float) -> dict[str, Any]:
    if cell.scenario == "burst":
        return {"begin": begin + window / 2, "seconds": BURST_SECONDS, "number": cell.calls}
    number = min(round(window * ENDINGS_PER_SECOND), cell.calls * 8 // 10)
    return {"begin": begin, "seconds": window, "number": number}


def _count_missed(ended: dict[str, float], events: dict[str, float], failures: dict[str, str]) -> int:
    without_event = ended.keys() - events.keys()
    without_end = {call_id for call_id, at in events.items() if at < ended.get(call_id, float("inf"))}
    return len(without_event | without_end | failures.keys())


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    for scenario in options.scenarios:
        for calls, kilobytes in itertools.product(options.calls, options.sizes):
            is_first = kilobytes == options.sizes[0]
            for contender in options.only:
                if contender == OURS:
                    is_measured = is_first or calls >= FEWEST_SMALL_CALLS
                else:
                    is_measured = is_first and calls <= MOST_CALLS_FOR_PEERS
                if is_measured:
                    yield Cell(contender, calls, scenario, kilobytes)


def run(options: argparse.Namespace) -> Results:
    """Measure all chosen cells, and report each missing contender once."""
    chosen = list(cells(options))
    results: Results = {}
    missing: set[str] = set()
    for number, cell in enumerate(chosen, start=1):
        if cell.contender in missing:
            continue
        what = f"{NAMES[cell.contender]}, {cell.calls} calls of {cell.kilobytes} KB, {cell.scenario}"
        print(f"[{number}/{len(chosen)}] {what}", file=sys.stderr, flush=True)
        result = measure(cell, options.window)
        if isinstance(result, Result):
            results[cell] = result
        else:
            missing.add(cell.contender)
            print(f"{NAMES[cell.contender]}: {result}")
    return results


def report(results: Results, window: float) -> None:
    sizes = " or ".join(str(kilobytes) for kilobytes in sorted({cell.kilobytes for cell in results}))
    notes = NOTES.format(
        interval=INTERVAL_SECONDS, window=window, machine=machine(), sizes=sizes, catch_up=CATCH_UP_SECONDS
    )
    print(notes)
    for scenario, description in SCENARIOS.items():
        if any(cell.scenario == scenario for cell in results):
            print(f"\n{scenario.capitalize()}: {description}\n{tables(results, scenario)}")
    print()
    for line in verdicts(results):
        print(line)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting", description=__doc__)
    parser.add_argument("--window", type=float, default=60.0, help="seconds per measurement (default: 60)")
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS, help="numbers of calls to wait for")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="sizes of a call's JSON, in KB")
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), help="contenders to measure")
    options = parser.parse_args()
    if options.window < 1 or min(options.calls) < 2:
        parser.error("--window must be at least 1 and --calls at least 2")

    # Inherited by both processes, in which each call may have a socket.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        results = run(options)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    if results:
        report(results, options.window)
    return 0


if __name__ == "__main__":
    sys.exit(main())
