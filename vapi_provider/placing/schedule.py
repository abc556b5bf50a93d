# SPDX-License-Identifier: Apache-2.0
"""When Vapi places a scheduled call."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from vapi_provider.client.arguments import check_instant
from vapi_provider.exceptions import VapiConfigurationError

if TYPE_CHECKING:
    from vapi_provider.placing.hours import Hours

SCHEDULE_FIELDS = {"earliest_at": "earliestAt", "latest_at": "latestAt"}


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
        raise _refuse("schedule_plan must have earliest_at")
    earliest, latest = checked["earliestAt"], checked.get("latestAt")
    if latest and datetime.fromisoformat(latest) <= datetime.fromisoformat(earliest):
        raise _refuse("schedule_plan's latest_at must be after its earliest_at")
    return checked


def fit_schedule(plan: Mapping[str, str], hours: Hours, now: datetime) -> dict[str, str]:
    """
    Fit a schedule plan to calling hours.

    :param plan: the plan, as the API takes it
    :param hours: the hours
    :param now: the time of the request
    :raises VapiConfigurationError: if no instant that is left of the plan is within the hours
    :return: the plan to send: from the next opening to the closing of that day
    """
    earliest = datetime.fromisoformat(plan["earliestAt"])
    opening = hours.next_opening(max(earliest, now))
    latest = hours.closing(opening)
    if "latestAt" in plan:
        latest = min(latest, datetime.fromisoformat(plan["latestAt"]))
    if latest <= opening:
        raise _refuse(f"schedule_plan ends before calling_hours open, at {hours.describe(opening)}")
    return {"earliestAt": opening.isoformat(), "latestAt": latest.isoformat()}


def latest_ring(plan: Mapping[str, str] | None, hours: Hours | None, created_at: datetime | None) -> float:
    """
    Return the latest instant at which Vapi places a call, in seconds since 1970; 0 without a schedule.

    :param plan: the plan before it was fitted, as the API takes it
    :param hours: the hours; None for any time
    :param created_at: when Vapi got the request; None when that is unknown
    """
    if not plan:
        return 0.0
    if hours is not None and created_at is not None:
        with suppress(VapiConfigurationError):
            plan = fit_schedule(plan, hours, created_at)
    return datetime.fromisoformat(plan.get("latestAt") or plan["earliestAt"]).timestamp()


def _refuse(problem: str) -> VapiConfigurationError:
    return VapiConfigurationError(f"{problem}. Nothing was sent.")
