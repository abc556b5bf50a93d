# SPDX-License-Identifier: Apache-2.0
"""What tasks with outlets put into their asset events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from vapi_provider.models.summary import CallSummary

Summary = TypeVar("Summary", bound="CallSummary")


def add_to_events(context: Any, outlets: Iterable[Any], values: Mapping[str, Any]) -> None:
    """
    Put values into the ``extra`` of a task's asset events; keys that the author has set stay.

    :param context: the context of the running task
    :param outlets: the outlets of the task
    :param values: the values
    """
    from airflow.providers.common.compat.sdk import Asset

    events = context.get("outlet_events")
    if events is None:
        return
    for asset in outlets:
        if isinstance(asset, Asset):
            extra = events[asset].extra
            extra.update({key: value for key, value in values.items() if key not in extra})


def show_end(context: Any, outlets: Iterable[Any], summary: Summary) -> Summary:
    """
    Put the end of a call into the ``extra`` of a task's asset events.

    :param context: the context of the running task
    :param outlets: the outlets of the task
    :param summary: the summary of the call
    :return: the summary
    """
    end = {key: summary[key] for key in ("outcome", "ended_reason")}
    add_to_events(context, outlets, {"call_id": summary["id"], **end})
    return summary
