# SPDX-License-Identifier: Apache-2.0
"""The event loop and the simulator of the poller's tests, for the trigger's."""

from __future__ import annotations

from polling_world import clock, no_surroundings, nothing_left, run, short_pauses, simulator

__all__ = ["clock", "no_surroundings", "nothing_left", "run", "short_pauses", "simulator"]
