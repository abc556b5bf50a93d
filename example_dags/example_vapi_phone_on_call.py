# SPDX-License-Identifier: Apache-2.0
"""
Phone the on-call when a DAG run fails.

The callback of the DAG places one call per failed run and says which DAG failed and why. The assistant's script uses the
variable `{{message}}`. The number, the assistant and your phone number come from Airflow variables.
"""

from __future__ import annotations

import datetime

from airflow.sdk import DAG, task
from vapi_provider.notifications.call import VapiNotifier

phone_on_call = VapiNotifier(
    customer={"number": "{{ var.value.on_call_number }}"},
    assistant_id="{{ var.value.vapi_alert_assistant }}",
    phone_number_id="{{ var.value.vapi_phone_number }}",
    message="{{ dag.dag_id }} failed: {{ exception | default(reason) }}",
    quiet_for=datetime.timedelta(minutes=15),
)

with DAG(
    dag_id="example_vapi_phone_on_call",
    schedule=None,
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    catchup=False,
    # Once per run, however many of its tasks fail.
    on_failure_callback=phone_on_call,
    tags=["vapi", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def load() -> None:
        raise RuntimeError("The source has no rows for today.")

    load()
