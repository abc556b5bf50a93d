# SPDX-License-Identifier: Apache-2.0
"""Keeps signed URLs, which work without a key, out of the logs."""

from __future__ import annotations

import logging
from contextvars import ContextVar

is_signed: ContextVar[bool] = ContextVar("is_signed", default=False)
"""Whether this thread or task is sending a request with a signed URL."""


class _NoSignedUrls(logging.Filter):
    """Drops what urllib3 logs about a request with a signed URL, such as the path."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not is_signed.get()


_FILTER = _NoSignedUrls()
# The filter of a logger does not apply to its children.
_LOGGERS = tuple(
    f"urllib3.{name}" for name in ("connection", "connectionpool", "poolmanager", "response", "util.retry")
)


def hide_signed_urls() -> None:
    """Keep urllib3 from logging requests while ``is_signed`` is set."""
    # For each request, because configuring logging removes filters; adding one twice has no effect.
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)
