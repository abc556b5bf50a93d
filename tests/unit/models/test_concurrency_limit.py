# SPDX-License-Identifier: Apache-2.0
"""The organization's concurrency limit, as reported in the response to a placement."""

from __future__ import annotations

import math
from typing import Any

import pytest

from vapi_provider.models.call import Call, over_limit_message

LIMITS = ("concurrencyLimit", "remainingConcurrentCalls", "concurrencyBlocked")


@pytest.mark.parametrize(
    ("limits", "blocked"),
    [
        ({"concurrencyBlocked": True}, True),
        ({"concurrencyBlocked": True, "concurrencyLimit": 1}, True),
        ({"concurrencyBlocked": False}, False),
        ({"concurrencyBlocked": "true"}, False),
        ({"concurrencyBlocked": 1}, False),
        ({"concurrencyBlocked": None}, False),
        ({}, False),
        (None, False),
        ([True], False),
        ("concurrencyBlocked", False),
    ],
    ids=repr,
)
def test_call_is_blocked_only_if_vapi_says_so(limits: Any, blocked: bool) -> None:
    call = Call.model_validate({"id": "1", "subscriptionLimits": limits})
    assert call.is_concurrency_blocked is blocked
    expected = {name: limits.get(name) for name in LIMITS} if isinstance(limits, dict) else None
    assert call.limits == expected


def test_limits_have_only_known_fields() -> None:
    known = {"concurrencyLimit": 10, "remainingConcurrentCalls": 2, "concurrencyBlocked": False}
    limits = {**known, "note": "planted", "limits": {"deep": "planted"}}
    assert Call.model_validate({"id": "1", "subscriptionLimits": limits}).limits == known


SILENT = "Vapi does not report the limit, which is 10 by default"


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (
            {"concurrencyLimit": 10, "remainingConcurrentCalls": 0},
            "(the limit is 10, 0 left), so",
        ),
        (
            {"concurrencyLimit": 25.0, "remainingConcurrentCalls": 2.0},
            "(the limit is 25, 2 left), so",
        ),
        ({"concurrencyLimit": 10}, "(the limit is 10), so"),
        ({"remainingConcurrentCalls": 0}, "(0 left), so the phone did not ring."),
        ({"concurrencyLimit": "10", "remainingConcurrentCalls": 0}, "(0 left), so the phone did not ring."),
        ({"concurrencyLimit": math.nan, "remainingConcurrentCalls": math.inf}, SILENT),
        ({"concurrencyLimit": "10", "remainingConcurrentCalls": "0"}, SILENT),
        ({"concurrencyLimit": None, "remainingConcurrentCalls": None}, SILENT),
        ({"concurrencyLimit": True, "remainingConcurrentCalls": [0]}, SILENT),
        ({"concurrencyLimit": 10**400}, SILENT),
        ({}, SILENT),
        (None, SILENT),
        ([10, 0], SILENT),
        ("10", SILENT),
    ],
    ids=lambda value: str(value)[:60],
)
def test_message_includes_the_limits_that_vapi_reports(limits: Any, says: str) -> None:
    text = over_limit_message(limits)
    assert text.startswith("The organization is over its concurrency limit (")
    assert says in text
    assert text.endswith("A later try may succeed.")
    assert not {"nan", "inf", "None", "True"} & set(text.replace(",", " ").split())
