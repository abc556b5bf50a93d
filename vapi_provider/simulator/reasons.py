# SPDX-License-Identifier: Apache-2.0
"""The ended reasons that Vapi has named, to find a misspelt one."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("ended_reasons.txt")
"""The reasons, one per line, under the outcomes that they mean."""


@cache
def known_reasons() -> dict[str, str]:
    """Return the ended reasons that Vapi has named since 2024, and the outcome that each means."""
    outcome, reasons = "", {}
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            outcome = line.strip("[]")
        elif line and not line.startswith("#"):
            reasons[line] = outcome
    return reasons


def near_reasons(reason: str) -> list[str]:
    """Return up to three known reasons that are spelt similarly, the nearest first."""
    return get_close_matches(reason, known_reasons(), n=3)
