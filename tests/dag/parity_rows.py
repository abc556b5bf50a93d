# SPDX-License-Identifier: Apache-2.0
"""Cases for the parity of modes: Vapi's response to each poke, and how the task ends."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout
from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiCallFailedError,
    VapiCallNotFoundError,
    VapiConfigurationError,
    VapiPermanentError,
    VapiRateLimitError,
    VapiTransientError,
)
from vapi_provider.simulator import Fault, VapiSimulator

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
"""The default time of Vapi's clock, far from this machine's."""

LONGEST = 600.0
"""The timeout of a broken wait, in seconds; no row takes this long."""

URL = "http://vapi.test"
"""Stands for the simulator's address, which differs between runs."""

_COMES_LATER = ("startedAt", "endedAt", "endedReason", "analysis", "artifact")


@dataclass(frozen=True)
class Seen:
    """A poke that returns the call with these fields, ``at`` seconds after noon."""

    fields: Mapping[str, Any]
    at: float = 0

    @property
    def headers(self) -> dict[str, str]:
        return {"Date": format_datetime(NOON + timedelta(seconds=self.at), usegmt=True)}


def seen(status: str, *, at: float = 0, **fields: Any) -> Seen:
    return Seen({"status": status, **fields}, at)


def ended(reason: str | None = "customer-ended-call", *, status: str = "ended", **more: Any) -> Seen:
    """Return a poke of a call that ended at noon."""
    start = (NOON - timedelta(minutes=5)).isoformat()
    return seen(status, startedAt=start, endedAt=NOON.isoformat(), endedReason=reason, **more)


@dataclass(frozen=True)
class Row:
    """What the pokes return, the last of them repeatedly, and how the task ends."""

    pokes: tuple[Seen | Fault, ...]
    state: str
    says: str
    """The start of the last log line; ``{id}`` and ``{url}`` are the call's, and `` ... `` matches anything."""
    errors: tuple[type[Exception], ...] = ()
    """The exceptions that end the tries without ``soft_fail``."""
    is_softened: bool = False
    """Whether ``soft_fail`` turns the failure into a skip."""
    event: str = "done"
    """The status of the trigger's event."""
    warns: str = ""
    """Another message that the log contains."""
    forgotten: str = ""
    """The start of the last log line if the last poke has no stored state, where that differs."""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tries(self) -> int:
        return len(self.errors) + (self.state == "success")

    @property
    def is_long(self) -> bool:
        """Whether the last try pokes more than once."""
        return len(self.pokes) > self.tries or self.event != "done"

    @property
    def has_link(self) -> bool:
        """Whether the task knows its call and connection, so that it publishes a link."""
        return VapiConfigurationError not in self.errors

    def says_of(self, call_id: Any, *, forgets: bool = False) -> re.Pattern[str]:
        says = self.forgotten if forgets and self.forgotten else self.says
        parts = says.replace("{url}", f"{URL}/calls/{call_id}").replace("{id}", str(call_id)).split(" ... ")
        return re.compile(".*".join(map(re.escape, parts)))

    def arrange(self, simulator: VapiSimulator, name: str) -> dict[str, Any]:
        """Add the call with a reproducible id, and return the sensor's arguments."""
        call_id = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        *first, last = self.pokes
        simulator.add_call(body={"id": call_id, **(last.fields if isinstance(last, Seen) else {})})
        call = {k: v for k, v in simulator.get_call(call_id).items() if k not in _COMES_LATER}
        responses = [
            Fault(body=json.dumps({**call, **poke.fields}), headers=poke.headers)
            if isinstance(poke, Seen)
            else poke
            for poke in first
        ]
        responses.append(Fault(times=None, headers=last.headers) if isinstance(last, Seen) else lasting(last))
        for response in responses:
            simulator.faults.add(replace(response, path=f"/call/{call_id}"))
        return {"call_id": call_id, "timeout": LONGEST, **self.arguments}


def lasting(fault: Fault) -> Fault:
    return replace(fault, times=None)


def succeeds(
    *pokes: Seen | Fault,
    says: str = "Call {id} ended (customer-ended-call): completed.",
    after: type[Exception] | None = None,
    event: str = "done",
    warns: str = "",
    **arguments: Any,
) -> Row:
    """Return a row that succeeds, at the second try if ``after`` an error."""
    errors = (after,) if after else ()
    return Row(pokes, "success", says, errors, event=event, warns=warns, arguments=arguments)


def fails(
    error: type[Exception],
    says: str,
    *pokes: Seen | Fault,
    event: str = "done",
    forgotten: str = "",
    **arguments: Any,
) -> Row:
    """Return a row that fails permanently, or is skipped with ``soft_fail``."""
    return Row(
        pokes,
        "failed",
        says,
        (error,),
        is_softened=True,
        event=event,
        forgotten=forgotten,
        arguments=arguments,
    )


def gives_up(error: type[Exception], says: str, *pokes: Seen | Fault, **arguments: Any) -> Row:
    """Return a row that fails after all of Airflow's tries, with or without ``soft_fail``."""
    return Row(pokes, "failed", says, (error,) * 3, arguments=arguments)


QUEUED, RINGING, ON_HOLD = seen("queued"), seen("ringing"), seen("on-hold")
NOT_FOUND, UNDELETED = seen("not-found"), seen("deletion-failed")
ENDED, VOICEMAIL = ended(), ended("voicemail")
A_MINUTE_LATER = ended(at=61)
NO_REASON, STILL_NO_REASON = ended(None), ended(None, at=16)
STUCK = ended(status="in-progress")

SUMMARY = {"summary": "They confirmed the appointment."}
EVALUATION = {"successEvaluation": "true"}
ANALYSIS_PLAN = {"assistant": {"analysisPlan": {"summaryPlan": {}, "successEvaluationPlan": {}}}}
PART = ended(analysis=EVALUATION, **ANALYSIS_PLAN)
ANALYZED = ended(analysis={**SUMMARY, **EVALUATION}, **ANALYSIS_PLAN)

OUTPUT_PLAN = {"assistant": {"artifactPlan": {"structuredOutputIds": ["so-1", "so-2"]}}}
BOOKED = {"so-1": {"name": "Booked", "result": True}}
MOOD = {"so-2": {"name": "Mood", "result": "good"}}
SKIPPED = {"so-2": {"name": "Mood", "unmetCondition": {"type": "minMessages", "count": 4}}}
ONE_OUTPUT = ended(artifact={"structuredOutputs": BOOKED}, analysis=SUMMARY, **OUTPUT_PLAN)
TWO_OUTPUTS = ended(artifact={"structuredOutputs": {**BOOKED, **MOOD}}, **OUTPUT_PLAN)
ONE_IS_SKIPPED = ended(
    artifact={"structuredOutputs": BOOKED, "skippedStructuredOutputs": SKIPPED}, **OUTPUT_PLAN
)

OUTAGE, RESET, TOO_MANY = Fault(status=503), Fault(reset="before"), Fault(status=429)
PAGE_200, PAGE_403, PAGE_404, PAGE_502 = (
    Fault(status=status, body="<title>Gateway</title>", content_type="text/html")
    for status in (200, 403, 404, 502)
)

REFUSALS = {
    400: VapiPermanentError,
    401: VapiAuthenticationError,
    403: VapiAuthenticationError,
    404: VapiCallNotFoundError,
}
ANALYSIS = {"wait_for_analysis": True, "include": ["analysis"]}
OUTPUTS = {"wait_for_analysis": True, "include": ["structured_outputs"]}
NO_ANSWER = "Call {id} ended with outcome no_answer (voicemail), which is in fail_on. See {url}"
MISSED = "Call {id} had not ended after"
NOT_ANALYZED = "The analysis of call {id} had not arrived after"
NO_ANALYSIS = "The analysis of call {id} did not arrive in time"
REFUSED = "GET /call/{id} returned"
FORGOTTEN = f"{MISSED} 4.0 s (timeout=4): its last status is unknown. The last error was: {REFUSED} 503"
SEE = "See {url}, or raise the timeout."

ROWS: dict[str, Row] = {
    # status ended
    "ended": succeeds(ENDED),
    "ended later": succeeds(QUEUED, RINGING, ENDED),
    "ended for an unknown reason": succeeds(RINGING, ended("gone"), says="Call {id} ended (gone): unknown."),
    "ended for no reason": succeeds(
        NO_REASON, STILL_NO_REASON, says="Call {id} ended (no reason given): unknown."
    ),
    "reason later": succeeds(NO_REASON, ENDED),
    "end that the status does not show": succeeds(RINGING, STUCK, replace(STUCK, at=61)),
    "unknown status before the end": succeeds(ON_HOLD, ENDED),
    "unknown status that is the end": succeeds(RINGING, ended(status="archived")),
    # status ended, outcome in fail_on
    "in fail_on": fails(VapiCallFailedError, NO_ANSWER, VOICEMAIL, fail_on=["no_answer"]),
    "in fail_on later": fails(VapiCallFailedError, NO_ANSWER, RINGING, VOICEMAIL, fail_on=["no_answer"]),
    "in fail_on once the reason is there": fails(
        VapiCallFailedError, NO_ANSWER, NO_REASON, VOICEMAIL, fail_on=["no_answer"]
    ),
    "not in fail_on": succeeds(
        VOICEMAIL, says="Call {id} ended (voicemail): no_answer.", fail_on=["failed", "cancelled"]
    ),
    # status not-found, deletion-failed
    "not-found later": fails(VapiCallFailedError, "Call {id} has status 'not-found'", RINGING, NOT_FOUND),
    "deletion-failed": fails(VapiCallFailedError, "Call {id} has status 'deletion-failed'", UNDELETED),
    # 400, 401, 403, 404 in Vapi's shape, bad id, bad connection
    **{
        f"{status} at the first poke": fails(error, f"{REFUSED} {status}", Fault(status=status))
        for status, error in REFUSALS.items()
    },
    **{
        f"{status} later": fails(error, f"{REFUSED} {status}", RINGING, Fault(status=status), event="error")
        for status, error in REFUSALS.items()
    },
    "no id": fails(VapiConfigurationError, "call_id is empty (got None)", ENDED, call_id=None),
    "id rendered to None": fails(
        VapiConfigurationError, "call_id is empty (got 'None')", ENDED, call_id="None"
    ),
    "id of another path": fails(
        VapiConfigurationError, "call_id must be the id of a call", ENDED, call_id="../x"
    ),
    "no such connection": fails(
        VapiConfigurationError,
        "Airflow found no connection 'nowhere'",
        ENDED,
        vapi_conn_id="nowhere",
    ),
    "no key": fails(VapiConfigurationError, "Connection 'keyless': password", ENDED, vapi_conn_id="keyless"),
    # an invalid argument value
    "unknown outcome in fail_on": fails(
        VapiConfigurationError, "fail_on must be a list", ENDED, fail_on=["x"]
    ),
    "unknown name in include": fails(VapiConfigurationError, "include must be a list", ENDED, include="x"),
    "interval of 0": fails(VapiConfigurationError, "poke_interval must be more", ENDED, poke_interval=0),
    "negative analysis_timeout": fails(
        VapiConfigurationError, "analysis_timeout must be", ENDED, **ANALYSIS, analysis_timeout=-1
    ),
    # transient error at the very first poke
    "503 at the first poke": succeeds(OUTAGE, RINGING, ENDED, after=VapiTransientError),
    "reset at the first poke": succeeds(RESET, ENDED, after=VapiTransientError),
    "429 at the first poke": succeeds(TOO_MANY, ENDED, after=VapiRateLimitError),
    "proxy's 502 at the first poke": succeeds(PAGE_502, ENDED, after=VapiTransientError),
    "503 at the first poke of each try": gives_up(VapiTransientError, f"{REFUSED} 503", OUTAGE),
    # transient errors later, however many
    "503 later": succeeds(RINGING, OUTAGE, ENDED),
    "all transient errors later": succeeds(
        RINGING, OUTAGE, RESET, TOO_MANY, PAGE_200, PAGE_403, PAGE_404, PAGE_502, ENDED
    ),
    "503 when the end was seen": succeeds(RINGING, ENDED, OUTAGE, OUTAGE, ENDED),
    # timeout reached
    "timeout": fails(
        AirflowSensorTimeout,
        f"{MISSED} 2.0 s (timeout=2): its last status was 'ringing'. {SEE}",
        RINGING,
        event="timeout",
        timeout=2,
    ),
    "timeout at once": fails(
        AirflowSensorTimeout, f"{MISSED} 0.0 s (timeout=0): its last status was 'queued'.", QUEUED, timeout=0
    ),
    "timeout in an outage": fails(
        AirflowSensorTimeout,
        f"{MISSED} 4.0 s (timeout=4): its last status was 'ringing'. The last error was: {REFUSED} 503 ... {SEE}",
        RINGING,
        OUTAGE,
        event="timeout",
        forgotten=FORGOTTEN,
        timeout=4,
    ),
    # wait_for_analysis
    "analysis at once": succeeds(ANALYZED, **ANALYSIS),
    "analysis later": succeeds(RINGING, ENDED, ANALYZED, **ANALYSIS, analysis_timeout=600),
    "analysis in parts": succeeds(ENDED, PART, ANALYZED, **ANALYSIS, analysis_timeout=600),
    "outputs at once": succeeds(TWO_OUTPUTS, **OUTPUTS),
    "outputs later": succeeds(RINGING, ENDED, ONE_OUTPUT, TWO_OUTPUTS, **OUTPUTS),
    "outputs of which one is skipped": succeeds(ENDED, ONE_OUTPUT, ONE_IS_SKIPPED, **OUTPUTS),
    "outputs of which one never comes": succeeds(
        ENDED,
        ONE_OUTPUT,
        replace(ONE_OUTPUT, at=61),
        **OUTPUTS,
        warns="The structured outputs (so-2) of call {id} did not arrive in time",
    ),
    "no results without a conversation": succeeds(
        RINGING, ended("customer-busy"), says="Call {id} ended (customer-busy): no_answer.", **OUTPUTS
    ),
    "no analysis in time": succeeds(ENDED, A_MINUTE_LATER, **ANALYSIS, warns=NO_ANALYSIS),
    "no analysis at the timeout": succeeds(
        RINGING, ENDED, **ANALYSIS, analysis_timeout=600, event="timeout", timeout=2, warns=NO_ANALYSIS
    ),
    "no analysis at the timeout in an outage": fails(
        AirflowSensorTimeout,
        f"{NOT_ANALYZED} 4.0 s (timeout=4): its last status was 'ended'. The last error was: {REFUSED} 503",
        ENDED,
        OUTAGE,
        event="timeout",
        forgotten=FORGOTTEN,
        **ANALYSIS,
        analysis_timeout=600,
        timeout=4,
    ),
    "in fail_on without analysis": fails(
        VapiCallFailedError, NO_ANSWER, RINGING, VOICEMAIL, **ANALYSIS, fail_on=["no_answer"], timeout=60
    ),
}
"""The rows by name, in the order of the documentation's table."""
