# SPDX-License-Identifier: Apache-2.0
"""DAGs that ended calls start, and DAGs whose failures make a phone ring; paused until a test wants them."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task
from vapi_provider.notifications.call import VapiNotifier
from vapi_provider.operators.call import VapiUpdateCallOperator
from vapi_provider.triggers.ended import VapiCallEndedTrigger

ASSISTANT_ID = "0198a3f0-0000-7000-8000-0000000000e1"
PHONE_NUMBER_ID = "0198a3f0-0000-7000-8000-000000000003"

ended = Asset(
    name="e2e_ended",
    uri="vapi://e2e/ended",
    watchers=[
        AssetWatcher(
            name="ended",
            trigger=VapiCallEndedTrigger("vapi_events", assistant_id=ASSISTANT_ID, poll_interval=5),
        )
    ],
)

with DAG("on_ended", schedule=[ended], is_paused_upon_creation=True):

    @task
    def labels(triggering_asset_events: Any = None) -> list[dict[str, str]]:
        payloads = [event.extra["payload"] for event in triggering_asset_events[ended]]
        return [{"call_id": end["call_id"], "name": end["outcome"]} for end in payloads]

    # Renames the call that started it, which must not start it again.
    VapiUpdateCallOperator.partial(task_id="label", vapi_conn_id="vapi_events").expand_kwargs(labels())


def phone(number: str) -> VapiNotifier:
    return VapiNotifier(
        customer={"number": number},
        assistant_id=ASSISTANT_ID,
        phone_number_id=PHONE_NUMBER_ID,
        vapi_conn_id="vapi_events",
    )


with DAG(
    "alerting",
    schedule=None,
    is_paused_upon_creation=False,
    max_active_tasks=50,
    on_failure_callback=phone("+12025550181"),
):

    @task
    def numbers(dag_run: Any = None) -> list[int]:
        return list(range(dag_run.conf["tasks"]))

    @task(on_failure_callback=phone("+12025550182"))
    def fail(number: int) -> None:
        raise RuntimeError(f"task {number} has no rows")

    fail.expand(number=numbers())

try:
    from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference
except ImportError:
    # Not before Airflow 3.2.
    pass
else:
    late = AsyncCallback(
        VapiNotifier,
        kwargs={
            "customer": {"number": "{{ var.value.late_number }}"},
            "assistant_id": ASSISTANT_ID,
            "phone_number_id": PHONE_NUMBER_ID,
            "vapi_conn_id": "vapi_events",
        },
    )
    alert = DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(seconds=1), callback=late
    )

    with DAG("late", schedule=None, is_paused_upon_creation=False, deadline=alert):

        @task
        def take_long() -> None:
            time.sleep(30)

        take_long()

try:
    from airflow_inbound_webhooks import WebhookTopic
except ImportError:
    # Not on Airflow 3.0.
    pass
else:
    report = WebhookTopic(webhook="vapi", event="end-of-call-report")

    with DAG("on_report", schedule=[report], is_paused_upon_creation=False):

        @task
        def reported(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
            return [dict(event.extra) for event in triggering_asset_events[report]]

        reported()
