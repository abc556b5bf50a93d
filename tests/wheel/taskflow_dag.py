# SPDX-License-Identifier: Apache-2.0
"""A DAG in the TaskFlow style that uses every operator, the sensor, the notifier and the trigger of assets; mypy checks it, and Airflow imports it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task
from vapi_provider import CallOutcome, VapiCallSensor, VapiCreateCallOperator, VapiUpdateCallOperator
from vapi_provider.models.summary import CallSummary  # noqa: TC001 - Airflow evaluates the annotations
from vapi_provider.notifications.call import VapiNotifier
from vapi_provider.placing.request import Customer
from vapi_provider.transfers.calls_to_object_storage import VapiCallsToObjectStorageOperator
from vapi_provider.transfers.recording_to_object_storage import VapiRecordingToObjectStorageOperator
from vapi_provider.triggers.ended import VapiCallEndedTrigger

ASSISTANT_ID = "0198a3f0-0000-7000-8000-000000000002"
PHONE_NUMBER_ID = "0198a3f0-0000-7000-8000-000000000003"

ended = Asset(
    "ended",
    watchers=[AssetWatcher(name="ended", trigger=VapiCallEndedTrigger(outcomes=[CallOutcome.FAILED]))],
)
phone_on_call = VapiNotifier(
    customer=Customer(number="+12025550143"), assistant_id=ASSISTANT_ID, phone_number_id=PHONE_NUMBER_ID
)

with DAG("taskflow", schedule=[ended], on_failure_callback=phone_on_call) as dag:

    @task
    def choose_callee() -> Customer:
        return {"number": "+12025550143", "name": "Ada", "external_id": "A-1"}

    @task
    def list_callees() -> list[Customer]:
        return [{"number": "+12025550143"}, {"sip_uri": "sip:ada@example.invalid"}]

    @task
    def list_calls() -> list[dict[str, Any]]:
        return [{"customer": Customer(number="+12025550117"), "name": "Reminder"}]

    @task
    def read_call(call_id: str) -> CallSummary:
        from vapi_provider import VapiHook

        return VapiHook().get_call(call_id).summary(["transcript"])

    # Airflow's own types let no task's output stand for an argument of another task, except for Any.
    @task
    def label(output: Any) -> str:
        summary: CallSummary = output
        outcome: str | None = summary["outcome"]
        cost: float = summary["cost"] or 0
        return f"{outcome}, {cost:.2f} US dollars"

    call = VapiCreateCallOperator(
        task_id="call",
        assistant_id=ASSISTANT_ID,
        phone_number_id=PHONE_NUMBER_ID,
        customer=choose_callee(),
        assistant_overrides={"variableValues": {"day": "Tuesday"}},
        schedule_plan={
            "earliest_at": datetime(2026, 12, 1, tzinfo=timezone.utc),
            "latest_at": "2026-12-02T00:00:00Z",
        },
        extra_body={"metadata": {"campaign": "reminders"}},
        fail_on=[CallOutcome.FAILED, "unknown"],
        timeout=timedelta(hours=1),
        include=["transcript"],
    )
    VapiUpdateCallOperator(task_id="rename", call_id=call.output, name=label(call.output))

    @task
    def count(output: Any) -> int:
        calls: int = output["calls"]
        return calls

    exported = VapiCallsToObjectStorageOperator(
        task_id="export", path="s3://bucket/{{ ds }}.jsonl", include=["transcript"], if_exists="skip"
    )
    count(exported.output)
    VapiRecordingToObjectStorageOperator(task_id="copy", call_id=call.output, path="s3://bucket/recordings/")
    VapiRecordingToObjectStorageOperator.partial(task_id="copy_each", path="s3://bucket/recordings/").expand(
        call_id=call.output.map(lambda summary: summary["id"])
    )

    callee = Customer(
        number="3000", number_e164_check_enabled=False, assistant_overrides={"firstMessage": "Hi."}
    )
    placed = VapiCreateCallOperator(
        task_id="place",
        assistant_id=ASSISTANT_ID,
        phone_number_id=PHONE_NUMBER_ID,
        customer=callee,
        wait_for_completion=False,
    )
    VapiCallSensor(task_id="wait", call_id=placed.output, deferrable=True, poke_interval=timedelta(minutes=1))

    call_each = VapiCreateCallOperator.partial(
        task_id="call_each", assistant_id=ASSISTANT_ID, phone_number_id=PHONE_NUMBER_ID
    ).expand(customer=list_callees())
    VapiCreateCallOperator.partial(
        task_id="call_all", assistant_id=ASSISTANT_ID, phone_number_id=PHONE_NUMBER_ID
    ).expand_kwargs(list_calls())
    VapiCallSensor.partial(task_id="wait_each").expand(call_id=call_each.output)
    VapiUpdateCallOperator.partial(task_id="rename_each", name="Reminder").expand(call_id=call_each.output)

    # mypy reports an ignored error that is not there, so it must find each of these.
    VapiUpdateCallOperator(task_id="number", call_id=5, name="Ada")  # type: ignore[arg-type]
    VapiCallSensor(task_id="nothing", call_id=None)  # type: ignore[arg-type]
    Customer(phone="+12025550143")  # type: ignore[typeddict-unknown-key]
    read_call(call_id=5)  # type: ignore[arg-type]
