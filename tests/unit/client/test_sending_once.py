# SPDX-License-Identifier: Apache-2.0
"""Placing a call: a single POST, and doubt whenever a phone may have rung."""

from __future__ import annotations

import contextlib
import copy
import gzip
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests
from http_helpers import (
    API,
    CALL_ID,
    KEY,
    RawServer,
    client_of,
    failure,
    make_client,
    response_bytes,
    vapi_error,
)
from late_responses import LATE, LATE_BODY

from airflow.providers.common.compat.sdk import AirflowFailException
from vapi_provider.exceptions import (
    VapiAuthenticationError,
    VapiCallInDoubtError,
    VapiConcurrencyLimitError,
    VapiError,
    VapiPermanentError,
    VapiRateLimitError,
    VapiTransientError,
)
from vapi_provider.simulator import Fault, ManualClock, VapiSimulator

if TYPE_CHECKING:
    import requests_mock
    from http_fixtures import Addresses

URL = f"{API}/call"
NUMBER = "+12025550143"
REMARK = "a-confidential-remark"
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


def sent(simulator: VapiSimulator) -> int:
    """Return the number of requests, which must all be for a call."""
    assert {(request.method, request.path) for request in simulator.requests} <= {("POST", "/call")}
    return len(simulator.requests)


def assert_is_in_doubt(error: Any, status: int | None) -> None:
    """Check that an error is complete and shows nothing that was sent."""
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
        assert f"returned {status}" in text
    assert NUMBER not in text
    assert REMARK not in text


# What is sent.


def test_request_is_sent_once_and_unchanged(api: requests_mock.Mocker, naps: list[float]) -> None:
    api.post(URL, status_code=201, json={**PLACED, "name": "Reminder", "monitor": {"controlUrl": "x"}})
    given = copy.deepcopy(REQUEST)
    call = make_client().create_call(given)
    assert (call.id, call.status, call.name) == (CALL_ID, "queued", "Reminder")
    assert call.responded_at is not None
    assert given == REQUEST
    [request] = api.request_history
    assert (request.method, request.url) == ("POST", URL)
    assert json.loads(request.body) == REQUEST
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert naps == []


def test_placed_call_rings_once(simulator: VapiSimulator, clock: ManualClock) -> None:
    call = client_of(simulator).create_call(REQUEST)
    clock.advance(60)
    assert simulator.get_call(call.id)["assistantOverrides"] == REQUEST["assistantOverrides"]
    assert simulator.rings == {NUMBER: 1}
    assert sent(simulator) == 1


@pytest.mark.parametrize("status", [200, 201])
def test_any_2xx_with_a_call_is_a_success(api: requests_mock.Mocker, status: int) -> None:
    api.post(URL, status_code=status, json={"id": CALL_ID.upper(), "status": "a new one", "cost": "?"})
    assert make_client().create_call(REQUEST).id == CALL_ID.upper()


# No effect, certainly.


FULL_ADDRESS = "127.0.9.1"


@pytest.fixture
def full_address(simulator: VapiSimulator) -> Iterator[None]:
    """Fill the accept queue of an address, so that further connections get no response."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind((FULL_ADDRESS, int(simulator.url.rpartition(":")[2])))
        listener.listen(0)
        for _ in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield


NOT_RESOLVED = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
UNREACHABLE: dict[str, tuple[Any, str]] = {
    "refused": (["127.0.9.9"], "the connection was refused"),
    "refused by all of its addresses": (["127.0.9.9", "127.0.9.10"], "the connection was refused"),
    "too slow to connect": ([FULL_ADDRESS], "no connection within 0.3 s"),
    "a name without an address": ([], "no connection could be made"),
    "a name that cannot be resolved": (NOT_RESOLVED, "the host name could not be resolved"),
}


@pytest.mark.usefixtures("full_address")
@pytest.mark.parametrize(("found", "says"), UNREACHABLE.values(), ids=UNREACHABLE)
def test_failed_connection_leaves_no_doubt(
    simulator: VapiSimulator, addresses: Addresses, naps: list[float], found: Any, says: str
) -> None:
    addresses["localhost"] = found
    url = simulator.url.replace("127.0.0.1", "localhost")
    timeout = 0.3 if found == [FULL_ADDRESS] else 20
    client = make_client(url, password=simulator.api_key, timeout=timeout)
    error = failure(VapiTransientError, lambda: client.create_call(REQUEST), secret=simulator.api_key)
    assert str(error).startswith(f"POST /call to {url} failed: {says}. ")
    assert IN_DOUBT not in str(error)
    assert (error.had_no_effect, error.is_repeatable, error.retry_after) == (True, True, None)
    assert (sent(simulator), naps) == (0, [])


RATE_LIMITS = {
    "in JSON": Fault(status=429),
    "in HTML": Fault(status=429, body=HTML, content_type="text/html"),
    "empty": Fault(status=429, body=""),
    "a list": Fault(status=429, body="[7]"),
    "with a pause": Fault(status=429, headers={"Retry-After": "7"}),
    "with a long pause": Fault(status=429, headers={"Retry-After": "3600"}),
}


@pytest.mark.parametrize("fault", RATE_LIMITS.values(), ids=RATE_LIMITS)
def test_rate_limit_leaves_no_doubt(simulator: VapiSimulator, naps: list[float], fault: Fault) -> None:
    simulator.faults.add(fault)
    error = failure(
        VapiRateLimitError, lambda: client_of(simulator).create_call(REQUEST), secret=simulator.api_key
    )
    assert error.status_code == 429
    assert IN_DOUBT not in str(error)
    assert (error.had_no_effect, error.is_repeatable) == (True, True)
    asked = fault.headers.get("Retry-After")
    assert error.retry_after == (None if asked is None else float(asked))
    assert (sent(simulator), simulator.calls, naps) == (1, {}, [])


# In doubt.


def html(status: int, **options: Any) -> Fault:
    return Fault(status=status, body=HTML, content_type="text/html", **options)


DOUBTFUL: dict[str, tuple[Fault, int | None]] = {
    "reset, without effect": (Fault(reset="before"), None),
    "reset, after the effect": (Fault(reset="before", effect=True), None),
    "reset in the middle of the response": (Fault(reset="midway"), None),
    "reset in the middle of another response": (Fault(reset="midway", status=429), None),
    "no response in time, after the effect": (Fault(headers=LATE), None),
    "no response in time, without effect": (Fault(headers=LATE, status=503), None),
    "no end of the body in time": (Fault(headers=LATE_BODY), None),
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
    "400 with a list": (Fault(status=400, body="[7]"), 400),
    "400 that is cut off": (Fault(status=400, body='{"message": "bad'), 400),
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
    "201 with an empty id": (Fault(status=201, body='{"id": ""}', effect=True), 201),
    "201 with a number for an id": (Fault(status=201, body='{"id": 7}', effect=True), 201),
    "201 with a batch": (Fault(status=201, body='{"results": [], "errors": []}', effect=True), 201),
    "200 without a body": (Fault(body="", effect=True), 200),
    "204": (Fault(status=204, effect=True), 204),
}


@pytest.mark.usefixtures("late_responses_time_out")
@pytest.mark.parametrize(("fault", "status"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_doubtful_responses_are_never_followed_by_a_post(
    simulator: VapiSimulator, naps: list[float], fault: Fault, status: int | None
) -> None:
    simulator.faults.add(fault)
    client = client_of(simulator)
    error = failure(VapiCallInDoubtError, lambda: client.create_call(REQUEST), secret=simulator.api_key)
    assert_is_in_doubt(error, status)
    assert sent(simulator) == 1
    assert len(simulator.calls) == int(fault.processes_request)
    assert naps == []


def after_all(content: bytes) -> Callable[[socket.socket, RawServer], None]:
    """Read the whole request, send bytes and close; unread bytes would turn the close into a reset."""

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
    "closed without a response": (after_all(b""), "closed before the response"),
    "closed before the request was read": (close_unread, ""),
    "no HTTP": (after_all(b"220 mail.example.invalid ESMTP\r\n"), ""),
    "headers without an end": (after_all(CREATED + b"X: y\r\n"), ""),
    "too many headers": (after_all(CREATED + b"X: y\r\n" * 200 + b"\r\n"), ""),
    "too long a header": (after_all(CREATED + b"X: " + b"y" * 70_000 + b"\r\n\r\n"), ""),
    "less than was announced": (after_all(CREATED + b"Content-Length: 99\r\n\r\n{}"), "cut off"),
    "less of a refusal than was announced": (
        after_all(response_bytes(vapi_error(400, "no").encode(), status="400 Bad Request")[:-1]),
        "cut off",
    ),
    "chunks that do not end": (
        after_all(CREATED + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"),
        "",
    ),
    "chunks that are none": (after_all(CREATED + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), ""),
    "gzip that is none": (
        after_all(response_bytes(b"{}", status="201 Created", headers="Content-Encoding: gzip\r\n")),
        "",
    ),
    "gzip that is cut off": (
        after_all(
            response_bytes(
                gzip.compress(json.dumps(PLACED).encode())[:20],
                status="201 Created",
                headers="Content-Encoding: gzip\r\n",
            )
        ),
        "",
    ),
}


@pytest.mark.parametrize(("talk", "says"), TALKS.values(), ids=TALKS)
def test_broken_responses_are_never_followed_by_a_post(
    raw_server: Callable[..., RawServer], naps: list[float], talk: Any, says: str
) -> None:
    server = raw_server(talk)
    error = failure(VapiCallInDoubtError, lambda: make_client(server.url).create_call(REQUEST))
    assert IN_DOUBT in str(error)
    assert says in str(error)
    assert len(server.connections) == 1
    assert naps == []


def test_refusing_address_does_not_hide_a_lost_response(
    simulator: VapiSimulator, addresses: Addresses
) -> None:
    addresses["localhost"] = ["127.0.9.9", "127.0.0.1"]
    simulator.faults.add(Fault(reset="before", effect=True, times=None))
    client = make_client(simulator.url.replace("127.0.0.1", "localhost"), password=simulator.api_key)
    failure(VapiCallInDoubtError, lambda: client.create_call(REQUEST), secret=simulator.api_key)
    assert sent(simulator) == 1


@pytest.mark.usefixtures("late_responses_time_out")
@pytest.mark.parametrize("handled", [ConnectionRefusedError, socket.gaierror])
@pytest.mark.parametrize(
    "fault",
    [Fault(reset="before", effect=True, times=None), Fault(headers=LATE, times=None)],
    ids=["reset", "slow"],
)
def test_handled_error_does_not_hide_a_lost_response(
    simulator: VapiSimulator, handled: type[OSError], fault: Fault
) -> None:
    simulator.faults.add(fault)

    def place() -> None:
        # Python links new errors to the one that is being handled.
        try:
            raise handled("elsewhere")
        except OSError:
            client_of(simulator, max_retries=1).create_call(REQUEST)

    failure(VapiCallInDoubtError, place, secret=simulator.api_key)
    assert sent(simulator) == 1


def test_doubt_has_the_message_of_vapi_without_the_key(simulator: VapiSimulator) -> None:
    key = simulator.api_key
    simulator.faults.add(Fault(status=500, body=vapi_error(500, f"The carrier hung up on Bearer {key}")))
    error = failure(VapiCallInDoubtError, lambda: client_of(simulator).create_call(REQUEST), secret=key)
    assert "POST /call returned 500: The carrier hung up on Bearer ***." in str(error)
    assert error.detail == "The carrier hung up on Bearer ***"


# Refused: certainly without effect, and not worth a retry.


REFUSALS: dict[str, tuple[int, str, type[VapiError], str]] = {
    "400 with a list": (
        400,
        vapi_error(400, ["property x should not exist", "name must be a string"]),
        VapiPermanentError,
        "property x should not exist; name must be a string",
    ),
    "400 with a message": (400, vapi_error(400, "Not like this"), VapiPermanentError, "Not like this"),
    "400 without the status": (
        400,
        '{"message": "Not like this", "error": "Bad Request"}',
        VapiPermanentError,
        "Not like this",
    ),
    "400 of a gateway": (400, '{"message": "bad request"}', VapiPermanentError, "bad request"),
    "400 with an error only": (400, '{"error": "Bad things"}', VapiPermanentError, "Bad things"),
    "400 in another shape": (400, '{"oops": true}', VapiPermanentError, "will not help"),
    "400 with an empty object": (400, "{}", VapiPermanentError, "will not help"),
    "400 that names another status": (400, vapi_error(502, "no"), VapiPermanentError, "no"),
    "401": (401, vapi_error(401, "Invalid Key"), VapiAuthenticationError, "Replace the API key"),
    "402": (402, vapi_error(402, "Out of credits"), VapiPermanentError, "Out of credits"),
    "403": (403, vapi_error(403, "Forbidden"), VapiAuthenticationError, "lacks the permission"),
    "404": (404, vapi_error(404, "No such assistant"), VapiPermanentError, "No such assistant"),
    "409": (409, vapi_error(409, "Conflict"), VapiPermanentError, "Conflict"),
    "413": (413, vapi_error(413, "Too large"), VapiPermanentError, "Too large"),
    "422": (422, vapi_error(422, "Unprocessable"), VapiPermanentError, "Unprocessable"),
}


@pytest.mark.parametrize(("status", "body", "kind", "says"), REFUSALS.values(), ids=REFUSALS)
def test_refusals_leave_no_doubt(
    simulator: VapiSimulator,
    naps: list[float],
    status: int,
    body: str,
    kind: type[VapiError],
    says: str,
) -> None:
    simulator.faults.add(Fault(status=status, body=body, headers={"Retry-After": "1"}))
    error = failure(kind, lambda: client_of(simulator).create_call(REQUEST), secret=simulator.api_key)
    assert str(error).startswith(f"POST /call returned {status}")
    assert says in str(error)
    assert IN_DOUBT not in str(error)
    assert error.had_no_effect
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
def test_refusals_of_the_simulator_leave_no_doubt(
    simulator: VapiSimulator, change: dict[str, Any], password: str | None, kind: type[VapiError]
) -> None:
    client = make_client(simulator.url, password=password or simulator.api_key)
    failure(kind, lambda: client.create_call({**REQUEST, **change}), secret=simulator.api_key)
    assert (sent(simulator), simulator.calls) == (1, {})


def test_invalid_certificate_leaves_no_doubt(
    api: requests_mock.Mocker,
) -> None:
    refused = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"
    api.post(URL, exc=requests.exceptions.SSLError(ssl.SSLCertVerificationError(refused)))
    error = failure(VapiTransientError, lambda: make_client().create_call(REQUEST))
    assert "certificates" in str(error)
    assert IN_DOUBT not in str(error)
    assert api.call_count == 1


def test_missing_certificate_file_leaves_no_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/certificates.pem")
    error = failure(VapiTransientError, lambda: make_client("https://127.0.0.1:9").create_call(REQUEST))
    assert "REQUESTS_CA_BUNDLE" in str(error)
    assert IN_DOUBT not in str(error)


# Too many calls at once.


@pytest.mark.parametrize("vapi_options", [{"concurrency_limit": 2}], ids=["2"])
def test_call_over_the_limit_is_refused_with_the_limit(simulator: VapiSimulator, naps: list[float]) -> None:
    for _ in range(2):
        simulator.add_call(status="in-progress")
    error = failure(
        VapiConcurrencyLimitError, lambda: client_of(simulator).create_call(REQUEST), secret=simulator.api_key
    )
    assert (sent(simulator), len(simulator.calls), naps) == (1, 2, [])
    # Airflow's own retries apply.
    assert isinstance(error, VapiTransientError)
    assert error.status_code == 400
    for part in ("the phone did not ring", "the limit is 2", "0 left", "A later try"):
        assert part in str(error)
    assert IN_DOUBT not in str(error)


SILENT = "Vapi does not report the limit"


@pytest.mark.parametrize(
    "body", ['{"error": "Over Concurrency Limit"}', '{"message": "Over Concurrency Limit!"}']
)
def test_limit_is_recognised_in_any_json(simulator: VapiSimulator, naps: list[float], body: str) -> None:
    simulator.faults.add(Fault(status=400, body=body))
    error = failure(
        VapiConcurrencyLimitError, lambda: client_of(simulator).create_call(REQUEST), secret=simulator.api_key
    )
    assert SILENT in str(error)
    assert (error.had_no_effect, error.is_repeatable) == (True, False)
    assert (sent(simulator), simulator.calls, naps) == (1, {}, [])


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
            "the limit is 25",
            id="limit-only",
        ),
        pytest.param(
            "Over Concurrency Limit",
            {"subscriptionLimits": {"remainingConcurrentCalls": 0.0}},
            "0 left",
            id="rest-only",
        ),
    ],
)
def test_refusal_for_the_limit_has_vapis_message(
    api: requests_mock.Mocker, message: Any, limits: dict[str, Any], says: str
) -> None:
    api.post(URL, status_code=400, text=vapi_error(400, message, **limits))
    error = failure(VapiConcurrencyLimitError, lambda: make_client().create_call(REQUEST))
    assert says in str(error)
    assert api.call_count == 1
