# SPDX-License-Identifier: Apache-2.0
"""Each thing that keeps a phone from ringing twice is needed: without it, a schedule of faults goes wrong."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from schedules import Schedule, rough

from vapi_provider.placing.attempts import Attempts, PlacementState, PlacementStore, make_token
from vapi_provider.placing.decision import Found, Recorded
from vapi_provider.placing.deferral import DefersPlacing
from vapi_provider.placing.placement import CallPlacement
from vapi_provider.placing.request import CallRequest
from vapi_provider.placing.search import CallSearch, SearchResult

MOST_SCHEDULES = 100
"""How many are tried until one goes wrong: as many as ``make test`` plays."""

Mutation = Callable[[pytest.MonkeyPatch], None]


def refused_writes_are_ignored(patch: pytest.MonkeyPatch) -> None:
    write = PlacementStore.write

    def ignore(store: PlacementStore, state: PlacementState) -> None:
        with suppress(Exception):
            write(store, state)

    patch.setattr(PlacementStore, "write", ignore)


def nothing_is_recorded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PlacementStore, "write", lambda *_: None)


def nothing_is_searched(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("vapi_provider.placing.search.search_calls", lambda *_, **__: SearchResult(Found.NOTHING))


def nothing_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CallSearch, "settles_at", lambda *_: 0.0)


def old_searches_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("vapi_provider.placing.placement.FRESH_SECONDS", math.inf)


def a_repetition_is_not_recorded(patch: pytest.MonkeyPatch) -> None:
    record = CallPlacement._record_sending

    def record_once(placement: CallPlacement) -> None:
        if placement._repeats is None or placement._repeats.failed == 0:
            record(placement)

    patch.setattr(CallPlacement, "_record_sending", record_once)


def the_flag_is_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CallPlacement, "_check_stop", lambda _: None)


def the_name_has_no_token(patch: pytest.MonkeyPatch) -> None:
    _carry_less(patch, lambda request, body: {**body, "name": request.body.get("name") or "Reminder"})


def the_variables_have_no_token(patch: pytest.MonkeyPatch) -> None:
    _carry_less(patch, lambda request, body: {**body, request.overrides: request.body.get(request.overrides)})


def an_empty_store_is_trusted(patch: pytest.MonkeyPatch) -> None:
    read: Any = vars(CallPlacement)["state"]

    def trust(placement: CallPlacement) -> PlacementState:
        recorded: PlacementState = read.fget(placement)
        if recorded.state is Recorded.NOTHING:
            placement._known = dataclasses.replace(placement._known, is_first_try=True)
        return recorded

    patch.setattr(CallPlacement, "state", property(trust))


def a_deferral_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        DefersPlacing,
        "_go_on_placing",
        lambda task, context, _state: task._begin_anew(context),
    )


def tries_count_as_attempts(patch: pytest.MonkeyPatch) -> None:
    begin = Attempts.begin
    patch.setattr(
        Attempts,
        "begin",
        lambda attempts, resumed: dataclasses.replace(begin(attempts, resumed), attempt=attempts._try_number),
    )


def attempts_share_a_token(patch: pytest.MonkeyPatch) -> None:
    make = make_token
    patch.setattr(
        "vapi_provider.placing.attempts.make_token", lambda context, request, _attempt: make(context, request)
    )


def hours_are_checked_before_the_record_only(patch: pytest.MonkeyPatch) -> None:
    timed = CallRequest.timed
    seen: set[int] = set()

    def once(request: CallRequest, now: float) -> CallRequest:
        if id(request) in seen:
            return request
        seen.add(id(request))
        return timed(request, now)

    patch.setattr(CallRequest, "timed", once)


def _carry_less(
    patch: pytest.MonkeyPatch, change: Callable[[CallRequest, dict[str, Any]], dict[str, Any]]
) -> None:
    carrying = CallRequest.carrying
    patch.setattr(CallRequest, "carrying", lambda request, token: change(request, carrying(request, token)))


STORE, NO_STORE = True, False

# What a schedule says of a mutation, if it is not that a phone rang twice.
WRONG: dict[Mutation, str] = {
    the_flag_is_ignored: "though it was stopped",
    tries_count_as_attempts: "was called",
    attempts_share_a_token: "was called",
    hours_are_checked_before_the_record_only: "outside of the calling hours",
}

ROUGH = {
    "any": rough(),
    "faulty": rough(people=3, faults=0.7, harm=8),
    "interrupted": rough(people=3, faults=0, harm=8),
    "cleared": rough(clears=1, emptied=2),
    "renamed": rough(renames=4),
    "names-hidden": rough(hidden="name"),
    "variables-hidden": rough(hidden="assistantOverrides"),
    "deferred": rough(people=3, faults=0.7, waits=True, deferrable=True),
    "unanswered": rough(unanswered=0.8, max_attempts=3, harm=2),
    "closing": rough(
        people=3, pauses=0.3, seconds=900, hours=("America/New_York", -120, 6, 7), deferrable=True
    ),
}


@pytest.mark.deep
@pytest.mark.parametrize(
    ("mutate", "has_store", "which"),
    [
        (refused_writes_are_ignored, STORE, "interrupted"),
        (nothing_is_recorded, STORE, "interrupted"),
        (nothing_is_searched, STORE, "any"),
        (nothing_is_searched, NO_STORE, "any"),
        (nothing_is_waited_for, STORE, "any"),
        (nothing_is_waited_for, NO_STORE, "any"),
        (nothing_is_waited_for, STORE, "deferred"),
        (a_deferral_is_forgotten, NO_STORE, "deferred"),
        (the_flag_is_ignored, STORE, "interrupted"),
        (the_flag_is_ignored, NO_STORE, "interrupted"),
        (the_name_has_no_token, STORE, "variables-hidden"),
        (the_name_has_no_token, NO_STORE, "variables-hidden"),
        (the_variables_have_no_token, STORE, "names-hidden"),
        (the_variables_have_no_token, NO_STORE, "names-hidden"),
        (the_variables_have_no_token, NO_STORE, "renamed"),
        (an_empty_store_is_trusted, STORE, "cleared"),
        (old_searches_count, STORE, "interrupted"),
        (a_repetition_is_not_recorded, STORE, "faulty"),
        (tries_count_as_attempts, STORE, "unanswered"),
        (tries_count_as_attempts, NO_STORE, "unanswered"),
        (attempts_share_a_token, STORE, "unanswered"),
        (hours_are_checked_before_the_record_only, STORE, "closing"),
    ],
)
def test_schedules_notice_a_broken_protocol(mutate: Mutation, has_store: bool, which: str) -> None:
    wrong = WRONG.get(mutate, r"was called [2-9] times")
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
