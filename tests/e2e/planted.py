# SPDX-License-Identifier: Apache-2.0
"""Secrets planted in realistic places, and searched for everywhere else."""

from __future__ import annotations

import secrets
from typing import Any


class Planted:
    """The secrets of one test run, each of them unique."""

    def __init__(self) -> None:
        self._mark = secrets.token_hex(6)
        self.api_key = f"sk-key-{secrets.token_hex(12)}"
        self.words = f"said in confidence {self._mark}"

    def __getitem__(self, name: str) -> str:
        return f"planted-{name}-{self._mark}"

    @property
    def all(self) -> dict[str, str]:
        """The secrets that must not be found anywhere, by name."""
        names = (
            "twilio",
            "credential",
            "server-secret",
            "header",
            "control",
            "listen",
            "presigned",
            "recording",
        )
        return {"the API key": self.api_key, "what was said": self.words} | {
            name: self[name] for name in names
        }

    def call(self) -> dict[str, Any]:
        """Return the fields of a call with secrets wherever Vapi's calls contain them."""
        return {
            "name": "Reminder",
            "phoneNumber": {
                "twilioAccountSid": "AC0",
                "twilioPhoneNumber": "+12025550100",
                "twilioAuthToken": self["twilio"],
            },
            "assistant": {
                "name": "Receptionist",
                "credentials": [{"provider": "openai", "apiKey": self["credential"]}],
                "server": {
                    "url": "https://hooks.example.invalid/vapi",
                    "secret": self["server-secret"],
                    "headers": {"X-Api-Key": self["header"]},
                },
            },
            "monitor": {
                "controlUrl": f"https://control.example.invalid/{self['control']}/control",
                "listenUrl": f"wss://listen.example.invalid/{self['listen']}/listen",
            },
            "artifact": {
                "transcript": f"AI: Hello.\nUser: {self.words}",
                "messages": [{"role": "user", "message": self.words, "time": 0}],
                "recordingUrl": f"https://storage.example.invalid/{self['recording']}.wav",
                "presignedUrl": f"https://storage.example.invalid/x.wav?X-Amz-Signature={self['presigned']}",
            },
            "transcript": f"AI: Hello.\nUser: {self.words}",
            "summary": self.words,
            "analysis": {"summary": self.words},
        }
