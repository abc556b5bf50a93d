# SPDX-License-Identifier: Apache-2.0
"""The personal and secret fields of a request, which errors must not show even if Vapi echoes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_PERSONAL = frozenset(
    "apiKey apiSecret authToken clientSecret content customer customers email endCallMessage extension externalId "
    "firstMessage headers hmacSecret metadata name number secret sipUri twilioAuthToken variableValues "
    "voicemailMessage".split()
)
"""Field names, at any depth of a body; everything below them is personal or secret, too."""


def personal_texts(value: Any, *, is_personal: bool = False) -> Iterator[str]:
    """Yield all personal and secret texts in the body of a request."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from personal_texts(item, is_personal=is_personal or name in _PERSONAL)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from personal_texts(item, is_personal=is_personal)
    elif is_personal and value is not None and not isinstance(value, bool):
        yield str(value)
