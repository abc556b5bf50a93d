# SPDX-License-Identifier: Apache-2.0
"""What the end of a call means to somebody who runs a campaign."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vapi_provider.models.call import Call
from vapi_provider.models.outcome import CallOutcome, outcome_of


def known_reasons() -> Iterator[tuple[str, str]]:
    outcome = ""
    for line in (Path(__file__).parent / "ended_reasons.txt").read_text().splitlines():
        if line.startswith("["):
            outcome = line.strip("[]")
        elif line and not line.startswith("#"):
            yield line, outcome


def test_every_reason_that_vapi_has_named_means_what_the_table_says() -> None:
    reasons = list(known_reasons())
    wrong = {reason: outcome_of(reason) for reason, outcome in reasons if outcome_of(reason) != outcome}
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
def test_a_new_name_in_a_known_family_falls_into_it(reason: str, outcome: CallOutcome) -> None:
    assert outcome_of(reason) is outcome


@pytest.mark.parametrize("reason", [None, "", " ", "carried-off-by-owls"])
def test_no_reason_and_a_reason_of_no_family_are_unknown(reason: str | None) -> None:
    assert outcome_of(reason) is CallOutcome.UNKNOWN


def test_a_reason_is_read_without_regard_to_case_and_white_space() -> None:
    assert outcome_of(" Customer-Busy\n") is CallOutcome.NO_ANSWER


def test_an_outcome_is_its_own_string() -> None:
    assert CallOutcome.NO_ANSWER == "no_answer"
    assert f"{CallOutcome.NO_ANSWER}" == str(CallOutcome.NO_ANSWER) == "no_answer"


@pytest.mark.parametrize("status", ["scheduled", "queued", "ringing", "in-progress", "forwarding", None])
def test_a_call_has_no_outcome_before_its_end(status: str | None) -> None:
    call = Call.model_validate({"id": "1", "status": status, "endedReason": "voicemail"})
    assert call.outcome is None


def test_a_call_that_ended_without_a_reason_has_an_unknown_outcome() -> None:
    assert Call.model_validate({"id": "1", "status": "ended"}).outcome is CallOutcome.UNKNOWN
