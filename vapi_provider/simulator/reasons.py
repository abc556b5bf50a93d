# SPDX-License-Identifier: Apache-2.0
"""The ended reasons that Vapi has named, to find a misspelt one."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

FILE = Path(__file__).with_name("ended_reasons.txt")
"""The reasons, one per line, under the outcomes that they mean."""


def known_reasons() -> list[str]:
    """Return the ended reasons that Vapi has named since 2024."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "["))]


def near_reasons(reason: str) -> list[str]:
    """Return up to three known reasons that are spelt similarly, the nearest first."""
    return get_close_matches(reason, known_reasons(), n=3)
