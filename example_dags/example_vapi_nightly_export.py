# SPDX-License-Identifier: Apache-2.0
"""
Archive each day's calls and recordings.

Each night, the DAG exports the previous day's calls to one object and copies the recordings of completed calls. Running
it again for the same day writes the same object and copies only missing recordings.
"""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG, ObjectStoragePath, Param, task
from airflow.timetables.interval import CronDataIntervalTimetable
from vapi_provider.transfers.calls_to_object_storage import CallsExport, VapiCallsToObjectStorageOperator
from vapi_provider.transfers.recording_to_object_storage import VapiRecordingToObjectStorageOperator

with DAG(
    dag_id="example_vapi_nightly_export",
    # A plain "@daily" has empty data intervals in Airflow 3; those of this timetable cover the previous day.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    # If calls are still live, a retry completes the export later.
    default_args={"retries": 3, "retry_delay": timedelta(minutes=20)},
    params={
        "archive": Param(
            "file:///tmp/vapi-archive",
            type="string",
            description="The folder to write to, such as s3://my_aws_connection@bucket/vapi",
        )
    },
    tags=["vapi", "example"],
    doc_md=__doc__,
) as dag:
    export = VapiCallsToObjectStorageOperator(
        task_id="export_calls",
        path="{{ params.archive }}/calls/{{ data_interval_start | ds }}.jsonl.gz",
        include=["transcript", "cost_breakdown"],
    )

    @task
    def completed_calls(archive: CallsExport, params: dict[str, str]) -> list[str]:
        # The path in the result does not contain the connection id.
        name = archive["path"].rpartition("/")[2]
        with (
            ObjectStoragePath(f"{params['archive']}/calls/{name}").open("rb") as file,
            gzip.open(file) as lines,
        ):
            calls = [json.loads(line) for line in lines]
        return [call["id"] for call in calls if call["outcome"] == "completed"]

    VapiRecordingToObjectStorageOperator.partial(
        task_id="copy_recording",
        path="{{ params.archive }}/recordings/{{ data_interval_start | ds }}/",
        if_exists="skip",
        # Limits concurrent downloads. Airflow maps up to 1,024 calls; raise [core] max_map_length for more.
        max_active_tis_per_dag=8,
    ).expand(call_id=completed_calls(export.output))
