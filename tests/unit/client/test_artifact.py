# SPDX-License-Identifier: Apache-2.0
"""Downloading an artifact: one redirect, no key, complete files only, and no signed URL in any text."""

from __future__ import annotations

import gzip
import io
import json
import logging
import socket
import traceback
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from http_helpers import CALL_ID, KEY, RawServer, client_of, failure, make_client, make_hook, vapi_error

from vapi_provider.client import deadline
from vapi_provider.client.artifact import ARTIFACTS, ArtifactInfo
from vapi_provider.exceptions import (
    VapiArtifactExpiredError,
    VapiArtifactNotFoundError,
    VapiArtifactRefusedError,
    VapiAuthenticationError,
    VapiCallNotFoundError,
    VapiConfigurationError,
    VapiError,
    VapiTransientError,
)
from vapi_provider.simulator import Fault, ManualClock, VapiSimulator
from vapi_provider.simulator.artifacts import KINDS

RECORDING = b"RIFF" + bytes(range(256)) * 1000
CUT = gzip.compress(RECORDING)[:-1]
PATH = f"/call/{CALL_ID}/mono-recording"
FILE_PATH = f"/artifacts/{CALL_ID}/mono-recording"
SIGNATURE = "signature-of-the-tests"
Start = Callable[..., RawServer]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def simulator(clock: ManualClock) -> Iterator[VapiSimulator]:
    with VapiSimulator(clock=clock, api_key=KEY) as running:
        running.add_call(status="ended", body={"id": CALL_ID})
        running.add_artifact(CALL_ID, "mono-recording", RECORDING, content_type="audio/wav")
        yield running


def download(simulator: VapiSimulator, **limits: Any) -> bytes:
    file = io.BytesIO()
    client_of(simulator, **limits).download_artifact(CALL_ID, "mono", file)
    return file.getvalue()


def signed(url: str) -> str:
    return f"{url}/file?X-Amz-Signature={SIGNATURE}"


class Store:
    """A raw API that redirects to a raw store, which sends the given responses in turn."""

    def __init__(self, start: Start, *responses: bytes | Callable[[socket.socket, RawServer], None]) -> None:
        self._responses = list(responses)
        self.files = start(self._serve)
        self.api = start(self._redirect)

    def _redirect(self, connection: socket.socket, server: RawServer) -> None:
        server.read_head(connection)
        location = signed(self.files.url)
        connection.sendall(
            f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )

    def _serve(self, connection: socket.socket, server: RawServer) -> None:
        server.read_head(connection)
        response = self._responses.pop(0) if len(self._responses) > 1 else self._responses[0]
        if callable(response):
            response(connection, server)
        else:
            connection.sendall(response)

    def download(self, file: Any = None, *, max_bytes: int = 1 << 20, **limits: Any) -> ArtifactInfo:
        client = make_client(self.api.url, **{"max_retries": 0, **limits})
        return client.download_artifact(CALL_ID, "mono", file or io.BytesIO(), max_bytes=max_bytes)


def body(content: bytes, headers: str = "", *, length: int | None = None) -> bytes:
    length = len(content) if length is None else length
    return (
        f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{headers}Connection: close\r\n\r\n".encode()
        + content
    )


def transient(run: Callable[[], Any]) -> Any:
    return failure(VapiTransientError, run, secret=SIGNATURE)


def refused(run: Callable[[], Any]) -> Any:
    error = failure(VapiArtifactRefusedError, run, secret=SIGNATURE)
    assert f"GET {PATH}" in str(error)
    return error


# Successful downloads


def test_file_is_downloaded_through_one_redirect(simulator: VapiSimulator) -> None:
    file = io.BytesIO()
    info = make_hook(simulator.url).download_artifact(CALL_ID, "mono", file)
    assert info == ArtifactInfo("audio/wav", len(RECORDING))
    assert file.getvalue() == RECORDING
    assert [(request.path, request.status) for request in simulator.requests] == [
        (PATH, 302),
        (FILE_PATH, 200),
    ]


def test_key_is_sent_to_the_api_only(raw_server: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(raw_server, body(b"x"))
    store.download()
    assert f"Authorization: Bearer {KEY}" in store.api.heads[0]
    [head] = store.files.heads
    assert KEY not in head
    assert "authorization" not in head.lower()
    assert "Accept-Encoding: identity\r\n" in head


@pytest.mark.parametrize("kind", ARTIFACTS)
def test_each_kind_has_a_path(simulator: VapiSimulator, kind: str) -> None:
    simulator.add_artifact(CALL_ID, ARTIFACTS[kind], b"content")
    file = io.BytesIO()
    info = client_of(simulator).download_artifact(CALL_ID, kind, file)
    assert info == ArtifactInfo("binary/octet-stream", 7)
    assert set(ARTIFACTS.values()) == set(KINDS)


def test_simulator_redirects_to_the_requested_host(simulator: VapiSimulator) -> None:
    client = make_client(simulator.url.replace("127.0.0.1", "localhost"))
    assert client.download_artifact(CALL_ID, "mono", io.BytesIO()).size == len(RECORDING)


def test_file_is_written_from_its_position(simulator: VapiSimulator) -> None:
    file = io.BytesIO(b"head and what was behind it" * len(RECORDING))
    file.seek(4)
    assert client_of(simulator).download_artifact(CALL_ID, "mono", file).size == len(RECORDING)
    assert file.getvalue() == b"head" + RECORDING


def test_chunked_and_empty_files_are_complete(raw_server: Start) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert Store(raw_server, chunked).download().size == 5
    assert Store(raw_server, body(b"")).download() == ArtifactInfo(None, 0)


def test_encoded_file_is_decoded_within_the_limit(raw_server: Start) -> None:
    content = gzip.compress(bytes(200_000))
    store = Store(raw_server, body(content, "Content-Encoding: gzip\r\n"))
    file = io.BytesIO()
    assert store.download(file).size == 200_000
    assert file.getvalue() == bytes(200_000)
    refused(lambda: store.download(max_bytes=199_999))


@pytest.mark.parametrize(
    ("coding", "content"),
    [
        pytest.param("deflate", zlib.compress(RECORDING), id="deflate"),
        pytest.param(
            "GZIP", gzip.compress(RECORDING[:999]) + gzip.compress(RECORDING[999:]), id="two-members"
        ),
        pytest.param("identity", RECORDING, id="identity"),
        pytest.param("aws-chunked", RECORDING, id="aws-chunked"),
    ],
)
def test_content_codings_are_understood(raw_server: Start, coding: str, content: bytes) -> None:
    file = io.BytesIO()
    Store(raw_server, body(content, f"Content-Encoding: {coding}\r\n")).download(file)
    assert file.getvalue() == RECORDING


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "compress"])
def test_other_content_codings_are_refused(raw_server: Start, coding: str) -> None:
    store = Store(raw_server, body(b"x", f"Content-Encoding: {coding}\r\n"))
    assert "content coding" in str(refused(store.download))


def test_compressed_file_is_decoded_in_small_pieces(raw_server: Start) -> None:
    pieces: list[int] = []

    class File(io.BytesIO):
        def write(self, content: Any, /) -> int:
            pieces.append(len(content))
            return super().write(content)

    store = Store(raw_server, body(gzip.compress(bytes(1 << 24)), "Content-Encoding: gzip\r\n"))
    refused(lambda: store.download(File(), max_bytes=1 << 20))
    assert max(pieces) <= 1 << 16
    assert sum(pieces) <= 1 << 20


def test_unbuffered_file_is_written_whole(raw_server: Start) -> None:
    class Slow(io.BytesIO):
        def write(self, content: Any, /) -> int:
            return super().write(content[:1000])

    file = Slow()
    assert Store(raw_server, body(RECORDING)).download(file).size == len(RECORDING)
    assert file.getvalue() == RECORDING


# Transient failures


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(path=FILE_PATH, status=500), id="500"),
        pytest.param(Fault(path=FILE_PATH, status=429), id="429"),
        pytest.param(Fault(path=FILE_PATH, reset="before"), id="reset"),
        pytest.param(Fault(path=FILE_PATH, reset="midway"), id="cut"),
        pytest.param(Fault(path=PATH, status=502), id="api-502"),
        pytest.param(Fault(path=PATH, reset="before"), id="api-reset"),
    ],
)
def test_transient_failure_restarts_the_download(simulator: VapiSimulator, fault: Fault) -> None:
    simulator.faults.add(fault)
    assert download(simulator) == RECORDING
    simulator.faults.add(Fault(**{**vars(fault), "times": None}))
    requests = len(simulator.requests)
    transient(lambda: download(simulator, max_retries=2))
    links = [request for request in simulator.requests[requests:] if request.path == PATH]
    assert len(links) == 3


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(body(b"abc", length=4), id="cut"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc", id="no-length"),
        pytest.param(body(b"abc", "Content-Length: 5\r\n"), id="two-lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", id="cut-chunk"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", id="no-last-chunk"
        ),
        pytest.param(body(b"no gzip", "Content-Encoding: gzip\r\n"), id="undecodable"),
        pytest.param(body(CUT, "Content-Encoding: gzip\r\n"), id="cut-gzip"),
        pytest.param(body(CUT[:10], "Content-Encoding: gzip\r\n"), id="gzip-header"),
        pytest.param(body(CUT + b"x", "Content-Encoding: gzip\r\n"), id="bad-gzip-end"),
        pytest.param(body(zlib.compress(RECORDING)[:-1], "Content-Encoding: deflate\r\n"), id="cut-deflate"),
        pytest.param(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\n\r\nabc", id="part"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", id="no-content"),
        pytest.param(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", id="not-found"),
        pytest.param(b"not HTTP at all\r\n\r\n", id="no-http"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_incomplete_file_is_transient(raw_server: Start, response: bytes) -> None:
    transient(Store(raw_server, response).download)


def test_each_try_starts_at_the_same_position(raw_server: Start) -> None:
    store = Store(raw_server, body(b"longer, but cut", length=99), body(b"short"))
    file = io.BytesIO(b"head")
    file.seek(4)
    assert store.download(file, max_retries=1).size == 5
    assert file.getvalue() == b"headshort"


@pytest.mark.parametrize("status", [400, 401, 403, 410])
def test_rejected_link_is_replaced_once(simulator: VapiSimulator, status: int) -> None:
    fault = Fault(path=FILE_PATH, status=status, body="<Error/>", content_type="application/xml")
    simulator.faults.add(fault)
    assert download(simulator, max_retries=0) == RECORDING
    simulator.requests.clear()
    simulator.faults.add(Fault(**{**vars(fault), "times": None}))
    error = failure(VapiTransientError, lambda: download(simulator, max_retries=4), secret=SIGNATURE)
    assert error.status_code == status
    assert [request.path for request in simulator.requests] == [PATH, FILE_PATH] * 2


def test_expired_link_is_replaced(simulator: VapiSimulator, clock: ManualClock) -> None:
    with VapiSimulator(clock=clock, api_key=KEY, link_lifetime=0) as other:
        other.add_call(status="ended", body={"id": CALL_ID})
        other.add_artifact(CALL_ID, "mono-recording", RECORDING)
        assert transient(lambda: download(other)).status_code == 403
        assert [request.status for request in other.requests] == [302, 403] * 2


def test_stalled_body_is_transient(raw_server: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "PACE_SECONDS", 0.2)

    def stall(connection: socket.socket, server: RawServer) -> None:
        connection.sendall(body(b"abc", length=1000))
        server.rest()

    store = Store(raw_server, stall)
    error = transient(store.download)
    host = store.files.url.rpartition(":")[0]
    assert f"to {host} failed: no complete response within 0.2 s." in str(error)
    assert "the host of the redirect" in str(error)


def test_dripping_body_is_transient(raw_server: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "PACE_SECONDS", 0.3)

    def drip(connection: socket.socket, server: RawServer) -> None:
        connection.sendall(body(b"", length=1000))
        server.drip(connection, bytes(1000), 0.01)

    transient(Store(raw_server, drip).download)


def test_body_at_a_steady_pace_may_take_long(raw_server: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "PACE_SECONDS", 1.0)
    monkeypatch.setattr(deadline, "PACE_BYTES", 1000)

    def trickle(connection: socket.socket, server: RawServer) -> None:
        connection.sendall(body(b"", length=8000))
        for _ in range(8):
            server.rest(0.2)
            connection.sendall(bytes(1000))

    # Longer than PACE_SECONDS and the connection's time limit.
    assert Store(raw_server, trickle).download(timeout=1).size == 8000


def test_full_disk_is_not_a_network_error(simulator: VapiSimulator) -> None:
    class Full(io.BytesIO):
        def write(self, content: Any) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        client_of(simulator).download_artifact(CALL_ID, "mono", Full())


# Missing artifacts


def test_missing_file_of_an_ended_call_is_not_found(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="ended", body={"endedAt": "2026-01-01T00:00:00Z"})
    error = failure(
        VapiArtifactNotFoundError,
        lambda: client_of(simulator).download_artifact(call_id, "video", io.BytesIO()),
    )
    assert f"/call/{call_id}/video-recording returned 404" in str(error)
    assert [request.path for request in simulator.requests] == [
        f"/call/{call_id}/video-recording",
        f"/call/{call_id}",
    ]


@pytest.mark.parametrize(
    ("seconds", "kind"),
    [(0, VapiTransientError), (299, VapiTransientError), (300, VapiArtifactNotFoundError)],
)
def test_missing_file_is_transient_for_five_minutes(
    simulator: VapiSimulator, clock: ManualClock, seconds: int, kind: type[VapiError]
) -> None:
    ended_at = (clock.now() - timedelta(seconds=seconds)).replace(microsecond=0).isoformat()
    call_id = simulator.add_call(status="ended", body={"endedAt": ended_at})
    failure(kind, lambda: client_of(simulator).download_artifact(call_id, "mono", io.BytesIO()))
    # It is not retried within the task's try.
    assert len(simulator.requests) == 2


def test_missing_file_of_a_live_call_is_transient(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="in-progress")
    error = transient(lambda: client_of(simulator).download_artifact(call_id, "mono", io.BytesIO()))
    assert "is not over" in str(error)


def test_download_of_a_missing_call_is_an_error(simulator: VapiSimulator) -> None:
    missing = CALL_ID.replace("aa", "cc")
    failure(
        VapiCallNotFoundError, lambda: client_of(simulator).download_artifact(missing, "mono", io.BytesIO())
    )


def test_file_past_its_retention_is_expired(simulator: VapiSimulator) -> None:
    simulator.faults.add(Fault(path=PATH, status=400, body=vapi_error(400, "Recording expired")))
    assert failure(VapiArtifactExpiredError, lambda: download(simulator)).status_code == 400
    assert len(simulator.requests) == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(path=PATH, status=401), VapiAuthenticationError),
        (
            Fault(path=PATH, times=None, status=404, body="<html>", content_type="text/html"),
            VapiTransientError,
        ),
        (Fault(path=PATH, body=RECORDING, content_type="audio/wav"), VapiTransientError),
        (Fault(path=PATH, status=302), VapiArtifactRefusedError),
        (Fault(path=PATH, status=307, headers={"Location": "https://x.example.org"}), VapiTransientError),
    ],
)
def test_api_must_respond_with_302(simulator: VapiSimulator, fault: Fault, kind: type[VapiError]) -> None:
    simulator.faults.add(fault)
    failure(kind, lambda: download(simulator, max_retries=0))
    assert [request.path for request in simulator.requests] == [PATH]


def test_body_in_place_of_a_redirect_is_not_read_whole(raw_server: Start) -> None:
    sent = 0

    def talk(connection: socket.socket, server: RawServer) -> None:
        nonlocal sent
        server.read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
        for _ in range(100):
            connection.sendall(bytes(1 << 20))
            sent += 1

    client = make_client(raw_server(talk).url, max_retries=0)
    error = transient(lambda: client.download_artifact(CALL_ID, "mono", io.BytesIO()))
    assert "more than the limit of 1,048,576 bytes" in str(error)
    assert sent < 50


def test_gateways_400_does_not_mean_expired(simulator: VapiSimulator) -> None:
    simulator.faults.add(Fault(path=PATH, status=400, body='{"message": "Bad"}'))
    with pytest.raises(VapiError) as caught:
        download(simulator)
    assert not isinstance(caught.value, VapiArtifactExpiredError)


# Refusals


def test_second_redirect_is_refused(raw_server: Start) -> None:
    again = f"HTTP/1.1 302 Found\r\nLocation: https://x.example.org/?{SIGNATURE}\r\nContent-Length: 0\r\n\r\n".encode()
    assert "redirected again" in str(refused(Store(raw_server, again).download))


def test_redirect_to_itself_ends(raw_server: Start) -> None:
    heads: list[str] = []

    def talk(connection: socket.socket, server: RawServer) -> None:
        heads.append(server.read_head(connection))
        connection.sendall(
            f"HTTP/1.1 302 Found\r\nLocation: {signed(server.url)}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        connection.close()

    api = raw_server(talk)
    refused(lambda: make_client(api.url).download_artifact(CALL_ID, "mono", io.BytesIO()))
    assert len(heads) == 2
    assert KEY not in heads[1]


@pytest.mark.parametrize(
    "location",
    [
        "",
        "/relative",
        "//storage.example.org/file",
        "http://storage.example.org/file",
        "http://127.0.0.2/file",
        "ftp://storage.example.org/file",
        "file:///etc/passwd",
        "https://user:word@storage.example.org/file",
        "https://storage.example.org\\@127.0.0.1/file",
        "https://storage.example.org/a file",
        "https://storage.example.org:99999/file",
        "https://[::1/file",
        "https://",
        "https://169.254.169.254/latest/meta-data",
        "https://169.254.169.254./latest/meta-data",
        "https://2852039166./latest/meta-data",
        "https://localhost/file",
        "https://LOCALHOST./file",
        "https://store.localhost/file",
        "https://127.0.0.2/file",
        "https://127.1/file",
        "https://0x7f000001/file",
        "https://2130706433/file",
        "https://0.0.0.0/file",
        "https://224.0.0.1/file",
        "https://[::1]/file",
        "https://[::]/file",
        "https://[fe80::1]/file",
        "https://[ff02::1]/file",
        "https://[::ffff:169.254.169.254]/file",
        "https://[::ffff:8.8.8.8]/file",
        "https://[::127.0.0.1]/file",
        "https://[2002:7f00:1::]/file",
        "https://[64:ff9b::a9fe:a9fe]/file",
        "https://10.0.0.1/file",
        "https://192.168.1.1/file",
        "https://100.100.100.200/file",
        "https://192.0.0.192/file",
        "https://[fd00:ec2::254]/file",
        "https://[fec0::1]/file",
        f"https://storage.example.org/{KEY}",
    ],
)
def test_redirect_to_a_forbidden_address_is_refused(
    raw_server: Start, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    def talk(connection: socket.socket, server: RawServer) -> None:
        server.read_head(connection)
        connection.sendall(
            f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        )

    # A proxy resolves names, so only literal addresses can be checked.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    api = raw_server(talk)
    refused(lambda: make_client(api.url).download_artifact(CALL_ID, "mono", io.BytesIO()))
    assert len(api.heads) == 1


@pytest.mark.parametrize(
    ("addresses", "hosts", "kind"),
    [
        (["169.254.169.254"], "", VapiArtifactRefusedError),
        (["127.0.0.1"], "", VapiArtifactRefusedError),
        (["93.184.216.34", "127.0.0.1"], "", VapiArtifactRefusedError),
        (["10.1.2.3"], "", VapiArtifactRefusedError),
        (["10.1.2.3"], "other.example.org", VapiArtifactRefusedError),
        (["fd00::1"], "", VapiArtifactRefusedError),
        (["127.0.0.1"], "storage.example.org", VapiArtifactRefusedError),
        (["169.254.1.1"], "storage.example.org", VapiArtifactRefusedError),
        (["10.1.2.3"], "STORAGE.example.org", VapiTransientError),
        (["93.184.216.34"], "", VapiTransientError),
        (["64:ff9b::808:808"], "", VapiTransientError),
        (None, "", VapiTransientError),
    ],
)
def test_name_is_resolved_once_and_addresses_checked(
    raw_server: Start,
    monkeypatch: pytest.MonkeyPatch,
    addresses: list[str] | None,
    hosts: str,
    kind: type[VapiError],
) -> None:
    location = signed("https://storage.example.org")

    def talk(connection: socket.socket, server: RawServer) -> None:
        server.read_head(connection)
        connection.sendall(
            f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        )

    api = raw_server(talk)
    resolve, resolved, connected = socket.getaddrinfo, [], []

    def getaddrinfo(host: str, *args: Any, **options: Any) -> Any:
        if host != "storage.example.org":
            return resolve(host, *args, **options)
        resolved.append(host)
        if addresses is None:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]

    def connect(address: tuple[str, int], *args: Any, **options: Any) -> Any:
        if address[0] == "127.0.0.1" and str(address[1]) in api.address:
            return create_connection(address, *args, **options)
        connected.append(address[0])
        raise ConnectionRefusedError

    import urllib3.util.connection

    create_connection = urllib3.util.connection.create_connection
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(urllib3.util.connection, "create_connection", connect)
    client = make_client(api.url, max_retries=0, artifact_hosts=frozenset(filter(None, [hosts.lower()])))
    failure(kind, lambda: client.download_artifact(CALL_ID, "mono", io.BytesIO()), secret=SIGNATURE)
    assert resolved == ["storage.example.org"]
    assert connected == ([] if kind is VapiArtifactRefusedError or addresses is None else addresses)


def test_proxy_is_used_and_its_address_not_checked(
    raw_server: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = signed("https://storage.example.org")

    def talk(connection: socket.socket, server: RawServer) -> None:
        server.read_head(connection)
        connection.sendall(
            f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        )

    def forbid(connection: socket.socket, server: RawServer) -> None:
        server.read_head(connection)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    api, proxy = raw_server(talk), raw_server(forbid)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    client = make_client(api.url, max_retries=0)
    transient(lambda: client.download_artifact(CALL_ID, "mono", io.BytesIO()))
    assert proxy.heads[0].startswith("CONNECT storage.example.org:443 ")


@pytest.mark.parametrize(
    "response",
    [
        body(bytes(1001)),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + bytes(1001) + b"\r\n0\r\n\r\n",
    ],
)
def test_file_over_the_limit_is_refused(raw_server: Start, response: bytes) -> None:
    file = io.BytesIO()
    error = refused(lambda: Store(raw_server, response).download(file, max_bytes=1000))
    assert "larger than 1,000 bytes" in str(error)
    assert len(file.getvalue()) <= 1000
    assert Store(raw_server, body(bytes(1000))).download(max_bytes=1000).size == 1000


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"call_id": "../x"}, id="call"),
        pytest.param({"kind": "monologue"}, id="kind"),
        pytest.param({"kind": None}, id="no-kind"),
        pytest.param({"file": io.StringIO()}, id="text"),
        pytest.param({"file": "/tmp/x"}, id="name"),
        pytest.param({"file": Path(__file__).open("rb")}, id="read-only"),
        pytest.param({"max_bytes": 0}, id="zero"),
        pytest.param({"max_bytes": True}, id="bool"),
        pytest.param({"max_bytes": 1.5}, id="float"),
    ],
)
def test_bad_download_argument_is_refused(simulator: VapiSimulator, arguments: dict[str, Any]) -> None:
    given = {"call_id": CALL_ID, "kind": "mono", "file": io.BytesIO(), **arguments}
    call_id, kind, file = given.pop("call_id"), given.pop("kind"), given.pop("file")
    failure(
        VapiConfigurationError, lambda: client_of(simulator).download_artifact(call_id, kind, file, **given)
    )
    assert simulator.requests == []


# Logs and errors


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(body(b"x"), id="success"),
        pytest.param(body(b"abc", length=4), id="cut"),
        pytest.param(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", id="500"),
        pytest.param(b"HTTP/1.1 200 OK\r\nbad header\r\nContent-Length: 1\r\n\r\nx", id="bad-header"),
        pytest.param(b"", id="closed"),
    ],
)
def test_signed_url_is_not_in_logs_or_errors(
    raw_server: Start, caplog: pytest.LogCaptureFixture, response: bytes
) -> None:
    shown = ""
    with caplog.at_level(logging.DEBUG):
        try:
            Store(raw_server, response).download()
        except VapiError as error:
            shown = "".join(traceback.format_exception(error))
    assert "urllib3.connectionpool" in {record.name for record in caplog.records}
    assert SIGNATURE not in caplog.text + shown


def test_other_requests_are_logged_as_before(
    simulator: VapiSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    download(simulator)
    with caplog.at_level(logging.DEBUG, logger="urllib3.connectionpool"):
        client_of(simulator).get_call(CALL_ID)
    assert f"/call/{CALL_ID}" in caplog.text


def test_content_type_is_cleaned(raw_server: Start) -> None:
    store = Store(raw_server, body(b"x", f"Content-Type: audio/wav; {'x' * 200}\r\n"))
    assert len(str(store.download().content_type)) == 100
    # S3 does not store it, so it must not fail the upload.
    assert Store(raw_server, body(b"x", "Content-Type: audio/w\xe4v\r\n")).download().content_type is None


def test_simulated_store_rejects_the_key(simulator: VapiSimulator) -> None:
    session = client_of(simulator).session
    link = session.get(f"{simulator.url}{PATH}", allow_redirects=False).headers["Location"]
    import requests

    assert requests.get(link, timeout=5).content == RECORDING
    assert requests.get(link, headers={"Authorization": f"Bearer {KEY}"}, timeout=5).status_code == 400
    for wrong in ("0", "%C3%A9"):
        assert requests.get(link.replace("Signature=", f"Signature={wrong}"), timeout=5).status_code == 403
    assert json.dumps([request.path for request in simulator.requests]).count("Signature") == 0
