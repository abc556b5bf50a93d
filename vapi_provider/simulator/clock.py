# SPDX-License-Identifier: Apache-2.0
"""The simulator's clocks."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Protocol


class Clock(Protocol):
    """The source of the simulator's time, which times every call."""

    def now(self) -> datetime:
        """Return the current time as a timezone-aware datetime in UTC."""
        ...


class SystemClock:
    """The computer's own clock: calls run in real time."""

    def now(self) -> datetime:
        """Return the current time as a timezone-aware datetime in UTC."""
        return datetime.now(timezone.utc)


class ManualClock:
    """
    A clock that moves only when :meth:`advance` is called, so that tests never wait.

    :param start: the first time it shows, timezone-aware; by default the computer's time, because
        code under test compares Vapi's times with its own.
    :raises ValueError: if ``start`` has no timezone.
    """

    def __init__(self, start: datetime | None = None) -> None:
        if start is not None and start.tzinfo is None:
            raise ValueError("start must have a timezone")
        self._now = (start or datetime.now(timezone.utc)).astimezone(timezone.utc)

    def now(self) -> datetime:
        """Return the time that the clock shows, in UTC."""
        return self._now

    def advance(self, seconds: float) -> None:
        """
        Move the clock forward.

        :param seconds: how far, in seconds; not negative.
        :raises ValueError: if ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError("a clock cannot go back")
        self._now += timedelta(seconds=seconds)
