# SPDX-License-Identifier: Apache-2.0
"""The calls of the simulated organization; safe to use from several threads."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from vapi_provider.simulator import bodies
from vapi_provider.simulator.record import LIVE_STATUSES, CallRecord, Version
from vapi_provider.simulator.timeline import Timeline
from vapi_provider.simulator.timestamps import read_timestamp, to_milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from vapi_provider.simulator.clock import Clock

SCHEDULED_CALL_DELETED = "scheduled-call-deleted"
MANUALLY_CANCELED = "manually-canceled"

OverLimit = Literal["refuse", "end", "queue"]
BLOCKED = Timeline(
    ringing=None,
    answered=None,
    ended=1,
    analysis=None,
    ended_reason="call.start.error-subscription-concurrency-limit-reached",
    cost=0,
)
"""What becomes of a call that is taken though no line is free."""


class OverConcurrencyLimitError(Exception):
    """No line is free for another call."""


class CallStore:
    """
    All calls, brought up to the clock's time whenever somebody looks.

    :param clock: where the time comes from.
    :param timeline: what a placed call goes through; may be replaced at any time.
    :param concurrency_limit: how many calls may be live at once.
    :param over_limit: what becomes of one more.
    :param list_lag: by how many seconds the list is behind.
    :param hidden_fields: what a call's JSON never shows, whatever was put in.
    """

    def __init__(
        self,
        clock: Clock,
        timeline: Timeline,
        *,
        concurrency_limit: int,
        over_limit: OverLimit,
        list_lag: float,
        hidden_fields: Collection[str],
    ) -> None:
        self.timeline = timeline
        self.concurrency_limit = concurrency_limit
        self.over_limit = over_limit
        self.list_lag = list_lag
        self.hidden_fields = frozenset(hidden_fields)
        # Where control URLs point; the server sets it once its port is known.
        self.base_url = "http://127.0.0.1"
        self._clock = clock
        self._records: dict[str, CallRecord] = {}
        self._placed: set[str] = set()
        self._rings: Counter[str] = Counter()
        self._lock = threading.RLock()

    def add(self, fields: Mapping[str, Any], timeline: Timeline | None) -> str:
        """Add a call that nobody placed here; its JSON is made up, with ``fields`` laid over it."""
        with self._lock:
            now = to_milliseconds(self._clock.now())
            fields = copy.deepcopy(dict(fields))
            call_id = str(fields.get("id") or bodies.new_id(now))
            if call_id.lower() in self._records:
                raise ValueError(f"call {call_id} exists already")
            created_at = read_timestamp(fields.get("createdAt")) or now
            elsewhere = bodies.placed_elsewhere(fields.get("status"), created_at)
            body = bodies.new_call(call_id, created_at, {**elsewhere, **fields})
            self._keep(body, timeline)
            return call_id

    def place(self, request: Mapping[str, Any]) -> bytes:
        """
        Place a call to one customer, as POST does.

        :param request: the validated request; ``customer`` is a single one.
        :raises OverConcurrencyLimitError: when no line is free.
        :return: the call's JSON.
        """
        with self._lock:
            now = to_milliseconds(self._clock.now())
            plan = request.get("schedulePlan") or {}
            earliest = read_timestamp(plan.get("earliestAt")) or now
            is_blocked = earliest <= now and self.free_lines() == 0
            if is_blocked and self.over_limit == "refuse":
                raise OverConcurrencyLimitError
            status = {"status": "scheduled"} if earliest > now else {}
            call_id = bodies.new_id(now)
            body = bodies.new_call(call_id, now, {**request, **status})
            timeline = BLOCKED if is_blocked and self.over_limit == "end" else self.timeline
            record = self._keep(body, timeline, max(earliest, now))
            self._placed.add(call_id)
            return bodies.encode(
                {**self._render(record, record.current), "subscriptionLimits": self.limits(is_blocked)}
            )

    def limits(self, is_blocked: bool) -> dict[str, Any]:
        """Return the ``subscriptionLimits`` that go with an answer to POST."""
        return {
            "concurrencyBlocked": is_blocked,
            "concurrencyLimit": self.concurrency_limit,
            "remainingConcurrentCalls": self.free_lines(),
        }

    def free_lines(self) -> int:
        """Return how many more calls may be live now."""
        with self._lock:
            live = sum(record.is_live for record in self._up_to_date())
            return max(0, self.concurrency_limit - live)

    def find(self, call_id: str) -> bytes | None:
        """Return a call's JSON, or None when there is no such call."""
        with self._lock:
            record = self._get(call_id)
            return None if record is None else self._encode(record)

    def rename(self, call_id: str, fields: Mapping[str, Any]) -> bytes | None:
        """Lay the fields of an update over a call; return its JSON, or None when it is not there."""
        with self._lock:
            record = self._get(call_id)
            if record is None:
                return None
            record.change(self._clock.now(), fields)
            return self._encode(record)

    def delete(self, call_ids: Iterable[str]) -> bytes | None:
        """Cancel what is scheduled and erase the rest; return the first call's JSON, None without any."""
        with self._lock:
            answers = [self._delete(record) for record in map(self._get, call_ids) if record is not None]
            return answers[0] if answers else None

    def hang_up(self, control_token: str) -> bool:
        """End the live call that this control URL belongs to; return whether there is one."""
        with self._lock:
            for record in self._up_to_date():
                if record.is_live and record.control_token == control_token:
                    record.hang_up(self._clock.now(), MANUALLY_CANCELED)
                    return True
            return False

    def search(self, matches: Callable[[Version], bool], limit: int) -> bytes:
        """Return the JSON of the list: the matching calls, those created last first."""
        with self._lock:
            found = [(version, record) for version, record in self._listed() if matches(version)]
            found.sort(key=lambda pair: pair[0].created_at, reverse=True)
            return b"[" + b",".join(self._encode(record, version) for version, record in found[:limit]) + b"]"

    def drive(self, call_id: str, act: Callable[[CallRecord, datetime], None]) -> None:
        """Let a test act on a call, which leaves its timeline; KeyError when there is no such call."""
        with self._lock:
            record = self._require(call_id)
            record.leave_timeline()
            act(record, self._clock.now())

    def snapshot(self, call_id: str) -> dict[str, Any]:
        """Return a copy of a call's JSON; KeyError when there is no such call."""
        with self._lock:
            record = self._require(call_id)
            return copy.deepcopy(self._render(record, record.current))

    def snapshots(self) -> dict[str, dict[str, Any]]:
        """Return copies of all calls' JSON by id, in the order in which they were added."""
        with self._lock:
            records = self._up_to_date()
            return {record.id: copy.deepcopy(self._render(record, record.current)) for record in records}

    def rings(self) -> Counter[str]:
        """Return how often each person's phone rang so far, erased calls included."""
        with self._lock:
            self._up_to_date()
            return Counter(self._rings)

    def _keep(
        self, body: dict[str, Any], timeline: Timeline | None, start: datetime | None = None
    ) -> CallRecord:
        record = CallRecord(
            body,
            self._clock.now(),
            timeline=timeline,
            starts_at=start,
            keeps_versions=self.list_lag > 0,
        )
        self._records[record.id.lower()] = record
        return record

    def _up_to_date(self) -> list[CallRecord]:
        records = list(self._records.values())
        for record in records:
            self._advance(record)
        return records

    def _advance(self, record: CallRecord) -> None:
        rang = record.advance(self._clock.now())
        if rang and record.id in self._placed and record.person:
            self._rings[record.person] += 1

    def _get(self, call_id: str) -> CallRecord | None:
        record = self._records.get(call_id.lower())
        if record is not None:
            self._advance(record)
        return record

    def _require(self, call_id: str) -> CallRecord:
        record = self._get(call_id)
        if record is None:
            raise KeyError(call_id)
        return record

    def _delete(self, record: CallRecord) -> bytes:
        if record.status == "scheduled":
            record.leave_timeline()
            record.end(self._clock.now(), SCHEDULED_CALL_DELETED)
        else:
            del self._records[record.id.lower()]
        return self._encode(record)

    def _listed(self) -> Iterator[tuple[Version, CallRecord]]:
        seen_at = self._clock.now() - timedelta(seconds=self.list_lag)
        for record in self._up_to_date():
            version = record.version_at(seen_at) if self.list_lag else record.current
            if version is not None:
                yield version, record

    def _render(self, record: CallRecord, version: Version) -> dict[str, Any]:
        body = version.body
        if body.get("status") in LIVE_STATUSES:
            body = {**body, "monitor": body.get("monitor", self._monitor(record))}
        if self.hidden_fields:
            body = {name: value for name, value in body.items() if name not in self.hidden_fields}
        return body

    def _monitor(self, record: CallRecord) -> dict[str, str]:
        control_url = f"{self.base_url}/control/{record.control_token}"
        listen_url = f"{control_url.replace('http', 'ws', 1)}/listen"
        return {"listenUrl": listen_url, "controlUrl": control_url}

    def _encode(self, record: CallRecord, version: Version | None = None) -> bytes:
        if version is not None and version is not record.current:
            return bodies.encode(self._render(record, version))
        # A list of many calls is asked for again and again: what did not change is written once.
        if record.encoded is None:
            record.encoded = bodies.encode(self._render(record, record.current))
        return record.encoded
