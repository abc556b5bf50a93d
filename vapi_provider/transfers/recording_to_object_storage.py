# SPDX-License-Identifier: Apache-2.0
"""The transfer that copies a recording to object storage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from airflow.providers.common.compat.sdk import AirflowSkipException
from vapi_provider.links.call import VapiCallLink
from vapi_provider.outlets import add_to_events
from vapi_provider.rendering import RendersFields, show_call_id

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context, XComArg
    from vapi_provider.hooks.vapi import VapiHook
    from vapi_provider.models.summary import CallSummary
    from vapi_provider.transfers.target import Location, Target

_MISSING = ("skip", "fail")
_IF_EXISTS = ("overwrite", "skip", "fail")

_AUDIO = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/ogg": "ogg",
    "audio/webm": "webm",
}
_EXTENSIONS = {
    "mono": _AUDIO,
    "stereo": _AUDIO,
    "customer": _AUDIO,
    "assistant": _AUDIO,
    "video": {"video/mp4": "mp4", "video/webm": "webm"},
    "pcap": {"application/vnd.tcpdump.pcap": "pcap"},
    "call-logs": {
        "application/x-ndjson": "jsonl",
        "application/json": "json",
        "text/plain": "txt",
        "application/gzip": "gz",
        "application/x-gzip": "gz",
    },
}
"""The file extension by kind and content type; the first of a kind is the default for other content types."""


class RecordingExport(TypedDict):
    """The result of copying a recording; ``content_type`` is the one that its host sent, ``bytes`` the size."""

    path: str
    call_id: str
    kind: str
    content_type: str | None
    bytes: int


class VapiRecordingToObjectStorageOperator(RendersFields):
    """
    Copy the recording of a call to object storage (https://docs.vapi.ai/api-reference/calls/mono-recording).

    The object appears as a whole or not at all. Vapi keeps recordings for a limited time, 14 days on its standard plan.

    :param call_id: the id of the call, or its summary, such as ``call.output``. (templated)
    :param path: the URL of the object, or of a folder if it ends in ``/``, such as ``s3://bucket/recordings/``; in a
        folder, the object is named ``{call_id}-{kind}.{extension}``. (templated)
    :param storage_conn_id: the connection to the storage, unless the URL names it; None by default. (templated)
    :param kind: mono, stereo, customer, assistant, video, pcap or call-logs; mono by default
    :param missing: what to do if the call is over and has no such file: ``skip`` the task, or ``fail``
    :param max_bytes: the size limit in bytes, 1 GiB by default; a larger file fails the task
    :param if_exists: what to do with an existing object: ``overwrite`` it, ``skip`` the task before any request, or
        ``fail``
    :param vapi_conn_id: the connection to Vapi. (templated)
    """

    template_fields: Sequence[str] = ("call_id", "path", "storage_conn_id", "vapi_conn_id")
    shown_fields: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"call_id": show_call_id}
    operator_extra_links: Collection[BaseOperatorLink] = (VapiCallLink(),)
    ui_color = "#d9f2ea"

    def __init__(
        self,
        *,
        call_id: str | CallSummary | XComArg,
        path: str | XComArg,
        storage_conn_id: str | None = None,
        kind: Literal["mono", "stereo", "customer", "assistant", "video", "pcap", "call-logs"] = "mono",
        missing: Literal["skip", "fail"] = "skip",
        max_bytes: int = 1 << 30,
        if_exists: Literal["overwrite", "skip", "fail"] = "overwrite",
        vapi_conn_id: str = "vapi_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.call_id = call_id
        self.path = path
        self.storage_conn_id = storage_conn_id
        self.kind = kind
        self.missing = missing
        self.max_bytes = max_bytes
        self.if_exists = if_exists
        self.vapi_conn_id = vapi_conn_id

    def execute(self, context: Context) -> RecordingExport:
        """
        Copy the recording.

        :param context: the context of the running task
        :raises VapiConfigurationError: if an argument or a connection is invalid, or an S3 bucket does not exist; nothing is
            sent to Vapi
        :raises VapiTransientError: for a transient failure, and if the file is missing while the call is live or ended
            less than 5 minutes ago
        :raises VapiPermanentError: if Vapi refuses, if the file is missing, past its retention, too large or at a
            forbidden address, and if the object exists and ``if_exists`` is ``fail``
        :raises AirflowSkipException: if the file is missing or the object exists, with ``skip``
        :return: the path, the call, the content type and the size
        """
        # Here, not at the top, to keep DAG parsing fast.
        from vapi_provider.client.arguments import check_call_id, check_choice
        from vapi_provider.client.artifact import artifact_path, check_max_bytes
        from vapi_provider.hooks.vapi import VapiHook
        from vapi_provider.transfers.target import Target, read_location

        self.refuse_failed("call_id")
        call_id = check_call_id(self.call_id)
        artifact_path(call_id, self.kind)
        check_choice(self.missing, _MISSING, parameter="missing")
        check_choice(self.if_exists, _IF_EXISTS, parameter="if_exists")
        check_max_bytes(self.max_bytes)
        self.refuse_missing("path", "storage_conn_id", "vapi_conn_id")
        self.refuse_none("storage_conn_id")
        location = read_location(self.path, self.storage_conn_id, may_be_folder=True)
        self._refuse_shared_path(context, location, call_id)
        place = Target(location)
        place.refuse_missing_bucket()
        extensions = dict.fromkeys(_EXTENSIONS[self.kind].values())
        # Unless the place is a folder, it is the target for all extensions.
        for target in dict.fromkeys(self._target(place, call_id, extension) for extension in extensions):
            target.refuse_existing(self.if_exists)
        hook = VapiHook(self.vapi_conn_id)
        VapiCallLink().persist(context, hook.dashboard_url(call_id))
        copied = self._copy(hook, place, call_id)
        add_to_events(context, self.outlets, {"call_id": call_id})
        return copied

    def _refuse_shared_path(self, context: Context, location: Location, call_id: str) -> None:
        from vapi_provider.exceptions import VapiConfigurationError

        ti: Any = context.get("ti")
        if getattr(ti, "map_index", -1) < 0 or location.is_folder:
            return
        if self.is_mapped_over("kind"):
            # The URL may contain the kind by chance, for example in the name of a folder.
            raise VapiConfigurationError(
                "path is an object, but kind is mapped, so the recordings would replace each other. End path with a slash; "
                "each object is then named after its call and kind."
            )
        if call_id not in location.url.lower():
            raise VapiConfigurationError(
                "path does not contain the call id, so mapped tasks could replace each other's recordings. End it with a "
                "slash, or add the call id."
            )

    def _target(self, place: Target, call_id: str, extension: str) -> Target:
        """Return the object: the place itself, or a file in it if it is a folder."""
        return place.child(f"{call_id}-{self.kind}.{extension}") if place.location.is_folder else place

    def _copy(self, hook: VapiHook, place: Target, call_id: str) -> RecordingExport:
        from vapi_provider.exceptions import VapiArtifactNotFoundError
        from vapi_provider.transfers.target import spool

        extensions = _EXTENSIONS[self.kind]
        usual = next(iter(extensions.values()))
        with spool(self._target(place, call_id, usual).location) as file:
            try:
                info = hook.download_artifact(call_id, self.kind, file, max_bytes=self.max_bytes)
            except VapiArtifactNotFoundError as error:
                if self.missing == "fail":
                    raise
                raise AirflowSkipException(str(error)) from None
            sent = (info.content_type or "").partition(";")[0].strip().lower()
            target = self._target(place, call_id, extensions.get(sent, usual))
            target.put(file, content_type=info.content_type)
        self.log.info(
            "Copied the %s artifact of call %s (%d bytes) to %s.", self.kind, call_id, info.size, target.url
        )
        return RecordingExport(
            path=target.url,
            call_id=call_id,
            kind=self.kind,
            content_type=info.content_type,
            bytes=info.size,
        )
