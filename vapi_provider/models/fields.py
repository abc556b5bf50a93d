# SPDX-License-Identifier: Apache-2.0
"""The types of a call's fields, which read what they do not understand as None."""

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
    """Parse an instant in ISO 8601, with or without a time zone; None for anything else."""
    # pydantic takes a bare number, 1.5e-3 too, for seconds since 1970; here it is something else.
    if not (isinstance(value, str) and value[:4].isdigit() and value[4:5] == "-"):
        return None
    try:
        return _validate_instant(value)
    except ValidationError:
        return None


def read_instant(value: Any) -> datetime | None:
    """Read an instant as Vapi writes it, with a time zone; None for anything but ISO 8601."""
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
    """Declare a field that is part of another property."""
    return Field(default=None, validation_alias=AliasPath(*path), exclude=True)
