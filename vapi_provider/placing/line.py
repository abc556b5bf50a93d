# SPDX-License-Identifier: Apache-2.0
"""Pauses while the organization is over its concurrency limit."""

from __future__ import annotations

import random

SHORT_SECONDS = 10.0
"""A shorter wait is slept, not deferred: a trigger that fires within seconds can fail the task."""

_FIRST_PAUSE_SECONDS = 15.0
_LONGEST_PAUSE_SECONDS = 300.0
_MOST_DOUBLINGS = 5


def pause_for_line(waits: int, asked: float | None) -> float:
    """
    Return how long to wait before the next request for a line, in seconds.

    Pauses grow, and differ between tasks, so that tasks that wait for the same lines do not come back together.

    :param waits: how many pauses there were before
    :param asked: the pause that Vapi asked for; None when it asked for none
    """
    longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(waits + 1, _MOST_DOUBLINGS))
    return max(asked or 0.0, random.uniform(_FIRST_PAUSE_SECONDS, longest))
