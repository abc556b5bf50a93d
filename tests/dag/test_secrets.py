# SPDX-License-Identifier: Apache-2.0
"""
No secret that Vapi sends leaves a task.

Every field of a call that contains a credential, a URL that works without a key, or something that was said gets a
marker. Then everything that a run leaves behind is searched for them: database, logs, output and exceptions.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from left_behind import shown_by

from vapi_provider.exceptions import VapiError
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.simulator import Fault, VapiSimulator

API_KEY = "7d1c0b54-93e6-4f0a-8a55-5ec4e7a2b9d1"
NUMBER = "+12025550118"

RunDag = Callable[..., Any]


@dataclass
class Marks:
    """The planted markers, each with its place."""

    secret: dict[str, str] = field(default_factory=dict)
    """Markers that must not be found anywhere."""
    asked_for: dict[str, str] = field(default_factory=dict)
    """Markers that may be found only where ``include`` puts them."""

    def no(self, place: str) -> str:
        return self._plant(self.secret, place)

    def url(self, place: str) -> str:
        return f"https://storage.example.invalid/{self.no(place)}.wav"

    def yes(self, place: str) -> str:
        return self._plant(self.asked_for, place)

    def _plant(self, marks: dict[str, str], place: str) -> str:
        mark = f"mark-{uuid.uuid4().hex}"
        marks[mark] = place
        return mark

    def hidden_in(self, text: str) -> list[str]:
        """Return the places of the markers found in a text, and of the API key."""
        found = [place for mark, place in {**self.secret, **self.asked_for}.items() if mark in text]
        return found + ["the API key"] * (API_KEY in text)


def server(marks: Marks, place: str) -> dict[str, Any]:
    return {
        "url": "https://hooks.example.invalid",
        "secret": marks.no(f"{place}.server.secret"),
        "headers": {"X-Auth": marks.no(f"{place}.server.headers")},
    }


def credentials(marks: Marks, place: str) -> list[dict[str, Any]]:
    return [
        {"provider": "openai", "apiKey": marks.no(f"{place}.credentials.apiKey")},
        {
            "provider": "webhook",
            "authenticationPlan": {"oauth2": {"clientSecret": marks.no(f"{place}.credentials.clientSecret")}},
        },
        {"provider": "gcp", "gcpKey": {"privateKey": marks.no(f"{place}.credentials.privateKey")}},
    ]


def assistant(marks: Marks, place: str) -> dict[str, Any]:
    """Return an assistant, or overrides of one, with a secret in every secret field."""
    tool = {
        "type": "function",
        "function": {"name": "book", "description": marks.no(f"{place}.tools.description")},
        "server": server(marks, f"{place}.tools"),
        "headers": {"Authorization": marks.no(f"{place}.tools.headers")},
    }
    return {
        "name": "Riley",
        "serverUrl": "https://hooks.example.invalid",
        "serverUrlSecret": marks.no(f"{place}.serverUrlSecret"),
        "server": server(marks, place),
        "credentials": credentials(marks, place),
        "model": {
            "provider": "custom-llm",
            "headers": {"Authorization": marks.no(f"{place}.model.headers")},
            "messages": [{"role": "system", "content": marks.no(f"{place}.model.messages")}],
            "tools": [tool],
        },
        "voice": {"fallbackPlan": {"voices": [{"server": server(marks, f"{place}.voice")}]}},
        "variableValues": {"patient": marks.no(f"{place}.variableValues")},
        "metadata": {"record": marks.no(f"{place}.metadata")},
    }


def artifact(marks: Marks) -> dict[str, Any]:
    return {
        "transcript": marks.yes("transcript"),
        "messages": [
            {"role": "system", "message": marks.no("artifact.messages of the system")},
            {
                "role": "bot",
                "message": marks.yes("messages of the bot"),
                "time": 1.0,
                "metadata": marks.no("words"),
            },
            {"role": "user", "message": marks.yes("messages of the user"), "secondsFromStart": 1.5},
            {
                "role": "tool_calls",
                "message": "",
                "toolCalls": [
                    {"function": {"arguments": json.dumps({"token": marks.no("artifact.toolCalls")})}}
                ],
            },
            {"role": "tool_call_result", "name": "book", "result": marks.no("artifact.tool results")},
        ],
        "messagesOpenAIFormatted": [
            {"role": "system", "content": marks.no("artifact.messagesOpenAIFormatted")}
        ],
        "recordingUrl": marks.url("artifact.recordingUrl"),
        "stereoRecordingUrl": marks.url("artifact.stereoRecordingUrl"),
        "videoRecordingUrl": marks.url("artifact.videoRecordingUrl"),
        "presignedRecordingUrl": marks.url("artifact.presignedRecordingUrl"),
        "presignedLogUrl": marks.url("artifact.presignedLogUrl"),
        "pcapUrl": marks.url("artifact.pcapUrl"),
        "logUrl": marks.url("artifact.logUrl"),
        "recording": {
            "stereoUrl": marks.url("artifact.recording.stereoUrl"),
            "mono": {"combinedUrl": marks.url("artifact.recording.mono.combinedUrl")},
        },
        "variableValues": {"patient": marks.no("artifact.variableValues")},
        "structuredOutputs": {
            "0198a3f0-0000-7000-8000-00000000000a": {
                "name": "Appointment",
                "result": {"day": marks.yes("structuredOutputs.result")},
                "server": server(marks, "structuredOutputs"),
            }
        },
    }


def planted_call(marks: Marks) -> dict[str, Any]:
    """Return a call's fields that contain secrets, including fields that are still unknown."""
    member = {
        "assistant": assistant(marks, "squad.members"),
        "assistantOverrides": assistant(marks, "members"),
    }
    return {
        "name": f"Reminder {API_KEY}",
        "assistant": assistant(marks, "assistant"),
        "assistantOverrides": assistant(marks, "assistantOverrides"),
        "squad": {"members": [member], "membersOverrides": assistant(marks, "squad.membersOverrides")},
        "phoneNumber": {
            "number": "+12025550118",
            "twilioAuthToken": marks.no("phoneNumber.twilioAuthToken"),
            "twilioApiKey": marks.no("phoneNumber.twilioApiKey"),
            "twilioApiSecret": marks.no("phoneNumber.twilioApiSecret"),
            "serverUrlSecret": marks.no("phoneNumber.serverUrlSecret"),
            "server": server(marks, "phoneNumber"),
        },
        "credentials": credentials(marks, "call"),
        "server": server(marks, "call"),
        "sipHeaders": {"X-Token": marks.no("sipHeaders")},
        "transport": {
            "callToken": marks.no("transport.callToken"),
            "sipHeaders": {"X": marks.no("transport")},
        },
        "monitor": {
            "controlUrl": marks.url("monitor.controlUrl"),
            "listenUrl": marks.url("monitor.listenUrl"),
        },
        "destination": {"number": "+12025550119", "message": marks.no("destination.message")},
        "metadata": {"record": marks.no("metadata")},
        "customer": {
            "number": NUMBER,
            "name": marks.yes("customer.name"),
            "email": f"{marks.yes('customer.email')}@example.invalid",
            "externalId": marks.yes("customer.externalId"),
            "assistantOverrides": assistant(marks, "customer.assistantOverrides"),
        },
        "artifact": artifact(marks),
        "recordingUrl": marks.url("recordingUrl"),
        "stereoRecordingUrl": marks.url("stereoRecordingUrl"),
        "analysis": {
            "summary": marks.yes("analysis.summary"),
            "structuredData": {"mood": marks.yes("analysis.structuredData")},
            "successEvaluation": "true",
            "plan": {"server": server(marks, "analysis")},
        },
        "cost": 0.12,
        "costBreakdown": {"total": 0.12, "note": marks.no("costBreakdown")},
        "costs": [{"type": "model", "model": {"headers": {"X": marks.no("costs.model.headers")}}}],
        "aNewField": {"deep": [{"server": server(marks, "aNewField")}]},
    }


@pytest.fixture
def marks() -> Marks:
    return Marks()


@pytest.fixture
def vapi_options() -> dict[str, Any]:
    return {"api_key": API_KEY}


def places(marks: Marks, left: dict[str, str]) -> dict[str, list[str]]:
    return {where: found for where, text in left.items() if (found := marks.hidden_in(text))}


def test_success_stores_included_content_and_no_secret(
    simulator: VapiSimulator, run_dag: RunDag, marks: Marks, left_behind: Callable[..., dict[str, str]]
) -> None:
    call_id = simulator.add_call(status="ended", body=planted_call(marks))
    live = {**simulator.get_call(call_id), "status": "in-progress"}
    simulator.faults.add(Fault(path=f"/call/{call_id}", body=json.dumps(live)))
    echo = {**live, "name": f"Bearer {API_KEY}", "endedReason": f"error-{API_KEY}"}
    simulator.faults.add(Fault(method="PATCH", path=f"/call/{call_id}", body=json.dumps(echo)))

    run = run_dag("everything_included", call_id=call_id)
    assert (run.states("wait"), run.states("rename")) == (["success"], ["success"])
    (waited,), (renamed,) = run.results("wait"), run.results("rename")
    assert (waited["name"], renamed["name"]) == ("Reminder ***", "Bearer ***")

    left = left_behind(simulator)
    # The included content is found, so secrets would be found, too.
    assert places(marks, {"xcom": left.pop("xcom")}) == {"xcom": list(marks.asked_for.values())}
    assert marks.hidden_in(json.dumps(waited)) == list(marks.asked_for.values())
    assert places(marks, left) == {}
    assert marks.hidden_in(json.dumps(renamed)) == []
    assert NUMBER in json.dumps(waited)
    assert [where for where, text in left.items() if NUMBER in text] == []
    assert call_id in left["rendered_task_instance_fields"]
    assert call_id in left["stdout"]


def test_failure_of_a_run_shows_no_secret(
    simulator: VapiSimulator, run_dag: RunDag, marks: Marks, left_behind: Callable[..., dict[str, str]]
) -> None:
    call_id = simulator.add_call(status="not-found", body=planted_call(marks))
    error = {"message": [f"key {API_KEY} may not", "do this"], "error": "Forbidden", "statusCode": 403}
    simulator.faults.add(Fault(method="PATCH", status=403, body=json.dumps(error)))
    run = run_dag("everything_included", call_id=call_id)
    assert (run.states("wait"), run.states("rename")) == (["failed"], ["failed"])
    assert "key *** may not; do this" in run.failures[1]
    assert places(marks, left_behind(simulator)) == {}


@pytest.mark.parametrize("soft_fail", [False, True], ids=["hard", "soft"])
def test_no_failure_shows_a_secret(
    simulator: VapiSimulator,
    run_dag: RunDag,
    marks: Marks,
    left_behind: Callable[..., dict[str, str]],
    soft_fail: bool,
) -> None:
    body = planted_call(marks)

    def call(**fields: Any) -> str:
        return simulator.add_call(body={**body, "status": "ringing", **fields})

    def at_second_poke(**fault: Any) -> str:
        call_id = call()
        simulator.faults.add(Fault(path=f"/call/{call_id}"))
        simulator.faults.add(Fault(path=f"/call/{call_id}", **fault))
        simulator.faults.add(Fault(path=f"/call/{call_id}", status=404))
        return call_id

    said = f"Bearer {API_KEY} of {marks.no('an error body')}"
    waits = [
        call(status="ended", endedReason="customer-busy"),
        call(status="not-found"),
        call(status=f"gone-{API_KEY}", endedAt="2026-08-01T10:00:00Z", endedReason="voicemail"),
        at_second_poke(status=400, body=json.dumps({"message": f"not with {API_KEY}", "statusCode": 400})),
        at_second_poke(status=400, body=json.dumps({**body, "id": API_KEY})),
        at_second_poke(status=500, body=f"<html><title>{API_KEY}</title>{said}", content_type="text/html"),
        at_second_poke(status=302, headers={"Location": f"https://{API_KEY}.example.invalid/?key={API_KEY}"}),
        at_second_poke(body=f"<html><title>{API_KEY}</title>{said}", content_type="text/html"),
        at_second_poke(body=json.dumps([body])),
        at_second_poke(body=json.dumps({**body, "id": None})),
        at_second_poke(body=json.dumps({**body, "id": API_KEY})),
        at_second_poke(body=json.dumps(body)[:-200]),
        at_second_poke(reset="midway"),
    ]
    run = run_dag(
        f"wait_poke_{'soft' if soft_fail else 'hard'}",
        # A skip has the same message as the failure.
        waits=[
            {"call_id": call(), "timeout": 0},
            *({"call_id": call_id} for call_id in waits[:: 4 if soft_fail else 1]),
        ],
    )
    assert set(run.states("wait")) == {"skipped" if soft_fail else "failed"}
    assert places(marks, left_behind(simulator)) == {}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(status=401, body=f"no {API_KEY}"), id="plain-text"),
        pytest.param(Fault(status=400, body=json.dumps({"message": API_KEY, "statusCode": 400})), id="json"),
        pytest.param(Fault(status=503, headers={"X-Key": API_KEY}), id="header"),
        pytest.param(Fault(body=f"<title>{API_KEY}</title>", content_type="text/html"), id="page"),
        pytest.param(Fault(body=json.dumps({"name": API_KEY})), id="call-without-id"),
        pytest.param(Fault(body=json.dumps({"id": API_KEY})), id="another-call"),
        pytest.param(Fault(reset="before"), id="reset"),
        pytest.param(Fault(delay=60), id="time-out"),
        pytest.param(None, id="refused"),
    ],
)
def test_error_of_the_hook_never_contains_the_key(
    simulator: VapiSimulator, fault: Fault | None, set_connection: Callable[..., None]
) -> None:
    set_connection(simulator, extra={"max_retries": 0, "timeout": 1})
    call_id = simulator.add_call()
    if fault is None:
        simulator.stop()
    else:
        simulator.faults.add(fault)
    with pytest.raises(VapiError) as failure:
        VapiHook().get_call(call_id)
    shown = shown_by(failure.value)
    assert API_KEY not in shown
    assert f"/call/{call_id}" in shown


def test_repr_of_a_call_shows_no_content(simulator: VapiSimulator, marks: Marks) -> None:
    call_id = simulator.add_call(status="ringing", body=planted_call(marks))
    call = VapiHook().get_call(call_id)
    shown = [repr(call), str(call), f"{call}", f"{[call]}", repr(call.summary())]
    assert [text for text in shown if call_id not in text] == []
    assert marks.hidden_in("\n".join(shown)) == []
    # All of it was in the response.
    sent = json.dumps(simulator.get_call(call_id))
    assert set(marks.secret.values()) <= set(marks.hidden_in(sent))
    assert marks.hidden_in(json.dumps(call.model_extra))
