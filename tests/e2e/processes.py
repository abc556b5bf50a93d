# SPDX-License-Identifier: Apache-2.0
"""Processes that the tests start, and end by the id of what they started."""

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
# Should the tests themselves be killed, nobody else would end what they started.
END_WITH_US = ("setpriv", "--pdeathsig", "TERM")


class NotReadyError(AssertionError):
    """A condition did not come true in time."""


def wait_until(
    condition: Callable[[], object],
    timeout: float,
    what: str,
    watch: Callable[[], None] | None = None,
) -> float:
    """
    Wait for a condition.

    :param condition: is asked until it returns something true.
    :param timeout: the seconds after which to give up.
    :param what: what is waited for, for the person who reads the failure.
    :param watch: is called between two looks.
    :raises NotReadyError: when the time is over.
    :return: the seconds that it took.
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
    Run a program that ends by itself, with success.

    :param command: the program and its arguments.
    :param environment: all its environment variables.
    :param folder: where to run it.
    :param user: whom to run it as; by default the user who runs the tests.
    :return: what it printed.
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
    A process in a group of its own, with a log file.

    :param name: what people call it.
    :param command: the program and its arguments.
    :param environment: all its environment variables.
    :param log: the file that its output is added to.
    :param user: whom to run it as; by default the user who runs the tests.
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
        """Take it away without a word, with its children, as the loss of its machine does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            # Its id may soon be another's.
            self._process = None

    def ask_to_end(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def wait_for_end(self) -> None:
        """Wait for it as long as is reasonable, and then end it and its children."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()

    def lines_since(self, position: int) -> list[str]:
        """Return what it wrote after this position of its log."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as file:
            file.seek(position)
            return file.read().decode("utf-8", "replace").splitlines()


def stop_all(services: Sequence[Service]) -> None:
    """Stop them at the same time, since each takes some."""
    for service in services:
        service.ask_to_end()
    for service in services:
        service.wait_for_end()
