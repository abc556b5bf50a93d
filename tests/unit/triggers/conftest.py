# SPDX-License-Identifier: Apache-2.0
"""The event loops and worlds of the poller's tests, for the triggers."""

from __future__ import annotations

from polling_world import (
    make_world as make_world,
    nothing_left as nothing_left,
    run as run,
    short_pauses as short_pauses,
    world as world,
)
