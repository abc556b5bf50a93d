# SPDX-License-Identifier: Apache-2.0
"""
Schedule a call for later.

Vapi stores the call and places it at the scheduled time. The task succeeds as soon as Vapi has accepted the call. To
wait for the call, trigger ``example_vapi_scheduled_call`` with the task's XCom ``call_id``.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param
from vapi_provider.operators.call import VapiCreateCallOperator

with DAG(
    dag_id="example_vapi_schedule_call",
    schedule=None,
    params={"hours": Param(2, type="integer", minimum=0, description="Hours until the call")},
    tags=["vapi", "example"],
    doc_md=__doc__,
) as dag:
    VapiCreateCallOperator(
        task_id="schedule_call",
        # Replace these with your own ids from the Vapi dashboard.
        assistant_id="00000000-0000-0000-0000-00000000000a",
        phone_number_id="00000000-0000-0000-0000-00000000000b",
        customer={"number": "+12025550104", "name": "Barbara"},
        name="Call back",
        # Relative to the run's own time, which is the same in a retry.
        schedule_plan={
            "earliest_at": "{{ (dag_run.run_after + macros.timedelta(hours=params.hours)).isoformat() }}",
            "latest_at": "{{ (dag_run.run_after + macros.timedelta(hours=params.hours + 1)).isoformat() }}",
        },
        wait_for_completion=False,
    )
