# SPDX-License-Identifier: Apache-2.0
"""What calls leave behind, behind signed URLs that expire, as an object store serves it."""

from __future__ import annotations

import hashlib
import hmac
import io
import secrets
import threading
import wave
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from vapi_provider.simulator.clock import Clock

KINDS = (
    *("mono-recording", "stereo-recording", "customer-recording", "assistant-recording", "video-recording"),
    *("pcap", "call-logs"),
)
"""The last parts of the paths of artifacts."""

_CHANNELS = {"mono-recording": 1, "stereo-recording": 2}


class Artifact(NamedTuple):
    """A file, with the content type that it is served with."""

    content: bytes
    content_type: str


class Artifacts:
    """
    The files of all calls, and the web server of the store that they are in.

    A call that has the URL of a recording among its fields has one of silence.

    :param clock: what the expiry of a URL is measured on.
    :param lifetime: for how many seconds a URL is good.
    """

    def __init__(self, clock: Clock, lifetime: float) -> None:
        # Where the URLs point; the simulator sets it once it is known.
        self.port = 0
        self.lifetime = lifetime
        self.app: Starlette = Starlette(
            routes=[Route("/artifacts/{call_id}/{kind}", self._serve, methods=["GET"])]
        )
        self._clock = clock
        self._secret = secrets.token_bytes(16)
        self._kept: dict[tuple[str, str], Artifact] = {}
        self._lock = threading.Lock()

    def add(self, call_id: str, kind: str, artifact: Artifact) -> None:
        """Keep a file of a call, in place of one of this kind."""
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")
        with self._lock:
            self._kept[call_id.lower(), kind] = artifact

    def link(self, call: Mapping[str, Any], kind: str, host: str) -> str | None:
        """Return a signed URL on a host, or None when the call has no such file."""
        call_id = str(call["id"]).lower()
        with self._lock:
            is_recorded = kind in _CHANNELS and (call.get("artifact") or {}).get("recordingUrl")
            if is_recorded:
                self._kept.setdefault((call_id, kind), Artifact(_silence(_CHANNELS[kind]), "audio/wav"))
            if (call_id, kind) not in self._kept:
                return None
        path = f"/artifacts/{call_id}/{kind}"
        expires = str(int(self._clock.now().timestamp() + self.lifetime))
        query = urlencode({"Expires": expires, "Signature": self._sign(path, expires)})
        return f"http://{host}:{self.port}{path}?{query}"

    async def _serve(self, request: Request) -> Response:
        if "authorization" in request.headers:
            # The URL is the capability, and the key has no business here.
            return _refuse(400, "InvalidArgument")
        query = request.query_params
        expires = query.get("Expires", "0")
        signature = self._sign(request.url.path, expires)
        if not hmac.compare_digest(query.get("Signature", "").encode(), signature.encode()):
            return _refuse(403, "SignatureDoesNotMatch")
        if self._clock.now().timestamp() >= int(expires):
            return _refuse(403, "AccessDenied")
        found = self._kept.get((request.path_params["call_id"], request.path_params["kind"]))
        if found is None:
            return _refuse(404, "NoSuchKey")
        return Response(found.content, media_type=found.content_type)

    def _sign(self, path: str, expires: str) -> str:
        return hmac.new(self._secret, f"{path}?{expires}".encode(), hashlib.sha256).hexdigest()


def _refuse(status: int, code: str) -> Response:
    return Response(f"<Error><Code>{code}</Code></Error>", status, media_type="application/xml")


def _silence(channels: int) -> bytes:
    """Return a tenth of a second of nothing, as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(8000)
        writer.writeframes(bytes(2 * channels * 800))
    return file.getvalue()
