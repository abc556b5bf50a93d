# SPDX-License-Identifier: Apache-2.0
"""Keeps URLs that work without a key, such as signed ones and control URLs, out of the logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_is_signed: ContextVar[bool] = ContextVar("is_signed", default=False)
"""Whether this thread or task is sending a request to a URL that works without a key."""


class _NoSignedUrls(logging.Filter):
    """Drops what urllib3 logs about such a request, such as the path or, with a bad header, the whole URL."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _is_signed.get()


_FILTER = _NoSignedUrls()
# The filter of a logger does not apply to its children.
_LOGGERS = tuple(
    logging.getLogger(f"urllib3.{name}")
    for name in ("connection", "connectionpool", "poolmanager", "response", "util.retry")
)


@contextmanager
def hide_signed_urls() -> Iterator[None]:
    """Keep urllib3 from logging what this thread or task requests meanwhile."""
    # Adding a filter twice has no effect.
    for logger in _LOGGERS:
        logger.addFilter(_FILTER)
    token = _is_signed.set(True)
    try:
        yield
    finally:
        _is_signed.reset(token)
