# SPDX-License-Identifier: Apache-2.0
"""How a poller logs an outage."""

from __future__ import annotations

import logging
import time
from collections.abc import Sized

from vapi_provider.client.responses import NO_RETRY

log: logging.Logger = logging.getLogger(__name__)


class Outage:
    """
    Logs that something fails, and that it works again, once each.

    :param what: the subject of the message
    :param conn_id: the connection's id
    """

    def __init__(self, what: str, conn_id: str) -> None:
        self._what = what
        self._conn_id = conn_id
        self._since: float | None = None

    def log_begin(self, reason: str, pending: str, *, traceback: bool = False) -> None:
        """Log the reason once per outage, which may last for hours."""
        if self._since is None:
            self._since = time.monotonic()
            log.warning(
                "%s failed (connection %r, %s); retrying. %s",
                self._what,
                self._conn_id,
                pending,
                # The poller retries even a refused request, because its connection may be corrected.
                reason.removesuffix(NO_RETRY).rstrip(),
                exc_info=traceback,
            )

    def log_end(self) -> None:
        """Log the end of the outage, if there was one."""
        if self._since is not None:
            seconds = time.monotonic() - self._since
            log.info("%s works again (connection %r, after %.0f s).", self._what, self._conn_id, seconds)
            self._since = None


def describe_pending(calls: Sized, listeners: Sized) -> str:
    """Return what a poller has pending, for the log."""
    parts = []
    if calls or not listeners:
        parts.append(f"{len(calls)} {'call' if len(calls) == 1 else 'calls'} pending")
    if listeners:
        parts.append(f"{len(listeners)} asset {'trigger' if len(listeners) == 1 else 'triggers'}")
    return ", ".join(parts)
