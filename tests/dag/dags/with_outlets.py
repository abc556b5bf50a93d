# SPDX-License-Identifier: Apache-2.0
"""One DAG whose tasks have an asset as outlet: each operator and sensor, in each of its modes."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, task
from vapi_provider.operators.call import VapiCreateCallOperator, VapiUpdateCallOperator
from vapi_provider.sensors.call import VapiCallSensor

CALL: dict[str, Any] = {
    "assistant_id": "0198a3f0-0000-7000-8000-000000000002",
    "phone_number_id": "0198a3f0-0000-7000-8000-000000000003",
}


def asset(name: str) -> Asset:
    return Asset(name=f"calls_of_{name}", uri=f"vapi://calls/{name}")


def call_of(name: str) -> str:
    return f"{{{{ dag_run.conf['call_ids']['{name}'] }}}}"


def outlet(name: str) -> dict[str, Any]:
    return {"task_id": name, "outlets": [asset(name)]}


def set_by_author(context: Any) -> None:
    context["outlet_events"][asset("authored")].extra.update(outcome="mine", more=1)


with DAG("with_outlets", schedule=None) as dag:
    VapiUpdateCallOperator(**outlet("update"), call_id=call_of("poke"), name="Thank")
    VapiCallSensor(**outlet("poke"), call_id=call_of("poke"), poke_interval=0.1)
    VapiCallSensor(
        **outlet("reschedule"), call_id=call_of("reschedule"), mode="reschedule", poke_interval=0.1
    )
    VapiCallSensor(**outlet("defer"), call_id=call_of("defer"), deferrable=True, poke_interval=0.1)
    VapiCallSensor(
        **outlet("authored"), call_id=call_of("authored"), poke_interval=0.1, pre_execute=set_by_author
    )
    for number, (name, arguments) in enumerate(
        {
            "place": {"wait_for_completion": False},
            "place_and_wait": {"poll_interval": 0.1},
            "place_and_defer": {"deferrable": True, "poll_interval": 0.1},
        }.items()
    ):
        customer: Any = {"number": f"+1202555015{number}"}
        VapiCreateCallOperator(**outlet(name), **CALL, **arguments, customer=customer)

    @task(outlets=[asset("other")])
    def other() -> None:
        """Do nothing, with an outlet of its own."""

    other()
