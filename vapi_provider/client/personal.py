# SPDX-License-Identifier: Apache-2.0
"""What in a request is about people, or secret, so that no error may show it, even when Vapi echoes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_PERSONAL = frozenset(
    "customer customers name number sipUri email externalId extension variableValues firstMessage twilioAuthToken".split()
)
"""The fields that are so, anywhere in a body, with all that is below them."""


def personal_texts(value: Any, *, is_personal: bool = False) -> Iterator[str]:
    """Yield all texts of a request's body that are about people, or secret."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from personal_texts(item, is_personal=is_personal or name in _PERSONAL)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from personal_texts(item, is_personal=is_personal)
    elif is_personal and value is not None and not isinstance(value, bool):
        yield str(value)
