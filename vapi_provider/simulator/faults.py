# SPDX-License-Identifier: Apache-2.0
"""Faults on demand: what can go wrong between a client and Vapi."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Fault:
    """
    A failure of the next requests that match.

    Without ``status`` and ``body`` the simulator's own response is sent, only late, slowly or
    incompletely; with one of them, that response replaces the simulator's own.

    :param method: the HTTP method it applies to; None for any.
    :param path: the exact path it applies to, such as ``/call``; None for any.
    :param times: how many requests it applies to; None for all until the faults are cleared.
    :param status: the status of the response; 200 if only ``body`` is given.
    :param headers: more headers of that response, such as ``Retry-After`` or ``Location``.
    :param body: the body of that response; by default the error JSON for the status.
    :param content_type: the content type of ``body``.
    :param effect: whether the request takes effect, so that only its response is lost.
    :param delay: seconds of real time before the response begins, after any effect.
    :param drip: seconds of real time between the response's bytes, which are sent one by one.
    :param drip_headers: whether the status line and the headers drip as well.
    :param reset: a connection reset (RST) instead of the response (``before``), or after half of its
        body (``midway``).
    """

    method: str | None = None
    path: str | None = None
    times: int | None = 1
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | bytes | None = None
    content_type: str = "application/json"
    effect: bool = False
    delay: float = 0
    drip: float | None = None
    drip_headers: bool = False
    reset: Literal["before", "midway"] | None = None

    def matches(self, method: str, path: str) -> bool:
        """Return whether the fault applies to a request with this method and path."""
        return self.method in (None, method) and self.path in (None, path)

    @property
    def replaces_response(self) -> bool:
        """Whether the client gets something other than the simulator's own response."""
        return self.status is not None or self.body is not None or self.reset == "before"

    @property
    def processes_request(self) -> bool:
        """Whether the request reaches the simulated API at all."""
        return self.effect or not self.replaces_response


class Faults:
    """The pending faults; the first one that matches a request wins."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[Fault, int | None]] = []

    def add(self, fault: Fault) -> None:
        """
        Add a fault.

        :param fault: what goes wrong, for which requests, and how often.
        """
        with self._lock:
            self._waiting.append((fault, fault.times))

    def clear(self) -> None:
        """Remove all pending faults."""
        with self._lock:
            self._waiting.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault that applies to a request, or None; this uses it up once."""
        with self._lock:
            for position, (fault, left) in enumerate(self._waiting):
                if fault.matches(method, path):
                    if left == 1:
                        del self._waiting[position]
                    elif left is not None:
                        self._waiting[position] = (fault, left - 1)
                    return fault
            return None

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Fault]:
        with self._lock:
            return iter([fault for fault, _ in self._waiting])
