# SPDX-License-Identifier: Apache-2.0
"""When one may call, by the clocks of the callee's time zone."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st

from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.placing.hours import DAYS, Hours
from vapi_provider.placing.request import build_request

NEW_YORK = {"opens": "09:00", "closes": "20:00", "timezone": "America/New_York"}
WEEKDAYS = ["mon", "tue", "wed", "thu", "fri"]


def at(text: str, zone: str = "America/New_York", fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(timezone.utc)


def checked(calling_hours: Any) -> Hours:
    arguments = {"assistant_id": "a", "phone_number_id": "p", "customer": {"number": "+12025550143"}}
    unused = ("squad_id", "assistant", "assistant_overrides", "extra_body")
    hours = build_request({**dict.fromkeys(unused), **arguments, "calling_hours": calling_hours}).hours
    assert hours is not None
    return hours


def hours(**changes: Any) -> Hours:
    return checked({**NEW_YORK, **changes})


@pytest.mark.parametrize(
    ("instant", "is_open"),
    [
        ("2026-11-26T08:59:59", False),
        ("2026-11-26T09:00:00", True),
        ("2026-11-26T19:59:59.999999", True),
        ("2026-11-26T20:00:00", False),
    ],
)
def test_window_includes_its_opening_and_not_its_closing(instant: str, is_open: bool) -> None:
    assert hours().is_open(at(instant)) is is_open


def test_end_of_the_day_is_24_00() -> None:
    assert hours(closes="24:00").is_open(at("2026-11-26T23:59:59.999999"))
    assert not hours(closes="24:00").is_open(at("2026-11-27T00:00:00"))


def test_days_and_closed_dates_are_local() -> None:
    open_hours = hours(days=WEEKDAYS, closed=["2026-12-25", date(2026, 12, 24)])
    # In UTC it is Saturday already.
    assert hours(closes="24:00", days=WEEKDAYS).is_open(at("2026-11-27T22:00:00"))
    assert not open_hours.is_open(at("2026-11-28T12:00:00"))
    assert open_hours.next_opening(at("2026-12-23T20:00:00")) == at("2026-12-28T09:00:00")


OPENINGS: dict[str, tuple[dict[str, Any], datetime, datetime]] = {
    "already open": ({}, at("2026-11-26T10:00:30"), at("2026-11-26T10:00:30")),
    "later today": ({}, at("2026-11-26T08:00:30"), at("2026-11-26T09:00")),
    "tomorrow": ({}, at("2026-11-26T20:00"), at("2026-11-27T09:00")),
    "after the weekend": ({"days": WEEKDAYS}, at("2026-11-27T20:00"), at("2026-11-30T09:00")),
    "clocks go forward over the opening": (
        {"opens": "02:30"},
        at("2026-03-08T01:59"),
        at("2026-03-08T03:00"),
    ),
    "clocks go back over the opening, first": (
        {"opens": "01:30"},
        at("2026-11-01T00:10"),
        at("2026-11-01T01:30"),
    ),
    "clocks go back over the opening, second": (
        {"opens": "01:30"},
        at("2026-11-01T01:00", fold=1),
        at("2026-11-01T01:30", fold=1),
    ),
    "clocks go back over the closing": (
        {"opens": "00:30", "closes": "01:30"},
        at("2026-11-01T01:40"),
        at("2026-11-01T01:00", fold=1),
    ),
    "midnight that does not exist": (
        {"opens": "00:00", "timezone": "America/Santiago"},
        at("2026-09-05T23:00", "America/Santiago"),
        at("2026-09-06T01:00", "America/Santiago"),
    ),
    "half an hour from UTC": (
        {"timezone": "Asia/Kolkata"},
        at("2026-11-26T21:00", "Asia/Kolkata"),
        at("2026-11-27T09:00", "Asia/Kolkata"),
    ),
}


@pytest.mark.parametrize("case", OPENINGS)
def test_next_opening(case: str) -> None:
    changes, instant, opening = OPENINGS[case]
    assert hours(**changes).next_opening(instant) == opening


@pytest.mark.parametrize(
    ("changes", "instant", "closing"),
    [
        ({}, at("2026-11-26T10:00:30"), at("2026-11-26T20:00")),
        ({"closes": "24:00", "opens": "00:00"}, at("2026-11-26T10:00"), at("2026-11-27T00:00")),
        ({"opens": "01:30"}, at("2026-11-01T01:30"), at("2026-11-01T01:00", fold=1)),
    ],
    ids=["by the clock", "end of the day", "clocks go back"],
)
def test_closing_ends_the_window_of_that_day(
    changes: dict[str, Any], instant: datetime, closing: datetime
) -> None:
    assert hours(**changes).closing(instant) == closing


ZONES = [
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "UTC",
]


@settings(max_examples=60, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    opens=st.integers(0, 1_438),
    length=st.integers(1, 1_440),
    days=st.sets(st.sampled_from(DAYS), min_size=1),
    instant=st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(timezone.utc)),
    earlier=st.integers(1, 7 * 24 * 60),
)
def test_opening_is_the_first_open_instant(
    zone: str, opens: int, length: int, days: set[str], instant: datetime, earlier: int
) -> None:
    end = min(opens + length, 1_440)
    some = hours(
        opens=f"{opens // 60:02}:{opens % 60:02}",
        closes=f"{end // 60:02}:{end % 60:02}",
        timezone=zone,
        days=sorted(days),
    )
    opening = some.next_opening(instant)
    assert opening >= instant
    assert some.is_open(opening)
    before = opening - timedelta(minutes=earlier)
    assert before < instant or not some.is_open(before)
    just_before = opening - timedelta(microseconds=1)
    assert just_before < instant or not some.is_open(just_before)


REFUSED: dict[str, tuple[Any, str]] = {
    "text": ("9 to 5", "calling_hours must be a dictionary"),
    "unknown key": ({**NEW_YORK, "zone": "UTC"}, "calling_hours has unknown keys ['zone']"),
    "empty": ({**NEW_YORK, "closes": "09:00"}, "calling_hours is empty"),
    "across midnight": ({**NEW_YORK, "opens": "21:00"}, "calling_hours from 21:00 to 20:00 spans midnight"),
    "opening missing": ({"closes": "20:00", "timezone": "UTC"}, "calling_hours.opens must be a 24-hour time"),
    "opening at 24:00": ({**NEW_YORK, "opens": "24:00"}, "calling_hours.opens must be a 24-hour time"),
    "hour without zero": ({**NEW_YORK, "opens": "9:00"}, "calling_hours.opens must be a 24-hour time"),
    "number": ({**NEW_YORK, "opens": 540}, "calling_hours.opens must be a 24-hour time"),
    "unknown zone": ({**NEW_YORK, "timezone": "Mars/Base"}, "calling_hours.timezone must be a time zone"),
    "zone of the machine": (
        {**NEW_YORK, "timezone": "localtime"},
        "calling_hours.timezone must be a time zone",
    ),
    "zone without a place": (
        {**NEW_YORK, "timezone": "Factory"},
        "calling_hours.timezone must be a time zone",
    ),
    "rules of POSIX": ({**NEW_YORK, "timezone": "posixrules"}, "calling_hours.timezone must be a time zone"),
    "leap seconds": (
        {**NEW_YORK, "timezone": "right/America/New_York"},
        "calling_hours.timezone must be a time zone",
    ),
    "zone of POSIX": (
        {**NEW_YORK, "timezone": "posix/America/New_York"},
        "calling_hours.timezone must be a time zone",
    ),
    "folder of zones": ({**NEW_YORK, "timezone": "America"}, "calling_hours.timezone must be a time zone"),
    "path": ({**NEW_YORK, "timezone": "../etc/passwd"}, "calling_hours.timezone must be a time zone"),
    "zone missing": ({"opens": "09:00", "closes": "20:00"}, "calling_hours.timezone must be a time zone"),
    "no days": ({**NEW_YORK, "days": []}, "calling_hours.days must be a list of mon"),
    "text for days": ({**NEW_YORK, "days": "mon"}, "calling_hours.days must be a list of mon"),
    "unknown day": (
        {**NEW_YORK, "days": ["mon", "monday"]},
        "calling_hours.days must be a list of mon, tue, wed, thu, fri, sat, sun; entry 2 is 'monday'",
    ),
    "no date": ({**NEW_YORK, "closed": ["2026-02-30"]}, "calling_hours.closed must be a list of dates"),
    "date of a week": (
        {**NEW_YORK, "closed": ["2026-W52-5"]},
        "calling_hours.closed must be a list of dates",
    ),
    "date without dashes": (
        {**NEW_YORK, "closed": ["20261225"]},
        "calling_hours.closed must be a list of dates",
    ),
    "iterator of days": ({**NEW_YORK, "days": iter(["mon"])}, "calling_hours.days must be a list of mon"),
    "iterator of dates": (
        {**NEW_YORK, "closed": (each for each in ["2026-12-25"])},
        "calling_hours.closed must be a list of dates such as '2026-12-25'; got generator",
    ),
    "text for dates": ({**NEW_YORK, "closed": "2026-12-25"}, "calling_hours.closed must be a list of dates"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unusable_hours_are_refused_by_name(case: str) -> None:
    value, problem = REFUSED[case]
    with pytest.raises(VapiConfigurationError) as refusal:
        checked(value)
    assert str(refusal.value).startswith(problem)
    assert str(refusal.value).endswith("Nothing was sent.")


def test_hours_that_never_open_are_refused() -> None:
    first = date(2026, 1, 1)
    closed = [(first + timedelta(days=number)).isoformat() for number in range(500)]
    with pytest.raises(VapiConfigurationError, match="no opening in the next 400 days"):
        hours(closed=closed).next_opening(at("2026-01-01T00:00"))


PERSONAL = [
    "+12025550143",
    "20-25-55-01-43",
    "20/25/55/01/43",
    "Ada Lovelace",
    "Ada",
    "Ada_Lovelace",
    ["Ada, +12025550143"],
]


@pytest.mark.parametrize("value", PERSONAL)
@pytest.mark.parametrize("field", ["opens", "timezone", "days", "closed"])
def test_refusal_shows_nothing_of_a_person(field: str, value: Any) -> None:
    with pytest.raises(VapiConfigurationError) as refusal:
        checked({**NEW_YORK, field: value})
    assert "Ada" not in str(refusal.value)
    assert "2025550143" not in re.sub(r"\D", "", str(refusal.value))


@pytest.mark.parametrize(
    ("field", "value"),
    [("opens", "9:00"), ("timezone", "Mars/Base"), ("timezone", "UTC+5"), ("timezone", "UTC+05:30")],
)
def test_refusal_shows_a_misspelt_time_or_zone(field: str, value: str) -> None:
    with pytest.raises(VapiConfigurationError, match=re.escape(f"got {value!r}")):
        checked({**NEW_YORK, field: value})


@pytest.mark.parametrize("instant", ["9999-06-01T00:00:00+00:00", "9999-12-31T23:00:00-05:00"])
def test_time_at_the_end_of_the_calendar_is_refused(instant: str) -> None:
    with pytest.raises(VapiConfigurationError, match="the year 9999"):
        hours().next_opening(datetime.fromisoformat(instant))
