# SPDX-License-Identifier: Apache-2.0
"""A request ends in time, whatever the server does, and its error names the reason."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from http_helpers import (
    CALL,
    CALL_ID,
    CONN_ID,
    KEY,
    PATH,
    FakeTime,
    RawServer,
    client_of,
    failure,
    make_client,
    respond_with,
    response_bytes,
)
from urllib3.util.connection import create_connection

from vapi_provider.exceptions import VapiTransientError
from vapi_provider.simulator import Fault, VapiSimulator

if TYPE_CHECKING:
    from http_fixtures import Addresses

LIMIT = 0.3
"""The time limit of requests that must fail, in real seconds; requests that must succeed have 20."""

Talk = Callable[[socket.socket, RawServer], None]
GOOD = response_bytes(json.dumps(CALL).encode())


def late(run: Callable[[], Any], *, limit: float = LIMIT, secret: str = KEY) -> Any:
    """Check that a request ends at its time limit, with an error that names the limit."""
    error = failure(VapiTransientError, run, secret=secret)
    assert f"within {limit:g} s" in str(error)
    return error


@pytest.fixture
def limit_clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """The clock of time limits, moved only by the test."""
    limit_clock = FakeTime()
    monkeypatch.setattr(
        "vapi_provider.client.deadline.time", SimpleNamespace(monotonic=lambda: limit_clock.now)
    )
    return limit_clock


def drip_everything(connection: socket.socket, server: RawServer) -> None:
    server.read_head(connection)
    server.drip(connection, GOOD)


def drip_the_body(connection: socket.socket, server: RawServer) -> None:
    server.read_head(connection)
    head, _, body = GOOD.partition(b"\r\n\r\n")
    connection.sendall(head + b"\r\n\r\n")
    server.drip(connection, body)


def drip_headers_without_end(connection: socket.socket, server: RawServer) -> None:
    server.read_head(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not server.rest(0.05):
        connection.sendall(b"X: y\r\n")


def drip_interim_responses(connection: socket.socket, server: RawServer) -> None:
    server.read_head(connection)
    while not server.rest(0.05):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def drip_chunks(connection: socket.socket, server: RawServer) -> None:
    server.read_head(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not server.rest(0.05):
        connection.sendall(b"1\r\n \r\n")


def never_respond(connection: socket.socket, server: RawServer) -> None:
    server.read_head(connection)
    server.rest()


def never_read(connection: socket.socket, server: RawServer) -> None:
    server.rest()


def never_end_the_body(connection: socket.socket, server: RawServer) -> None:
    server.read_head(connection)
    connection.sendall(GOOD[:-1])
    server.rest()


SLOW: list[Talk] = [
    drip_everything,
    drip_the_body,
    drip_headers_without_end,
    drip_interim_responses,
    drip_chunks,
    never_respond,
    never_read,
    never_end_the_body,
]


def begin_when(is_reached: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start time limits once the server is reached, so that a busy machine does not use them up."""
    started_at: list[float] = []

    def monotonic() -> float:
        if is_reached.is_set() and not started_at:
            started_at.append(time.monotonic())
        return time.monotonic() - started_at[0] if started_at else 0.0

    monkeypatch.setattr("vapi_provider.client.deadline.time", SimpleNamespace(monotonic=monotonic))


@pytest.mark.parametrize("talk", SLOW, ids=lambda talk: talk.__name__)
def test_slow_responses_end_at_the_limit(
    raw_server: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch, talk: Talk
) -> None:
    server = raw_server(talk)
    begin_when(server.is_reached, monkeypatch)
    error = late(lambda: make_client(server.url, timeout=LIMIT, max_retries=0).get_call(CALL_ID))
    assert str(error).startswith(f"GET {PATH} to {server.url} failed: no complete response within")
    assert CONN_ID in str(error)
    assert "later try" in str(error)


@pytest.mark.parametrize("drip_headers", [False, True])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_dripping_responses_end_at_the_limit(
    simulator: VapiSimulator, method: str, drip_headers: bool
) -> None:
    call_id = simulator.add_call()
    simulator.faults.add(Fault(drip=0.05, drip_headers=drip_headers))
    client = client_of(simulator, timeout=LIMIT, max_retries=0)
    late(
        lambda: client.get_call(call_id) if method == "GET" else client.update_call(call_id, name="x"),
        secret=simulator.api_key,
    )


def test_limit_holds_for_each_request_of_a_connection(
    raw_server: Callable[..., RawServer], limit_clock: FakeTime
) -> None:
    def talk(connection: socket.socket, server: RawServer) -> None:
        for _ in range(2):
            server.read_head(connection)
            limit_clock.now += 15
            connection.sendall(GOOD.replace(b"Connection: close\r\n", b""))
        drip_after_the_limit(connection, server, limit_clock)

    server = raw_server(talk)
    client = make_client(server.url, timeout=20, max_retries=0)
    # A limit that started with the first request would end in the second.
    assert [client.get_call(CALL_ID).id, client.get_call(CALL_ID).id] == [CALL_ID, CALL_ID]
    late(lambda: client.get_call(CALL_ID), limit=20)
    assert (len(server.heads), len(server.connections)) == (3, 1)


def drip_after_the_limit(connection: socket.socket, server: RawServer, limit_clock: FakeTime) -> None:
    """Let the time limit of 20 s pass, then send interim responses as long as the client reads."""
    server.read_head(connection)
    limit_clock.now += 21
    while not server.rest(0.001):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def test_each_try_has_the_whole_limit(raw_server: Callable[..., RawServer], limit_clock: FakeTime) -> None:
    def talk(connection: socket.socket, server: RawServer) -> None:
        if not server.heads:
            drip_after_the_limit(connection, server, limit_clock)
        server.read_head(connection)
        limit_clock.now += 19
        connection.sendall(GOOD)

    server = raw_server(talk)
    assert make_client(server.url, timeout=20, max_retries=1).get_call(CALL_ID).id == CALL_ID
    assert len(server.heads) == 2


@pytest.mark.deep
def test_dripping_response_ends_at_the_limit_in_real_time(raw_server: Callable[..., RawServer]) -> None:
    server = raw_server(drip_everything)
    began = time.monotonic()
    late(lambda: make_client(server.url, timeout=1, max_retries=0).get_call(CALL_ID), limit=1)
    assert 1 <= time.monotonic() - began < 3


def test_slow_response_in_time_is_read(raw_server: Callable[..., RawServer]) -> None:
    def talk(connection: socket.socket, server: RawServer) -> None:
        server.read_head(connection)
        server.drip(connection, GOOD, pause=0.001)

    server = raw_server(talk)
    assert make_client(server.url, timeout=20).get_call(CALL_ID).name == "Reminder"


def test_limit_holds_for_the_sessions_own_requests(
    raw_server: Callable[..., RawServer],
) -> None:
    server = raw_server(drip_everything)
    session = make_client(server.url, timeout=LIMIT).session
    with pytest.raises(Exception, match="time limit|timed out"):
        session.get(f"{server.url}/call")


# Connecting.


@pytest.fixture
def waited(limit_clock: FakeTime, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let connections to 127.0.9.* time out, and record their time-outs."""
    waited: list[float] = []
    connect = create_connection

    def connect_here(target: tuple[str, int], timeout: float, *args: Any, **named: Any) -> Any:
        if not target[0].startswith("127.0.9."):
            return connect(target, timeout, *args, **named)
        waited.append(timeout)
        limit_clock.now += timeout
        raise TimeoutError

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect_here)
    return waited


def test_many_dead_addresses_end_at_the_limit(addresses: Addresses, waited: list[float]) -> None:
    addresses["vapi.invalid"] = [f"127.0.9.{number}" for number in range(1, 9)]
    error = late(
        lambda: make_client("https://vapi.invalid", timeout=20, max_retries=0).get_call(CALL_ID), limit=20
    )
    assert "no connection within" in str(error)
    assert waited == [pytest.approx(20 / 8)] * 8


def test_dead_address_does_not_hide_a_live_one(
    addresses: Addresses,
    waited: list[float],
    raw_server: Callable[..., RawServer],
    tls_context: Callable[..., ssl.SSLContext],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    server = raw_server(respond_with(GOOD), tls=tls_context())
    host, _, port = server.address.rpartition(":")
    addresses["vapi.invalid"] = ["127.0.9.1", host]
    client = make_client(f"https://vapi.invalid:{port}", timeout=20, max_retries=0)
    assert client.get_call(CALL_ID).id == CALL_ID
    assert waited == [10]


def test_refusing_address_does_not_hide_a_live_one(
    addresses: Addresses, raw_server: Callable[..., RawServer]
) -> None:
    server = raw_server(respond_with(GOOD))
    addresses["localhost"] = ["127.0.9.9", "127.0.0.1"]
    client = make_client(server.url.replace("127.0.0.1", "localhost"), max_retries=0)
    assert client.get_call(CALL_ID).id == CALL_ID
    assert "Host: localhost:" in server.heads[0]


def test_unresolvable_name_is_reported(addresses: Addresses, naps: list[float]) -> None:
    addresses["vapi.invalid"] = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    client = make_client("https://vapi.invalid", max_retries=2)
    error = failure(VapiTransientError, lambda: client.get_call(CALL_ID))
    assert "to https://vapi.invalid failed: the host name could not be resolved" in str(error)
    assert f"the host of connection {CONN_ID!r}" in str(error)
    assert len(naps) == 2


def test_name_without_addresses_is_an_error(addresses: Addresses) -> None:
    addresses["vapi.invalid"] = []
    client = make_client("https://vapi.invalid", max_retries=0)
    assert "https://vapi.invalid" in str(failure(VapiTransientError, lambda: client.get_call(CALL_ID)))


def test_refused_connection_is_reported() -> None:
    with VapiSimulator() as simulator:
        url = simulator.url
    error = failure(VapiTransientError, lambda: make_client(url).get_call(CALL_ID))
    assert f"to {url} failed: the connection was refused" in str(error)
    assert (error.status_code, error.method, error.path) == (None, "GET", PATH)


def test_closed_connection_is_reported(
    raw_server: Callable[..., RawServer],
) -> None:
    server = raw_server(respond_with(b""))
    error = failure(VapiTransientError, lambda: make_client(server.url, max_retries=1).get_call(CALL_ID))
    assert "the connection was closed before the response" in str(error)
    assert len(server.heads) == 2


# TLS.


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a self-signed certificate, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "vapi.invalid")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = x509.SubjectAlternativeName(
        [x509.DNSName("vapi.invalid"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def tls_context(certificate: Path) -> Callable[..., ssl.SSLContext]:
    def make() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        return context

    return make


def test_untrusted_certificate_never_gets_the_key(
    raw_server: Callable[..., RawServer], tls_context: Callable[..., ssl.SSLContext], naps: list[float]
) -> None:
    server = raw_server(respond_with(GOOD), tls=tls_context())
    error = failure(VapiTransientError, lambda: make_client(server.url).get_call(CALL_ID))
    assert "the TLS connection failed" in str(error)
    assert "certificates" in str(error)
    assert CONN_ID in str(error)
    assert server.heads == []
    assert naps == []


def test_trusted_certificate_is_accepted(
    raw_server: Callable[..., RawServer],
    tls_context: Callable[..., ssl.SSLContext],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    server = raw_server(respond_with(GOOD), tls=tls_context())
    assert make_client(server.url).get_call(CALL_ID).id == CALL_ID
    assert f"Authorization: Bearer {KEY}\r\n" in server.heads[0]


@pytest.mark.parametrize("talk", SLOW, ids=lambda talk: talk.__name__)
def test_limit_holds_within_tls(
    raw_server: Callable[..., RawServer],
    tls_context: Callable[..., ssl.SSLContext],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    talk: Talk,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    server = raw_server(talk, tls=tls_context())
    late(lambda: make_client(server.url, timeout=LIMIT, max_retries=0).get_call(CALL_ID))


def never_shake_hands(connection: socket.socket, server: RawServer) -> None:
    server.rest()


def drip_the_handshake(connection: socket.socket, server: RawServer) -> None:
    # The header of a handshake record of 16 KiB, and then its content byte by byte.
    connection.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")
    server.drip(connection, bytes(16384))


@pytest.mark.parametrize("talk", [never_shake_hands, drip_the_handshake], ids=lambda talk: talk.__name__)
def test_endless_handshake_ends_at_the_limit(raw_server: Callable[..., RawServer], talk: Talk) -> None:
    server = raw_server(talk)
    url = server.url.replace("http:", "https:")
    late(lambda: make_client(url, timeout=LIMIT, max_retries=0).get_call(CALL_ID))


def reset_the_handshake(connection: socket.socket, server: RawServer) -> None:
    # Unread bytes turn the close into a reset.
    connection.recv(1)


def close_in_the_handshake(connection: socket.socket, server: RawServer) -> None:
    hello = connection.recv(5, socket.MSG_WAITALL)
    connection.recv(int.from_bytes(hello[3:], "big"), socket.MSG_WAITALL)


@pytest.mark.parametrize(
    "talk", [reset_the_handshake, close_in_the_handshake], ids=lambda talk: talk.__name__
)
def test_broken_handshake_is_retried(
    raw_server: Callable[..., RawServer], naps: list[float], talk: Talk
) -> None:
    server = raw_server(talk)
    client = make_client(server.url.replace("http:", "https:"), max_retries=2)
    failure(VapiTransientError, lambda: client.get_call(CALL_ID))
    assert len(naps) == 2


def test_plain_http_behind_https_is_an_error(simulator: VapiSimulator) -> None:
    client = make_client(simulator.url.replace("http:", "https:"), max_retries=0)
    assert "TLS" in str(failure(VapiTransientError, lambda: client.get_call(CALL_ID)))


def test_missing_certificate_file_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.devnull + ".pem")
    client = make_client("https://127.0.0.1:9", max_retries=0)
    error = failure(VapiTransientError, lambda: client.get_call(CALL_ID))
    assert "the certificate file that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names does not exist" in str(error)


# Proxies.


PROXY_SECRET = "hush-hush"


def proxy_to(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.url.replace("://", f"://user:{PROXY_SECRET}@"))


def test_refusing_proxy_is_reported_without_its_password(
    raw_server: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = raw_server(respond_with(response_bytes(b"no", status="407 Proxy Authentication Required")))
    proxy_to(proxy, monkeypatch)
    error = failure(
        VapiTransientError, lambda: make_client(max_retries=1).get_call(CALL_ID), secret=PROXY_SECRET
    )
    assert "the proxy did not let the request through" in str(error)
    assert "prox" in str(error)
    assert len(proxy.heads) == 2
    assert [head for head in proxy.heads if not head.startswith("CONNECT api.vapi.ai:443 ")] == []
    assert KEY not in "".join(proxy.heads) + caplog.text


def test_dripping_proxy_ends_at_the_limit(
    raw_server: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = raw_server(drip_everything)
    proxy_to(proxy, monkeypatch)
    late(lambda: make_client(timeout=LIMIT, max_retries=0).get_call(CALL_ID), secret=PROXY_SECRET)


@pytest.mark.parametrize(
    "proxy",
    [
        "http://",
        "http://[::1",
        f"http://user:{PROXY_SECRET}@127.0.0.1:port",
        f"ftp://user:{PROXY_SECRET}@127.0.0.1:9",
        f"user:{PROXY_SECRET}@",
        f"http://user:{PROXY_SECRET}@proxy..example.org:9",
        f"http://user:{PROXY_SECRET}@{'p' * 64}.example.org:9",
    ],
)
def test_malformed_proxy_is_an_error(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    client = make_client(max_retries=0)
    error = failure(VapiTransientError, lambda: client.get_call(CALL_ID), secret=PROXY_SECRET)
    assert str(error).startswith(f"GET {PATH} to https://api.vapi.ai failed")
    assert "proxies" in str(error)
