# SPDX-License-Identifier: Apache-2.0
"""The payload of an event about the end of a call, which contains nothing personal."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from vapi_provider.models.cleaning import clean_line

if TYPE_CHECKING:
    from vapi_provider.models.call import CallStatusView


class EndedCall(TypedDict):
    """
    The payload of an asset event of :class:`~vapi_provider.triggers.ended.VapiCallEndedTrigger`.

    ``ended_at`` is ISO 8601, ``outcome`` is a value of :class:`~vapi_provider.models.outcome.CallOutcome`, ``cost`` is in US
    dollars, as far as Vapi had computed it. None stands for what the call does not have.
    """

    call_id: str
    ended_at: str | None
    ended_reason: str | None
    outcome: str | None
    type: str | None
    assistant_id: str | None
    phone_number_id: str | None
    cost: float | None


def describe_end(call: CallStatusView) -> EndedCall:
    """Build the payload for a call that has ended."""
    return {
        "call_id": str(clean_line(call.id)),
        "ended_at": None if call.ended_at is None else call.ended_at.isoformat(),
        "ended_reason": clean_line(call.ended_reason),
        "outcome": None if call.outcome is None else call.outcome.value,
        "type": clean_line(call.type),
        "assistant_id": clean_line(call.assistant_id),
        "phone_number_id": clean_line(call.phone_number_id),
        "cost": call.cost,
    }
