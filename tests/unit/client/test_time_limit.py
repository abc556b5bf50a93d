# SPDX-License-Identifier: Apache-2.0
"""A request ends in time, whatever the other side does, and errors name what failed on the way."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
    RawServer,
    client_of,
    failure,
    make_client,
    respond_with,
    response_bytes,
)

from vapi_provider.exceptions import VapiTransientError
from vapi_provider.simulator import Fault, VapiSimulator

LIMIT = 0.5
# Slack for a busy machine; without the limit each of these would take ten seconds and more.
ENDED = LIMIT + 1.5

Talk = Callable[[socket.socket, RawServer], None]
GOOD = response_bytes(json.dumps(CALL).encode())


def late(run: Callable[[], Any], *, within: float = ENDED, secret: str = KEY) -> Any:
    """Run what must end at its time limit, with an error that names it."""
    began = time.monotonic()
    error = failure(VapiTransientError, run, secret=secret)
    elapsed = time.monotonic() - began
    assert LIMIT * 0.9 <= elapsed < within
    assert f"within {LIMIT:g} s" in str(error)
    return error


def drip_everything(connection: socket.socket, server: RawServer) -> None:
    server.read_head(connection)
    server.drip(connection, GOOD)


def drip_the_body(connection: socket.socket, server: RawServer) -> None:
    server.read_head(connection)
    head, _, body = GOOD.partition(b"\r\n\r\n")
    connection.sendall(head + b"\r\n\r\n")
    server.drip(connection, body, pause=0.2)


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


@pytest.mark.parametrize("talk", SLOW, ids=lambda talk: talk.__name__)
def test_slow_responses_end_at_the_limit(raw_server: Callable[..., RawServer], talk: Talk) -> None:
    server = raw_server(talk)
    error = late(lambda: make_client(server.url, timeout=LIMIT, max_retries=0).get_call(CALL_ID))
    assert str(error).startswith(f"GET {PATH} got no response from {server.url}: no complete response within")
    assert CONN_ID in str(error)
    assert "later try" in str(error)


@pytest.mark.parametrize("drip_headers", [False, True])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_dripping_responses_end_at_the_limit(
    simulator: VapiSimulator, method: str, drip_headers: bool
) -> None:
    call_id = simulator.add_call()
    simulator.faults.add(Fault(drip=0.1, drip_headers=drip_headers))
    client = client_of(simulator, timeout=LIMIT, max_retries=0)
    late(
        lambda: client.get_call(call_id) if method == "GET" else client.update_call(call_id, name="x"),
        secret=simulator.api_key,
    )


def test_limit_holds_for_each_request_of_a_connection(
    raw_server: Callable[..., RawServer],
) -> None:
    def talk(connection: socket.socket, server: RawServer) -> None:
        server.read_head(connection)
        connection.sendall(GOOD.replace(b"Connection: close\r\n", b""))
        server.read_head(connection)
        server.drip(connection, GOOD)

    server = raw_server(talk)
    client = make_client(server.url, timeout=LIMIT, max_retries=0)
    assert client.get_call(CALL_ID).id == CALL_ID
    # A limit that began with the first request would be over before the second.
    time.sleep(LIMIT)
    late(lambda: client.get_call(CALL_ID))
    assert len(server.heads) == 2


def test_each_try_has_the_whole_limit(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call()
    simulator.faults.add(Fault(delay=60))
    simulator.faults.add(Fault(delay=LIMIT * 0.6))
    client = client_of(simulator, timeout=LIMIT)
    assert client.get_call(call_id).id == call_id
    assert len(simulator.requests) == 2


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
    began = time.monotonic()
    with pytest.raises(Exception, match="time limit|timed out"):
        session.get(f"{server.url}/call")
    assert LIMIT * 0.9 <= time.monotonic() - began < ENDED


# Connecting.


@pytest.fixture
def full_addresses(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, str | None], int]]:
    """Give the name vapi.invalid addresses whose queue of connections is full, and perhaps one that accepts."""
    real = socket.getaddrinfo
    with contextlib.ExitStack() as sockets:

        def make(count: int, alive: str | None = None) -> int:
            port = int(alive.rpartition(":")[2]) if alive else 0
            addresses = [f"127.0.9.{number}" for number in range(1, count + 1)]
            for address in addresses:
                listener = sockets.enter_context(socket.socket())
                listener.bind((address, port))
                port = listener.getsockname()[1]
                listener.listen(0)
                for _ in range(3):
                    waiting = sockets.enter_context(socket.socket())
                    waiting.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        waiting.connect((address, port))
            if alive:
                addresses.append(alive.rpartition(":")[0])

            def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
                if host not in ("vapi.invalid", b"vapi.invalid"):
                    return real(host, *args, **kwargs)
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

            monkeypatch.setattr(socket, "getaddrinfo", resolve)
            return port

        yield make


def test_many_dead_addresses_end_at_the_limit(
    full_addresses: Callable[..., int],
) -> None:
    port = full_addresses(8)
    error = late(
        lambda: make_client(f"https://vapi.invalid:{port}", timeout=LIMIT, max_retries=0).get_call(CALL_ID)
    )
    assert "no connection within" in str(error)


def test_dead_address_does_not_hide_a_live_one(
    full_addresses: Callable[..., int],
    raw_server: Callable[..., RawServer],
    tls_context: Callable[..., ssl.SSLContext],
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    server = raw_server(respond_with(GOOD), tls=tls_context())
    port = full_addresses(1, server.address)
    assert (
        make_client(f"https://vapi.invalid:{port}", timeout=2, max_retries=0).get_call(CALL_ID).id == CALL_ID
    )


def test_refusing_address_does_not_hide_a_live_one(
    monkeypatch: pytest.MonkeyPatch, raw_server: Callable[..., RawServer]
) -> None:
    server = raw_server(respond_with(GOOD))
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "localhost":
            return real(host, port, *args, **kwargs)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.9.9", "127.0.0.1")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    client = make_client(server.url.replace("127.0.0.1", "localhost"), max_retries=0)
    assert client.get_call(CALL_ID).id == CALL_ID
    assert "Host: localhost:" in server.heads[0]


def test_unresolvable_name_is_named_as_the_reason(monkeypatch: pytest.MonkeyPatch, naps: list[float]) -> None:
    def resolve(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    client = make_client("https://vapi.invalid", max_retries=2)
    error = failure(VapiTransientError, lambda: client.get_call(CALL_ID))
    assert "got no response from https://vapi.invalid: the host name could not be resolved" in str(error)
    assert f"the host of connection {CONN_ID!r}" in str(error)
    assert len(naps) == 2


def test_name_without_addresses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [])
    client = make_client("https://vapi.invalid", max_retries=0)
    assert "https://vapi.invalid" in str(failure(VapiTransientError, lambda: client.get_call(CALL_ID)))


def test_refused_connection_is_named_as_the_reason() -> None:
    with VapiSimulator() as simulator:
        url = simulator.url
    error = failure(VapiTransientError, lambda: make_client(url).get_call(CALL_ID))
    assert f"got no response from {url}: the connection was refused" in str(error)
    assert (error.status_code, error.method, error.path) == (None, "GET", PATH)


def test_closed_connection_is_named_as_the_reason(
    raw_server: Callable[..., RawServer],
) -> None:
    server = raw_server(respond_with(b""))
    error = failure(VapiTransientError, lambda: make_client(server.url, max_retries=1).get_call(CALL_ID))
    assert "the connection was closed before the response" in str(error)
    assert len(server.heads) == 2


# TLS.


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a self-signed certificate, with its key in the same file."""
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
    assert "the TLS connection could not be made or trusted" in str(error)
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
    # What was sent and not read turns the end into a reset.
    connection.recv(1)


def close_in_the_handshake(connection: socket.socket, server: RawServer) -> None:
    hello = connection.recv(5, socket.MSG_WAITALL)
    connection.recv(int.from_bytes(hello[3:], "big"), socket.MSG_WAITALL)


@pytest.mark.parametrize(
    "talk", [reset_the_handshake, close_in_the_handshake], ids=lambda talk: talk.__name__
)
def test_broken_handshake_is_tried_again(
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


def test_refusing_proxy_is_named_without_its_password(
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
    assert all(head.startswith("CONNECT api.vapi.ai:443 ") for head in proxy.heads)
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
    assert str(error).startswith(f"GET {PATH} got no response from https://api.vapi.ai")
    assert "proxies" in str(error)
