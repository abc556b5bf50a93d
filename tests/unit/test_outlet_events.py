# SPDX-License-Identifier: Apache-2.0
"""The asset events of a task's outlets get the end of its call."""

from __future__ import annotations

from airflow.sdk import Asset, AssetAlias
from airflow.sdk.execution_time.context import OutletEventAccessors
from vapi_provider.outlets import show_end

SUMMARY = {"id": "1", "outcome": "no_answer", "ended_reason": "customer-busy", "name": "Reminder"}
END = {"call_id": "1", "outcome": "no_answer", "ended_reason": "customer-busy"}


def test_every_asset_gets_the_end() -> None:
    assets = [Asset("one"), Asset("two")]
    events = OutletEventAccessors()
    show_end({"outlet_events": events}, [*assets, AssetAlias("some")], SUMMARY)
    assert [events[asset].extra for asset in assets] == [END, END]
    assert len(events) == 2


def test_keys_of_the_author_stay() -> None:
    asset, events = Asset("one"), OutletEventAccessors()
    events[asset].extra.update(outcome="mine", more=1)
    show_end({"outlet_events": events}, [asset], SUMMARY)
    assert events[asset].extra == {**END, "outcome": "mine", "more": 1}


def test_context_without_events_is_harmless() -> None:
    show_end({}, [Asset("one")], SUMMARY)
