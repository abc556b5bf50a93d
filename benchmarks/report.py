# SPDX-License-Identifier: Apache-2.0
"""Formats the benchmarks' results."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table with the first and last columns left-aligned, and figures right-aligned."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    last = len(head) - 1
    lines = []
    for row in [head, ["-" * width for width in widths], *rows]:
        cells = [
            cell.ljust(width) if column in (0, last) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def machine() -> str:
    """Describe the machine, because only ratios can be compared between machines."""
    system = (
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    )
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):
        return system
    return f"{system}, load {load:.1f}"


def verdict(target: str, measured: str, met: bool) -> str:
    """Return a target and whether it was met, without asserting it, because times depend on the machine."""
    return f"Target: {target}. Measured: {measured}: {'met' if met else 'NOT met'}."
