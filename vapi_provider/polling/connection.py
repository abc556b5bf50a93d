# SPDX-License-Identifier: Apache-2.0
"""The connection that a watcher uses: read now and then, and used in one thread."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from vapi_provider.client.client import VapiClient
from vapi_provider.connection import read_settings
from vapi_provider.exceptions import VapiConfigurationError, VapiError, VapiTransientError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

T = TypeVar("T")

CONNECTION_SECONDS = 60.0
"""For how long the connection is used as it was read."""

MISSING_SECONDS = 300.0
"""For how long a connection may not be found before that is believed."""

LIMITS = {"timeout": 10, "max_retries": 0, "max_response_bytes": 8 * 1_048_576}
"""The next poll is the retry; and a parser at work on very much would hold up every trigger."""


class RefusedError(Exception):
    """Vapi, or Airflow, refuses the connection itself."""

    def __init__(self, error: VapiError) -> None:
        super().__init__(str(error))
        self.error = error


class PolledConnection:
    """
    The way to Vapi: the connection, kept for a minute, a hook over it, and the one thread that it is used in.

    :param conn_id: the connection's id
    """

    def __init__(self, conn_id: str) -> None:
        self.is_in_doubt = False
        """Whether it was refused the last time, so that it is read afresh before it is used again."""
        self.has_worked = False
        """Whether a request has succeeded since it was last in doubt."""
        self._conn_id = conn_id
        self._hook: VapiClient | None = None
        self._fields: tuple[Any, ...] = ()
        self._expires_at = 0.0
        self._reading: asyncio.Future[Connection] | None = None
        self._missing_since: float | None = None
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vapi-call-watcher")

    async def hook(self) -> VapiClient:
        """
        Return a hook over the connection as it was within the last minute.

        :raises RefusedError: when there has been no such connection for minutes
        :raises VapiTransientError: when Airflow could not read it, and it was never read before
        """
        if time.monotonic() < self._expires_at and not self.is_in_doubt and self._hook is not None:
            return self._hook
        try:
            conn = await self._read()
        except Exception as error:
            if self._hook is None or self.is_in_doubt:
                raise self._unread(error) from None
            # It worked a minute ago; should it be gone for good, Vapi will say so.
            return self._hook
        self._missing_since = None
        return self._renew(conn)

    async def _read(self) -> Connection:
        # In a task of its own: before Airflow 3.2, a reader that is cancelled leaves its answer to somebody else.
        self._reading = asyncio.ensure_future(get_async_connection(self._conn_id))
        self._reading.add_done_callback(lambda reading: reading.cancelled() or reading.exception())
        return await asyncio.shield(self._reading)

    def _unread(self, error: Exception) -> Exception:
        """Build the error for a connection that could not be read."""
        if not isinstance(error, AirflowNotFoundException):
            return VapiTransientError(
                f"Airflow could not read connection {self._conn_id!r} ({type(error).__name__})."
            )
        # Airflow says so as well while it cannot reach where it keeps its connections.
        now = time.monotonic()
        self._missing_since = self._missing_since or now
        missing = f"The triggerer finds no connection {self._conn_id!r}."
        if now - self._missing_since < MISSING_SECONDS:
            return VapiTransientError(missing)
        self.is_in_doubt = True
        return RefusedError(VapiConfigurationError(missing))

    def doubt(self) -> None:
        """Have the connection read afresh before it is used again."""
        self.is_in_doubt, self.has_worked = True, False

    async def ask(self, request: Callable[[], T]) -> T:
        """Make a request in the thread."""
        answer = await asyncio.get_running_loop().run_in_executor(self._executor, request)
        self.is_in_doubt, self.has_worked = False, True
        return answer

    def close(self) -> None:
        """Have the thread end after the request that it is at, and close the connections to Vapi."""
        self._drop_hook()
        self._executor.shutdown(wait=False)

    def _renew(self, conn: Connection) -> VapiClient:
        fields = (conn.conn_type, conn.host, conn.password, conn.extra)
        if self._hook is None or fields != self._fields:
            self._drop_hook()
            self._hook, self._fields = (
                VapiClient(
                    read_settings(conn).limited(timeout=10, max_retries=0, max_response_bytes=8 * 1_048_576),
                    logging.getLogger(__name__),
                ),
                fields,
            )
            self.has_worked = False
        self._expires_at = time.monotonic() + CONNECTION_SECONDS
        return self._hook

    def _drop_hook(self) -> None:
        if self._hook is not None:
            self._executor.submit(self._hook.close)
            self._hook = None
