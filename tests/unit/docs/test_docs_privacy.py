# SPDX-License-Identifier: Apache-2.0
"""No example lets Airflow print people's numbers: tasks that return them keep their results out of the log."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from markdown_pages import BLOCKS, README, ROOT, blocks_of, label


def sources() -> Iterator[tuple[str, str]]:
    for block in (*BLOCKS, *blocks_of(README)):
        if block.language == "python":
            yield label(block), block.text
    for path in sorted((ROOT / "example_dags").glob("example_*.py")):
        yield path.name, path.read_text(encoding="utf-8")


def tasks_with_numbers() -> Iterator[tuple[str, str]]:
    """Return where tasks make dictionaries with a number, and how they are decorated."""
    for where, source in sources():
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.FunctionDef):
                continue
            decorated = [text for text in map(ast.unparse, node.decorator_list) if text.startswith("task")]
            keys = {key.value for part in ast.walk(node) if isinstance(part, ast.Dict)
                    for key in part.keys if isinstance(key, ast.Constant)}  # fmt: skip
            if decorated and "number" in keys:
                yield f"{where}: {node.name}", decorated[0]


def test_tasks_that_return_numbers_are_not_logged() -> None:
    found = dict(tasks_with_numbers())
    assert len(found) >= 3
    assert {where for where, how in found.items() if "show_return_value_in_logs=False" not in how} == set()
