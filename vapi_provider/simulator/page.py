# SPDX-License-Identifier: Apache-2.0
"""The web page of a call, which the button "Vapi Call" opens while the connection points to the simulator."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "/calls/"
"""What the paths of pages begin with."""

_FIELDS = {"id": "Call", "status": "Status", "name": "Name", "endedReason": "Ended reason"}


def call_page(call_id: str, call: Mapping[str, Any] | None) -> bytes:
    """
    Return the page of a call, or one that says that there is no such call.

    :param call_id: the id in the page's address.
    :param call: the call's JSON; None when there is no such call.
    :return: HTML in UTF-8, everything in it escaped.
    """
    if call is None:
        content = f"<p>The simulator has no call {html.escape(call_id)}.</p>"
    else:
        rows = (
            f"<tr><th>{label}</th><td>{html.escape(str(call[name]))}</td></tr>"
            for name, label in _FIELDS.items()
            if call.get(name) is not None
        )
        content = f"<table>{''.join(rows)}</table>"
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Vapi simulator</title>{content}</html>\n'
    # A name can hold lone surrogates, which UTF-8 does not have.
    return page.encode("utf-8", "replace")
