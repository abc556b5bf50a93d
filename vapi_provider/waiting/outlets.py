# SPDX-License-Identifier: Apache-2.0
"""The asset events of tasks with outlets, which show how the task's call ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from vapi_provider.models.summary import CallSummary

Summary = TypeVar("Summary", bound="CallSummary")


def show_end(context: Any, outlets: Iterable[Any], summary: Summary) -> Summary:
    """
    Put the end of a call into the ``extra`` of a task's asset events.

    :param context: the context of the running task
    :param outlets: the outlets of the task
    :param summary: the summary of the call
    :return: the summary
    """
    from airflow.providers.common.compat.sdk import Asset

    events = context.get("outlet_events")
    for asset in outlets:
        if events is None or not isinstance(asset, Asset):
            continue
        extra = events[asset].extra
        end = {key: summary[key] for key in ("outcome", "ended_reason")}
        shown = {"call_id": summary["id"], **end}
        # What the author has set stays.
        extra.update({key: value for key, value in shown.items() if key not in extra})
    return summary
