# SPDX-License-Identifier: Apache-2.0
"""Vapi's Call, read openly: what is new, null, missing or of another type than documented is never refused."""

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

from vapi_provider.models.outcome import CallOutcome, outcome_of
from vapi_provider.models.summary import clean_line, finite_number, summarize


class CallStatus:
    """The statuses of a call that Vapi has today; a call may carry others."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RINGING = "ringing"
    IN_PROGRESS = "in-progress"
    FORWARDING = "forwarding"
    ENDED = "ended"
    NOT_FOUND = "not-found"
    DELETION_FAILED = "deletion-failed"

    LIVE = frozenset({SCHEDULED, QUEUED, RINGING, IN_PROGRESS, FORWARDING})
    """Statuses that something still follows."""
    TERMINAL = frozenset({ENDED, NOT_FOUND, DELETION_FAILED})
    """Statuses that nothing follows; only the first means that a call took place."""


_parse_instant = TypeAdapter(datetime).validate_strings


def read_instant(value: Any) -> datetime | None:
    """
    Read an instant as Vapi writes it.

    :param value: what stands in the place of one
    :return: the instant, with a time zone; None for anything but ISO 8601
    """
    # A bare number would be read as seconds since 1970; Vapi writes ISO 8601, so a number is something else.
    if not isinstance(value, str) or "-" not in value[1:]:
        return None
    try:
        instant = _parse_instant(value)
    except ValidationError:
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=timezone.utc)


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
    As much of a call as tells whether it is over, for who looks at very many; the rest is not even built.

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
        """Whether nothing follows any more; an unknown status counts as the end once ``endedAt`` is set."""
        if self.has_known_status:
            return self._status() in CallStatus.TERMINAL
        return self.status is not None and self.ended_at is not None

    @property
    def is_scheduled(self) -> bool:
        """Whether the call is still to come, at a time that was asked for."""
        return self._status() == CallStatus.SCHEDULED

    @property
    def has_ended(self) -> bool:
        """Whether the call took its course, which ``not-found`` and ``deletion-failed`` do not mean."""
        return self.is_terminal and self._status() not in (CallStatus.NOT_FOUND, CallStatus.DELETION_FAILED)

    @property
    def has_analysis(self) -> bool:
        """Whether any part of the analysis has arrived."""
        return any(value not in (None, "", {}, []) for value in (self.analysis or {}).values())

    @property
    def responded_at(self) -> datetime | None:
        """When Vapi gave this answer, by Vapi's own clock; None when the call was not read by the hook."""
        return self._responded_at

    def analysis_due_in(self, timeout: float) -> float:
        """
        Tell how much longer the analysis may be waited for.

        :param timeout: how many seconds after the call's end it should be there at the latest
        :return: the seconds left when Vapi answered, by Vapi's own clock; 0 when there is nothing to wait for
        """
        ended_at = self.ended_at or self.updated_at
        if not self.has_ended or self.has_analysis or ended_at is None or self.responded_at is None:
            return 0.0
        # Vapi's clocks can differ by seconds; that is no reason to wait longer.
        elapsed = max(0.0, (self.responded_at - ended_at).total_seconds())
        return max(0.0, timeout - elapsed)

    def _status(self) -> str:
        return (self.status or "").lower()

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [("id", self.id), ("status", self.status)]

    __str__ = BaseModel.__repr__


class PlacedCallView(CallStatusView):
    """As much of a call as tells by whom it was placed and whether somebody's phone rang."""

    name: _Text = None
    ended_reason: _Text = None
    started_at: _Instant = None
    assistant_overrides: _Object = None
    squad_overrides: _Object = None
    workflow_overrides: _Object = None


ViewT = TypeVar("ViewT", bound=CallStatusView)


@dataclass(frozen=True)
class CallPage(Generic[ViewT]):
    """
    One page of the list of calls, read as glimpses.

    :param rows: the calls that can be read, in the order in which Vapi lists them
    :param length: how many rows the page had, with those that cannot be read
    :param size: how many bytes it had
    :param responded_at: when Vapi gave it, by Vapi's own clock
    """

    rows: list[ViewT]
    length: int
    size: int
    responded_at: datetime


class Call(CallStatusView):
    """
    A call as Vapi's API answers it (https://docs.vapi.ai/api-reference/calls/get).

    Only what the package uses is declared, under snake_case names; everything else is kept as it came, under Vapi's
    own names (``call.model_extra["orgId"]``). A declared field whose value is missing or unreadable is None; only
    ``id`` must be there. It holds credentials, capability URLs and people's words: :meth:`summary` is what may be
    stored, and ``repr`` shows the id and status alone.
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
        """Take what was said from ``artifact``, where it is today, or from the top, where it was in 2024."""
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
        """What Vapi said of the organization's limits when the call was placed."""
        limits: dict[str, Any] | None = _only(dict)((self.model_extra or {}).get("subscriptionLimits"))
        return limits

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

    def summary(self, include: Iterable[str] = ()) -> dict[str, Any]:
        """
        Return the part of the call that is safe to store: no credential, no capability URL, no control character.

        :param include: names of content to add: analysis, cost_breakdown, customer, messages, structured_outputs,
            transcript
        :raises ValueError: for an unknown name in ``include``
        :return: id, status, type, name, ended_reason, outcome, created_at, started_at, ended_at (ISO strings),
            duration_seconds, cost (US dollars), assistant_id, phone_number_id, and one key for each included name;
            None for what is absent
        """
        return summarize(self, include)
