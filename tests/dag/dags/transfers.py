# SPDX-License-Identifier: Apache-2.0
"""DAGs that write calls and recordings to the folder in the run's configuration."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import DAG, Asset, task
from airflow.timetables.interval import CronDataIntervalTimetable
from airflow.timetables.trigger import CronTriggerTimetable
from vapi_provider.transfers.calls_to_object_storage import VapiCallsToObjectStorageOperator
from vapi_provider.transfers.recording_to_object_storage import VapiRecordingToObjectStorageOperator

FOLDER = "{{ dag_run.conf['folder'] }}"
DAY = {"created_at_ge": "2026-03-10T00:00:00Z", "created_at_lt": "2026-03-11T00:00:00Z"}
INCLUDES = ["analysis", "cost_breakdown", "customer", "messages", "structured_outputs", "transcript"]

failures: list[BaseException] = []
"""The exceptions of failed tasks of this run."""

records: list[dict[str, Any]] = []
"""The result of the upstream task."""

exported = Asset(name="exported_calls", uri="file:///exported/calls")


def new_dag(dag_id: str, **arguments: Any) -> DAG:
    default_args = {
        "on_failure_callback": lambda context: failures.append(context["exception"]),
        "retries": 2,
        "retry_delay": timedelta(0),
    }
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    return DAG(dag_id, start_date=start, catchup=False, default_args=default_args, **arguments)


def export(**arguments: Any) -> VapiCallsToObjectStorageOperator:
    return VapiCallsToObjectStorageOperator(
        **{"task_id": "export", "path": f"{FOLDER}/calls.jsonl", **arguments}
    )


with new_dag("transfer_interval", schedule=CronDataIntervalTimetable("@daily", timezone="UTC")) as interval:
    export()

with new_dag(
    "transfer_trigger", schedule=CronTriggerTimetable("@daily", timezone="UTC", interval=timedelta(days=1))
) as trigger:
    export()

with new_dag("transfer_daily", schedule="@daily") as daily:
    export()

with new_dag("transfer_no_interval", schedule=None) as no_interval:
    export()

with new_dag("transfer_missing", schedule=None) as missing:
    export(**DAY, path=f"{FOLDER}/{{{{ dag_run.conf.get('nothing') }}}}/calls.jsonl")

with new_dag("transfer_day", schedule=None) as day:
    export(**DAY)

with new_dag("transfer_broken_bound", schedule=None) as broken_bound:
    export(created_at_ge="{{ dag_run.run_after.subtract(days=1) }}", created_at_lt="{{ dag_run.run_after }}")

with new_dag("transfer_broken_path", schedule=None) as broken_path:
    export(**DAY, path="{{ {}[dag_run.conf['customer']].name }}")

with new_dag("transfer_outlet", schedule=None) as outlet:
    export(**DAY, outlets=[exported], include=["transcript"])

with new_dag("transfer_everything", schedule=None) as everything:
    export(**DAY, include=INCLUDES)
    VapiRecordingToObjectStorageOperator(
        task_id="copy", call_id="{{ dag_run.conf['call_id'] }}", path=f"{FOLDER}/"
    )


@task(show_return_value_in_logs=False)
def read() -> list[dict[str, Any]]:
    return records


with new_dag("transfer_mapped", schedule=None) as mapped:
    VapiRecordingToObjectStorageOperator.partial(task_id="copy").expand_kwargs(read())

with new_dag("transfer_shared_path", schedule=None) as shared_path:
    VapiRecordingToObjectStorageOperator.partial(task_id="copy", path=f"{FOLDER}/recording.wav").expand(
        call_id=["{{ dag_run.conf['call_id'] }}"]
    )


@task
def nothing() -> None:
    """Return None, as a query without a result does."""


with new_dag("transfer_none", schedule=None) as none:
    for number, field in enumerate(("assistant_id", "phone_number_id", "storage_conn_id")):
        export(**DAY, task_id=field, **{field: nothing.override(task_id=f"nothing_{number}")()})  # type: ignore[operator]

with new_dag("transfer_mapped_none", schedule=None) as mapped_none:
    fixed: dict[str, Any] = {**DAY, "path": f"{FOLDER}/calls.jsonl"}
    exporting = VapiCallsToObjectStorageOperator.partial
    exporting(task_id="expand", **fixed).expand(assistant_id=[None])
    exporting(task_id="expand_kwargs", **fixed).expand_kwargs([{"assistant_id": None}])
    exporting(task_id="partial", assistant_id=nothing(), **DAY).expand(path=[f"{FOLDER}/calls.jsonl"])
