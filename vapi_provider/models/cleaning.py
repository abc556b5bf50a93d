# SPDX-License-Identifier: Apache-2.0
"""Cleans Vapi's data so that logs, XCom and the database accept it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Json: TypeAlias = "str | int | float | bool | None | list[Json] | dict[str, Json]"
"""A JSON value."""

# PostgreSQL refuses NUL, UTF-8 refuses lone surrogates, and terminals obey control characters.
_UNSAFE_IN_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Line breaks and tabs belong in a transcript but not in a name or an id.
_UNSAFE_IN_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

# Airflow and json recurse, and real structured data is never this deep.
_MAX_DEPTH = 50


def clean_line(value: str | None) -> str | None:
    """Remove control characters and lone surrogates from a string."""
    return None if value is None else _UNSAFE_IN_LINE.sub("", value)


def clean_json(value: Any, depth: int = 0) -> Json:
    """Return a copy of a JSON value that Airflow can store."""
    if isinstance(value, str):
        return _UNSAFE_IN_TEXT.sub("", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    if depth == _MAX_DEPTH:
        return None
    if isinstance(value, Mapping):
        return {_UNSAFE_IN_TEXT.sub("", str(key)): clean_json(item, depth + 1) for key, item in value.items()}
    return [clean_json(item, depth + 1) for item in value] if isinstance(value, list) else None


def finite_number(value: Any) -> float | None:
    """Return a finite int or float as a float, and anything else as None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def only(kind: type) -> Callable[[Any], Any]:
    """Return a function that keeps a value of one type and turns any other into None."""
    return lambda value: value if isinstance(value, kind) else None
