# SPDX-License-Identifier: Apache-2.0
"""Pauses before a call may be placed: for a free line, and after calling hours have opened."""

from __future__ import annotations

import random

SHORT_SECONDS = 10.0
"""A shorter wait is slept, not deferred: a trigger that fires within seconds can fail the task."""

OPENING_SECONDS = 30.0
"""Over how long tasks are spread that wait for one opening; hours are open for at least a minute."""

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


def delay_after_opening(left: float) -> float:
    """
    Return how long after an opening to place the call, in seconds, so that not all tasks do it at once.

    :param left: the seconds until ``execution_timeout`` ends the try
    """
    return random.uniform(0.0, min(OPENING_SECONDS, left / 2))
