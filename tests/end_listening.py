# SPDX-License-Identifier: Apache-2.0
"""Triggers that listen for the ends of calls, run as a triggerer does, and the state store of their asset."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
from collections.abc import Iterator
from typing import Any

from vapi_provider.triggers.ended import VapiCallEndedTrigger


class AssetStore:
    """The state store of one asset, as Airflow 3.3.2 hands it to a trigger."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.saved: list[Any] = []
        self.error: Exception | None = None
        """What every access raises."""

    async def aget(self, key: str, default: Any = None) -> Any:
        self._fail()
        return copy.deepcopy(self.values.get(key, default))

    async def aset(self, key: str, value: Any) -> None:
        self._fail()
        # Airflow stores JSON.
        self.values[key] = json.loads(json.dumps(value))
        self.saved.append(self.values[key])

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


class Listening:
    """
    A trigger at work.

    :param trigger: the trigger
    :param store: the state store of its asset; None as before Airflow 3.3
    :param most: after how many events the triggerer is killed
    """

    def __init__(
        self, trigger: VapiCallEndedTrigger, store: AssetStore | None = None, most: int | None = None
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self._most = most
        # The triggerer makes it anew of what is stored.
        _, arguments = trigger.serialize()
        self.trigger = type(trigger)(**json.loads(json.dumps(arguments)))
        self.trigger.asset_state_store = store  # type: ignore[assignment]
        self.task = asyncio.get_running_loop().create_task(self._run())

    @property
    def call_ids(self) -> list[str]:
        return [event["call_id"] for event in self.events]

    async def _run(self) -> None:
        events = self.trigger.run()
        try:
            async for event in events:
                # Airflow stores JSON.
                self.events.append(json.loads(json.dumps(event.payload)))
                if len(self.events) == self._most:
                    return
        finally:
            await events.aclose()  # type: ignore[attr-defined]

    async def kill(self) -> None:
        """End it as a killed triggerer does: it has no time to store anything."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


@contextlib.asynccontextmanager
async def listening(
    *arguments: Any, store: AssetStore | None = None, most: int | None = None, **named: Any
) -> Any:
    """Listen for the length of a block: ``async with listening(store=store, poll_interval=5) as heard:``."""
    heard = Listening(VapiCallEndedTrigger(*arguments, **named), store, most)
    try:
        # It has joined then.
        await asyncio.sleep(0)
        yield heard
    finally:
        await heard.kill()


def ids(events: list[dict[str, Any]]) -> Iterator[str]:
    return (event["call_id"] for event in events)
