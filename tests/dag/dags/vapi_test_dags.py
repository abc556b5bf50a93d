# SPDX-License-Identifier: Apache-2.0
"""Small DAGs like those of users; the run's configuration names their calls."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task
from vapi_provider.operators.call import VapiCreateCallOperator, VapiUpdateCallOperator
from vapi_provider.sensors.call import VapiCallSensor

CALL_ID = "{{ dag_run.conf['call_id'] }}"
INCLUDES = ["analysis", "cost_breakdown", "customer", "messages", "structured_outputs", "transcript"]

MODES: dict[str, dict[str, Any]] = {
    "wait_poke": {"mode": "poke"},
    "wait_reschedule": {"mode": "reschedule"},
    "wait_deferrable": {"deferrable": True},
}
"""The modes of a sensor, by the id of the waiting task."""

failures: list[BaseException] = []
"""The exceptions of this run's failed tasks."""

heard: dict[int, list[Any]] = defaultdict(list)
"""What each overheard instance logs, raises and receives: messages, exceptions and the triggers' events."""


people: list[dict[str, Any]] = []
"""The callees and the arguments of their calls, if they must not be in the run's configuration."""

outputs: list[Any] = []
"""What a task returns instead of a call's summary."""

ASSISTANT_ID = "0198a3f0-0000-7000-8000-000000000002"
PHONE_NUMBER_ID = "0198a3f0-0000-7000-8000-000000000003"


def note_failure(context: Any) -> None:
    failures.append(context["exception"])


def new_dag(dag_id: str, **arguments: Any) -> DAG:
    default_args = {
        "on_failure_callback": note_failure,
        "retries": 2,
        "retry_delay": timedelta(0),
        "poke_interval": 0.01,
        "poll_interval": 0.01,
    }
    return DAG(dag_id, schedule=None, default_args=default_args, **arguments)


@task
def configured(key: str, dag_run: Any = None) -> list[Any]:
    values: list[Any] = dag_run.conf[key]
    return values


class _Ear(logging.Handler):
    """Records the log of an overheard sensor."""

    map_index = -1

    def emit(self, record: logging.LogRecord) -> None:
        heard[self.map_index].append(record.getMessage())


_ear = _Ear()
_heard_log = logging.getLogger("overheard")
_heard_log.setLevel(logging.INFO)
_heard_log.addHandler(_ear)


@contextmanager
def listening(context: Any) -> Iterator[None]:
    _ear.map_index = context["ti"].map_index
    try:
        yield
    except Exception as error:
        # This one only schedules the next poke; its module differs between Airflow versions.
        if type(error).__name__ != "AirflowRescheduleException":
            heard[_ear.map_index].append(error)
        raise


class OverheardSensor(VapiCallSensor):
    """A sensor that shows tests what a user would read in its log."""

    # Airflow's own logger bypasses the tests.
    log: Any = _heard_log
    # They take a third of a task's time, and other tests cover them.
    template_fields = ()
    operator_extra_links = ()

    def execute(self, context: Any) -> Any:
        with listening(context):
            return super().execute(context)

    def resume_execution(self, next_method: str, next_kwargs: Any, context: Any) -> Any:
        heard[context["ti"].map_index].append((next_kwargs or {}).get("event"))
        with listening(context):
            return super().resume_execution(next_method, next_kwargs, context)


def wait_for_each() -> DAG:
    """Wait for many calls, each with the arguments from the run's configuration."""
    with new_dag("wait_for_each") as dag:
        OverheardSensor.partial(task_id="wait").expand_kwargs(configured("waits"))
    return dag


def wait_poke(soft_fail: bool) -> DAG:
    with new_dag(f"wait_poke_{'soft' if soft_fail else 'hard'}") as dag:
        VapiCallSensor.partial(task_id="wait", soft_fail=soft_fail, fail_on=["no_answer"]).expand_kwargs(
            configured("waits")
        )
    return dag


def place_in_one_process() -> DAG:
    """Place a call that only requires a connection."""
    with new_dag("place_in_one_process") as dag:
        VapiCreateCallOperator(
            task_id="call",
            assistant_id=ASSISTANT_ID,
            phone_number_id=PHONE_NUMBER_ID,
            customer={"number": "+12025550143"},
            deferrable=True,
            hang_up_on_kill=True,
        )
    return dag


def wait_for_variable() -> DAG:
    """Wait for a call whose id template may render another value later."""
    with new_dag("wait_for_variable") as dag:
        VapiCallSensor(task_id="wait", call_id="{{ var.value.latest_call }}", deferrable=True)
    return dag


def wait_then_rename() -> DAG:
    with new_dag("wait_then_rename", params={"call_id": "", "name": "Reached"}) as dag:
        wait = VapiCallSensor(task_id="wait", call_id="{{ params.call_id }}", mode="reschedule")
        rename = VapiUpdateCallOperator(
            task_id="rename",
            call_id="{{ ti.xcom_pull(task_ids='wait')['id'] }}",
            name="{{ params.name }}: {{ ti.xcom_pull(task_ids='wait')['outcome'] }}",
        )
        wait >> rename
    return dag


def rename_each() -> DAG:
    with new_dag("rename_each") as dag:
        VapiUpdateCallOperator.partial(task_id="same_name", name="Reminder").expand(
            call_id=configured.override(task_id="call_ids")("call_ids")
        )
        VapiUpdateCallOperator.partial(task_id="own_names").expand_kwargs(
            configured.override(task_id="renames")("renames")
        )
    return dag


def wait_for_list() -> DAG:
    with new_dag("wait_for_list") as dag:
        wait = VapiCallSensor.partial(task_id="wait").expand(call_id=configured("call_ids"))

        @task
        def reached(summaries: Any) -> list[str]:
            return [summary["id"] for summary in summaries if summary["outcome"] == "completed"]

        reached(wait.output)
    return dag


def empty_templates(kind: str) -> DAG:
    """Templates that render to nothing; native rendering turns some into objects that are not strings."""
    nothing = "{{ ti.xcom_pull(task_ids='missing') }}"
    with new_dag(f"empty_templates_{kind}", render_template_as_native_obj=kind == "native") as dag:
        for task_id, call_id, name in (
            ("none_id", nothing, "Reminder"),
            ("empty_id", "{{ '' }}", "Reminder"),
            ("none_name", CALL_ID, nothing),
            ("empty_name", CALL_ID, "{{ '' }}"),
            ("number_name", CALL_ID, "{{ 42 }}"),
            ("good", CALL_ID, "{{ dag_run.conf['name'] }}"),
        ):
            VapiUpdateCallOperator(task_id=task_id, call_id=call_id, name=name)
        for task_id, call_id, conn_id in (
            ("wait_none_id", nothing, "vapi_default"),
            ("wait_empty_id", "{{ '' }}", "vapi_default"),
            ("wait_none_connection", CALL_ID, nothing),
        ):
            VapiCallSensor(task_id=task_id, call_id=call_id, vapi_conn_id=conn_id)
    return dag


def branch_on_outcome() -> DAG:
    with new_dag("branch_on_outcome") as dag:
        wait = VapiCallSensor(task_id="wait", call_id=CALL_ID)

        @task.branch
        def by_outcome(summary: Any) -> str:
            return "thank" if summary["outcome"] == "completed" else "call_again"

        thank = VapiUpdateCallOperator(task_id="thank", call_id=CALL_ID, name="Thank")
        call_again = VapiUpdateCallOperator(task_id="call_again", call_id=CALL_ID, name="Call again")
        by_outcome(wait.output) >> [thank, call_again]
    return dag


def everything_included() -> DAG:
    with new_dag("everything_included") as dag:
        wait = VapiCallSensor(
            task_id="wait", call_id=CALL_ID, wait_for_analysis=True, include=INCLUDES, retries=0
        )
        rename = VapiUpdateCallOperator(
            task_id="rename", call_id=CALL_ID, name="Reached", retries=0, trigger_rule="all_done"
        )
        wait >> rename
    return dag


@task
def callees() -> list[dict[str, Any]]:
    return people


def place_each() -> DAG:
    """Call each callee, with the arguments given for it."""
    with new_dag("place_each") as dag:
        VapiCreateCallOperator.partial(
            task_id="call",
            assistant_id=ASSISTANT_ID,
            phone_number_id=PHONE_NUMBER_ID,
            name="Reminder",
            map_index_template="{{ task.customer['number'] }}",
        ).expand_kwargs(callees())
    return dag


def place_one(dag_id: str, **how: Any) -> DAG:
    """Call the first callee and wait; its data comes from templates."""
    person = "ti.xcom_pull(task_ids='callees')[0]"
    with new_dag(dag_id) as dag:
        call = VapiCreateCallOperator(
            task_id="call",
            assistant_id=ASSISTANT_ID,
            phone_number_id=PHONE_NUMBER_ID,
            customer={"number": f"{{{{ {person}['number'] }}}}"},
            name="Reminder",
            assistant_overrides={"variableValues": {"said": f"{{{{ {person}['said'] }}}}"}},
            **how,
        )
        callees() >> call
    return dag


@task(show_return_value_in_logs=False)
def output() -> Any:
    return outputs[0]


@task(show_return_value_in_logs=False)
def all_outputs() -> list[Any]:
    return outputs


def use_output() -> DAG:
    """Pass a task's result as ``call_id``."""
    with new_dag("use_output") as dag:
        call = output()
        for task_id, mode in MODES.items():
            VapiCallSensor(task_id=task_id, call_id=call, **mode)
        VapiUpdateCallOperator(task_id="rename", call_id=call, name="Reached")
    return dag


def use_each_output() -> DAG:
    """Pass each element of a task's result as ``call_id``."""
    with new_dag("use_each_output") as dag:
        calls = all_outputs()
        for task_id, mode in MODES.items():
            VapiCallSensor.partial(task_id=task_id, **mode).expand(call_id=calls)
        VapiUpdateCallOperator.partial(task_id="rename", name="Reached").expand(call_id=calls)
    return dag


def use_template_of_output() -> DAG:
    """Convert a task's result to text, by mistake."""
    with new_dag("use_template_of_output") as dag:
        text = "{{ ti.xcom_pull(task_ids='output') }}"
        call = output()
        for task_id, mode in MODES.items():
            call >> VapiCallSensor(task_id=task_id, call_id=text, **mode)
        call >> VapiUpdateCallOperator(task_id="rename", call_id=text, name="Reached")
    return dag


def place_then_use_output() -> DAG:
    """Place calls, and pass on their summaries with transcripts."""
    with new_dag("place_then_use_output") as dag:
        request = {
            "assistant_id": ASSISTANT_ID,
            "phone_number_id": PHONE_NUMBER_ID,
            "include": ["transcript"],
        }
        number = "{{ ti.xcom_pull(task_ids='callees')[0]['customer']['number'] }}"
        call = VapiCreateCallOperator(task_id="call", customer={"number": number}, **request)
        calls = VapiCreateCallOperator.partial(task_id="call_each", **request).expand_kwargs(
            called := callees()
        )
        called >> call
        VapiCallSensor(task_id="wait", call_id=call.output)
        VapiUpdateCallOperator(task_id="rename", call_id=call.output, name="Reached")
        VapiCallSensor.partial(task_id="wait_each").expand(call_id=calls.output)
        VapiUpdateCallOperator.partial(task_id="rename_each", name="Reached").expand(call_id=calls.output)
    return dag


dags = [
    wait_for_each(),
    wait_poke(soft_fail=False),
    wait_poke(soft_fail=True),
    wait_then_rename(),
    rename_each(),
    wait_for_list(),
    empty_templates("text"),
    empty_templates("native"),
    branch_on_outcome(),
    everything_included(),
    place_each(),
    use_output(),
    use_each_output(),
    use_template_of_output(),
    place_then_use_output(),
    place_one("place_and_poke"),
    place_one("place_and_defer", deferrable=True),
    place_in_one_process(),
    wait_for_variable(),
    place_one("place_within_an_hour", execution_timeout=timedelta(hours=1)),
]
