# SPDX-License-Identifier: Apache-2.0
"""The object that a transfer writes: where it is, and how it appears whole or not at all."""

from __future__ import annotations

import gzip
import os
import re
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from airflow.providers.common.compat.sdk import (
    AirflowNotFoundException,
    AirflowSkipException,
    BaseHook,
    ObjectStoragePath,
)
from vapi_provider.exceptions import VapiConfigurationError, VapiConnectionNotFoundError, VapiPermanentError

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.IGNORECASE)
_LOCAL = ("file", "local")
_CHUNK_BYTES = 1 << 20
# The smallest part that S3 takes.
_PART_BYTES = 5 << 20
_MAX_SUFFIX = 40


@dataclass(frozen=True)
class Location:
    """
    Where an object is.

    :param url: its URL, without the id of a connection
    :param conn_id: the id of the connection to the storage; None for the storage's own default
    """

    url: str
    conn_id: str | None

    @property
    def is_folder(self) -> bool:
        return self.url.endswith("/")

    @property
    def is_compressed(self) -> bool:
        return self.url.endswith(".gz")

    def child(self, name: str) -> Location:
        """Return the location of an object in this folder."""
        return replace(self, url=f"{self.url}{name}")


def read_location(path: Any, storage_conn_id: Any, *, may_be_folder: bool = False) -> Location:
    """
    Read the URL of an object, or of a folder where it ends in ``/``.

    :raises VapiConfigurationError: for anything else, and for two connection ids
    """
    if not isinstance(path, str) or path.strip() in ("", "None"):
        raise _refuse(f"is empty (got {str(path)[:50]!r}, {type(path).__name__})")
    scheme, colon, rest = path.partition("://")
    if not colon or not _SCHEME.fullmatch(scheme):
        raise _refuse(
            "has no scheme; pass a URL such as s3://bucket/calls.jsonl.gz or file:///data/calls.jsonl"
        )
    if not path.isprintable() or path != path.strip():
        raise _refuse("contains a line break, a control character, or white space at an end")
    authority, _, key = rest.partition("/")
    url_conn_id, _, container = authority.rpartition("@")
    if url_conn_id and storage_conn_id is not None:
        raise _refuse("names a connection, and storage_conn_id another; pass one of them")
    if scheme.lower() in _LOCAL and container:
        raise _refuse("must have three slashes, as in file:///data/calls.jsonl")
    if not container and scheme.lower() not in _LOCAL:
        raise _refuse("names no bucket")
    if not may_be_folder and (not key or key.endswith("/")):
        raise _refuse("names no object: it has no name after the last slash")
    conn_id = url_conn_id or storage_conn_id
    if conn_id is not None and (not isinstance(conn_id, str) or not conn_id.strip()):
        raise VapiConfigurationError(
            f"storage_conn_id must be the id of a connection; got {conn_id!r}. Nothing was sent."
        )
    return Location(f"{scheme.lower()}://{container}/{key}", conn_id)


def _refuse(what: str) -> VapiConfigurationError:
    return VapiConfigurationError(f"path {what}. Nothing was sent.")


@contextmanager
def spool(location: Location) -> Iterator[IO[bytes]]:
    """Open a temporary file, which goes away afterwards; named so that a store guesses the right content type."""
    suffix = "".join(PurePosixPath(location.url).suffixes[-2:])[-_MAX_SUFFIX:]
    with tempfile.NamedTemporaryFile(prefix="vapi-", suffix=suffix) as file:
        yield file


@contextmanager
def compressing(file: IO[bytes], location: Location) -> Iterator[IO[bytes]]:
    """Compress what is written, where the location asks for it; the same content gives the same bytes."""
    if not location.is_compressed:
        yield file
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed:
        yield cast("IO[bytes]", compressed)


class Target:
    """
    The object, in its storage.

    :param location: where it is
    :raises VapiConfigurationError: when Airflow finds no such connection, or no filesystem for the scheme
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self.url = location.url
        if location.conn_id is not None:
            _check_connection(location.conn_id)
        scheme = location.url.partition(":")[0]
        try:
            self._path = ObjectStoragePath(location.url, conn_id=location.conn_id)
            self._fs: Any = self._path.fs
        except (ImportError, ValueError) as error:
            problem = type(error).__name__
        else:
            self._is_local = scheme in _LOCAL
            self._is_s3 = scheme in ("s3", "s3a")
            return
        raise VapiConfigurationError(
            f"Airflow cannot open {scheme}:// ({problem}): install the provider for it, with its filesystem, such as "
            "apache-airflow-providers-amazon[s3fs] for s3://. Nothing was sent."
        )

    def refuse_existing(self, if_exists: str) -> None:
        """
        Skip or fail the task when the object is there, if that was asked for.

        :param if_exists: ``skip`` or ``fail``; everything else does nothing
        """
        if if_exists not in ("skip", "fail") or not self.exists():
            return
        if if_exists == "skip":
            raise AirflowSkipException(f"{self.url} exists already. Nothing was sent.")
        raise VapiPermanentError(f"{self.url} exists already, and if_exists is 'fail'. Nothing was sent.")

    def exists(self) -> bool:
        """
        Return whether the object is there.

        :raises VapiConfigurationError: for a folder
        :raises VapiPermanentError: when the storage does not let this task look
        """
        # The filesystem is shared by the process, and may remember what was there before.
        self._fs.invalidate_cache()
        try:
            info = self._fs.info(self._path.path)
        except FileNotFoundError:
            return False
        except PermissionError:
            info = None
        if info is None:
            raise VapiPermanentError(
                f"The storage does not let this task look whether {self.url} exists. Allow it to list and to read, or "
                "replace the object unseen: if_exists='replace'."
            )
        if info["type"] == "directory":
            raise VapiConfigurationError(f"{self.url} is a folder; path must name an object in it.")
        return True

    def count_lines(self) -> int:
        """
        Count the lines of the object as it is now, without holding it in memory.

        :raises VapiPermanentError: when it cannot be decompressed
        """
        try:
            # By default, s3fs reads 50 MB ahead.
            with self._fs.open(self._path.path, "rb", block_size=_PART_BYTES) as raw:
                file = gzip.GzipFile(fileobj=raw) if self.location.is_compressed else raw
                return sum(chunk.count(b"\n") for chunk in iter(partial(file.read, _CHUNK_BYTES), b""))
        except (EOFError, gzip.BadGzipFile, zlib.error):
            pass
        raise VapiPermanentError(
            f"{self.url} exists and is not a complete gzip file, so its calls cannot be counted; it was left as it is. "
            "Check it, then pass if_exists='replace'."
        )

    def put(self, file: IO[bytes], *, content_type: str | None = None) -> None:
        """
        Make a local file the object, in place of what was there.

        :param file: the file, with a name; complete
        :param content_type: the content type to store, on S3; guessed from the name by default
        """
        file.flush()
        if self._is_local:
            _replace(Path(self._path.path), file.name)
        else:
            self._fs.put_file(file.name, self._path.path, **self._options(content_type))
        self._report_lineage()

    def _options(self, content_type: str | None) -> dict[str, Any]:
        if not self._is_s3:
            return {}
        # s3fs holds ten parts in memory at once.
        options: dict[str, Any] = {"chunksize": _PART_BYTES}
        return {**options, "ContentType": content_type} if content_type else options

    def _report_lineage(self) -> None:
        # Here: compat has it as a module of its own.
        from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

        collector: Any = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
        # Not every URL makes an asset: Airflow 3.0 wants ASCII. The object is there, with or without lineage.
        with suppress(ValueError):
            collector.add_output_asset(context=self._path, uri=self.url)


def _check_connection(conn_id: str) -> None:
    # A filesystem may go on without a connection that it does not find, with the machine's own credentials.
    try:
        BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        is_missing = True
    else:
        is_missing = False
    if is_missing:
        raise VapiConnectionNotFoundError(
            f"Airflow finds no connection {conn_id!r} for the storage. Create it, or correct storage_conn_id. Nothing "
            "was sent."
        )


def _replace(target: Path, source: str) -> None:
    """Put a copy of a file in place of the target, durably, so that no reader ever sees a part of it."""
    # A link is followed, as an ordinary write would do.
    target = Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    neighbour = target.with_name(f".vapi-{secrets.token_hex(8)}.tmp")
    try:
        with open(source, "rb") as read, open(neighbour, "xb") as written:
            shutil.copyfileobj(read, written, _CHUNK_BYTES)
            written.flush()
            os.fsync(written.fileno())
        if target.exists():
            shutil.copymode(target, neighbour)
        os.replace(neighbour, target)
    except BaseException:
        neighbour.unlink(missing_ok=True)
        raise
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        # Some network file systems cannot sync a folder.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
