# SPDX-License-Identifier: Apache-2.0
"""A real Airflow with PostgreSQL, a simulated Vapi, and the logs that a failed test shows."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow_services import AirflowServices
from browser import INSTALL as INSTALL_CHROMIUM, find_chromium, start_chromium
from campaign import Campaign
from leaks import CommandLines, find_in_all, log_files
from planted import Planted
from postgres import INSTALL, Postgres, find_programs

from vapi_provider.simulator import VapiSimulator

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LINES_SHOWN = 40
TAKE_LONGEST = (
    *("test_many_sensors", "test_placing", "test_lost_vapi", "test_events", "test_lost_triggerer"),
    "test_browser",
)
TOOK = "took"
TROUBLE = ("[error", "[warning", "[critical", "Traceback", "Error: ", "Exception: ")


def pytest_configure(config: pytest.Config) -> None:
    # Stop everything that was started, even after SIGTERM.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Start the slowest modules first, so that no worker is left alone with one at the end.
    places = {module: place for place, module in enumerate(TAKE_LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_sessionstart(session: pytest.Session) -> None:
    if find_programs() is None and not session.config.option.collectonly:
        pytest.exit(f"PostgreSQL is missing: {INSTALL}", returncode=2)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    timings = [
        (report.nodeid.rpartition("::")[2], *what[1])
        for report in reports
        for what in getattr(report, "user_properties", ())
        if what[0] == TOOK and report.when == "call"
    ]
    if timings:
        terminalreporter.section("how long it took")
        for test, what, seconds in timings:
            terminalreporter.write_line(f"{seconds:7.1f} s  {test}: {what}")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the browser's executable."""
    program = find_chromium()
    if program is None:
        pytest.fail(f"Chromium is missing: {INSTALL_CHROMIUM}", pytrace=False)
    return program


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with start_chromium(chromium) as running:
        yield running


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="vapi-e2e-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def planted() -> Planted:
    return Planted()


@pytest.fixture(scope="session")
def simulator(planted: Planted) -> Iterator[VapiSimulator]:
    with VapiSimulator(api_key=planted.api_key) as running:
        yield running


@pytest.fixture(scope="session")
def ui_answers() -> list[str]:
    """The body of every response that the browser received."""
    return []


@pytest.fixture(scope="session")
def command_lines() -> Iterator[CommandLines]:
    watched = CommandLines()
    yield watched
    watched.stop()


@pytest.fixture(scope="session")
def postgres(folder: Path) -> Iterator[Postgres]:
    (folder / "postgres").mkdir()
    server = Postgres(folder / "postgres")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def running_airflow(
    folder: Path,
    postgres: Postgres,
    simulator: VapiSimulator,
    planted: Planted,
    command_lines: CommandLines,
    ui_answers: list[str],
) -> Iterator[AirflowServices]:
    home = folder / "airflow"
    home.mkdir()
    services = AirflowServices(home, postgres)
    try:
        services.start()
        services.client.add_connection("vapi_default", simulator.url, planted.api_key)
        services.wait_until(lambda: services.client.has_dag("rename_call"), 60, "Airflow has read the DAGs")
        yield services
        # After all tests; test_leaks.py tests the search itself.
        texts = [postgres.dump(), *log_files(folder).values(), *ui_answers, *services.client.answers]
        assert find_in_all(planted, [*texts, *command_lines.seen]) == [], "secrets have leaked"
    finally:
        services.stop()


@pytest.fixture
def airflow(
    running_airflow: AirflowServices, simulator: VapiSimulator, request: pytest.FixtureRequest
) -> Iterator[AirflowServices]:
    """The running services, whose logs are shown if the test fails."""
    positions = {
        service.log: service.log.stat().st_size for service in running_airflow.all if service.log.exists()
    }
    request.node.stash[_positions] = (running_airflow, positions)
    yield running_airflow
    simulator.faults.clear()
    running_airflow.make_whole()


@pytest.fixture
def campaign(airflow: AirflowServices, simulator: VapiSimulator, planted: Planted) -> Iterator[Campaign]:
    """Calls and a DAG run that waits for them; the test starts it."""
    calls = Campaign(airflow, simulator, planted)
    yield calls
    calls.give_up()


@pytest.fixture
def took(request: pytest.FixtureRequest) -> Any:
    """Record how long something took, for the summary at the end."""

    def note(what: str, seconds: float) -> None:
        request.node.user_properties.append((TOOK, (what, seconds)))

    return note


_positions = pytest.StashKey[tuple[AirflowServices, dict[Path, int]]]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed and _positions in item.stash:
        services, positions = item.stash[_positions]
        for service in services.all:
            lines = service.lines_since(positions.get(service.log, 0))
            report.sections.append((f"log of {service.name}", "\n".join(_relevant(lines))))
        report.sections.append(("task logs", "\n".join(_task_logs(services))))


def _relevant(lines: list[str]) -> list[str]:
    """Return the lines that report problems, or else the last ones."""
    kept = [line for line in lines if any(word in line for word in TROUBLE)] or lines[-15:]
    return [line[:400] for line in kept[-LINES_SHOWN:]]


def _task_logs(services: AirflowServices) -> list[str]:
    newest = sorted((services.home / "logs").rglob("*.log"), key=lambda path: path.stat().st_mtime)[-3:]
    return [
        line[:400]
        for path in newest
        if "dag_id=" in str(path)
        for line in [f"== {path.relative_to(services.home)}", *_messages(path)[-20:]]
    ]


def _messages(log: Path) -> list[str]:
    """Return the messages of a task's log, without the fields that Airflow adds."""
    return [_message(line) for line in log.read_text(errors="replace").splitlines()]


def _message(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    # A task's own output may be JSON, too.
    if not isinstance(entry, dict):
        return line
    return " ".join(str(entry.get(key, "")) for key in ("timestamp", "level", "event", "error_detail"))
