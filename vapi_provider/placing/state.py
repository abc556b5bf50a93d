# SPDX-License-Identifier: Apache-2.0
"""What the tries of a task note about the call that they place, where Airflow has a place for it (3.3 and later)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vapi_provider.placing.decision import Recorded

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_KEY = "placing"


@dataclass(frozen=True)
class PlacementState:
    """
    What is noted.

    :param token: the token of the call
    :param at: when the request was about to be sent, in seconds since 1970
    :param state: how far it came
    :param person: whom it rings, as a fingerprint
    :param clear_number: how often the run had been cleared by then
    :param assistant_id: the assistant of the request, to look for the call by
    :param phone_number_id: the phone number of the request, to look for the call by
    :param call_id: the id of the call, once that is known
    """

    token: str
    at: float
    state: Recorded
    person: str
    clear_number: int
    assistant_id: str | None
    phone_number_id: str | None
    call_id: str | None = None


class PlacementStore:
    """
    The notes of one task instance, which its retries and clears find again.

    :param context: the context of the running task
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")

    def read(self) -> PlacementState | None:
        """
        Return what an earlier try has noted; None without such, or where Airflow keeps none.

        :raises Exception: when Airflow has notes and cannot be asked for them
        """
        noted = self._store.get(_KEY) if self._store is not None else None
        if not noted:
            return None
        # Another version of this package may have noted more.
        known = {field.name: noted[field.name] for field in dataclasses.fields(PlacementState)}
        return PlacementState(**{**known, "state": Recorded(known["state"])})

    def write(self, note: PlacementState) -> None:
        """
        Note something; where Airflow keeps no notes, nothing happens.

        :param note: what to note, in place of what was noted before
        :raises Exception: when Airflow does not take it, as from a try that another has taken the place of
        """
        if self._store is not None:
            self._store.set(_KEY, {**dataclasses.asdict(note), "state": note.state.value})
