# SPDX-License-Identifier: Apache-2.0
"""``make play``: a new user triggers an example in the browser, and no process is left afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from airflow_services import EXAMPLES
from browser import DagPages, Window
from playwright.sync_api import expect
from processes import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DAG_ID = "example_vapi_campaign"
START_SECONDS = 180
STOP_SECONDS = 60
# The time limit of a run with calls that take half a minute, on a busy machine.
RUN_MS = 240_000


class Play:
    """
    A running ``make play``.

    :param folder: the folder for its output and its temporary files
    """

    def __init__(self, folder: Path) -> None:
        self._output = folder / "output.log"
        self._temporary = folder / "tmp"
        self._temporary.mkdir()
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, EXAMPLES / "play.py"],
                env=os.environ | {"TMPDIR": str(self._temporary)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.output or not self.is_running, START_SECONDS, text)
        assert text in self.output, self.output

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def url_of(self, what: str) -> str:
        found = re.search(rf"^{what} +(http://127\.0\.0\.1:\d+)$", self.output, re.MULTILINE)
        assert found, self.output
        return found[1]

    def services(self) -> list[psutil.Process]:
        """Return all processes that run in its temporary folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd().startswith(str(self._temporary)):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def wait_for_end(self) -> int:
        return self._process.wait(STOP_SECONDS)

    def kill(self) -> None:
        self._process.kill()
        for process in self.services():
            process.kill()

    def leftovers(self) -> list[object]:
        """Return the processes and files that it left behind."""
        return [*self.services(), *self._temporary.iterdir()]


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    running = Play(tmp_path)
    yield running
    running.kill()


def test_example_succeeds_and_a_failure_stops_everything(
    play: Play, browser: Browser, tmp_path: Path
) -> None:
    play.wait_for("Ready.")
    wanted = os.environ.get("SCREENSHOTS")
    window = Window(browser, play.url_of("Airflow"), [], [tmp_path, *([Path(wanted)] if wanted else [])])
    pages = DagPages(window, DAG_ID)
    pages.trigger()
    expect(pages.task_row("report")).to_contain_text("Success", timeout=RUN_MS)
    run_id = window.page.url.rpartition("/")[2]
    pages.open_task(run_id, "call", "Details", map_index=0)
    with window.page.expect_popup() as popup:
        pages.call_button.click()
    expect(popup.value).to_have_url(re.compile(re.escape(play.url_of("Simulator")) + "/calls/"))
    window.page.set_viewport_size({"width": 1400, "height": 600})
    window.save_picture("campaign")
    assert window.outside == []
    window.close()

    (scheduler,) = [each for each in play.services() if "scheduler" in " ".join(each.cmdline())][:1]
    scheduler.kill()
    assert play.wait_for_end() == 1
    assert "scheduler ended with exit code -9" in play.output
    assert play.leftovers() == []


def test_ctrl_c_while_it_starts_stops_everything(play: Play) -> None:
    play.wait_for("Setting up")
    wait_until(play.services, START_SECONDS, "a service runs")
    play.interrupt()
    assert play.wait_for_end() == 0
    assert "Stopped everything." in play.output
    assert play.leftovers() == []
