# SPDX-License-Identifier: Apache-2.0
"""Open the simulator's pages like a browser, and read them."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING

import requests

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator


class Page(HTMLParser):
    """Collects the elements, the attributes and the text of a page."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(response.text)
        self.text = " ".join(self.texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def has_in_order(self, *texts: str) -> bool:
        """Return True if the page has these texts in this order."""
        position = 0
        for text in texts:
            position = self.text.find(text, position)
            if position < 0:
                return False
        return True


def open_path(simulator: VapiSimulator, path: str = "/", **headers: str) -> requests.Response:
    """Open a page like a browser, without the key."""
    return requests.get(simulator.url + path, headers=headers, timeout=20)


def call_page(simulator: VapiSimulator, call_id: str) -> Page:
    response = open_path(simulator, f"/calls/{call_id}")
    assert response.status_code == 200
    return Page(response)
