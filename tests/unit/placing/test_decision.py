# SPDX-License-Identifier: Apache-2.0
"""The decision table: each row by its name, and what must hold for all that can be known."""

from __future__ import annotations

import itertools

import pytest

from vapi_provider.placing.decision import RULES, Found, Knowledge, Recorded, Step, decide


def known(
    recorded: Recorded,
    found: Found = Found.NOT_SEARCHED,
    *,
    first: bool = False,
    settled: bool = False,
    sent: bool = False,
) -> Knowledge:
    return Knowledge(is_first_try=first, recorded=recorded, found=found, is_settled=settled, has_sent=sent)


ROWS: dict[str, tuple[Step, list[Knowledge]]] = {
    "call found": (
        Step.ADOPT,
        [
            known(Recorded.PLACED, Found.CALL),
            known(Recorded.SENDING, Found.CALL),
            known(Recorded.SENDING, Found.CALL, sent=True),
            known(Recorded.NOTHING, Found.CALL),
            # Another try was faster, just before the request was to be sent.
            known(Recorded.NOTHING, Found.CALL, first=True),
            known(Recorded.NOT_SENT, Found.CALL),
        ],
    ),
    "id recorded": (Step.READ, [known(Recorded.PLACED), known(Recorded.PLACED, first=True)]),
    "recorded call never rang": (Step.PLACE, [known(Recorded.PLACED, Found.NEVER_RANG)]),
    "recorded as not sent": (
        Step.PLACE,
        [known(Recorded.NOT_SENT), known(Recorded.NOT_SENT, first=True)],
    ),
    "first try": (Step.PLACE, [known(Recorded.NOTHING, first=True)]),
    "doubt": (
        Step.SEARCH,
        [
            # A retry or a clear, without a record.
            known(Recorded.NOTHING),
            known(Recorded.SENDING),
            # The response was lost.
            known(Recorded.SENDING, first=True, sent=True),
            # A wait is over.
            known(Recorded.SENDING, sent=True),
        ],
    ),
    "not settled": (
        Step.WAIT,
        [
            known(Recorded.NOTHING, Found.NOTHING),
            known(Recorded.SENDING, Found.NOTHING),
            known(Recorded.SENDING, Found.NEVER_RANG),
            known(Recorded.SENDING, Found.UNREADABLE),
            # The newest are read first, so it may still turn up.
            known(Recorded.SENDING, Found.TOO_MUCH),
            known(Recorded.SENDING, Found.NOTHING, sent=True),
        ],
    ),
    "list too long": (
        Step.GIVE_UP,
        [
            known(Recorded.NOTHING, Found.TOO_MUCH, settled=True),
            known(Recorded.SENDING, Found.TOO_MUCH, settled=True),
            known(Recorded.SENDING, Found.TOO_MUCH, settled=True, sent=True),
        ],
    ),
    "list unreadable": (
        Step.TRY_LATER,
        [
            known(Recorded.NOTHING, Found.UNREADABLE, settled=True),
            known(Recorded.SENDING, Found.UNREADABLE, settled=True, sent=True),
        ],
    ),
    "nothing there, sent by this try": (
        Step.TRY_LATER,
        [
            known(Recorded.SENDING, Found.NOTHING, settled=True, sent=True),
            known(Recorded.SENDING, Found.NEVER_RANG, settled=True, sent=True),
        ],
    ),
    "nothing there": (
        Step.PLACE,
        [
            known(Recorded.NOTHING, Found.NOTHING, settled=True),
            known(Recorded.NOTHING, Found.NEVER_RANG, settled=True),
            known(Recorded.SENDING, Found.NOTHING, settled=True),
            known(Recorded.SENDING, Found.NEVER_RANG, settled=True),
        ],
    ),
}
"""What each row of the table is for, and its step."""

EVERYTHING = [
    known(recorded, found, first=first, settled=settled, sent=sent)
    for recorded, found, first, settled, sent in itertools.product(
        Recorded, Found, (False, True), (False, True), (False, True)
    )
]


@pytest.mark.parametrize("name", [rule.name for rule in RULES])
def test_row(name: str) -> None:
    step, examples = ROWS[name]
    for example in examples:
        rule = decide(example)
        assert (rule.name, rule.step) == (name, step), example


def test_every_row_is_tested_by_its_name() -> None:
    assert list(ROWS) == [rule.name for rule in RULES]


def test_rows_have_unique_names_and_reasons() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert [rule.name for rule in RULES if not rule.because.endswith(".")] == []


def test_every_situation_has_a_decision() -> None:
    assert len(EVERYTHING) == len(Recorded) * len(Found) * 8
    assert {decide(each).step for each in EVERYTHING} == set(Step)


def test_every_row_decides_something() -> None:
    assert {decide(each).name for each in EVERYTHING} == set(ROWS)


def placed() -> list[Knowledge]:
    return [each for each in EVERYTHING if decide(each).step is Step.PLACE]


def test_call_that_is_there_is_adopted() -> None:
    found = [each for each in EVERYTHING if each.found is Found.CALL]
    assert [each for each in found if decide(each).step is not Step.ADOPT] == []


def test_doubt_ends_only_with_a_complete_settled_search() -> None:
    for each in placed():
        if each.recorded is Recorded.SENDING:
            assert each.found in (Found.NOTHING, Found.NEVER_RANG), each
            assert each.is_settled, each


def test_missing_record_alone_proves_nothing() -> None:
    for each in placed():
        if each.recorded is Recorded.NOTHING and not each.is_first_try:
            assert each.found in (Found.NOTHING, Found.NEVER_RANG), each
            assert each.is_settled, each


def test_recorded_call_is_placed_again_only_if_it_never_rang() -> None:
    for each in placed():
        if each.recorded is Recorded.PLACED:
            assert each.found is Found.NEVER_RANG or (each.found is Found.NOTHING and each.is_settled), each


def test_try_sends_one_request_only() -> None:
    assert [each for each in placed() if each.has_sent] == []


def test_only_what_is_certain_is_placed_without_a_search() -> None:
    unseen = {(each.recorded, each.is_first_try) for each in placed() if each.found is Found.NOT_SEARCHED}
    assert unseen == {(Recorded.NOT_SENT, True), (Recorded.NOT_SENT, False), (Recorded.NOTHING, True)}


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("recorded", [Recorded.NOTHING, Recorded.SENDING])
def test_unreadable_list_never_lets_a_call_be_placed(recorded: Recorded, settled: bool) -> None:
    for found in (Found.UNREADABLE, Found.TOO_MUCH):
        assert decide(known(recorded, found, settled=settled)).step is not Step.PLACE
