# SPDX-License-Identifier: Apache-2.0
"""Placing a call: sent again only when nobody's phone can have rung, and in doubt whenever one may have."""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
import math
import random
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hook_helpers import (
    API,
    CALL_ID,
    CONN_ID,
    KEY,
    OTHER_ID,
    FakeTime,
    RawServer,
    answer_of,
    failure,
    make_hook,
)

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiCallInDoubtError,
    VapiConcurrencyLimitError,
    VapiConfigurationError,
    VapiError,
    VapiPermanentError,
    VapiRateLimitError,
    VapiTransientError,
)
from vapi_provider.models.call import PlacedCallView
from vapi_provider.simulator import Fault, ManualClock, VapiSimulator

if TYPE_CHECKING:
    import requests_mock

    from vapi_provider.hooks.vapi import VapiHook

URL = f"{API}/call"
NUMBER = "+12025550143"
REMARK = "a-remark-that-is-nobody-elses-business"
REQUEST: dict[str, Any] = {
    "assistantId": "assistant-1",
    "phoneNumberId": "phone-1",
    "name": "Grüße 👋 #7f3k9q2m",
    "customer": {"number": NUMBER, "externalId": "x"},
    "assistantOverrides": {"variableValues": {"token": "7f3k9q2m", "remark": REMARK, "n": [1, 2.5, None]}},
}
PLACED = {"id": CALL_ID, "status": "queued"}
HTML = "<html><head><title>Something in between</title></head></html>"
IN_DOUBT = "A call may have been placed"


def vapi_says(status: int, message: Any, **fields: Any) -> str:
    return json.dumps({"message": message, "error": "Some Error", "statusCode": status, **fields})


def hook_over(simulator: VapiSimulator, **extra: Any) -> VapiHook:
    return make_hook(simulator.url, password=simulator.api_key, **extra)


def sent(simulator: VapiSimulator) -> int:
    """Return how many requests arrived, all of which must have been for a call."""
    assert {(request.method, request.path) for request in simulator.requests} <= {("POST", "/call")}
    return len(simulator.requests)


def assert_is_in_doubt(error: Any, status: int | None) -> None:
    """Look whether an error says all that a person needs, and nothing that was sent."""
    # Airflow does not retry it.
    assert isinstance(error, AirflowFailException)
    assert not isinstance(error, VapiTransientError)
    assert (error.status_code, error.method, error.path) == (status, "POST", "/call")
    text = str(error)
    assert text.startswith("POST /call ")
    assert text.startswith(f"{error.failure} ")
    assert IN_DOUBT in text
    assert "dashboard" in text
    if status is not None:
        assert f"answered {status}" in text
    assert NUMBER not in text
    assert REMARK not in text


# What is sent.


def test_a_request_is_sent_once_and_word_for_word(api: requests_mock.Mocker, naps: list[float]) -> None:
    api.post(URL, status_code=201, json={**PLACED, "name": "Reminder", "monitor": {"controlUrl": "x"}})
    given = copy.deepcopy(REQUEST)
    call = make_hook().create_call(given)
    assert (call.id, call.status, call.name) == (CALL_ID, "queued", "Reminder")
    assert call.responded_at is not None
    assert given == REQUEST
    [request] = api.request_history
    assert (request.method, request.url) == ("POST", URL)
    assert json.loads(request.body) == REQUEST
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert naps == []


def test_a_placed_call_rings_its_person_once() -> None:
    clock = ManualClock()
    with VapiSimulator(clock=clock) as simulator:
        call = hook_over(simulator).create_call(REQUEST)
        clock.advance(60)
        assert simulator.get_call(call.id)["assistantOverrides"] == REQUEST["assistantOverrides"]
        assert simulator.rings == {NUMBER: 1}
        assert sent(simulator) == 1


@pytest.mark.parametrize("status", [200, 201])
def test_any_success_with_a_call_in_it_is_one(api: requests_mock.Mocker, status: int) -> None:
    api.post(URL, status_code=status, json={"id": CALL_ID.upper(), "status": "a new one", "cost": "?"})
    assert make_hook().create_call(REQUEST).id == CALL_ID.upper()


# What is not sent.


@pytest.mark.parametrize(
    ("request_body", "says"),
    [
        pytest.param({}, "JSON object", id="empty"),
        pytest.param(None, "not an empty one; got NoneType", id="none"),
        pytest.param([REQUEST], "not an empty one; got list", id="list"),
        pytest.param(json.dumps(REQUEST), "not an empty one; got str", id="text"),
        pytest.param({**REQUEST, "customers": [{"number": NUMBER}]}, "customers", id="customers"),
        pytest.param({**REQUEST, "customers": []}, "customers", id="no-customers"),
        pytest.param({**REQUEST, "n": math.nan}, "cannot be written as JSON", id="nan"),
        pytest.param({**REQUEST, "n": [{"m": -math.inf}]}, "cannot be written as JSON", id="deep-infinity"),
        pytest.param(
            {**REQUEST, "at": datetime.now(timezone.utc)}, "cannot be written as JSON", id="datetime"
        ),
        pytest.param({**REQUEST, "a": {"b": [{1, 2}]}}, "cannot be written as JSON", id="deep-set"),
        pytest.param({**REQUEST, (1, 2): 3}, "cannot be written as JSON", id="tuple-for-a-key"),
    ],
)
def test_a_request_that_makes_no_sense_is_not_sent(
    api: requests_mock.Mocker, request_body: Any, says: str
) -> None:
    prepared: list[None] = []
    error = failure(
        VapiConfigurationError,
        lambda: make_hook().create_call(request_body, before_send=lambda: prepared.append(None)),
    )
    assert says in str(error)
    assert "Nothing was sent" in str(error)
    assert NUMBER not in str(error)
    assert (prepared, api.call_count) == ([], 0)


def test_a_request_that_holds_itself_is_not_sent(api: requests_mock.Mocker) -> None:
    endless: dict[str, Any] = {}
    endless["itself"] = endless
    failure(VapiConfigurationError, lambda: make_hook().create_call(endless))
    assert api.call_count == 0


def test_a_request_may_be_any_mapping(api: requests_mock.Mocker) -> None:
    api.post(URL, status_code=201, json=PLACED)
    make_hook().create_call(MappingProxyType(REQUEST))
    assert api.last_request.json() == REQUEST


def test_an_unusable_connection_is_told_before_anything_is_prepared_or_sent(
    api: requests_mock.Mocker,
) -> None:
    prepared: list[None] = []
    hook = make_hook(password="")
    error = failure(
        VapiConfigurationError,
        lambda: hook.create_call(REQUEST, before_send=lambda: prepared.append(None)),
    )
    assert CONN_ID in str(error)
    assert (prepared, api.call_count) == ([], 0)


# before_send.


def test_before_send_runs_directly_before_each_sending(
    api: requests_mock.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _seconds: events.append("pause")))
    statuses = iter([429, 429, 201])

    def answer(_request: Any, context: Any) -> str:
        events.append("sent")
        context.status_code = next(statuses)
        return json.dumps(PLACED)

    api.post(URL, text=answer)
    make_hook().create_call(REQUEST, before_send=lambda: events.append("prepared"))
    assert events == ["prepared", "sent", "pause", "prepared", "sent", "pause", "prepared", "sent"]


class Stopped(BaseException):
    pass


OBJECTIONS = [
    RuntimeError,
    AirflowException,
    VapiTransientError,
    VapiRateLimitError,
    VapiPermanentError,
    ConnectionRefusedError,
    socket.gaierror,
    requests.exceptions.ConnectTimeout,
    Stopped,
]


@pytest.mark.parametrize("kind", OBJECTIONS)
@pytest.mark.parametrize("at_sending", [1, 2])
def test_what_before_send_raises_passes_through_and_nothing_is_sent(
    simulator: VapiSimulator, kind: type[BaseException], at_sending: int
) -> None:
    simulator.faults.add(Fault(status=429, times=None))
    said = kind("no")
    prepared: list[None] = []

    def prepare() -> None:
        prepared.append(None)
        if len(prepared) == at_sending:
            raise said

    with pytest.raises(kind) as caught:
        hook_over(simulator).create_call(REQUEST, before_send=prepare)
    assert caught.value is said
    assert len(prepared) == at_sending
    assert sent(simulator) == at_sending - 1


def test_the_time_that_before_send_takes_is_not_taken_from_the_request(
    api: requests_mock.Mocker, fake_time: FakeTime
) -> None:
    def prepare() -> None:
        fake_time.now += 12

    api.post(URL, [{"status_code": 429}, {"status_code": 201, "json": PLACED}])
    make_hook(timeout=30).create_call(REQUEST, before_send=prepare)
    assert [request.timeout for request in api.request_history] == [30, 30]


# Sent again: certainly without effect.


class Network:
    """Makes the name localhost lead to trouble, as long as there is any."""

    def __init__(self, simulator: VapiSimulator, full_address: str) -> None:
        self.trouble: str | None = None
        self.url = simulator.url.replace("127.0.0.1", "localhost")
        self._addresses: dict[str | None, list[str]] = {
            None: ["127.0.0.1"],
            "refused": ["127.0.9.9"],
            "refused by all of its addresses": ["127.0.9.9", "127.0.9.10"],
            "too slow to connect": [full_address],
            "a name without an address": [],
        }
        self._resolve = socket.getaddrinfo

    def resolve(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "localhost":
            return self._resolve(host, port, *args, **kwargs)
        if self.trouble == "a name that cannot be resolved":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        addresses = self._addresses[self.trouble]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]


@pytest.fixture
def network(simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    full_address = "127.0.9.1"
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind((full_address, int(simulator.url.rpartition(":")[2])))
        # Its queue of connections is full; what comes after that is not answered.
        listener.listen(0)
        for _ in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        made = Network(simulator, full_address)
        monkeypatch.setattr(socket, "getaddrinfo", made.resolve)
        yield made


TROUBLES = {
    "refused": "the connection was refused",
    "refused by all of its addresses": "the connection was refused",
    "too slow to connect": "no connection within 0.3 s",
    "a name without an address": "no connection could be made",
    "a name that cannot be resolved": "the host name could not be resolved",
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_connection_that_was_never_made_is_made_again(
    simulator: VapiSimulator, network: Network, naps: list[float], trouble: str
) -> None:
    sendings: list[None] = []

    def prepare() -> None:
        sendings.append(None)
        network.trouble = trouble if len(sendings) < 3 else None

    hook = make_hook(network.url, password=simulator.api_key, timeout=0.4)
    call = hook.create_call(REQUEST, before_send=prepare)
    assert list(simulator.calls) == [call.id]
    assert sent(simulator) == 1
    assert (len(sendings), len(naps)) == (3, 2)


@pytest.mark.parametrize(("trouble", "says"), TROUBLES.items(), ids=TROUBLES)
def test_a_connection_that_is_never_made_leaves_no_doubt(
    simulator: VapiSimulator, network: Network, trouble: str, says: str
) -> None:
    network.trouble = trouble
    sendings: list[None] = []
    hook = make_hook(network.url, password=simulator.api_key, timeout=0.3, max_retries=1)
    error = failure(
        VapiTransientError,
        lambda: hook.create_call(REQUEST, before_send=lambda: sendings.append(None)),
        secret=simulator.api_key,
    )
    assert str(error).startswith(f"POST /call got no answer from {network.url}: {says}. ")
    assert IN_DOUBT not in str(error)
    assert len(sendings) == 2
    assert sent(simulator) == 0


RATE_LIMITS = [
    pytest.param(Fault(status=429, times=2), id="json"),
    pytest.param(Fault(status=429, times=2, body=HTML, content_type="text/html"), id="html"),
    pytest.param(Fault(status=429, times=2, body=""), id="empty"),
    pytest.param(Fault(status=429, times=2, body="[7]"), id="list"),
    pytest.param(Fault(status=429, times=2, headers={"Retry-After": "7"}), id="with-a-pause"),
]


@pytest.mark.parametrize("fault", RATE_LIMITS)
def test_a_rate_limit_is_sat_out(simulator: VapiSimulator, naps: list[float], fault: Fault) -> None:
    simulator.faults.add(fault)
    call = hook_over(simulator).create_call(REQUEST)
    assert list(simulator.calls) == [call.id]
    assert sent(simulator) == 3
    assert len(naps) == 2
    if fault.headers:
        assert all(7 <= nap <= 8 for nap in naps)


@pytest.mark.parametrize("max_retries", [0, 1, 4])
def test_a_rate_limit_without_end_leaves_no_doubt(
    simulator: VapiSimulator, naps: list[float], max_retries: int
) -> None:
    simulator.faults.add(Fault(status=429, times=None))
    hook = hook_over(simulator, max_retries=max_retries, timeout=5)
    error = failure(VapiRateLimitError, lambda: hook.create_call(REQUEST), secret=simulator.api_key)
    assert error.status_code == 429
    assert IN_DOUBT not in str(error)
    assert sent(simulator) == max_retries + 1
    assert len(naps) == max_retries


@pytest.mark.parametrize("asked", ["61", "3600", "9" * 30])
def test_a_longer_pause_than_a_minute_is_left_to_airflow(
    simulator: VapiSimulator, naps: list[float], asked: str
) -> None:
    simulator.faults.add(Fault(status=429, times=None, headers={"Retry-After": asked}))
    error = failure(
        VapiRateLimitError, lambda: hook_over(simulator).create_call(REQUEST), secret=simulator.api_key
    )
    assert error.retry_after == float(asked)
    assert (sent(simulator), naps) == (1, [])


@pytest.mark.parametrize("each_takes", [0.0, 10.0, 29.0])
@pytest.mark.parametrize("retry_after", [None, "10", "40", "60"])
def test_all_tries_end_within_75_seconds(
    api: requests_mock.Mocker, fake_time: FakeTime, each_takes: float, retry_after: str | None
) -> None:
    def answer(_request: Any, context: Any) -> str:
        fake_time.now += each_takes
        context.status_code = 429
        context.headers.update({"Retry-After": retry_after} if retry_after else {})
        return ""

    api.post(URL, text=answer)
    for seed in range(25):
        random.seed(seed)
        began = fake_time.now
        failure(VapiRateLimitError, lambda: make_hook(max_retries=10).create_call(REQUEST))
        assert fake_time.now - began <= 75.01


def test_each_repetition_is_told_in_the_log_without_what_was_sent(
    api: requests_mock.Mocker, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    limited = {"status_code": 429, "text": vapi_says(429, f"{KEY}: too many")}
    api.post(URL, [limited, limited, {"status_code": 201, "json": PLACED}])
    make_hook().create_call(REQUEST)
    # Airflow 3.1 and later write the log with structlog, earlier ones with logging.
    captured = capfd.readouterr()
    log = caplog.text or captured.out + captured.err
    lines = [line for line in log.splitlines() if "Trying again in" in line]
    assert len(lines) == 2
    for line in lines:
        assert "POST /call was answered 429: ***: too many" in line
    for secret in (KEY, NUMBER, REMARK):
        assert secret not in caplog.text + captured.out + captured.err


# In doubt: not sent again, whatever happened on the other side.


def html(status: int, **options: Any) -> Fault:
    return Fault(status=status, body=HTML, content_type="text/html", **options)


TIMEOUT = 0.5
DOUBTFUL: dict[str, tuple[Fault, int | None]] = {
    "reset, without effect": (Fault(reset="before"), None),
    "reset, after the effect": (Fault(reset="before", effect=True), None),
    "reset in the middle of the answer": (Fault(reset="midway"), None),
    "reset in the middle of another's answer": (Fault(reset="midway", status=429), None),
    "no answer in time, after the effect": (Fault(delay=60), None),
    "no answer in time, without effect": (Fault(delay=60, status=503), None),
    "a body that drips": (Fault(drip=0.1), None),
    "headers that drip": (Fault(drip=0.1, drip_headers=True), None),
    **{
        f"{status} {what}": (made(status), status)
        for status in (500, 502, 503, 504, 520, 524)
        for what, made in {
            "in Vapi's JSON, without effect": lambda status: Fault(status=status),
            "in Vapi's JSON, after the effect": lambda status: Fault(status=status, effect=True),
            "in HTML, without effect": html,
            "in HTML, after the effect": lambda status: html(status, effect=True),
        }.items()
    },
    "503 that asks for a pause": (Fault(status=503, headers={"Retry-After": "1"}), 503),
    "408": (Fault(status=408), 408),
    "408 after the effect": (Fault(status=408, effect=True), 408),
    "425": (Fault(status=425), 425),
    **{
        f"{status} to {target}": (Fault(status=status, headers={"Location": target}, effect=True), status)
        for status in (301, 302, 303, 307, 308)
        for target in ("/call", "https://vapi.invalid/call")
    },
    "302 to nonsense": (Fault(status=302, headers={"Location": "http://["}), 302),
    "302 to nowhere": (Fault(status=302), 302),
    "304": (Fault(status=304), 304),
    "400 in HTML": (html(400), 400),
    "400 without a body": (Fault(status=400, body=""), 400),
    "400 of a gateway": (Fault(status=400, body='{"message": "bad request"}'), 400),
    "400 that calls itself something else": (Fault(status=400, body=vapi_says(502, "no")), 400),
    "400 about the limit, of a gateway": (
        Fault(status=400, body='{"message": "Over Concurrency Limit"}'),
        400,
    ),
    "401 as plain text": (Fault(status=401, body="no", content_type="text/plain"), 401),
    "403 in HTML": (html(403), 403),
    "403 of Cloudflare": (Fault(status=403, body="error code: 1010"), 403),
    "403 of a gateway": (Fault(status=403, body='{"message": "not you"}'), 403),
    "404 in HTML": (html(404, effect=True), 404),
    "404 of a gateway": (Fault(status=404, body='{"message": "no Route matched with those values"}'), 404),
    "422 in HTML": (html(422), 422),
    "201 without a body": (Fault(status=201, body="", effect=True), 201),
    "201 of white space": (Fault(status=201, body=" \n", effect=True), 201),
    "201 that is cut off": (Fault(status=201, body=json.dumps(PLACED)[:-9], effect=True), 201),
    "201 in HTML": (html(201, effect=True), 201),
    "201 with a list": (Fault(status=201, body=json.dumps([PLACED]), effect=True), 201),
    "201 with null": (Fault(status=201, body="null", effect=True), 201),
    "201 with a text": (Fault(status=201, body='"queued"', effect=True), 201),
    "201 without an id": (Fault(status=201, body='{"status": "queued"}', effect=True), 201),
    "201 with a number for an id": (Fault(status=201, body='{"id": 7}', effect=True), 201),
    "201 with a batch": (Fault(status=201, body='{"results": [], "errors": []}', effect=True), 201),
    "200 without a body": (Fault(body="", effect=True), 200),
    "204": (Fault(status=204, effect=True), 204),
}


@pytest.mark.parametrize(("fault", "status"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_what_leaves_a_doubt_is_never_sent_again(
    simulator: VapiSimulator, naps: list[float], fault: Fault, status: int | None
) -> None:
    simulator.faults.add(fault)
    prepared: list[None] = []
    is_slow = bool(fault.delay or fault.drip)
    hook = hook_over(simulator, timeout=TIMEOUT if is_slow else 20)
    error = failure(
        VapiCallInDoubtError,
        lambda: hook.create_call(REQUEST, before_send=lambda: prepared.append(None)),
        secret=simulator.api_key,
    )
    assert_is_in_doubt(error, status)
    assert sent(simulator) == len(prepared) == 1
    assert len(simulator.calls) == int(fault.processes_request)
    assert naps == []


def after_all(content: bytes) -> Callable[[socket.socket, RawServer], None]:
    """Say something and close, once the whole request was read: what is left unread turns the end into a reset."""

    def talk(connection: socket.socket, server: RawServer) -> None:
        length = re.search(r"Content-Length: (\d+)", server.read_head(connection))
        assert length is not None
        connection.recv(int(length[1]), socket.MSG_WAITALL)
        connection.sendall(content)

    return talk


def close_unread(connection: socket.socket, _server: RawServer) -> None:
    connection.recv(1)


CREATED = b"HTTP/1.1 201 Created\r\n"
TALKS: dict[str, tuple[Callable[[socket.socket, RawServer], None], str]] = {
    "closed without an answer": (after_all(b""), "closed before the answer"),
    "closed before the request was read": (close_unread, ""),
    "no HTTP": (after_all(b"220 mail.example.invalid ESMTP\r\n"), ""),
    "headers without an end": (after_all(CREATED + b"X: y\r\n"), ""),
    "too many headers": (after_all(CREATED + b"X: y\r\n" * 200 + b"\r\n"), ""),
    "too long a header": (after_all(CREATED + b"X: " + b"y" * 70_000 + b"\r\n\r\n"), ""),
    "less than was announced": (after_all(CREATED + b"Content-Length: 99\r\n\r\n{}"), "cut off"),
    "less of a refusal than was announced": (
        after_all(answer_of(vapi_says(400, "no").encode(), status="400 Bad Request")[:-1]),
        "cut off",
    ),
    "chunks that do not end": (
        after_all(CREATED + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"),
        "",
    ),
    "chunks that are none": (after_all(CREATED + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), ""),
    "gzip that is none": (
        after_all(answer_of(b"{}", status="201 Created", headers="Content-Encoding: gzip\r\n")),
        "",
    ),
    "gzip that is cut off": (
        after_all(
            answer_of(
                gzip.compress(json.dumps(PLACED).encode())[:20],
                status="201 Created",
                headers="Content-Encoding: gzip\r\n",
            )
        ),
        "",
    ),
}


@pytest.mark.parametrize(("talk", "says"), TALKS.values(), ids=TALKS)
def test_whatever_comes_over_the_wire_the_request_goes_out_once(
    raw_server: Callable[..., RawServer], naps: list[float], talk: Any, says: str
) -> None:
    server = raw_server(talk)
    prepared: list[None] = []
    error = failure(
        VapiCallInDoubtError,
        lambda: make_hook(server.url).create_call(REQUEST, before_send=lambda: prepared.append(None)),
    )
    assert IN_DOUBT in str(error)
    assert says in str(error)
    assert len(prepared) == len(server._connections) == 1
    assert naps == []


def test_an_address_that_refused_does_not_make_a_lost_answer_of_another_harmless(
    simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "localhost":
            return real(host, port, *args, **kwargs)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.9.9", "127.0.0.1")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    simulator.faults.add(Fault(reset="before", effect=True, times=None))
    hook = make_hook(simulator.url.replace("127.0.0.1", "localhost"), password=simulator.api_key)
    failure(VapiCallInDoubtError, lambda: hook.create_call(REQUEST), secret=simulator.api_key)
    assert sent(simulator) == 1


@pytest.mark.parametrize("handled", [ConnectionRefusedError, socket.gaierror])
@pytest.mark.parametrize(
    "fault",
    [Fault(reset="before", effect=True, times=None), Fault(delay=60, times=None)],
    ids=["reset", "slow"],
)
def test_a_lost_answer_is_in_doubt_also_while_another_error_is_being_handled(
    simulator: VapiSimulator, handled: type[OSError], fault: Fault
) -> None:
    simulator.faults.add(fault)

    def place() -> None:
        # Python links every error in here to the one that is being handled.
        try:
            raise handled("elsewhere")
        except OSError:
            hook_over(simulator, timeout=TIMEOUT if fault.delay else 20, max_retries=1).create_call(REQUEST)

    failure(VapiCallInDoubtError, place, secret=simulator.api_key)
    assert sent(simulator) == 1


def test_a_doubt_after_a_rate_limit_is_one(simulator: VapiSimulator) -> None:
    simulator.faults.add(Fault(status=429))
    simulator.faults.add(Fault(status=502, effect=True))
    error = failure(
        VapiCallInDoubtError, lambda: hook_over(simulator).create_call(REQUEST), secret=simulator.api_key
    )
    assert_is_in_doubt(error, 502)
    assert sent(simulator) == 2
    assert len(simulator.calls) == 1


def test_a_doubt_says_what_vapi_said_without_the_key(simulator: VapiSimulator) -> None:
    key = simulator.api_key
    simulator.faults.add(Fault(status=500, body=vapi_says(500, f"The carrier hung up on Bearer {key}")))
    error = failure(VapiCallInDoubtError, lambda: hook_over(simulator).create_call(REQUEST), secret=key)
    assert "POST /call was answered 500: The carrier hung up on Bearer ***." in str(error)
    assert error.detail == "The carrier hung up on Bearer ***"


# Refused: certainly without effect, and nothing to try again.


REFUSALS: dict[str, tuple[int, str, type[VapiError], str]] = {
    "400 with a list": (
        400,
        vapi_says(400, ["property x should not exist", "name must be a string"]),
        VapiPermanentError,
        "property x should not exist; name must be a string",
    ),
    "400 with a message": (400, vapi_says(400, "Not like this"), VapiPermanentError, "Not like this"),
    "400 without the status": (
        400,
        '{"message": "Not like this", "error": "Bad Request"}',
        VapiPermanentError,
        "Not like this",
    ),
    "401": (401, vapi_says(401, "Invalid Key"), VapiAuthenticationError, "private API key"),
    "402": (402, vapi_says(402, "Out of credits"), VapiPermanentError, "Out of credits"),
    "403": (403, vapi_says(403, "Forbidden"), VapiAuthenticationError, "may not do this"),
    "404": (404, vapi_says(404, "No such assistant"), VapiPermanentError, "No such assistant"),
    "409": (409, vapi_says(409, "Conflict"), VapiPermanentError, "Conflict"),
    "413": (413, vapi_says(413, "Too large"), VapiPermanentError, "Too large"),
    "422": (422, vapi_says(422, "Unprocessable"), VapiPermanentError, "Unprocessable"),
}


@pytest.mark.parametrize(("status", "body", "kind", "says"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_of_vapis_own_leaves_no_doubt(
    simulator: VapiSimulator,
    naps: list[float],
    status: int,
    body: str,
    kind: type[VapiError],
    says: str,
) -> None:
    simulator.faults.add(Fault(status=status, body=body, headers={"Retry-After": "1"}))
    error = failure(kind, lambda: hook_over(simulator).create_call(REQUEST), secret=simulator.api_key)
    assert str(error).startswith(f"POST /call was answered {status}: ")
    assert says in str(error)
    assert IN_DOUBT not in str(error)
    assert (sent(simulator), simulator.calls, naps) == (1, {}, [])


@pytest.mark.parametrize(
    ("change", "password", "kind"),
    [
        ({"tries": 3}, None, VapiPermanentError),
        ({"customer": {"number": "12"}}, None, VapiPermanentError),
        ({}, "another-key-of-the-tests", VapiAuthenticationError),
    ],
    ids=["unknown property", "bad number", "wrong key"],
)
def test_what_the_simulator_refuses_leaves_no_doubt(
    simulator: VapiSimulator, change: dict[str, Any], password: str | None, kind: type[VapiError]
) -> None:
    hook = make_hook(simulator.url, password=password or simulator.api_key)
    failure(kind, lambda: hook.create_call({**REQUEST, **change}), secret=simulator.api_key)
    assert (sent(simulator), simulator.calls) == (1, {})


def test_a_certificate_that_is_refused_leaves_no_doubt_and_is_not_tried_again(
    api: requests_mock.Mocker,
) -> None:
    refused = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"
    api.post(URL, exc=requests.exceptions.SSLError(ssl.SSLCertVerificationError(refused)))
    error = failure(VapiTransientError, lambda: make_hook().create_call(REQUEST))
    assert "certificates" in str(error)
    assert IN_DOUBT not in str(error)
    assert api.call_count == 1


def test_certificates_that_are_not_there_leave_no_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/certificates.pem")
    error = failure(VapiTransientError, lambda: make_hook("https://127.0.0.1:9").create_call(REQUEST))
    assert "REQUESTS_CA_BUNDLE" in str(error)
    assert IN_DOUBT not in str(error)


# Too many calls at once.


def test_one_call_too_many_calls_nobody_and_names_the_limit(naps: list[float]) -> None:
    with VapiSimulator(concurrency_limit=2) as simulator:
        for _ in range(2):
            simulator.add_call(status="in-progress")
        error = failure(
            VapiConcurrencyLimitError,
            lambda: hook_over(simulator).create_call(REQUEST),
            secret=simulator.api_key,
        )
        assert (sent(simulator), len(simulator.calls), naps) == (1, 2, [])
    # Airflow's own retries apply.
    assert isinstance(error, VapiTransientError)
    assert error.status_code == 400
    for part in ("nobody was called", "may have 2 at once", "0 are left", "A later try", "pool"):
        assert part in str(error)
    assert IN_DOUBT not in str(error)


SILENT = "does not say how many"


@pytest.mark.parametrize(
    ("message", "limits", "says"),
    [
        pytest.param("Over Concurrency Limit", {}, SILENT, id="no-limits"),
        pytest.param("over concurrency limit!", {"subscriptionLimits": None}, SILENT, id="null"),
        pytest.param(["Over Concurrency Limit."], {"subscriptionLimits": [10]}, SILENT, id="list"),
        pytest.param(
            "Over Concurrency Limit",
            {"subscriptionLimits": {"concurrencyLimit": "10", "remainingConcurrentCalls": None}},
            SILENT,
            id="texts",
        ),
        pytest.param(
            "Over Concurrency Limit",
            {"subscriptionLimits": {"concurrencyBlocked": True, "concurrencyLimit": 25}},
            "may have 25 at once",
            id="limit-only",
        ),
        pytest.param(
            "Over Concurrency Limit",
            {"subscriptionLimits": {"remainingConcurrentCalls": 0.0}},
            "0 are left",
            id="rest-only",
        ),
    ],
)
def test_a_refusal_for_the_limit_says_what_vapi_says_of_it(
    api: requests_mock.Mocker, message: Any, limits: dict[str, Any], says: str
) -> None:
    api.post(URL, status_code=400, text=vapi_says(400, message, **limits))
    error = failure(VapiConcurrencyLimitError, lambda: make_hook().create_call(REQUEST))
    assert says in str(error)
    assert api.call_count == 1


# Finding a call again: pages of traces.


ROW = {
    "id": CALL_ID,
    "status": "ended",
    "name": "Reminder #7f3k9q2m",
    "endedReason": "call.start.error-get-org",
    "createdAt": "2026-08-01T10:00:00.123Z",
    "startedAt": "2026-08-01T10:00:02Z",
    "assistantOverrides": {"variableValues": {"token": "7f3k9q2m"}},
    "squadOverrides": {"variableValues": {"token": "a"}},
    "workflowOverrides": {"variableValues": {"token": "b"}},
    "customer": {"number": NUMBER},
    "transcript": "AI: Hello.\n",
    "phoneNumber": {"twilioAuthToken": REMARK},
}


def test_a_page_of_traces_tells_who_placed_each_call_and_what_became_of_it(
    api: requests_mock.Mocker,
) -> None:
    text = json.dumps([ROW, {"id": OTHER_ID}])
    api.get(URL, text=text, headers={"Date": "Sat, 01 Aug 2026 10:05:00 GMT"})
    page = make_hook().list_placed({"limit": 2, "createdAtGe": "2026-08-01T09:00:00Z"})
    assert api.last_request.qs == {"limit": ["2"], "createdatge": ["2026-08-01t09:00:00z"]}
    assert (page.length, page.size) == (2, len(text))
    assert page.responded_at == datetime(2026, 8, 1, 10, 5, tzinfo=timezone.utc)
    first, second = page.rows
    assert (first.id, first.status, first.is_terminal) == (CALL_ID, "ended", True)
    assert (first.name, first.ended_reason) == (ROW["name"], ROW["endedReason"])
    assert first.started_at == datetime(2026, 8, 1, 10, 0, 2, tzinfo=timezone.utc)
    assert first.assistant_overrides == ROW["assistantOverrides"]
    assert first.squad_overrides == ROW["squadOverrides"]
    assert first.workflow_overrides == ROW["workflowOverrides"]
    assert first.responded_at == page.responded_at
    assert (second.id, second.name, second.ended_reason) == (OTHER_ID, None, None)
    assert (second.assistant_overrides, second.started_at) == (None, None)


def test_a_trace_does_not_hold_the_rest_of_the_call() -> None:
    trace = PlacedCallView.model_validate(ROW)
    assert trace.model_extra is None
    assert NUMBER not in trace.model_dump_json()
    assert REMARK not in trace.model_dump_json()
    assert not hasattr(trace, "transcript")
    assert repr(trace) == f"PlacedCallView(id='{CALL_ID}', status='ended')"


@pytest.mark.parametrize(
    ("senseless", "readable"),
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
def test_a_senseless_row_does_not_hide_the_others(
    api: requests_mock.Mocker, senseless: str, readable: int
) -> None:
    last = json.dumps({**ROW, "id": OTHER_ID[:-1] + "c"})
    api.get(URL, text=f"[{json.dumps(ROW)}, {senseless}, {last}]")
    page = make_hook().list_placed({})
    assert page.length == 3
    assert len(page.rows) == 2 + readable
    assert [row.name for row in (page.rows[0], page.rows[-1])] == [ROW["name"]] * 2
    assert all(row.responded_at is not None for row in page.rows)
    if readable:
        assert (page.rows[1].ended_reason, page.rows[1].assistant_overrides) == (None, None)


def test_a_page_of_traces_that_is_no_list_is_a_passing_error(api: requests_mock.Mocker) -> None:
    api.get(URL, json={"results": []})
    error = failure(VapiTransientError, lambda: make_hook(max_retries=0).list_placed({}))
    assert "an object in place of a list of calls" in str(error)


@pytest.mark.parametrize(
    ("timeout", "expected"), [({}, 30.0), ({"timeout": 5}, 5.0), ({"timeout": "2.5"}, 2.5)]
)
def test_the_hook_tells_how_long_a_request_may_take(timeout: dict[str, Any], expected: float) -> None:
    assert make_hook(**timeout).request_timeout == expected
