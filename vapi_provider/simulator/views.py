# SPDX-License-Identifier: Apache-2.0
"""Snapshots of calls for the simulator's pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class CallView(NamedTuple):
    """
    One call.

    :param id: the call's id.
    :param body: its current JSON.
    :param created_at: when it was created.
    :param changes: its changes and their times, the creation first.
    :param rings: how often it made the phone ring.
    :param callee_rings: how often all placed calls made this callee's phone ring.
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
