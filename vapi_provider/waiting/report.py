# SPDX-License-Identifier: Apache-2.0
"""The trigger's event, as the resumed task reads it."""

from __future__ import annotations

from typing import Any, NamedTuple

from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.models.results import ARRIVED
from vapi_provider.polling.connection import says_missing


class Report(NamedTuple):
    """A trigger's event."""

    status: str
    call_id: str
    message: str

    @property
    def says_complete(self) -> bool:
        """Whether all results have arrived."""
        return self.message == ARRIVED.format(self.call_id)

    def says_missing(self, conn_id: str) -> bool:
        """Return whether the triggerer could not find the connection for five minutes."""
        return self.status == "error" and says_missing(self.message, conn_id)


def reported_call_id(event: Any) -> str | None:
    """Return the call id in a trigger's event, or None."""
    call_id = event.get("call_id") if isinstance(event, dict) else None
    return call_id if isinstance(call_id, str) and call_id else None


def read_report(event: Any, call_id: str) -> Report:
    """
    Parse a trigger's event, perhaps from another version of this package.

    :raises VapiConfigurationError: if it is not a known event for this call
    """
    status = event.get("status") if isinstance(event, dict) else None
    if status in ("done", "timeout", "error") and event.get("call_id", call_id) == call_id:
        return Report(str(status), call_id, str(event.get("message") or ""))
    shown = f"status {str(status)[:50]!r}" if status else f"a {type(event).__name__}"
    raise VapiConfigurationError(
        f"Call {call_id}: this worker does not understand the triggerer's event ({shown}). Install the same version of "
        "airflow-provider-vapi on workers and triggerers, then clear the task."
    )
