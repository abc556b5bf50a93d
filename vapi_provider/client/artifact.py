# SPDX-License-Identifier: Apache-2.0
"""Downloading what a call leaves behind: recordings, video, packet capture and log."""

from __future__ import annotations

import dataclasses
import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

from vapi_provider.client import deadline
from vapi_provider.client.addresses import AddressRules
from vapi_provider.client.failures import no_response
from vapi_provider.client.responses import ApiRequest, is_repeatable_status
from vapi_provider.client.session import open_session
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
"""What a call may leave behind, and the last part of its path."""

MAX_BYTES = 1 << 30
"""The default limit of a file, in bytes."""

ARRIVAL_SECONDS = 300.0
"""A recording that is missing this long after the end of the call will not follow, in seconds."""

_CHUNK_BYTES = 65_536
_MAX_CONTENT_TYPE = 100
# A link that is over, or was made by a clock that is ahead.
_LINK_STATUSES = frozenset({400, 401, 403, 410})


class ArtifactInfo(NamedTuple):
    """
    What was downloaded.

    :param content_type: the content type that the host sent; None without one
    :param size: how many bytes were written
    """

    content_type: str | None
    size: int


@dataclass(frozen=True)
class _Link:
    """A signed URL, which no text may show, and the part of it that one may."""

    url: str = field(repr=False)
    origin: str


class _LinkRefusedError(VapiTransientError):
    """The host of the file does not accept the link; a new one may help."""


class ArtifactDownload:
    """
    Downloads one artifact of a call into a file.

    :param transport: sends the request for the link
    :param settings: the connection
    :param path: the path of the artifact, checked
    :param file: what is written to, from where it is now
    :param max_bytes: the most bytes to write
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
        self._rules = AddressRules.of(settings)

    def run(self) -> ArtifactInfo:
        """Try once; a link that the host of the file refuses is replaced once."""
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
            session.mount(scheme, deadline.DeadlineAdapter(self._rules.check_address, is_paced=True))
        return session

    def _link(self) -> _Link:
        """Request the link, with the key."""
        response = self._transport.exchange(ApiRequest("GET", self._path))
        if response.status == 302:
            url = response.headers.get("location", "")
            if response.mask.in_text(url) != url:
                raise VapiArtifactRefusedError("Vapi redirected to a URL that contains the API key.")
            return _Link(url, self._rules.check_url(url))
        if response.is_success:
            raise response.unreadable("a body in place of a link")
        if response.status == 400 and response.is_in_vapis_shape:
            raise VapiArtifactExpiredError(
                f"GET {self._path} returned 400: Vapi no longer keeps this file.",
                status_code=400,
                method="GET",
                path=self._path,
            )
        raise response.error(self._settings)

    def _fetch(self, session: requests.Session, link: _Link) -> ArtifactInfo:
        """Download from a link, without the key."""
        get = partial(
            session.get, link.url, timeout=self._settings.timeout, allow_redirects=False, stream=True
        )
        with self._over_network(get, link, self._settings.timeout) as response:
            self._check(response, link)
            self._file.seek(self._begin)
            self._file.truncate()
            size = 0
            for chunk in self._chunks(response, link):
                size += len(chunk)
                if size > self._max_bytes:
                    raise self._too_large()
                self._file.write(chunk)
            return ArtifactInfo(_content_type(response), size)

    def _chunks(self, response: requests.Response, link: _Link) -> Iterator[bytes]:
        """Yield the body; a failure of the network is not one of the file that it is written to."""
        chunks = response.iter_content(_CHUNK_BYTES)
        while chunk := self._over_network(partial(next, chunks, b""), link, deadline.PACE_SECONDS):
            yield chunk

    def _check(self, response: requests.Response, link: _Link) -> None:
        status, raw = response.status_code, response.raw
        if 300 <= status < 400:
            raise VapiArtifactRefusedError(f"{link.origin} redirected again; only one redirect is followed.")
        if status in _LINK_STATUSES:
            raise self._transient(f"{link.origin} returned {status} to a new link", status, _LinkRefusedError)
        if status != 200:
            raise self._transient(f"{link.origin} returned {status}", status)
        if raw.length_remaining is None and not raw.chunked:
            raise self._transient(f"{link.origin} sent a body of unknown length", None)
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
        return VapiArtifactRefusedError(
            f"GET {self._path}: the file has more than {self._max_bytes:,} bytes, which is the limit here (max_bytes)."
        )

    def _over_network(self, work: Callable[[], T], link: _Link, limit: float) -> T:
        surrounding = sys.exc_info()[1]
        failure: VapiError
        token = _is_signed.set(True)
        _hide_signed_urls()
        try:
            return work()
        except VapiError as error:
            failure = error.with_traceback(None)
        except (OSError, ValueError) as error:
            settings = dataclasses.replace(self._settings, base_url=link.origin)
            request = ApiRequest("GET", self._path)
            failure = no_response(error, settings, request, limit=limit, surrounding=surrounding)
        finally:
            _is_signed.reset(token)
        # Outside the handler: an exception of requests contains the signed URL.
        raise failure


def artifact_path(call_id: str, kind: Any) -> str:
    """
    Return the path of an artifact.

    :raises VapiConfigurationError: for an unknown kind
    """
    if not isinstance(kind, str) or kind not in ARTIFACTS:
        raise VapiConfigurationError(
            f"kind must be one of {', '.join(ARTIFACTS)}; got {str(kind)[:50]!r}. Nothing was sent."
        )
    return f"/call/{call_id}/{ARTIFACTS[kind]}"


def check_file(file: Any) -> None:
    """
    Check what a download is written to.

    :raises VapiConfigurationError: for what is not a binary file with a position
    """
    is_binary = hasattr(file, "write") and not isinstance(file, io.TextIOBase)
    if not (is_binary and hasattr(file, "truncate") and hasattr(file, "seekable") and file.seekable()):
        raise VapiConfigurationError(
            f"file must be a binary file that can be written to, seeked and truncated; got {type(file).__name__}. "
            "Nothing was sent."
        )


def check_max_bytes(max_bytes: Any) -> int:
    """
    Check the limit of a download.

    :raises VapiConfigurationError: for anything but a positive whole number
    """
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
        raise VapiConfigurationError(
            f"max_bytes must be a positive whole number; got {str(max_bytes)[:50]!r}. Nothing was sent."
        )
    return max_bytes


def missing_artifact(call: Call, path: str) -> VapiError:
    """Build the error for an artifact that Vapi does not find, of a call that it does."""
    ended_at = call.ended_at or call.updated_at
    is_over = call.is_terminal or bool(call.ended_at and call.ended_reason)
    if not is_over:
        return VapiTransientError(
            f"GET {path} returned 404: call {call.id} is not over.", status_code=404, method="GET", path=path
        )
    if ended_at and call.responded_at:
        elapsed = (call.responded_at - ended_at).total_seconds()
        if elapsed < ARRIVAL_SECONDS:
            return VapiTransientError(
                f"GET {path} returned 404: call {call.id} ended {max(0, elapsed):.0f} s ago, and the file may follow.",
                status_code=404,
                method="GET",
                path=path,
            )
    return VapiArtifactNotFoundError(
        f"GET {path} returned 404: call {call.id} is over and has no such file. Check the artifact plan of its assistant.",
        status_code=404,
        method="GET",
        path=path,
    )


def _content_type(response: requests.Response) -> str | None:
    sent = clean_line(response.headers.get("Content-Type"))
    return sent.strip()[:_MAX_CONTENT_TYPE] or None if sent else None


_is_signed: ContextVar[bool] = ContextVar("_is_signed", default=False)


class _NoSignedUrls(logging.Filter):
    """Drops what urllib3 logs about a request with a signed URL: its path, and all of it after a malformed response."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _is_signed.get()


_FILTER = _NoSignedUrls()
# A filter of a logger does not apply to what its children log.
_LOGGERS = tuple(
    f"urllib3.{name}" for name in ("connection", "connectionpool", "poolmanager", "response", "util.retry")
)


def _hide_signed_urls() -> None:
    # Each time: a configuration of logging in between removes filters. Adding one twice has no effect.
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)
