# SPDX-License-Identifier: Apache-2.0
"""The arguments of a wait as the author gave them, for the checks when a DAG is parsed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vapi_provider.waiting.mixin import WaitsForCall

DEFAULT_TIMEOUT = 12 * 60 * 60
"""The longest call that Vapi allows, in seconds."""

ONLY_WHILE_WAITING: Mapping[str, Any] = {
    "poll_interval": 15,
    "timeout": DEFAULT_TIMEOUT,
    "fail_on": (),
    "wait_for_analysis": False,
    "analysis_timeout": 60,
    "hang_up_on_timeout": False,
    "redial_on": (),
    "max_attempts": None,
}
"""Arguments that only affect a task that waits, with their defaults."""


def as_given(values: Iterable[Any]) -> Iterable[Any]:
    """Return an argument unchanged, except an iterator, which can be read only once."""
    return tuple(values) if isinstance(values, Iterator) else values


def useless_without_wait(task: WaitsForCall, default_args: Mapping[str, Any]) -> list[str]:
    """Return the given arguments that have no effect because the task does not wait."""
    return [
        name
        for name, default in ONLY_WHILE_WAITING.items()
        if _is_given(value := in_seconds(getattr(task, name)))
        and value not in (default, in_seconds(default_args.get(name)))
    ]


def in_seconds(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _is_given(value: Any) -> bool:
    return bool(value) or (value == 0 and value is not False)
