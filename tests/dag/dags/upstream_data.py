# SPDX-License-Identifier: Apache-2.0
"""DAGs with callees from an upstream task: its results are data; literals in this file may be templates."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task, task_group
from vapi_provider.operators.call import VapiCreateCallOperator, VapiUpdateCallOperator
from vapi_provider.sensors.call import VapiCallSensor

records: list[dict[str, Any]] = []
"""The upstream task's result."""

failures: list[BaseException] = []
"""The exceptions of this run's failed tasks."""

IDS = {
    "assistant_id": "0198a3f0-0000-7000-8000-000000000002",
    "phone_number_id": "0198a3f0-0000-7000-8000-000000000003",
}
TEMPLATE = "{{ dag_run.conf['word'] }}"
LITERAL = {
    "customer": {"number": "+12025550199", "name": TEMPLATE},
    "assistant_overrides": {"variableValues": {"words": [TEMPLATE]}},
    "name": TEMPLATE,
}


def new_dag(dag_id: str, **arguments: Any) -> DAG:
    default_args = {
        "vapi_conn_id": "{{ dag_run.conf['connection'] }}",
        "on_failure_callback": lambda context: failures.append(context["exception"]),
        "retries": 1,
        "retry_delay": timedelta(0),
        "wait_for_completion": False,
    }
    return DAG(dag_id, schedule=None, default_args=default_args, **arguments)


@task(show_return_value_in_logs=False)
def read() -> list[dict[str, Any]]:
    return records


@task(show_return_value_in_logs=False)
def read_fields(field: str) -> list[Any]:
    return [record[field] for record in records]


@task(show_return_value_in_logs=False)
def read_one() -> dict[str, Any]:
    return records[0]


@task(show_return_value_in_logs=False)
def read_customer() -> dict[str, Any]:
    customer: dict[str, Any] = records[0]["customer"]
    return customer


def call(**arguments: Any) -> Any:
    return VapiCreateCallOperator.partial(task_id="call", **{**IDS, **arguments})


with new_dag("data_expand_kwargs") as expand_kwargs:
    call().expand_kwargs(read())

with new_dag("data_expand_kwargs_beside_literals") as beside_literals:
    # Here, the template is written in the DAG file.
    call(name=TEMPLATE).expand_kwargs(read())

with new_dag("data_overrides_literals") as overrides_literals:
    VapiCreateCallOperator.partial(task_id="call", **IDS, name=TEMPLATE).expand_kwargs(read(), strict=False)

with new_dag("data_expand") as expand:
    call().expand(customer=read_fields("customer"), name=["{{ dag_run.conf['word'] }}"])

with new_dag("data_mixed_list") as mixed_list:
    call().expand_kwargs([LITERAL, read_one()])

with new_dag("data_in_literals") as in_literals:
    call().expand_kwargs([{**LITERAL, "customer": read_customer()}])

with new_dag("data_unmapped", render_template_as_native_obj=True) as unmapped:
    VapiCreateCallOperator(task_id="call", **IDS, customer="{{ ti.xcom_pull('read_one')['customer'] }}")
    read_one() >> unmapped.get_task("call")

with new_dag("data_task_group") as in_task_group:

    @task_group
    def place(customer: Any, name: Any) -> None:
        VapiCreateCallOperator(
            task_id="call",
            **IDS,
            customer=customer,
            name=name,
            assistant_overrides={"variableValues": {"word": TEMPLATE, "name": name}},
        )

    place.expand_kwargs(read())

with new_dag("data_update") as update:
    VapiUpdateCallOperator.partial(task_id="rename").expand_kwargs(read())

with new_dag("data_sensor") as sensor:
    VapiCallSensor.partial(task_id="wait").expand_kwargs(read())

with new_dag("data_literal") as literal:
    VapiCreateCallOperator(task_id="call", **IDS, **LITERAL)

with new_dag("data_literal_native", render_template_as_native_obj=True) as literal_native:
    VapiCreateCallOperator(task_id="call", **IDS, **LITERAL)
