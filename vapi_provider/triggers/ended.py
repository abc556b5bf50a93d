# SPDX-License-Identifier: Apache-2.0
"""A trigger for asset watchers: an asset event for every call that ends."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

# The trigger's base class. Asset watchers import this module at parse time anyway.
from airflow.triggers.base import BaseEventTrigger, TriggerEvent  # noqa: TID253
from vapi_provider.models.outcome import CallOutcome, parse_outcomes

if TYPE_CHECKING:
    from vapi_provider.polling.listeners import EndListener
    from vapi_provider.triggers.memory import EndMemory
    from vapi_provider.triggers.state import AssetState

MIN_POLL_SECONDS = 5.0
MAX_POLL_SECONDS = 86_400.0
MAX_LOOKBACK_SECONDS = 86_400.0
"""As far back as a restarted trigger reads, too."""

STORING_SECONDS = 4.0
"""How long Airflow may take to store an event; only then the trigger remembers that it has reported it."""

_DEFECT_PAUSE_SECONDS = 60.0
_LONGEST_SHOWN = 10**12


class VapiCallEndedTrigger(BaseEventTrigger):
    """
    Create an asset event for every call that ends.

    For an ``AssetWatcher`` of an ``Asset`` that a DAG is scheduled on. It reports all calls of the organization, inbound
    and web calls too, each at least once and in no order. The DAG reads the events from ``triggering_asset_events``; each
    has ``extra["payload"]``, see :class:`~vapi_provider.models.ended.EndedCall`. All arguments are constants.

    :param vapi_conn_id: the connection's id
    :param assistant_id: only calls of this assistant; all by default
    :param phone_number_id: only calls over your phone number with this id; all by default
    :param outcomes: only calls with these outcomes, see :class:`~vapi_provider.models.outcome.CallOutcome`; all by default
    :param poll_interval: the seconds between two polls, from 5 to a day; all triggers of a connection share the shortest
        one. 60 by default
    :param lookback: how many seconds before its first start to report ends from, at most a day; before Airflow 3.3 before
        each start. 900 by default
    :raises ValueError: at DAG parse time, for an unusable argument
    """

    def __init__(
        self,
        vapi_conn_id: str = "vapi_default",
        assistant_id: str | None = None,
        phone_number_id: str | None = None,
        outcomes: Sequence[CallOutcome | str] = (),
        poll_interval: float = 60,
        lookback: float = 900,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.vapi_conn_id: str = _check_text("vapi_conn_id", vapi_conn_id)
        self.assistant_id: str | None = (
            None if assistant_id is None else _check_text("assistant_id", assistant_id)
        )
        self.phone_number_id: str | None = (
            None if phone_number_id is None else _check_text("phone_number_id", phone_number_id)
        )
        self.outcomes: list[str] = sorted({item.value for item in parse_outcomes("outcomes", outcomes)})
        self.poll_interval: float = _check_seconds(
            "poll_interval", poll_interval, MIN_POLL_SECONDS, MAX_POLL_SECONDS
        )
        self.lookback: float = _check_seconds("lookback", lookback, 0.0, MAX_LOOKBACK_SECONDS)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """
        Return what Airflow stores of the trigger, and identifies it by.

        :return: its class and its arguments
        """
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "vapi_conn_id": self.vapi_conn_id,
                "assistant_id": self.assistant_id,
                "phone_number_id": self.phone_number_id,
                "outcomes": self.outcomes,
                "poll_interval": self.poll_interval,
                "lookback": self.lookback,
            },
        )

    @property
    def state_key(self) -> str:
        """The key of its state in the asset's state store; Airflow restarts a trigger under any id."""
        digest = hashlib.sha256(json.dumps(self.serialize(), sort_keys=True).encode())
        return f"vapi_ended_{digest.hexdigest()}"

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """
        Report the calls that end, until it is cancelled.

        :return: an iterator over the events
        """
        from vapi_provider.triggers.memory import EndMemory
        from vapi_provider.triggers.state import AssetState

        # Loading the state may take minutes.
        started_at = time.monotonic()
        state = AssetState(getattr(self, "asset_state_store", None), self.state_key, self.log)
        memory = EndMemory.of(await state.load()) or EndMemory()
        while True:
            try:
                async with aclosing(self._listen(state, memory, started_at)) as events:
                    async for event in events:
                        yield event
            except Exception as error:
                # A defect of the provider must not end it, since Airflow would not start it again.
                self.log.exception(
                    "Bug in airflow-provider-vapi (%s); listening again in %.0f s.",
                    type(error).__name__,
                    _DEFECT_PAUSE_SECONDS,
                )
            await asyncio.sleep(_DEFECT_PAUSE_SECONDS)

    async def _listen(
        self, state: AssetState, memory: EndMemory, started_at: float
    ) -> AsyncGenerator[TriggerEvent, None]:
        from vapi_provider.models.ended import describe_end
        from vapi_provider.polling.poller import CallPoller

        listener = self._listener(memory, started_at)
        reported_at = -math.inf
        with CallPoller.listen(self.vapi_conn_id, listener):
            memory.begin(await listener.started())
            while True:
                poll = await listener.next_poll()
                if poll.anew_from is not None:
                    memory.begin(poll.anew_from)
                # Nothing confirms that Airflow has stored an event, so what a poll found is saved one poll later.
                await asyncio.sleep(max(0.0, reported_at + STORING_SECONDS - time.monotonic()))
                await state.save(memory.state())
                for call in poll.ended:
                    if memory.is_new(call):
                        yield TriggerEvent(describe_end(call))  # type: ignore[no-untyped-call]
                        memory.add(call)
                        reported_at = time.monotonic()
                memory.finish_poll(poll)

    def _listener(self, memory: EndMemory, started_at: float) -> EndListener:
        from vapi_provider.polling.listeners import EndListener

        return EndListener(
            poll_interval=self.poll_interval,
            lookback=self.lookback,
            started_at=started_at,
            assistant_id=self.assistant_id,
            phone_number_id=self.phone_number_id,
            outcomes=frozenset(CallOutcome(outcome) for outcome in self.outcomes),
            read_until=memory.read_until,
            live=memory.live,
        )


def _check_text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a non-empty string; got {value!r}.")
    if "{{" in value or "{%" in value:
        raise ValueError(
            f"{name} must be a constant, because Airflow does not render templates in asset triggers."
        )
    return value.strip()


def _check_seconds(name: str, value: Any, least: float, most: float) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not least <= value <= most:
        # The text of an integer may have thousands of digits.
        is_long = isinstance(value, int) and abs(value) > _LONGEST_SHOWN
        shown = "a number of many digits" if is_long else repr(value)
        raise ValueError(f"{name} must be a number of seconds, from {least:g} to {most:g}; got {shown}.")
    return float(value)
