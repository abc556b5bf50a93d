# SPDX-License-Identifier: Apache-2.0
"""The page of one call, which the button "Vapi Call" opens while the connection points to the simulator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vapi_provider.simulator import page
from vapi_provider.simulator.markup import Html, escaped, joined, tag
from vapi_provider.simulator.timestamps import read_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta

    from vapi_provider.simulator.request_log import RequestRecord
    from vapi_provider.simulator.views import CallView

SHOWN_REQUESTS = 10
SHOWN_STEPS = 100
SHOWN_MESSAGES = 200
SHOWN_RESULTS = 50

_NO_TRANSCRIPT = "Nothing was said, or the transcript is yet to come."
_NO_RESULTS = "No results, or they are yet to come."

# Only these fields are shown: a call's JSON also contains credentials and URLs that need no key.
_FACTS = {
    "Call name": "name",
    "Assistant": "assistantId",
    "Squad": "squadId",
    "Phone number": "phoneNumberId",
}
_TIMES = {"Created": "createdAt", "Answered": "startedAt", "Ended": "endedAt"}
_ANALYSIS = {
    "summary": "Summary",
    "successEvaluation": "Success evaluation",
    "structuredData": "Structured data",
}


def call_page(call: CallView, requests: list[RequestRecord]) -> bytes:
    """
    Return the page of a call.

    :param call: the call.
    :param requests: all requests, oldest first.
    """
    body = call.body
    name, _ = page.names_of(body)
    own = [record for record in requests if record.path.lower() == f"/call/{call.id.lower()}"]
    latest = own[: -SHOWN_REQUESTS - 1 : -1]
    left = joined(
        _card("Timeline", _steps(call), SHOWN_STEPS, frame="ol", class_="steps body"),
        page.card("Details", _facts(call)),
    )
    right = joined(
        _card("Transcript", _messages(body), SHOWN_MESSAGES, class_="chat body", empty=_NO_TRANSCRIPT),
        _card("Results", _results(body), SHOWN_RESULTS, empty=_NO_RESULTS),
    )
    return page.document(
        f"{page.name_text(body.get('status'))} · {name}",
        tag("a", "← All calls", href="/", class_="muted"),
        tag("div", tag("h1", name), _pills(body), class_="title"),
        tag("div", tag("div", left), tag("div", right), class_="columns"),
        page.card("Latest requests for this call", page.requests_table(latest)),
    )


def unknown_call_page(call_id: str) -> bytes:
    """
    Return the page for an id that no call has.

    :param call_id: the id in the page's address.
    """
    return page.document(
        "No such call",
        tag("a", "← All calls", href="/", class_="muted"),
        tag("div", tag("h1", "No such call"), class_="title"),
        page.card(
            "Call not found",
            tag("p", "There is no call ", tag("code", call_id), " in this simulator.", class_="empty"),
        ),
    )


def _card(
    heading: str, parts: list[Html], most: int, *, frame: str = "div", class_: str = "body", empty: str = ""
) -> Html:
    """Return a card with the latest of the parts, or with a text if there are none."""
    content = tag(frame, *parts[-most:], class_=class_) if parts else tag("p", empty, class_="empty")
    return page.card(heading, content, note=page.latest(most, len(parts)))


def _pills(body: Mapping[str, Any]) -> Html:
    return joined(page.status_pill(body.get("status")), page.reason_pill(body.get("endedReason")))


def _steps(call: CallView) -> list[Html]:
    seen: set[str] = set()
    return [
        tag("li", tag("span", what), tag("span", _offset(at - call.created_at), class_="muted"))
        for at, fields in call.changes
        for what in _happenings(fields, seen)
    ]


def _offset(time: timedelta) -> str:
    return f"+{time.total_seconds():.1f} s"


def _happenings(fields: Mapping[str, Any], seen: set[str]) -> Iterator[Html]:
    """Describe a change in words; ``seen`` collects the ids of the outputs so far."""
    if "status" in fields:
        yield escaped(page.name_text(fields["status"]))
    if "name" in fields:
        yield joined("renamed to ", tag("strong", page.name_text(fields["name"])))
    if "analysis" in fields:
        yield escaped("analysis, transcript and cost" if "artifact" in fields else "analysis")
    artifact = _mapping(fields.get("artifact"))
    for key, word in (("structuredOutputs", "output"), ("skippedStructuredOutputs", "skipped output")):
        for id_, output in _mapping(artifact.get(key)).items():
            if id_ not in seen:
                yield joined(f"{word} ", tag("strong", _mapping(output).get("name") or id_))
            seen.add(id_)


def _facts(call: CallView) -> Html:
    name, number = page.names_of(call.body)
    facts: dict[str, object] = {
        "Call id": tag("code", call.id),
        "Callee": joined(name, f", {number}" if number else None),
        "Rings": page.rings_of(call),
        **{label: call.body.get(field) for label, field in _FACTS.items()},
        **{label: _time(call.body.get(field)) for label, field in _TIMES.items()},
        "Due": _time(_mapping(call.body.get("schedulePlan")).get("earliestAt")),
        "Duration": _duration(call.body),
        "Cost": _cost(call.body.get("cost")),
    }
    shown = (
        joined(tag("dt", label), tag("dd", value)) for label, value in facts.items() if value is not None
    )
    return tag("dl", *shown, class_="body")


def _time(timestamp: object) -> str | None:
    instant = read_timestamp(timestamp)
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC" if instant else None


def _duration(body: Mapping[str, Any]) -> str | None:
    started, ended = (read_timestamp(body.get(name)) for name in ("startedAt", "endedAt"))
    return f"{(ended - started).total_seconds():.1f} s" if started and ended else None


def _cost(cost: object) -> str | None:
    return f"${cost:.4f}" if isinstance(cost, (int, float)) else None


def _messages(body: Mapping[str, Any]) -> list[Html]:
    messages = _list(_mapping(body.get("artifact")).get("messages"))
    return [_bubble(each) for each in messages if isinstance(each, dict)]


def _bubble(message: Mapping[str, Any]) -> Html:
    is_user = message.get("role") == "user"
    speaker = tag("small", "Callee" if is_user else "Assistant")
    return tag("div", speaker, message.get("message"), class_="user" if is_user else None)


def _results(body: Mapping[str, Any]) -> list[Html]:
    artifact = _mapping(body.get("artifact"))
    results = [
        _result(_ANALYSIS.get(name, name), value) for name, value in _mapping(body.get("analysis")).items()
    ]
    for id_, output in _mapping(artifact.get("structuredOutputs")).items():
        results.append(_result(_mapping(output).get("name") or id_, _mapping(output).get("result")))
    for id_, output in _mapping(artifact.get("skippedStructuredOutputs")).items():
        results.append(_result(_mapping(output).get("name") or id_, "skipped, its condition was not met"))
    return results


def _result(name: object, value: object) -> Html:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)
    shown = tag("pre" if isinstance(value, (dict, list)) else "p", text)
    return tag("div", tag("h3", name), shown, class_="result")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
