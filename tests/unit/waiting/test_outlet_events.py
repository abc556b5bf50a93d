# SPDX-License-Identifier: Apache-2.0
"""The asset events of a task's outlets get the end of its call."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, AssetAlias
from airflow.sdk.execution_time.context import OutletEventAccessors
from vapi_provider.waiting.outlets import show_end, shows_end

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


def test_context_is_found_however_it_is_passed() -> None:
    class Task:
        outlets = [Asset("one")]

        @shows_end
        def run(self, event: Any, context: Any) -> Any:
            return SUMMARY

    for arguments, named in (((1, {}), {}), ((1,), {"context": {}}), ((), {"event": 1, "context": {}})):
        context = named.get("context", arguments[-1] if arguments else {})
        context["outlet_events"] = events = OutletEventAccessors()
        assert Task().run(*arguments, **named) is SUMMARY
        assert events[Asset("one")].extra == END


def test_context_without_events_is_harmless() -> None:
    show_end({}, [Asset("one")], SUMMARY)
