# SPDX-License-Identifier: Apache-2.0
"""What a trigger has reported, as stored between two of its runs."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vapi_provider.models.call import CallStatusView
    from vapi_provider.polling.listeners import ListenedPoll

MEMORY_SECONDS = 3600
"""How long after its ``endedAt`` an end may appear and is still reported."""

MAX_STATE_BYTES = 60_000
"""Airflow warns of values over 65,535 bytes."""

_LATEST = datetime.max.replace(tzinfo=timezone.utc).timestamp() - 1
_HASH_LENGTH = 12
_ENTRY_BYTES = len(f'"{"x" * _HASH_LENGTH}": 1234567890, ')


class EndMemory:
    """
    Decides which ends are to be reported, by ``endedAt`` and never by ``updatedAt``, which moves when a call is renamed.

    All instants are seconds since 1970, in Vapi's time.
    """

    def __init__(self) -> None:
        self.mark: int | None = None
        """Changes before this instant were read and reported; None before the first poll."""
        self.live: list[str] = []
        self._floor = 0.0
        self._reported: dict[str, int] = {}
        """When the calls that were reported had ended, by the hash of their ids."""

    @classmethod
    def of(cls, state: Any) -> EndMemory | None:
        """Read a stored state, also of another version; None if it is not one."""
        fields = state if isinstance(state, Mapping) else {}
        mark, floor = fields.get("mark"), fields.get("floor")
        if not isinstance(mark, int) or not isinstance(floor, (int, float)) or not 0 <= mark <= _LATEST:
            return None
        memory = cls()
        memory.mark, memory._floor = mark, floor
        reported, live = fields.get("reported"), fields.get("live")
        if isinstance(reported, Mapping):
            memory._reported = {str(key): at for key, at in reported.items() if isinstance(at, int)}
        if isinstance(live, list):
            memory.live = [call_id for call_id in live if isinstance(call_id, str)]
        return memory

    @property
    def read_until(self) -> datetime | None:
        """The mark as a datetime."""
        return None if self.mark is None else datetime.fromtimestamp(self.mark, timezone.utc)

    def begin(self, since: datetime) -> None:
        """Report nothing that ended before the first poll starts to read, or in the part of a long absence that it skips."""
        second = int(since.timestamp())
        if self.mark is None or second > self.mark:
            self.mark, self._floor = second, max(self._floor, since.timestamp())
        elif second < self.mark:
            # The stored mark was in the future.
            self.mark, self._floor = second, min(self._floor, second)

    def is_new(self, call: CallStatusView) -> bool:
        """Return whether the end of a call is to be reported."""
        ended_at = _ended_at(call)
        return ended_at is not None and ended_at >= self._floor and _hash(call.id) not in self._reported

    def add(self, call: CallStatusView) -> None:
        """Remember an end that was reported."""
        self._reported[_hash(call.id)] = int(_ended_at(call) or 0)

    def finish_poll(self, poll: ListenedPoll) -> None:
        """Advance to a poll whose ends were all reported."""
        self.live = poll.live
        self.mark = max(self.mark or 0, int(poll.read_until.timestamp()))
        self._floor = max(self._floor, self.mark - MEMORY_SECONDS)
        self._reported = {key: at for key, at in self._reported.items() if at >= int(self._floor)}

    def state(self) -> dict[str, Any]:
        """
        Return what is to be stored, within :data:`MAX_STATE_BYTES`.

        If that is too little for all ends of the last hour, the oldest are left out, and the floor is raised so that they
        are not reported again; but not beyond the mark, because ends after it may still be unread.
        """
        state: dict[str, Any] = {"mark": self.mark, "floor": self._floor, "live": self.live, "reported": {}}
        most = max(0, MAX_STATE_BYTES - len(json.dumps(state))) // _ENTRY_BYTES
        latest = self._reported
        if len(latest) > most:
            latest = dict(heapq.nlargest(most, latest.items(), key=lambda entry: entry[1]))
            left_out = max(at for key, at in self._reported.items() if key not in latest)
            state["floor"] = max(self._floor, min(left_out + 1, self.mark or 0))
        return {**state, "reported": dict(latest)}


def _hash(call_id: str) -> str:
    return hashlib.sha256(call_id.strip().lower().encode()).hexdigest()[:_HASH_LENGTH]


def _ended_at(call: CallStatusView) -> float | None:
    # A call without endedAt most likely never took place, so it ended soon after it was created, or was to start.
    instants = [call.ended_at] if call.ended_at else [call.created_at, call.planned_at]
    return max((instant.timestamp() for instant in instants if instant), default=None)
