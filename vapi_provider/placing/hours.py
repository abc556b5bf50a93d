# SPDX-License-Identifier: Apache-2.0
"""Calling hours: when a callee may be called, by the clock where the callee lives."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from vapi_provider.exceptions import VapiConfigurationError, VapiOutsideHoursError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_T = TypeVar("_T")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_NAME = "calling_hours"
_MIDNIGHT = "24:00"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_NO_PLACE = r"(?i:localtime|factory|posixrules|(?:posix|right)/.*)"
"""Files of the time zone database that depend on the machine, or count leap seconds."""
_TIME_OR_ZONE = r"\d{1,2}:\d\d|(?=.*(?:/|UTC))(?!(?:.*\d){5})[\w/:+-]{1,40}"
_DAY = r"(?i:(?:mon|tues|wednes|thurs|fri|satur|sun)day|mon|tue|wed|thu|fri|sat|sun)"
_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)
_LONGEST_CLOSURE = timedelta(days=400)


class CallingHours(TypedDict, total=False):
    """
    When a callee may be called, in local time.

    ``opens`` and ``closes`` are ``HH:MM``, and ``closes`` may be ``24:00``; ``timezone`` is a name of the IANA database.
    ``days`` lists weekdays such as ``mon`` (all by default), and ``closed`` dates such as ``2026-12-25``.
    """

    opens: str
    closes: str
    timezone: str
    days: Collection[str] | None
    closed: Collection[str] | None


@dataclass(frozen=True)
class Hours:
    """
    Validated calling hours.

    :param opens: the first minute of the day in which calls are allowed, in local time
    :param closes: the first minute in which they no longer are; None for the end of the day
    :param zone: the time zone
    :param days: the allowed weekdays, 0 for Monday
    :param closed: dates on which no call is allowed
    """

    opens: time
    closes: time | None
    zone: ZoneInfo
    days: frozenset[int]
    closed: frozenset[date]

    def is_open(self, instant: datetime) -> bool:
        """Return whether calls are allowed at an instant."""
        local = instant.astimezone(self.zone)
        clock = local.time()
        return (
            self._is_allowed(local.date())
            and self.opens <= clock
            and (self.closes is None or clock < self.closes)
        )

    def next_opening(self, instant: datetime) -> datetime:
        """
        Return the first instant at or after the given one at which calls are allowed, in UTC.

        :raises VapiConfigurationError: if there is none within 400 days
        """
        try:
            found = instant.astimezone(timezone.utc)
            latest = found + _LONGEST_CLOSURE
        except OverflowError:
            raise refuse(f"{_NAME} cannot be applied to a time in the year {instant.year}") from None
        while not self.is_open(found):
            if found > latest:
                raise refuse(f"{_NAME} has no opening in the next {_LONGEST_CLOSURE.days} days")
            # Clocks change at whole minutes, so openings are whole minutes, too.
            found = found.replace(second=0, microsecond=0) + (
                _HOUR if self._is_closed_for_an_hour(found) else _MINUTE
            )
        return found

    def closing(self, instant: datetime) -> datetime:
        """Return when the window that contains an instant closes, on the same local day."""
        day = instant.astimezone(self.zone).date()
        found = instant.astimezone(timezone.utc)
        while self.is_open(found) and found.astimezone(self.zone).date() == day:
            found = found.replace(second=0, microsecond=0) + _MINUTE
        return found

    def describe(self, instant: datetime) -> str:
        """Format an instant in the callee's time and in UTC, for messages."""
        local, universal = instant.astimezone(self.zone), instant.astimezone(timezone.utc)
        return f"{local:%a %Y-%m-%d %H:%M} {self.zone.key} ({universal:%Y-%m-%d %H:%M} UTC)"

    def _is_allowed(self, day: date) -> bool:
        return day.weekday() in self.days and day not in self.closed

    def _is_closed_for_an_hour(self, instant: datetime) -> bool:
        dates = {each.astimezone(self.zone).date() for each in (instant, instant + _HOUR)}
        return not any(map(self._is_allowed, dates))


def check_open(hours: Hours, now: datetime) -> None:
    """
    Refuse a call outside the calling hours.

    :raises VapiOutsideHoursError: with the next opening
    """
    if hours.is_open(now):
        return
    opening = hours.next_opening(now)
    raise VapiOutsideHoursError(
        f"Outside {_NAME}, which open at {hours.describe(opening)}. Nothing was sent.", opening=opening
    )


def check_calling_hours(hours: Mapping[str, Any]) -> Hours:
    """
    Check calling hours.

    :param hours: a mapping with no other keys than :class:`CallingHours`
    :raises VapiConfigurationError: naming what is wrong with them; nothing is sent then
    """
    opens, closes = _check_clock(hours, "opens"), _check_clock(hours, "closes")
    if opens == closes:
        raise refuse(f"{_NAME} is empty: it opens and closes at {opens}")
    if opens > closes:
        raise refuse(
            f"{_NAME} from {opens} to {closes} spans midnight; only hours within one day are possible"
        )
    return Hours(
        opens=time.fromisoformat(opens),
        closes=None if closes == _MIDNIGHT else time.fromisoformat(closes),
        zone=_check_zone(hours.get("timezone")),
        days=_check_days(hours.get("days")),
        closed=_check_closed(hours.get("closed")),
    )


def refuse(problem: str) -> VapiConfigurationError:
    """Return the error for arguments that are refused before anything is sent."""
    return VapiConfigurationError(f"{problem}. Nothing was sent.")


def _check_clock(hours: Mapping[str, Any], name: str) -> str:
    value = hours.get(name)
    if isinstance(value, str):
        if re.fullmatch(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", value) or (
            name == "closes" and value == _MIDNIGHT
        ):
            return value
    raise refuse(
        f"{_NAME}.{name} must be a 24-hour time in the form HH:MM, such as '09:00'; got {_shown(value)}"
    )


def _check_zone(name: Any) -> ZoneInfo:
    from zoneinfo import ZoneInfo

    if isinstance(name, str) and name and not re.fullmatch(_NO_PLACE, name):
        try:
            return ZoneInfo(name)
        # KeyError for an unknown name, ValueError for a path out of the database, OSError for one of its folders.
        except (KeyError, ValueError, OSError):
            pass
    raise refuse(
        f"{_NAME}.timezone must be a time zone of the IANA database, such as 'America/New_York', not an offset such as UTC+5; got {_shown(name)}"
    )


def _check_days(value: Any) -> frozenset[int]:
    if value is None:
        return frozenset(range(len(DAYS)))
    expected = f"{_NAME}.days must be a list of {', '.join(DAYS)}"
    days = _read_entries(value, _read_day, expected)
    if not days:
        raise refuse(f"{expected}; got {_shown(value)}")
    return days


def _check_closed(value: Any) -> frozenset[date]:
    if value is None:
        return frozenset()
    return _read_entries(value, _read_date, f"{_NAME}.closed must be a list of dates such as '2026-12-25'")


def _read_entries(value: Any, read: Callable[[Any], _T | None], expected: str) -> frozenset[_T]:
    """Read each entry of a list; the error names the first that cannot be read."""
    if not _is_collection(value):
        raise refuse(f"{expected}; got {_shown(value)}")
    read_all = []
    for number, entry in enumerate(value, 1):
        found = read(entry)
        if found is None:
            raise refuse(f"{expected}; entry {number} is {_shown(entry)}")
        read_all.append(found)
    return frozenset(read_all)


def _read_day(value: Any) -> int | None:
    return DAYS.index(value) if value in DAYS else None


def _read_date(value: Any) -> date | None:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    # From Python 3.11 on, fromisoformat accepts other forms, such as 2026-W52-5.
    if not isinstance(value, str) or not re.fullmatch(_DATE, value):
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None


def _is_collection(value: Any) -> bool:
    # Not an iterator: it could be read only once, and the hours are checked in each try.
    return isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping))


def _shown(value: Any) -> str:
    from vapi_provider.client.arguments import show_kind

    # If columns are mixed up, this is a person's name or number, so only times, zones and days are shown.
    is_harmless = isinstance(value, str) and re.fullmatch(f"{_TIME_OR_ZONE}|{_DAY}", value, re.ASCII)
    return repr(value) if is_harmless else show_kind(value)
