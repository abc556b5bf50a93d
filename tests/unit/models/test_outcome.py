# SPDX-License-Identifier: Apache-2.0
"""The outcome of a call, derived from Vapi's ``endedReason``."""

from __future__ import annotations

from typing import Any

import pytest

from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.models.call import Call
from vapi_provider.models.outcome import (
    CallOutcome,
    check_outcomes,
    is_over_limit,
    outcome_of,
    was_never_dialled,
)
from vapi_provider.simulator.reasons import known_reasons


def test_known_reasons_have_their_outcome() -> None:
    reasons = known_reasons()
    wrong = {
        reason: outcome_of(reason) for reason, outcome in reasons.items() if outcome_of(reason) != outcome
    }
    assert wrong == {}
    assert len(reasons) > 600


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("pipeline-error-some-new-vendor-llm-failed", CallOutcome.FAILED),
        ("call.in-progress.error-providerfault-new-vendor-500-server-error", CallOutcome.FAILED),
        ("call.in-progress.error-vapifault-new-fault", CallOutcome.FAILED),
        ("call.start.error-new-check", CallOutcome.FAILED),
        ("assistant-lost-its-way", CallOutcome.FAILED),
        ("twilio-something-new", CallOutcome.FAILED),
        ("assistant-ended-call-politely", CallOutcome.COMPLETED),
        ("customer-ended-call-in-a-new-way", CallOutcome.COMPLETED),
        ("exceeded-some-limit", CallOutcome.COMPLETED),
        ("customer-did-not-hear-the-phone", CallOutcome.NO_ANSWER),
        ("voicemail-beep-detected", CallOutcome.NO_ANSWER),
        ("call.in-progress.error-providerfault-outbound-sip-486-busy-here", CallOutcome.NO_ANSWER),
        ("manually-cancelled", CallOutcome.CANCELLED),
        ("scheduled-call-expired", CallOutcome.CANCELLED),
    ],
)
def test_new_reason_belongs_to_its_family(reason: str, outcome: CallOutcome) -> None:
    assert outcome_of(reason) is outcome


@pytest.mark.parametrize("reason", [None, "", " ", "carried-off-by-owls"])
def test_reasons_without_a_family_are_unknown(reason: str | None) -> None:
    assert outcome_of(reason) is CallOutcome.UNKNOWN


def test_reason_ignores_case_and_whitespace() -> None:
    assert outcome_of(" Customer-Busy\n") is CallOutcome.NO_ANSWER


def test_outcome_is_a_string() -> None:
    assert CallOutcome.NO_ANSWER == "no_answer"
    assert f"{CallOutcome.NO_ANSWER}" == str(CallOutcome.NO_ANSWER) == "no_answer"


@pytest.mark.parametrize("status", ["scheduled", "queued", "ringing", "in-progress", "forwarding", None])
def test_call_has_no_outcome_before_its_end(status: str | None) -> None:
    call = Call.model_validate({"id": "1", "status": status, "endedReason": "voicemail"})
    assert call.outcome is None


@pytest.mark.parametrize("status", ["not-found", "deletion-failed"])
def test_call_that_never_took_place_has_no_outcome(status: str) -> None:
    for reason in ("customer-ended-call", None):
        call = Call.model_validate({"id": "1", "status": status, "endedReason": reason})
        assert call.outcome is call.summary()["outcome"] is None


def test_outcome_without_a_reason_is_unknown() -> None:
    assert Call.model_validate({"id": "1", "status": "ended"}).outcome is CallOutcome.UNKNOWN


# Calls that were never dialled.


OVER_LIMIT = "call.start.error-subscription-concurrency-limit-reached"


@pytest.mark.parametrize(
    ("ended_reason", "never"),
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
def test_only_calls_that_failed_at_the_start_never_rang(ended_reason: str | None, never: bool) -> None:
    assert was_never_dialled(ended_reason) is never


def test_known_reasons_that_never_rang() -> None:
    reasons = list(known_reasons())
    silent = [reason for reason in reasons if was_never_dialled(reason)]
    # This one has the older spelling.
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
def test_reason_shows_that_a_call_was_over_the_limit(ended_reason: str | None, over: bool) -> None:
    assert is_over_limit(ended_reason) is over
    if over:
        assert was_never_dialled(ended_reason)


# fail_on.


@pytest.mark.parametrize(
    ("given", "outcomes"),
    [
        ((), ()),
        (["failed"], (CallOutcome.FAILED,)),
        ({CallOutcome.NO_ANSWER}, (CallOutcome.NO_ANSWER,)),
        (("no_answer", CallOutcome.UNKNOWN), (CallOutcome.NO_ANSWER, CallOutcome.UNKNOWN)),
        (list(CallOutcome), tuple(CallOutcome)),
    ],
)
def test_fail_on_accepts_outcomes_and_their_values(given: Any, outcomes: tuple[CallOutcome, ...]) -> None:
    assert check_outcomes("fail_on", given) == outcomes


@pytest.mark.parametrize(
    "given", ["failed", "", CallOutcome.FAILED, None, 7, ["FAILED"], ["failed", 7], [None], [[]]], ids=repr
)
def test_invalid_fail_on_is_refused(given: Any) -> None:
    with pytest.raises(
        VapiConfigurationError, match=r"fail_on must be a list of known outcomes \(completed, "
    ) as caught:
        check_outcomes("fail_on", given)
    assert str(caught.value).endswith(f"; got {given!r}. Nothing was sent.")
