# SPDX-License-Identifier: Apache-2.0
"""The asset events of tasks with outlets, which show how the task's call ended."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

Run = TypeVar("Run", bound=Callable[..., Any])


def shows_end(run: Run) -> Run:
    """Decorate a method that takes the context last and returns a call's summary: it goes into the asset events, too."""

    @functools.wraps(run)
    def running(task: Any, *args: Any, **kwargs: Any) -> Any:
        summary = run(task, *args, **kwargs)
        show_end(kwargs["context"] if "context" in kwargs else args[-1], task.outlets, summary)
        return summary

    return running  # type: ignore[return-value]


def show_end(context: Any, outlets: Iterable[Any], summary: Mapping[str, Any]) -> None:
    """
    Put the end of a call into the ``extra`` of a task's asset events.

    :param context: the context of the running task
    :param outlets: the outlets of the task
    :param summary: the summary of the call
    """
    from airflow.providers.common.compat.sdk import Asset

    events = context.get("outlet_events")
    for asset in outlets:
        if events is None or not isinstance(asset, Asset):
            continue
        extra = events[asset].extra
        shown = {"call_id": summary["id"], **{key: summary[key] for key in ("outcome", "ended_reason")}}
        # What the author has set stays.
        extra.update({key: value for key, value in shown.items() if key not in extra})
