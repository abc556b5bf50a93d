# SPDX-License-Identifier: Apache-2.0
"""Glimpses: as much of a call as tells whether it is over, for who reads very many, within limits of their own."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
import requests_mock
from hook_helpers import (
    API,
    CALL,
    CALL_ID,
    CALL_URL,
    KEY,
    OTHER_ID,
    PATH,
    FakeTime,
    RawServer,
    answer_of,
    failure,
    make_connection,
    say,
)

from vapi_provider.client.responses import OversizedResponseError
from vapi_provider.connection import RequestLimits
from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiCallNotFoundError,
    VapiConfigurationError,
    VapiError,
    VapiPermanentError,
    VapiRateLimitError,
    VapiTransientError,
)
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.simulator import VapiSimulator

LIST_URL = f"{API}/call"
ENDED_AT = "2026-08-01T10:00:00.123Z"
BODY: dict[str, Any] = {
    "id": CALL_ID,
    "orgId": "an organization",
    "status": "ended",
    "createdAt": "2026-08-01T09:58:00.000Z",
    "updatedAt": "2026-08-01T12:00:01.5+02:00",
    "endedAt": ENDED_AT,
    "analysis": {"summary": "Confirmed."},
    "transcript": "AI: Hello.\n",
}


def hook_with(host: str | None = None, extra: dict[str, Any] | None = None, **limits: Any) -> VapiHook:
    connection = make_connection(host=host, extra=json.dumps(extra or {}))
    return VapiHook.from_connection(connection, RequestLimits(**limits))


@pytest.fixture
def hook() -> VapiHook:
    return hook_with(max_retries=0)


ENCODINGS = [
    pytest.param(lambda text: text.encode(), id="utf-8"),
    pytest.param(lambda text: text.encode("utf-8-sig"), id="utf-8-with-mark"),
    pytest.param(lambda text: text.encode("utf-16"), id="utf-16"),
    pytest.param(lambda text: text.encode("utf-16-be"), id="utf-16-be"),
    pytest.param(lambda text: text.encode("utf-32"), id="utf-32"),
    pytest.param(lambda text: f"\n\t {text} \r\n".encode(), id="white-space-around"),
]


# One call


@pytest.mark.parametrize("encode", ENCODINGS)
def test_a_glimpse_is_what_the_whole_call_says(
    api: requests_mock.Mocker, hook: VapiHook, encode: Callable[[str], bytes]
) -> None:
    api.get(CALL_URL, content=encode(json.dumps(BODY, ensure_ascii=False)))
    glimpse, call = hook.get_status(CALL_ID), hook.get_call(CALL_ID)
    assert glimpse.updated_at == datetime(2026, 8, 1, 10, 0, 1, 500_000, tzinfo=timezone.utc)
    assert (glimpse.is_terminal, glimpse.has_ended, glimpse.has_analysis) == (True, True, True)
    for name in ("id", "status", "created_at", "updated_at", "ended_at", "analysis", "is_terminal"):
        assert getattr(glimpse, name) == getattr(call, name)


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param('"status": "\\ud800ended"', id="lone-surrogate-in-a-status"),
        pytest.param('"name": "a\\udfff"', id="lone-surrogate-in-a-name"),
        pytest.param('"transcript": "\\ud83d"', id="half-an-emoji"),
        pytest.param('"analysis": {"summary": "\\ud83d"}', id="half-an-emoji-in-the-analysis"),
        pytest.param('"\\ud800": 1', id="lone-surrogate-in-a-key"),
        pytest.param('"metadata": {"\\ud800": 1}', id="lone-surrogate-in-a-deep-key"),
        pytest.param('"status": null, "createdAt": 5, "endedAt": [], "analysis": "none"', id="other-types"),
        pytest.param('"cost": NaN, "costs": [Infinity, -Infinity]', id="numbers-that-are-none"),
        pytest.param('"cost": 1e999', id="too-large-a-number"),
        pytest.param(f'"cost": {"9" * 400}', id="long-number"),
        pytest.param(f'"metadata": {"[" * 300}{"]" * 300}', id="deep"),
        pytest.param('"name": "a", "name": "b"', id="twice-the-same-key"),
        pytest.param('"name": "\\u0000"', id="nul"),
        pytest.param('"id": "' + CALL_ID.upper() + '"', id="id-in-upper-case"),
    ],
)
def test_what_the_whole_call_survives_a_glimpse_survives(
    api: requests_mock.Mocker, hook: VapiHook, odd: str
) -> None:
    text = f'{{"id": "{CALL_ID}", "status": "ended", {odd}}}'
    api.get(CALL_URL, text=text)
    api.get(LIST_URL, text=f"[{text}]")
    call = hook.get_call(CALL_ID)
    (row,) = hook.list_statuses({"limit": 1}).rows
    for glimpse in (hook.get_status(CALL_ID), row):
        for name in ("id", "status", "created_at", "ended_at", "has_analysis", "is_terminal"):
            assert getattr(glimpse, name) == getattr(call, name)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        pytest.param(b"", "an empty body", id="empty"),
        pytest.param(b" \n", "an empty body", id="blank"),
        pytest.param(b"<html><title>Sign in</title></html>", "not JSON", id="html"),
        pytest.param(b"[]", "a list in place of a call", id="list"),
        pytest.param(b"null", "null in place of a call", id="null"),
        pytest.param(b'"ended"', "a text in place of a call", id="text"),
        pytest.param(b'{"status": "ended"}', "a call without an id", id="no-id"),
        pytest.param(b'{"id": 7, "status": "ended"}', "a call without an id", id="number-for-an-id"),
        pytest.param(json.dumps({**CALL, "id": OTHER_ID}).encode(), "another call", id="another-call"),
        pytest.param(b'{"id": "%b", "stat' % CALL_ID.encode(), "ends too early", id="cut-off"),
        pytest.param(b'{"id": "\xff"}', "not JSON", id="no-encoding"),
    ],
)
def test_what_is_no_call_is_a_passing_error(
    api: requests_mock.Mocker, hook: VapiHook, content: bytes, what: str
) -> None:
    api.get(CALL_URL, content=content)
    error = failure(VapiTransientError, lambda: hook.get_status(CALL_ID))
    assert f"GET {PATH} was answered 200 with " in str(error)
    assert what in str(error)
    assert api.call_count == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, VapiPermanentError),
        (401, VapiAuthenticationError),
        (403, VapiAuthenticationError),
        (404, VapiCallNotFoundError),
        (429, VapiRateLimitError),
        (500, VapiTransientError),
    ],
)
def test_a_refusal_is_the_same_as_for_the_whole_call(
    api: requests_mock.Mocker, hook: VapiHook, status: int, kind: type[Any]
) -> None:
    body = {"message": f"No, {KEY}.", "error": "So it is", "statusCode": status}
    api.get(CALL_URL, status_code=status, json=body)
    api.get(LIST_URL, status_code=status, json=body)
    error = failure(kind, lambda: hook.get_status(CALL_ID))
    assert str(error) == str(failure(kind, lambda: hook.get_call(CALL_ID)))
    listed = VapiPermanentError if kind is VapiCallNotFoundError else kind
    assert failure(listed, lambda: hook.list_statuses({})).status_code == status


@pytest.mark.parametrize("call_id", ["", "None", None, "../call", f"{CALL_ID}?x=1"])
def test_a_bad_id_sends_nothing(api: requests_mock.Mocker, hook: VapiHook, call_id: Any) -> None:
    failure(VapiConfigurationError, lambda: hook.get_status(call_id))
    assert not api.called


def test_an_id_is_taken_with_white_space_and_in_any_case(api: requests_mock.Mocker, hook: VapiHook) -> None:
    api.get(CALL_URL, json=BODY)
    assert hook.get_status(f" {CALL_ID.upper()}\n").id == CALL_ID


def test_a_glimpse_of_the_simulators_calls(simulator: VapiSimulator) -> None:
    """The query goes to Vapi as it is given."""
    ids = [simulator.add_call(status=status) for status in ("ringing", "ended")]
    hook = VapiHook.from_connection(make_connection(host=simulator.url, password=simulator.api_key))
    assert [hook.get_status(call_id).is_terminal for call_id in ids] == [False, True]
    query = {"limit": 5, "updatedAtGe": simulator.get_call(ids[1])["updatedAt"]}
    page = hook.list_statuses(query)
    assert {row.id: row.is_terminal for row in page.rows}[ids[1]] is True
    assert simulator.requests[-1].query == {name: str(value) for name, value in query.items()}
    hook.close()


# A page


@pytest.mark.parametrize("encode", ENCODINGS)
def test_a_page_has_its_rows_in_order_and_its_size(
    api: requests_mock.Mocker, hook: VapiHook, encode: Callable[[str], bytes]
) -> None:
    content = encode(json.dumps([BODY, {**BODY, "id": OTHER_ID, "status": "ringing"}]))
    api.get(LIST_URL, content=content)
    page = hook.list_statuses({"limit": 2, "updatedAtGe": "2026-08-01T10:00:00+00:00"})
    assert [(row.id, row.is_terminal) for row in page.rows] == [(CALL_ID, True), (OTHER_ID, False)]
    assert page.size == len(content)
    assert api.last_request.qs == {"limit": ["2"], "updatedatge": ["2026-08-01t10:00:00+00:00"]}


BAD_ROWS = [
    pytest.param("null", id="null"),
    pytest.param("7", id="number"),
    pytest.param('"ended"', id="text"),
    pytest.param("[]", id="list"),
    pytest.param("{}", id="empty"),
    pytest.param('{"status": "ended"}', id="no-id"),
    pytest.param('{"id": null}', id="null-id"),
    pytest.param('{"id": {"a": 1}}', id="object-for-an-id"),
]


@pytest.mark.parametrize("bad", BAD_ROWS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_bad_row_does_not_hide_the_others(
    api: requests_mock.Mocker, hook: VapiHook, bad: str, place: int
) -> None:
    rows = [json.dumps(BODY), json.dumps({**BODY, "id": OTHER_ID})]
    rows.insert(place, bad)
    api.get(LIST_URL, text=f"[{','.join(rows)}]")
    assert [row.id for row in hook.list_statuses({}).rows] == [CALL_ID, OTHER_ID]


@pytest.mark.parametrize("sound", [[], [BODY]], ids=["alone", "among-others"])
def test_a_page_of_bad_rows_is_none_of_them(
    api: requests_mock.Mocker, hook: VapiHook, sound: list[dict[str, Any]]
) -> None:
    api.get(LIST_URL, json=[None, 1, "x", *sound])
    assert [row.id for row in hook.list_statuses({}).rows] == [row["id"] for row in sound]


def test_an_empty_page_has_a_time_too(api: requests_mock.Mocker, hook: VapiHook) -> None:
    api.get(LIST_URL, text="[]", headers={"Date": "Sat, 01 Aug 2026 10:00:05 GMT"})
    page = hook.list_statuses({})
    assert (page.rows, page.size) == ([], 2)
    assert page.responded_at == datetime(2026, 8, 1, 10, 0, 5, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        pytest.param(b"", "an empty body", id="empty"),
        pytest.param(b"<html></html>", "not JSON", id="html"),
        pytest.param(b'{"results": []}', "an object in place of a list of calls", id="object"),
        pytest.param(json.dumps(BODY).encode(), "an object in place of a list of calls", id="call"),
        pytest.param(b"null", "null in place of a list of calls", id="null"),
        pytest.param(json.dumps([BODY, BODY]).encode()[:-20], "ends too early", id="cut-off"),
    ],
)
def test_what_is_no_list_is_a_passing_error(
    api: requests_mock.Mocker, hook: VapiHook, content: bytes, what: str
) -> None:
    api.get(LIST_URL, content=content)
    error = failure(VapiTransientError, lambda: hook.list_statuses({"limit": 1}))
    assert str(error).startswith("GET /call was answered 200 with ")
    assert what in str(error)


def test_a_page_of_megabytes_is_read(api: requests_mock.Mocker, hook: VapiHook) -> None:
    api.get(LIST_URL, json=[{**BODY, "transcript": "x" * 2_000_000}, {**BODY, "id": OTHER_ID}])
    api.get(CALL_URL, json={**BODY, "transcript": "x" * 2_000_000})
    page = hook.list_statuses({})
    assert [row.id for row in page.rows] == [CALL_ID, OTHER_ID]
    assert page.size > 2_000_000
    assert hook.get_status(CALL_ID).is_terminal
    # What nobody asked for is not kept.
    assert "x" * 100 not in str(page.rows[0].__dict__)


# Vapi's clock


@pytest.mark.parametrize(
    ("date", "responded_at"),
    [
        ("Sat, 01 Aug 2026 10:00:05 GMT", "2026-08-01T10:00:05+00:00"),
        ("Sat, 01 Aug 2026 12:00:05 +0200", "2026-08-01T10:00:05+00:00"),
        ("Sat, 01 Aug 2026 10:00:05 -0000", "2026-08-01T10:00:05+00:00"),
    ],
)
@pytest.mark.parametrize("content", [None, b'\xef\xbb\xbf{"id": "%b", "status": "ended"}' % CALL_ID.encode()])
def test_an_answer_is_as_old_as_its_date_says(
    api: requests_mock.Mocker, hook: VapiHook, date: str, responded_at: str, content: bytes | None
) -> None:
    """Both ways to read a glimpse carry it along, and each row of a page does."""
    one = content or json.dumps(BODY).encode()
    api.get(CALL_URL, content=one, headers={"Date": date})
    api.get(LIST_URL, content=b"[" + one.removeprefix(b"\xef\xbb\xbf") + b", null]", headers={"Date": date})
    page = hook.list_statuses({})
    for answer in (hook.get_status(CALL_ID), hook.get_call(CALL_ID), page, page.rows[0]):
        assert answer.responded_at == datetime.fromisoformat(responded_at)


@pytest.mark.parametrize(
    "headers", [{}, {"Date": ""}, {"Date": "soon"}, {"Date": "Sat, 99 Aug 2026 10:00:05 GMT"}]
)
def test_without_a_date_it_is_our_own_clocks(
    api: requests_mock.Mocker, hook: VapiHook, headers: dict[str, str]
) -> None:
    api.get(CALL_URL, json=BODY, headers=headers)
    responded_at = hook.get_status(CALL_ID).responded_at
    assert responded_at is not None
    assert abs(datetime.now(timezone.utc) - responded_at) < timedelta(minutes=1)


@pytest.mark.parametrize(("passed", "due_in"), [(0, 60), (45, 15), (60, 0), (3600, 0), (-30, 60)])
def test_the_time_for_the_analysis_is_told_by_vapis_clock(
    api: requests_mock.Mocker, hook: VapiHook, passed: int, due_in: float
) -> None:
    ended_at = datetime(2020, 1, 1, tzinfo=timezone.utc)
    date = format_datetime(ended_at + timedelta(seconds=passed), usegmt=True)
    body = {"id": CALL_ID, "status": "ended", "endedAt": ended_at.isoformat()}
    api.get(CALL_URL, json=body, headers={"Date": date})
    assert hook.get_status(CALL_ID).analysis_due_in(60) == due_in


# Limits of whoever asks


@pytest.mark.parametrize(
    ("own", "limit", "used"),
    [(30, 10, 10), (5, 10, 5), (None, 10, 10), (0.5, float("inf"), 0.5)],
    ids=["tightened", "not-loosened", "default-tightened", "none"],
)
def test_the_tighter_time_limit_counts(
    api: requests_mock.Mocker, own: float | None, limit: float, used: float
) -> None:
    api.get(CALL_URL, json=BODY)
    hook_with(extra={"timeout": own}, timeout=limit).get_status(CALL_ID)
    assert api.last_request.timeout == pytest.approx(used, abs=0.01)


@pytest.mark.parametrize(
    ("own", "limit", "tries"), [(4, 0, 1), (0, 4, 1), (2, 9, 3), (None, 1, 2), (3, 2.9, 3)]
)
def test_the_tighter_number_of_retries_counts(
    api: requests_mock.Mocker, own: int | None, limit: float, tries: int, naps: list[float]
) -> None:
    api.get(CALL_URL, status_code=503)
    hook = hook_with(extra={"max_retries": own}, max_retries=limit)
    failure(VapiTransientError, lambda: hook.get_status(CALL_ID))
    assert api.call_count == tries
    assert len(naps) == tries - 1


@pytest.mark.parametrize("content", [b"", b'{"id": "%b", "st' % CALL_ID.encode()], ids=["empty", "cut-off"])
def test_an_answer_that_was_cut_off_is_not_asked_for_again_where_there_are_no_retries(
    api: requests_mock.Mocker, hook: VapiHook, content: bytes
) -> None:
    api.get(CALL_URL, content=content)
    failure(VapiTransientError, lambda: hook.get_status(CALL_ID))
    assert api.call_count == 1


def test_the_limits_are_those_of_one_hook(api: requests_mock.Mocker) -> None:
    api.get(CALL_URL, json={**BODY, "transcript": "x" * 5000})
    connection = make_connection()
    small = VapiHook.from_connection(connection, RequestLimits(max_response_bytes=1000))
    failure(VapiTransientError, lambda: small.get_status(CALL_ID))
    assert VapiHook.from_connection(connection).get_status(CALL_ID).id == CALL_ID


@pytest.mark.parametrize("method", ["get_status", "get_call"])
@pytest.mark.parametrize(("spare", "fits"), [(1, True), (0, True), (-1, False)])
def test_an_answer_may_be_as_large_as_the_limit_and_no_larger(
    api: requests_mock.Mocker, method: str, spare: int, fits: bool
) -> None:
    content = json.dumps({**BODY, "transcript": "x" * 200_000}).encode()
    api.get(CALL_URL, content=content)
    hook = hook_with(max_response_bytes=len(content) + spare)
    if fits:
        assert getattr(hook, method)(CALL_ID).id == CALL_ID
        return
    error = failure(VapiTransientError, lambda: getattr(hook, method)(CALL_ID))
    assert type(error) is OversizedResponseError
    assert f"GET {PATH} was answered with more than {len(content) - 1:,} bytes" in str(error)
    assert (error.status_code, error.method, error.path) == (200, "GET", PATH)
    # The next try would bring the same.
    assert api.call_count == 1


@pytest.mark.parametrize(("status", "expected"), [(401, VapiAuthenticationError), (503, VapiTransientError)])
def test_the_status_of_a_larger_error_says_what_is_wrong(
    api: requests_mock.Mocker, status: int, expected: type[VapiError]
) -> None:
    api.get(
        CALL_URL,
        content=b"<html>" + b"x" * 300_000,
        status_code=status,
        headers={"Content-Type": "text/html"},
    )
    error = failure(expected, lambda: hook_with(max_response_bytes=1000).get_status(CALL_ID))
    assert type(error) is not OversizedResponseError
    assert error.status_code == status


def _endless(head: bytes, body: bytes, sent: list[int]) -> Callable[[socket.socket, RawServer], None]:
    """Send the same bytes again and again until the client has enough."""

    def talk(connection: socket.socket, server: RawServer) -> None:
        server.read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + head + b"\r\n")
        while not server.rest(0):
            connection.sendall(body)
            sent[0] += len(body)

    return talk


A_CHUNK = b"10000\r\n" + b" " * 65_536 + b"\r\n"
# Members of their own, so that the stream never ends.
GZIPPED = gzip.compress(b" " * 50_000) * 100


@pytest.mark.parametrize(
    ("head", "body", "most"),
    [
        pytest.param(b"Connection: close\r\n", b" " * 65_536, 64, id="until-the-connection-closes"),
        pytest.param(b"Transfer-Encoding: chunked\r\n", A_CHUNK, 64, id="chunked"),
        pytest.param(b"Content-Length: 99999999999\r\n", b" " * 65_536, 64, id="announced"),
        pytest.param(b"Connection: close\r\nContent-Encoding: gzip\r\n", GZIPPED, 64, id="gzip"),
    ],
)
def test_a_larger_answer_is_not_read_to_its_end(
    raw_server: Callable[..., RawServer], head: bytes, body: bytes, most: int
) -> None:
    """Whatever it says of its size: this one has no end, and what is in buffers on the way is all that is lost."""
    sent = [0]
    server = raw_server(_endless(head, body, sent))
    hook = hook_with(host=server.url, max_response_bytes=1_048_576, max_retries=0, timeout=10)
    error = failure(VapiTransientError, lambda: hook.list_statuses({"limit": 100}))
    assert type(error) is OversizedResponseError
    assert sent[0] < most * 1_048_576
    assert len(server.heads) == 1
    hook.close()


def test_a_small_gzip_that_is_large_inside_counts_by_what_is_inside(
    raw_server: Callable[..., RawServer],
) -> None:
    content = gzip.compress(json.dumps([{**BODY, "transcript": "x" * 3_000_000}]).encode())
    assert len(content) < 10_000
    server = raw_server(say(answer_of(content, headers="Content-Encoding: gzip\r\n")))
    hook = hook_with(host=server.url, max_response_bytes=1_048_576, max_retries=0)
    assert type(failure(VapiTransientError, lambda: hook.list_statuses({}))) is OversizedResponseError
    wide = hook_with(host=server.url, max_response_bytes=8 * 1_048_576)
    assert wide.list_statuses({}).size > 3_000_000


def test_after_an_oversized_answer_the_hook_goes_on(simulator: VapiSimulator) -> None:
    large = simulator.add_call(body={"transcript": "x" * 100_000})
    small = simulator.add_call()
    connection = make_connection(host=simulator.url, password=simulator.api_key)
    hook = VapiHook.from_connection(connection, RequestLimits(max_response_bytes=50_000))
    for _ in range(3):
        with pytest.raises(OversizedResponseError):
            hook.get_status(large)
        assert hook.get_status(small).id == small
    hook.close()


# What the server asked to wait


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param({"Retry-After": "120"}, 120, id="seconds"),
        pytest.param({"Retry-After": " 0 "}, 0, id="none"),
        pytest.param({"Retry-After": "9" * 400}, float("inf"), id="for-ever"),
        pytest.param(
            {"Retry-After": "Sat, 01 Aug 2026 10:02:05 GMT", "Date": "Sat, 01 Aug 2026 10:00:05 GMT"},
            120,
            id="date-by-the-servers-clock",
        ),
        pytest.param(
            {"Retry-After": "Sat, 01 Aug 2026 10:00:00 GMT", "Date": "Sat, 01 Aug 2026 10:00:05 GMT"},
            0,
            id="date-in-the-past",
        ),
        pytest.param({"Retry-After": "-5"}, None, id="negative"),
        pytest.param({"Retry-After": "1.5"}, None, id="fraction"),
        pytest.param({"Retry-After": "soon"}, None, id="words"),
        pytest.param({"Retry-After": "\u0665"}, None, id="other-digits"),
    ],
)
@pytest.mark.parametrize("ask", ["get_status", "list_statuses", "get_call"])
def test_the_error_tells_for_how_long_the_server_asks_to_wait(
    api: requests_mock.Mocker,
    hook: VapiHook,
    status: int,
    headers: dict[str, str],
    seconds: float | None,
    ask: str,
) -> None:
    api.get(requests_mock.ANY, status_code=status, headers=headers)
    kind = VapiRateLimitError if status == 429 else VapiTransientError
    argument: Any = {} if ask == "list_statuses" else CALL_ID
    error = failure(kind, lambda: getattr(hook, ask)(argument))
    assert error.retry_after == seconds
    assert api.call_count == 1


def test_a_date_without_the_servers_own_is_by_our_clock(api: requests_mock.Mocker, hook: VapiHook) -> None:
    until = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=300), usegmt=True)
    api.get(CALL_URL, status_code=503, headers={"Retry-After": until})
    error = failure(VapiTransientError, lambda: hook.get_status(CALL_ID))
    assert error.retry_after == pytest.approx(300, abs=5)


def test_an_error_without_an_answer_asks_for_nothing(api: requests_mock.Mocker, hook: VapiHook) -> None:
    api.get(CALL_URL, exc=ConnectionResetError)
    assert failure(VapiTransientError, lambda: hook.get_status(CALL_ID)).retry_after is None


def test_tries_that_do_happen_wait_as_long_as_was_asked(
    api: requests_mock.Mocker, fake_time: FakeTime
) -> None:
    api.get(CALL_URL, [{"status_code": 503, "headers": {"Retry-After": "7"}}, {"json": BODY}])
    assert hook_with(max_retries=1).get_status(CALL_ID).id == CALL_ID
    assert fake_time.naps == [pytest.approx(7.5, abs=0.5)]


# Closing


def test_closing_ends_the_connections_and_the_next_request_opens_new_ones() -> None:
    with VapiSimulator() as simulator:
        call_id = simulator.add_call()
        connection = make_connection(host=simulator.url, password=simulator.api_key)
        hook = VapiHook.from_connection(connection)
        hook.get_status(call_id)
        session = hook.get_conn()
        pools = session.get_adapter(simulator.url).poolmanager.pools  # type: ignore[attr-defined]
        assert len(pools) == 1
        hook.close()
        assert len(pools) == 0
        assert hook.get_status(call_id).id == call_id
        assert hook.get_conn() is session
        hook.close()


def test_closing_twice_or_before_any_request_is_fine(api: requests_mock.Mocker) -> None:
    hook = hook_with()
    hook.close()
    hook.close()
    assert not api.called


def test_a_hook_from_a_connection_asks_airflow_for_nothing(
    api: requests_mock.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread of a triggerer may not: on Airflow 3.0 and 3.1 it is an error."""

    def ask(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("asked Airflow")

    api.get(CALL_URL, json=BODY)
    connection = make_connection(extra=json.dumps({"timeout": 3}))
    monkeypatch.setattr(VapiHook, "get_connection", ask)
    monkeypatch.setattr(type(connection), "extra_dejson", property(ask))
    hook = VapiHook.from_connection(connection, RequestLimits(timeout=10))
    assert hook.get_status(CALL_ID).id == CALL_ID
    assert api.last_request.timeout == pytest.approx(3, abs=0.01)
    hook.close()
