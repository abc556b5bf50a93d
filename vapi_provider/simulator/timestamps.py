# SPDX-License-Identifier: Apache-2.0
"""Read and write the API's ISO 8601 timestamps, which have milliseconds and a ``Z``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

_ISO_8601 = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:T(?P<minutes>\d\d:\d\d)(?::(?P<seconds>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?"
    r"(?P<offset>Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII,
)


def to_milliseconds(instant: datetime) -> datetime:
    """Return the instant truncated to milliseconds, like a timestamp."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def write_timestamp(instant: datetime) -> str:
    """Return the instant as the API writes it, such as ``2026-08-01T09:30:00.000Z``."""
    return instant.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_timestamp(text: object, *, offset_needed: bool = False) -> datetime | None:
    """
    Read an ISO 8601 timestamp.

    :param text: what was sent; only a string can be a timestamp.
    :param offset_needed: whether to refuse a time without ``Z`` or an offset; otherwise it is UTC.
    :return: the instant in UTC, or None if the text is not a timestamp.
    """
    match = _ISO_8601.fullmatch(text) if isinstance(text, str) else None
    if match is None or (offset_needed and match["offset"] is None):
        return None
    clock_time = f"{match['minutes'] or '00:00'}:{match['seconds'] or '00'}"
    try:
        naive = datetime.strptime(f"{match['date']}T{clock_time}", "%Y-%m-%dT%H:%M:%S")
        fraction = timedelta(microseconds=int((match["fraction"] or "").ljust(6, "0")[:6]))
        return naive.replace(tzinfo=timezone.utc) + fraction - _read_offset(match["offset"])
    except (ValueError, OverflowError):
        return None


def _read_offset(offset: str | None) -> timedelta:
    if offset is None or offset == "Z":
        return timedelta()
    sign = -1 if offset[0] == "-" else 1
    return sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[-2:]))
