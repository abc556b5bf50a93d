# SPDX-License-Identifier: Apache-2.0
"""Each thing that keeps a phone from ringing twice is needed: without it, a schedule of faults goes wrong."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from schedules import Schedule, rough

from vapi_provider.placing.decision import Found, Recorded
from vapi_provider.placing.placement import CallPlacement
from vapi_provider.placing.request import CallRequest
from vapi_provider.placing.search import SearchResult
from vapi_provider.placing.state import PlacementState, PlacementStore

MOST_SCHEDULES = 100
"""How many are tried until one goes wrong; a dozen is enough for most."""

Mutation = Callable[[pytest.MonkeyPatch], None]


def refused_notes_are_ignored(patch: pytest.MonkeyPatch) -> None:
    write = PlacementStore.write

    def ignore(notes: PlacementStore, note: PlacementState) -> None:
        with suppress(Exception):
            write(notes, note)

    patch.setattr(PlacementStore, "write", ignore)


def nothing_is_noted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PlacementStore, "write", lambda *_: None)


def nobody_looks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("vapi_provider.placing.placement.look_up", lambda *_, **__: SearchResult(Found.NOTHING))


def nobody_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CallPlacement, "_settles_at", 0.0)


def the_flag_is_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CallPlacement, "_check_stop", lambda _: None)


def the_name_has_no_token(patch: pytest.MonkeyPatch) -> None:
    _carry_less(patch, lambda request, body: {**body, "name": request.body.get("name") or "Reminder"})


def the_variables_have_no_token(patch: pytest.MonkeyPatch) -> None:
    _carry_less(patch, lambda request, body: {**body, request.overrides: request.body.get(request.overrides)})


def an_empty_store_is_trusted(patch: pytest.MonkeyPatch) -> None:
    prepare = CallPlacement.__init__

    def trust(placement: CallPlacement, context: Any, *args: Any, **kwargs: Any) -> None:
        prepare(placement, context, *args, **kwargs)
        if "task_state_store" in context and placement._known.noted is Recorded.NOTHING:
            placement._known = dataclasses.replace(placement._known, is_first_try=True)

    patch.setattr(CallPlacement, "__init__", trust)


def _carry_less(
    patch: pytest.MonkeyPatch, change: Callable[[CallRequest, dict[str, Any]], dict[str, Any]]
) -> None:
    carrying = CallRequest.carrying
    patch.setattr(CallRequest, "carrying", lambda request, token: change(request, carrying(request, token)))


STORE, NO_STORE = True, False

ROUGH = {
    "any": rough(),
    "interrupted": rough(people=3, faults=0, harm=8),
    "cleared": rough(clears=1, emptied=2),
    "renamed": rough(renames=4),
    "names-hidden": rough(hidden="name"),
    "variables-hidden": rough(hidden="assistantOverrides"),
}


@pytest.mark.parametrize(
    ("mutate", "has_store", "which"),
    [
        (refused_notes_are_ignored, STORE, "interrupted"),
        (nothing_is_noted, STORE, "interrupted"),
        (nobody_looks, STORE, "any"),
        (nobody_looks, NO_STORE, "any"),
        (nobody_waits, STORE, "any"),
        (nobody_waits, NO_STORE, "any"),
        (the_flag_is_ignored, STORE, "interrupted"),
        (the_flag_is_ignored, NO_STORE, "interrupted"),
        (the_name_has_no_token, STORE, "variables-hidden"),
        (the_name_has_no_token, NO_STORE, "variables-hidden"),
        (the_variables_have_no_token, STORE, "names-hidden"),
        (the_variables_have_no_token, NO_STORE, "names-hidden"),
        (the_variables_have_no_token, NO_STORE, "renamed"),
        (an_empty_store_is_trusted, STORE, "cleared"),
    ],
)
def test_a_schedule_goes_wrong_when(mutate: Mutation, has_store: bool, which: str) -> None:
    wrong = "though it was told to stop" if mutate is the_flag_is_ignored else r"was called [2-9] times"
    for seed in range(MOST_SCHEDULES):
        chaos = dataclasses.replace(ROUGH[which], seed=seed)
        with pytest.MonkeyPatch.context() as patch:
            mutate(patch)
            mutant = Schedule.play(chaos, has_store=has_store)
        schedule = Schedule.play(chaos, has_store=has_store)
        assert not schedule.problems, schedule.report()
        if any(re.search(wrong, problem) for problem in mutant.problems):
            return
    pytest.fail(f"{MOST_SCHEDULES} schedules went well.")
