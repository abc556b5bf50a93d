# SPDX-License-Identifier: Apache-2.0
"""
The time that this package's imports add to the parsing of a DAG file, compared with its peers.

Run ``python -m benchmarks.import_time`` from the repository's root. Airflow parses a DAG file every few seconds, each
time in a new process that imports everything again, so each measurement runs in a new process. It imports what every DAG
file needs, ``airflow.sdk`` with BaseOperator and BaseSensorOperator, and then measures the import of one candidate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import machine, table, verdict

ROOT = Path(__file__).resolve().parent.parent
TARGET_MS = 10.0
HEAVY = (
    "requests", "urllib3", "httpx", "aiohttp", "asyncio", "pydantic", "fastapi", "tenacity",
    "sqlalchemy", "fsspec", "upath", "airflow.triggers", "airflow.models", "airflow.providers.http.hooks",
    "vapi_provider.hooks", "vapi_provider.client.client", "vapi_provider.models.call", "vapi.types",
)  # fmt: skip
"""Modules that are slow to import, or that only a running task needs."""


@dataclass
class Candidate:
    """Something to import, and its measurements."""

    name: str
    code: str
    results: list[dict[str, Any]] = field(default_factory=list)
    problem: str = ""

    @property
    def milliseconds(self) -> list[float]:
        return [result["ms"] for result in self.results]

    @property
    def best(self) -> float:
        return min(self.milliseconds)

    @property
    def median(self) -> float:
        return statistics.median(self.milliseconds)


def candidates() -> list[Candidate]:
    return [
        Candidate(
            "vapi_provider operators, sensors, transfers",
            "from vapi_provider.operators.call import *\n"
            "from vapi_provider.sensors.call import *\n"
            "from vapi_provider.transfers.calls_to_object_storage import *\n"
            "from vapi_provider.transfers.recording_to_object_storage import *",
        ),
        Candidate(
            "HTTP provider operator, sensor",
            "from airflow.providers.http.operators.http import *\n"
            "from airflow.providers.http.sensors.http import *",
        ),
        Candidate(
            "official SDK, calls client",
            "from vapi import Vapi\nVapi(token='unused').calls",
        ),
    ]


# Runs in the measured process. The code is compiled before the clock starts, because compiling is not importing.
_CHILD = """
import json, os, sys, time
code = compile(os.environ["BENCHMARK_CODE"], "<candidate>", "exec")
began = time.perf_counter()
from airflow.sdk import BaseOperator, BaseSensorOperator
baseline = time.perf_counter() - began
before = set(sys.modules)
result = {}
began = time.perf_counter()
try:
    exec(code, {})
except ImportError as error:
    result["problem"] = f"{type(error).__name__}: {error}"
    result["missing"] = error.name if isinstance(error, ModuleNotFoundError) else None
result["ms"] = (time.perf_counter() - began) * 1000
result["baseline_ms"] = baseline * 1000
result["before"] = sorted(before)
result["added"] = sorted(set(sys.modules) - before)
cached = (getattr(getattr(sys.modules[name], "__spec__", None), "cached", None) for name in result["added"])
result["uncached"] = sum(path is not None and not os.path.exists(path) for path in cached)
print()
print(json.dumps(result))
"""


def measure(code: str, airflow_home: str) -> dict[str, Any]:
    """Import a candidate in a new process."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | {
        "AIRFLOW_HOME": airflow_home,
        "BENCHMARK_CODE": code,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    child = subprocess.run(
        [sys.executable, "-c", _CHILD], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return result


def run(rounds: int) -> list[Candidate]:
    """Measure all candidates in turn, so that other load on the machine affects them equally."""
    contest = candidates()
    with tempfile.TemporaryDirectory() as airflow_home:
        # Warm up: writes bytecode caches and Airflow's own files, and finds out which peers are missing.
        for candidate in contest:
            first = measure(candidate.code, airflow_home)
            if "problem" in first:
                missing = first["missing"]
                candidate.problem = f"not installed (no module {missing})" if missing else first["problem"]
        present = [candidate for candidate in contest if not candidate.problem]
        for number in range(rounds):
            turn = number % (len(present) or 1)
            for candidate in present[turn:] + present[:turn]:
                candidate.results.append(measure(candidate.code, airflow_home))
    return contest


def heavy(modules: list[str]) -> list[str]:
    return [name for name in HEAVY if name in set(modules)]


def rows(contest: list[Candidate]) -> list[list[str]]:
    ours = contest[0]
    lines = []
    for candidate in contest:
        if candidate.problem:
            lines.append([candidate.name, "-", "-", "-", "-", candidate.problem])
            continue
        added = candidate.results[-1]["added"]
        lines.append(
            [
                candidate.name,
                f"{candidate.best:.1f}",
                f"{candidate.median:.1f}",
                f"{candidate.best / ours.best:.1f}",
                str(len(added)),
                ", ".join(heavy(added)) or "none",
            ]
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.import_time", description=__doc__)
    parser.add_argument("-n", "--rounds", type=int, default=7, help="processes per candidate (default: 7)")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")

    print("Each process takes seconds, and the SDK's takes longest; allow a minute or more.", file=sys.stderr)
    contest = run(arguments.rounds)
    ours = contest[0]
    if ours.problem:
        print(f"vapi_provider could not be imported: {ours.problem}", file=sys.stderr)
        return 1
    baseline = min(result["baseline_ms"] for candidate in contest for result in candidate.results)
    already = ", ".join(heavy(ours.results[0]["before"])) or "none"
    print(f"Import time, best and median of {arguments.rounds} processes each ({machine()})")
    print(f"Added to: airflow.sdk with BaseOperator and BaseSensorOperator, itself {baseline:.0f} ms")
    print(f"Heavy modules that airflow.sdk has already loaded: {already}")
    print()
    print(
        table(["import", "best ms", "median ms", "x ours", "modules", "heavy modules added"], rows(contest))
    )
    print()
    if any(result["uncached"] for candidate in contest for result in candidate.results):
        print(
            "Some modules have no bytecode cache (is the directory read-only?), so the times include compiling them."
        )
    print(verdict(f"under {TARGET_MS:.0f} ms", f"{ours.best:.1f} ms", ours.best < TARGET_MS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
