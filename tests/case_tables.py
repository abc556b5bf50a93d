# SPDX-License-Identifier: Apache-2.0
"""Combines two tables of cases for ``pytest.mark.parametrize``, without the whole product."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import Any

import pytest


def row_and_diagonal(rows: Mapping[str, Any] | Iterable[Any], columns: Iterable[Any]) -> list[Any]:
    """
    Return each row with the first column, and each other column with a different row.

    :param rows: cases by id, or a list of cases; a case with several arguments is a tuple or a ``pytest.param``
    :param columns: a list of cases
    """
    rows, (first, *others) = _cases(rows), _cases(columns)
    return [_joined(row, first) for row in rows] + [
        _joined(rows[number % len(rows)], column) for number, column in enumerate(others, start=1)
    ]


def in_turn(rows: Mapping[str, Any] | Iterable[Any], columns: Iterable[Any]) -> list[Any]:
    """Return each row with one column, assigning the columns in turn."""
    rows, columns = _cases(rows), _cases(columns)
    assert len(rows) >= len(columns), "there are more columns than rows"
    return [_joined(row, column) for row, column in zip(rows, cycle(columns), strict=False)]


def _cases(table: Mapping[str, Any] | Iterable[Any]) -> list[Any]:
    pairs = table.items() if isinstance(table, Mapping) else ((None, case) for case in table)
    return [_case(case_id, case) for case_id, case in pairs]


def _case(case_id: str | None, case: Any) -> Any:
    if hasattr(case, "values") and hasattr(case, "marks"):
        return case
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, id=case_id or "-".join(map(_shown, values)))


def _shown(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value).strip("'\"")[:40]


def _joined(row: Any, column: Any) -> Any:
    return pytest.param(
        *row.values, *column.values, id=f"{row.id}-{column.id}", marks=[*row.marks, *column.marks]
    )
