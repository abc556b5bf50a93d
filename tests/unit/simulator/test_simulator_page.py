# SPDX-License-Identifier: Apache-2.0
"""The web page of a call, where the button "Vapi Call" leads while the connection points to the simulator."""

from __future__ import annotations

import html
import socket
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest
import requests

from vapi_provider.simulator import Fault, VapiSimulator

UNKNOWN_ID = "0198a3f0-0000-7000-8000-00000000000a"


class Page(HTMLParser):
    """Collects the elements and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.elements.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def open_page(simulator: VapiSimulator, call_id: str) -> requests.Response:
    """Open the page of a call as a browser does, without the key."""
    return requests.get(f"{simulator.url}/calls/{call_id}", timeout=20)


def test_page_shows_a_call(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(body={"name": "Reminder"})
    simulator.end_call(call_id, "customer-busy", transcript="User: Not now.")
    response = open_page(simulator, call_id)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    texts = Page(response.text).texts
    for shown in (call_id, "ended", "Reminder", "customer-busy"):
        assert shown in texts
    assert "Not now" not in response.text


def test_page_follows_the_call(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="ringing")
    first = Page(open_page(simulator, call_id.upper()).text).texts
    simulator.end_call(call_id)
    second = Page(open_page(simulator, call_id).text).texts
    assert ("ringing" in first, "ended" in second) == (True, True)


def test_page_shows_no_control_url(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="in-progress")
    url = simulator.get_call(call_id)["monitor"]["controlUrl"]
    page = open_page(simulator, call_id).text
    assert url.rpartition("/")[2] not in page


@pytest.mark.parametrize("field", ["name", "status", "endedReason"])
def test_page_escapes_what_a_call_contains(simulator: VapiSimulator, field: str) -> None:
    script = "<script>alert('x')</script>&amp;"
    call_id = simulator.add_call(body={field: script})
    page = Page(open_page(simulator, call_id).text)
    assert "script" not in page.elements
    assert script in page.texts


def test_page_of_an_unknown_call_is_404(simulator: VapiSimulator) -> None:
    response = open_page(simulator, UNKNOWN_ID)
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert UNKNOWN_ID in response.text


def test_page_escapes_an_unknown_id(simulator: VapiSimulator) -> None:
    response = open_page(simulator, "%3Cscript%3Ealert(1)%3C%2Fscript%3E")
    assert response.status_code == 404
    assert "script" not in Page(response.text).elements


@pytest.mark.parametrize("name", [None, 7, ["a"], "a\ud800b", "M\u00fcller"])
def test_page_shows_any_name(simulator: VapiSimulator, name: object) -> None:
    call_id = simulator.add_call(body={"name": name})
    response = open_page(simulator, call_id)
    assert response.status_code == 200
    if name is not None:
        assert html.escape(str(name).replace("\ud800", "?")) in response.text


def test_page_is_not_part_of_the_api(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call()
    simulator.faults.add(Fault(status=503))
    assert open_page(simulator, call_id).status_code == 200
    assert simulator.requests == []
    assert len(simulator.faults) == 1


def test_page_is_served_on_loopback_only(simulator: VapiSimulator) -> None:
    port = urlsplit(simulator.url).port
    assert port is not None
    # All of 127.0.0.0/8 is this machine, but only one address of it is the simulator's.
    with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.2", port), timeout=20):
        pass
