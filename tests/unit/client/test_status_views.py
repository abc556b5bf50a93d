# SPDX-License-Identifier: Apache-2.0
"""Status views: the part of a call that shows whether it is over, for one call or a page."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from case_tables import in_turn, row_and_diagonal
from http_helpers import API, CALL, CALL_ID, CALL_URL, KEY, OTHER_ID, PATH, client_of, failure, make_client

from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiCallNotFoundError,
    VapiConfigurationError,
    VapiPermanentError,
    VapiRateLimitError,
    VapiTransientError,
)
from vapi_provider.models.call import PlacedCallView

if TYPE_CHECKING:
    import requests_mock

    from vapi_provider.client.client import VapiClient
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


@pytest.fixture
def client() -> VapiClient:
    return make_client(max_retries=0)


def serve(api: requests_mock.Mocker, *responses: Any, **response: Any) -> None:
    """Send the same response for the call and for the list."""
    for url in (CALL_URL, LIST_URL):
        api.get(url, *responses, **response)


def read_view(client: VapiClient, method: str) -> Any:
    """Read the call, or a page and return its first row."""
    if method.startswith("get"):
        return getattr(client, method)(CALL_ID)
    return getattr(client, method)({}).rows[0]


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
def test_view_agrees_with_the_whole_call(
    api: requests_mock.Mocker, client: VapiClient, encode: Callable[[str], bytes]
) -> None:
    api.get(CALL_URL, content=encode(json.dumps(BODY, ensure_ascii=False)))
    view, call = client.get_status(CALL_ID), client.get_call(CALL_ID)
    assert view.updated_at == datetime(2026, 8, 1, 10, 0, 1, 500_000, tzinfo=timezone.utc)
    assert (view.is_terminal, view.has_ended, view.has_analysis) == (True, True, True)
    for name in ("id", "status", "created_at", "updated_at", "ended_at", "analysis", "is_terminal"):
        assert getattr(view, name) == getattr(call, name)


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
def test_odd_calls_are_read_by_views_too(api: requests_mock.Mocker, client: VapiClient, odd: str) -> None:
    text = f'{{"id": "{CALL_ID}", "status": "ended", {odd}}}'
    api.get(CALL_URL, text=text)
    api.get(LIST_URL, text=f"[{text}]")
    call = client.get_call(CALL_ID)
    (row,) = client.list_statuses({"limit": 1}).rows
    for view in (client.get_status(CALL_ID), row):
        for name in ("id", "status", "created_at", "ended_at", "has_analysis", "is_terminal"):
            assert getattr(view, name) == getattr(call, name)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        pytest.param(b"", "an empty body", id="empty"),
        pytest.param(b" \n", "an empty body", id="blank"),
        pytest.param(b"<html><title>Sign in</title></html>", "not JSON", id="html"),
        pytest.param(b"[]", "a list in place of a call", id="list"),
        pytest.param(b"null", "null in place of a call", id="null"),
        pytest.param(b'"ended"', "a string in place of a call", id="text"),
        pytest.param(b'{"status": "ended"}', "a call without an id", id="no-id"),
        pytest.param(b'{"id": 7, "status": "ended"}', "a call without an id", id="number-for-an-id"),
        pytest.param(json.dumps({**CALL, "id": OTHER_ID}).encode(), "another call", id="another-call"),
        pytest.param(b'{"id": "%b", "stat' % CALL_ID.encode(), "not JSON", id="cut-off"),
        pytest.param(b'{"id": "\xff"}', "not JSON", id="no-encoding"),
    ],
)
def test_wrong_calls_are_transient_errors(
    api: requests_mock.Mocker, client: VapiClient, content: bytes, what: str
) -> None:
    api.get(CALL_URL, content=content)
    error = failure(VapiTransientError, lambda: client.get_status(CALL_ID))
    assert f"GET {PATH} returned 200 with " in str(error)
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
def test_refusals_are_those_of_the_whole_call(
    api: requests_mock.Mocker, client: VapiClient, status: int, kind: type[Any]
) -> None:
    body = {"message": f"No, {KEY}.", "error": "So it is", "statusCode": status}
    serve(api, status_code=status, json=body)
    error = failure(kind, lambda: client.get_status(CALL_ID))
    assert str(error) == str(failure(kind, lambda: client.get_call(CALL_ID)))
    listed = VapiPermanentError if kind is VapiCallNotFoundError else kind
    assert failure(listed, lambda: client.list_statuses({})).status_code == status


@pytest.mark.parametrize("call_id", ["", "None", None, "../call", f"{CALL_ID}?x=1"])
def test_status_of_a_bad_id_sends_nothing(
    api: requests_mock.Mocker, client: VapiClient, call_id: Any
) -> None:
    failure(VapiConfigurationError, lambda: client.get_status(call_id))
    assert not api.called


def test_status_of_an_id_in_upper_case_is_read(api: requests_mock.Mocker, client: VapiClient) -> None:
    api.get(CALL_URL, json=BODY)
    assert client.get_status(f" {CALL_ID.upper()}\n").id == CALL_ID


def test_query_is_sent_unchanged(simulator: VapiSimulator) -> None:
    ids = [simulator.add_call(status=status) for status in ("ringing", "ended")]
    client = client_of(simulator)
    assert [client.get_status(call_id).is_terminal for call_id in ids] == [False, True]
    query = {"limit": 5, "updatedAtGe": simulator.get_call(ids[1])["updatedAt"]}
    page = client.list_statuses(query)
    assert {row.id: row.is_terminal for row in page.rows}[ids[1]] is True
    assert simulator.requests[-1].query == {name: str(value) for name, value in query.items()}
    client.close()


# A page


@pytest.mark.parametrize("encode", ENCODINGS)
def test_page_has_its_rows_in_order_and_its_size(
    api: requests_mock.Mocker, client: VapiClient, encode: Callable[[str], bytes]
) -> None:
    content = encode(json.dumps([BODY, {**BODY, "id": OTHER_ID, "status": "ringing"}]))
    api.get(LIST_URL, content=content)
    page = client.list_statuses({"limit": 2, "updatedAtGe": "2026-08-01T10:00:00+00:00"})
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


@pytest.mark.parametrize(("bad", "place"), in_turn(BAD_ROWS, [0, 1, 2]))
def test_bad_row_does_not_hide_the_others(
    api: requests_mock.Mocker, client: VapiClient, bad: str, place: int
) -> None:
    rows = [json.dumps(BODY), json.dumps({**BODY, "id": OTHER_ID})]
    rows.insert(place, bad)
    api.get(LIST_URL, text=f"[{','.join(rows)}]")
    assert [row.id for row in client.list_statuses({}).rows] == [CALL_ID, OTHER_ID]


@pytest.mark.parametrize("sound", [[], [BODY]], ids=["alone", "among-others"])
def test_page_of_bad_rows_is_not_an_error(
    api: requests_mock.Mocker, client: VapiClient, sound: list[dict[str, Any]]
) -> None:
    api.get(LIST_URL, json=[None, 1, "x", *sound])
    assert [row.id for row in client.list_statuses({}).rows] == [row["id"] for row in sound]


def test_empty_page_has_a_time(api: requests_mock.Mocker, client: VapiClient) -> None:
    api.get(LIST_URL, text="[]", headers={"Date": "Sat, 01 Aug 2026 10:00:05 GMT"})
    page = client.list_statuses({})
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
        pytest.param(json.dumps([BODY, BODY]).encode()[:-20], "not JSON", id="cut-off"),
    ],
)
def test_wrong_lists_are_transient_errors(
    api: requests_mock.Mocker, client: VapiClient, content: bytes, what: str
) -> None:
    api.get(LIST_URL, content=content)
    error = failure(VapiTransientError, lambda: client.list_statuses({"limit": 1}))
    assert str(error).startswith("GET /call returned 200 with ")
    assert what in str(error)


def test_page_of_megabytes_is_read(api: requests_mock.Mocker, client: VapiClient) -> None:
    api.get(LIST_URL, json=[{**BODY, "transcript": "x" * 2_000_000}, {**BODY, "id": OTHER_ID}])
    api.get(CALL_URL, json={**BODY, "transcript": "x" * 2_000_000})
    page = client.list_statuses({})
    assert [row.id for row in page.rows] == [CALL_ID, OTHER_ID]
    assert page.size > 2_000_000
    assert client.get_status(CALL_ID).is_terminal
    # The rest of the call is not kept.
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
def test_responded_at_is_the_date_header(
    api: requests_mock.Mocker, client: VapiClient, date: str, responded_at: str, content: bytes | None
) -> None:
    """It is set on all views, whether pydantic could parse the bytes or not, and on each row of a page."""
    one = content or json.dumps(BODY).encode()
    api.get(CALL_URL, content=one, headers={"Date": date})
    api.get(LIST_URL, content=b"[" + one.removeprefix(b"\xef\xbb\xbf") + b", null]", headers={"Date": date})
    page = client.list_statuses({})
    for response in (client.get_status(CALL_ID), client.get_call(CALL_ID), page, page.rows[0]):
        assert response.responded_at == datetime.fromisoformat(responded_at)


@pytest.mark.parametrize(
    "headers", [{}, {"Date": ""}, {"Date": "soon"}, {"Date": "Sat, 99 Aug 2026 10:00:05 GMT"}]
)
def test_responded_at_is_our_clock_without_a_date(
    api: requests_mock.Mocker, client: VapiClient, headers: dict[str, str]
) -> None:
    api.get(CALL_URL, json=BODY, headers=headers)
    responded_at = client.get_status(CALL_ID).responded_at
    assert responded_at is not None
    assert abs(datetime.now(timezone.utc) - responded_at) < timedelta(minutes=1)


@pytest.mark.parametrize(("passed", "due_in"), [(0, 60), (45, 15), (60, 0), (3600, 0), (-30, 60)])
def test_time_for_results_is_measured_by_vapis_clock(
    api: requests_mock.Mocker, client: VapiClient, passed: int, due_in: float
) -> None:
    ended_at = datetime(2020, 1, 1, tzinfo=timezone.utc)
    date = format_datetime(ended_at + timedelta(seconds=passed), usegmt=True)
    body = {"id": CALL_ID, "status": "ended", "endedAt": ended_at.isoformat(), "startedAt": ENDED_AT}
    api.get(CALL_URL, json=body, headers={"Date": date})
    assert client.get_status(CALL_ID).results_due_in(("analysis",), 60) == due_in


# Late reasons and results


NOON = datetime(2026, 8, 1, 12, tzinfo=timezone.utc)


def answer_after(api: requests_mock.Mocker, seconds: float, **fields: Any) -> None:
    """Return a call and a list, ``seconds`` after the call ended at noon."""
    body = {"id": CALL_ID, "updatedAt": NOON.isoformat(), "endedAt": NOON.isoformat(), **fields}
    headers = {"Date": format_datetime(NOON + timedelta(seconds=seconds), usegmt=True)}
    api.get(CALL_URL, json=body, headers=headers)
    api.get(LIST_URL, json=[body], headers=headers)


OLD_ENDS = [
    pytest.param(60, {}, True, 0, id="a-minute"),
    pytest.param(86_400, {}, True, 0, id="a-day"),
    pytest.param(59, {}, False, 1, id="less"),
    pytest.param(-300, {}, False, 60, id="in-the-future"),
    pytest.param(3600, {"endedReason": None}, False, None, id="no-reason"),
    pytest.param(3600, {"endedReason": " "}, False, None, id="blank-reason"),
    pytest.param(3600, {"endedReason": 7}, False, None, id="odd-reason"),
    pytest.param(3600, {"endedAt": None}, False, None, id="no-end"),
    pytest.param(3600, {"endedAt": "once"}, False, None, id="odd-end"),
]
LIVE = ["in-progress", "Ringing", "queued", "scheduled", "forwarding", None]


@pytest.mark.parametrize(
    ("seconds", "fields", "is_over", "over_in", "status"), row_and_diagonal(OLD_ENDS, LIVE)
)
def test_live_status_with_an_old_end_is_over(
    api: requests_mock.Mocker,
    client: VapiClient,
    status: str | None,
    seconds: float,
    fields: dict[str, Any],
    is_over: bool,
    over_in: float | None,
) -> None:
    answer_after(api, seconds, **{"status": status, "endedReason": "customer-busy", **fields})
    (row,) = client.list_statuses({}).rows
    (listed,) = client.list_calls({}, 10)
    for call in (client.get_status(CALL_ID), client.get_call(CALL_ID), row, listed):
        assert (call.is_terminal, call.has_ended, call.over_in) == (is_over, is_over, over_in)
        assert call.outcome == ("no_answer" if is_over else None)


@pytest.mark.parametrize(
    ("seconds", "fields", "due_in"),
    [
        pytest.param(0, {}, 15, id="just-ended"),
        pytest.param(5, {}, 10, id="a-moment-ago"),
        pytest.param(15, {}, 0, id="too-long-ago"),
        pytest.param(5, {"endedReason": "  "}, 10, id="blank"),
        pytest.param(5, {"endedAt": None}, 10, id="by-the-last-update"),
        pytest.param(5, {"endedAt": None, "updatedAt": None}, 0, id="without-a-time"),
        pytest.param(0, {"endedReason": "customer-busy"}, 0, id="reason-is-there"),
        pytest.param(0, {"status": "archived"}, 15, id="unknown-status"),
        pytest.param(0, {"status": "not-found"}, 0, id="never-took-place"),
        pytest.param(0, {"status": "in-progress"}, 0, id="live"),
    ],
)
def test_reason_may_follow_the_end(
    api: requests_mock.Mocker, client: VapiClient, seconds: float, fields: dict[str, Any], due_in: float
) -> None:
    answer_after(api, seconds, **{"status": "ended", **fields})
    assert client.get_status(CALL_ID).reason_due_in == client.get_call(CALL_ID).reason_due_in == due_in


@pytest.mark.parametrize(
    ("reason", "started", "due_in"),
    [
        ("customer-ended-call", True, 60),
        ("customer-ended-call", False, 60),
        ("voicemail", False, 60),
        ("call.forwarding.operator-busy", True, 60),
        ("pipeline-error-openai-llm-failed", True, 60),
        ("pipeline-error-openai-llm-failed", False, 0),
        ("a-new-reason", True, 60),
        ("a-new-reason", False, 0),
        (None, True, 60),
        (None, False, 0),
        ("customer-did-not-answer", True, 0),
        ("customer-busy", False, 0),
        ("call.in-progress.error-providerfault-outbound-sip-408-request-timeout", True, 0),
        ("manually-canceled", True, 0),
        ("scheduled-call-deleted", False, 0),
        ("call.start.error-get-assistant", True, 0),
        ("twilio-failed-to-connect-call", False, 0),
    ],
)
def test_no_results_are_due_without_a_conversation(
    api: requests_mock.Mocker, client: VapiClient, reason: str | None, started: bool, due_in: float
) -> None:
    started_at = NOON.isoformat() if started else None
    answer_after(api, 0, status="ended", endedReason=reason, startedAt=started_at)
    assert client.get_status(CALL_ID).results_due_in((), 60) == due_in


# Retries.


UNPARSABLE = {"empty": b"", "HTML": b"<html></html>", "cut off": b'[{"id": "x", "st'}


VIEWS = ["get_status", "list_statuses", "list_placed"]


@pytest.mark.parametrize(("content", "method"), row_and_diagonal(UNPARSABLE, VIEWS))
def test_unparsable_body_is_retried(
    api: requests_mock.Mocker, naps: list[float], method: str, content: bytes
) -> None:
    good = json.dumps(BODY if method == "get_status" else [BODY])
    serve(api, [{"content": content}, {"content": content}, {"text": good}])
    assert read_view(make_client(max_retries=2), method).id == CALL_ID
    assert (api.call_count, len(naps)) == (3, 2)


@pytest.mark.parametrize(("content", "method"), row_and_diagonal(UNPARSABLE, VIEWS))
def test_unparsable_body_is_an_error_without_retries(
    api: requests_mock.Mocker, client: VapiClient, method: str, content: bytes
) -> None:
    serve(api, content=content)
    assert "returned 200 with" in str(failure(VapiTransientError, lambda: read_view(client, method)))
    assert api.call_count == 1


@pytest.mark.parametrize("method", VIEWS)
def test_views_without_retries_do_not_build_the_whole_json(
    api: requests_mock.Mocker, client: VapiClient, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def load(text: str) -> Any:
        raise AssertionError("the poller reads thousands of these")

    api.get(CALL_URL, json=BODY)
    api.get(LIST_URL, json=[BODY])
    monkeypatch.setattr("vapi_provider.client.responses.json.loads", load)
    assert read_view(client, method).id == CALL_ID


SECRET_BODIES = ['{"a": "%s"', '[{"a": "%s"}', '{"a": "%s"}', '["%s"', "<title>%s</title>", '"%s"']
READS = [*VIEWS, "get_call", "list_page"]


@pytest.mark.parametrize(("text", "method"), row_and_diagonal(SECRET_BODIES, READS))
@pytest.mark.parametrize("max_retries", [0, 1])
def test_errors_of_views_do_not_contain_the_body(
    api: requests_mock.Mocker, method: str, max_retries: int, text: str
) -> None:
    # Not a literal: a traceback shows this file.
    secret = "-".join(["hush"] * 3)
    serve(api, text=text % secret)
    client = make_client(max_retries=max_retries)
    error = failure(VapiTransientError, lambda: read_view(client, method), secret=secret)
    assert error.__context__ is None


@pytest.mark.parametrize("text", ["{}", "null", "7"])
def test_wrong_json_is_not_retried(api: requests_mock.Mocker, text: str) -> None:
    api.get(LIST_URL, text=text)
    error = failure(VapiTransientError, lambda: make_client(max_retries=4).list_placed({}))
    assert "in place of a list of calls" in str(error)
    assert api.call_count == 1


# Views of placed calls.


NUMBER = "+12025550143"
SECRET = "a-confidential-remark"
ROW = {
    "id": CALL_ID,
    "status": "ended",
    "name": "Reminder #7f3k9q2m",
    "endedReason": "call.start.error-get-org",
    "createdAt": "2026-08-01T10:00:00.123Z",
    "startedAt": "2026-08-01T10:00:02Z",
    "assistantOverrides": {"variableValues": {"token": "7f3k9q2m"}},
    "squadOverrides": {"variableValues": {"token": "a"}},
    "customer": {"number": NUMBER},
    "transcript": "AI: Hello.\n",
    "phoneNumber": {"twilioAuthToken": SECRET},
}


def test_placed_view_shows_the_placing_task_and_the_end(api: requests_mock.Mocker) -> None:
    text = json.dumps([ROW, {"id": OTHER_ID}])
    api.get(LIST_URL, text=text, headers={"Date": "Sat, 01 Aug 2026 10:05:00 GMT"})
    page = make_client().list_placed({"limit": 2, "createdAtGe": "2026-08-01T09:00:00Z"})
    assert api.last_request.qs == {"limit": ["2"], "createdatge": ["2026-08-01t09:00:00z"]}
    assert (page.length, page.size) == (2, len(text))
    assert page.responded_at == datetime(2026, 8, 1, 10, 5, tzinfo=timezone.utc)
    first, second = page.rows
    assert (first.id, first.status, first.is_terminal) == (CALL_ID, "ended", True)
    assert (first.name, first.ended_reason) == (ROW["name"], ROW["endedReason"])
    assert first.started_at == datetime(2026, 8, 1, 10, 0, 2, tzinfo=timezone.utc)
    assert first.assistant_overrides == ROW["assistantOverrides"]
    assert first.squad_overrides == ROW["squadOverrides"]
    assert first.responded_at == page.responded_at
    assert (second.id, second.name, second.ended_reason) == (OTHER_ID, None, None)
    assert (second.assistant_overrides, second.started_at) == (None, None)


def test_placed_view_does_not_keep_the_rest_of_the_call() -> None:
    view = PlacedCallView.model_validate(ROW)
    assert view.model_extra is None
    assert NUMBER not in view.model_dump_json()
    assert SECRET not in view.model_dump_json()
    assert not hasattr(view, "transcript")
    assert repr(view) == f"PlacedCallView(id='{CALL_ID}', status='ended')"


@pytest.mark.parametrize(
    ("bad", "readable"),
    [
        pytest.param("7", 0, id="number"),
        pytest.param("null", 0, id="null"),
        pytest.param("[]", 0, id="list"),
        pytest.param('{"status": "ended"}', 0, id="no-id"),
        pytest.param('{"id": {}}', 0, id="object-for-an-id"),
        pytest.param(
            f'{{"id": "{OTHER_ID}", "name": 7, "endedReason": [], "assistantOverrides": "x"}}',
            1,
            id="other-types",
        ),
        pytest.param(f'{{"id": "{OTHER_ID}", "name": "\\ud800"}}', 1, id="lone-surrogate"),
    ],
)
def test_bad_row_does_not_hide_other_placed_calls(api: requests_mock.Mocker, bad: str, readable: int) -> None:
    last = json.dumps({**ROW, "id": OTHER_ID[:-1] + "c"})
    api.get(LIST_URL, text=f"[{json.dumps(ROW)}, {bad}, {last}]")
    page = make_client().list_placed({})
    assert page.length == 3
    assert len(page.rows) == 2 + readable
    assert [row.name for row in (page.rows[0], page.rows[-1])] == [ROW["name"]] * 2
    assert [row.id for row in page.rows if row.responded_at is None] == []
    if readable:
        assert (page.rows[1].ended_reason, page.rows[1].assistant_overrides) == (None, None)
