# SPDX-License-Identifier: Apache-2.0
"""The personal and secret texts of a request, which errors must not show even if Vapi echoes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
    texts: set[str] = set()
    names: set[str] = set()
    waiting = [(body, False)]
    while waiting:
        value, is_personal = waiting.pop()
        if isinstance(value, Mapping):
            names.update(map(str, value))
            waiting += [(item, is_personal or _is_personal(name)) for name, item in value.items()]
        elif isinstance(value, (list, tuple)):
            waiting += [(item, is_personal) for item in value]
        elif is_personal and value is not None and not isinstance(value, bool):
            texts.add(str(value))
    return frozenset(texts - names - _JSON_TYPES)


def _is_personal(name: Any) -> bool:
    return _PERSONAL.fullmatch(str(name)) is not None
