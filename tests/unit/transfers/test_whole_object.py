# SPDX-License-Identifier: Apache-2.0
"""An object appears as a whole or not at all, whatever fails and whenever the task is killed."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
from vapi_provider.exceptions import VapiConfigurationError, VapiError, VapiPermanentError
from vapi_provider.simulator import Fault, VapiSimulator
from vapi_provider.transfers import target as target_module
from vapi_provider.transfers.export import Export as Lines
from vapi_provider.transfers.recording_to_object_storage import VapiRecordingToObjectStorageOperator

Export = Callable[..., Any]
InChild = Callable[[Callable[[], Any]], int]
FORMER = "former\n"
CALLS = 250
"""Three pages of the list."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


@pytest.fixture
def _calls(simulator: VapiSimulator) -> None:
    for number in range(CALLS):
        at = (datetime(2026, 3, 10, tzinfo=timezone.utc) + timedelta(minutes=number)).isoformat()
        simulator.add_call(status="ended", body={"createdAt": at, "endedAt": at, "cost": 0.01})


def die(*_args: Any, **_kwargs: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def visible(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


KILLS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "within a page": ("vapi_provider.transfers.export:Export._add", lambda original: _at_nth(original, 120)),
    "before the put": ("vapi_provider.transfers.target:Target.put", lambda _: die),
    "within the copy": ("shutil:copyfileobj", lambda _: _half_copy),
    "before the sync": ("os:fsync", lambda _: die),
    "before the replacement": ("os:replace", lambda _: die),
}


def _at_nth(original: Any, nth: int) -> Any:
    calls = iter(range(nth))

    def run(*args: Any) -> Any:
        return original(*args) if next(calls, None) is not None else die()

    return run


def _half_copy(read: Any, written: Any, _length: int) -> None:
    written.write(read.read(1000))
    written.flush()
    die()


@pytest.mark.usefixtures("_calls")
@pytest.mark.parametrize("has_former", [True, False])
@pytest.mark.parametrize("point", KILLS)
def test_kill_leaves_the_former_object_or_none(
    export: Export,
    path: Path,
    in_child: InChild,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    has_former: bool,
) -> None:
    if has_former:
        path.write_text(FORMER)
    name, replace = KILLS[point]
    module, _, attribute = name.partition(":")
    owner = __import__(module, fromlist=["_"])
    *parents, last = attribute.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    with monkeypatch.context() as patch:
        patch.setattr(owner, last, replace(getattr(owner, last)))
        assert in_child(export) == -signal.SIGKILL
    assert visible(path.parent) == ["calls.jsonl"] * has_former
    assert not has_former or path.read_text() == FORMER
    assert export()["calls"] == CALLS


@pytest.mark.usefixtures("_calls")
def test_kill_after_the_replacement_leaves_the_object(
    export: Export, path: Path, in_child: InChild, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(target_module.Target, "_report_lineage", die)
        assert in_child(export) == -signal.SIGKILL
    killed = path.read_bytes()
    export()
    assert path.read_bytes() == killed
    assert visible(path.parent) == ["calls.jsonl"]


@pytest.mark.usefixtures("_calls")
@pytest.mark.parametrize("is_spool", [True, False])
def test_full_disk_leaves_the_former_object(
    export: Export, path: Path, in_child: InChild, monkeypatch: pytest.MonkeyPatch, is_spool: bool
) -> None:
    path.write_text(FORMER)

    def limited() -> None:
        limit = (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        if is_spool:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        else:
            put = target_module.Target.put
            monkeypatch.setattr(
                target_module.Target,
                "put",
                lambda *args, **options: (
                    resource.setrlimit(resource.RLIMIT_FSIZE, limit),
                    put(*args, **options),
                ),
            )
        export()

    assert in_child(limited) == errno.EFBIG
    assert path.read_text() == FORMER
    assert os.listdir(path.parent) == ["calls.jsonl"]


@pytest.mark.usefixtures("_calls")
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(path="/call", times=None, status=500), id="500"),
        pytest.param(Fault(path="/call", times=None, reset="midway"), id="cut"),
        pytest.param(Fault(path="/call", times=None, status=401), id="401"),
        pytest.param(Fault(path="/call", times=None, body="{}"), id="no-list"),
    ],
)
def test_failure_between_pages_leaves_the_former_object(
    simulator: VapiSimulator, export: Export, path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    path.write_text(FORMER)
    original = Lines._add

    def add_and_break(self: Any, *args: Any) -> None:
        original(self, *args)
        if self.calls == 150:
            simulator.faults.add(fault)

    monkeypatch.setattr(Lines, "_add", add_and_break)
    with pytest.raises(VapiError):
        export()
    assert path.read_text() == FORMER
    assert os.listdir(path.parent) == ["calls.jsonl"]


@pytest.mark.usefixtures("_calls")
def test_spool_is_removed(export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "spools"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    seen: list[str] = []
    put = target_module.Target.put

    def look(self: Any, file: Any, **options: Any) -> None:
        seen.extend(os.listdir(folder))
        put(self, file, **options)

    monkeypatch.setattr(target_module.Target, "put", look)
    export("a.b/calls.2026.jsonl.gz")
    # Stores guess the content type from the name.
    [spool] = seen
    assert spool.endswith(".jsonl.gz")
    assert os.listdir(folder) == []


@pytest.mark.usefixtures("_calls")
def test_parents_are_created_and_links_followed(export: Export, tmp_path: Path) -> None:
    export("a/b/calls.jsonl")
    real = tmp_path / "a/b/calls.jsonl"
    real.chmod(0o640)
    (tmp_path / "link.jsonl").symlink_to(real)
    content = real.read_bytes()
    real.write_bytes(b"")
    export("link.jsonl")
    assert (tmp_path / "link.jsonl").is_symlink()
    assert real.read_bytes() == content
    assert real.stat().st_mode & 0o777 == 0o640


@pytest.mark.usefixtures("_calls")
def test_new_file_has_the_usual_permissions(export: Export, path: Path) -> None:
    former = os.umask(0o027)
    try:
        export()
    finally:
        os.umask(former)
    assert path.stat().st_mode & 0o777 == 0o640


# Other stores


@pytest.fixture
def memory() -> MemoryFileSystem:
    """The scheme ``memory``, which Airflow does not register itself."""
    from airflow.sdk.io import attach

    filesystem = MemoryFileSystem()
    filesystem.store.clear()
    attach("memory", fs=filesystem)
    return filesystem


@pytest.mark.usefixtures("_calls")
def test_store_gets_one_put(
    export: Export, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    puts: list[tuple[int, str]] = []
    put_file = MemoryFileSystem.put_file

    def put(self: Any, local: str, remote: str, **options: Any) -> None:
        puts.append((Path(local).read_bytes().count(b"\n"), remote))
        put_file(self, local, remote, **options)

    monkeypatch.setattr(MemoryFileSystem, "put_file", put)
    assert export(path="memory://bucket/calls.jsonl")["calls"] == CALLS
    assert puts == [(CALLS, "/bucket/calls.jsonl")]
    assert memory.cat_file("/bucket/calls.jsonl").count(b"\n") == CALLS
    with pytest.raises(VapiPermanentError, match=r"memory://bucket/calls.jsonl contains more calls \(250\)"):
        export(path="memory://bucket/calls.jsonl", assistant_id="0198a3f0-0000-7000-8000-00000000000a")


class Azure(MemoryFileSystem):
    """The part of adlfs before 2024 that does not replace an object by default."""

    protocol = "abfs"
    store: dict[str, Any] = {}
    pseudo_dirs = [""]

    def put_file(self, local: str, remote: str, *, overwrite: bool = False, **options: Any) -> None:  # type: ignore[override]
        if self.exists(remote) and not overwrite:
            raise FileExistsError("File already exists!")
        super().put_file(local, remote, **options)


@pytest.mark.usefixtures("_calls")
def test_object_on_azure_is_replaced(export: Export) -> None:
    from airflow.sdk.io import attach

    attach("abfs", fs=Azure())
    for _ in range(2):
        assert export(path="abfs://archive/calls.jsonl")["calls"] == CALLS


def test_denied_access_is_an_error(
    simulator: VapiSimulator, export: Export, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any, **_options: Any) -> None:
        raise PermissionError("Forbidden")

    monkeypatch.setattr(MemoryFileSystem, "info", refuse)
    with pytest.raises(VapiPermanentError, match="storage denied access"):
        export(path="memory://bucket/calls.jsonl")
    with pytest.raises(VapiPermanentError):
        export(path="memory://bucket/calls.jsonl", if_exists="skip")
    assert export(path="memory://bucket/calls.jsonl", if_exists="replace")["calls"] == 0


def test_prefix_as_path_is_refused(
    simulator: VapiSimulator, export: Export, memory: MemoryFileSystem
) -> None:
    memory.pipe_file("/bucket/calls/2026.jsonl", b"")
    with pytest.raises(VapiConfigurationError, match="is a folder"):
        export(path="memory://bucket/calls", if_exists="skip")


class S3(MemoryFileSystem):
    """The part of an S3 filesystem that shows whether a bucket exists."""

    protocol = "s3"
    store: dict[str, Any] = {}
    pseudo_dirs = [""]
    response: Exception | None = None

    def call_s3(self, method: str, *, Bucket: str) -> None:
        assert (method, Bucket) == ("head_bucket", "archive")
        if self.response is not None:
            raise self.response


@pytest.fixture
def s3() -> S3:
    from airflow.sdk.io import attach

    filesystem = S3()
    filesystem.response = None
    attach("s3", fs=filesystem)
    return filesystem


@pytest.mark.parametrize("if_exists", ["overwrite", "replace", "skip"])
def test_missing_bucket_fails_before_any_request(
    simulator: VapiSimulator, export: Export, context: Any, s3: S3, if_exists: str
) -> None:
    s3.response = FileNotFoundError("Not Found")
    with pytest.raises(VapiConfigurationError, match="There is no bucket 'archive' on S3"):
        export(path="s3://archive/calls.jsonl", if_exists=if_exists)
    copy = VapiRecordingToObjectStorageOperator(
        task_id="copy", call_id="019a7c2e-5f00-7000-8000-0000000000aa", path="s3://archive/"
    )
    with pytest.raises(VapiConfigurationError, match="There is no bucket 'archive' on S3"):
        copy.execute(context)
    assert simulator.requests == []


@pytest.mark.parametrize("error", [None, PermissionError("Forbidden"), OSError("moved"), ValueError()])
def test_bucket_that_may_not_be_seen_can_be_written(
    simulator: VapiSimulator, export: Export, s3: S3, error: Exception | None
) -> None:
    s3.response = error
    assert export(path="s3://archive/calls.jsonl", if_exists="replace")["calls"] == 0


@pytest.mark.usefixtures("memory", "_calls")
@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_lineage_is_the_object_without_its_connection(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MY_STORE", json.dumps({"conn_type": "fs"}))
    reported: list[tuple[str, str]] = []
    for name in ("add_output_asset", "add_input_asset"):
        monkeypatch.setattr(
            get_hook_lineage_collector(),
            name,
            lambda context, uri, name=name: reported.append((name, uri)),
            raising=False,
        )
    url = f"{tmp_path}/calls.jsonl" if scheme == "file" else "bucket/calls.jsonl"
    where = f"file://my_store@{url}" if scheme == "file" else f"memory://{url}"
    for _ in range(2):
        export(path=where)
    assert reported == [("add_output_asset", f"{scheme}://{url}")] * 2


def test_invalid_asset_url_does_not_fail_the_task(
    simulator: VapiSimulator, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(context: Any, uri: str) -> None:
        raise ValueError("Asset name must only consist of ASCII characters")

    monkeypatch.setattr(get_hook_lineage_collector(), "add_output_asset", refuse, raising=False)
    assert export("größe.jsonl")["calls"] == 0


def test_failed_export_reports_no_lineage(
    simulator: VapiSimulator, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[str] = []
    monkeypatch.setattr(
        get_hook_lineage_collector(),
        "add_output_asset",
        lambda context, uri: reported.append(uri),
        raising=False,
    )
    monkeypatch.setattr(shutil, "copyfileobj", lambda *_args: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        export()
    assert reported == []
