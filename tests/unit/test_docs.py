# SPDX-License-Identifier: Apache-2.0
"""What the pages of the documentation say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vapi_provider.sensors import call as sensor
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.triggers import feed, watcher

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
WAITING = (DOCS / "waiting.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_python_runs(page: Path) -> None:
    for block in re.findall(
        r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    ):
        exec(block, {"VapiCallSensor": VapiCallSensor})


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("at most 20 requests", watcher.REQUESTS_PER_POLL == 20),
        ("Up to 20 calls are read one by one", watcher.REQUESTS_PER_POLL == 20),
        ("at most 14 pages of about 1.5 MB", (watcher.PAGES_PER_POLL, feed.PAGE_BYTES) == (14, 1_500_000)),
        ("never less than 5 seconds", watcher.MIN_INTERVAL_SECONDS == 5),
        ("reads the connection once a minute", watcher.CONNECTION_SECONDS == 60),
        ("as long as Vapi asks (up to an hour)", watcher.MAX_RETRY_AFTER_SECONDS == 3600),
        ("ends them after five minutes", watcher.MISSING_SECONDS == 300),
        ("some two minutes later", sensor.BACKSTOP_SECONDS == 120),
        ("every 15 seconds, the default interval", VapiCallSensor(task_id="wait", call_id="x").poke_interval == 15),
    ],
)  # fmt: skip
def test_the_page_on_waiting_has_the_figures_of_the_code(said: str, meant: bool) -> None:
    assert re.search(r"\s+".join(map(re.escape, said.replace("*", "").split())), WAITING.replace("*", ""))
    assert meant
