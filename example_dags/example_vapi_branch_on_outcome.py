# SPDX-License-Identifier: Apache-2.0
"""
Wait for one call and branch on its outcome.

The DAG takes one branch if the call reached the person, and another if it did not. A technical failure fails the task.
Trigger it with a call id: ``{"call_id": "..."}``.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task
from vapi_provider.models.outcome import CallOutcome
from vapi_provider.sensors.call import VapiCallSensor

with DAG(
    dag_id="example_vapi_branch_on_outcome",
    schedule=None,
    params={"call_id": Param(type="string", format="uuid", description="The id of a call")},
    tags=["vapi", "example"],
    doc_md=__doc__,
) as dag:
    wait = VapiCallSensor(
        task_id="wait_for_call",
        call_id="{{ params.call_id }}",
        fail_on=[CallOutcome.FAILED],
        wait_for_analysis=True,
        include=["structured_outputs"],
        poke_interval=5,
        timeout=60 * 60,
    )

    @task.branch
    def choose(summary: dict[str, Any]) -> str:
        return "store_answer" if summary["outcome"] == CallOutcome.COMPLETED else "call_again_later"

    # Keep the person's answer out of the log.
    @task(show_return_value_in_logs=False)
    def store_answer(summary: dict[str, Any]) -> Any:
        """Return the person's answer from the assistant's structured output."""
        return (summary["structured_outputs"] or {}).get("Appointment confirmed")

    @task
    def call_again_later(summary: dict[str, Any]) -> str:
        return f"{summary['id']}: {summary['outcome']} ({summary['ended_reason']})"

    choose(wait.output) >> [store_answer(wait.output), call_again_later(wait.output)]
