# SPDX-License-Identifier: Apache-2.0
"""What the tries of a task record about the call that they place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vapi_provider.placing.decision import Recorded
from vapi_provider.placing.tokens import fingerprint_person, make_token

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from vapi_provider.placing.request import CallRequest
    from vapi_provider.waiting.wait import WaitState

_KEY = "placing"


@dataclass(frozen=True)
class PlacementState:
    """
    What is recorded.

    :param token: the token of the call
    :param at: when the request was about to be sent, in seconds since 1970; None when that is unknown
    :param state: how far the placement came
    :param person: a fingerprint of the callee
    :param clear_number: how often the run had been cleared by then
    :param assistant_id: the assistant of the request, to search the call by
    :param phone_number_id: the phone number of the request, to search the call by
    :param call_id: the id of the call, once it is known
    """

    token: str
    at: float | None
    state: Recorded
    person: str
    clear_number: int
    assistant_id: str | None
    phone_number_id: str | None
    call_id: str | None = None


def blank_state(context: Context, request: CallRequest, resumed: WaitState | None) -> PlacementState:
    """
    Return the state of a call about which nothing is recorded.

    :param resumed: what the same try has left when it was deferred; its request was another where a template has rendered
        anew since
    """
    blank = PlacementState(
        token=make_token(context, request),
        at=None,
        state=Recorded.NOTHING,
        person=fingerprint_person(context, request),
        clear_number=getattr(context.get("dag_run"), "clear_number", None) or 0,
        assistant_id=request.assistant_id,
        phone_number_id=request.phone_number_id,
    )
    if resumed is None or resumed.token is None:
        return blank
    return dataclasses.replace(
        blank,
        token=resumed.token,
        assistant_id=resumed.assistant_id,
        phone_number_id=resumed.phone_number_id,
    )


class PlacementStore:
    """Keeps the state of one task instance for its retries and clears, from Airflow 3.3 on."""

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")
        self._is_mapped = context["ti"].map_index not in (None, -1)

    def read(self, blank: PlacementState) -> PlacementState:
        """
        Return what an earlier try recorded about this call and still counts.

        :raises Exception: when there is a store and it cannot be read
        """
        recorded = self._store.get(_KEY) if self._store is not None else None
        if not recorded or not isinstance(recorded, Mapping):
            return blank
        state = _restored(recorded, blank)
        # However the templates render in a retry, it is the same call.
        if state.clear_number == blank.clear_number:
            return state
        # After a clear a task instance can be another person's, when the list that it is mapped over has changed.
        if state.person != blank.person:
            return blank
        if not self._is_mapped:
            return dataclasses.replace(state, clear_number=blank.clear_number)
        # And when the list has changed back, another one may have called this person in between.
        counts = state.state is Recorded.PLACED
        return dataclasses.replace(state, state=state.state if counts else Recorded.NOTHING, at=None)

    def write(self, state: PlacementState) -> None:
        """
        Record a state in place of the former one; without a store, nothing happens.

        :raises Exception: when Airflow does not take it, as from a try that another one has superseded
        """
        if self._store is not None:
            self._store.set(_KEY, {**dataclasses.asdict(state), "state": state.state.value})


def _restored(recorded: Mapping[str, Any], blank: PlacementState) -> PlacementState:
    """Build a state from a record, perhaps of another version of this package."""
    kinds: dict[str, Any] = {
        "token": str,
        "person": str,
        "clear_number": int,
        "at": (int, float),
        "state": str,
    }
    kinds |= dict.fromkeys(("call_id", "assistant_id", "phone_number_id"), (str, type(None)))
    known = {
        name: value
        for name, value in recorded.items()
        if isinstance(value, kinds.get(name, ())) and value != ""
    }
    state = next((each for each in Recorded if each.value == known.get("state")), None)
    if state is None or (state is Recorded.PLACED and not known.get("call_id")):
        # The request may have been sent.
        state = Recorded.SENDING
    return dataclasses.replace(blank, **{**known, "state": state})
