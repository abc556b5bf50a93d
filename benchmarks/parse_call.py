# SPDX-License-Identifier: Apache-2.0
"""
The cost of parsing one of Vapi's responses into a Call, compared with plain JSON and with the official SDK.

Run ``python -m benchmarks.parse_call`` from the repository's root, or ``python -m benchmarks.parse_call response.json``
to measure a response of your own, such as the example on Vapi's documentation page. All candidates parse the same bytes,
in turn, in one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmarks.payload import as_printed, as_sent, documented_call, plain_call
from benchmarks.report import machine, table, verdict
from vapi_provider.models.call import Call

TARGET_RATIO = 3.0
BLOCK_SECONDS = 0.005
SLOW_SECONDS = 0.1
SLOW_ROUNDS = 3
"""How often candidates slower than SLOW_SECONDS are repeated, which is enough for a ratio."""

Parse = Callable[[bytes], Any]


@dataclass
class Candidate:
    """A way to parse a response, and its seconds in each round."""

    name: str
    parse: Parse
    seconds: list[float] = field(default_factory=list)
    problem: str = ""

    @property
    def best(self) -> float:
        return min(self.seconds)


@dataclass
class Contest:
    """The candidates for one payload."""

    title: str
    raw: bytes
    candidates: list[Candidate]

    @property
    def plain_json(self) -> Candidate:
        return self.candidates[0]

    @property
    def ours(self) -> Candidate:
        return self.candidates[1]

    @property
    def ratio(self) -> float:
        return self.ours.best / self.plain_json.best


def read_call(raw: bytes) -> Call:
    return Call.model_validate(json.loads(raw))


def sdk_parsers() -> tuple[list[tuple[str, Parse]], str]:
    """Return the SDK's two ways to parse a call, or why there are none."""
    try:
        import vapi
        from vapi.core.unchecked_base_model import construct_type
    except ImportError as error:
        return [], f"not installed ({error})"

    # The client itself validates nothing; the second candidate is the model's own validation.
    return [
        ("official SDK, as in its client", lambda raw: construct_type(type_=vapi.Call, object_=json.loads(raw))),
        ("official SDK, Call.model_validate", lambda raw: vapi.Call.model_validate(json.loads(raw))),
    ], ""  # fmt: skip


def warm_up(candidate: Candidate, raw: bytes) -> float:
    """Record whether the candidate accepts the payload, and return how many seconds it takes approximately."""
    read = partial(candidate.parse, raw)
    try:
        first = timeit.timeit(read, number=1)
    except ValidationError as error:
        candidate.problem = f"refused: {error.error_count()} validation errors"
        return 0.0
    return first if first > SLOW_SECONDS else timeit.timeit(read, number=10) / 10


def measure(contest: Contest, rounds: int) -> None:
    """Measure the candidates in turn, so that other load on the machine affects them equally."""
    plans: list[tuple[Candidate, int, int]] = []
    for candidate in contest.candidates:
        if candidate.problem:
            continue
        once = warm_up(candidate, contest.raw)
        if not candidate.problem:
            number = max(1, round(BLOCK_SECONDS / once))
            plans.append((candidate, number, min(rounds, SLOW_ROUNDS) if once > SLOW_SECONDS else rounds))
    for turn in range(rounds):
        for candidate, number, limit in plans:
            if turn < limit:
                read = partial(candidate.parse, contest.raw)
                candidate.seconds.append(timeit.timeit(read, number=number) / number)


def contests(answer: Path | None) -> list[Contest]:
    if answer is not None:
        payloads = [(answer.name, answer.read_bytes())]
    else:
        payloads = [
            ("documentation page's shape, as printed there", as_printed(documented_call())),
            ("documentation page's shape, as sent", as_sent(documented_call())),
            ("call of a stored assistant, as sent", as_sent(plain_call())),
        ]
    ways, problem = sdk_parsers()
    peers = ways or [("official SDK", json.loads)]
    return [
        Contest(
            f"{title}: {len(raw):,} bytes",
            raw,
            [
                Candidate("json.loads alone", json.loads),
                Candidate("vapi_provider Call", read_call),
                *(Candidate(name, parse, problem=problem) for name, parse in peers),
            ],
        )
        for title, raw in payloads
    ]


def rows(contest: Contest) -> list[list[str]]:
    lines = []
    for candidate in contest.candidates:
        if candidate.problem:
            lines.append([candidate.name, "-", "-", "-", "-", candidate.problem])
            continue
        lines.append(
            [
                candidate.name,
                f"{candidate.best * 1e6:,.1f}",
                f"{statistics.median(candidate.seconds) * 1e6:,.1f}",
                f"{candidate.best / contest.plain_json.best:,.2f}",
                f"{candidate.best / contest.ours.best:,.2f}",
                "",
            ]
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parse_call", description=__doc__)
    parser.add_argument(
        "answer", metavar="response", nargs="?", type=Path, help="a file with one of Vapi's responses as JSON"
    )
    parser.add_argument("-n", "--rounds", type=int, default=40, help="rounds per payload (default: 40)")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.answer is not None:
        try:
            read_call(options.answer.read_bytes())
        except OSError as error:
            parser.error(f"cannot read {options.answer}: {error.strerror}")
        except ValueError as error:
            parser.error(f"{options.answer} is not a call in JSON: {error}")

    print(f"Parsing a call, best and median of up to {options.rounds} rounds ({machine()})")
    outcomes = contests(options.answer)
    for contest in outcomes:
        measure(contest, options.rounds)
        print()
        print(contest.title)
        print(table(["parser", "best µs", "median µs", "x json.loads", "x ours", "remark"], rows(contest)))
    print()
    target = f"under {TARGET_RATIO:.0f} x json.loads for the first payload"
    print(verdict(target, f"{outcomes[0].ratio:.2f} x", outcomes[0].ratio < TARGET_RATIO))
    return 0


if __name__ == "__main__":
    sys.exit(main())
