# SPDX-License-Identifier: Apache-2.0
"""The JSON that the simulator makes up: ids, new calls and their results."""

from __future__ import annotations

import json
import secrets
import uuid
from typing import TYPE_CHECKING, Any

from vapi_provider.simulator.timestamps import write_timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from vapi_provider.simulator.timeline import StructuredOutput

ORG_ID = "0198a3f0-0000-7000-8000-000000000001"
ASSISTANT_ID = "0198a3f0-0000-7000-8000-000000000002"
PHONE_NUMBER_ID = "0198a3f0-0000-7000-8000-000000000003"
CUSTOMER_NUMBER = "+12025550143"

_ROLES = {"AI": "bot", "User": "user"}


def encode(body: object) -> bytes:
    """Return the body as JSON in UTF-8; lone surrogates stay escaped, because UTF-8 cannot encode them."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def new_id(now: datetime) -> str:
    """Return a new UUID of version 7: the time in milliseconds, then random bits."""
    value = int(now.timestamp() * 1000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def new_call(call_id: str, now: datetime, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return an outbound phone call right after its creation, updated with ``fields``."""
    return {
        "id": call_id,
        "orgId": ORG_ID,
        "type": "outboundPhoneCall",
        "status": "queued",
        "phoneCallProvider": "twilio",
        "phoneCallTransport": "pstn",
        "createdAt": write_timestamp(now),
        "updatedAt": write_timestamp(now),
        **fields,
    }


def callee_of(call: Mapping[str, Any]) -> str | None:
    """Return whose phone a call or a request rings: a number or SIP URI with its extension, or a customer's id."""
    customer = call.get("customer")
    customer = customer if isinstance(customer, dict) else {}
    callee = customer.get("number") or customer.get("sipUri") or call.get("customerId")
    extension = customer.get("extension")
    return f"{callee};ext={extension}" if callee and extension else callee


def placed_elsewhere(status: object, created_at: datetime) -> dict[str, Any]:
    """Return the fields of a call that was placed elsewhere and has this status from the start."""
    fields: dict[str, Any] = {
        "assistantId": ASSISTANT_ID,
        "phoneNumberId": PHONE_NUMBER_ID,
        "customer": {"number": CUSTOMER_NUMBER},
    }
    if status in ("in-progress", "forwarding", "ended"):
        fields["startedAt"] = write_timestamp(created_at)
    if status == "ended":
        fields |= {"endedAt": write_timestamp(created_at), "endedReason": "customer-ended-call"}
    return fields


def costs(cost: float) -> dict[str, Any]:
    """Return the ``cost`` and ``costBreakdown`` for a cost in US dollars."""
    breakdown = {
        "transport": round(cost * 0.2, 4),
        "stt": round(cost * 0.15, 4),
        "llm": round(cost * 0.05, 4),
        "tts": round(cost * 0.2, 4),
        "vapi": round(cost * 0.4, 4),
        "total": cost,
        "llmPromptTokens": 1480,
        "llmCompletionTokens": 62,
        "ttsCharacters": 118,
    }
    return {"cost": cost, "costBreakdown": breakdown}


def artifact(call_id: str, transcript: str | None, begin: datetime) -> dict[str, Any]:
    """Return the ``artifact`` of a call with this transcript that began at ``begin``."""
    if transcript is None:
        return {"messages": []}
    # A reserved host name that never resolves.
    recording = f"https://storage.example.invalid/{call_id}"
    return {
        "messages": _messages(transcript, begin),
        "transcript": transcript,
        "recordingUrl": f"{recording}-mono.wav",
        "stereoRecordingUrl": f"{recording}-stereo.wav",
        "recording": {
            "stereoUrl": f"{recording}-stereo.wav",
            "mono": {"combinedUrl": f"{recording}-mono.wav"},
        },
    }


def with_structured_output(
    artifact: Mapping[str, Any], output: StructuredOutput, at: datetime
) -> dict[str, Any]:
    """Return the ``artifact`` with this output added, as extracted or as skipped."""
    name, value = "structuredOutputs", {"name": output.name, "result": output.result}
    if output.is_skipped:
        unmet = {"type": "minMessages", "count": 4}
        name, value = "skippedStructuredOutputs", {"name": output.name, "unmetCondition": unmet}
    return {
        **artifact,
        name: {**(artifact.get(name) or {}), output.id: value},
        "structuredOutputsLastUpdatedAt": write_timestamp(at),
    }


def _messages(transcript: str, begin: datetime) -> list[dict[str, Any]]:
    messages = []
    for position, line in enumerate(transcript.splitlines()):
        speaker, _, text = line.partition(": ")
        seconds = 2.0 * position
        time = begin.timestamp() * 1000 + seconds * 1000
        role = _ROLES.get(speaker, "system")
        messages.append(
            {"role": role, "message": text, "time": time, "endTime": time + 1900, "secondsFromStart": seconds}
        )
    return messages
