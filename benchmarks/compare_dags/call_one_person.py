# SPDX-License-Identifier: Apache-2.0
"""One DAG per package, each with a task that calls the number in the run's configuration."""

from __future__ import annotations

import json
import os
from datetime import timedelta

from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import DAG, task
from vapi_provider.operators.call import VapiCreateCallOperator

ASSISTANT_ID = "00000000-0000-0000-0000-00000000000a"
PHONE_NUMBER_ID = "00000000-0000-0000-0000-00000000000b"
# Typical settings, but with a shorter delay.
RETRIES = {"retries": 2, "retry_delay": timedelta(seconds=1)}

with DAG("vapi_provider", schedule=None):
    VapiCreateCallOperator(
        task_id="call",
        assistant_id=ASSISTANT_ID,
        phone_number_id=PHONE_NUMBER_ID,
        customer={"number": "{{ dag_run.conf['number'] }}"},
        wait_for_completion=False,
        **RETRIES,
    )

with DAG("http_operator", schedule=None):
    HttpOperator(
        task_id="call",
        http_conn_id="vapi_over_http",
        endpoint="/call",
        headers={"Content-Type": "application/json"},
        data=json.dumps(
            {
                "assistantId": ASSISTANT_ID,
                "phoneNumberId": PHONE_NUMBER_ID,
                "customer": {"number": "{{ dag_run.conf['number'] }}"},
            }
        ),
        **RETRIES,
    )

with DAG("vapi_sdk", schedule=None):

    @task(task_id="call", **RETRIES)
    def call(number: str) -> str:
        from vapi import Vapi

        client = Vapi(token=os.environ["VAPI_TOKEN"], base_url=os.environ["VAPI_BASE_URL"])
        placed = client.calls.create(
            assistant_id=ASSISTANT_ID, phone_number_id=PHONE_NUMBER_ID, customer={"number": number}
        )
        return placed.id

    call("{{ dag_run.conf['number'] }}")
