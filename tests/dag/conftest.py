# SPDX-License-Identifier: Apache-2.0
"""Runs DAGs in this process, with a database of their own and a simulated Vapi."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from left_behind import shown_by, tables
from simulator_fixtures import (
    set_connection as set_connection,
    simulator as simulator,
    vapi_options as vapi_options,
)

from vapi_provider.simulator.clock import SystemClock

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator

DAGS_FOLDER = Path(__file__).parent / "dags"
EXAMPLES_FOLDER = Path(__file__).parents[2] / "example_dags"
# For DAG files that tests write.
WRITTEN_FOLDER = Path(os.environ["AIRFLOW_HOME"]) / "dags"
WRITTEN_FOLDER.mkdir(exist_ok=True)

# ``dag.test()`` only runs DAGs of a bundle; set before Airflow is first imported.
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(DAGS_FOLDER)
os.environ["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] = json.dumps(
    [
        {
            "name": name,
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(path)},
        }
        for name, path in (("tests", DAGS_FOLDER), ("examples", EXAMPLES_FOLDER), ("written", WRITTEN_FOLDER))
    ]
)

LINK = "_link_VapiCallLink"


class DagRun:
    """What a user sees of a finished run."""

    def __init__(self, run: Any, failures: list[BaseException]) -> None:
        self.state = str(run.state)
        self.dag_id, self.run_id = str(run.dag_id), str(run.run_id)
        self.task_instances = {(ti.task_id, ti.map_index): ti for ti in run.get_task_instances()}
        self.failures = [f"{type(failure).__name__}: {failure}" for failure in failures]
        self.xcoms = _xcoms(run.run_id)

    def states(self, task_id: str) -> list[str]:
        """Return the state of a task, or of each of its mapped instances."""
        return [str(self.task_instances[key].state) for key in self._keys(task_id)]

    def tries(self, task_id: str) -> list[int]:
        return [self.task_instances[key].try_number for key in self._keys(task_id)]

    def results(self, task_id: str) -> list[Any]:
        return [self.xcoms.get((*key, "return_value")) for key in self._keys(task_id)]

    def links(self, task_id: str) -> list[Any]:
        return [self.xcoms.get((*key, LINK)) or None for key in self._keys(task_id)]

    def call_ids(self, task_id: str) -> list[Any]:
        return [self.xcoms.get((*key, "call_id")) for key in self._keys(task_id)]

    def labels(self, task_id: str) -> list[Any]:
        """Return the label of each mapped instance."""
        return [self.task_instances[key].rendered_map_index for key in self._keys(task_id)]

    def _keys(self, task_id: str) -> list[tuple[str, int]]:
        return sorted(key for key in self.task_instances if key[0] == task_id)


def _xcoms(run_id: str) -> dict[tuple[str, int, str], Any]:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        rows = session.query(XComModel).filter(XComModel.run_id == run_id)
        return {(row.task_id, row.map_index, row.key): _decoded(row.value) for row in rows}


def _decoded(value: Any) -> Any:
    """Read an XCom's value, which some versions of Airflow store as JSON within JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


@pytest.fixture(scope="session")
def database() -> Path:
    """Create the database, once for all DAG runs."""
    from airflow.utils.db import initdb

    initdb()
    return Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"


@pytest.fixture(scope="session")
def machinery(database: Path) -> Iterator[None]:
    """Make ``dag.test()`` behave on every version like workers with one API server."""
    import structlog

    from airflow.api_fastapi.execution_api.app import InProcessExecutionAPI
    from airflow.sdk.api.client import TaskInstanceOperations
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import TaskRescheduleStartDate

    server = InProcessExecutionAPI()
    get_first_reschedule, finalize = TaskInstanceOperations.get_reschedule_start_date, task_runner.finalize

    def get_first_reschedule_date(*arguments: Any, **named: Any) -> TaskRescheduleStartDate:
        answer = get_first_reschedule(*arguments, **named)
        return TaskRescheduleStartDate.model_validate_json(answer.model_dump_json(warnings=False))

    def finalize_with_exception(
        ti: Any, state: Any, context: Any, log: Any, error: BaseException | None = None
    ) -> None:
        context["exception"] = error
        finalize(ti, state, context, log, error)

    with pytest.MonkeyPatch.context() as patch:
        # A new server for each task would take seconds each.
        patch.setattr("airflow.sdk.execution_time.supervisor.in_process_api_server", lambda: server)
        # In Airflow 3.0, this value stays a string without serialization.
        patch.setattr(TaskInstanceOperations, "get_reschedule_start_date", get_first_reschedule_date)
        # Before Airflow 3.3, only workers pass the exception to a task's callbacks.
        patch.setattr(task_runner, "finalize", finalize_with_exception)
        is_configured = structlog.is_configured()
        if not is_configured:
            # Airflow 3.0 configures it only in workers, and by default structlog prints all local variables.
            structlog.configure(
                processors=[
                    structlog.processors.add_log_level,
                    structlog.dev.ConsoleRenderer(
                        colors=False, exception_formatter=structlog.dev.plain_traceback
                    ),
                ],
                wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            )
        yield
        if not is_configured:
            structlog.reset_defaults()


@pytest.fixture(scope="session")
def load_dag_file() -> Callable[[Path], ModuleType]:
    """Run a DAG file, as Airflow does, and return its module."""

    def load(path: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def dag_module(load_dag_file: Callable[[Path], ModuleType]) -> ModuleType:
    return load_dag_file(DAGS_FOLDER / "vapi_test_dags.py")


@pytest.fixture
def clock() -> SystemClock:
    """Vapi uses the system clock, like Airflow."""
    return SystemClock()


@pytest.fixture
def connection_extra() -> dict[str, Any]:
    """Disable repetition of requests, so that one fault is one failed poke."""
    return {"max_retries": 0}


@pytest.fixture(scope="session")
def run_dag(machinery: None, dag_module: ModuleType) -> Callable[..., DagRun]:
    """Run a DAG of the folder ``dags`` to its end: ``run_dag(dag or dag_id, **configuration)``."""
    sleep = time.sleep

    def run(which: Any, /, **conf: Any) -> DagRun:
        dag_module.failures.clear()
        dag = next(dag for dag in dag_module.dags if dag.dag_id == which) if isinstance(which, str) else which
        with pytest.MonkeyPatch.context() as patch:
            # ``dag.test()`` checks once a second whether a task can continue.
            patch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.02)))
            return DagRun(dag.test(run_conf=conf), dag_module.failures)

    return run


@pytest.fixture
def left_behind(
    database: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    dag_module: ModuleType,
) -> Callable[[VapiSimulator], dict[str, str]]:
    """Collect everything that the runs left behind, by place."""

    def collect(simulator: VapiSimulator) -> dict[str, str]:
        output = capfd.readouterr()
        logs = (path.read_text(errors="replace") for path in (database.parent / "logs").rglob("*.log"))
        return {
            **tables(database),
            "stdout": output.out,
            "stderr": output.err,
            "log": caplog.text,
            "log files": "\n".join(logs),
            "exceptions": "\n".join(map(shown_by, dag_module.failures)),
            "request log": repr(simulator.requests),
        }

    return collect


@pytest.fixture(scope="session")
def clear_and_run(machinery: None, dag_module: ModuleType) -> Callable[..., DagRun]:
    """Clear all tasks of a run, as a user does, and run them again."""
    from airflow.models import dagrun as dagrun_module
    from airflow.models.dagrun import DagRun as Row
    from airflow.models.taskinstance import clear_task_instances
    from airflow.utils.session import create_session

    sleep = time.sleep
    home = (
        dagrun_module if hasattr(dagrun_module, "get_or_create_dagrun") else sys.modules["airflow.models.dag"]
    )
    name = "get_or_create_dagrun" if home is dagrun_module else "_get_or_create_dagrun"

    def row_of(run: DagRun, session: Any) -> Any:
        return session.query(Row).filter_by(dag_id=run.dag_id, run_id=run.run_id).one()

    def run_again(run: DagRun, *, while_running: bool = False) -> DagRun:
        dag_module.failures.clear()
        with create_session() as session:
            row = row_of(run, session)
            row.state = "running" if while_running else row.state
            clear_task_instances(row.get_task_instances(session=session), session)
            row.state = "running"

        def the_same_run(*, dag: Any, session: Any, **_: Any) -> Any:
            row = row_of(run, session)
            row.dag = dag
            return row

        dag = next(dag for dag in dag_module.dags if dag.dag_id == run.dag_id)
        with pytest.MonkeyPatch.context() as patch:
            # Otherwise, ``dag.test()`` creates a new run.
            patch.setattr(home, name, the_same_run)
            patch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.02)))
            return DagRun(dag.test(), dag_module.failures)

    return run_again
