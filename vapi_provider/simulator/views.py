# SPDX-License-Identifier: Apache-2.0
"""What the simulator's pages show of its calls, taken at one instant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class CallView(NamedTuple):
    """
    One call.

    :param id: the call's id.
    :param body: its JSON as it is now.
    :param created_at: when it was created.
    :param changes: what changed at which instant, the creation first.
    :param rings: how often it made the phone ring.
    :param callee_rings: how often all placed calls made the phone of this callee ring.
    """

    id: str
    body: Mapping[str, Any]
    created_at: datetime
    changes: list[tuple[datetime, Mapping[str, Any]]]
    rings: int
    callee_rings: int


class Overview(NamedTuple):
    """
    All calls.

    :param now: the simulator's time.
    :param calls: the newest calls, the newest first.
    :param total: how many calls there are.
    :param live: how many of them are live.
    :param limit: how many may be live at once.
    :param rings: how often phones have rung.
    """

    now: datetime
    calls: list[CallView]
    total: int
    live: int
    limit: int
    rings: int
