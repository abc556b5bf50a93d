# SPDX-License-Identifier: Apache-2.0
"""
Wait for a call that is scheduled for later today.

Hours may pass before the phone rings. In reschedule mode, the task takes a worker slot only for a moment every five
minutes. The call's first status is ``scheduled``. Trigger the DAG with a call id: ``{"call_id": "..."}``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task
from vapi_provider.sensors.call import VapiCallSensor

with DAG(
    dag_id="example_vapi_scheduled_call",
    schedule=None,
    params={"call_id": Param(type="string", format="uuid", description="The id of a call")},
    tags=["vapi", "example"],
    doc_md=__doc__,
) as dag:
    wait = VapiCallSensor(
        task_id="wait_for_call",
        call_id="{{ params.call_id }}",
        mode="reschedule",
        poke_interval=timedelta(minutes=5),
        timeout=timedelta(hours=12),
        # A cancelled or unanswered call skips the task instead of failing it.
        soft_fail=True,
        fail_on=["cancelled", "no_answer"],
    )

    @task
    def report(summary: dict[str, Any]) -> str:
        return f"The call took {summary['duration_seconds']} s and cost {summary['cost']} US dollars."

    report(wait.output)
