# SPDX-License-Identifier: Apache-2.0
"""When Vapi places a scheduled call."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from vapi_provider.client.arguments import check_instant
from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.placing.hours import refuse

if TYPE_CHECKING:
    from vapi_provider.models.call import Call
    from vapi_provider.placing.hours import Hours

SCHEDULE_FIELDS = {"earliest_at": "earliestAt", "latest_at": "latestAt"}

_SENDING_TIME = timedelta(seconds=30)
"""How long before the end of a plan Vapi must have it."""


def check_schedule_plan(plan: Mapping[str, Any]) -> dict[str, str]:
    """
    Check when to place a scheduled call, and write it as the API takes it.

    :param plan: a mapping with ``earliest_at`` and perhaps ``latest_at``
    :raises VapiConfigurationError: naming what is wrong; nothing is sent then
    """
    checked = {}
    for name, field in SCHEDULE_FIELDS.items():
        instant = check_instant(plan.get(name), parameter=f"schedule_plan's {name}")
        if instant is not None:
            checked[field] = instant
    if "earliestAt" not in checked:
        raise refuse("schedule_plan must have earliest_at")
    earliest, latest = checked["earliestAt"], checked.get("latestAt")
    if latest and datetime.fromisoformat(latest) <= datetime.fromisoformat(earliest):
        raise refuse("schedule_plan's latest_at must be after its earliest_at")
    return checked


def fit_schedule(plan: Mapping[str, str], hours: Hours, now: datetime) -> dict[str, str]:
    """
    Fit a schedule plan to calling hours.

    :param plan: the plan, as the API takes it
    :param hours: the hours
    :param now: the time of the request
    :raises VapiConfigurationError: if no instant that is left of the plan is within the hours, or too little is left
    :return: the plan to send: from the next opening to the closing of that day
    """
    earliest = datetime.fromisoformat(plan["earliestAt"])
    opening = hours.next_opening(max(earliest, now))
    closing = hours.closing(opening)
    if closing - now < _SENDING_TIME:
        opening = hours.next_opening(closing)
        closing = hours.closing(opening)
    latest = min(closing, datetime.fromisoformat(plan.get("latestAt", closing.isoformat())))
    if latest <= opening:
        raise refuse(f"schedule_plan ends before calling_hours open, at {hours.describe(opening)}")
    if latest - now < _SENDING_TIME:
        raise refuse(f"schedule_plan ends within {_SENDING_TIME.seconds} seconds")
    return {"earliestAt": opening.isoformat(), "latestAt": latest.isoformat()}


def latest_ring(
    call: Call, plan: Mapping[str, str] | None, sent: Mapping[str, str] | None, hours: Hours | None
) -> float:
    """
    Return the latest instant at which Vapi places a call, in seconds since 1970; 0 without a schedule.

    :param plan: the task's plan before it was fitted, as the API takes it
    :param sent: the plan that this try has sent; None if an earlier one has sent it
    :param hours: the hours; None for any time
    """
    known = _end_of(sent) or _end_of(call.schedule_plan)
    if known is None and plan is not None:
        # Vapi's clock may be on the other side of the closing.
        if hours is not None and call.created_at is not None:
            with suppress(VapiConfigurationError):
                plan = fit_schedule(plan, hours, call.created_at)
        known = _end_of(plan)
    return known.timestamp() if known else 0.0


def _end_of(plan: Mapping[str, Any] | None) -> datetime | None:
    from vapi_provider.models.fields import read_instant

    plan = plan or {}
    return read_instant(plan.get("latestAt")) or read_instant(plan.get("earliestAt"))
