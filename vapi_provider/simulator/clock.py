# SPDX-License-Identifier: Apache-2.0
"""The clocks that the simulator can run on."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Protocol


class Clock(Protocol):
    """What the simulator asks for the time; every call's life is measured on it."""

    def now(self) -> datetime:
        """Return the current time as a timezone-aware datetime in UTC."""
        ...


class SystemClock:
    """The computer's own clock: calls go through their life in real time."""

    def now(self) -> datetime:
        """Return the current time as a timezone-aware datetime in UTC."""
        return datetime.now(timezone.utc)


class ManualClock:
    """
    A clock that stands still until it is told to move, so that tests never wait.

    :param start: the first time it shows, timezone-aware; by default the computer's time, because
        code under test compares Vapi's times with its own.
    :raises ValueError: when ``start`` has no timezone.
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
        :raises ValueError: when ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError("a clock does not go back")
        self._now += timedelta(seconds=seconds)
