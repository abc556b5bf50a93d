# SPDX-License-Identifier: Apache-2.0
"""Limits of a request: tighter ones than the connection's, the size of the response, and ``Retry-After``."""

from __future__ import annotations

import gzip
import json
import logging
import socket
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
import requests_mock
from case_tables import row_and_diagonal
from http_helpers import (
    CALL,
    CALL_ID,
    CALL_URL,
    PATH,
    FakeTime,
    RawServer,
    client_of,
    failure,
    make_client,
    make_connection,
    respond_with,
    response_bytes,
)

from vapi_provider.client.client import VapiClient
from vapi_provider.client.responses import OversizedResponseError
from vapi_provider.connection import read_settings
from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiError,
    VapiRateLimitError,
    VapiTransientError,
)

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator


@pytest.fixture
def client() -> VapiClient:
    return make_client(max_retries=0)


def limited_client(extra: dict[str, Any], **limits: Any) -> VapiClient:
    settings = read_settings(make_connection(extra=json.dumps(extra)))
    return VapiClient(settings.limited(**limits), logging.getLogger("vapi_tests"))


# Tighter limits


@pytest.mark.parametrize(
    ("own", "limit", "used"),
    [(30, 10, 10), (5, 10, 5), (None, 10, 10), (1.5, float("inf"), 1.5), (30, 0.5, 0.5)],
    ids=["tightened", "not-loosened", "default-tightened", "none", "below-the-form"],
)
def test_tighter_time_limit_applies(
    api: requests_mock.Mocker, own: float | None, limit: float, used: float
) -> None:
    api.get(CALL_URL, json=CALL)
    limited_client({"timeout": own}, timeout=limit).get_status(CALL_ID)
    assert api.last_request.timeout == pytest.approx(used, abs=0.01)


@pytest.mark.parametrize(
    ("own", "limit", "tries"), [(4, 0, 1), (0, 4, 1), (2, 9, 3), (None, 1, 2), (3, None, 4), (None, None, 5)]
)
def test_tighter_number_of_retries_applies(
    api: requests_mock.Mocker, own: int | None, limit: int | None, tries: int, naps: list[float]
) -> None:
    api.get(CALL_URL, status_code=503)
    client = limited_client({"max_retries": own}, max_retries=limit)
    failure(VapiTransientError, lambda: client.get_status(CALL_ID))
    assert api.call_count == tries
    assert len(naps) == tries - 1


def test_limits_apply_to_one_client_only(api: requests_mock.Mocker) -> None:
    api.get(CALL_URL, json={**CALL, "transcript": "x" * 5000})
    wide = make_client()
    small = VapiClient(wide.settings.limited(max_response_bytes=1000), wide.log)
    failure(VapiTransientError, lambda: small.get_status(CALL_ID))
    assert wide.get_status(CALL_ID).id == CALL_ID


@pytest.mark.parametrize("method", ["get_status", "get_call"])
@pytest.mark.parametrize(("spare", "fits"), [(1, True), (0, True), (-1, False)])
def test_response_may_be_as_large_as_the_limit(
    api: requests_mock.Mocker, method: str, spare: int, fits: bool
) -> None:
    content = json.dumps({**CALL, "transcript": "x" * 200_000}).encode()
    api.get(CALL_URL, content=content)
    client = make_client(max_response_bytes=len(content) + spare)
    if fits:
        assert getattr(client, method)(CALL_ID).id == CALL_ID
        return
    error = failure(VapiTransientError, lambda: getattr(client, method)(CALL_ID))
    assert type(error) is OversizedResponseError
    assert f"GET {PATH} returned more than the limit of {len(content) - 1:,} bytes" in str(error)
    assert (error.status_code, error.method, error.path) == (200, "GET", PATH)
    # The next try would return the same.
    assert api.call_count == 1


@pytest.mark.parametrize(("status", "expected"), [(401, VapiAuthenticationError), (503, VapiTransientError)])
def test_large_error_is_judged_by_its_status(
    api: requests_mock.Mocker, status: int, expected: type[VapiError]
) -> None:
    api.get(
        CALL_URL,
        content=b"<html>" + b"x" * 300_000,
        status_code=status,
        headers={"Content-Type": "text/html"},
    )
    error = failure(expected, lambda: make_client(max_response_bytes=1000).get_status(CALL_ID))
    assert type(error) is not OversizedResponseError
    assert error.status_code == status


def _endless(head: bytes, body: bytes, sent: list[int]) -> Callable[[socket.socket, RawServer], None]:
    """Send the same bytes again and again until the client closes the connection."""

    def talk(connection: socket.socket, server: RawServer) -> None:
        server.read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + head + b"\r\n")
        while not server.rest(0):
            connection.sendall(body)
            sent[0] += len(body)

    return talk


A_CHUNK = b"10000\r\n" + b" " * 65_536 + b"\r\n"
# Separate gzip members, so that the stream never ends.
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
def test_larger_response_is_not_read_to_its_end(
    raw_server: Callable[..., RawServer], head: bytes, body: bytes, most: int
) -> None:
    """The response never ends, whatever size it announces; only buffered bytes are lost."""
    sent = [0]
    server = raw_server(_endless(head, body, sent))
    client = make_client(server.url, max_response_bytes=1_048_576, max_retries=0, timeout=10)
    error = failure(VapiTransientError, lambda: client.list_statuses({"limit": 100}))
    assert type(error) is OversizedResponseError
    assert sent[0] < most * 1_048_576
    assert len(server.heads) == 1
    client.close()


def test_gzip_counts_by_its_content(
    raw_server: Callable[..., RawServer],
) -> None:
    content = gzip.compress(json.dumps([{**CALL, "transcript": "x" * 3_000_000}]).encode())
    assert len(content) < 10_000
    server = raw_server(respond_with(response_bytes(content, headers="Content-Encoding: gzip\r\n")))
    client = make_client(server.url, max_response_bytes=1_048_576, max_retries=0)
    assert type(failure(VapiTransientError, lambda: client.list_statuses({}))) is OversizedResponseError
    wide = make_client(server.url, max_response_bytes=8 * 1_048_576)
    assert wide.list_statuses({}).size > 3_000_000


def test_client_works_after_an_oversized_response(simulator: VapiSimulator) -> None:
    large = simulator.add_call(body={"transcript": "x" * 100_000})
    small = simulator.add_call()
    client = client_of(simulator, max_response_bytes=50_000)
    for _ in range(3):
        with pytest.raises(OversizedResponseError):
            client.get_status(large)
        assert client.get_status(small).id == small
    client.close()


# Retry-After


PAUSES = [
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
]
READS = [(429, "get_status"), (503, "get_status"), (429, "list_statuses"), (503, "get_call")]


@pytest.mark.parametrize(("headers", "seconds", "status", "method"), row_and_diagonal(PAUSES, READS))
def test_error_has_the_requested_pause(
    api: requests_mock.Mocker,
    client: VapiClient,
    status: int,
    headers: dict[str, str],
    seconds: float | None,
    method: str,
) -> None:
    api.get(requests_mock.ANY, status_code=status, headers=headers)
    kind = VapiRateLimitError if status == 429 else VapiTransientError
    argument: Any = {} if method == "list_statuses" else CALL_ID
    error = failure(kind, lambda: getattr(client, method)(argument))
    assert error.retry_after == seconds
    assert api.call_count == 1


def test_retry_date_is_by_our_clock_without_a_date(api: requests_mock.Mocker, client: VapiClient) -> None:
    until = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=300), usegmt=True)
    api.get(CALL_URL, status_code=503, headers={"Retry-After": until})
    error = failure(VapiTransientError, lambda: client.get_status(CALL_ID))
    assert error.retry_after == pytest.approx(300, abs=5)


def test_error_without_response_asks_for_no_pause(api: requests_mock.Mocker, client: VapiClient) -> None:
    api.get(CALL_URL, exc=ConnectionResetError)
    assert failure(VapiTransientError, lambda: client.get_status(CALL_ID)).retry_after is None


def test_requested_pause_is_honoured(api: requests_mock.Mocker, fake_time: FakeTime) -> None:
    api.get(CALL_URL, [{"status_code": 503, "headers": {"Retry-After": "7"}}, {"json": CALL}])
    assert make_client(max_retries=1).get_status(CALL_ID).id == CALL_ID
    assert fake_time.naps == [pytest.approx(7.5, abs=0.5)]


# Closing


def test_close_ends_connections_and_next_request_reopens(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call()
    client = client_of(simulator)
    client.get_status(call_id)
    session = client.session
    pools = session.get_adapter(simulator.url).poolmanager.pools  # type: ignore[attr-defined]
    assert len(pools) == 1
    client.close()
    assert len(pools) == 0
    assert client.get_status(call_id).id == call_id
    assert client.session is session
    client.close()


def test_close_is_idempotent(api: requests_mock.Mocker) -> None:
    client = make_client()
    client.close()
    client.close()
    assert not api.called
