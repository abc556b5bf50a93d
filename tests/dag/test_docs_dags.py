# SPDX-License-Identifier: Apache-2.0
"""The whole DAGs that the documentation shows do what their pages say."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from textwrap import indent
from types import ModuleType
from typing import Any

import pytest
from markdown_pages import block_with

from vapi_provider.simulator import Timeline, VapiSimulator

PEOPLE = ("+12025550143", "+12025550117")
AT_ONCE = Timeline(ringing=0, answered=0, ended=0, analysis=0)
# conftest.py makes it a bundle of DAGs.
WRITTEN_DAGS = Path(os.environ["AIRFLOW_HOME"]) / "dags"

RunBlock = Callable[[str, str], Any]


@pytest.fixture
def run_block(
    run_dag: Callable[..., Any], load_dag_file: Callable[[Path], ModuleType], simulator: VapiSimulator
) -> RunBlock:
    """Run a page's DAG to its end: ``run_block(page, dag_id)``."""
    simulator.timeline = AT_ONCE

    def run(page: str, dag_id: str) -> Any:
        path = WRITTEN_DAGS / f"docs_{dag_id}.py"
        path.write_text(block_with(page, dag_id), encoding="utf-8")
        return run_dag(load_dag_file(path).dag)

    return run


def test_mapped_group_labels_each_call(run_block: RunBlock, simulator: VapiSimulator) -> None:
    run = run_block("placing.md", "call_and_label")
    assert run.state == "success"
    assert dict(simulator.rings) == dict.fromkeys(PEOPLE, 1)
    assert [call["name"] for call in simulator.calls.values()] == ["Reminder: completed"] * 2
    placed = [summary["id"] for summary in run.results("remind.call")]
    assert [summary["id"] for summary in run.results("remind.label")] == placed


def test_run_without_a_logical_date_exports_a_day(
    run_dag: Callable[..., Any],
    load_dag_file: Callable[[Path], ModuleType],
    simulator: VapiSimulator,
    tmp_path: Path,
) -> None:
    block = block_with("exporting.md", "dag_run.run_after").replace("s3://bucket", f"file://{tmp_path}")
    path = WRITTEN_DAGS / "docs_export.py"
    path.write_text(
        "from airflow.sdk import DAG\n"
        "from vapi_provider.transfers.calls_to_object_storage import VapiCallsToObjectStorageOperator\n"
        "with DAG('docs_export', schedule=None) as dag:\n" + indent(block, "    ")
    )
    an_hour_ago = (datetime.now(timezone.utc) - timedelta(hours=1)).isoformat(timespec="milliseconds")
    simulator.add_call(status="ended", body={"createdAt": an_hour_ago, "updatedAt": an_hour_ago})
    run = run_dag(load_dag_file(path).dag)
    assert run.states("export_calls") == ["success"]
    assert run.results("export_calls")[0]["calls"] == 1


@pytest.mark.parametrize(
    ("reason", "state"), [("customer-busy", "failed"), ("customer-ended-call", "success")]
)
def test_call_id_outlives_a_failed_task(
    run_block: RunBlock, simulator: VapiSimulator, reason: str, state: str
) -> None:
    simulator.timeline = replace(AT_ONCE, ended_reason=reason)
    run = run_block("placing.md", "place_and_follow_up")
    assert run.states("call") == [state]
    [call_id] = simulator.calls
    assert run.call_ids("call") == [call_id]
    assert run.results("link_to_call") == [f"{simulator.url}/calls/{call_id}"]
