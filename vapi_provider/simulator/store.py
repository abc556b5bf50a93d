# SPDX-License-Identifier: Apache-2.0
"""The calls of the simulated organization, safe for use from several threads."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from vapi_provider.simulator import bodies
from vapi_provider.simulator.record import LIVE_STATUSES, CallRecord, Version
from vapi_provider.simulator.timeline import Timeline, TimelineChoice
from vapi_provider.simulator.timestamps import read_timestamp, to_milliseconds
from vapi_provider.simulator.views import CallView, Overview

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
"""The life of a call that is accepted although no line is free."""


class CallStore:
    """
    All calls, brought up to date at each access.

    :param clock: the simulator's clock.
    :param timeline: the steps of a placed call; may be replaced at any time.
    :param concurrency_limit: how many calls may be live at once.
    :param over_limit: what happens to a call beyond that.
    :param list_lag: how many seconds the list is behind.
    :param hidden_fields: fields that are left out of a call's JSON.
    """

    def __init__(
        self,
        clock: Clock,
        timeline: TimelineChoice,
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
        self.hidden_fields: frozenset[str] = frozenset(hidden_fields)
        # The base of control URLs; the server sets it once it knows its port.
        self.base_url = "http://127.0.0.1"
        self._clock = clock
        self._records: dict[str, CallRecord] = {}
        self._placed: set[str] = set()
        self._rings: Counter[str] = Counter()
        self._lock = threading.RLock()

    def add(self, fields: Mapping[str, Any], timeline: Timeline | None) -> str:
        """Add a call that was placed elsewhere; its JSON is made up and updated with ``fields``."""
        with self._lock:
            now = to_milliseconds(self._clock.now())
            fields = copy.deepcopy(dict(fields))
            call_id = str(fields.get("id") or bodies.new_id(now))
            if call_id.lower() in self._records:
                raise ValueError(f"call {call_id} already exists")
            created_at = read_timestamp(fields.get("createdAt")) or now
            elsewhere = bodies.placed_elsewhere(fields.get("status"), created_at)
            body = bodies.new_call(call_id, created_at, {**elsewhere, **fields})
            self._keep(body, timeline)
            return call_id

    def place(self, requests: Iterable[Mapping[str, Any]]) -> list[dict[str, Any] | None]:
        """
        Place calls, as POST does.

        :param requests: the validated requests, each with a single customer.
        :return: the calls' JSON; None for a call that is refused because no line is free.
        """
        with self._lock:
            now = to_milliseconds(self._clock.now())
            # Counted once, because a count for each call would make a long batch slow.
            live = self._count_live()
            placed: list[dict[str, Any] | None] = []
            for request in requests:
                due = read_timestamp((request.get("schedulePlan") or {}).get("earliestAt")) or now
                is_blocked = due <= now and live >= self.concurrency_limit
                if is_blocked and self.over_limit == "refuse":
                    placed.append(None)
                    continue
                record = self._place(request, now, due, is_blocked=is_blocked)
                call = self._render(record, record.current)
                self._advance(record)
                live += record.is_live
                placed.append({**call, "subscriptionLimits": self._limits(is_blocked, live)})
            return placed

    def _place(
        self, request: Mapping[str, Any], now: datetime, due: datetime, *, is_blocked: bool
    ) -> CallRecord:
        status = {"status": "scheduled"} if due > now else {}
        body = bodies.new_call(bodies.new_id(now), now, {**request, **status})
        timeline = self.timeline(request) if callable(self.timeline) else self.timeline
        if is_blocked and self.over_limit == "end":
            timeline = BLOCKED
        record = self._keep(body, timeline, max(due, now))
        self._placed.add(record.id)
        return record

    def limits(self, is_blocked: bool) -> dict[str, Any]:
        """Return the ``subscriptionLimits`` of a response to POST."""
        with self._lock:
            return self._limits(is_blocked, self._count_live())

    def _limits(self, is_blocked: bool, live: int) -> dict[str, Any]:
        return {
            "concurrencyBlocked": is_blocked,
            "concurrencyLimit": self.concurrency_limit,
            "remainingConcurrentCalls": max(0, self.concurrency_limit - live),
        }

    def _count_live(self) -> int:
        return sum(record.is_live for record in self._up_to_date())

    def find(self, call_id: str) -> bytes | None:
        """Return a call's JSON, or None if there is no such call."""
        with self._lock:
            record = self._get(call_id)
            return None if record is None else self._encode(record)

    def rename(self, call_id: str, fields: Mapping[str, Any]) -> bytes | None:
        """Update a call; return its JSON, or None if there is no such call."""
        with self._lock:
            record = self._get(call_id)
            if record is None:
                return None
            record.change(self._clock.now(), fields)
            return self._encode(record)

    def delete(self, call_ids: Iterable[str]) -> bytes | None:
        """Cancel scheduled calls and erase others; return the first call's JSON, or None without any."""
        with self._lock:
            deleted = [self._delete(record) for record in map(self._get, call_ids) if record is not None]
            return deleted[0] if deleted else None

    def hang_up(self, control_token: str) -> bool:
        """End the live call with this control URL; return whether there is one."""
        with self._lock:
            for record in self._up_to_date():
                if record.is_live and record.control_token == control_token:
                    record.hang_up(self._clock.now(), MANUALLY_CANCELED)
                    return True
            return False

    def search(self, matches: Callable[[Version], bool], limit: int) -> bytes:
        """Return the JSON of the list: the matching calls, the newest first."""
        with self._lock:
            found = [(version, record) for version, record in self._listed() if matches(version)]
            found.sort(key=lambda pair: pair[0].created_at, reverse=True)
            return b"[" + b",".join(self._encode(record, version) for version, record in found[:limit]) + b"]"

    def drive(self, call_id: str, act: Callable[[CallRecord, datetime], None]) -> None:
        """Change a call by hand, which takes it off its timeline; KeyError if there is no such call."""
        with self._lock:
            record = self._require(call_id)
            record.leave_timeline()
            act(record, self._clock.now())

    def snapshot(self, call_id: str) -> dict[str, Any]:
        """Return a copy of a call's JSON; KeyError if there is no such call."""
        with self._lock:
            record = self._require(call_id)
            return copy.deepcopy(self._render(record, record.current))

    def snapshots(self) -> dict[str, dict[str, Any]]:
        """Return copies of all calls' JSON by id, oldest first."""
        with self._lock:
            records = self._up_to_date()
            return {record.id: copy.deepcopy(self._render(record, record.current)) for record in records}

    def rings(self) -> Counter[str]:
        """Return how often each callee's phone has rung, erased calls included."""
        with self._lock:
            self._up_to_date()
            return Counter(self._rings)

    def view(self, call_id: str) -> CallView | None:
        """Return what the page of a call shows, or None if there is no such call."""
        with self._lock:
            record = self._get(call_id)
            return None if record is None else self._view(record)

    def overview(self, most: int) -> Overview:
        """Return what the page of all calls shows, with at most ``most`` calls."""
        with self._lock:
            records = self._up_to_date()
            newest = sorted(reversed(records), key=lambda record: record.current.created_at, reverse=True)
            return Overview(
                now=self._clock.now(),
                calls=[self._view(record) for record in newest[:most]],
                total=len(records),
                live=sum(record.is_live for record in records),
                limit=self.concurrency_limit,
                rings=sum(self._rings.values()),
            )

    def _view(self, record: CallRecord) -> CallView:
        rings = callee_rings = 0
        if record.id in self._placed and record.callee:
            rings, callee_rings = record.rings, self._rings[record.callee]
        current = record.current
        return CallView(
            record.id, current.body, current.created_at, list(record.changes), rings, callee_rings
        )

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
        if rang and record.id in self._placed and record.callee:
            self._rings[record.callee] += rang

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
        # A list of many calls is requested again and again, so an unchanged call is encoded once.
        if record.encoded is None:
            record.encoded = bodies.encode(self._render(record, record.current))
        return record.encoded
