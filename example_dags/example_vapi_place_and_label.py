# SPDX-License-Identifier: Apache-2.0
"""
Call a person, name the call after its outcome, and report what was said.

During the call, the first task is deferred and takes no worker slot. The new name replaces the one that ends with the
call's token. The token stays in the call's variable values, so that a retry or a cleared task still finds the call.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task
from vapi_provider.operators.call import VapiCreateCallOperator, VapiUpdateCallOperator

with DAG(
    dag_id="example_vapi_place_and_label",
    schedule=None,
    params={"first_name": Param("Ada", type="string", description="The name of the person to call")},
    tags=["vapi", "example"],
    doc_md=__doc__,
) as dag:
    call = VapiCreateCallOperator(
        task_id="call_person",
        # Replace these with your own ids from the Vapi dashboard. Airflow shows literals with the DAG's code, so read a
        # real number from a connection, a Variable or a task.
        assistant_id="00000000-0000-0000-0000-00000000000a",
        phone_number_id="00000000-0000-0000-0000-00000000000b",
        customer={"number": "+12025550105"},
        name="Reminder",
        assistant_overrides={"variableValues": {"first_name": "{{ params.first_name }}"}},
        deferrable=True,
        timeout=timedelta(hours=1),
        wait_for_analysis=True,
        include=["analysis"],
    )

    rename = VapiUpdateCallOperator(
        task_id="rename_call",
        call_id=call.output,
        name="Reminder: {{ ti.xcom_pull(task_ids='call_person')['outcome'] }}",
    )

    # Keep what was said out of the log.
    @task(show_return_value_in_logs=False)
    def report(summary: dict[str, Any]) -> str:
        said = (summary["analysis"] or {}).get("summary") or "no summary"
        return f"{summary['outcome']}, {summary['duration_seconds']} s, {summary['cost']} US dollars: {said}"

    call >> rename >> report(call.output)
