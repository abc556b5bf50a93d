# SPDX-License-Identifier: Apache-2.0
"""
Event loops, simulators and clocks for the poller, and a check after each test that nothing of it is left.

There are two ways to run a trigger: ``run`` is an event loop in real time, with ``short_pauses`` so that no test waits for
seconds; ``world`` is an event loop, a simulator and a clock of their own, in which hours take no time and the constants
stay as they are.
"""

from __future__ import annotations

from polling_world import (
    imported_modules_are_no_garbage as imported_modules_are_no_garbage,
    make_world as make_world,
    nothing_left as nothing_left,
    run as run,
    short_pauses as short_pauses,
    world as world,
)
