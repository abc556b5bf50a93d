# SPDX-License-Identifier: Apache-2.0
"""The figures that the documentation names are those of the code."""

from __future__ import annotations

import re
from typing import Any

import pytest
from markdown_pages import DOCS, README, read, table

from airflow.configuration import conf
from vapi_provider.client import artifact, deadline, hang_up, responses, transport
from vapi_provider.connection import CONN_FIELDS, DEFAULT_TIMEOUT
from vapi_provider.models import call, cleaning
from vapi_provider.placing import dialling, line, placement, schedule, search
from vapi_provider.placing.request import MAX_NAME_LENGTH
from vapi_provider.polling import calls, changes, connection, poller, walk
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.transfers import export
from vapi_provider.triggers import call as trigger
from vapi_provider.waiting import given, mixin, wait


@pytest.mark.parametrize(
    ("page", "text", "found", "stated"),
    [
        ("how-it-works", "at most 20 requests", poller.REQUESTS_PER_POLL, 20),
        ("how-it-works", "Up to 20 calls are read one by one", poller.REQUESTS_PER_POLL, 20),
        ("how-it-works", "at most 14 pages, normally of up to 100 calls and about 5 MB each", (poller.PAGES_PER_POLL, changes.PAGE_BYTES, walk.MOST_ROWS), (14, 5_000_000, 100)),
        ("how-it-works", "1,400 calls of up to 50 KB, or 70 MB", (poller.PAGES_PER_POLL * walk.MOST_ROWS, poller.PAGES_PER_POLL * changes.PAGE_BYTES), (1_400, 70_000_000)),
        ("how-it-works", "in batches of 100", calls.LOT, 100),
        ("how-it-works", "never less than 5 seconds", poller.MIN_INTERVAL_SECONDS, 5),
        ("how-it-works", "looks back over the last 15 minutes", changes.CATCH_UP_SECONDS, 900),
        ("how-it-works", "a killed task goes on for 5 seconds", search.KILL_SECONDS, 5),
        ("how-it-works", "the list may lag by 30", search.LIST_LAG_SECONDS, 30),
        ("how-it-works", "its time limit (30 seconds", DEFAULT_TIMEOUT, 30),
        ("how-it-works", "from an hour before", search.CLOCK_DIFFERENCE.total_seconds(), 3600),
        ("how-it-works", "up to 200 pages of 100 calls or 512 MiB", (search.MAX_PAGES, search.PAGE_SIZE, search.MAX_BYTES), (200, 100, 2**29)),
        ("how-it-works", "if its last search is more than 5 seconds old", placement.FRESH_SECONDS, 5),
        ("how-it-works", "would wait at least five seconds", trigger.SETTLE_SECONDS, 5),
        ("scaling", "at most 20 requests", poller.REQUESTS_PER_POLL, 20),
        ("scaling", "| requests per poll | 20 |", poller.REQUESTS_PER_POLL, 20),
        ("scaling", "| shortest interval of a poll | 5 seconds |", poller.MIN_INTERVAL_SECONDS, 5),
        ("scaling", "up to 15 minutes before the triggerer began to wait", changes.CATCH_UP_SECONDS, 900),
        ("scaling", "N/19 to N/6 polls", (poller.REQUESTS_PER_POLL - 1, poller.REQUESTS_PER_POLL - poller.PAGES_PER_POLL), (19, 6)),
        ("scaling", "every 15 seconds, the default interval", VapiCallSensor(task_id="wait", call_id="x").poke_interval, 15),
        ("scaling", "as long as Vapi asks (up to an hour)", poller.MAX_RETRY_AFTER_SECONDS, 3600),
        ("scaling", "1,024 by default | `[core] max_map_length`", conf.getint("core", "max_map_length"), 1024),
        ("scaling", "1,000 by default | `[triggerer] capacity`", conf.getint("triggerer", "capacity"), 1000),
        ("waiting", "with at most 20 requests", poller.REQUESTS_PER_POLL, 20),
        ("waiting", "at least 5 when deferred", poller.MIN_INTERVAL_SECONDS, 5),
        ("waiting", "reads the connection once a minute", connection.CONNECTION_SECONDS, 60),
        ("waiting", "the waits over it end after five minutes", connection.MISSING_SECONDS, 300),
        ("waiting", "about two minutes later", mixin.BACKSTOP_SECONDS, 120),
        ("connection", "All tries of a request end within 75 seconds", transport.ALL_TRIES_SECONDS, 75),
        ("connection", "after a transient error; 0 to 10", CONN_FIELDS["max_retries"]["schema"]["maximum"], 10),
        ("connection", "triggerers do within a minute", connection.CONNECTION_SECONDS, 60),
        ("connection", "triggers share one look-up a minute", connection.CONNECTION_SECONDS, 60),
        ("api", "within 75 seconds in all", transport.ALL_TRIES_SECONDS, 75),
        ("api", "408, 425, 429, 5xx", sorted(responses._RETRY_STATUSES), [408, 425, 429]),
        ("troubleshooting", "a requested pause that is longer than a minute", transport.MAX_RETRY_AFTER_SECONDS, 60),
        ("outcomes", "when its `endedAt` is a minute old", call.STUCK_SECONDS, 60),
        ("outcomes", "gives it 15 seconds", call.REASON_SECONDS, 15),
        ("outcomes", "nesting deeper than 50 levels is cut", cleaning._MAX_DEPTH, 50),
        ("exporting", "ended less than 60 seconds ago", export.SETTLE_SECONDS, 60),
        ("exporting", "ended less than 30 seconds ago", export.LIST_LAG_SECONDS, 30),
        ("exporting", "until 5 minutes after its end", artifact.ARRIVAL_SECONDS, 300),
        ("exporting", "64 KiB arrive in 30 seconds", (deadline.PACE_BYTES, deadline.PACE_SECONDS), (65_536, 30)),
        ("exporting", "| 1 GiB |", artifact.MAX_BYTES, 2**30),
        ("placing", "at most 30 characters", MAX_NAME_LENGTH, 30),
        ("placing", "In a worker, this takes at most 3 seconds", hang_up.HANG_UP_SECONDS, 3),
        ("placing", "In the first 30 seconds after the placement", wait.READ_LAG_SECONDS, 30),
        ("placing", "until it is dialled, for up to 14 seconds", sum(dialling.PAUSES), 14),
        ("placing", "The default of 12 hours", given.DEFAULT_TIMEOUT, 12 * 3600),
        ("campaigns", "go on within 30 seconds after it", line.OPENING_SECONDS, 30),
        ("campaigns", "In the last 30 seconds before the closing", schedule._SENDING_TIME.total_seconds(), 30),
        ("troubleshooting", "`VapiCreateCallOperator` is 12 hours by default", given.DEFAULT_TIMEOUT, 12 * 3600),
        ("simulator", "for at least 5 seconds", trigger.SETTLE_SECONDS, 5),
        ("troubleshooting", "Airflow's default of 7 days", VapiCallSensor(task_id="wait", call_id="x").timeout, 604_800),
        ("troubleshooting", "[core] max_map_length`, 1,024 by default", conf.getint("core", "max_map_length"), 1024),
    ],
)  # fmt: skip
def test_figure_is_that_of_the_code(page: str, text: str, found: Any, stated: Any) -> None:
    whole = " ".join(read(DOCS / f"{page}.md").replace("*", "").split())
    assert text in whole
    assert found == stated, f"{page}.md says: {text}"


def test_readme_has_the_measured_figures() -> None:
    ours, theirs = re.findall(
        r"with 1,000 calls, that is\s+(\d+) requests a second, and (\d+) with `HttpSensor`",
        README.read_text(),
    )[0]
    rows = table("scaling.md", "| waiting for |")
    first = next(number for number, row in enumerate(rows) if row[0] == "1,000 calls")
    assert [float(row[2]) for row in rows[first : first + 2]] == [float(ours), float(theirs)]
