# SPDX-License-Identifier: Apache-2.0
"""
Remind people of their appointments.

Each run calls every person who has an appointment and was not reached by an earlier run, in one mapped task per person.
Then it counts the outcomes. However often a task is retried or cleared, each phone rings only once per run.

A pool limits the number of concurrent calls. Create it with your organization's limit in Vapi, 10 by default:
``airflow pools set vapi_calls 10 "Calls at once" --include-deferred``.

The phone numbers are stored in the XCom of ``people_to_call``, and appear in no log.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import DAG, Variable, task
from vapi_provider.models.outcome import CallOutcome
from vapi_provider.operators.call import VapiCreateCallOperator

# Replace these with your own ids from the Vapi dashboard.
ASSISTANT_ID = "00000000-0000-0000-0000-00000000000a"
PHONE_NUMBER_ID = "00000000-0000-0000-0000-00000000000b"

# The Variable with the external ids of people who were reached; it contains no phone numbers.
REACHED = "vapi_reminders_reached"


def appointments() -> list[dict[str, str]]:
    """Return the upcoming appointments; replace this with a query of your own database."""
    return [
        {"id": "A-1", "number": "+12025550101", "name": "Ada", "time": "Tuesday at ten"},
        {"id": "A-2", "number": "+12025550102", "name": "Grace", "time": "Tuesday at noon"},
        {"id": "A-3", "number": "+12025550103", "name": "Edsger", "time": "Wednesday at nine"},
    ]


with DAG(
    dag_id="example_vapi_appointment_reminders",
    schedule="0 15 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    # The next run must know which people this run reached.
    max_active_runs=1,
    tags=["vapi", "example"],
    doc_md=__doc__,
) as dag:
    # Keep the returned numbers and names out of the log.
    @task(show_return_value_in_logs=False)
    def people_to_call() -> list[dict[str, Any]]:
        reached = Variable.get(REACHED, default=[], deserialize_json=True)
        return [
            {
                "customer": {"external_id": each["id"], "number": each["number"], "name": each["name"]},
                "assistant_overrides": {"variableValues": {"name": each["name"], "time": each["time"]}},
            }
            for each in appointments()
            if each["id"] not in reached
        ]

    call = VapiCreateCallOperator.partial(
        task_id="call_person",
        assistant_id=ASSISTANT_ID,
        phone_number_id=PHONE_NUMBER_ID,
        name="Appointment reminder",
        deferrable=True,
        timeout=timedelta(hours=1),
        # The pool must include deferred tasks; max_active_tis_per_dag counts them only from Airflow 3.2 on.
        pool="vapi_calls",
        # Other calls count towards the limit, too. Over the limit, no call is placed, and a retry places it later.
        retries=5,
        retry_delay=timedelta(minutes=2),
    ).expand_kwargs(people_to_call())

    @task(trigger_rule="all_done")
    def count_outcomes(ti: Any = None) -> dict[str, int]:
        # Pulled here, because Airflow shows a task's arguments.
        people = ti.xcom_pull(task_ids="people_to_call")
        # One summary per person, in the same order; None for a failed task.
        summaries = ti.xcom_pull(task_ids="call_person", map_indexes=range(len(people)))
        outcomes = {
            person["customer"]["external_id"]: summary["outcome"] if summary else "not_called"
            for person, summary in zip(people, summaries, strict=True)
        }
        reached = {each for each, outcome in outcomes.items() if outcome == CallOutcome.COMPLETED}
        reached.update(Variable.get(REACHED, default=[], deserialize_json=True))
        still_known = reached & {each["id"] for each in appointments()}
        Variable.set(REACHED, sorted(still_known), serialize_json=True)
        return dict(Counter(outcomes.values()))

    call >> count_outcomes()
