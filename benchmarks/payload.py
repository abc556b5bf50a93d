# SPDX-License-Identifier: Apache-2.0
"""
Invented responses of Vapi's API, with the structure and size of real ones.

``documented_call`` has the fields, nesting and size of the 2024 example on Vapi's documentation page, which contains an
assistant's whole configuration five times. ``plain_call`` is a call of a stored assistant, the most common response.
"""

from __future__ import annotations

import json
from typing import Any

_TEXT = "Invented"
_URL = "https://voice.example"
_INSTANT = "2024-11-05T14:03:27Z"
_CALL_ID = "4b1f0a52-7c1e-4d7a-9a53-0d2f6c1be001"
_ASSISTANT_ID = "4b1f0a52-7c1e-4d7a-9a53-0d2f6c1be002"
_CLIENT_MESSAGES = (
    "conversation-update function-call hang model-output speech-update status-update transcript tool-calls"
    " user-interrupted voice-input"
)
_SERVER_MESSAGES = (
    "conversation-update end-of-call-report function-call hang speech-update status-update tool-calls"
    " transfer-destination-request user-interrupted"
)


def _tool() -> dict[str, Any]:
    condition = {"param": _TEXT, "value": _TEXT, "operator": "eq"}
    schema = {"type": "object", "properties": {}, "required": [_TEXT]}
    return {
        "async": False,
        "messages": [{"type": "request-start", "content": _TEXT, "conditions": [condition]}],
        "type": "dtmf",
        "function": {"name": _TEXT, "description": _TEXT, "parameters": schema},
        "server": {"timeoutSeconds": 15, "url": _URL, "secret": _TEXT},
    }


def _analysis_plan() -> dict[str, Any]:
    schema = {"type": "string", "items": {}, "properties": {}, "description": _TEXT, "required": [_TEXT]}
    return {
        "summaryPrompt": _TEXT,
        "summaryRequestTimeoutSeconds": 7.5,
        "structuredDataRequestTimeoutSeconds": 7.5,
        "successEvaluationPrompt": _TEXT,
        "successEvaluationRubric": "PassFail",
        "successEvaluationRequestTimeoutSeconds": 7.5,
        "structuredDataPrompt": _TEXT,
        "structuredDataSchema": schema,
    }


def _voicemail_detection() -> dict[str, Any]:
    return {
        "provider": "twilio",
        "voicemailDetectionTypes": ["machine_end_beep", "machine_end_other"],
        "enabled": True,
        "machineDetectionTimeout": 20,
        "machineDetectionSpeechThreshold": 2400,
        "machineDetectionSpeechEndThreshold": 1200,
        "machineDetectionSilenceTimeout": 5000,
    }


def _assistant(**more: Any) -> dict[str, Any]:
    """Return an assistant's configuration, as verbose as in 2024."""
    model = {
        "messages": [{"content": _TEXT, "role": "system"}],
        "tools": [_tool()],
        "toolIds": [_TEXT],
        "provider": "anyscale",
        "model": _TEXT,
        "temperature": 0.7,
        "knowledgeBase": {"provider": "canonical", "topK": 2.5, "fileIds": [_TEXT]},
        "maxTokens": 250,
        "emotionRecognitionEnabled": False,
    }
    voice = {
        "inputPreprocessingEnabled": True,
        "inputReformattingEnabled": True,
        "inputMinCharacters": 25,
        # Not ASCII, as on the page, because it affects the speed of parsers.
        "inputPunctuationBoundaries": list("。,.!?;)،۔।॥|:…"),
        "fillerInjectionEnabled": False,
        "provider": "azure",
        "voiceId": "emma",
        "speed": 1.1,
    }
    return {
        "transcriber": {
            "provider": "deepgram",
            "model": "nova-2",
            "language": "en",
            "smartFormat": False,
            "keywords": [_TEXT],
        },
        "model": model,
        "voice": voice,
        "firstMessageMode": "assistant-waits-for-user",
        "recordingEnabled": True,
        "hipaaEnabled": False,
        "clientMessages": _CLIENT_MESSAGES.split(),
        "serverMessages": _SERVER_MESSAGES.split(),
        "silenceTimeoutSeconds": 20,
        "responseDelaySeconds": 0.5,
        "llmRequestDelaySeconds": 0.2,
        "llmRequestNonPunctuatedDelaySeconds": 1.2,
        "numWordsToInterruptAssistant": 3,
        "maxDurationSeconds": 900,
        "backgroundSound": "off",
        "backchannelingEnabled": False,
        "backgroundDenoisingEnabled": True,
        "modelOutputInMessagesEnabled": False,
        **more,
        "name": _TEXT,
        "firstMessage": _TEXT,
        "voicemailDetection": _voicemail_detection(),
        "voicemailMessage": _TEXT,
        "endCallMessage": _TEXT,
        "endCallPhrases": [_TEXT],
        "metadata": {},
        "serverUrl": _URL,
        "serverUrlSecret": _TEXT,
        "analysisPlan": _analysis_plan(),
        "artifactPlan": {"videoRecordingEnabled": False},
        "messagePlan": {
            "idleMessages": [_TEXT],
            "idleMessageMaxSpokenCount": 2.5,
            "idleTimeoutSeconds": 6.5,
        },
    }


def _overrides() -> dict[str, Any]:
    return _assistant(variableValues={})


def _cost_breakdown() -> dict[str, Any]:
    analysis = {
        f"{plan}{unit}": 0.01 if unit == "" else 100
        for plan in ("summary", "structuredData", "successEvaluation")
        for unit in ("", "PromptTokens", "CompletionTokens")
    }
    return {
        "transport": 0.02,
        "stt": 0.01,
        "llm": 0.03,
        "tts": 0.04,
        "vapi": 0.05,
        "total": 0.15,
        "llmPromptTokens": 1200,
        "llmCompletionTokens": 80,
        "ttsCharacters": 640,
        "analysisCostBreakdown": analysis,
    }


def _customer() -> dict[str, Any]:
    return {"number": "+12025550123", "name": _TEXT}


def plain_call() -> dict[str, Any]:
    """Return a call of a stored assistant with ten spoken messages, as the API returns it today."""
    messages = [
        {
            "role": "user" if turn % 2 else "bot",
            "message": f"What was said in turn {turn} of this invented conversation.",
            "time": 1730815407000.0 + 4000 * turn,
            "endTime": 1730815410000.0 + 4000 * turn,
            "secondsFromStart": 4.0 * turn,
            "duration": 3000.0,
        }
        for turn in range(10)
    ]
    return {
        "id": _CALL_ID,
        "orgId": "4b1f0a52-7c1e-4d7a-9a53-0d2f6c1be003",
        "type": "outboundPhoneCall",
        "name": "Reminder",
        "status": "ended",
        "endedReason": "customer-ended-call",
        "createdAt": _INSTANT,
        "updatedAt": _INSTANT,
        "startedAt": _INSTANT,
        "endedAt": _INSTANT,
        "cost": 0.15,
        "costBreakdown": _cost_breakdown(),
        "assistantId": _ASSISTANT_ID,
        "phoneNumberId": "4b1f0a52-7c1e-4d7a-9a53-0d2f6c1be004",
        "customer": _customer(),
        "artifact": {
            "messages": messages,
            "transcript": "\n".join(str(message["message"]) for message in messages),
        },
        "analysis": {"summary": "Nothing of this took place.", "successEvaluation": "true"},
    }


def documented_call() -> dict[str, Any]:
    """Return a call with the structure and size of the example on the documentation page."""
    member = {
        "assistantId": _ASSISTANT_ID,
        "assistant": _assistant(),
        "assistantOverrides": _overrides(),
        "assistantDestinations": [
            {"type": "assistant", "assistantName": _TEXT, "message": _TEXT, "description": _TEXT}
        ],
    }
    message = {
        "role": "user",
        "message": _TEXT,
        "time": 17,
        "endTime": 19,
        "secondsFromStart": 17,
        "duration": 2,
    }
    return {
        "type": "outboundPhoneCall",
        "messages": [message],
        "phoneCallProvider": "twilio",
        "phoneCallTransport": "pstn",
        "status": "ended",
        "endedReason": "customer-ended-call",
        "id": _CALL_ID,
        "orgId": _TEXT,
        "createdAt": _INSTANT,
        "updatedAt": _INSTANT,
        "startedAt": _INSTANT,
        "endedAt": _INSTANT,
        "cost": 0.15,
        "costBreakdown": _cost_breakdown(),
        "transcript": _TEXT,
        "recordingUrl": _URL,
        "stereoRecordingUrl": _URL,
        "artifact": {"videoRecordingUrl": _URL, "videoRecordingStartDelaySeconds": 1},
        "artifactPlan": {"videoRecordingEnabled": False},
        "analysis": {"summary": _TEXT, "structuredData": {}, "successEvaluation": _TEXT},
        "phoneCallProviderId": _TEXT,
        "forwardedPhoneNumber": "+12025550124",
        "assistantId": _ASSISTANT_ID,
        "assistant": _assistant(),
        "assistantOverrides": _overrides(),
        "squadId": _TEXT,
        "squad": {"name": _TEXT, "members": [member], "membersOverrides": _overrides()},
        "phoneNumberId": _TEXT,
        "phoneNumber": {
            "fallbackDestination": {
                "type": "number",
                "number": "+12025550125",
                "message": _TEXT,
                "description": _TEXT,
            },
            "twilioPhoneNumber": "+12025550126",
            "twilioAccountSid": _TEXT,
            "twilioAuthToken": _TEXT,
            "name": _TEXT,
            "assistantId": _ASSISTANT_ID,
            "squadId": _TEXT,
            "serverUrl": _URL,
            "serverUrlSecret": _TEXT,
        },
        "customerId": _TEXT,
        "customer": {**_customer(), "sipUri": "sip:nobody@voice.example", "extension": "12"},
        "name": "Reminder",
    }


def as_printed(call: dict[str, Any]) -> bytes:
    """Return a call's JSON, formatted as in the documentation."""
    return json.dumps(call, indent=2, ensure_ascii=False).encode()


def as_sent(call: dict[str, Any]) -> bytes:
    """Return a call's JSON, formatted as in the API's responses."""
    return json.dumps(call, separators=(",", ":"), ensure_ascii=False).encode()
