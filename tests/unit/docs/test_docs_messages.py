# SPDX-License-Identifier: Apache-2.0
"""The errors that the troubleshooting page lists are raised, word for word."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from markdown_pages import table
from task_instances import TaskInstance, TaskStateStore

from airflow.providers.common.compat.sdk import BaseHook, Connection
from vapi_provider.client.client import VapiClient
from vapi_provider.connection import read_settings
from vapi_provider.exceptions import VapiError
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import Fault, Timeline, VapiSimulator
from vapi_provider.transfers.calls_to_object_storage import VapiCallsToObjectStorageOperator

pytest_plugins = ["vapi_provider.simulator.pytest_plugin"]

CALL_ID = "0198a3f0-0000-7000-8000-000000000001"


def of_connection(**fields: Any) -> Callable[[VapiSimulator], Any]:
    def connect(simulator: VapiSimulator) -> Any:
        base = {"conn_id": "vapi_default", "conn_type": "vapi", "password": "key"}
        client = VapiClient(read_settings(Connection(**{**base, **fields})), logging.getLogger(__name__))
        return client.get_call(CALL_ID)

    return connect


def of_response(extra: dict[str, Any], **fault: Any) -> Callable[[VapiSimulator], Any]:
    def request(simulator: VapiSimulator) -> Any:
        simulator.faults.add(Fault(times=None, **fault))
        fields = {**json.loads(simulator.connection), "extra": json.dumps({"max_retries": 0, **extra})}
        return of_connection(**fields)(simulator)

    return request


def with_path_in_host(simulator: VapiSimulator) -> Any:
    return of_connection(host=f"{simulator.url}/v1", password=simulator.api_key)(simulator)


def with_variable(value: str) -> Callable[[VapiSimulator], Any]:
    def connect(simulator: VapiSimulator) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", value)
            return VapiHook().get_call(CALL_ID)

    return connect


def without_bundle(simulator: VapiSimulator) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/certificates.pem")
        return of_connection(host="https://127.0.0.1:1")(simulator)


def wait_for_erased(simulator: VapiSimulator) -> Any:
    call_id = simulator.add_call(status="not-found")
    return VapiCallSensor(task_id="wait", call_id=call_id).poke({})


def sensor_with(**arguments: Any) -> Callable[[VapiSimulator], Any]:
    return lambda simulator: VapiCallSensor(task_id="wait", call_id=CALL_ID, **arguments).poke({})


def without_connections(simulator: VapiSimulator) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a secrets backend is down")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseHook, "get_connection", fail)
        return VapiHook().get_call(CALL_ID)


CALL = {"assistant_id": "x", "phone_number_id": "y", "customer": {"number": "+12025550143"}}


def operator_with(**arguments: Any) -> VapiCreateCallOperator:
    return VapiCreateCallOperator(task_id="call", **{**CALL, **arguments})


def place_to_unusable_number(simulator: VapiSimulator) -> Any:
    return operator_with(customer={"number": "0151"}).execute({})


def place_without_writing(simulator: VapiSimulator) -> Any:
    def refuse(point: str) -> None:
        if point == "store.set":
            raise ConnectionError

    context = TaskInstance().context(task_state_store=TaskStateStore(at=refuse))
    return operator_with().execute(context)


def nest(message: str, status: int) -> str:
    return json.dumps({"message": message, "error": "Error", "statusCode": status})


def place(last_digit: int) -> Any:
    number = {"number": f"+1202555011{last_digit}"}
    return VapiHook().create_call({"assistantId": CALL_ID, "phoneNumberId": CALL_ID, "customer": number})


def place_outside_hours(simulator: VapiSimulator) -> Any:
    day = datetime.now(timezone.utc) - timedelta(days=2)
    hours = {"opens": "00:00", "closes": "24:00", "timezone": "UTC", "days": [f"{day:%a}".lower()]}
    return operator_with(calling_hours=hours).execute(TaskInstance().context())


def place_to_unreached(simulator: VapiSimulator) -> Any:
    simulator.timeline = Timeline(
        ringing=0, answered=None, ended=0, analysis=None, ended_reason="customer-busy"
    )
    operator = operator_with(redial_on=["no_answer"], retries=1)
    return operator.execute(TaskInstance(max_tries=1).context())


def place_in_doubt(simulator: VapiSimulator) -> Any:
    simulator.faults.add(Fault(method="POST", status=502, effect=True))
    return place(0)


def lose_response_to_run(simulator: VapiSimulator) -> Any:
    simulator.faults.add(Fault(method="POST", path="/assistant", status=502))
    return VapiHook().run("POST", "/assistant", json={"name": "Ada"})


def lose_response_to_delete(simulator: VapiSimulator) -> Any:
    simulator.faults.add(Fault(method="DELETE", status=502, effect=True))
    return VapiHook().delete_call(simulator.add_call(status="scheduled"))


def exporting(**arguments: Any) -> Callable[[VapiSimulator], Any]:
    given = {
        "path": "file:///tmp/vapi-archive/calls.jsonl",
        "created_at_ge": "2026-03-10T00:00:00Z",
        "created_at_lt": "2026-03-11T00:00:00Z",
        **arguments,
    }
    operator = VapiCallsToObjectStorageOperator(task_id="export", **given)
    # The first of two tries.
    context = {"ti": SimpleNamespace(try_number=1, max_tries=1)}
    return lambda simulator: operator.execute(context)


def export_live_call(simulator: VapiSimulator) -> None:
    simulator.add_call(status="ringing", body={"createdAt": "2026-03-10T12:00:00Z"})
    with TemporaryDirectory() as folder:
        exporting(path=f"file://{folder}/calls.jsonl")(simulator)


def export_fewer_calls(simulator: VapiSimulator) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "calls.jsonl").write_text("{}\n")
        exporting(path=f"file://{folder}/calls.jsonl")(simulator)


def download_after(**fault: Any) -> Callable[[VapiSimulator], Any]:
    def download(simulator: VapiSimulator) -> None:
        simulator.faults.add(Fault(**fault))
        VapiHook().download_artifact(CALL_ID, "mono", BytesIO())

    return download


# Raised by a constructor, which Airflow runs when it parses the DAG.
IMPORT_ERRORS: dict[str, Callable[[VapiSimulator], Any]] = {
    "exactly one of assistant_id, squad_id and assistant is required": lambda _: operator_with(squad_id="z"),
    "has no effect with wait_for_completion=False": lambda _: operator_with(wait_for_completion=False, timeout=5),
    "does not support exponential_backoff": lambda _: VapiCallSensor(
        task_id="wait", call_id=CALL_ID, exponential_backoff=True
    ),
}  # fmt: skip

MESSAGES: dict[str, Callable[[VapiSimulator], Any]] = {
    **IMPORT_ERRORS,
    "password (API key) is empty": of_connection(password=""),
    "is the *** mask that Airflow shows instead of the key": of_connection(password="***"),
    "must use https:// (http:// is allowed only for localhost)": of_connection(host="http://vapi.example"),
    "returned 401": of_response({}, status=401),
    "Use the private key, not the public one": of_response({}, status=403, body=nest("Forbidden", 403)),
    "rejects clients by their User-Agent": of_response(
        {}, status=403, body="error code: 1010", content_type="text/plain"
    ),
    "This response is not Vapi's own": of_response({}, status=404, body="<html>", content_type="text/html"),
    "Sending the same request again will not help": of_response({}, status=400, body=nest("Bad Request", 400)),
    "call_id is empty": lambda simulator: VapiHook().get_call("None"),
    "Vapi accepts at most 40": lambda simulator: VapiHook().update_call(CALL_ID, name="x" * 41),
    "Check the call id, and that the key in": lambda _: VapiHook().get_call(CALL_ID),
    "The organization's rate limit is reached": of_response({}, status=429, headers={"Retry-After": "3600"}),
    "The organization is over its concurrency limit": lambda simulator: [place(0) for _ in range(11)],
    "Outside calling_hours, which open at": place_outside_hours,
    "which is in redial_on": place_to_unreached,
    "calling_hours.timezone must be a time zone": lambda _: operator_with(
        calling_hours={"opens": "09:00", "closes": "20:00", "timezone": "Europe/Berln"}
    ).execute(TaskInstance().context()),
    "A call may have been placed": place_in_doubt,
    "Redirects are not followed": of_response(
        {}, status=302, headers={"Location": "https://elsewhere.example/x"}
    ),
    'starts with "Bearer"': of_connection(password="Bearer key"),
    "has unknown fields": of_connection(extra='{"timeot": 5}'),
    "must be a number from 1 to 75": of_connection(extra='{"timeout": 86400}'),
    "must be a host name or a URL such as": of_connection(host="https://"),
    "should have no path such as /v1": with_path_in_host,
    "There is no such endpoint": lambda simulator: VapiHook().run("GET", "/asistant"),
    "is not valid JSON": with_variable('{"password": '),
    "neither a JSON object nor a valid URI": with_variable("vapi://:key@api.vapi.ai:https"),
    "call_id is a dict rendered to a string": lambda simulator: VapiHook().get_call("{'id': 'x'}"),
    "call_id must be the id of a call, a UUID": lambda simulator: VapiHook().get_call("+12025550117"),
    "A later try may succeed": of_response({}, status=503),
    "the connection was refused": of_connection(host="http://127.0.0.1:1", extra='{"max_retries": 0}'),
    "no complete response within": of_response({"timeout": 1}, delay=60),
    "the certificate file that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names does not exist": without_bundle,
    "it never took place or was erased, so there is nothing to wait for": wait_for_erased,
    "is not in E.164": place_to_unusable_number,
    "Airflow could not read connection": without_connections,
    "Could not write the task's state": place_without_writing,
    "The request may have taken effect": lose_response_to_run,
    "delete it again to erase its data": lose_response_to_delete,
    "must be a datetime with a time zone": lambda simulator: VapiHook().list_calls(created_at_ge="yesterday"),
    "fail_on must be a list of known outcomes": sensor_with(fail_on="failed"),
    "include must be a list of known names": sensor_with(include=["recording"]),
    "an export needs both bounds": exporting(created_at_ge=""),
    "(created_at_lt) is empty": exporting(created_at_lt="2026-03-10T00:00:00Z"),
    "The export is unfinished": export_live_call,
    "than Vapi now lists for the interval": export_fewer_calls,
    "for the storage. Create it": exporting(storage_conn_id="nowhere"),
    "has no scheme; pass a URL": exporting(path="/data/calls.jsonl"),
    "Vapi no longer keeps this file": download_after(
        status=400, body='{"message": "expired", "error": "Bad Request", "statusCode": 400}'
    ),
    "Vapi redirected to": download_after(status=302, headers={"Location": "https://169.254.169.254/"}),
}  # fmt: skip


# The messages of tests of the sensor, of paging, of a missing connection and of the transfers.
ELSEWHERE = {
    "Airflow found no connection 'vapi_default'",
    "had not ended after",
    "which is in fail_on",
    "The triggerer cannot read call",
    "does not understand the triggerer's event",
    "cannot continue",
    "There is no bucket",
    "does not contain the call id",
    "but kind is mapped",
    "cannot be paged without a gap",
    "is None, although the DAG passes it",
}


def test_troubleshooting_lists_exactly_the_tested_messages() -> None:
    listed = [row[0].strip("`") for row in table("troubleshooting.md", "| message |")]
    assert sorted(listed) == sorted([*MESSAGES, *ELSEWHERE])


@pytest.mark.parametrize("message", MESSAGES)
def test_message_is_raised(message: str, vapi_simulator: VapiSimulator) -> None:
    with pytest.raises(VapiError, match=re.escape(message)):
        MESSAGES[message](vapi_simulator)


def test_page_marks_the_import_errors() -> None:
    rows = table("troubleshooting.md", "| message |")
    assert {row[0].strip("`") for row in rows if "does not import" in row[1]} == IMPORT_ERRORS.keys()
