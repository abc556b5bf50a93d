# SPDX-License-Identifier: Apache-2.0
"""
Call a list of people within their calling hours, again if they were not reached, and report how it went.

Each person is one mapped task. It waits for the person's calling hours and for a free line in the triggerer, calls up to
three times, two hours apart, and returns the summary of the last call. Each attempt rings once, whatever fails.

The numbers are in the XCom of ``people`` for as long as Airflow keeps it, and in no log.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import DAG, Param, task
from vapi_provider.models.outcome import CallOutcome
from vapi_provider.operators.call import VapiCreateCallOperator

# Yours; Vapi's dashboard has them.
ASSISTANT_ID = "00000000-0000-0000-0000-00000000000a"
PHONE_NUMBER_ID = "00000000-0000-0000-0000-00000000000b"

# Your own file or table, with the time zone where each person lives.
PEOPLE = """\
number,name,zone
+12025550101,Ada,America/New_York
+12025550102,Grace,America/Chicago
+12025550103,Edsger,America/Los_Angeles
"""

with DAG(
    dag_id="example_vapi_campaign",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    params={
        "opens": Param("09:00", type="string", description="When to begin calling, by the person's clock"),
        "closes": Param("20:00", type="string", description="When to stop; 24:00 is the end of the day"),
    },
    tags=["vapi", "example"],
    doc_md=__doc__,
) as dag:
    # The log would show what the task returns: numbers and names.
    @task(show_return_value_in_logs=False)
    def people(params: Any = None) -> list[dict[str, Any]]:
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
            for row in csv.DictReader(io.StringIO(PEOPLE))
        ]

    call = VapiCreateCallOperator.partial(
        task_id="call",
        assistant_id=ASSISTANT_ID,
        phone_number_id=PHONE_NUMBER_ID,
        name="Campaign",
        deferrable=True,
        redial_on=[CallOutcome.NO_ANSWER],
        max_attempts=3,
        # An outage uses a retry but no attempt, so there are more retries than attempts.
        retries=8,
        retry_delay=timedelta(hours=2),
    ).expand_kwargs(people())

    @task(trigger_rule="all_done")
    def report(ti: Any = None) -> dict[str, Any]:
        # Pulled, because Airflow shows a task's arguments. None for a task that failed.
        summaries = ti.xcom_pull(
            task_ids="call", map_indexes=range(len(ti.xcom_pull(task_ids="people") or []))
        )
        ended = [summary for summary in summaries if summary]
        return {
            "people": len(summaries),
            "outcomes": dict(Counter(summary["outcome"] for summary in ended)),
            "calls": sum(summary["attempts"] for summary in ended),
            # Of each person's last call.
            "cost": sum(summary["cost"] or 0 for summary in ended),
        }

    call >> report()
