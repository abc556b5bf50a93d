# SPDX-License-Identifier: Apache-2.0
"""The attempts to reach a callee: their tokens, what is recorded of each, and which one comes next."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf
from vapi_provider.placing.decision import Recorded
from vapi_provider.placing.request import TOKEN_LENGTH

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from vapi_provider.models.call import Call
    from vapi_provider.placing.redial import Redial
    from vapi_provider.placing.request import CallRequest
    from vapi_provider.waiting.wait import WaitState

_KEY = "placing"
_WITH_CALL = (Recorded.PLACED, Recorded.NOT_REACHED, Recorded.OVER)
_SEARCHED_ATTEMPTS = 20
"""How many attempts to search for where none is recorded, at least."""


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
    :param attempt: which attempt to reach the callee it is, from 1
    :param earlier_call_id: the id of the last attempt's call, for an attempt that has none yet
    """

    token: str
    at: float | None
    state: Recorded
    person: str
    clear_number: int
    assistant_id: str | None
    phone_number_id: str | None
    call_id: str | None = None
    attempt: int = 1
    earlier_call_id: str | None = None


class PlacementStore:
    """Keeps the state of one task instance for its retries and clears, from Airflow 3.3 on."""

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")
        self._is_mapped = context["ti"].map_index not in (None, -1)

    def read(self, blank: PlacementState) -> PlacementState:
        """
        Return what an earlier try recorded about this call and still counts.

        :raises Exception: if there is a store and it cannot be read
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
        counts = state.state in _WITH_CALL
        return dataclasses.replace(state, state=state.state if counts else Recorded.NOTHING, at=None)

    def write(self, state: PlacementState) -> None:
        """
        Record a state in place of the former one; without a store, nothing happens.

        :raises Exception: if Airflow does not take it, as from a try that another one has superseded
        """
        if self._store is not None:
            self._store.set(_KEY, {**dataclasses.asdict(state), "state": state.state.value})

    def record_end(self, call_id: str, token: str | None, state: Recorded) -> bool:
        """
        Record what the end of a call means, unless the record is of another one; its id may not have been recorded.

        :raises Exception: if Airflow does not take it
        :return: whether it is recorded, or there is no store
        """
        if self._store is None:
            return True
        recorded = self._store.get(_KEY)
        if not isinstance(recorded, Mapping) or not _is_of(recorded, call_id, token):
            return False
        self._store.set(_KEY, {**recorded, "call_id": call_id, "state": state.value})
        return True

    @property
    def exists(self) -> bool:
        """Whether Airflow has such a store, as from 3.3 on."""
        return self._store is not None


class Attempts:
    """The attempts of one task instance to reach one callee."""

    def __init__(self, context: Context, request: CallRequest, store: PlacementStore, redial: Redial) -> None:
        self._context = context
        self._request = request
        self._store = store
        self._redial = redial
        self.number: int = 1
        """Which attempt this try makes, as far as it is known."""
        ti: Any = context["ti"]
        self._try_number: int = ti.try_number
        self._max_tries: int = getattr(ti, "max_tries", None) or 0
        self.clear_number: int = getattr(context.get("dag_run"), "clear_number", None) or 0
        """How often the run has been cleared."""

    @property
    def _was_cleared(self) -> bool:
        """Whether a user has cleared the task or its run, which gives the task more tries."""
        return self.clear_number > 0 or self._max_tries > self._redial.retries

    @property
    def are_lost(self) -> bool:
        """Whether it is unknown how many attempts there were: after a clear, without a store."""
        return self._was_cleared and not self._store.exists

    def begin(self, resumed: WaitState | None) -> PlacementState:
        """
        Return what is known about the attempt that this try makes.

        :param resumed: what the same try has left when it waited before it had a call; None when it begins
        :raises Exception: if there is a store and it cannot be read
        """
        state = self._store.read(self._blank_for(resumed))
        if state.state is Recorded.NOT_REACHED:
            state = self._following(state)
        if resumed is not None and resumed.is_unsent and resumed.attempt == state.attempt:
            # A call recorded before the pause ended undialled, and may be unreadable by now; a later one may ring.
            is_old = state.state is Recorded.PLACED and (state.at or 0.0) <= resumed.started_at
            if is_old or state.state is Recorded.NOTHING:
                state = dataclasses.replace(state, state=Recorded.NOT_SENT)
        self.number = state.attempt
        return state

    def tokens(self, state: PlacementState) -> Mapping[str, int]:
        """Return the tokens to search for, and whose attempts they are."""
        tokens = {state.token: state.attempt}
        if state.state is Recorded.NOTHING and self._redial.outcomes:
            last = max(_SEARCHED_ATTEMPTS, self._try_number)
            for attempt in range(state.attempt + 1, last + 1):
                tokens[make_token(self._context, self._request, attempt)] = attempt
        return tokens

    def found(self, state: PlacementState, token: str | None) -> PlacementState:
        """Return the state of the attempt whose call a search has found, by its token."""
        if token is None or token == state.token:
            return state
        self.number = self.tokens(state)[token]
        return dataclasses.replace(state, token=token, attempt=self.number)

    def may_go_on(self, state: PlacementState) -> bool:
        """Return whether another attempt may have followed this one, of which nothing is recorded."""
        return state.state is Recorded.NOTHING and self._redial.allows_after(state.attempt)

    def record_of_placed(self, state: PlacementState, *, has_sent: bool) -> Recorded:
        """Return what to record of a call that exists: after a clear, one that only a search has found is over."""
        is_over = self._redial.outcomes and self._was_cleared and not has_sent
        return Recorded.OVER if is_over and state.state is Recorded.NOTHING else Recorded.PLACED

    def after(self, state: PlacementState, call: Call, is_settled: bool) -> PlacementState | None:
        """
        Return the attempt to go on with after a search has found one that ended without reaching the callee.

        :param is_settled: whether the search was late enough to show the call of a later attempt
        :return: the same attempt until then, the next one where no record can open it, or None to stay with the call
        """
        if call.outcome not in self._redial.outcomes or not self._redial.allows_after(state.attempt):
            return None
        if self.may_go_on(state) and not is_settled:
            return state
        if self._store.exists or self._was_cleared:
            return None
        self.number = state.attempt + 1
        return self._blank(self.number)

    def may_follow(self, state: PlacementState) -> bool:
        """Return whether a retry may call again when this attempt, unless it is the last, does not reach the callee."""
        # This is how Airflow's API server decides.
        has_tries_left = self._max_tries != 0 and self._try_number <= self._max_tries
        is_open = has_tries_left and not self.are_lost and state.state is not Recorded.OVER
        return is_open and bool(self._redial.outcomes)

    def _following(self, state: PlacementState) -> PlacementState:
        """Return the state of the attempt after one that is recorded as not reached."""
        if not self._redial.allows_after(state.attempt):
            return dataclasses.replace(state, state=Recorded.OVER)
        following = dataclasses.replace(self._blank(state.attempt + 1), earlier_call_id=state.call_id)
        # Without a clear, its request would have been recorded before it was sent.
        return following if self._was_cleared else dataclasses.replace(following, state=Recorded.NOT_SENT)

    def _blank_for(self, resumed: WaitState | None) -> PlacementState:
        if resumed is None:
            return self._blank(1)
        blank = self._blank(resumed.attempt)
        if resumed.token is None:
            return blank
        # The request of this try was another where a template has rendered anew since.
        return dataclasses.replace(
            blank,
            token=resumed.token,
            assistant_id=resumed.assistant_id,
            phone_number_id=resumed.phone_number_id,
        )

    def _blank(self, attempt: int) -> PlacementState:
        """Return the state of an attempt about which nothing is recorded."""
        return PlacementState(
            token=make_token(self._context, self._request, attempt),
            at=None,
            state=Recorded.NOTHING,
            person=fingerprint_person(self._context, self._request),
            clear_number=self.clear_number,
            assistant_id=self._request.assistant_id,
            phone_number_id=self._request.phone_number_id,
            attempt=attempt,
        )


def make_token(context: Context, request: CallRequest, attempt: int = 1) -> str:
    """Make the token of a call: the same for every try, another for another attempt, callee, run, task or Airflow."""
    # The first attempt has the token that it had before there were others.
    later = [f"attempt={attempt}"] if attempt > 1 else []
    return _digest([*_scope(context), request.person, request.caller, *later])


def fingerprint_person(context: Context, request: CallRequest) -> str:
    """Return a fingerprint of the callee, which shows nothing of the number."""
    return _digest([*_scope(context), request.person])


def _scope(context: Context) -> list[str]:
    """Return what distinguishes this task from all others of the same organization."""
    ti = context["ti"]
    # Not the map index: a list that is mapped over can change its order.
    return [conf.get("api", "base_url", fallback=""), ti.dag_id, ti.run_id, ti.task_id]


def _digest(parts: list[str]) -> str:
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return base64.b32encode(digest).decode().lower()[:TOKEN_LENGTH]


def _is_of(recorded: Mapping[str, Any], call_id: str, token: str | None) -> bool:
    known = recorded.get("call_id")
    is_sending = recorded.get("state") == Recorded.SENDING.value
    return known == call_id or (known is None and is_sending and recorded.get("token", "") == token)


def _restored(recorded: Mapping[str, Any], blank: PlacementState) -> PlacementState:
    """Build a state from a record, perhaps of another version of this package."""
    kinds: dict[str, Any] = {
        "token": str,
        "person": str,
        "clear_number": int,
        "attempt": int,
        "at": (int, float),
        "state": str,
    }
    ids = ("call_id", "earlier_call_id", "assistant_id", "phone_number_id")
    kinds |= dict.fromkeys(ids, (str, type(None)))
    known = {
        name: value
        for name, value in recorded.items()
        if isinstance(value, kinds.get(name, ())) and value != ""
    }
    state = next((each for each in Recorded if each.value == known.get("state")), None)
    if state is None or (state in _WITH_CALL and not known.get("call_id")):
        # The request may have been sent.
        state = Recorded.SENDING
    return dataclasses.replace(blank, **{"attempt": 1, **known, "state": state})
