# SPDX-License-Identifier: Apache-2.0
"""The log of requests, which holds nothing that is secret: no header, no body, no control URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

CONTROL_PREFIX = "/control/"


@dataclass
class RequestRecord:
    """
    One request that the simulator received.

    :param at: when it was received, on the simulator's clock.
    :param method: the HTTP method.
    :param path: the path alone; that of a control URL, a capability, reads ``/control/***``.
    :param query: the list's filters; other parameters are left out.
    :param status: the status that was answered; None while there is none, or after a reset.
    :param bytes_sent: how many bytes of the answer's body were sent.
    """

    at: datetime
    method: str
    path: str
    query: dict[str, str]
    status: int | None = None
    bytes_sent: int = 0


def safe_path(path: str) -> str:
    """Return the path as it may be logged."""
    return f"{CONTROL_PREFIX}***" if path.startswith(CONTROL_PREFIX) else path
