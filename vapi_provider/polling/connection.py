# SPDX-License-Identifier: Apache-2.0
"""The connection of a poller: read once a minute, and used in one thread."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from vapi_provider.client.client import VapiClient
from vapi_provider.connection import read_settings, variable_problem
from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiConfigurationError,
    VapiError,
    VapiTransientError,
)
from vapi_provider.hooks.vapi import remembered_connection

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection
    from vapi_provider.models.call import CallPage, CallStatusView

T = TypeVar("T")

CONNECTION_SECONDS = 60.0
"""How long a connection is used before it is read again."""

READING_SECONDS = 60.0
"""Time limit of reading a connection: a response that Airflow's channel loses would end all polling."""

MISSING_SECONDS = 300.0
"""How long a connection may be missing before its waits end."""

_MISSING = "The triggerer cannot find connection {!r}"

TIMEOUT_SECONDS = 10.0
"""Time limit of a request, which is not retried: the next poll is the retry."""

MAX_RESPONSE_BYTES = 8 * 1_048_576
"""A parser at work on more than this would hold up every trigger."""


def open_client(conn: Connection, conn_id: str) -> VapiClient:
    """
    Make the client of a triggerer.

    :param conn_id: the id used for the look-up
    :raises VapiConfigurationError: when the connection is unusable
    """
    settings = read_settings(conn, conn_id)
    limited = settings.limited(timeout=TIMEOUT_SECONDS, max_retries=0, max_response_bytes=MAX_RESPONSE_BYTES)
    return VapiClient(limited, logging.getLogger(__name__))


def says_missing(message: str, conn_id: str) -> bool:
    """Return whether a wait ended with this message because its connection had been missing for five minutes."""
    return message.startswith(_MISSING.format(conn_id))


class RefusedError(Exception):
    """Raised when Vapi or Airflow refuses the connection itself."""

    def __init__(self, error: VapiError) -> None:
        super().__init__(str(error))
        self.error = error


class PolledConnection:
    """
    Sends the requests of a poller, all in one thread, over a connection that is read once a minute.

    :param conn_id: the connection's id
    """

    def __init__(self, conn_id: str) -> None:
        self.is_in_doubt: bool = False
        """Whether it was refused, so that it is read afresh before it is used again."""
        self._has_worked = False
        """Whether a request has succeeded since it was last in doubt."""
        self._conn_id = conn_id
        self._client: VapiClient
        self._fields: tuple[Any, ...] | None = None
        """What the client was made of; None while there is none."""
        self._expires_at = 0.0
        self._reading: asyncio.Future[Connection] | None = None
        self._missing_since: float | None = None
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vapi-call-poller")

    async def refresh(self) -> None:
        """
        Read the connection again when a minute is over or it is in doubt.

        :raises RefusedError: when the connection has been missing for five minutes, or cannot be used
        :raises VapiTransientError: when Airflow could not read it, and there is no usable earlier one
        """
        if time.monotonic() < self._expires_at and not self.is_in_doubt and self._fields is not None:
            return
        try:
            conn = await self._read()
        except Exception as error:
            unread = self._unread(error)
            if isinstance(unread, RefusedError) or self._fields is None or self.is_in_doubt:
                raise unread from None
            # Airflow may be unreachable for a moment, and the connection worked a minute ago.
            return
        self._missing_since = None
        self._renew(conn)

    async def get_status(self, call_id: str) -> CallStatusView:
        """Read the state of a call."""
        return await self._send(lambda client: client.get_status(call_id))

    async def list_statuses(self, query: Mapping[str, Any]) -> CallPage[CallStatusView]:
        """Read a page of the list of calls."""
        return await self._send(lambda client: client.list_statuses(query))

    def doubt(self) -> None:
        """Have the connection read afresh before it is used again."""
        self.is_in_doubt, self._has_worked = True, False

    def close(self) -> None:
        """End the thread after the request in flight, and close the connections to Vapi."""
        self._drop_client()
        self._executor.shutdown(wait=False)

    async def _send(self, request: Callable[[VapiClient], T]) -> T:
        """Make a request in the thread."""
        loop = asyncio.get_running_loop()
        try:
            response = await loop.run_in_executor(self._executor, request, self._client)
        except (VapiAuthenticationError, VapiConfigurationError) as error:
            if error.status_code == 403 and self._has_worked:
                # The key works, but not for this request.
                raise
            refused = error
        else:
            self.is_in_doubt, self._has_worked = False, True
            return response
        # Outside the handler, so that the original is not logged as the cause of what follows.
        raise RefusedError(refused)

    async def _read(self) -> Connection:
        # In a task of its own: before Airflow 3.2, a reader that is cancelled leaves its response to another one.
        self._reading = asyncio.ensure_future(get_async_connection(self._conn_id))
        self._reading.add_done_callback(lambda reading: reading.cancelled() or reading.exception())
        # Neither shield nor wait_for: what is late is left alone, for the same reason.
        await asyncio.wait({self._reading}, timeout=READING_SECONDS)
        if not self._reading.done():
            raise TimeoutError
        try:
            return self._reading.result()
        except AirflowNotFoundException:
            # In dag.test() a trigger runs in the task's process, where Airflow finds no stored connection.
            if (conn := remembered_connection(self._conn_id)) is None:
                raise
            return conn

    def _unread(self, error: Exception) -> Exception:
        """Build the error for a connection that could not be read."""
        if not isinstance(error, AirflowNotFoundException):
            return VapiTransientError(
                f"Airflow could not read connection {self._conn_id!r} ({type(error).__name__})."
            )
        # Airflow also raises this while its secrets backend is unreachable.
        now = time.monotonic()
        self._missing_since = self._missing_since or now
        problem = variable_problem(self._conn_id)
        missing = f"{_MISSING.format(self._conn_id)}{f': {problem}' if problem else '.'}"
        if now - self._missing_since < MISSING_SECONDS:
            return VapiTransientError(missing)
        self.is_in_doubt = True
        return RefusedError(VapiConfigurationError(missing))

    def _renew(self, conn: Connection) -> None:
        fields = (conn.conn_type, conn.host, conn.port, conn.password, conn.extra)
        if fields != self._fields:
            self._drop_client()
            try:
                self._client = open_client(conn, self._conn_id)
            except VapiConfigurationError as error:
                raise RefusedError(error) from None
            self._fields, self._has_worked = fields, False
        self._expires_at = time.monotonic() + CONNECTION_SECONDS

    def _drop_client(self) -> None:
        if self._fields is not None:
            self._executor.submit(self._client.close)
            self._fields = None
