# SPDX-License-Identifier: Apache-2.0
"""The personal and secret texts of a request, which errors must not show even if Vapi echoes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_PERSONAL = re.compile(
    r"customers?|name|number|sipUri|email|externalId|extension|variableValues|metadata|headers|content|globalPrompt"
    r"|(first|voicemail|endCall)Message|.*(key|secret|token|password)",
    re.IGNORECASE,
)
"""Field names, at any depth of a body; everything below them is personal or secret, too."""

_JSON_TYPES = frozenset("array boolean integer null number object string".split())


def personal_texts(body: Any) -> frozenset[str]:
    """
    Return the texts in the body of a request that errors must not show.

    Without the names of its fields and of JSON's types, which Vapi's messages are made of.
    """
    return frozenset(_texts(body)) - frozenset(_field_names(body)) - _JSON_TYPES


def _texts(value: Any, *, is_personal: bool = False) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(item, is_personal=is_personal or bool(_PERSONAL.fullmatch(str(name))))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item, is_personal=is_personal)
    elif is_personal and value is not None and not isinstance(value, bool):
        yield str(value)


def _field_names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield str(name)
            yield from _field_names(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _field_names(item)
