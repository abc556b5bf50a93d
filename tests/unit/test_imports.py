# SPDX-License-Identifier: Apache-2.0
"""Imports stay light: Airflow parses DAG files every few seconds, and imports the root for the metadata."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import vapi_provider
from vapi_provider import exceptions

# Modules that Airflow's own base classes load do not count.
DAG_FILE = """
import json, sys
from airflow.sdk import BaseNotifier, BaseOperator, BaseSensorOperator
before = set(sys.modules)
from vapi_provider.operators.call import *
from vapi_provider.sensors.call import *
from vapi_provider.transfers.calls_to_object_storage import *
from vapi_provider.transfers.recording_to_object_storage import *
from vapi_provider.links.call import *
from vapi_provider.notifications.call import *
print(json.dumps(sorted(set(sys.modules) - before)))
"""
HEAVY = (
    *("airflow.triggers", "fsspec", "upath", "pydantic", "requests", "tenacity", "urllib3"),
    *("vapi_provider.client", "vapi_provider.hooks", "vapi_provider.polling", "vapi_provider.triggers"),
)
TASKS = """
VapiCreateCallOperator(task_id="call", assistant_id="x", phone_number_id="y", customer={"number": "+12025550143"})
VapiUpdateCallOperator(task_id="rename", call_id="x", name="y")
VapiCallSensor(task_id="wait", call_id="x")
VapiCallsToObjectStorageOperator(task_id="export", path="s3://x/y")
VapiRecordingToObjectStorageOperator(task_id="copy", call_id="x", path="s3://x/")
VapiNotifier(assistant_id="x", phone_number_id="y", customer={"number": "+12025550143"})
"""
# Modules that only a running task needs.
AT_RUN_TIME = {
    *("vapi_provider.models.call", "vapi_provider.placing.decision", "vapi_provider.placing.placement"),
    *("vapi_provider.waiting.policy", "vapi_provider.waiting.wait"),
    *("vapi_provider.transfers.export", "vapi_provider.transfers.target"),
    "vapi_provider.notifications.alert",
}
ROOT = """
import json, sys
import vapi_provider
vapi_provider.__version__, dir(vapi_provider)
print(json.dumps(sorted(name for name in sys.modules if name.split(".")[0] in ("airflow", "vapi_provider"))))
"""


def loaded_by(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded: list[str] = json.loads(done.stdout.splitlines()[-1])
    return loaded


def type_checking_imports() -> dict[str, str]:
    """Return the names that the root imports for type checkers, and their modules."""
    tree = ast.parse(Path(vapi_provider.__file__).read_text())
    [block] = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(block.body)
    return {
        alias.asname or alias.name: (node.module or "").removeprefix("vapi_provider.")
        for node in imports
        for alias in node.names
    }


def test_dag_file_loads_no_http_models_or_triggers() -> None:
    loaded = loaded_by(DAG_FILE)
    assert "vapi_provider.sensors.call" in loaded
    assert [name for name in loaded if name.startswith(HEAVY) or name in AT_RUN_TIME] == []


def test_making_tasks_loads_only_argument_checks() -> None:
    loaded = loaded_by(DAG_FILE.replace("print(", f"{TASKS}print("))
    heavy = {name for name in loaded if name.startswith(HEAVY) or name in AT_RUN_TIME}
    # Airflow 3.0 itself loads some when a task is created.
    ours = {name for name in heavy if name.startswith("vapi_provider")}
    assert ours == {"vapi_provider.client", "vapi_provider.client.arguments"}


def test_asset_trigger_loads_no_poller() -> None:
    loaded = loaded_by(
        DAG_FILE.replace("before =", "import airflow.triggers.base\nbefore =").replace(
            "print(", "from vapi_provider.triggers.ended import *\nVapiCallEndedTrigger().serialize()\nprint("
        )
    )
    assert "vapi_provider.triggers.ended" in loaded
    ours = {name for name in loaded if name.startswith(("pydantic", "requests", "vapi_provider.triggers."))}
    assert ours == {"vapi_provider.triggers.ended"}
    assert [
        name for name in loaded if name.startswith(("vapi_provider.client", "vapi_provider.polling"))
    ] == []


def test_root_loads_neither_its_modules_nor_airflow() -> None:
    assert loaded_by(ROOT) == ["vapi_provider"]


def test_exports_match_those_for_type_checkers() -> None:
    assert type_checking_imports() == vapi_provider._EXPORTS


@pytest.mark.parametrize("name", vapi_provider._EXPORTS)
def test_export_can_be_imported_and_is_listed(name: str) -> None:
    exported = getattr(vapi_provider, name)
    assert exported.__name__ == name
    assert exported.__module__ == f"vapi_provider.{vapi_provider._EXPORTS[name]}"
    assert name in dir(vapi_provider)


def test_every_listed_name_exists() -> None:
    assert [name for name in dir(vapi_provider) if not hasattr(vapi_provider, name)] == []
    with pytest.raises(AttributeError, match="has no attribute 'VapiNothing'"):
        _ = vapi_provider.VapiNothing
    with pytest.raises(ImportError):
        from vapi_provider import VapiNothing  # noqa: F401


def test_exports_are_the_public_names_of_the_design() -> None:
    errors = {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, exceptions.VapiError)
    }
    classes = {
        "VapiHook",
        "VapiCreateCallOperator",
        "VapiUpdateCallOperator",
        "VapiCallSensor",
        "VapiCallTrigger",
        "VapiCallsToObjectStorageOperator",
        "VapiRecordingToObjectStorageOperator",
        "VapiCallEndedTrigger",
        "VapiNotifier",
    }
    assert set(vapi_provider._EXPORTS) == errors | classes | {"CallOutcome"}


def test_configuration_error_is_a_value_error() -> None:
    for kind in (vapi_provider.VapiConfigurationError, vapi_provider.VapiConnectionNotFoundError):
        with pytest.raises(ValueError, match="^no$"):
            raise kind("no")
    others = [
        exceptions.VapiTransientError,
        exceptions.VapiAuthenticationError,
        exceptions.VapiCallNotFoundError,
        exceptions.VapiCallInDoubtError,
    ]
    assert [kind.__name__ for kind in others if issubclass(kind, ValueError)] == []
