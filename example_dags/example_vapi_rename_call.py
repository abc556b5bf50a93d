# SPDX-License-Identifier: Apache-2.0
"""
Rename a call after its outcome.

The DAG waits for the call to end and names it "Reminder: completed", for example, so that you can find it by its outcome
in the Vapi dashboard. Trigger it with a call id: ``{"call_id": "..."}``.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param
from vapi_provider.operators.call import VapiUpdateCallOperator
from vapi_provider.sensors.call import VapiCallSensor

with DAG(
    dag_id="example_vapi_rename_call",
    schedule=None,
    params={"call_id": Param(type="string", format="uuid", description="The id of a call")},
    tags=["vapi", "example"],
    doc_md=__doc__,
) as dag:
    wait = VapiCallSensor(
        task_id="wait_for_call",
        call_id="{{ params.call_id }}",
        poke_interval=2,
        timeout=60 * 60,
    )
    VapiUpdateCallOperator(
        task_id="rename_call",
        call_id="{{ params.call_id }}",
        name="Reminder: {{ ti.xcom_pull(task_ids='wait_for_call')['outcome'] }}",
    ).set_upstream(wait)
