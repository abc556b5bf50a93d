# SPDX-License-Identifier: Apache-2.0
"""The page on events and alerts matches the code."""

from __future__ import annotations

import inspect
import re

from markdown_pages import DOCS, ROOT, code_in, read, table

from vapi_provider.models.ended import EndedCall
from vapi_provider.notifications import alert, call as notifier_module
from vapi_provider.notifications.call import VapiNotifier
from vapi_provider.polling import connection, listeners, poller
from vapi_provider.triggers import ended, memory, state
from vapi_provider.triggers.ended import VapiCallEndedTrigger

NOTIFIER = {
    "customer": {"number": "+12025550143"},
    "assistant_id": "0198a3f0-0000-7000-8000-000000000002",
    "phone_number_id": "0198a3f0-0000-7000-8000-000000000003",
}


def check_defaults(rows: list[list[str]], kind: type) -> None:
    """Compare a table of arguments with a class: none is missing, and the defaults match."""
    parameters = dict(inspect.signature(kind).parameters)
    assert sorted(code_in(row[0])[0] for row in rows) == sorted(parameters)
    for row in rows:
        parameter = parameters[code_in(row[0])[0]]
        if code := code_in(row[2]):
            assert repr(parameter.default) == code[0].replace('"', "'"), parameter.name
        if not row[2]:
            assert parameter.default is inspect.Parameter.empty, parameter.name


def page() -> str:
    return " ".join(read(DOCS / "events.md").split())


def test_arguments_of_the_trigger() -> None:
    check_defaults(table("events.md", "| argument of the trigger |"), VapiCallEndedTrigger)


def test_arguments_of_the_notifier() -> None:
    rows = table("events.md", "| argument of the notifier |")
    check_defaults(rows, VapiNotifier)
    templated = {code_in(row[0])[0] for row in rows if row[3] == "yes"}
    assert templated == set(VapiNotifier.template_fields)
    assert VapiNotifier(**NOTIFIER)._quiet_seconds == 15 * 60  # type: ignore[arg-type]


def test_keys_of_the_payload() -> None:
    rows = table("events.md", "| key of the payload |")
    assert [code_in(row[0])[0] for row in rows] == list(EndedCall.__annotations__)


def test_figures_of_the_trigger() -> None:
    text = page()
    assert f"from {ended.MIN_POLL_SECONDS:g} seconds to a day;" in text
    assert ended.MAX_POLL_SECONDS == 86_400
    assert f"took more than {state.CALL_SECONDS:g} seconds" in text
    assert f"larger than {connection.MAX_RESPONSE_BYTES >> 20} MiB" in text
    assert ended.MAX_LOOKBACK_SECONDS == 86_400
    assert "more than an hour after its `endedAt`" in text
    assert memory.MEMORY_SECONDS == 3_600
    assert f"ends of the last {listeners.LONGEST_ABSENCE.total_seconds() / 3_600:g} hours" in text
    assert "pauses of at most ten minutes" in text
    assert poller.MAX_BACK_OFF_SECONDS == 600
    assert f"at most {poller.REQUESTS_PER_POLL} requests" in text


def test_figures_of_the_notifier() -> None:
    text = page()
    assert f"at most {notifier_module.MAX_MESSAGE_LENGTH:,} characters" in text
    assert f"A request takes at most {alert.REQUEST_SECONDS:g} seconds" in text
    # The last page may be requested at the end of the search, and the call follows.
    longest = alert.SEARCH_SECONDS + 2 * alert.REQUEST_SECONDS
    assert f"take at most {longest:g}" in text


def test_messages_are_those_of_the_package() -> None:
    sources = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "vapi_provider").rglob("*.py"))
    # "Polling Vapi" is the subject of an outage.
    written = sources.replace('"Polling Vapi"', "Polling Vapi failed")
    shown = [code_in(row[0])[0] for row in table("events.md", "| message |")]
    assert [message for message in shown if message not in written] == []
    assert '"%s failed (connection %r' in sources


def test_sentences_are_short() -> None:
    text = re.sub(r"```.*?```|^\|.*?$|^#.*?$", "\n", read(DOCS / "events.md"), flags=re.DOTALL | re.MULTILINE)
    sentences = re.split(r"(?<=[.!?:])\s|\n\n|\n- ", text)
    assert [each for each in sentences if len(each.split()) > 35] == []
