# SPDX-License-Identifier: Apache-2.0
"""An export of calls: its interval, its lines and its counts."""

from __future__ import annotations

import heapq
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from vapi_provider.client.arguments import check_instant
from vapi_provider.client.pagination import OVERLAP
from vapi_provider.exceptions import VapiConfigurationError, VapiTransientError
from vapi_provider.models.outcome import CallOutcome

if TYPE_CHECKING:
    from vapi_provider.models.call import Call
    from vapi_provider.models.summary import CallSummary

SETTLE_SECONDS = 60.0
"""How long after the end of a call its cost and analysis may still change, in seconds."""

LIST_LAG_SECONDS = 30.0
"""How long Vapi's list of calls may lag, in seconds."""

SCHEMA_VERSION = 1
"""The version of the fields of a line; incremented when a field is removed or changes its meaning."""

CLOCK_SECONDS = 2.0
"""How much longer to wait for the list, because clocks differ and Vapi's shows whole seconds, in seconds."""

LOG_SECONDS = 30.0
"""The interval between log lines, in seconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_COST_DIGITS = 6
_SCHEDULE = (
    "Schedule the DAG with CronDataIntervalTimetable or CronTriggerTimetable(..., interval=timedelta(days=1)), or pass "
    "both bounds."
)


class Interval(NamedTuple):
    """The interval in which exported calls were created."""

    begin: datetime
    end: datetime


def read_interval(created_at_ge: Any, created_at_lt: Any) -> Interval:
    """
    Read the bounds of an export.

    :raises VapiConfigurationError: if a bound is missing, or the interval is empty or reversed
    """
    begin, end = (
        _read_bound(value, name)
        for name, value in (("created_at_ge", created_at_ge), ("created_at_lt", created_at_lt))
    )
    if begin < end:
        return Interval(begin, end)
    problem = "ends before it begins. Pass the earlier time as created_at_ge."
    if begin == end:
        problem = f"is empty. By default, Airflow 3 gives schedules such as '@daily' intervals without a length. {_SCHEDULE}"
    raise VapiConfigurationError(
        f"The interval from {begin.isoformat()} (created_at_ge) to {end.isoformat()} (created_at_lt) {problem}"
    )


def _read_bound(value: Any, name: str) -> datetime:
    if value is None or (isinstance(value, str) and value.strip() in ("", "None")):
        raise VapiConfigurationError(
            f"{name} is empty; an export needs both bounds. A run without a logical date has no data "
            f"interval. {_SCHEDULE}"
        )
    return datetime.fromisoformat(str(check_instant(value, parameter=name)))


def wait_for_list(end: datetime, log: Any) -> None:
    """Wait until Vapi's list includes the last calls of an interval that ended a moment ago or ends within 30 s."""
    left = (end - datetime.now(timezone.utc)).total_seconds() + LIST_LAG_SECONDS + CLOCK_SECONDS
    # An interval that ends later than that counts as unfinished.
    if 0 < left <= 2 * LIST_LAG_SECONDS + CLOCK_SECONDS:
        log.info("Waiting %.0f s, because Vapi's list of calls may lag.", left)
        time.sleep(left)


def refuse_others(
    calls: Iterable[Call], interval: Interval, assistant_id: str | None, phone_number_id: str | None
) -> Iterator[Call]:
    """
    Check that the server has applied the filters.

    :raises VapiTransientError: for a call that does not belong to the export
    """
    # Vapi shows milliseconds, but may compare microseconds.
    begin = interval.begin.replace(microsecond=interval.begin.microsecond // 1000 * 1000)
    for call in calls:
        if call.created_at is not None and not begin <= call.created_at < interval.end:
            raise VapiTransientError(
                f"Vapi's list contains call {call.id}, which was created outside the interval, at "
                f"{call.created_at.isoformat()}. The object was not changed."
            )
        if not _is_same(call.assistant_id, assistant_id) or not _is_same(
            call.phone_number_id, phone_number_id
        ):
            raise VapiTransientError(
                f"Vapi's list contains call {call.id} of another assistant or phone number. The object was not changed."
            )
        yield call


def _is_same(found: str | None, wanted: str | None) -> bool:
    return found is None or wanted is None or found.lower() == wanted.strip().lower()


class Export:
    """
    Writes calls as JSON Lines, newest first, then by id, and counts them.

    :param write: called with each line, in UTF-8
    :param include: the content to add to the base fields of each line
    :param log: the log for progress messages
    """

    def __init__(self, write: Callable[[bytes], Any], include: tuple[str, ...], log: Any) -> None:
        self.calls: int = 0
        self.unfinished: int = 0
        self.scheduled: int = 0
        self.responded_at: datetime | None = None
        """When Vapi sent the first page, by its clock; None if there was no call."""
        self._write = write
        self._include = include
        self._log = log
        self._costs: list[float] = []
        self._outcomes: Counter[str | None] = Counter()
        # Lines that a call within the overlap of two pages may still precede.
        self._pending: list[tuple[float, str, bytes]] = []
        self._oldest = -math.inf

    def run(self, calls: Iterable[Call]) -> None:
        """Write all calls."""
        logged_at = time.monotonic()
        for call in calls:
            self.responded_at = self.responded_at or call.responded_at
            summary = call.summary(self._include)
            self._count(call, summary)
            self._add(call, summary)
            if time.monotonic() - logged_at >= LOG_SECONDS:
                logged_at = time.monotonic()
                self._log.info("Exporting (calls so far: %d, back to %s).", self.calls, call.created_at)
        self._oldest = math.inf
        self._flush()
        while self._pending:
            self._write(heapq.heappop(self._pending)[2])

    def find_unfinished(self, end: datetime) -> str | None:
        """
        Return a sentence about what is unfinished, or None.

        :param end: the end of the interval; if the list may still lag behind it by Vapi's clock, it counts as an
            unfinished call
        """
        parts = []
        if self.unfinished:
            is_one = self.unfinished == 1
            parts.append(
                f"{self.unfinished} {'call is' if is_one else 'calls are'} live or ended less than "
                f"{SETTLE_SECONDS:.0f} s ago"
            )
        if self.responded_at is not None:
            # By Vapi's clock, because the clock of the worker may be wrong.
            elapsed = (self.responded_at - end).total_seconds()
            if elapsed < LIST_LAG_SECONDS:
                self.unfinished += 1
                parts.append(
                    f"the interval ends in the future, at {end.isoformat()}"
                    if elapsed < 0
                    else f"the interval ended less than {LIST_LAG_SECONDS:.0f} s ago, so Vapi's list may lack calls"
                )
        return f"The export is unfinished: {'; '.join(parts)}." if parts else None

    @property
    def counts(self) -> dict[str, Any]:
        """The counts, as the task returns them."""
        return {
            "calls": self.calls,
            "unfinished": self.unfinished,
            "scheduled": self.scheduled,
            "cost": _sum(self._costs),
            "outcomes": {outcome.value: self._outcomes[outcome.value] for outcome in CallOutcome},
            "schema_version": SCHEMA_VERSION,
        }

    def _count(self, call: Call, summary: CallSummary) -> None:
        self.calls += 1
        if call.cost is not None:
            self._costs.append(call.cost)
        # Not call.outcome, which is slow to compute.
        self._outcomes[summary["outcome"]] += 1
        if call.is_scheduled:
            self.scheduled += 1
        elif not _is_finished(call):
            self.unfinished += 1

    def _add(self, call: Call, summary: CallSummary) -> None:
        age = math.inf if call.created_at is None else -((call.created_at - _EPOCH) // _MICROSECOND)
        heapq.heappush(self._pending, (age, call.id, _line(summary)))
        if call.created_at is not None:
            self._oldest = max(self._oldest, age)
            self._flush()

    def _flush(self) -> None:
        while self._pending and self._pending[0][0] < self._oldest - OVERLAP // _MICROSECOND:
            self._write(heapq.heappop(self._pending)[2])


def _sum(costs: list[float]) -> float | None:
    """Return the sum; None if it is too large for a float, because JSON has no infinity."""
    try:
        # fsum rounds once, so the order of the calls does not matter.
        return round(math.fsum(costs), _COST_DIGITS)
    except OverflowError:
        return None


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _line(summary: CallSummary) -> bytes:
    # JSON allows these line separators in a string, but Python's splitlines() splits there.
    return f"{_encode(summary)}\n".replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()


def _is_finished(call: Call) -> bool:
    """Return True if a call is over, and its cost and analysis are final."""
    if not call.is_terminal and not (call.ended_at and call.ended_reason):
        return False
    ended_at = call.ended_at or call.updated_at
    if ended_at is None or call.responded_at is None:
        return True
    return (call.responded_at - ended_at).total_seconds() >= SETTLE_SECONDS
