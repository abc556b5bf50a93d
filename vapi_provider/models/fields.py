# SPDX-License-Identifier: Apache-2.0
"""The types of a call's fields, which read any unexpected value as None."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any

from pydantic import (
    AliasPath,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)

from vapi_provider.models.cleaning import finite_number, only

_validate_instant = TypeAdapter(datetime).validate_strings


def parse_instant(value: Any) -> datetime | None:
    """Parse an ISO 8601 instant, with or without a time zone; return None for anything else."""
    # pydantic would read a bare number, even 1.5e-3, as seconds since 1970.
    if not (isinstance(value, str) and value[:4].isdigit() and value[4:5] == "-"):
        return None
    try:
        return _validate_instant(value)
    except ValidationError:
        return None


def read_instant(value: Any) -> datetime | None:
    """Parse an instant as Vapi writes it, in UTC unless it has a time zone."""
    instant = parse_instant(value)
    return instant if instant is None or instant.tzinfo else instant.replace(tzinfo=timezone.utc)


Text = Annotated[str | None, PlainValidator(only(str))]
Object = Annotated[dict[str, Any] | None, PlainValidator(only(dict))]
List = Annotated[list[Any] | None, PlainValidator(only(list))]
Number = Annotated[float | None, PlainValidator(finite_number)]
Instant = Annotated[
    datetime | None,
    PlainValidator(read_instant),
    PlainSerializer(lambda instant: instant and instant.isoformat(), when_used="json"),
]


def within(*path: str) -> Any:
    """Declare a field that is nested in another property."""
    return Field(default=None, validation_alias=AliasPath(*path), exclude=True)
