# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server for the tests, from Debian's package."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg2
from processes import Service, run_to_end, wait_until

INSTALL = "apt-get install postgresql"
# PostgreSQL refuses to run as root.
SERVER_USER = "postgres"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def find_programs() -> Path | None:
    """Return the folder of the newest installed server."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    elsewhere = shutil.which("postgres")
    if debian:
        return debian[-1].parent
    return Path(elsewhere).resolve().parent if elsewhere else None


class Postgres:
    """
    A server with one database.

    :param folder: an empty folder for its data and its log
    """

    def __init__(self, folder: Path) -> None:
        programs = find_programs()
        assert programs is not None, f"PostgreSQL is missing: {INSTALL}"
        self.port = free_port()
        self._password = secrets.token_hex(8)
        self._programs = programs
        self._folder = folder
        self._user = SERVER_USER if os.geteuid() == 0 else None
        # "-k ''": listen only on loopback, without a socket file that could already exist.
        settings = ["-c", "fsync=off", "-c", "max_connections=200"]
        command: list[str | Path] = [
            programs / "postgres",
            "-D",
            folder / "data",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-k",
            "",
        ]
        self.service = Service(
            "postgres", [*command, *settings], _environment(), folder / "postgres.log", self._user
        )

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://airflow:{self._password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        if not (self._folder / "data").exists():
            self._create()
        self.service.start()
        wait_until(self._answers, 30, "PostgreSQL answers")

    def stop(self) -> None:
        self.service.stop()

    def restart(self) -> None:
        """Stop the server at once, with all connections, and start it again."""
        # SIGINT is the "fast" shutdown that Debian's own service uses.
        os.kill(self.service.pid, signal.SIGINT)
        wait_until(lambda: not self.service.is_running, 30, "PostgreSQL has stopped")
        self.start()

    def query(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with psycopg2.connect(**self._address()) as connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
        connection.close()
        return rows

    def dump(self) -> str:
        """Return all tables as text."""
        address = ["-U", "airflow", "-h", "127.0.0.1", "-p", str(self.port), "postgres"]
        return run_to_end(
            [self._programs / "pg_dump", "--data-only", "--inserts", *address],
            _environment() | {"PGPASSWORD": self._password},
            self._folder,
        )

    def _create(self) -> None:
        password_file = self._folder / "password"
        password_file.write_text(self._password)
        if self._user:
            account = pwd.getpwnam(self._user)
            for path in (self._folder, password_file):
                os.chown(path, account.pw_uid, account.pw_gid)
        files: list[str | Path] = ["--pgdata", self._folder / "data", "--pwfile", password_file]
        options = ["--username", "airflow", "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-sync"]
        run_to_end([self._programs / "initdb", *files, *options], _environment(), self._folder, self._user)

    def _answers(self) -> bool:
        assert self.service.is_running, "\n".join(self.service.lines_since(0))
        try:
            return bool(self.query("select 1"))
        except psycopg2.OperationalError:
            return False

    def _address(self) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": "airflow",
            "password": self._password,
            "dbname": "postgres",
        }


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
