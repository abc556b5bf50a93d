# SPDX-License-Identifier: Apache-2.0
"""The results of ``benchmarks.waiting`` as tables, ratios and verdicts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
EQUAL_WITHIN = 0.1


@dataclass(frozen=True)
class Cell:
    """One thing to measure."""

    contender: str
    calls: int
    scenario: str


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
    missed: int
    body_bytes: float

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
        f"{len(result.latencies)}",
        f"{result.missed}",
        f"{result.simulator_load:.0%}",
    ]


HEAD = (
    "waiting with", "N", "requests", "/s", "MB", "CPU s", "RSS +MB", "start-up s", "its CPU s", "1st poll s",
    "median s", "p99 s", "events", "missed", "simulator's CPU",
)  # fmt: skip


def tables(results: Results, scenario: str) -> str:
    """Return the tables of a scenario: the measurements, and the peers' multiples of ours."""
    chosen = [result for result in results.values() if result.cell.scenario == scenario]
    chosen.sort(key=lambda result: (result.cell.calls, list(NAMES).index(result.cell.contender)))
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
        ours = results.get(Cell(OURS, cell.calls, scenario))
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
    fewer, more = (results.get(Cell(OURS, calls, "steady")) for calls in (1000, 3000))
    if fewer is None or more is None:
        return
    yield verdict(
        f"the same request rate at 3000 calls as at 1000, within {EQUAL_WITHIN:.0%}",
        f"{more.rate:.2f}/s and {fewer.rate:.2f}/s",
        more.rate <= fewer.rate * (1 + EQUAL_WITHIN),
    )
    yield verdict(
        "at most 3 times the CPU at 3000 calls as at 1000",
        f"{_ratio(more.cpu, fewer.cpu):.1f} times",
        more.cpu <= 3 * fewer.cpu,
    )


def _latency(results: Results) -> Iterator[str]:
    for result in results.values():
        if result.cell.contender == OURS and result.cell.scenario == "steady":
            yield verdict(
                f"p99 from end to event under {LATENCY_TARGET:.0f} s at {result.cell.calls} calls, steady",
                f"{result.p99:.1f} s",
                result.p99 < LATENCY_TARGET,
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
