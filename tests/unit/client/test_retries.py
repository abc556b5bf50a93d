# SPDX-License-Identifier: Apache-2.0
"""Which requests are retried, how often, after which pause, and when the client gives up."""

from __future__ import annotations

import json
import random
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
import requests
from case_tables import in_turn, row_and_diagonal
from http_helpers import (
    API,
    CALL,
    CALL_ID,
    CALL_URL,
    KEY,
    OTHER_ID,
    PATH,
    FakeTime,
    client_of,
    failure,
    make_client,
)

from vapi_provider.exceptions import VapiError, VapiPermanentError, VapiRateLimitError, VapiTransientError
from vapi_provider.simulator import Fault, VapiSimulator

if TYPE_CHECKING:
    import requests_mock

    from vapi_provider.client.client import VapiClient

GET: Callable[[VapiClient], Any] = lambda client: client.get_call(CALL_ID)
PATCH: Callable[[VapiClient], Any] = lambda client: client.update_call(CALL_ID, name="Reminder")
LIST: Callable[[VapiClient], Any] = lambda client: next(client.list_calls({}, 100))
USES = [
    pytest.param("GET", CALL_URL, GET, id="get_call"),
    pytest.param("PATCH", CALL_URL, PATCH, id="update_call"),
    pytest.param("GET", f"{API}/call", LIST, id="list_calls"),
]

TRANSIENT = [408, 425, 429, 500, 501, 502, 503, 504, 520, 521, 522, 523, 524]
PERMANENT = [302, 304, 400, 401, 402, 403, 404, 405, 409, 410, 413, 415, 422]
BROKEN = [
    requests.exceptions.ConnectionError,
    requests.exceptions.ConnectTimeout,
    requests.exceptions.ReadTimeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    requests.exceptions.ProxyError,
]


@pytest.mark.parametrize(("status", "method", "url", "use"), row_and_diagonal(TRANSIENT, USES))
def test_transient_statuses_are_retried_until_success(
    api: requests_mock.Mocker,
    naps: list[float],
    method: str,
    url: str,
    use: Callable[[VapiClient], Any],
    status: int,
) -> None:
    good = [CALL] if use is LIST else CALL
    api.register_uri(
        method, url, [{"status_code": status}, {"status_code": status, "text": "<html>"}, {"json": good}]
    )
    assert use(make_client()).id == CALL_ID
    assert api.call_count == 3
    assert len(naps) == 2
    # Each try is the same request.
    assert len({(r.method, r.url, r.body, str(r.headers)) for r in api.request_history}) == 1


@pytest.mark.parametrize(("broken", "method", "url", "use"), row_and_diagonal(BROKEN, USES))
def test_broken_connections_are_retried(
    api: requests_mock.Mocker,
    method: str,
    url: str,
    use: Callable[[VapiClient], Any],
    broken: type[requests.RequestException],
) -> None:
    api.register_uri(method, url, [{"exc": broken}, {"json": [CALL] if use is LIST else CALL}])
    assert use(make_client()).id == CALL_ID
    assert api.call_count == 2


@pytest.mark.parametrize(("status", "method", "url", "use"), row_and_diagonal(PERMANENT, USES))
def test_permanent_statuses_are_not_retried(
    api: requests_mock.Mocker,
    naps: list[float],
    method: str,
    url: str,
    use: Callable[[VapiClient], Any],
    status: int,
) -> None:
    api.register_uri(method, url, status_code=status, headers={"Retry-After": "1"})
    with pytest.raises(VapiError, match=f"returned {status}"):
        use(make_client())
    assert (api.call_count, naps) == (1, [])


def test_invalid_certificate_is_not_retried(api: requests_mock.Mocker) -> None:
    refused = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"
    api.get(CALL_URL, exc=requests.exceptions.SSLError(ssl.SSLCertVerificationError(refused)))
    error = failure(VapiTransientError, lambda: GET(make_client()))
    assert "certificates" in str(error)
    assert api.call_count == 1


@pytest.mark.parametrize("max_retries", [0, 1, 4, 10])
@pytest.mark.parametrize(
    "response", [{"status_code": 503}, {"exc": requests.exceptions.ReadTimeout}, {"text": ""}], ids=str
)
def test_tries_are_one_more_than_retries(
    api: requests_mock.Mocker, naps: list[float], max_retries: int, response: dict[str, Any]
) -> None:
    api.get(CALL_URL, **response)
    error = failure(VapiTransientError, lambda: GET(make_client(max_retries=max_retries)))
    assert str(error).startswith(f"GET {PATH} ")
    assert api.call_count == max_retries + 1
    assert len(naps) == max_retries


def test_default_is_five_tries(api: requests_mock.Mocker) -> None:
    api.get(CALL_URL, status_code=503)
    failure(VapiTransientError, lambda: GET(make_client()))
    assert api.call_count == 5


def test_last_error_is_raised(api: requests_mock.Mocker) -> None:
    api.get(CALL_URL, [{"status_code": 503}, {"exc": requests.exceptions.ReadTimeout}, {"status_code": 429}])
    assert failure(VapiRateLimitError, lambda: GET(make_client(max_retries=2))).status_code == 429


def test_permanent_error_ends_the_tries(api: requests_mock.Mocker) -> None:
    api.get(CALL_URL, [{"status_code": 503}, {"status_code": 409}])
    assert failure(VapiPermanentError, lambda: GET(make_client())).status_code == 409
    assert api.call_count == 2


def test_another_call_in_the_second_response_is_an_error(api: requests_mock.Mocker) -> None:
    api.get(CALL_URL, [{"text": ""}, {"json": {**CALL, "id": OTHER_ID}}])
    assert "another call" in str(failure(VapiTransientError, lambda: GET(make_client())))
    assert api.call_count == 2


def test_pauses_grow_with_full_jitter_up_to_20_seconds(api: requests_mock.Mocker, naps: list[float]) -> None:
    api.get(CALL_URL, status_code=503)
    random.seed(7)
    rounds = []
    for _ in range(40):
        naps.clear()
        failure(VapiTransientError, lambda: GET(make_client(max_retries=8)))
        rounds.append(list(naps))
    for position, pauses in enumerate(zip(*rounds, strict=True)):
        ceiling = min(20, 2**position)
        assert 0 <= min(pauses) < 0.25 * ceiling
        assert 0.75 * ceiling < max(pauses) <= ceiling


@pytest.mark.parametrize("each_takes", [0.0, 1.0, 9.0, 30.0, 75.0, 1000.0])
@pytest.mark.parametrize("retry_after", [None, "20", "60"])
def test_all_tries_end_within_75_seconds(
    api: requests_mock.Mocker, fake_time: FakeTime, each_takes: float, retry_after: str | None
) -> None:
    def response(request: Any, context: Any) -> str:
        # The transport ends the request at its time limit.
        fake_time.now += min(each_takes, request.timeout)
        if each_takes >= request.timeout:
            raise requests.exceptions.ReadTimeout
        context.status_code = 503
        if retry_after is not None:
            context.headers["Retry-After"] = retry_after
        return ""

    api.get(CALL_URL, text=response)
    for seed in range(25):
        random.seed(seed)
        began, tries = fake_time.now, api.call_count
        failure(VapiTransientError, lambda: GET(make_client(max_retries=10, timeout=75)))
        assert fake_time.now - began <= 75.01, f"seed {seed}"
        # It does not give up too early, either.
        if each_takes + float(retry_after or 20) < 55:
            assert api.call_count - tries >= 2, f"seed {seed}"


def after(seconds: float) -> str:
    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)


PAUSES = [
    ("0", 0, 1),
    ("7", 7, 8),
    (" 7 ", 7, 8),
    ("60", 60, 61),
    pytest.param(lambda: after(30), 28, 32, id="date"),
    pytest.param(lambda: after(-500), 0, 1, id="date-in-the-past"),
    # An unreadable header is ignored: the pause is the first of the back-off.
    ("", 0, 1),
    ("-5", 0, 1),
    ("soon", 0, 1),
    ("7.5s", 0, 1),
    ("1e9", 0, 1),
    ("٧", 0, 1),
    ("Sat, 99 Foo 2026 99:99:99 GMT", 0, 1),
    ("Fri, 31 Dec 99999 23:59:59 GMT", 0, 1),
]


@pytest.mark.parametrize(("value", "least", "most", "status"), in_turn(PAUSES, [429, 503]))
def test_pause_is_what_the_server_asks_for(
    api: requests_mock.Mocker,
    naps: list[float],
    status: int,
    value: str | Callable[[], str],
    least: float,
    most: float,
) -> None:
    asked = value if isinstance(value, str) else value()
    api.get(CALL_URL, [{"status_code": status, "headers": {"Retry-After": asked}}, {"json": CALL}])
    assert GET(make_client()).id == CALL_ID
    [nap] = naps
    assert least <= nap <= most


def test_retry_date_is_read_by_the_servers_clock(api: requests_mock.Mocker, naps: list[float]) -> None:
    headers = {"Date": "Sat, 01 Aug 2026 09:30:00 GMT", "Retry-After": "Sat, 01 Aug 2026 09:30:40 GMT"}
    api.get(CALL_URL, [{"status_code": 429, "headers": headers}, {"json": CALL}])
    assert GET(make_client()).id == CALL_ID
    [nap] = naps
    assert 40 <= nap <= 41


def test_requested_pauses_get_a_jitter(api: requests_mock.Mocker, naps: list[float]) -> None:
    for _ in range(20):
        api.get(CALL_URL, [{"status_code": 429, "headers": {"Retry-After": "5"}}, {"json": CALL}])
        GET(make_client())
    assert len({round(nap, 4) for nap in naps}) > 10


@pytest.mark.parametrize(
    "value", ["61", "3600", "9" * 30, "9" * 400, lambda: after(600), "Fri, 31 Dec 9999 23:59:59 GMT"]
)
@pytest.mark.parametrize(("status", "kind"), [(429, VapiRateLimitError), (503, VapiTransientError)])
def test_longer_pause_is_left_to_airflow(
    api: requests_mock.Mocker,
    naps: list[float],
    status: int,
    kind: type[VapiError],
    value: str | Callable[[], str],
) -> None:
    asked = value if isinstance(value, str) else value()
    api.get(CALL_URL, status_code=status, headers={"Retry-After": asked})
    error = failure(kind, lambda: GET(make_client()))
    assert error.status_code == status
    assert (api.call_count, naps) == (1, [])


def test_pauses_beyond_75_seconds_end_the_tries(api: requests_mock.Mocker, fake_time: FakeTime) -> None:
    api.get(CALL_URL, status_code=429, headers={"Retry-After": "50"})
    failure(VapiRateLimitError, lambda: GET(make_client()))
    assert api.call_count == 2
    assert len(fake_time.naps) == 1


@pytest.mark.parametrize(
    ("response", "says"),
    [
        ({"status_code": 502, "text": f"<title>Bearer {KEY}</title>"}, "returned 502: Bearer ***"),
        (
            {"status_code": 429, "text": json.dumps({"statusCode": 429, "message": f"{KEY}: too many"})},
            "***: too many",
        ),
        ({"exc": requests.exceptions.ReadTimeout(f"Authorization: Bearer {KEY}")}, "failed: ReadTimeout"),
        ({"text": ""}, "an empty body"),
    ],
    ids=["5xx", "429", "time-out", "empty"],
)
def test_retries_are_logged_without_the_key(
    api: requests_mock.Mocker,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    response: dict[str, Any],
    says: str,
) -> None:
    api.get(CALL_URL, [response, response, {"json": CALL}])
    GET(make_client())
    captured = capfd.readouterr()
    records = [record for record in caplog.records if "Retrying in" in record.getMessage()]
    assert len(records) == 2
    for number, record in enumerate(records, start=1):
        assert (record.name, record.levelname) == ("vapi_tests", "WARNING")
        assert record.getMessage().startswith(f"GET {PATH}")
        assert says in record.getMessage()
        assert record.getMessage().endswith(f" s (attempt {number} failed).")
    assert KEY not in caplog.text + captured.out + captured.err


@pytest.mark.parametrize("reset", ["before", "midway"])
def test_resets_are_survived(simulator: VapiSimulator, reset: Any) -> None:
    call_id = simulator.add_call(body={"name": "before"})
    client = client_of(simulator)
    simulator.faults.add(Fault(reset=reset, times=2))
    assert client.get_call(call_id).name == "before"
    simulator.faults.add(Fault(reset=reset, effect=True, times=2))
    assert client.update_call(call_id, name="after").name == "after"
    simulator.faults.add(Fault(reset=reset, times=2))
    assert [call.name for call in client.list_calls({}, 100)] == ["after"]
    # Two times two lost, and the empty page that ends the list.
    assert [request.method for request in simulator.requests].count("PATCH") == 3


@pytest.mark.parametrize("reset", ["before", "midway"])
def test_endless_resets_are_an_error(simulator: VapiSimulator, reset: Any) -> None:
    call_id = simulator.add_call()
    simulator.faults.add(Fault(reset=reset, times=None))
    client = client_of(simulator)
    error = failure(VapiTransientError, lambda: client.get_call(call_id), secret=simulator.api_key)
    assert f"GET /call/{call_id} to {simulator.url} failed" in str(error)
    assert "reset" in str(error)
    assert "later try" in str(error)
    assert error.status_code is None
    assert len(simulator.requests) == 5


def test_update_is_retried_after_a_lost_response(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(body={"name": "before"})
    simulator.faults.add(Fault(method="PATCH", status=524, effect=True))
    client_of(simulator).update_call(call_id, name="after")
    assert simulator.get_call(call_id)["name"] == "after"
    assert len(simulator.requests) == 2


def test_short_outage_is_survived(simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    call_id = simulator.add_call()
    client = client_of(simulator)
    assert client.get_call(call_id).id == call_id
    simulator.stop()
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            simulator.start()

    monkeypatch.setattr("tenacity.nap.time.sleep", nap)
    assert client.get_call(call_id).id == call_id
    assert len(naps) == 2


def test_connection_closed_while_idle_is_reopened(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call()
    client = client_of(simulator)
    client.get_call(call_id)
    simulator.stop()
    simulator.start()
    assert client.get_call(call_id).id == call_id
