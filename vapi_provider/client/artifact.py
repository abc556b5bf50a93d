# SPDX-License-Identifier: Apache-2.0
"""Downloads the artifacts of a call: recordings, video, packet capture and log."""

from __future__ import annotations

import dataclasses
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

from vapi_provider.client import deadline
from vapi_provider.client.addresses import AddressRules
from vapi_provider.client.arguments import check_choice
from vapi_provider.client.decoding import COMPRESSED, PLAIN, decompressed
from vapi_provider.client.failures import no_response
from vapi_provider.client.responses import ApiRequest, is_repeatable_status
from vapi_provider.client.session import open_session
from vapi_provider.client.signed_urls import hide_signed_urls
from vapi_provider.exceptions import (
    VapiArtifactExpiredError,
    VapiArtifactNotFoundError,
    VapiArtifactRefusedError,
    VapiConfigurationError,
    VapiError,
    VapiTransientError,
)
from vapi_provider.models.cleaning import clean_line

if TYPE_CHECKING:
    import requests

    from vapi_provider.client.transport import VapiTransport
    from vapi_provider.connection import VapiSettings
    from vapi_provider.models.call import Call

T = TypeVar("T")

ARTIFACTS = {
    "mono": "mono-recording",
    "stereo": "stereo-recording",
    "customer": "customer-recording",
    "assistant": "assistant-recording",
    "video": "video-recording",
    "pcap": "pcap",
    "call-logs": "call-logs",
}
"""The kinds of artifacts, and the last part of their paths."""

MAX_BYTES = 1 << 30
"""The default size limit of a file, in bytes."""

ARRIVAL_SECONDS = 300.0
"""How long after the end of a call an artifact may still appear, in seconds."""

_CHUNK_BYTES = 65_536
# The response with the link should have no body; a gateway may send the file in place of it.
_MAX_LINK_BYTES = 1 << 20
_MAX_CONTENT_TYPE = 100
# What a store returns for an expired link, or one that is not valid yet.
_LINK_STATUSES = frozenset({400, 401, 403, 410})


class ArtifactInfo(NamedTuple):
    """
    A downloaded artifact.

    :param content_type: the content type that the host sent; None if it sent none
    :param size: the number of bytes written
    """

    content_type: str | None
    size: int


@dataclass(frozen=True)
class _Link:
    """A signed URL, and the part of it that is safe to show."""

    url: str = field(repr=False)
    origin: str


class _LinkRefusedError(VapiTransientError):
    """The host of the file rejected the link; a new link may work."""


class ArtifactDownload:
    """
    Downloads one artifact of a call into a file.

    :param transport: sends the request for the link
    :param settings: the connection
    :param path: the path of the artifact, checked
    :param file: the file to write, from its current position on
    :param max_bytes: the size limit in bytes
    """

    def __init__(
        self, transport: VapiTransport, settings: VapiSettings, path: str, file: IO[bytes], max_bytes: int
    ) -> None:
        self._transport = transport
        self._settings = settings
        self._path = path
        self._file = file
        self._begin = file.tell()
        self._max_bytes = max_bytes
        self._rules = AddressRules.of(settings, path)

    def run(self) -> ArtifactInfo:
        """Download the file, with a second link if the first is rejected."""
        with self._open_session() as session:
            try:
                return self._fetch(session, self._link())
            except _LinkRefusedError:
                pass
            return self._fetch(session, self._link())

    def _open_session(self) -> requests.Session:
        session = open_session(self._settings, with_key=False)
        session.headers.update({"Accept": "*/*", "Accept-Encoding": "identity"})
        for scheme in ("https://", "http://"):
            session.mount(scheme, deadline.DownloadAdapter(self._rules.check_address))
        return session

    def _link(self) -> _Link:
        """Request a signed URL, with the key."""
        response = self._transport.exchange(ApiRequest("GET", self._path, max_response_bytes=_MAX_LINK_BYTES))
        if response.status == 302:
            url = response.headers.get("location", "")
            if response.mask.in_text(url) != url:
                raise self._refused("Vapi redirected to a URL that contains the API key.")
            return _Link(url, self._rules.check_url(url))
        if response.is_success:
            raise response.unreadable("a body instead of a redirect")
        if response.status == 400 and response.is_in_vapis_shape:
            raise VapiArtifactExpiredError(
                f"GET {self._path} returned 400: Vapi no longer keeps this file. Copy recordings soon after the call.",
                status_code=400,
                method="GET",
                path=self._path,
            )
        raise response.error(self._settings)

    def _fetch(self, session: requests.Session, link: _Link) -> ArtifactInfo:
        """Download the file from a signed URL, without the key."""
        get = partial(
            session.get, link.url, timeout=self._settings.timeout, allow_redirects=False, stream=True
        )
        with self._over_network(get, link, self._settings.timeout) as response:
            self._check(response, link)
            self._file.seek(self._begin)
            self._file.truncate()
            size = 0
            for chunk in self._content(response, link):
                size += len(chunk)
                if size > self._max_bytes:
                    raise self._too_large()
                _write(self._file, chunk)
            return ArtifactInfo(_content_type(response), size)

    def _content(self, response: requests.Response, link: _Link) -> Iterator[bytes]:
        """Yield the decoded body; urllib3's decoder accepts a stream that is cut off."""
        response.raw.headers.pop("content-encoding", None)
        chunks = self._chunks(response, link)
        if _coding(response) in PLAIN:
            yield from chunks
            return
        try:
            yield from decompressed(chunks)
        except (EOFError, zlib.error):
            pass
        else:
            return
        raise self._transient(f"{link.origin} sent a compressed body that is incomplete or invalid", None)

    def _chunks(self, response: requests.Response, link: _Link) -> Iterator[bytes]:
        """Yield the body, so that errors of the network and of the written file stay apart."""
        chunks = response.iter_content(_CHUNK_BYTES)
        while chunk := self._over_network(partial(next, chunks, b""), link, deadline.PACE_SECONDS):
            yield chunk

    def _check(self, response: requests.Response, link: _Link) -> None:
        status, raw = response.status_code, response.raw
        if 300 <= status < 400:
            raise self._refused(f"{link.origin} redirected again; only one redirect is followed.")
        if status in _LINK_STATUSES:
            raise self._transient(f"{link.origin} returned {status} to a new link", status, _LinkRefusedError)
        if status != 200:
            raise self._transient(f"{link.origin} returned {status}", status)
        if raw.length_remaining is None and not raw.chunked:
            raise self._transient(f"{link.origin} sent a body of unknown length", None)
        if _coding(response) not in PLAIN | COMPRESSED:
            raise self._refused(f"{link.origin} sent a content coding other than gzip and deflate.")
        if (raw.length_remaining or 0) > self._max_bytes:
            raise self._too_large()

    def _transient(
        self, what: str, status: int | None, kind: type[VapiTransientError] = VapiTransientError
    ) -> VapiTransientError:
        error = kind(
            f"GET {self._path}: {what}. A later try may succeed.",
            status_code=status,
            method="GET",
            path=self._path,
        )
        error.is_repeatable = status is None or is_repeatable_status(status)
        return error

    def _too_large(self) -> VapiArtifactRefusedError:
        return self._refused(
            f"the file is larger than {self._max_bytes:,} bytes. To copy it, raise max_bytes."
        )

    def _refused(self, what: str) -> VapiArtifactRefusedError:
        return VapiArtifactRefusedError(f"GET {self._path}: {what}", method="GET", path=self._path)

    def _over_network(self, work: Callable[[], T], link: _Link, limit: float) -> T:
        surrounding = sys.exc_info()[1]
        failure: VapiError
        try:
            with hide_signed_urls():
                return work()
        except VapiError as error:
            failure = error.with_traceback(None)
        except (OSError, ValueError) as error:
            settings = dataclasses.replace(self._settings, base_url=link.origin, label="the redirect")
            request = ApiRequest("GET", self._path)
            failure = no_response(error, settings, request, limit=limit, surrounding=surrounding)
        # Outside the handler: exceptions of requests contain the signed URL.
        raise failure


def artifact_path(call_id: str, kind: Any) -> str:
    """
    Return the path of an artifact.

    :raises VapiConfigurationError: if the kind is unknown
    """
    return f"/call/{call_id}/{ARTIFACTS[check_choice(kind, tuple(ARTIFACTS), parameter='kind')]}"


def check_file(file: Any) -> None:
    """
    Check the file that a download is written to.

    :raises VapiConfigurationError: if it is not a writable, seekable binary file
    """
    is_file = all(hasattr(file, name) for name in ("write", "truncate", "writable", "seekable"))
    is_binary = is_file and not isinstance(file, io.TextIOBase)
    if not (is_binary and file.writable() and file.seekable()):
        raise VapiConfigurationError(
            f"file must be a writable, seekable binary file; got {type(file).__name__}."
        )


def check_max_bytes(max_bytes: Any) -> int:
    """
    Check the size limit of a download.

    :raises VapiConfigurationError: if it is not a positive whole number
    """
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
        raise VapiConfigurationError(
            f"max_bytes must be a positive whole number; got {str(max_bytes)[:50]!r}."
        )
    return max_bytes


def missing_artifact(call: Call, path: str) -> VapiError:
    """Build the error for an artifact that does not exist, of a call that does."""
    ended_at = call.ended_at or call.updated_at
    is_over = call.is_terminal or bool(call.ended_at and call.ended_reason)
    if not is_over:
        return VapiTransientError(
            f"GET {path} returned 404: call {call.id} is not over, so the file may still appear.",
            status_code=404,
            method="GET",
            path=path,
        )
    if ended_at and call.responded_at:
        elapsed = (call.responded_at - ended_at).total_seconds()
        if elapsed < ARRIVAL_SECONDS:
            return VapiTransientError(
                f"GET {path} returned 404: call {call.id} ended {max(0, elapsed):.0f} s ago, so the file may still appear.",
                status_code=404,
                method="GET",
                path=path,
            )
    return VapiArtifactNotFoundError(
        f"GET {path} returned 404: call {call.id} has no such file. Check the artifact plan of its assistant.",
        status_code=404,
        method="GET",
        path=path,
    )


def _write(file: IO[bytes], chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        # An unbuffered file may write a part only; a file that does not count has written all.
        written: int | None = file.write(left)
        left = left[len(left) if written is None else written :]


def _coding(response: requests.Response) -> str:
    return str(response.headers.get("Content-Encoding", "")).strip().lower()


def _content_type(response: requests.Response) -> str | None:
    sent = (clean_line(response.headers.get("Content-Type")) or "").strip()
    # Stores accept only ASCII.
    return sent[:_MAX_CONTENT_TYPE] if sent and sent.isascii() else None
