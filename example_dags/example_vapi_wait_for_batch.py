# SPDX-License-Identifier: Apache-2.0
"""
Wait for a batch of calls, and count their outcomes.

The DAG lists the calls of the last hours that are not over, and waits for them in one mapped task per call. Deferred
tasks take no worker slots, and all of them together send at most 20 requests per interval.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import DAG, Param, task
from vapi_provider.sensors.call import VapiCallSensor

with DAG(
    dag_id="example_vapi_wait_for_batch",
    schedule=None,
    params={
        "hours": Param(2, type="integer", minimum=1, description="How many hours back to look for calls")
    },
    tags=["vapi", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def calls_under_way(params: dict[str, Any]) -> list[str]:
        from vapi_provider.hooks.vapi import VapiHook

        since = datetime.now(timezone.utc) - timedelta(hours=params["hours"])
        return [call.id for call in VapiHook().list_calls(created_at_ge=since) if not call.is_terminal]

    wait = VapiCallSensor.partial(
        task_id="wait_for_call",
        deferrable=True,
        poke_interval=30,
        timeout=timedelta(hours=3),
        # A call that is not over by then is left out of the count and does not fail the DAG.
        soft_fail=True,
    ).expand(call_id=calls_under_way())

    @task(trigger_rule="none_failed")
    def count_outcomes(summaries: Iterable[dict[str, Any]]) -> dict[str, int]:
        return dict(Counter(summary["outcome"] for summary in summaries))

    count_outcomes(wait.output)
