# SPDX-License-Identifier: Apache-2.0
"""What a trigger reports to the task that it wakes."""

from __future__ import annotations

from typing import Any, NamedTuple

from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.models.results import ARRIVED
from vapi_provider.polling.connection import says_missing


class Report(NamedTuple):
    """The event of a trigger."""

    status: str
    call_id: str
    message: str

    @property
    def says_complete(self) -> bool:
        """Whether no more results come."""
        return self.message == ARRIVED.format(self.call_id)

    def says_missing(self, conn_id: str) -> bool:
        """Return whether the triggerer has not found the connection for five minutes."""
        return self.status == "error" and says_missing(self.message, conn_id)


def reported_call_id(event: Any) -> str | None:
    """Return the id of the call that a trigger has polled, if its event has one."""
    call_id = event.get("call_id") if isinstance(event, dict) else None
    return call_id if isinstance(call_id, str) and call_id else None


def read_report(event: Any, call_id: str) -> Report:
    """
    Read the event of a trigger, perhaps one with another version of this package.

    :raises VapiConfigurationError: for anything but an event for this call, since its meaning is unknown
    """
    status = event.get("status") if isinstance(event, dict) else None
    if status in ("done", "timeout", "error") and event.get("call_id", call_id) == call_id:
        return Report(str(status), call_id, str(event.get("message") or ""))
    shown = f"an event {str(status)[:50]!r}" if status else f"{type(event).__name__} in place of an event"
    raise VapiConfigurationError(
        f"Call {call_id}: the triggerer sent {shown} that this task does not know. Install the same version of "
        "airflow-provider-vapi in triggerer and workers, and clear the task."
    )
