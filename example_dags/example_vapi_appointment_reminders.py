# SPDX-License-Identifier: Apache-2.0
"""
Remind people of their appointments.

Each person is one mapped task. A person who was not reached is called again an hour later, up to three times in all, and
the report counts how the last calls ended. However often a task is tried or cleared, each attempt rings once.

The phone numbers are stored in the XCom of ``people_to_call``, and appear in no log.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import DAG, task
from vapi_provider.models.outcome import CallOutcome
from vapi_provider.operators.call import VapiCreateCallOperator

# Replace these with your own ids from the Vapi dashboard.
ASSISTANT_ID = "00000000-0000-0000-0000-00000000000a"
PHONE_NUMBER_ID = "00000000-0000-0000-0000-00000000000b"


def appointments() -> list[dict[str, str]]:
    """Return the appointments of tomorrow; replace this with a query of your own database."""
    return [
        {"id": "A-1", "number": "+12025550101", "name": "Ada", "time": "Tuesday at ten"},
        {"id": "A-2", "number": "+12025550102", "name": "Grace", "time": "Tuesday at noon"},
        {"id": "A-3", "number": "+12025550103", "name": "Edsger", "time": "Tuesday at nine"},
    ]


with DAG(
    dag_id="example_vapi_appointment_reminders",
    schedule="0 15 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    tags=["vapi", "example"],
    doc_md=__doc__,
) as dag:
    # Keep the returned numbers and names out of the log.
    @task(show_return_value_in_logs=False)
    def people_to_call() -> list[dict[str, Any]]:
        return [
            {
                "customer": {"external_id": each["id"], "number": each["number"], "name": each["name"]},
                "assistant_overrides": {"variableValues": {"name": each["name"], "time": each["time"]}},
            }
            for each in appointments()
        ]

    call = VapiCreateCallOperator.partial(
        task_id="call_person",
        assistant_id=ASSISTANT_ID,
        phone_number_id=PHONE_NUMBER_ID,
        name="Appointment reminder",
        deferrable=True,
        timeout=timedelta(hours=1),
        redial_on=[CallOutcome.NO_ANSWER],
        max_attempts=3,
        # An outage uses a retry but no attempt, so there are more retries than attempts.
        retries=5,
        retry_delay=timedelta(hours=1),
    ).expand_kwargs(people_to_call())

    @task(trigger_rule="all_done")
    def count_outcomes(ti: Any = None) -> dict[str, int]:
        # Pulled here, because Airflow shows a task's arguments.
        people = ti.xcom_pull(task_ids="people_to_call")
        # One summary per person, in the same order; None for a failed task.
        summaries = ti.xcom_pull(task_ids="call_person", map_indexes=range(len(people)))
        return dict(Counter(summary["outcome"] if summary else "not_called" for summary in summaries))

    call >> count_outcomes()
