# SPDX-License-Identifier: Apache-2.0
"""Cleaning of what Vapi sends, so that logs, XCom and the database accept it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Json: TypeAlias = "str | int | float | bool | None | list[Json] | dict[str, Json]"
"""A JSON value."""

# Control characters and lone surrogates: PostgreSQL refuses NUL, UTF-8 refuses the surrogates, and a terminal obeys
# the rest. Line breaks and tabs belong to a transcript, but not to a name or an id.
_UNSAFE_IN_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNSAFE_IN_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

# Airflow and json recurse; real structured data is never this deep.
_MAX_DEPTH = 50


def clean_line(value: str | None) -> str | None:
    """Remove control characters and lone surrogates from a string."""
    return None if value is None else _UNSAFE_IN_LINE.sub("", value)


def clean_json(value: Any, depth: int = 0) -> Json:
    """Copy a JSON value so that Airflow can store it."""
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
    """Read a number as Vapi writes it, as an int or a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def only(kind: type) -> Callable[[Any], Any]:
    """Return a function that keeps a value of a kind, and makes None of any other."""
    return lambda value: value if isinstance(value, kind) else None
