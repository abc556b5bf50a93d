# SPDX-License-Identifier: Apache-2.0
"""The log of requests, which contains nothing secret: no headers, no bodies, no control URLs."""

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
    :param path: the path alone; that of a control URL, which grants access, reads ``/control/***``.
    :param query: the list's filters, without other parameters.
    :param status: the status of the response; None while there is none, or after a reset.
    :param bytes_sent: how many bytes of the response's body were sent.
    """

    at: datetime
    method: str
    path: str
    query: dict[str, str]
    status: int | None = None
    bytes_sent: int = 0


def safe_path(path: str) -> str:
    """Return the path without the secret of a control URL."""
    return f"{CONTROL_PREFIX}***" if path.startswith(CONTROL_PREFIX) else path
