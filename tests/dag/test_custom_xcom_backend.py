# SPDX-License-Identifier: Apache-2.0
"""The *Vapi Call* button with an XCom backend that stores only a reference in the database."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.execution_time import task_runner, xcom

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator

KEY = "_link_VapiCallLink"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Store XComs in files in this folder."""

    class FileXCom(BaseXCom):
        @staticmethod
        def serialize_value(value: Any, **_: Any) -> Any:
            path = tmp_path / str(uuid.uuid4())
            path.write_text(json.dumps(value))
            return BaseXCom.serialize_value(f"store://{path}")

        @staticmethod
        def deserialize_value(result: Any) -> Any:
            reference: str = BaseXCom.deserialize_value(result)
            return json.loads(Path(reference.removeprefix("store://")).read_text())

    # Where Airflow keeps the configured XCom class.
    for module in (xcom, task_runner):
        monkeypatch.setattr(module, "XCom", FileXCom)
    return tmp_path


def opened_by_button(dag_id: str, task_id: str) -> str:
    """Return the URL that the API server opens for the latest run."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstancekey import TaskInstanceKey
    from airflow.serialization.serialized_objects import XComOperatorLink
    from airflow.utils.session import create_session

    with create_session() as session:
        latest = session.query(DagRun.run_id).filter_by(dag_id=dag_id).order_by(DagRun.id.desc()).first()
    link = XComOperatorLink(name="Vapi Call", xcom_key=KEY)
    return link.get_link(None, ti_key=TaskInstanceKey(dag_id, task_id, latest[0], 1, -1))  # type: ignore[arg-type]


def test_button_opens_the_call_while_the_task_runs(
    simulator: VapiSimulator, run_dag: Callable[..., Any], folder: Path
) -> None:
    call_id = simulator.add_call(status="in-progress")
    opened: list[str] = []

    def look_and_end() -> None:
        while not simulator.requests:
            threading.Event().wait(0.01)
        opened.append(opened_by_button("branch_on_outcome", "wait"))
        simulator.end_call(call_id)

    onlooker = threading.Thread(target=look_and_end, daemon=True)
    onlooker.start()
    run = run_dag("branch_on_outcome", call_id=call_id)
    onlooker.join()
    assert opened == [f"{simulator.url}/calls/{call_id}"]
    assert run.links("wait") == opened
    # The tasks' results still use the backend.
    assert run.states("thank") == ["success"]
    assert run.results("wait")[0].startswith(f"store://{folder}")
