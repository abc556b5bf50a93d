# SPDX-License-Identifier: Apache-2.0
"""Processes that the tests start, and stop by process id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

STOP_SECONDS = 20
BETWEEN_LOOKS_SECONDS = 0.3
# Stops the processes even if the tests themselves are killed.
END_WITH_US = ("setpriv", "--pdeathsig", "TERM")


class NotReadyError(AssertionError):
    """Raised when a condition did not come true in time."""


def wait_until(
    condition: Callable[[], object],
    timeout: float,
    what: str,
    watch: Callable[[], None] | None = None,
) -> float:
    """
    Wait for a condition.

    :param condition: called until it returns a true value
    :param timeout: the seconds after which to give up
    :param what: the expected state, for the failure message
    :param watch: called between two checks
    :raises NotReadyError: if the condition does not come true in time
    :return: the seconds that it took
    """
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout:
            raise NotReadyError(f"{what}: not within {timeout:.0f} s")
        if watch is not None:
            watch()
        time.sleep(BETWEEN_LOOKS_SECONDS)
    return time.monotonic() - started


def run_to_end(
    command: Sequence[str | Path], environment: Mapping[str, str], folder: Path, user: str | None = None
) -> str:
    """
    Run a program to its end, which must be successful.

    :param command: the program and its arguments
    :param environment: all its environment variables
    :param folder: its working directory
    :param user: the user to run it as; by default the user who runs the tests
    :return: its output
    """
    done = subprocess.run(
        command,
        env=environment,
        cwd=folder,
        user=user,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Service:
    """
    A process in its own process group, with a log file.

    :param name: its name in messages
    :param command: the program and its arguments
    :param environment: all its environment variables
    :param log: the file to which its output is appended
    :param user: the user to run it as; by default the user who runs the tests
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        log: Path,
        user: str | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = [*END_WITH_US, *(str(part) for part in command)]
        self._environment = dict(environment)
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.is_running, f"{self.name} is running"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._user,
            )

    def stop(self) -> None:
        stop_all([self])

    def kill(self) -> None:
        """Kill the process and its children without warning, as if its machine were lost."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            # The process id may soon be reused.
            self._process = None

    def ask_to_end(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def wait_for_end(self) -> None:
        """Wait for the process to end, and kill it and its children if it takes too long."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()

    def lines_since(self, position: int) -> list[str]:
        """Return the lines of its log after this position."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as file:
            file.seek(position)
            return file.read().decode("utf-8", "replace").splitlines()


def stop_all(services: Sequence[Service]) -> None:
    """Stop all services in parallel, because each takes a while."""
    for service in services:
        service.ask_to_end()
    for service in services:
        service.wait_for_end()
