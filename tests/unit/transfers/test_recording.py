# SPDX-License-Identifier: Apache-2.0
"""VapiRecordingToObjectStorageOperator copies a recording, as a whole or not at all."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.sdk import DAG, Asset
from airflow.sdk.execution_time.context import OutletEventAccessors
from vapi_provider.client.artifact import ARTIFACTS
from vapi_provider.exceptions import (
    VapiArtifactExpiredError,
    VapiArtifactNotFoundError,
    VapiArtifactRefusedError,
    VapiConfigurationError,
    VapiPermanentError,
    VapiTransientError,
)
from vapi_provider.simulator import Fault, VapiSimulator
from vapi_provider.transfers.recording_to_object_storage import (
    _EXTENSIONS,
    VapiRecordingToObjectStorageOperator,
)

CALL_ID = "019a7c2e-5f00-7000-8000-0000000000aa"
RECORDING = b"RIFF" + bytes(5000)
ENDED = {"id": CALL_ID, "endedAt": "2026-03-10T00:00:00Z"}

Copy = Callable[..., Any]


@pytest.fixture
def call_id(simulator: VapiSimulator) -> str:
    """The id of a call with a recording."""
    simulator.add_call(status="ended", body=ENDED)
    simulator.add_artifact(CALL_ID, "mono-recording", RECORDING)
    return CALL_ID


@pytest.fixture
def copy(context: Any, tmp_path: Path) -> Copy:
    """Copy the recording to the folder of the test, or to a path in it."""

    def run(name: str = "", **arguments: Any) -> Any:
        arguments = {"path": f"file://{tmp_path}/{name}", "call_id": CALL_ID, **arguments}
        return VapiRecordingToObjectStorageOperator(task_id="copy", **arguments).execute(context)

    return run


def test_recording_is_copied_to_the_path(
    simulator: VapiSimulator, call_id: str, copy: Copy, tmp_path: Path, context: Any
) -> None:
    assert copy("a/recording.wav") == {
        "path": f"file://{tmp_path}/a/recording.wav",
        "call_id": call_id,
        "kind": "mono",
        "content_type": "binary/octet-stream",
        "bytes": len(RECORDING),
    }
    assert (tmp_path / "a/recording.wav").read_bytes() == RECORDING
    assert context["ti"].xcoms == {"_link_VapiCallLink": f"{simulator.url}/calls/{call_id}"}


def test_asset_event_names_the_call(call_id: str, copy: Copy, context: Any) -> None:
    asset = Asset("recordings")
    context["outlet_events"] = OutletEventAccessors()
    copy(outlets=[asset])
    assert context["outlet_events"][asset].extra == {"call_id": call_id}


def test_call_may_be_a_summary(call_id: str, copy: Copy) -> None:
    assert copy(call_id={"id": call_id, "transcript": "said"})["call_id"] == call_id


@pytest.mark.parametrize(
    ("kind", "content_type", "extension"),
    [
        ("mono", "binary/octet-stream", "wav"),
        ("mono", "audio/mpeg", "mp3"),
        ("stereo", "Audio/X-WAV; rate=8000", "wav"),
        ("customer", "text/html", "wav"),
        ("assistant", "audio/ogg", "ogg"),
        ("video", "binary/octet-stream", "mp4"),
        ("video", "video/webm", "webm"),
        ("pcap", "application/octet-stream", "pcap"),
        ("call-logs", "application/json", "json"),
        ("call-logs", "binary/octet-stream", "jsonl"),
        ("call-logs", "application/gzip", "gz"),
    ],
)
def test_object_in_a_folder_has_a_name_and_extension(
    simulator: VapiSimulator,
    call_id: str,
    copy: Copy,
    tmp_path: Path,
    kind: str,
    content_type: str,
    extension: str,
) -> None:
    simulator.add_artifact(call_id, ARTIFACTS[kind], RECORDING, content_type=content_type)
    result = copy("recordings/", kind=kind)
    assert result["path"] == f"file://{tmp_path}/recordings/{call_id}-{kind}.{extension}"
    assert os.listdir(tmp_path / "recordings") == [f"{call_id}-{kind}.{extension}"]
    assert _EXTENSIONS.keys() == ARTIFACTS.keys()


def test_folder_may_be_a_whole_bucket(call_id: str, copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.io import attach

    attach("memory", fs=MemoryFileSystem())
    assert copy(path="memory://bucket/")["path"] == f"memory://bucket/{call_id}-mono.wav"
    assert MemoryFileSystem().cat_file(f"/bucket/{call_id}-mono.wav") == RECORDING


@pytest.mark.parametrize("if_exists", ["overwrite", "skip"])
def test_storage_connection_is_looked_up_once(
    call_id: str, copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, if_exists: str
) -> None:
    looked_up: list[str] = []
    monkeypatch.setattr("vapi_provider.transfers.target._check_connection", looked_up.append)
    monkeypatch.setenv("AIRFLOW_CONN_MY_STORE", json.dumps({"conn_type": "fs"}))
    copy(path=f"file://my_store@{tmp_path}/", if_exists=if_exists)
    assert looked_up == ["my_store"]


# Existing objects


@pytest.mark.parametrize("extension", ["wav", "mp3"])
def test_existing_file_is_checked_before_any_request(
    simulator: VapiSimulator, call_id: str, copy: Copy, tmp_path: Path, extension: str
) -> None:
    (tmp_path / f"{call_id}-mono.{extension}").write_text("there")
    with pytest.raises(AirflowSkipException, match="already exists"):
        copy(if_exists="skip")
    with pytest.raises(VapiPermanentError, match="already exists"):
        copy(if_exists="fail")
    assert simulator.requests == []
    copy(if_exists="overwrite")
    assert (tmp_path / f"{call_id}-mono.wav").read_bytes() == RECORDING


def test_skip_and_fail_copy_a_new_file(call_id: str, copy: Copy) -> None:
    for if_exists in ("skip", "fail"):
        assert copy(f"{if_exists}/", if_exists=if_exists)["bytes"] == len(RECORDING)


# Missing recordings


def test_missing_recording_skips_or_fails(simulator: VapiSimulator, copy: Copy, tmp_path: Path) -> None:
    simulator.add_call(status="ended", body=ENDED)
    with pytest.raises(AirflowSkipException, match="has no such file"):
        copy()
    with pytest.raises(VapiArtifactNotFoundError):
        copy(missing="fail")
    assert os.listdir(tmp_path) == []


def test_recording_that_may_still_appear_is_transient(simulator: VapiSimulator, copy: Copy) -> None:
    simulator.add_call(status="in-progress", body={"id": CALL_ID})
    with pytest.raises(VapiTransientError):
        copy()


def test_recording_past_its_retention_fails(simulator: VapiSimulator, call_id: str, copy: Copy) -> None:
    expired = '{"message": "expired", "error": "Bad Request", "statusCode": 400}'
    simulator.faults.add(Fault(path=f"/call/{call_id}/mono-recording", status=400, body=expired))
    with pytest.raises(VapiArtifactExpiredError):
        copy()


# Whole or not at all


@pytest.mark.parametrize(
    "fault",
    [Fault(times=None, status=500), Fault(times=None, reset="midway"), Fault(times=None, status=403)],
)
def test_failed_download_leaves_the_former_file(
    simulator: VapiSimulator, call_id: str, copy: Copy, tmp_path: Path, fault: Fault
) -> None:
    (tmp_path / "recording.wav").write_text("former")
    simulator.faults.add(Fault(**{**vars(fault), "path": f"/artifacts/{call_id}/mono-recording"}))
    with pytest.raises(VapiTransientError):
        copy("recording.wav")
    assert (tmp_path / "recording.wav").read_text() == "former"
    assert os.listdir(tmp_path) == ["recording.wav"]


def test_too_large_recording_leaves_nothing(call_id: str, copy: Copy, tmp_path: Path) -> None:
    with pytest.raises(VapiArtifactRefusedError):
        copy(max_bytes=5000)
    assert os.listdir(tmp_path) == []


def test_kill_before_the_replacement_leaves_nothing(
    call_id: str, copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_child: Callable[..., int]
) -> None:
    for name in ("os.fsync", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(name, lambda *_args: os.kill(os.getpid(), signal.SIGKILL))
            assert in_child(copy) == -signal.SIGKILL
    assert [name for name in os.listdir(tmp_path) if not name.startswith(".")] == []


# Refusals


def test_mapped_task_needs_a_path_of_its_own(
    simulator: VapiSimulator, call_id: str, copy: Copy, context: Any
) -> None:
    context["ti"].map_index = 0
    with pytest.raises(VapiConfigurationError, match="does not contain the call id"):
        copy("recording.wav")
    assert simulator.requests == []
    copy(f"{call_id.upper()}.wav")
    copy("folder/")


MAPPED = {
    "expand": lambda fixed: fixed.expand(kind=["mono", "stereo"]),
    "expand-kwargs": lambda fixed: fixed.expand_kwargs([{"kind": "stereo"}]),
}


def mapped_task(arguments: dict[str, Any], expand: Callable[[Any], Any], kind: str) -> Any:
    with DAG("mapped", schedule=None, default_args={"retries": 0}):
        mapped = expand(VapiRecordingToObjectStorageOperator.partial(task_id="copy", **arguments))
    return mapped.unmap({"kind": kind})


@pytest.mark.parametrize("name", ["{}.wav", "mono-stereo/{}.wav", "{}-stereo.wav"])
@pytest.mark.parametrize(
    ("how", "kind"), [("expand", "mono"), ("expand", "stereo"), ("expand-kwargs", "mono")]
)
def test_mapped_kinds_need_a_folder(
    simulator: VapiSimulator, call_id: str, tmp_path: Path, context: Any, how: str, kind: str, name: str
) -> None:
    context["ti"].map_index = 0
    path = f"file://{tmp_path}/{name.format(call_id)}"
    with pytest.raises(VapiConfigurationError, match="kind is mapped, .* End path with a slash"):
        mapped_task({"call_id": call_id, "path": path}, MAPPED[how], kind).execute(context)
    assert simulator.requests == []
    simulator.add_artifact(call_id, ARTIFACTS["stereo"], RECORDING)
    folder = {"call_id": call_id, "path": f"file://{tmp_path}/"}
    result = mapped_task(folder, MAPPED[how], kind).execute(context)
    assert result["path"] == f"file://{tmp_path}/{call_id}-{kind}.wav"


def test_default_kind_needs_no_folder(call_id: str, tmp_path: Path, context: Any) -> None:
    context["ti"].map_index = 0
    path = f"file://{tmp_path}/{call_id}.wav"
    with DAG("mapped", schedule=None):
        fixed = VapiRecordingToObjectStorageOperator.partial(task_id="copy", path=path)
        mapped = fixed.expand_kwargs([{"call_id": call_id}])
    assert mapped.unmap({"call_id": call_id}).execute(context)["kind"] == "mono"


def test_constant_kind_need_not_be_in_the_path(
    simulator: VapiSimulator, call_id: str, tmp_path: Path, context: Any
) -> None:
    context["ti"].map_index = 0
    simulator.add_artifact(call_id, ARTIFACTS["stereo"], RECORDING)
    arguments = {"path": f"file://{tmp_path}/{call_id}.wav"}
    with DAG("mapped", schedule=None, default_args={"kind": "stereo"}):
        by_default = VapiRecordingToObjectStorageOperator.partial(task_id="by_default", **arguments)
        fixed = VapiRecordingToObjectStorageOperator.partial(task_id="fixed", kind="stereo", **arguments)
        mapped = [by_default.expand(call_id=[call_id]), fixed.expand_kwargs([{"call_id": call_id}])]
    for each in mapped:
        assert each.unmap({"call_id": call_id}).execute(context)["kind"] == "stereo"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        pytest.param({"call_id": None}, "call_id is empty", id="no-call"),
        pytest.param({"path": ""}, "path is empty", id="no-path"),
        pytest.param({"path": "recordings/"}, "no scheme", id="no-scheme"),
        pytest.param({"storage_conn_id": "nowhere"}, "no connection 'nowhere'", id="storage"),
        pytest.param({"kind": "both"}, "kind must be one of", id="kind"),
        pytest.param({"missing": "ignore"}, "missing must be one of", id="missing"),
        pytest.param({"if_exists": "replace"}, "if_exists must be one of", id="if-exists"),
        pytest.param({"max_bytes": -1}, "max_bytes must be", id="max-bytes"),
        pytest.param({"vapi_conn_id": "nowhere"}, "no connection 'nowhere'", id="vapi"),
    ],
)
def test_bad_argument_is_refused_before_any_request(
    simulator: VapiSimulator, call_id: str, copy: Copy, arguments: dict[str, Any], problem: str
) -> None:
    with pytest.raises(VapiConfigurationError, match=problem):
        copy(**arguments)
    assert simulator.requests == []
