# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind: the whole database, and everything that an exception shows."""

from __future__ import annotations

import sqlite3
import traceback
from contextlib import closing
from pathlib import Path


def tables(database: Path) -> dict[str, str]:
    """Return the content of each table as text."""
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = lambda content: content.decode(errors="replace")
        names = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {name: repr(connection.execute(f'SELECT * FROM "{name}"').fetchall()) for name in names}


def shown_by(error: BaseException | None) -> str:
    """Return everything that a log, a callback or an error tracker could show of an exception and its causes."""
    shown = []
    while error is not None:
        shown += [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
        request = getattr(error, "request", None)
        shown.append(repr(request and vars(request)))
        error = error.__cause__ or error.__context__
    return "\n".join(shown)
