# SPDX-License-Identifier: Apache-2.0
"""
Schedule a call for later.

Vapi keeps the call and places it when its time has come; the task is done as soon as Vapi has taken it. Its XCom
``call_id`` is what ``example_vapi_scheduled_call`` waits for.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param
from vapi_provider.operators.call import VapiCreateCallOperator

with DAG(
    dag_id="example_vapi_schedule_call",
    schedule=None,
    params={"hours": Param(2, type="integer", minimum=0, description="In how many hours to call")},
    tags=["vapi", "example"],
    doc_md=__doc__,
) as dag:
    VapiCreateCallOperator(
        task_id="schedule_call",
        # Yours; Vapi's dashboard has them.
        assistant_id="00000000-0000-0000-0000-00000000000a",
        phone_number_id="00000000-0000-0000-0000-00000000000b",
        customer={"number": "+12025550104", "name": "Barbara"},
        name="Call back",
        # Counted from the run's own time, which a retry does not change.
        schedule_plan={
            "earliest_at": "{{ (dag_run.run_after + macros.timedelta(hours=params.hours)).isoformat() }}",
            "latest_at": "{{ (dag_run.run_after + macros.timedelta(hours=params.hours + 1)).isoformat() }}",
        },
        wait_for_completion=False,
    )
