# SPDX-License-Identifier: Apache-2.0
"""A temporary Airflow with SQLite on this machine, for ``make play`` and ``make compare``."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import requests

HOST = "127.0.0.1"
START_SECONDS = 180
STOP_SECONDS = 15
LOG_LINES_SHOWN = 40
_PORT_TAKEN = "address already in use"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ServiceError(Exception):
    """Raised when a service does not start, or ends by itself."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


class LocalAirflow:
    """
    Airflow's services and other processes, each with a log file.

    :param home: AIRFLOW_HOME, an empty folder
    :param dags_folder: the folder with the DAG files
    :param options: Airflow's options, such as ``{"core.parallelism": 8}``, in addition to the defaults here
    """

    def __init__(self, home: Path, dags_folder: Path, options: dict[str, Any] | None = None) -> None:
        self.dags_folder = dags_folder
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.database = home / "airflow.db"
        self._home = home
        self._settings = self._environment(options or {})
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._session = requests.Session()
        self._session.trust_env = False

    def start_page(self) -> None:
        """Create the database, and start the API server and wait for its first page."""
        self.start("database", "airflow", "db", "migrate")
        if self._running["database"].wait():
            self._fail("database")
        del self._running["database"]
        self.start("api-server", "airflow", "api-server", "--host", HOST, "--port", str(self.port))
        self.wait_until(self._logs_in, "Airflow does not show its first page")

    def start_rest(self, dags: int) -> None:
        """
        Start scheduler, triggerer and dag-processor, and wait until they are healthy.

        :param dags: how many DAGs Airflow must have parsed by then
        """
        self.start("dag-processor", "airflow", "dag-processor")
        for name in ("scheduler", "triggerer"):
            # The servers of their logs would listen on all addresses.
            self.start(name, "airflow", name, "--skip-serve-logs")
        self.wait_until(self._is_healthy, "Airflow is not healthy")
        self.wait_until(
            lambda: self.request("GET", "dags?limit=1")["total_entries"] >= dags,
            "Airflow has not read all DAGs",
        )

    def start(self, name: str, *command: str) -> None:
        """Start a Python module with arguments, in its own process group."""
        with self._log(name).open("w") as log, interrupts_deferred():
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=self._settings,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                # Ctrl-C in the terminal reaches only this program, which then stops the services.
                start_new_session=True,
            )

    def request(self, method: str, path: str, json: dict[str, Any] | None = None) -> Any:
        """Send a request to Airflow's REST API, and return the response's JSON."""
        response = self._session.request(method, f"{self.url}/api/v2/{path}", json=json, timeout=30)
        response.raise_for_status()
        return response.json() if response.content else None

    def wait_until(
        self, condition: Callable[[], object], failure: str, timeout: float = START_SECONDS
    ) -> None:
        """
        Wait for a condition while all services run.

        :raises ServiceError: if the condition does not come true in time, or a service has ended
        """
        give_up = time.monotonic() + timeout
        while not condition():
            self.check()
            if time.monotonic() > give_up:
                raise ServiceError(f"{failure} after {timeout:.0f} s. The logs were in {self._home}.")
            time.sleep(0.3)

    def check(self) -> None:
        """
        Check that all services run.

        :raises ServiceError: if one has ended, with the end of its log
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                self._fail(name)

    def stop(self) -> None:
        """Stop all processes, and kill what is left of their process groups."""
        for process in self._running.values():
            process.terminate()
        give_up = time.monotonic() + STOP_SECONDS
        for process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0, give_up - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._running.clear()

    def _fail(self, name: str) -> NoReturn:
        lines = self._log(name).read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        code = self._running[name].returncode
        problem = f"{name} ended with exit code {code}; the end of its log is above."
        if any(_PORT_TAKEN in line.lower() for line in lines):
            problem += " Another program has taken its port. Start again, which picks another one."
        raise ServiceError("\n".join([*lines, problem]))

    def _log(self, name: str) -> Path:
        return self._home / f"{name}.log"

    def _logs_in(self) -> bool:
        # Only Airflow returns a token; if another program took the port, Airflow's server ends.
        with contextlib.suppress(requests.RequestException, KeyError, TypeError):
            token = self._session.get(f"{self.url}/auth/token", timeout=30).json()["access_token"]
            self._session.headers["Authorization"] = f"Bearer {token}"
            return True
        return False

    def _is_healthy(self) -> bool:
        parts = self.request("GET", "monitor/health")
        return all(parts[part]["status"] == "healthy" for part in ("scheduler", "triggerer", "dag_processor"))

    def _environment(self, more: dict[str, Any]) -> dict[str, str]:
        options = {
            "core.dags_folder": self.dags_folder,
            "core.executor": "LocalExecutor",
            "core.parallelism": 4,
            "core.load_examples": False,
            "core.fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "core.test_connection": "Enabled",
            "core.execution_api_server_url": f"{self.url}/execution/",
            "core.simple_auth_manager_all_admins": True,
            "database.sql_alchemy_conn": f"sqlite:///{self.database}",
            "dag_processor.refresh_interval": 10,
            "api.base_url": self.url,
            "api.workers": 1,
            "api.secret_key": secrets.token_hex(16),
            "api_auth.jwt_secret": secrets.token_hex(32),
            "logging.base_log_folder": self._home / "logs",
            **more,
        }
        settings = {
            f"AIRFLOW__{name.upper().replace('.', '__')}": str(value) for name, value in options.items()
        }
        # Ignore the settings of any other Airflow on this machine.
        proxies = {"NO_PROXY": HOST, "no_proxy": HOST}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        return {**inherited, **settings, **proxies, "AIRFLOW_HOME": str(self._home)}


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Raise KeyboardInterrupt for a signal only after the block, which starts a process and keeps its id."""
    arrived: list[int] = []
    former = {number: signal.signal(number, lambda number, _: arrived.append(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if arrived:
        raise KeyboardInterrupt


@contextlib.contextmanager
def stopped_at_the_end(airflow: LocalAirflow) -> Iterator[None]:
    """Stop all services when the block ends, even after an error or a signal, which raises KeyboardInterrupt."""
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        print("\nStopping ...", flush=True)
        airflow.stop()
