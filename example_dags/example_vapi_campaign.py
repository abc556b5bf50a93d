# SPDX-License-Identifier: Apache-2.0
"""
Call a list of people within lawful hours, again if they were not reached, and report how it went.

Each callee is one mapped task. It waits for the callee's calling hours and for a free line in the triggerer, calls up to
three times, two hours apart, and returns the summary of the last call.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import DAG, Param, task
from vapi_provider.operators.call import VapiCreateCallOperator

# Yours; Vapi's dashboard has them.
ASSISTANT_ID = "00000000-0000-0000-0000-00000000000a"
PHONE_NUMBER_ID = "00000000-0000-0000-0000-00000000000b"

with DAG(
    dag_id="example_vapi_campaign",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    params={
        "opens": Param(
            "09:00", type="string", description="When calling hours begin, where the callee lives"
        ),
        "closes": Param("20:00", type="string", description="When they end"),
    },
    tags=["vapi", "example"],
    doc_md=__doc__,
) as dag:

    @task(show_return_value_in_logs=False)
    def people(params: Any = None) -> list[dict[str, Any]]:
        """Return the callees; read your own file or table here."""
        rows = [
            {"number": "+12025550101", "name": "Ada", "zone": "America/New_York"},
            {"number": "+12025550102", "name": "Grace", "zone": "America/Chicago"},
            {"number": "+12025550103", "name": "Edsger", "zone": "America/Los_Angeles"},
        ]
        return [
            {
                "customer": {"number": row["number"], "name": row["name"]},
                "assistant_overrides": {"variableValues": {"first_name": row["name"]}},
                "calling_hours": {
                    "opens": params["opens"],
                    "closes": params["closes"],
                    "timezone": row["zone"],
                },
            }
            for row in rows
        ]

    calls = VapiCreateCallOperator.partial(
        task_id="call",
        assistant_id=ASSISTANT_ID,
        phone_number_id=PHONE_NUMBER_ID,
        name="Campaign",
        deferrable=True,
        redial_on=["no_answer"],
        max_attempts=3,
        # Outages use retries too, so there are more of them than attempts.
        retries=8,
        retry_delay=timedelta(hours=2),
    ).expand_kwargs(people())

    @task(trigger_rule="all_done")
    def report(summaries: Any) -> dict[str, int]:
        """Count how the calls ended."""
        return dict(Counter(summary["outcome"] for summary in summaries if summary))

    report(calls.output)
