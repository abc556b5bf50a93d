# SPDX-License-Identifier: Apache-2.0
"""The record that one try leaves for the next, which may run another version of this package."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest
from airflow_model import ASSISTANT_ID, PHONE_NUMBER_ID
from placing_helpers import sent_body
from ways import kill_at

from vapi_provider.exceptions import VapiCallNotFoundError
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.simulator import Fault

if TYPE_CHECKING:
    from airflow_model import AirflowModel, Slot

FIELDS = {
    "token",
    "at",
    "state",
    "person",
    "clear_number",
    "assistant_id",
    "phone_number_id",
    "call_id",
    "attempt",
    "earlier_call_id",
}


@pytest.fixture
def has_store() -> bool:
    return True


def record_of(slot: Slot) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(slot.stored["placing"])
    return record


def change_record(slot: Slot, *without: str, **fields: Any) -> None:
    record = {name: value for name, value in record_of(slot).items() if name not in without}
    slot.stored["placing"] = json.dumps({**record, **fields})


def searches(model: AirflowModel) -> int:
    return sum((each.method, each.path) == ("GET", "/call") for each in model.simulator.requests)


def refused(model: AirflowModel) -> Slot:
    """Leave the record of a request that had no effect."""
    slot = model.slot()
    model.simulator.faults.add(
        Fault(method="POST", path="/call", status=429, headers={"Retry-After": "3600"})
    )
    with pytest.raises(Exception, match="429"):
        slot.attempt()
    return slot


def test_record_is_plain_and_names_no_number(model: AirflowModel) -> None:
    slot = model.slot()
    summary = slot.attempt()
    record = record_of(slot)
    assert set(record) == FIELDS
    assert (record["state"], record["call_id"], record["at"]) == ("placed", summary["id"], model.now)
    assert "2025550143" not in json.dumps(record)


@pytest.mark.parametrize("point", ["send.POST", "sent.POST"])
def test_unknown_fields_are_ignored(model: AirflowModel, point: str) -> None:
    slot = model.slot()
    kill_at(model, slot, point)
    change_record(slot, attempts=[{"token": "x"}], line="free")
    slot.attempt()
    assert model.posts() == 1
    model.assert_rang_once(slot)


@pytest.mark.parametrize("name", sorted(FIELDS))
@pytest.mark.parametrize("point", ["send.POST", "sent.POST", "xcom.push"])
def test_any_field_may_be_missing(model: AirflowModel, point: str, name: str) -> None:
    slot = model.slot()
    kill_at(model, slot, point)
    change_record(slot, name)
    # A retry can come hours later.
    model.pass_time(3 * 3600)
    slot.attempt()
    assert model.posts() == 1
    model.assert_rang_once(slot)


@pytest.mark.parametrize("point", ["send.POST", "sent.POST", "xcom.push"])
def test_empty_record_counts_as_missing(model: AirflowModel, point: str) -> None:
    slot = model.slot()
    kill_at(model, slot, point)
    slot.stored["placing"] = "{}"
    slot.attempt()
    assert model.posts() == 1
    model.assert_rang_once(slot)


@pytest.mark.parametrize("state", [None, "redialling", "", 7])
@pytest.mark.parametrize("is_placed", [True, False])
def test_unknown_state_means_doubt(model: AirflowModel, state: Any, is_placed: bool) -> None:
    if is_placed:
        slot = model.slot()
        slot.attempt()
    else:
        slot = refused(model)
    change_record(slot, state=state)
    slot.attempt()
    assert searches(model) > 0
    assert model.posts() == (1 if is_placed else 2)
    model.assert_rang_once(slot)


def test_missing_state_means_doubt(model: AirflowModel) -> None:
    slot = refused(model)
    change_record(slot, "state")
    slot.attempt()
    assert searches(model) > 0
    model.assert_rang_once(slot)


def test_missing_state_means_doubt_in_a_first_try_too(model: AirflowModel) -> None:
    """Airflow can run a try again under the same number."""
    slot = model.slot()
    kill_at(model, slot, "sent.POST")
    change_record(slot, "state")
    slot.try_number = 0
    slot.attempt()
    assert model.posts() == 1
    model.assert_rang_once(slot)


def test_missing_token_is_computed_anew(model: AirflowModel) -> None:
    slot = model.slot()
    kill_at(model, slot, "sent.POST")
    token = record_of(slot)["token"]
    change_record(slot, "token")
    slot.attempt()
    assert record_of(slot)["token"] == token
    assert sent_body(model)["name"] == f"Reminder #{token}"
    assert model.posts() == 1


def test_recorded_token_counts(model: AirflowModel) -> None:
    """Another version may have made another token of the same call."""
    slot = model.slot()
    kill_at(model, slot, "send.POST")
    change_record(slot, token="abcdefgh")
    slot.attempt()
    assert sent_body(model)["name"] == "Reminder #abcdefgh"


@pytest.mark.parametrize("call_id", [None, ""])
def test_placed_without_an_id_means_doubt(model: AirflowModel, call_id: str | None) -> None:
    slot = model.slot()
    summary = slot.attempt()
    change_record(slot, call_id=call_id)
    assert slot.attempt()["id"] == slot.xcoms["call_id"] == summary["id"]
    assert model.posts() == 1
    model.assert_rang_once(slot)


@pytest.mark.parametrize("hours", [0, 3])
@pytest.mark.parametrize("is_sent", [True, False])
def test_unknown_time_of_sending_may_be_any(model: AirflowModel, is_sent: bool, hours: int) -> None:
    slot = model.slot()
    kill_at(model, slot, "sent.POST" if is_sent else "send.POST")
    change_record(slot, at=None)
    model.pass_time(hours * 3600)
    began_at = model.now
    slot.attempt()
    assert model.posts() == 1
    # A request may be under way up to now, so that a call that is not there is waited for.
    if is_sent:
        assert model.now - began_at < 5
    else:
        assert model.now - began_at == 65
    model.assert_rang_once(slot)


ODD_FIELDS: dict[str, dict[str, Any]] = {
    f"{name} {value!r}": {name: value}
    for name, values in {
        "token": [None, 5, True, ["x"], {"a": 1}],
        "at": ["2026-01-01T00:00:00Z", "", [1], {"a": 1}],
        "state": [["placed"], {"a": 1}],
        "person": [None, 7, ["x"]],
        "clear_number": [None, "0", [0]],
        "call_id": [5, True, ["x"], {"id": "x"}],
        "assistant_id": [5, ["x"]],
        "phone_number_id": [5, {"a": 1}],
    }.items()
    for value in values
}
ODD_RECORDS: list[Any] = [["x"], [], "x", "placed", 7, 0, True, [{"state": "placed"}]]
POINTS = ("send.POST", "sent.POST", "xcom.push")


def in_turn(names: str, odd: dict[str, Any], others: Iterable[Any]) -> pytest.MarkDecorator:
    """Combine each odd value with the next of the others, over and over."""
    pairs = zip(odd.values(), itertools.cycle(others))
    return pytest.mark.parametrize(names, list(pairs), ids=odd)


def call_a_stranger(model: AirflowModel) -> str:
    """Place a call without a token, as a person does."""
    request = {
        "assistantId": ASSISTANT_ID,
        "phoneNumberId": PHONE_NUMBER_ID,
        "customer": {"number": "+12025550188"},
    }
    return VapiHook().create_call(request).id


@in_turn("fields,point", ODD_FIELDS, POINTS)
def test_odd_value_counts_as_missing(model: AirflowModel, fields: dict[str, Any], point: str) -> None:
    stranger = call_a_stranger(model)
    slot = model.slot()
    kill_at(model, slot, point)
    change_record(slot, **fields)
    slot.attempt()
    assert slot.xcoms["call_id"] != stranger
    # And the stranger's.
    assert model.posts() == 2
    model.assert_rang_once(slot)


@in_turn("fields,state", ODD_FIELDS, ["sending", "placed", None])
def test_record_of_odd_values_adopts_no_other_call(
    model: AirflowModel, fields: dict[str, Any], state: str | None
) -> None:
    stranger = call_a_stranger(model)
    slot = model.slot()
    slot.try_number = 1
    slot.stored["placing"] = json.dumps({"state": state, "at": None, **fields})
    slot.attempt()
    assert slot.xcoms["call_id"] != stranger
    model.assert_rang_once(slot)


@in_turn("record,point", {repr(record): record for record in ODD_RECORDS}, POINTS)
def test_record_that_is_not_a_mapping_counts_as_missing(model: AirflowModel, record: Any, point: str) -> None:
    stranger = call_a_stranger(model)
    slot = model.slot()
    kill_at(model, slot, point)
    slot.stored["placing"] = json.dumps(record)
    slot.attempt()
    assert slot.xcoms["call_id"] != stranger
    assert model.posts() == 2
    model.assert_rang_once(slot)


# A read that lags behind its write


@pytest.mark.parametrize("route", ["recorded", "found"])
def test_404_right_after_the_placement_is_transient(model: AirflowModel, route: str) -> None:
    slot = model.slot()
    kill_at(model, slot, "xcom.push" if route == "recorded" else "sent.POST")
    (call_id,) = model.simulator.calls
    model.simulator.faults.add(Fault(method="GET", path=f"/call/{call_id}", status=404))
    with pytest.raises(Exception, match="The call was placed moments ago; a retry reads it again") as failure:
        slot.attempt()
    assert not isinstance(failure.value, VapiCallNotFoundError)
    assert slot.xcoms["call_id"] == call_id
    assert slot.attempt()["id"] == call_id
    model.assert_rang_once(slot)


@pytest.mark.parametrize("seconds", [30, 86_400])
@pytest.mark.parametrize("map_index", [-1, 0])
@pytest.mark.parametrize("clears", [0, 1])
def test_later_404_is_permanent(model: AirflowModel, seconds: int, map_index: int, clears: int) -> None:
    """The call was erased, so no retry can read it."""
    slot = model.slot(map_index=map_index)
    call_id = slot.attempt()["id"]
    model.rings()
    VapiHook().delete_call(call_id)
    model.pass_time(seconds)
    slot.run.clear_number += clears
    for _ in range(2):
        with pytest.raises(VapiCallNotFoundError, match=call_id):
            slot.attempt()
    assert model.posts() == 1
