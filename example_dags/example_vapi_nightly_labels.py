# SPDX-License-Identifier: Apache-2.0
"""
Label yesterday's calls.

Each night, the DAG lists the calls that were created within the data interval. It names each ended call after its
outcome, in one mapped task per call. Running it again for the same day sets the same names. To run it by hand, trigger
it with a logical date: it labels the calls of the day before.
"""

from __future__ import annotations

import datetime

from airflow.sdk import DAG, task
from airflow.timetables.interval import CronDataIntervalTimetable
from vapi_provider.operators.call import VapiUpdateCallOperator

with DAG(
    dag_id="example_vapi_nightly_labels",
    # A plain "@daily" has empty data intervals in Airflow 3; those of this timetable cover the previous day.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    catchup=False,
    tags=["vapi", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def calls_to_label(
        data_interval_start: datetime.datetime | None = None,
        data_interval_end: datetime.datetime | None = None,
    ) -> list[dict[str, str]]:
        from vapi_provider.hooks.vapi import VapiHook

        if data_interval_start is None or data_interval_end is None:
            # Without bounds, this would list all calls.
            raise ValueError(
                "This run has no data interval. Trigger it with a logical date: the day after the calls."
            )
        calls = VapiHook().list_calls(created_at_ge=data_interval_start, created_at_lt=data_interval_end)
        return [{"call_id": call.id, "name": f"Nightly: {call.outcome}"} for call in calls if call.has_ended]

    VapiUpdateCallOperator.partial(
        task_id="label_call",
        # Limits concurrent requests. Airflow maps up to 1,024 calls; raise [core] max_map_length for more.
        max_active_tis_per_dag=8,
    ).expand_kwargs(calls_to_label())
