# SPDX-License-Identifier: Apache-2.0
"""Every block of Python in the documentation runs."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from markdown_pages import ROOT, Block, block_with, blocks_in, label, read
from task_instances import TaskInstance

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException
from airflow.sdk import DAG, task
from vapi_provider.links.call import VapiCallLink
from vapi_provider.operators.call import VapiCreateCallOperator, VapiUpdateCallOperator
from vapi_provider.rendering import RendersFields, show_call_id
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import Fault, VapiSimulator
from vapi_provider.transfers.calls_to_object_storage import VapiCallsToObjectStorageOperator

pytest_plugins = ["vapi_provider.simulator.pytest_plugin"]

VERSION = tuple(map(int, airflow_version.split(".")[:2]))

# What the operator that contributors are shown takes from modules.
FOR_CONTRIBUTORS = {
    "Any": Any,
    "RendersFields": RendersFields,
    "Sequence": Sequence,
    "VapiCallLink": VapiCallLink,
    "show_call_id": show_call_id,
}


@pytest.mark.parametrize("block", [block for block in blocks_in("python") if block.file is None], ids=label)
def test_every_block_of_python_runs(block: Block, vapi_simulator: VapiSimulator) -> None:
    for _ in range(3):
        vapi_simulator.end_call(vapi_simulator.add_call(), cost=0.5)
    # The simulator knows calls only.
    vapi_simulator.faults.add(Fault(method="GET", path="/assistant", status=200, body="[]"))
    names = {
        **FOR_CONTRIBUTORS,
        "VapiCallSensor": VapiCallSensor,
        "VapiCallsToObjectStorageOperator": VapiCallsToObjectStorageOperator,
        "VapiCreateCallOperator": VapiCreateCallOperator,
        "VapiUpdateCallOperator": VapiUpdateCallOperator,
        "task": task,
    }
    with DAG("documentation"):
        try:
            exec(block.text, names)
        except (ImportError, AirflowOptionalProviderFeatureException):
            # Some of Airflow's own classes came with a later version.
            assert any(name in block.text for name in ("RetryRule", "ApprovalOperator"))
            assert VERSION < (3, 3)


def test_hook_examples_return_the_stated_values(vapi_simulator: VapiSimulator) -> None:
    # Not in the very instant in which the example lists the calls that were created before it.
    an_hour_ago = (datetime.now(timezone.utc) - timedelta(hours=1)).isoformat()
    for cost in (0.5, 0.25):
        vapi_simulator.end_call(vapi_simulator.add_call(body={"createdAt": an_hour_ago}), cost=cost)
    longest = vapi_simulator.add_call(
        status="ended", body={"startedAt": "2026-11-22T22:00:00Z", "endedAt": "2026-11-22T23:00:00Z"}
    )
    names: dict[str, Any] = {"task": task}
    exec(block_with("api.md", "sum(call.cost"), names)
    assert names["cost"] == 0.75
    exec(block_with("api.md", "def longest_call"), names)
    assert names["longest_call"].function(hours=2) == longest


def test_operator_of_contributing_works(vapi_simulator: VapiSimulator) -> None:
    names: dict[str, Any] = dict(FOR_CONTRIBUTORS)
    exec(block_with("CONTRIBUTING.md", "class VapiGetCallOperator"), names)
    call_id = vapi_simulator.add_call(status="ringing")
    operator = names["VapiGetCallOperator"](task_id="get", call_id={"id": call_id, "transcript": "secret"})
    operator.render_template_fields({})
    assert operator.call_id == call_id
    ti = TaskInstance()
    assert operator.execute(ti.context())["status"] == "ringing"
    assert ti.xcoms == {VapiCallLink().xcom_key: f"{vapi_simulator.url}/calls/{call_id}"}


def path_in(block: Block) -> Path:
    return (block.page.parent / block.info.partition(" ")[2]).resolve()


@pytest.mark.parametrize("block", blocks_in("{include}"), ids=label)
def test_included_page_is_one_of_the_top(block: Block) -> None:
    path = path_in(block)
    assert path.parent == ROOT
    assert read(path).partition("-->")[2].strip().startswith("# ") or read(path).startswith("# ")


@pytest.mark.parametrize("block", blocks_in("{literalinclude}"), ids=label)
def test_included_file_is_an_example_with_tests(block: Block) -> None:
    path = path_in(block)
    assert path.parent == ROOT / "example_dags"
    assert path.name.startswith("example_")
    shown = re.search(r"^:lines: (\d+)-$", block.text, re.MULTILINE)
    assert shown is not None
    # It shows whole statements, not the end of a comment.
    text = "\n".join(read(path).splitlines()[int(shown[1]) - 1 :])
    assert text.startswith(('"""', "from __future__"))
    ast.parse(text)
