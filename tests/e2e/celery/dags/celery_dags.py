# SPDX-License-Identifier: Apache-2.0
"""The DAG of the Celery test; the run's configuration lists the callees."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task
from vapi_provider.operators.call import VapiCreateCallOperator

with DAG("celery_campaign", schedule=None, is_paused_upon_creation=False):

    @task(retries=5, retry_delay=timedelta(seconds=1))
    def people(dag_run: Any = None) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = dag_run.conf["people"]
        return listed

    VapiCreateCallOperator.partial(
        task_id="call",
        assistant_id="0198a3f0-0000-7000-8000-000000000002",
        phone_number_id="0198a3f0-0000-7000-8000-000000000003",
        name="Reminder",
        deferrable=True,
        poll_interval=5,
        timeout=3600,
        redial_on=["no_answer"],
        max_attempts=2,
        # Lost services use retries, but no attempts.
        retries=20,
        retry_delay=timedelta(seconds=1),
    ).expand_kwargs(people())
