# SPDX-License-Identifier: Apache-2.0
"""
Label every call as soon as it has ended, also calls that Airflow did not place.

An asset watcher creates an asset event for each call of your organization that ends, inbound calls too, and the events start
this DAG. One run can have several events, and after a restart of the triggerer the same call can come again, so the task does
something that can be repeated: it sets a name. Requires a triggerer.
"""

from __future__ import annotations

import datetime
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task
from vapi_provider.operators.call import VapiUpdateCallOperator
from vapi_provider.triggers.ended import VapiCallEndedTrigger

# One asset for all DAGs: import it where another DAG needs it, instead of a second one with the same trigger.
ended_calls = Asset(
    name="ended_calls",
    uri="vapi://calls/ended",
    watchers=[AssetWatcher(name="vapi", trigger=VapiCallEndedTrigger(poll_interval=60))],
)

with DAG(
    dag_id="example_vapi_on_call_ended",
    schedule=[ended_calls],
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    catchup=False,
    tags=["vapi", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def labels(triggering_asset_events: Any = None) -> list[dict[str, str]]:
        # Events without a payload come from elsewhere, such as the button "Create asset event".
        events = [event.extra.get("payload") for event in triggering_asset_events[ended_calls]]
        ended = {event["call_id"]: event for event in events if event}
        return [{"call_id": call_id, "name": f"Ended: {end['outcome']}"} for call_id, end in ended.items()]

    VapiUpdateCallOperator.partial(task_id="label_call", max_active_tis_per_dag=8).expand_kwargs(labels())
