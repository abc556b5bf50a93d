# SPDX-License-Identifier: Apache-2.0
"""Chromium, and the pages of Airflow that a user of this package sees."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import (
    Browser,
    Error as PlaywrightError,
    Locator,
    Page,
    Request,
    Route,
    expect,
    sync_playwright,
)

INSTALL = "apt-get install chromium"
ARGUMENTS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTH, HEIGHT = 1280, 900
# For elements to appear on a slow machine, not a measure of what users wait for.
PATIENCE_MS = 60_000
OUTSIDE = re.compile(r"^https?://(?!127\.0\.0\.1[:/])")
TEXTS = ("text/plain", "text/html", "json")
# Left out of pictures: Airflow's menu, and the handle beside a run's details.
MENU_WIDTH = 64
HANDLE_WIDTH = 15


def _box(element: Locator) -> dict[str, float]:
    box = element.bounding_box()
    assert box is not None, f"{element} is not visible"
    return {**box, "right": box["x"] + box["width"], "bottom": box["y"] + box["height"]}


def find_chromium() -> str | None:
    return shutil.which("chromium")


@contextmanager
def start_chromium(program: str) -> Iterator[Browser]:
    # Chromium's sandbox does not work for root.
    arguments = [*ARGUMENTS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


class Window:
    """
    A new browser window that shows Airflow.

    :param browser: the running browser
    :param url: Airflow's URL
    :param answers: collects the text of every response that the window receives
    :param folders: where pictures are saved
    """

    def __init__(self, browser: Browser, url: str, answers: list[str], folders: Sequence[Path]) -> None:
        self.outside: list[str] = []
        self.answers: list[str] = []
        self._url = url
        self._all_answers = answers
        self._folders = folders
        self._context = browser.new_context(
            base_url=url,
            viewport={"width": WIDTH, "height": HEIGHT},
            locale="en-US",
            timezone_id="UTC",
            color_scheme="light",
            permissions=["clipboard-read", "clipboard-write"],
        )
        self._context.set_default_timeout(PATIENCE_MS)
        self._context.route(OUTSIDE, self._answer_for_outside)
        self._context.on("requestfinished", self._keep_answer)
        self.page: Page = self._context.new_page()

    def close(self) -> None:
        self._context.close()

    def save_picture(
        self,
        name: str,
        *,
        of: Locator | None = None,
        corner: tuple[float, float] = (0, 0),
        down_to: Locator | None = None,
    ) -> None:
        """Save a picture of an element, or of the page from a corner down to an element."""
        if of is not None:
            picture = of.screenshot(animations="disabled")
        else:
            size = self.page.viewport_size
            assert size is not None
            x, y = corner
            bottom = size["height"] if down_to is None else _box(down_to)["bottom"]
            picture = self.page.screenshot(
                animations="disabled", clip={"x": x, "y": y, "width": size["width"] - x, "height": bottom - y}
            )
        for folder in self._folders:
            (folder / f"{name}.png").write_bytes(picture)

    def rest_mouse(self) -> None:
        """Move the mouse away, because the clicked element's tooltip covers its neighbours."""
        self.page.mouse.move(WIDTH / 2, 5)

    def texts(self) -> str:
        """Return all text on the page, including form fields."""
        fields = self.page.locator("input, textarea").evaluate_all(
            "fields => fields.map(field => field.value)"
        )
        return "\n".join([self.page.locator("body").inner_text(), *fields])

    def _answer_for_outside(self, route: Route) -> None:
        self.outside.append(route.request.url)
        route.fulfill(content_type="text/plain", body="This is where the browser would have gone.")

    def _keep_answer(self, request: Request) -> None:
        if not request.url.startswith(self._url):
            # The simulator's page of a call shows what was said, as Vapi's dashboard does.
            return
        try:
            response = request.response()
            kind = response.headers.get("content-type", "") if response else ""
            text = response.text() if response and any(word in kind for word in TEXTS) else ""
        except (PlaywrightError, UnicodeDecodeError):
            # Chromium does not keep the bodies of pages that it has left.
            return
        self.answers.append(text)
        self._all_answers.append(text)


class ConnectionsPage:
    """
    The page on which users add, edit and test connections.

    :param window: the window to show it in
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self._page = window.page
        self._page.goto("/connections")
        self.form = self._page.get_by_role("dialog")
        self.base_url = self.form.get_by_label("API base URL")
        self.api_key = self.form.get_by_label("API key")
        self.timeout = self.form.get_by_role("spinbutton", name="Request timeout (seconds)")
        self.retries = self.form.get_by_role("spinbutton", name="Retries")

    def add(self, conn_id: str = "") -> None:
        """Open the form of a new connection and pick the type Vapi."""
        self._page.get_by_role("button", name="Add Connection").click()
        self.form.get_by_label("Connection ID").fill(conn_id)
        self.form.get_by_role("combobox").fill("Vapi")
        self.form.get_by_role("option", name="Vapi", exact=True).click()
        expect(self.form.get_by_role("button", name="Standard Fields")).to_be_visible()

    def open(self, conn_id: str) -> None:
        self._row(conn_id).get_by_role("button", name="Edit Connection").click()
        expect(self.form.get_by_label("Connection ID")).to_have_value(conn_id)

    def open_part(self, name: str) -> Locator:
        """Open one of the form's parts, which closes the others, and return it."""
        heading = self.form.get_by_role("button", name=name, exact=True)
        if heading.get_attribute("aria-expanded") != "true":
            heading.click()
        expect(heading).to_have_attribute("aria-expanded", "true")
        opened = self.form.get_by_role("region")
        # The closing part takes a moment.
        expect(opened).to_have_count(1)
        return opened

    def save(self) -> None:
        self.form.get_by_role("button", name="Save").click()
        expect(self.form).to_be_hidden()
        self._window.rest_mouse()

    def press_test(self, conn_id: str, says: str) -> Locator:
        """Press *Test*, and return the notification with this title."""
        self._row(conn_id).get_by_role("button", name="Test Connection").click()
        self._window.rest_mouse()
        notification = self._page.get_by_role("status").filter(has_text=says)
        expect(notification).to_be_visible()
        return notification

    def _row(self, conn_id: str) -> Locator:
        return self._page.get_by_role("row").filter(
            has=self._page.get_by_role("cell", name=conn_id, exact=True)
        )


class DagPages:
    """
    The pages of a DAG, its runs and their tasks.

    :param window: the window to show them in
    :param dag_id: the DAG's id
    """

    def __init__(self, window: Window, dag_id: str) -> None:
        self._window = window
        self._page = window.page
        self._dag_id = dag_id

    def trigger(self, call_id: str | None = None) -> None:
        """Trigger the paused DAG from its page, like a new user; with a call id if it has that param."""
        self._page.goto(f"/dags/{self._dag_id}")
        self._page.get_by_role("button", name="Trigger Dag").click()
        form = self._page.get_by_role("dialog")
        expect(form.get_by_role("checkbox", name=f"Unpause {self._dag_id} on trigger")).to_be_checked()
        if call_id is not None:
            field = form.get_by_role("group").filter(has_text="call_id")
            expect(field).to_contain_text("The id of a call")
            field.get_by_role("textbox").fill(call_id)
        form.get_by_role("button", name="Trigger", exact=True).click()
        expect(self._page).to_have_url(re.compile(rf"/dags/{self._dag_id}/runs/manual__"))

    def open_run(self, run_id: str) -> None:
        self._page.goto(f"/dags/{self._dag_id}/runs/{run_id}")

    def open_task(self, run_id: str, task_id: str, *tabs: str, map_index: int | None = None) -> None:
        """Open the page of a task or of one of its mapped instances, and then these tabs in order."""
        path = f"/dags/{self._dag_id}/runs/{run_id}/tasks/{task_id}"
        self._page.goto(path if map_index is None else f"{path}/mapped/{map_index}")
        for tab in tabs:
            self.open_tab(tab)

    def open_tab(self, name: str) -> None:
        self._page.get_by_role("link", name=name, exact=True).click()

    def save_picture(self, name: str, down_to: Locator) -> None:
        """Save a picture of the details, without the grid of runs."""
        edge = _box(self._page.get_by_role("separator"))
        corner = (edge["right"] + HANDLE_WIDTH, edge["y"])
        self._window.save_picture(name, corner=corner, down_to=down_to)

    @property
    def call_button(self) -> Locator:
        return self._page.get_by_role("link", name="Vapi Call", exact=True)

    def task_row(self, task_id: str) -> Locator:
        return self._page.get_by_role("row").filter(
            has=self._page.get_by_role("link", name=task_id, exact=True)
        )

    def xcom_row(self, key: str = "return_value") -> Locator:
        return self._page.get_by_role("row").filter(has=self._page.get_by_role("cell", name=key, exact=True))

    def unfold_xcoms(self) -> None:
        self._page.get_by_role("button", name="Expand all extra JSON").click()
        self._window.rest_mouse()

    def copy_xcom(self) -> Any:
        """Return what the summary's button "Copy to clipboard" copies."""
        self.xcom_row().get_by_role("button", name="Copy to clipboard").click()
        self._window.rest_mouse()
        return json.loads(self._page.evaluate("navigator.clipboard.readText()"))
