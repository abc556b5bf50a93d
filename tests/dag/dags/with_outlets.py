# SPDX-License-Identifier: Apache-2.0
"""One DAG whose tasks have an asset as outlet: each operator and sensor, in each of its modes."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, task
from vapi_provider.operators.call import VapiCreateCallOperator, VapiUpdateCallOperator
from vapi_provider.sensors.call import VapiCallSensor

CALL_ID = "{{ dag_run.conf['call_id'] }}"
CALL: dict[str, Any] = {
    "assistant_id": "0198a3f0-0000-7000-8000-000000000002",
    "phone_number_id": "0198a3f0-0000-7000-8000-000000000003",
}


def asset(name: str) -> Asset:
    return Asset(name=f"calls_of_{name}", uri=f"vapi://calls/{name}")


def outlet(name: str) -> dict[str, Any]:
    return {"task_id": name, "outlets": [asset(name)]}


def set_by_author(context: Any) -> None:
    context["outlet_events"][asset("authored")].extra.update(outcome="mine", more=1)


with DAG("with_outlets", schedule=None) as dag:
    VapiUpdateCallOperator(**outlet("update"), call_id=CALL_ID, name="Thank")
    VapiCallSensor(**outlet("poke"), call_id=CALL_ID)
    VapiCallSensor(**outlet("reschedule"), call_id=CALL_ID, mode="reschedule", poke_interval=1)
    VapiCallSensor(**outlet("defer"), call_id=CALL_ID, deferrable=True)
    VapiCallSensor(**outlet("authored"), call_id=CALL_ID, pre_execute=set_by_author)
    for number, (name, arguments) in enumerate(
        {
            "place": {"wait_for_completion": False},
            "place_and_wait": {"poll_interval": 1},
            "place_and_defer": {"deferrable": True},
        }.items()
    ):
        customer: Any = {"number": f"+1202555015{number}"}
        VapiCreateCallOperator(**outlet(name), **CALL, **arguments, customer=customer)

    @task(outlets=[asset("other")])
    def other() -> None:
        """Do nothing, with an outlet of its own."""

    other()
