# SPDX-License-Identifier: Apache-2.0
"""The event loop of the poller's tests, for the trigger's."""

from __future__ import annotations

from polling_world import nothing_left as nothing_left, run as run, short_pauses as short_pauses
