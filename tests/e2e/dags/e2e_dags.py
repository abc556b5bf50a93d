# SPDX-License-Identifier: Apache-2.0
"""The DAGs of the end-to-end tests; the run's configuration names their calls."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, task
from vapi_provider.operators.call import VapiCreateCallOperator, VapiUpdateCallOperator
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.transfers.calls_to_object_storage import VapiCallsToObjectStorageOperator
from vapi_provider.transfers.recording_to_object_storage import VapiRecordingToObjectStorageOperator

DEFAULTS: dict[str, Any] = {
    "retries": 3,
    "retry_delay": timedelta(seconds=1),
}

with DAG("wait_for_calls", schedule=None, is_paused_upon_creation=False) as waiting:

    @task
    def call_ids(dag_run: Any = None) -> list[str]:
        ids: list[str] = dag_run.conf["call_ids"]
        return ids

    wait = VapiCallSensor.partial(
        task_id="wait", deferrable=True, poke_interval=5, timeout=3600, fail_on=["failed"], **DEFAULTS
    ).expand(call_id=call_ids())

    @task
    def collect(summaries: Iterable[dict[str, Any]]) -> list[list[Any]]:
        return [[summary["id"], summary["outcome"]] for summary in summaries]

    collect(wait.output)

with DAG("rename_call", schedule=None, is_paused_upon_creation=False) as renaming:
    VapiUpdateCallOperator(
        task_id="rename",
        call_id="{{ dag_run.conf['call_id'] }}",
        name="{{ dag_run.conf['name'] }}",
        **DEFAULTS,
    )

with DAG("archive_calls", schedule=None, is_paused_upon_creation=False) as archiving:
    VapiCallsToObjectStorageOperator(
        task_id="export",
        path="{{ dag_run.conf['folder'] }}/calls.jsonl.gz",
        storage_conn_id="aws_archive",
        created_at_ge="2026-03-10T00:00:00Z",
        created_at_lt="2026-03-11T00:00:00Z",
        include=["transcript"],
        outlets=[Asset("s3://archive/night")],
    )
    VapiRecordingToObjectStorageOperator(
        task_id="copy",
        call_id="{{ dag_run.conf['call_id'] }}",
        path="{{ dag_run.conf['folder'] }}/",
        storage_conn_id="aws_archive",
    )

with DAG("place_calls", schedule=None, is_paused_upon_creation=False) as placing:

    @task
    def people(dag_run: Any = None) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = dag_run.conf["people"]
        return listed

    VapiCreateCallOperator.partial(
        task_id="call",
        vapi_conn_id="vapi_placing",
        assistant_id="0198a3f0-0000-7000-8000-000000000002",
        phone_number_id="0198a3f0-0000-7000-8000-000000000003",
        name="Reminder",
        deferrable=True,
        poll_interval=5,
        timeout=3600,
        # Some tests kill every running process.
        **{**DEFAULTS, "retries": 20},
    ).expand_kwargs(people())

with DAG("call_campaign", schedule=None, is_paused_upon_creation=False) as campaign:

    @task
    def callees(dag_run: Any = None) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = dag_run.conf["people"]
        return listed

    VapiCreateCallOperator.partial(
        task_id="call",
        vapi_conn_id="vapi_campaign",
        assistant_id="0198a3f0-0000-7000-8000-000000000002",
        phone_number_id="0198a3f0-0000-7000-8000-000000000003",
        deferrable=True,
        poll_interval=5,
        redial_on=["no_answer"],
        max_attempts=2,
        outside_hours="skip",
        retries=2,
        retry_delay=timedelta(seconds=1),
    ).expand_kwargs(callees())
