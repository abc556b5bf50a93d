# SPDX-License-Identifier: Apache-2.0
"""Searches the places where a secret could have leaked."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from planted import Planted


def find(planted: Planted, text: str) -> list[str]:
    """Return which secrets a text contains, in plain form or in the hexadecimal form of a bytea."""
    return [what for what, secret in planted.all.items() if secret in text or secret.encode().hex() in text]


def find_in_all(planted: Planted, texts: Iterable[str]) -> list[str]:
    """Return which secrets any of the texts contains."""
    return sorted({what for text in texts for what in find(planted, text)})


def log_files(folder: Path) -> dict[Path, str]:
    """Return the content of every log file below a folder."""
    return {path: path.read_bytes().decode("utf-8", "replace") for path in folder.rglob("*.log")}


class CommandLines:
    """Records the command lines of all processes on the machine, several times a second."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                # The process may have ended by now.
                with contextlib.suppress(OSError):
                    self.seen.add(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
