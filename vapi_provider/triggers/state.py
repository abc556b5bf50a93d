# SPDX-License-Identifier: Apache-2.0
"""The state of a trigger in the state store of the asset that it watches, which Airflow has from 3.3 on."""

from __future__ import annotations

import asyncio
from typing import Any

CALL_SECONDS = 10.0
"""Time limit of an access to the store: events do not wait for one that hangs."""

_LOAD_SECONDS = 600.0
"""After so long a trigger starts without its state."""
_PAUSE_SECONDS = 10.0

SEVERAL_ASSETS = (
    "Several assets are watched with the same trigger arguments, and Airflow keeps no state for such a trigger: it reports "
    "some ends again after a restart. Use one asset for all DAGs, or another lookback for each asset."
)


class AssetState:
    """
    Loads and saves one value; a store that fails is logged once, and nothing is raised.

    :param accessors: what Airflow gives the trigger; None where it has no such store
    :param key: the key of the value
    :param log: a logger
    """

    def __init__(self, accessors: Any, key: str, log: Any) -> None:
        self._accessors = accessors
        self._key = key
        self._log = log
        self._is_failing = False
        self._is_in_thread = False
        """Whether a thread is still accessing the store, perhaps for a while after its time limit."""

    async def load(self) -> Any:
        """Return the stored value; None without one, without a store, and when the store fails for ten minutes."""
        clock = asyncio.get_running_loop().time
        ends_at = clock() + _LOAD_SECONDS
        while self._accessors is not None and clock() < ends_at:
            try:
                return await self._call("get", self._key)
            except Exception as error:
                # Airflow's own; a store that fails may raise a subclass, such as JSONDecodeError.
                if type(error) is ValueError:
                    self._log.warning(SEVERAL_ASSETS)
                    self._accessors = None
                else:
                    self._log_failure(error)
                    await asyncio.sleep(_PAUSE_SECONDS)
        # The store may still have a state, which is not to be overwritten.
        self._accessors = None
        return None

    async def save(self, value: Any) -> None:
        """Store the value."""
        if self._accessors is None:
            return
        try:
            await self._call("set", self._key, value)
        except Exception as error:
            self._log_failure(error)
        else:
            self._is_failing = False

    async def _call(self, name: str, *args: Any) -> Any:
        """Access the store in a task of its own, because Airflow's channel, when it breaks, cancels what waits for it."""
        access = asyncio.ensure_future(self._access(name, *args))
        try:
            # Not wait_for: before Python 3.12 it can swallow a cancellation.
            await asyncio.wait({access}, timeout=CALL_SECONDS)
        finally:
            access.cancel()
        if not access.done():
            raise TimeoutError
        if access.cancelled():
            raise ConnectionError
        return access.result()

    async def _access(self, name: str, *args: Any) -> Any:
        asynchronous = getattr(self._accessors, f"a{name}", None)
        if asynchronous is not None:
            return await asynchronous(*args)
        # Airflow 3.3.0 and 3.3.1. A store that hangs must not take all threads, one per access.
        if self._is_in_thread:
            raise TimeoutError
        return await asyncio.to_thread(self._access_in_thread, name, *args)

    def _access_in_thread(self, name: str, *args: Any) -> Any:
        self._is_in_thread = True
        try:
            return getattr(self._accessors, name)(*args)
        finally:
            self._is_in_thread = False

    def _log_failure(self, error: Exception) -> None:
        if not self._is_failing:
            # The message may contain the value.
            self._log.warning(
                "The state store of the asset failed (%s); will keep retrying. A restart may report some ends again.",
                type(error).__name__,
            )
        self._is_failing = True
