# SPDX-License-Identifier: Apache-2.0
"""The frame of the simulator's pages, and the parts that they share."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from vapi_provider.simulator.markup import Html, escaped, joined, shortened, tag
from vapi_provider.simulator.reasons import known_reasons
from vapi_provider.simulator.stylesheet import STYLESHEET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from vapi_provider.simulator.request_log import RequestRecord
    from vapi_provider.simulator.views import CallView

REFRESH_SECONDS = 2
"""How often a page refreshes itself."""

LONGEST_NAME = 80
"""How many characters of a name, a status or a reason a page shows; Vapi's own names have at most 40."""

LONGEST_PATH = 300
"""How many characters of a request's path and query a page shows."""

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLESHEET.encode()).digest()).decode()

HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""The headers of a page, which keep it from loading or running anything and out of other pages' frames."""

_PHONE = (
    "M22 16.9v3a2 2 0 0 1-2.2 2A19.8 19.8 0 0 1 2.1 4.2 2 2 0 0 1 4.1 2h3a2 2 0 0 1 2 1.7l.7 2.8a2 2 0 0 1-.5 2.1"
    "L8.1 9.9a16 16 0 0 0 6 6l1.3-1.3a2 2 0 0 1 2.1-.4l2.8.7a2 2 0 0 1 1.7 2z"
)
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='-8 -8 40 40'%3E"
    "%3Crect x='-8' y='-8' width='40' height='40' rx='10' fill='%230f766e'/%3E"
    f"%3Cpath d='{_PHONE}' fill='none' stroke='white' stroke-width='2'/%3E%3C/svg%3E"
)
_LIVE_TONES = {"ringing": "busy", "in-progress": "talk", "forwarding": "talk"}
_OUTCOME_TONES = {"completed": "good", "no_answer": "warn", "failed": "bad", "cancelled": "idle"}


def document(title: str, *content: object) -> bytes:
    """
    Return a page of the simulator, which refreshes itself.

    :param title: the title of the browser's tab.
    :param content: what the page shows below its bar, escaped.
    :return: HTML in UTF-8.
    """
    head = joined(
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">'),
        Html(f'<link rel="icon" href="{_ICON}">'),
        tag("title", title),
        tag("style", Html(STYLESHEET)),
    )
    page = tag("html", tag("head", head), tag("body", _bar(), tag("main", *content)), lang="en")
    # A name can contain lone surrogates, which UTF-8 does not have.
    return f"<!doctype html>{page}\n".encode("utf-8", "replace")


def card(heading: str, *content: object, note: str | None = None) -> Html:
    """Return a card with a heading, an optional note beside it, and content."""
    beside = tag("span", note) if note else None
    return tag("section", tag("header", tag("h2", heading), beside), *content, class_="card")


def rows(headings: Mapping[str, str | None], cells: Iterable[Html]) -> Html:
    """
    Return a table.

    :param headings: the columns' headings, each with its class.
    :param cells: the cells of each row.
    """
    head = tag("tr", *(tag("th", heading, class_=kind, scope="col") for heading, kind in headings.items()))
    return tag("table", tag("thead", head), tag("tbody", *(tag("tr", row) for row in cells)))


def status_pill(status: object) -> Html:
    """Return a call's status as a coloured pill."""
    tone = _LIVE_TONES.get(str(status), "idle")
    dot = tag("span", class_="dot") if tone != "idle" else None
    return tag("span", dot, name_text(status), class_=f"pill nowrap {tone}")


def reason_pill(ended_reason: object) -> Html:
    """Return an ended reason as a coloured pill; empty without one."""
    if ended_reason is None:
        return Html("")
    reason = str(ended_reason)
    tone = _OUTCOME_TONES.get(known_reasons().get(reason, ""), "idle")
    return tag("span", name_text(reason), class_=f"pill {tone}")


def rings_of(call: CallView) -> Html:
    """Return a call's rings, and the callee's rings over all calls if there are more."""
    others = f" of {call.callee_rings}" if call.callee_rings > call.rings else None
    return joined(call.rings, tag("small", others, class_="muted") if others else None)


def names_of(body: Mapping[str, Any]) -> tuple[object, object]:
    """Return a callee's name and number, or the number alone if there is no name."""
    customer = body.get("customer")
    customer = customer if isinstance(customer, dict) else {}
    number = name_text(customer.get("number") or customer.get("sipUri") or body.get("customerId"))
    name = name_text(customer.get("name"))
    return (name, number) if name else (number or "unknown callee", None)


def name_text(name: object) -> str | None:
    """Return a name as a page shows it, shortened; None without one."""
    return None if name is None else shortened(name, LONGEST_NAME)


def latest(number: int, total: int) -> str | None:
    """Return the note of a card that shows only the latest of many; None if it shows all."""
    return f"latest {number} of {total}" if total > number else None


def requests_table(requests: list[RequestRecord]) -> Html:
    """Return a table of requests in the given order."""
    if not requests:
        return tag("p", "None so far.", class_="empty")
    headings = {"Time (UTC)": None, "Method": None, "Path": None, "Status": "number"}
    return rows(headings, map(_request_cells, requests))


def age(since: datetime, now: datetime) -> str:
    """Return how long ago an instant was, such as ``12 s`` or ``3 min``."""
    seconds = max(0, int((now - since).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _request_cells(record: RequestRecord) -> Html:
    query = "&".join(f"{name}={value}" for name, value in record.query.items())
    path = tag("code", shortened(f"{record.path}?{query}" if query else record.path, LONGEST_PATH))
    status = escaped("no response" if record.status is None else record.status)
    is_good = record.status is not None and record.status < 400
    return joined(
        tag("td", f"{record.at:%H:%M:%S}", class_="muted nowrap"),
        tag("td", tag("strong", record.method)),
        tag("td", path, class_="wide long"),
        tag("td", tag("span", status, class_="pill good" if is_good else "pill bad"), class_="number"),
    )


def _bar() -> Html:
    path = Html(f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{_PHONE}"/></svg>')
    home = tag("a", tag("span", path, class_="logo"), "Vapi simulator", href="/")
    live = tag("span", tag("span", class_="dot"), f"Refreshes every {REFRESH_SECONDS} s", class_="note live")
    note = tag("span", "No real calls are placed.", class_="note")
    return tag("header", tag("div", home, note, live), class_="bar")
