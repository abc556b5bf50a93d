# SPDX-License-Identifier: Apache-2.0
"""How the benchmarks print what they measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table: the first column and the last to the left, figures to the right."""
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
    """Say what it ran on; figures of two machines, or of a busy one, do not compare, ratios roughly do."""
    system = (
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    )
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):
        return system
    return f"{system}, load {load:.1f}"


def verdict(target: str, measured: str, met: bool) -> str:
    """State a target and whether it was met. No assertion: time depends on the machine and what else it does."""
    return f"Target: {target}. Measured: {measured}: {'met' if met else 'NOT met'}."
