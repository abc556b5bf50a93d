# SPDX-License-Identifier: Apache-2.0
"""Vapi's Call, in which new, null, missing or oddly typed properties are never an error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import AliasGenerator, BaseModel, ConfigDict, PrivateAttr, model_validator
from pydantic.alias_generators import to_camel

from vapi_provider.models.cleaning import clean_line, finite_number, only
from vapi_provider.models.fields import Instant, List, Number, Object, Text, within
from vapi_provider.models.outcome import CallOutcome, had_conversation, outcome_of
from vapi_provider.models.results import (
    ANALYSIS,
    OUTPUTS,
    Results,
    analysis_progress,
    outputs_progress,
    overridden,
)
from vapi_provider.models.summary import CallSummary, summarize


class CallStatus:
    """Known call statuses; Vapi may send others."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RINGING = "ringing"
    IN_PROGRESS = "in-progress"
    FORWARDING = "forwarding"
    ENDED = "ended"
    NOT_FOUND = "not-found"
    DELETION_FAILED = "deletion-failed"

    LIVE = frozenset({SCHEDULED, QUEUED, RINGING, IN_PROGRESS, FORWARDING})
    """Statuses of a call that is not over."""
    TERMINAL = frozenset({ENDED, NOT_FOUND, DELETION_FAILED})
    """Final statuses; only ``ended`` means that the call took place."""


REASON_SECONDS = 15.0
"""How long after the status ``ended`` its reason may arrive."""
STUCK_SECONDS = 60.0
"""How old an end with a reason must be to count despite a live status."""

_LIMITS = ("concurrencyLimit", "remainingConcurrentCalls", "concurrencyBlocked")


class CallStatusView(BaseModel):
    """
    The part of a call that shows whether it is over, how it ended, and which results have arrived.

    Cheap to parse, because everything else is skipped; see :class:`Call` for the whole.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        alias_generator=AliasGenerator(validation_alias=to_camel),
        extra="ignore",
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    id: str
    status: Text = None
    type: Text = None
    assistant_id: Text = None
    phone_number_id: Text = None
    cost: Number = None
    ended_reason: Text = None
    created_at: Instant = None
    updated_at: Instant = None
    started_at: Instant = None
    ended_at: Instant = None
    planned_at: Instant = within("schedulePlan", "earliestAt")
    analysis: Object = None
    structured_outputs: Object = within("artifact", "structuredOutputs")
    skipped_structured_outputs: Object = within("artifact", "skippedStructuredOutputs")
    analysis_plan: Object = within("assistant", "analysisPlan")
    analysis_plan_override: Object = within("assistantOverrides", "analysisPlan")
    artifact_plan: Object = within("assistant", "artifactPlan")
    artifact_plan_override: Object = within("assistantOverrides", "artifactPlan")

    _responded_at: datetime | None = PrivateAttr(default=None)

    @property
    def has_known_status(self) -> bool:
        """Whether this package knows the status."""
        return self._status() in CallStatus.LIVE | CallStatus.TERMINAL

    @property
    def is_terminal(self) -> bool:
        """
        Whether the call is over.

        An unknown status counts as final once ``endedAt`` is set. So does a live one with an ``endedReason``, one minute
        after ``endedAt``.
        """
        if self._status() in CallStatus.TERMINAL:
            return True
        if self.status is None or self.has_known_status:
            return self.over_in == 0
        return self.ended_at is not None

    @property
    def is_queued(self) -> bool:
        """Whether the call is waiting to be dialled."""
        return self._status() == CallStatus.QUEUED

    @property
    def is_scheduled(self) -> bool:
        """Whether the call is scheduled for later."""
        return self._status() == CallStatus.SCHEDULED

    @property
    def has_ended(self) -> bool:
        """Whether the call took place and is over, unlike ``not-found`` and ``deletion-failed``."""
        return self.is_terminal and self._status() not in (CallStatus.NOT_FOUND, CallStatus.DELETION_FAILED)

    @property
    def outcome(self) -> CallOutcome | None:
        """The call's outcome; None unless the call has ended."""
        return outcome_of(self.ended_reason) if self.has_ended else None

    @property
    def has_analysis(self) -> bool:
        """Whether any part of the analysis has arrived."""
        return self.results((ANALYSIS,)).arrived > 0

    @property
    def had_conversation(self) -> bool:
        """Whether a conversation took place or a voicemail was reached; otherwise there are no results."""
        return had_conversation(self.ended_reason, has_started=self.started_at is not None)

    @property
    def responded_at(self) -> datetime | None:
        """When Vapi sent this, by Vapi's own clock; None if the hook did not read the call."""
        return self._responded_at

    @property
    def over_in(self) -> float | None:
        """The seconds until the end counts despite a live status; None without an end or a reason."""
        return self._left(STUCK_SECONDS) if self.ended_at and self._has_reason and self.responded_at else None

    @property
    def reason_due_in(self) -> float:
        """For how many more seconds the reason may still arrive; 0 once it has."""
        return self._left(REASON_SECONDS) if self.has_ended and not self._has_reason else 0.0

    def results(self, wanted: tuple[str, ...]) -> Results:
        """
        Return the progress of the results.

        :param wanted: which results; empty for whichever arrives first
        """
        kinds = {
            ANALYSIS: lambda: analysis_progress(
                self.analysis, overridden(self.analysis_plan, self.analysis_plan_override)
            ),
            OUTPUTS: lambda: outputs_progress(
                self.structured_outputs,
                self.skipped_structured_outputs,
                overridden(self.artifact_plan, self.artifact_plan_override),
            ),
        }
        return Results(tuple(kinds[name]() for name in wanted or kinds), is_one_enough=not wanted)

    def results_due_in(self, wanted: tuple[str, ...], timeout: float, before: int | None = None) -> float:
        """
        Return how much longer to wait for the results.

        :param wanted: which results; empty for whichever arrives first
        :param timeout: the longest wait after the call's end, in seconds
        :param before: the number of parts at the previous poll; None if unknown
        :return: the seconds left when Vapi responded, by Vapi's own clock; 0 if there is nothing to wait for
        """
        is_done = not self.has_ended or not self.had_conversation or self.results(wanted).have_arrived(before)
        return 0.0 if is_done else self._left(timeout)

    @property
    def _has_reason(self) -> bool:
        return bool((self.ended_reason or "").strip())

    def _left(self, timeout: float) -> float:
        """Return the seconds left of a timeout after the end when Vapi responded."""
        ended_at = self.ended_at or self.updated_at
        if ended_at is None or self.responded_at is None:
            return 0.0
        # Vapi's clocks can differ by seconds, which must not lengthen the wait.
        elapsed = max(0.0, (self.responded_at - ended_at).total_seconds())
        return max(0.0, timeout - elapsed)

    def _status(self) -> str:
        return (self.status or "").lower()

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [("id", self.id), ("status", self.status)]

    def __str__(self) -> str:
        return repr(self)


class PlacedCallView(CallStatusView):
    """The part of a call that shows which task placed it and whether a phone rang."""

    name: Text = None
    assistant_overrides: Object = None
    squad_overrides: Object = None


ViewT = TypeVar("ViewT", bound=CallStatusView)


@dataclass(frozen=True)
class CallPage(Generic[ViewT]):
    """
    One page of the list of calls.

    :param rows: the calls that could be parsed, in Vapi's order
    :param length: the number of rows on the page, including unparsable ones
    :param size: the size of the page in bytes
    :param responded_at: when Vapi sent it, by Vapi's own clock
    """

    rows: list[ViewT]
    length: int
    size: int
    responded_at: datetime


class Call(CallStatusView):
    """
    A call as Vapi's API returns it (https://docs.vapi.ai/api-reference/calls/get).

    The fields that the package uses or documents are declared, in snake_case. All others are kept unchanged under Vapi's own
    names (``call.model_extra["orgId"]``). A declared field whose value is missing or unreadable is None; only ``id`` is
    required. A call contains credentials, capability URLs and everything that was said, so store its :meth:`summary`
    instead. ``repr`` shows only id and status.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    name: Text = None
    cost_breakdown: Object = None
    assistant: Object = None
    assistant_overrides: Object = None
    customer: Object = None
    schedule_plan: Object = None
    artifact: Object = None
    messages: List = None
    transcript: Text = None
    recording_url: Text = None
    stereo_recording_url: Text = None

    @model_validator(mode="before")
    @classmethod
    def _clean_keys(cls, body: Any) -> Any:
        """Clean the names of properties, because pydantic refuses lone surrogates in them."""
        if not isinstance(body, dict) or "".join(body).isascii():
            return body
        return {clean_line(key): value for key, value in body.items()}

    @model_validator(mode="after")
    def _read_artifact(self) -> Call:
        """Read transcript and recordings from ``artifact`` or, as in 2024, from the top level."""
        artifact = self.artifact or {}
        self.messages = only(list)(artifact.get("messages")) or self.messages
        self.transcript = only(str)(artifact.get("transcript")) or self.transcript
        self.recording_url = only(str)(artifact.get("recordingUrl")) or self.recording_url
        self.stereo_recording_url = only(str)(artifact.get("stereoRecordingUrl")) or self.stereo_recording_url
        return self

    @property
    def limits(self) -> dict[str, Any] | None:
        """The organization's limits, which Vapi sends in the response to a placement."""
        limits = (self.model_extra or {}).get("subscriptionLimits")
        return {name: limits.get(name) for name in _LIMITS} if isinstance(limits, dict) else None

    @property
    def is_concurrency_blocked(self) -> bool:
        """Whether Vapi accepted the call without dialling it because of the concurrency limit."""
        return self.limits is not None and self.limits.get("concurrencyBlocked") is True

    @property
    def duration_seconds(self) -> float | None:
        """The seconds from start to end; None if either is unknown."""
        if self.started_at is None or self.ended_at is None:
            return None
        return max(0.0, (self.ended_at - self.started_at).total_seconds())

    def summary(self, include: Iterable[str] = ()) -> CallSummary:
        """
        Return the part of the call that is safe to store.

        It contains no credentials, capability URLs or control characters.

        :param include: names of content to add: analysis, cost_breakdown, customer, messages, structured_outputs,
            transcript
        :raises VapiConfigurationError: for an unknown name in ``include``
        :return: id, status, type, name, ended_reason, outcome, created_at, started_at, ended_at (ISO strings),
            duration_seconds, cost (US dollars), assistant_id, phone_number_id, and one key per name in ``include``;
            missing values are None
        """
        return summarize(self, include)


def over_limit_message(limits: Any) -> str:
    """
    Return the message of an error about the concurrency limit.

    :param limits: the ``subscriptionLimits`` of the response, if it has any
    """
    limits = limits if isinstance(limits, dict) else {}
    limit = finite_number(limits.get("concurrencyLimit"))
    left = finite_number(limits.get("remainingConcurrentCalls"))
    known = [
        f"the limit is {limit:g}" if limit is not None else None,
        f"{left:g} left" if left is not None else None,
    ]
    details = (
        ", ".join(part for part in known if part) or "Vapi does not report the limit, which is 10 by default"
    )
    return (
        f"The organization is over its concurrency limit ({details}), so the phone did not ring. A later try may "
        "succeed."
    )
