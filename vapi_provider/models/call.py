# SPDX-License-Identifier: Apache-2.0
"""Vapi's Call, parsed openly: new, null, missing or oddly typed properties are never an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    AliasGenerator,
    BaseModel,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from vapi_provider.models.cleaning import clean_line, finite_number
from vapi_provider.models.outcome import CallOutcome, outcome_of
from vapi_provider.models.summary import CallSummary, summarize


class CallStatus:
    """The statuses of a call that Vapi has today; a call may have others."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RINGING = "ringing"
    IN_PROGRESS = "in-progress"
    FORWARDING = "forwarding"
    ENDED = "ended"
    NOT_FOUND = "not-found"
    DELETION_FAILED = "deletion-failed"

    LIVE = frozenset({SCHEDULED, QUEUED, RINGING, IN_PROGRESS, FORWARDING})
    """Statuses that another one follows."""
    TERMINAL = frozenset({ENDED, NOT_FOUND, DELETION_FAILED})
    """Final statuses; only the first means that a call took place."""


_LIMITS = ("concurrencyLimit", "remainingConcurrentCalls", "concurrencyBlocked")
_validate_instant = TypeAdapter(datetime).validate_strings


def parse_instant(value: Any) -> datetime | None:
    """Parse an instant in ISO 8601, with or without a time zone; None for anything else."""
    # pydantic takes a bare number, 1.5e-3 too, for seconds since 1970; here it is something else.
    if not (isinstance(value, str) and value[:4].isdigit() and value[4:5] == "-"):
        return None
    try:
        return _validate_instant(value)
    except ValidationError:
        return None


def read_instant(value: Any) -> datetime | None:
    """Read an instant as Vapi writes it, with a time zone; None for anything but ISO 8601."""
    instant = parse_instant(value)
    return instant if instant is None or instant.tzinfo else instant.replace(tzinfo=timezone.utc)


def _only(kind: type) -> Callable[[Any], Any]:
    return lambda value: value if isinstance(value, kind) else None


_Text = Annotated[str | None, PlainValidator(_only(str))]
_Object = Annotated[dict[str, Any] | None, PlainValidator(_only(dict))]
_List = Annotated[list[Any] | None, PlainValidator(_only(list))]
_Number = Annotated[float | None, PlainValidator(finite_number)]
_Instant = Annotated[
    datetime | None,
    PlainValidator(read_instant),
    PlainSerializer(lambda instant: instant and instant.isoformat(), when_used="json"),
]


class CallStatusView(BaseModel):
    """
    The part of a call that shows whether it is over; cheap to parse, since the rest is not even built.

    :class:`Call` is the whole.
    """

    model_config = ConfigDict(
        alias_generator=AliasGenerator(validation_alias=to_camel),
        extra="ignore",
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    id: str
    status: _Text = None
    created_at: _Instant = None
    updated_at: _Instant = None
    ended_at: _Instant = None
    analysis: _Object = None

    _responded_at: datetime | None = PrivateAttr(default=None)

    @property
    def has_known_status(self) -> bool:
        """Whether the status is one that this package knows."""
        return self._status() in CallStatus.LIVE | CallStatus.TERMINAL

    @property
    def is_terminal(self) -> bool:
        """Whether the status is final; an unknown status counts as final once ``endedAt`` is set."""
        if self.has_known_status:
            return self._status() in CallStatus.TERMINAL
        return self.status is not None and self.ended_at is not None

    @property
    def is_scheduled(self) -> bool:
        """Whether the call is scheduled for later."""
        return self._status() == CallStatus.SCHEDULED

    @property
    def has_ended(self) -> bool:
        """Whether the call took place and is over; ``not-found`` and ``deletion-failed`` are not that."""
        return self.is_terminal and self._status() not in (CallStatus.NOT_FOUND, CallStatus.DELETION_FAILED)

    @property
    def has_analysis(self) -> bool:
        """Whether any part of the analysis has arrived."""
        return any(value not in (None, "", {}, []) for value in (self.analysis or {}).values())

    @property
    def responded_at(self) -> datetime | None:
        """When Vapi sent this, by Vapi's own clock; None when the call was not read by the hook."""
        return self._responded_at

    def analysis_due_in(self, timeout: float) -> float:
        """
        Return how much longer to wait for the analysis.

        :param timeout: the longest wait after the call's end, in seconds
        :return: the seconds left when Vapi responded, by Vapi's own clock; 0 when there is nothing to wait for
        """
        ended_at = self.ended_at or self.updated_at
        if not self.has_ended or self.has_analysis or ended_at is None or self.responded_at is None:
            return 0.0
        # Vapi's clocks can differ by seconds, which must not lengthen the wait.
        elapsed = max(0.0, (self.responded_at - ended_at).total_seconds())
        return max(0.0, timeout - elapsed)

    def _status(self) -> str:
        return (self.status or "").lower()

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [("id", self.id), ("status", self.status)]

    __str__ = BaseModel.__repr__


class PlacedCallView(CallStatusView):
    """The part of a call that shows which task placed it and whether a phone rang."""

    name: _Text = None
    ended_reason: _Text = None
    started_at: _Instant = None
    assistant_overrides: _Object = None
    squad_overrides: _Object = None


ViewT = TypeVar("ViewT", bound=CallStatusView)


@dataclass(frozen=True)
class CallPage(Generic[ViewT]):
    """
    One page of the list of calls.

    :param rows: the calls that could be parsed, in Vapi's order
    :param length: how many rows the page had, unparsable ones included
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

    Only what the package uses is declared, under snake_case names; everything else is kept unchanged under Vapi's own
    names (``call.model_extra["orgId"]``). A declared field whose value is missing or unreadable is None; only ``id``
    is required. A call contains credentials, capability URLs and people's words: store its :meth:`summary`, not the
    call; ``repr`` shows only the id and status.
    """

    model_config = ConfigDict(extra="allow")

    type: _Text = None
    name: _Text = None
    ended_reason: _Text = None
    started_at: _Instant = None
    cost: _Number = None
    cost_breakdown: _Object = None
    assistant_id: _Text = None
    phone_number_id: _Text = None
    customer: _Object = None
    artifact: _Object = None
    messages: _List = None
    transcript: _Text = None
    recording_url: _Text = None
    stereo_recording_url: _Text = None

    @model_validator(mode="before")
    @classmethod
    def _clean_keys(cls, body: Any) -> Any:
        """Make unknown properties' names readable: pydantic refuses a lone surrogate in one."""
        if not isinstance(body, dict) or "".join(body).isascii():
            return body
        return {clean_line(key): value for key, value in body.items()}

    @model_validator(mode="after")
    def _read_artifact(self) -> Call:
        """Read transcript and recordings from ``artifact``, where they are today, or from the top level, as in 2024."""
        artifact = self.artifact or {}
        self.messages = _only(list)(artifact.get("messages")) or self.messages
        self.transcript = _only(str)(artifact.get("transcript")) or self.transcript
        self.recording_url = _only(str)(artifact.get("recordingUrl")) or self.recording_url
        self.stereo_recording_url = (
            _only(str)(artifact.get("stereoRecordingUrl")) or self.stereo_recording_url
        )
        return self

    @property
    def structured_outputs(self) -> dict[str, Any] | None:
        """The structured outputs that were extracted from the call, by their id."""
        outputs: dict[str, Any] | None = _only(dict)((self.artifact or {}).get("structuredOutputs"))
        return outputs

    @property
    def limits(self) -> dict[str, Any] | None:
        """The organization's limits, which Vapi sends in the response to a placement."""
        limits = (self.model_extra or {}).get("subscriptionLimits")
        return {name: limits.get(name) for name in _LIMITS} if isinstance(limits, dict) else None

    @property
    def is_concurrency_blocked(self) -> bool:
        """Whether Vapi accepted the call without dialling it, over the concurrency limit."""
        return self.limits is not None and self.limits.get("concurrencyBlocked") is True

    @property
    def outcome(self) -> CallOutcome | None:
        """What the end of the call means; None before the end."""
        return outcome_of(self.ended_reason) if self.is_terminal else None

    @property
    def duration_seconds(self) -> float | None:
        """The seconds from start to end; None when either is unknown."""
        if self.started_at is None or self.ended_at is None:
            return None
        return max(0.0, (self.ended_at - self.started_at).total_seconds())

    def summary(self, include: Iterable[str] = ()) -> CallSummary:
        """
        Return the part of the call that is safe to store: no credential, no capability URL, no control character.

        :param include: names of content to add: analysis, cost_breakdown, customer, messages, structured_outputs,
            transcript
        :raises VapiConfigurationError: for an unknown name in ``include``
        :return: id, status, type, name, ended_reason, outcome, created_at, started_at, ended_at (ISO strings),
            duration_seconds, cost (US dollars), assistant_id, phone_number_id, and one key for each included name;
            None for what is absent
        """
        return summarize(self, include)


def over_limit_message(limits: Any) -> str:
    """Explain the concurrency limit by the ``subscriptionLimits`` of a response, if there are any, and what to do."""
    limits = limits if isinstance(limits, dict) else {}
    limit = finite_number(limits.get("concurrencyLimit"))
    left = finite_number(limits.get("remainingConcurrentCalls"))
    known = [
        f"the limit is {limit:g}" if limit is not None else None,
        f"{left:g} left" if left is not None else None,
    ]
    details = ", ".join(part for part in known if part) or "Vapi does not report the limit (10 by default)"
    return (
        f"The organization is over its concurrency limit, so no call was placed: {details}. A later try may succeed; "
        "run fewer tasks at once (pool, max_active_tis_per_dag)."
    )
