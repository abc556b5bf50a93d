# SPDX-License-Identifier: Apache-2.0
"""What users see of the package in Airflow's pages, in a real browser; also takes the documentation's pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import (
    HEIGHT,
    MENU_WIDTH,
    WIDTH,
    ConnectionsPage,
    DagPages,
    Window,
)
from cryptography.fernet import Fernet
from playwright.sync_api import Browser, expect

if TYPE_CHECKING:
    from airflow_services import AirflowServices
    from planted import Planted

    from vapi_provider.simulator import VapiSimulator

AIRFLOW = tuple(int(part) for part in version("apache-airflow-core").split(".")[:3])
EXAMPLE = "example_vapi_rename_call"

pytestmark = [
    pytest.mark.skipif(AIRFLOW < (3, 3), reason="earlier Airflows have other pages"),
    # A missing browser is reported before Airflow is started.
    pytest.mark.usefixtures("chromium"),
]


@pytest.fixture
def window(
    browser: Browser, airflow: AirflowServices, ui_answers: list[str], tmp_path: Path
) -> Iterator[Window]:
    wanted = os.environ.get("SCREENSHOTS")
    shown = Window(browser, airflow.url, ui_answers, [tmp_path, *([Path(wanted)] if wanted else [])])
    yield shown
    shown.close()


@pytest.fixture
def stored(airflow: AirflowServices, simulator: VapiSimulator, planted: Planted) -> Iterator[Stored]:
    """The stored connections; the test's own are removed after it."""
    connections = Stored(airflow, {"host": simulator.url, "password": planted.api_key})
    yield connections
    connections.remove()


class Stored:
    """
    The connections that Airflow has stored.

    :param airflow: the services
    :param usual: the fields of a connection to the simulator
    """

    def __init__(self, airflow: AirflowServices, usual: dict[str, str]) -> None:
        self._airflow = airflow
        self._usual = usual

    def add(self, conn_id: str, **fields: str | int) -> None:
        body = {"connection_id": conn_id, "conn_type": "vapi", **self._usual, **fields}
        self._airflow.client.ask("POST", "/api/v2/connections", json=body)

    def row(self, conn_id: str) -> tuple[str, str, str]:
        """Return the decrypted base URL, key and extra."""
        ((host, *secrets),) = self._airflow.postgres.query(
            "select host, password, extra from connection where conn_id = %s", (conn_id,)
        )
        fernet = Fernet(self._airflow.fernet_key)
        key, extra = (fernet.decrypt(secret).decode() for secret in secrets)
        return host, key, extra

    def remove(self) -> None:
        listed = self._airflow.client.ask("GET", "/api/v2/connections")["connections"]
        for conn_id in {connection["connection_id"] for connection in listed} - {"vapi_default"}:
            self._airflow.client.ask("DELETE", f"/api/v2/connections/{conn_id}")


def test_form_has_only_the_fields_of_vapi(window: Window) -> None:
    page = ConnectionsPage(window)
    page.add("vapi_default")
    fields = page.open_part("Standard Fields")
    expect(page.base_url).to_have_attribute("placeholder", "https://api.vapi.ai (leave empty for this)")
    expect(page.api_key).to_have_attribute(
        "placeholder", "the private key from dashboard.vapi.ai, not the public one"
    )
    expect(page.api_key).to_have_attribute("type", "password")
    # Description, base URL and key: no schema, no login, no port.
    expect(fields.get_by_role("textbox")).to_have_count(3)
    expect(fields.get_by_role("spinbutton")).to_have_count(0)
    window.rest_mouse()
    window.save_picture("connection-form", of=page.form)

    extra = page.open_part("Extra Fields")
    expect(page.timeout).to_be_visible()
    expect(page.retries).to_be_visible()
    expect(extra).to_contain_text("Time limit per request; 30 if empty.")
    expect(extra).to_contain_text("4 if empty.")
    assert window.outside == []


def test_form_rejects_a_timeout_that_is_too_long(window: Window) -> None:
    page = ConnectionsPage(window)
    page.add("vapi_slow")
    page.open_part("Extra Fields")
    page.timeout.fill("500")
    page.timeout.blur()
    expect(page.timeout).to_have_value("75")


def test_saved_key_is_masked_and_survives_an_edit(
    window: Window, stored: Stored, simulator: VapiSimulator, planted: Planted
) -> None:
    page = ConnectionsPage(window)
    page.add("vapi_reminders")
    page.base_url.fill(simulator.url)
    page.api_key.fill(planted.api_key)
    page.save()
    assert stored.row("vapi_reminders")[:2] == (simulator.url, planted.api_key)

    page = ConnectionsPage(window)
    page.open("vapi_reminders")
    expect(page.base_url).to_have_value(simulator.url)
    expect(page.api_key).to_have_value("***")
    expect(page.api_key).to_have_attribute("type", "password")
    page.form.get_by_role("button", name="Show value").click()
    expect(page.api_key).to_have_attribute("type", "text")
    expect(page.api_key).to_have_value("***")
    window.rest_mouse()
    window.save_picture("connection-saved", of=page.form)

    page.base_url.fill(f"{simulator.url}/")
    page.open_part("Extra Fields")
    page.timeout.fill("10")
    page.save()
    host, key, extra = stored.row("vapi_reminders")
    assert (host, key) == (f"{simulator.url}/", planted.api_key)
    assert '"timeout": 10' in extra
    assert planted.api_key not in window.texts() + "".join(window.answers)
    assert window.outside == []


def test_button_test_reports_a_wrong_key(
    window: Window, stored: Stored, simulator: VapiSimulator, planted: Planted
) -> None:
    # The host has a port; this one is set because Test fails without it in Airflow 3.3.0 to 3.3.2.
    stored.add("vapi_reminders", port=443)
    # A low window, so that the picture shows the notification near the connections.
    window.page.set_viewport_size({"width": WIDTH, "height": 440})
    page = ConnectionsPage(window)
    said = page.press_test("vapi_reminders", "Test Connection Successful")
    expect(said).to_contain_text(f"{simulator.url} accepts the API key.")
    window.save_picture("connection-test", corner=(MENU_WIDTH, 0))

    wrong = f"{planted.api_key}-mistyped"
    page.open("vapi_reminders")
    page.api_key.fill(wrong)
    page.save()
    said = page.press_test("vapi_reminders", "Test Connection Failed")
    expect(said).to_contain_text("GET /call returned 401: Invalid Key.")
    expect(said).to_contain_text(
        "Replace the API key of this connection with a private key (https://dashboard.vapi.ai/org/api-keys)."
    )
    assert planted.api_key not in window.texts() + "".join(window.answers)


def test_button_test_reports_a_refused_connection(
    window: Window, stored: Stored, simulator: VapiSimulator
) -> None:
    stored.add("vapi_reminders", port=443)
    page = ConnectionsPage(window)
    simulator.stop()
    try:
        said = page.press_test("vapi_reminders", "Test Connection Failed")
    finally:
        simulator.start()
    expect(said).to_contain_text(
        f"GET /call to {simulator.url} failed: the connection was refused. Check the network, your "
        "proxies and the host of this connection; a later try may succeed."
    )


def test_button_test_does_not_send_the_key_unencrypted(
    window: Window, stored: Stored, simulator: VapiSimulator
) -> None:
    stored.add("vapi_reminders", port=443, host="http://vapi.example.invalid")
    page = ConnectionsPage(window)
    said = page.press_test("vapi_reminders", "Test Connection Failed")
    expect(said).to_contain_text(
        "host (API base URL) must use https:// (http:// is allowed only for localhost)"
    )
    expect(said).to_contain_text("The request was not sent.")


@pytest.mark.skipif(AIRFLOW > (3, 3, 2), reason="a bug that later Airflows do not have")
def test_button_test_requires_a_port_in_this_airflow(window: Window, stored: Stored) -> None:
    # If this fails, the notes in the documentation are out of date.
    stored.add("vapi_reminders")
    said = ConnectionsPage(window).press_test("vapi_reminders", "Test Connection Failed")
    expect(said).to_contain_text("Bad Request")


def test_example_succeeds_when_triggered_in_the_ui(
    window: Window, airflow: AirflowServices, simulator: VapiSimulator, planted: Planted
) -> None:
    airflow.client.ask("PATCH", f"/api/v2/dags/{EXAMPLE}", json={"is_paused": True})
    call_id = simulator.add_call(status="in-progress", body=planted.call())
    pages = DagPages(window, EXAMPLE)
    pages.trigger(call_id)
    try:
        expect(pages.task_row("wait_for_call")).to_contain_text("Running")
    finally:
        simulator.end_call(call_id)
    expect(pages.task_row("wait_for_call")).to_contain_text("Success")
    expect(pages.task_row("rename_call")).to_contain_text("Success")
    # The run itself, and its two tasks.
    expect(window.page.get_by_text("Success", exact=True)).to_have_count(3)
    assert simulator.get_call(call_id)["name"] == "Reminder: completed"
    # Otherwise, the table's last columns are cut off.
    window.page.set_viewport_size({"width": 1520, "height": HEIGHT})
    pages.save_picture("dag-run", down_to=pages.task_row("wait_for_call"))
    assert window.outside == []


@dataclass(frozen=True)
class Run:
    """A run of the example and its call."""

    run_id: str
    call_id: str


@pytest.fixture(scope="module")
def finished(running_airflow: AirflowServices, simulator: VapiSimulator, planted: Planted) -> Run:
    """A run of the example that has succeeded."""
    client = running_airflow.client
    client.ask("PATCH", f"/api/v2/dags/{EXAMPLE}", json={"is_paused": False})
    minute_ago = datetime.now(timezone.utc) - timedelta(seconds=62.5)
    times = {"createdAt": minute_ago.isoformat(), "startedAt": minute_ago.isoformat()}
    call_id = simulator.add_call(status="in-progress", body=planted.call() | times)
    simulator.end_call(call_id)
    run_id = client.trigger(EXAMPLE, {"call_id": call_id})
    path = f"/api/v2/dags/{EXAMPLE}/dagRuns/{run_id}"
    running_airflow.wait_until(
        lambda: client.ask("GET", path)["state"] == "success", 120, "the example has succeeded"
    )
    return Run(run_id, call_id)


def test_vapi_call_button_works_while_the_task_waits(
    window: Window, airflow: AirflowServices, simulator: VapiSimulator, planted: Planted
) -> None:
    airflow.client.ask("PATCH", f"/api/v2/dags/{EXAMPLE}", json={"is_paused": False})
    call_id = simulator.add_call(status="in-progress", body=planted.call())
    run_id = airflow.client.trigger(EXAMPLE, {"call_id": call_id})
    pages = DagPages(window, EXAMPLE)
    pages.open_task(run_id, "wait_for_call", "Details")
    try:
        expect(pages.call_button).to_have_attribute("href", f"{simulator.url}/calls/{call_id}")
        expect(window.page.get_by_text("Running", exact=True)).to_be_visible()
    finally:
        simulator.end_call(call_id)
    expect(window.page.get_by_text("Success", exact=True)).to_be_visible()


@pytest.mark.parametrize("task_id", ["wait_for_call", "rename_call"])
def test_vapi_call_button_opens_the_calls_page(
    window: Window, simulator: VapiSimulator, finished: Run, task_id: str
) -> None:
    url = f"{simulator.url}/calls/{finished.call_id}"
    pages = DagPages(window, EXAMPLE)
    pages.open_task(finished.run_id, task_id, "Details")
    expect(pages.call_button).to_have_attribute("href", url)
    if task_id == "wait_for_call":
        pages.save_picture("call-link", down_to=window.page.get_by_role("row").filter(has_text="Run ID"))
    with window.page.expect_popup() as popup:
        pages.call_button.click()
    expect(popup.value).to_have_url(url)
    expect(popup.value.get_by_text(finished.call_id, exact=True)).to_be_visible()
    assert window.outside == []


def test_summary_is_in_the_xcom_tab(window: Window, finished: Run) -> None:
    pages = DagPages(window, EXAMPLE)
    pages.open_task(finished.run_id, "rename_call", "Storage", "XCom")
    pages.unfold_xcoms()
    shown = pages.xcom_row()
    expect(shown).to_contain_text('"name": "Reminder: completed"')
    expect(shown).to_contain_text('"outcome": "completed"')
    # Once the JSON is highlighted, each key is an element.
    expect(shown.get_by_text('"duration_seconds"', exact=True)).to_be_visible()
    pages.save_picture("xcom", down_to=shown)
    summary = pages.copy_xcom()
    assert summary["id"] == finished.call_id
    assert summary["name"] == "Reminder: completed"
    assert summary["outcome"] == "completed"


@pytest.mark.parametrize("task_id", ["wait_for_call", "rename_call"])
def test_no_task_page_shows_a_secret(window: Window, finished: Run, planted: Planted, task_id: str) -> None:
    pages = DagPages(window, EXAMPLE)
    pages.open_task(finished.run_id, task_id, "Logs")
    expect(window.page.get_by_text(finished.call_id).first).to_be_visible()
    shown = [window.texts()]
    for tab, there in (
        ("Rendered Templates", window.page.get_by_role("row").filter(has_text="call_id")),
        ("Details", pages.call_button),
        ("Audit Log", window.page.get_by_role("cell", name="success", exact=True)),
        ("Storage", window.page.get_by_role("button", name="Add Task State Store")),
        ("XCom", pages.xcom_row()),
    ):
        pages.open_tab(tab)
        expect(there).to_be_visible()
        shown.append(window.texts())
    pages.unfold_xcoms()
    expect(pages.xcom_row()).to_contain_text(finished.call_id)
    shown.append(window.texts())
    everything = "\n".join([*shown, *window.answers])
    assert [what for what, secret in planted.all.items() if secret in everything] == []
    assert window.outside == []
