# SPDX-License-Identifier: Apache-2.0
"""The client does not use Airflow, so it works in any thread of any process."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from http_helpers import client_of

import vapi_provider
from vapi_provider.client.hang_up import end_call
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.simulator import Fault, VapiSimulator

PACKAGE = Path(vapi_provider.__file__).parent

# exceptions.py imports one class of Airflow; any other import of Airflow is an error here.
PROGRAM = """
import importlib.abc, json, logging, sys, threading, types

sdk = types.ModuleType("airflow.providers.common.compat.sdk")
sdk.AirflowFailException = type("AirflowFailException", (Exception,), {})
for name in ("airflow", "airflow.providers", "airflow.providers.common", "airflow.providers.common.compat"):
    sys.modules[name] = types.ModuleType(name)
sys.modules[sdk.__name__] = sdk

class NoAirflow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "airflow":
            raise ImportError(f"imports {name}")

sys.meta_path.insert(0, NoAirflow())

from vapi_provider.client.client import VapiClient
from vapi_provider.client.hang_up import end_call
from vapi_provider.connection import read_settings

url, key, call_id = json.loads(sys.argv[1])
conn = types.SimpleNamespace(
    conn_id="x", conn_type="vapi", host=url, password=key, port=None, extra='{"max_retries": 1}'
)
done = []

def work():
    client = VapiClient(read_settings(conn), logging.getLogger("x"))
    done.append(client.get_status(call_id).status)
    done.append(client.update_call(call_id, name="Reminder").name)
    done.append([call.id for call in client.list_calls({}, 100)])
    done.append(end_call(client, call_id))
    client.erase_call(call_id)
    client.close()

thread = threading.Thread(target=work)
thread.start()
thread.join()
print(json.dumps(done))
"""


def test_client_works_in_a_thread_without_airflow(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="in-progress")
    simulator.faults.add(Fault(method="PATCH", status=503))
    arguments = json.dumps([simulator.url, simulator.api_key, call_id])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, arguments], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["in-progress", "Reminder", [call_id], f"Call {call_id} was ended."]
    assert simulator.calls == {}
    assert "imports airflow" not in done.stderr


def test_client_in_a_thread_does_not_ask_airflow(
    simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*args: object, **kwargs: object) -> object:
        raise RuntimeError("asked Airflow")

    monkeypatch.setattr(VapiHook, "get_connection", ask)
    client = client_of(simulator)
    monkeypatch.setattr("airflow.providers.common.compat.sdk.Connection.__init__", ask)
    call_id = simulator.add_call(status="in-progress")
    done: list[str] = []
    thread = threading.Thread(target=lambda: done.append(end_call(client, call_id)))
    thread.start()
    thread.join()
    assert done == [f"Call {call_id} was ended."]


@pytest.mark.parametrize("path", sorted((PACKAGE / "client").glob("*.py")), ids=lambda path: path.name)
def test_client_room_does_not_import_airflow(path: Path) -> None:
    imported = [
        name
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]
    assert [name for name in imported if name.split(".")[0] == "airflow"] == []
