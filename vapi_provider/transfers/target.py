# SPDX-License-Identifier: Apache-2.0
"""The object that a transfer writes, as a whole or not at all."""

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
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
from airflow.providers.common.compat.sdk import (
    AirflowNotFoundException,
    AirflowSkipException,
    BaseHook,
    ObjectStoragePath,
)
from vapi_provider.exceptions import VapiConfigurationError, VapiConnectionNotFoundError, VapiPermanentError

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.IGNORECASE)
_LOCAL = ("file", "local")
_S3 = ("s3", "s3a")
_AZURE = ("abfs", "abfss", "adl")
_CHUNK_BYTES = 1 << 20
# The smallest part that S3 takes.
_PART_BYTES = 5 << 20
_MAX_SUFFIX = 40


@dataclass(frozen=True)
class Location:
    """
    The location of an object or a folder.

    :param url: the URL, without a connection id
    :param conn_id: the id of the connection to the storage; None for the default credentials of the storage
    """

    url: str
    conn_id: str | None

    @property
    def is_folder(self) -> bool:
        return self.url.endswith("/")

    @property
    def is_compressed(self) -> bool:
        return self.url.endswith(".gz")


def read_location(path: Any, storage_conn_id: Any, *, may_be_folder: bool = False) -> Location:
    """
    Read the URL of an object, or of a folder if it ends in ``/``.

    :raises VapiConfigurationError: if the URL is invalid, or there are two connection ids
    """
    if not isinstance(path, str) or path.strip() in ("", "None"):
        raise _refuse(f"is empty (got {str(path)[:50]!r}, {type(path).__name__})")
    scheme, colon, rest = path.partition("://")
    if not colon or not _SCHEME.fullmatch(scheme):
        raise _refuse(
            "has no scheme; pass a URL such as s3://bucket/calls.jsonl.gz or file:///data/calls.jsonl"
        )
    if not path.isprintable() or path != path.strip():
        raise _refuse("contains a line break or control character, or begins or ends with white space")
    if "::" in path:
        raise _refuse("contains '::', which chains filesystems; rename the object or folder")
    if scheme.lower() in _S3 and "?versionid=" in rest.lower():
        raise _refuse("contains '?versionId='; a new object cannot have the id of a version")
    authority, _, key = rest.partition("/")
    url_conn_id, _, container = authority.rpartition("@")
    if ":" in url_conn_id:
        # Not shown: what is before the @ may be a password.
        raise _refuse("contains credentials; store them in a connection, and pass its id")
    if url_conn_id and storage_conn_id is not None:
        raise _refuse("names a connection, and so does storage_conn_id; use only one of them")
    if scheme.lower() in _LOCAL and container:
        raise _refuse("needs three slashes, as in file:///data/calls.jsonl")
    if not container and scheme.lower() not in _LOCAL:
        raise _refuse("has no bucket")
    if not may_be_folder and (not key or key.endswith("/")):
        raise _refuse("has no object name after the last slash")
    conn_id = url_conn_id or storage_conn_id
    if conn_id is not None and (not isinstance(conn_id, str) or not conn_id.strip()):
        raise VapiConfigurationError(f"storage_conn_id must be the id of a connection; got {conn_id!r}.")
    return Location(f"{scheme.lower()}://{container}/{key}", conn_id)


def _refuse(what: str) -> VapiConfigurationError:
    return VapiConfigurationError(f"path {what}.")


@contextmanager
def spool(location: Location) -> Iterator[IO[bytes]]:
    """Open a temporary file with the suffix of the object, from which stores guess the content type."""
    suffix = "".join(PurePosixPath(location.url).suffixes[-2:])[-_MAX_SUFFIX:]
    with tempfile.NamedTemporaryFile(prefix="vapi-", suffix=suffix) as file:
        yield file


@contextmanager
def compressing(file: IO[bytes], location: Location) -> Iterator[IO[bytes]]:
    """Compress what is written to a ``.gz`` location, without a time stamp."""
    if not location.is_compressed:
        yield file
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed:
        yield cast("IO[bytes]", compressed)


class Target:
    """
    An object in its storage, or a folder.

    :param location: the location of the object
    :raises VapiConfigurationError: if the connection does not exist, or no filesystem for the scheme is installed
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self.url: str = location.url
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
            self._is_s3 = scheme in _S3
            self._is_azure = scheme in _AZURE
            return
        raise VapiConfigurationError(
            f"Airflow cannot open {scheme}:// ({problem}). Install the provider with its filesystem, such as "
            "apache-airflow-providers-amazon[s3fs] for s3://."
        )

    def child(self, name: str) -> Target:
        """Return an object in this folder."""
        child = copy(self)
        child.location = replace(self.location, url=f"{self.url}{name}")
        child.url = child.location.url
        child._path = ObjectStoragePath(child.url, conn_id=child.location.conn_id)
        return child

    def refuse_missing_bucket(self) -> None:
        """
        Fail before the export if it has nowhere to go; only S3 shows for certain that a bucket does not exist.

        :raises VapiConfigurationError: if S3 responds that there is no such bucket
        """
        if not self._is_s3:
            return
        bucket = self.url.split("/")[2]
        is_missing = False
        try:
            self._fs.call_s3("head_bucket", Bucket=bucket)
        except FileNotFoundError:
            is_missing = True
        except Exception:
            # Writing may be allowed where looking is not.
            pass
        if is_missing:
            raise VapiConfigurationError(
                f"There is no bucket {bucket!r} on S3. Create it, or correct the argument path, which names it."
            )

    def refuse_existing(self, if_exists: str) -> None:
        """
        Skip or fail the task if the object exists.

        :param if_exists: ``skip`` or ``fail``; with other values, only a local folder in the way is refused
        """
        if self._is_local and os.path.isdir(self._path.path):
            raise self._is_folder()
        if if_exists not in ("skip", "fail") or not self.exists():
            return
        if if_exists == "skip":
            raise AirflowSkipException(f"{self.url} already exists.")
        raise VapiPermanentError(f"{self.url} already exists, and if_exists is 'fail'.")

    def exists(self) -> bool:
        """
        Return True if the object exists.

        :raises VapiConfigurationError: if it is a folder
        :raises VapiPermanentError: if the storage denies access
        """
        # The filesystem is shared within the process and caches listings.
        self._fs.invalidate_cache()
        try:
            info = self._fs.info(self._path.path)
        except FileNotFoundError:
            return False
        except PermissionError:
            info = None
        if info is None:
            raise VapiPermanentError(
                f"The storage denied access to {self.url}, so the task cannot check whether it exists. Grant permission "
                "to list and read, or pass an if_exists that does not check: 'replace' for calls, 'overwrite' for a recording."
            )
        if info["type"] == "directory":
            raise self._is_folder()
        return True

    def _is_folder(self) -> VapiConfigurationError:
        return VapiConfigurationError(f"{self.url} is a folder; add the name of an object to path.")

    def count_lines(self) -> int:
        """
        Count the lines of the existing object, in small chunks.

        :raises VapiPermanentError: if the object cannot be decompressed
        """
        try:
            # By default, s3fs reads 50 MB ahead.
            with self._fs.open(self._path.path, "rb", block_size=_PART_BYTES) as raw:
                file = gzip.GzipFile(fileobj=raw) if self.location.is_compressed else raw
                lines, last = 0, b"\n"
                for chunk in iter(partial(file.read, _CHUNK_BYTES), b""):
                    lines, last = lines + chunk.count(b"\n"), chunk[-1:]
                # The last line may lack its end.
                return lines + (last != b"\n")
        except (EOFError, gzip.BadGzipFile, zlib.error):
            pass
        raise VapiPermanentError(
            f"{self.url} exists but is not a complete gzip file, so its calls cannot be counted. It was not changed; "
            "check it, then pass if_exists='replace'."
        )

    def put(self, file: IO[bytes], *, content_type: str | None = None) -> None:
        """
        Copy a local file to the object, in one step.

        :param file: a complete file with a name
        :param content_type: the content type to store on S3; by default, guessed from the name
        """
        file.flush()
        if self._is_local:
            _replace(Path(self._path.path), file.name)
        else:
            self._fs.put_file(file.name, self._path.path, **self._options(content_type))
        self._report_lineage()

    def _options(self, content_type: str | None) -> dict[str, Any]:
        if self._is_azure:
            # Before 2024, adlfs did not replace an object by default.
            return {"overwrite": True}
        if not self._is_s3:
            return {}
        # s3fs keeps ten parts in memory.
        options: dict[str, Any] = {"chunksize": _PART_BYTES}
        return {**options, "ContentType": content_type} if content_type else options

    def _report_lineage(self) -> None:
        collector: Any = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
        # Not every URL is a valid asset (Airflow 3.0 requires ASCII), which must not fail the task.
        with suppress(ValueError):
            collector.add_output_asset(context=self._path, uri=self.url)


def _check_connection(conn_id: str) -> None:
    # Without the connection, some filesystems silently use the credentials of the machine.
    try:
        BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        is_missing = True
    else:
        is_missing = False
    if is_missing:
        raise VapiConnectionNotFoundError(
            f"Airflow found no connection {conn_id!r} for the storage. Create it, or correct storage_conn_id."
        )


def _replace(target: Path, source: str) -> None:
    """Replace the target with a copy of a file, atomically and durably."""
    # Follow links, as an ordinary write does.
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
        # Some network file systems cannot sync folders.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
