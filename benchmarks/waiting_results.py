# SPDX-License-Identifier: Apache-2.0
"""The results of ``benchmarks.waiting`` as tables, ratios and verdicts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from benchmarks.report import table, verdict

OURS = "ours"
PEERS = {
    "http-sensor": "HTTP provider's HttpSensorTrigger",
    "shared-session": "one GET per call, shared session",
}
NAMES = {OURS: "VapiCallTrigger", **PEERS}
INTERVAL_SECONDS = 5.0

REQUESTS_TARGET = 40.0
CPU_TARGET = 4.0
LATENCY_TARGET = INTERVAL_SECONDS + 3
BURST_TARGET = 60.0
HELD_TARGET = 0.1
MOST_CALLS = 10_000
EQUAL_WITHIN = 0.1


@dataclass(frozen=True)
class Cell:
    """One thing to measure."""

    contender: str
    calls: int
    scenario: str
    kilobytes: int
    """The size of a call's JSON."""


@dataclass
class Result:
    """The cost of one cell."""

    cell: Cell
    seconds: float
    """The duration of the measurement: the window or, in a burst, until the last event if that is later."""
    requests: int
    megabytes: float
    cpu: float
    memory: float
    startup: float
    first_look: float
    """The time until each call was first polled, including the pause that ours makes before it."""
    startup_cpu: float
    simulator_load: float
    """The simulator's share of one CPU; near 1, the simulator is the bottleneck."""
    latencies: list[float]
    """The time from each call's end to its event, in seconds."""
    held: float
    """The longest time for which the event loop was busy without a break, in CPU seconds."""
    missed: int

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    @property
    def median(self) -> float:
        return statistics.median(self.latencies) if self.latencies else math.inf

    @property
    def p99(self) -> float:
        """The latency that 99 % of the events do not exceed; below 100 events, the maximum."""
        if not self.latencies:
            return math.inf
        return sorted(self.latencies)[math.ceil(0.99 * len(self.latencies)) - 1]

    @property
    def slowest(self) -> float:
        return max(self.latencies, default=math.inf)


Results = dict[Cell, Result]

FIGURES: dict[str, tuple[Callable[[Result], float], float]] = {
    "requests": (lambda result: result.requests, 0),
    "MB": (lambda result: result.megabytes, 0),
    "CPU": (lambda result: result.cpu, 0.03),
    "memory": (lambda result: result.memory, 1),
    "start-up": (lambda result: result.startup, 0.05),
    "start-up CPU": (lambda result: result.startup_cpu, 0.03),
    "median": (lambda result: result.median, INTERVAL_SECONDS / 2),
    "p99": (lambda result: result.p99, INTERVAL_SECONDS / 2),
}
"""
The compared figures, and their noise between runs: with few calls, latencies mostly depend on the phase of the polls.
"""


def measured(result: Result) -> list[str]:
    return [
        NAMES[result.cell.contender],
        f"{result.cell.calls}",
        f"{result.cell.kilobytes}",
        f"{result.requests}",
        f"{result.rate:.2f}",
        f"{result.megabytes:.1f}",
        f"{result.cpu:.2f}",
        f"{result.memory:.1f}",
        f"{result.startup:.2f}",
        f"{result.startup_cpu:.2f}",
        f"{result.first_look:.2f}",
        f"{result.median:.1f}",
        f"{result.p99:.1f}",
        f"{result.slowest:.1f}",
        f"{1000 * result.held:.0f}",
        f"{len(result.latencies)}",
        f"{result.missed}",
        f"{result.simulator_load:.0%}",
    ]


HEAD = (
    "waiting with", "N", "KB", "requests", "/s", "MB", "CPU s", "RSS +MB", "start-up s", "its CPU s", "1st poll s",
    "median s", "p99 s", "max s", "held ms", "events", "missed", "simulator's CPU",
)  # fmt: skip


def tables(results: Results, scenario: str) -> str:
    """Return the tables of a scenario: the measurements, and the peers' multiples of ours."""
    chosen = [result for result in results.values() if result.cell.scenario == scenario]
    chosen.sort(
        key=lambda result: (
            result.cell.calls,
            -result.cell.kilobytes,
            list(NAMES).index(result.cell.contender),
        )
    )
    parts = [table(HEAD, [measured(result) for result in chosen])]
    ratios = [_ratios(peer, ours) for peer, ours in _pairs(results, scenario)]
    if ratios:
        parts.append(table(["x ours", "N", *FIGURES], ratios))
    return "\n\n".join(parts)


def verdicts(results: Results) -> Iterator[str]:
    """Return a verdict for each target that was measured."""
    for scenario in ("steady", "burst"):
        for peer, ours in _pairs(results, scenario):
            if peer.cell.calls == 1000:
                yield from _thousand(peer, ours)
    yield from _growth(results)
    yield from _latency(results)
    yield from _small(results)
    yield from _missed(results)


def _pairs(results: Results, scenario: str) -> Iterator[tuple[Result, Result]]:
    for cell, peer in results.items():
        ours = results.get(replace(cell, contender=OURS))
        if cell.contender in PEERS and cell.scenario == scenario and ours is not None:
            yield peer, ours


def _ratios(peer: Result, ours: Result) -> list[str]:
    cells = [NAMES[peer.cell.contender], f"{peer.cell.calls}"]
    return cells + [f"{_ratio(figure(peer), figure(ours)):.1f}" for figure, _ in FIGURES.values()]


def _ratio(peer: float, ours: float) -> float:
    return peer / ours if ours else math.inf


def _thousand(peer: Result, ours: Result) -> Iterator[str]:
    where = f"of {NAMES[peer.cell.contender]} at 1000 calls, {ours.cell.scenario}"
    for name, target, ratio in (
        ("requests", REQUESTS_TARGET, _ratio(peer.requests, ours.requests)),
        ("CPU", CPU_TARGET, _ratio(peer.cpu, ours.cpu)),
    ):
        yield verdict(f"under 1/{target:.0f} of the {name} {where}", f"1/{ratio:.1f}", ratio > target)


def _growth(results: Results) -> Iterator[str]:
    for cell, more in results.items():
        fewer = results.get(replace(cell, calls=1000))
        if fewer is None or cell.contender != OURS or cell.calls != MOST_CALLS or cell.scenario != "steady":
            continue
        where = f"at {cell.calls} calls of {cell.kilobytes} KB as at 1000"
        yield verdict(
            f"the same request rate {where}, within {EQUAL_WITHIN:.0%}",
            f"{more.rate:.2f}/s and {fewer.rate:.2f}/s",
            more.rate <= fewer.rate * (1 + EQUAL_WITHIN),
        )
        ratio = _ratio(more.cpu, fewer.cpu)
        yield verdict(f"at most 3 times the CPU {where}", f"{ratio:.1f} times", ratio <= 3)


def _latency(results: Results) -> Iterator[str]:
    for cell, result in results.items():
        if cell.contender != OURS:
            continue
        where = f"{cell.calls} calls of {cell.kilobytes} KB, {cell.scenario}"
        target = LATENCY_TARGET if cell.scenario == "steady" else BURST_TARGET
        yield verdict(
            f"every event within {target:.0f} s of the end: {where}",
            f"{result.slowest:.1f} s",
            result.slowest < target,
        )
        yield verdict(
            f"the event loop held for at most {1000 * HELD_TARGET:.0f} ms: {where}",
            f"{1000 * result.held:.0f} ms",
            result.held <= HELD_TARGET,
        )


def _small(results: Results) -> Iterator[str]:
    for scenario in ("steady", "burst"):
        for peer, ours in _pairs(results, scenario):
            if peer.cell.calls == 10:
                worse = list(_worse(peer, ours))
                target = f"at 10 calls no worse than {NAMES[peer.cell.contender]} in anything, {scenario}"
                yield verdict(target, f"worse in {', '.join(worse) or 'nothing'}", not worse)


def _worse(peer: Result, ours: Result) -> Iterator[str]:
    for name, (figure, noise) in FIGURES.items():
        difference = figure(ours) - figure(peer)
        if difference > max(noise, EQUAL_WITHIN * figure(peer)):
            yield f"{name} ({figure(ours):.2f} vs {figure(peer):.2f})"


def _missed(results: Results) -> Iterator[str]:
    missed = sum(result.missed for result in results.values() if result.cell.contender == OURS)
    if any(cell.contender == OURS for cell in results):
        yield verdict("no end missed, no event without an end", f"{missed}", missed == 0)
