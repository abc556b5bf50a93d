# SPDX-License-Identifier: Apache-2.0
"""A Redis server for the Celery tests, from Debian's package."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from pathlib import Path

from postgres import free_port
from processes import Service, wait_until

INSTALL = "apt-get install redis-server"


class Redis:
    """
    A server that keeps nothing on disk.

    :param folder: an empty folder for its settings and its log
    """

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        assert program is not None, f"Redis is missing: {INSTALL}"
        self._port = free_port()
        self._password = secrets.token_hex(8)
        settings = folder / "redis.conf"
        # In a file, because a command line is visible to all users.
        settings.write_text(
            f'bind 127.0.0.1\nport {self._port}\nrequirepass {self._password}\nsave ""\nappendonly no\n'
        )
        self.service = Service(
            "redis", [program, settings], {"PATH": os.environ["PATH"]}, folder / "redis.log"
        )

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    def start(self) -> None:
        self.service.start()
        wait_until(self._answers, 30, "Redis answers")

    def stop(self) -> None:
        self.service.stop()

    def _answers(self) -> bool:
        assert self.service.is_running, "\n".join(self.service.lines_since(0))
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=5) as connection:
                connection.sendall(f"AUTH {self._password}\r\n".encode())
                return connection.recv(64).startswith(b"+OK")
        except OSError:
            return False
