# SPDX-License-Identifier: Apache-2.0
"""The page at ``/``: the calls and the latest requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vapi_provider.simulator import page
from vapi_provider.simulator.markup import Html, joined, tag

if TYPE_CHECKING:
    from datetime import datetime

    from vapi_provider.simulator.request_log import RequestRecord
    from vapi_provider.simulator.views import CallView, Overview

SHOWN_CALLS = 100
SHOWN_REQUESTS = 20

_HEADINGS = {
    "Status": None,
    "Callee": None,
    "Call name": None,
    "Outcome": None,
    "Rings": "number",
    "Age": "number",
}


def list_page(overview: Overview, requests: list[RequestRecord], url: str) -> bytes:
    """
    Return the page of all calls.

    :param overview: the calls.
    :param requests: all requests, oldest first.
    :param url: the simulator's base URL, which the empty page shows.
    """
    latest = requests[: -SHOWN_REQUESTS - 1 : -1]
    return page.document(
        f"{overview.live} live · Vapi simulator" if overview.live else "Vapi simulator",
        _tiles(overview, len(requests)),
        page.card("Calls", _calls(overview, url), note=page.latest(len(overview.calls), overview.total)),
        page.card(
            "Latest requests", page.requests_table(latest), note=page.latest(len(latest), len(requests))
        ),
    )


def _tiles(overview: Overview, requests: int) -> Html:
    limit = tag("small", f" of {overview.limit} lines")
    tiles = {
        "Live calls": joined(overview.live, limit),
        "Calls": overview.total,
        "Rings": overview.rings,
        "API requests": requests,
    }
    each = (
        tag("div", tag("b", value), tag("span", name, class_="muted"), class_="tile")
        for name, value in tiles.items()
    )
    return tag("div", *each, class_="tiles")


def _calls(overview: Overview, url: str) -> Html:
    if not overview.calls:
        first = tag("strong", "No calls yet")
        hint = joined(
            "Point an Airflow connection to ", tag("code", url), " and trigger a DAG that places one."
        )
        return tag("div", first, hint, class_="empty")
    return page.rows(_HEADINGS, (_call_cells(call, overview.now) for call in overview.calls))


def _call_cells(call: CallView, now: datetime) -> Html:
    name, number = page.names_of(call.body)
    callee = tag("a", tag("strong", name), href=f"/calls/{call.id}")
    return joined(
        tag("td", page.status_pill(call.body.get("status"))),
        tag("td", callee, tag("div", number, class_="muted") if number else None, class_="wide"),
        tag("td", page.name_text(call.body.get("name")), class_="full"),
        tag("td", page.reason_pill(call.body.get("endedReason")), class_="long"),
        tag("td", page.rings_of(call), class_="number", data_label="Rings"),
        tag("td", page.age(call.created_at, now), class_="number muted", data_label="Age"),
    )
