# SPDX-License-Identifier: Apache-2.0
"""One simulated call: its current JSON, earlier versions, changes so far and steps to come."""

from __future__ import annotations

import secrets
from collections import deque
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from vapi_provider.simulator import bodies
from vapi_provider.simulator.timeline import NO_TIMELINE, Step, StructuredOutput, Timeline
from vapi_provider.simulator.timestamps import read_timestamp, to_milliseconds, write_timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

LIVE_STATUSES = frozenset({"queued", "ringing", "in-progress", "forwarding"})


class Version(NamedTuple):
    """A call from one instant on; the values in the body are never changed in place."""

    since: datetime
    body: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class CallRecord:
    """
    A call in the store, whose lock it relies on.

    :param body: the call's first JSON.
    :param now: when it was added, which may differ from the ``createdAt`` of its body.
    :param timeline: the steps that it takes by itself; None if it changes only by hand.
    :param starts_at: when the timeline begins; by default at the call's creation.
    :param keeps_versions: whether to keep earlier versions, for a list that lags.
    """

    def __init__(
        self,
        body: dict[str, Any],
        now: datetime,
        *,
        timeline: Timeline | None = None,
        starts_at: datetime | None = None,
        keeps_versions: bool = False,
    ) -> None:
        created_at = read_timestamp(body.get("createdAt")) or now
        updated_at = read_timestamp(body.get("updatedAt")) or created_at
        self.id: str = str(body["id"])
        self.control_token: str = secrets.token_urlsafe(24)
        self.encoded: bytes | None = None
        self.changes: list[tuple[datetime, Mapping[str, Any]]] = [
            (created_at, {"status": body.get("status")})
        ]
        self.rings: int = 0
        self._timeline = timeline or NO_TIMELINE
        self._keeps_versions = keeps_versions
        self._versions = [Version(now, body, created_at, updated_at)]
        self._pending: deque[tuple[datetime, Step]] = deque()
        if self.status == "scheduled" and starts_at is not None:
            self._pending.append((starts_at, "queued"))
        for seconds, step in self._timeline.steps():
            self._pending.append(((starts_at or created_at) + timedelta(seconds=seconds), step))

    @property
    def current(self) -> Version:
        """The newest version."""
        return self._versions[-1]

    @property
    def status(self) -> Any:
        """The current status, known or not."""
        return self.current.body.get("status")

    @property
    def is_live(self) -> bool:
        """Whether the call occupies one of the organization's concurrent lines."""
        return self.status in LIVE_STATUSES

    @property
    def callee(self) -> str | None:
        """The callee whose phone the call rings."""
        return bodies.callee_of(self.current.body)

    def version_at(self, instant: datetime) -> Version | None:
        """Return the version at an earlier instant, or None before the call existed."""
        return next((version for version in reversed(self._versions) if version.since <= instant), None)

    def change(self, at: datetime, fields: Mapping[str, Any], *, moves_updated_at: bool = True) -> None:
        """Update the call's JSON with ``fields`` at an instant."""
        last = self.current
        body, updated_at = {**last.body, **fields}, last.updated_at
        if moves_updated_at:
            updated_at = to_milliseconds(at)
            body["updatedAt"] = write_timestamp(at)
        if not self._keeps_versions:
            self._versions.clear()
        self._versions.append(Version(max(at, last.since), body, last.created_at, updated_at))
        self.changes.append((at, fields))
        self.encoded = None

    def advance(self, now: datetime) -> int:
        """Take the steps that are due, each at its own instant; return how often the phone rang."""
        before = self.rings
        while self._pending and self._pending[0][0] <= now:
            at, step = self._pending.popleft()
            self._reach(step, at)
            self.rings += step == "ringing"
        return self.rings - before

    def leave_timeline(self) -> None:
        """Drop the steps to come, so that the call changes only by hand."""
        self._pending.clear()

    def set_status(self, at: datetime, status: str) -> None:
        """Change the status, and set ``startedAt`` if the call is answered."""
        answered = status == "in-progress" and "startedAt" not in self.current.body
        self.change(at, {"status": status, **({"startedAt": write_timestamp(at)} if answered else {})})

    def end(self, at: datetime, ended_reason: str, extra: Mapping[str, Any] | None = None) -> None:
        """End the call, with further fields that are available at once."""
        fields = {"status": "ended", "endedReason": ended_reason, "endedAt": write_timestamp(at)}
        self.change(at, {**fields, **(extra or {})})

    def hang_up(self, at: datetime, ended_reason: str) -> None:
        """End the call early; the results on its timeline still follow."""
        self.leave_timeline()
        self.end(at, ended_reason)
        for seconds, step in self._timeline.steps_after(0):
            self._pending.append((at + timedelta(seconds=seconds), step))

    def extract(self, at: datetime, output: StructuredOutput, *, moves_updated_at: bool = True) -> None:
        """Add a structured output, as extracted or as skipped."""
        artifact = self.current.body.get("artifact") or {}
        fields = bodies.with_structured_output(artifact, output, at)
        self.change(at, {"artifact": fields}, moves_updated_at=moves_updated_at)

    def _reach(self, step: Step, at: datetime) -> None:
        if step == "ended":
            self.end(at, self._timeline.ended_reason)
        elif step == "analysis":
            self.change(at, self._results())
        elif isinstance(step, StructuredOutput):
            self.extract(at, step)
        else:
            self.set_status(at, step)

    def _results(self) -> dict[str, Any]:
        timeline = self._timeline
        artifact = bodies.artifact(self.id, timeline.transcript, self.current.created_at)
        return {
            "analysis": timeline.analysis_body(),
            "artifact": {**(self.current.body.get("artifact") or {}), **artifact},
            **bodies.costs(timeline.cost),
        }
