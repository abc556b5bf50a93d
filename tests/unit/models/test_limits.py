# SPDX-License-Identifier: Apache-2.0
"""How many calls at once there may be, and the calls that nobody's phone rang for."""

from __future__ import annotations

import math
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from vapi_provider.models.limits import is_blocked, is_over_limit, over_limit, rang_nobody

OVER_LIMIT = "call.start.error-subscription-concurrency-limit-reached"


@pytest.mark.parametrize(
    ("ended_reason", "nobody"),
    [
        (OVER_LIMIT, True),
        ("call.start.error-get-assistant", True),
        ("call.start.error-vapifault-database-error", True),
        ("call.start.error-something-new", True),
        ("call.start.assistant-version-error-validation", True),
        ("call-start-error-neither-assistant-nor-server-set", True),
        ("CALL.START.ERROR-GET-ORG", True),
        ("  call.start.error-get-org\n", True),
        (None, False),
        ("", False),
        ("customer-did-not-answer", False),
        ("customer-busy", False),
        ("customer-ended-call", False),
        ("voicemail", False),
        ("manually-canceled", False),
        ("scheduled-call-deleted", False),
        ("silence-timed-out", False),
        ("assistant-error", False),
        ("twilio-failed-to-connect-call", False),
        ("pipeline-error-openai-llm-failed", False),
        ("pipeline-error-eleven-labs-blocked-concurrent-requests-and-requested-upgrade", False),
        ("call.in-progress.error-assistant-did-not-receive-customer-audio", False),
        ("call.in-progress.error-vapifault-call.start.error-get-org", False),
        ("call.ringing.error-sip-inbound-call-failed-to-connect", False),
        ("call.started.error-something-new", False),
        ("recall.start.error-get-org", False),
        ("call.start.", False),
        ("call.start.customer-ended-call", False),
        ("a new reason", False),
    ],
)
def test_only_a_call_that_failed_at_its_start_rang_nobody(ended_reason: str | None, nobody: bool) -> None:
    assert rang_nobody(ended_reason) is nobody


def test_of_all_known_reasons_only_those_of_the_start_mean_that_nobody_was_rung() -> None:
    text = (Path(__file__).parent / "ended_reasons.txt").read_text()
    reasons = [line for line in text.splitlines() if line and line[0] not in "[#"]
    silent = [reason for reason in reasons if rang_nobody(reason)]
    # One is of an older style.
    assert "call-start-error-neither-assistant-nor-server-set" in silent
    assert {reason.replace("-", ".", 2).split(".")[1] for reason in silent} == {"start"}
    assert len(silent) == 21
    assert [reason for reason in reasons if is_over_limit(reason)] == [OVER_LIMIT]


@pytest.mark.parametrize(
    ("ended_reason", "over"),
    [
        (OVER_LIMIT, True),
        (OVER_LIMIT.upper(), True),
        (f" {OVER_LIMIT}\n", True),
        ("call-start-error-concurrency-limit-reached", True),
        ("call.start.error-org-concurrency-limit", True),
        (None, False),
        ("", False),
        ("call.start.error-vapi-number-outbound-daily-limit", False),
        ("call.start.error-subscription-frozen", False),
        ("call.in-progress.error-concurrency-limit-reached", False),
        ("pipeline-error-eleven-labs-blocked-concurrent-requests-and-requested-upgrade", False),
        ("customer-did-not-answer", False),
    ],
)
def test_a_call_that_was_one_too_many_is_told_by_its_reason(ended_reason: str | None, over: bool) -> None:
    assert is_over_limit(ended_reason) is over
    if over:
        assert rang_nobody(ended_reason)


@pytest.mark.parametrize(
    ("limits", "blocked"),
    [
        ({"concurrencyBlocked": True}, True),
        (MappingProxyType({"concurrencyBlocked": True, "concurrencyLimit": 1}), True),
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
def test_a_call_is_blocked_when_vapi_says_so_and_only_then(limits: Any, blocked: bool) -> None:
    assert is_blocked(limits) is blocked


SILENT = "Vapi does not say how many it may have (10 by default)"


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (
            {"concurrencyLimit": 10, "remainingConcurrentCalls": 0},
            "the organization may have 10 at once, 0 are left.",
        ),
        (
            {"concurrencyLimit": 25.0, "remainingConcurrentCalls": 2.0},
            "the organization may have 25 at once, 2 are left.",
        ),
        ({"concurrencyLimit": 10}, "the organization may have 10 at once."),
        ({"remainingConcurrentCalls": 0}, "nobody was called: 0 are left."),
        ({"concurrencyLimit": "10", "remainingConcurrentCalls": 0}, "nobody was called: 0 are left."),
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
def test_the_limit_is_named_as_far_as_vapi_tells_it(limits: Any, says: str) -> None:
    text = over_limit(limits)
    assert text.startswith("The organization has too many calls at once, so nobody was called: ")
    assert says in text
    assert text.endswith("run fewer tasks at once (pool, max_active_tis_per_dag).")
    assert not {"nan", "inf", "None", "True"} & set(text.replace(",", " ").split())
