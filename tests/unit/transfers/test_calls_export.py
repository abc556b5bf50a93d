# SPDX-License-Identifier: Apache-2.0
"""VapiCallsToObjectStorageOperator exports the calls of an interval: sorted, counted and complete."""

from __future__ import annotations

import gzip
import json
import logging
import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests_mock

from airflow.providers.common.compat.sdk import AirflowSkipException
from vapi_provider.exceptions import VapiConfigurationError, VapiPermanentError, VapiTransientError
from vapi_provider.models.outcome import CallOutcome
from vapi_provider.models.summary import CallSummary
from vapi_provider.simulator import Fault, ManualClock, VapiSimulator

Export = Callable[..., Any]
NOON = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
SAID = "User: Tuesday, please.\u2028Bye \U0001f44b"


def stamp(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def add(simulator: VapiSimulator, created_at: datetime = NOON, **body: Any) -> str:
    """Add an ended call."""
    shown = stamp(created_at)
    return simulator.add_call(
        status="ended", body={"createdAt": shown, "updatedAt": shown, "endedAt": shown, **body}
    )


def lines(path: Path) -> list[dict[str, Any]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    text = content.decode()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_lines_are_the_summaries_of_the_interval(
    simulator: VapiSimulator, export: Export, tmp_path: Path
) -> None:
    begin, end = datetime(2026, 3, 10, tzinfo=timezone.utc), datetime(2026, 3, 11, tzinfo=timezone.utc)
    for outside in (begin - timedelta(milliseconds=1), end):
        add(simulator, outside)
    first = add(simulator, begin, artifact={"transcript": SAID}, cost=0.1)
    last = add(simulator, end - timedelta(milliseconds=1), endedReason="voicemail", cost=0.2)
    result = export(include=["transcript"])
    written = lines(tmp_path / "calls.jsonl")
    assert [line["id"] for line in written] == [last, first]
    assert written[1]["transcript"] == SAID
    assert set(written[0]) == {*CallSummary.__required_keys__, "transcript"}
    assert result == {
        "path": f"file://{tmp_path}/calls.jsonl",
        "calls": 2,
        "unfinished": 0,
        "scheduled": 0,
        "bytes": (tmp_path / "calls.jsonl").stat().st_size,
        "cost": 0.3,
        "outcomes": {"completed": 1, "no_answer": 1, "cancelled": 0, "failed": 0, "unknown": 0},
        "schema_version": 1,
    }
    assert list(result["outcomes"]) == [outcome.value for outcome in CallOutcome]


def test_text_is_utf_8_with_one_line_per_call(
    simulator: VapiSimulator, export: Export, tmp_path: Path
) -> None:
    add(simulator, artifact={"transcript": SAID})
    export(include=["transcript"])
    content = (tmp_path / "calls.jsonl").read_bytes()
    assert "\U0001f44b".encode() in content
    assert len(content.decode().splitlines()) == content.count(b"\n") == 1


def test_odd_texts_are_written(simulator: VapiSimulator, export: Export, tmp_path: Path) -> None:
    odd = "half \ud83d a character, \x00, \x85 and \u2029"
    add(simulator, name=odd, artifact={"transcript": odd, "messages": [{"role": odd, "message": odd}]})
    assert export(include=["transcript", "messages", "structured_outputs", "analysis"])["calls"] == 1
    [line] = lines(tmp_path / "calls.jsonl")
    assert "a character" in line["transcript"]


def test_compressed_object_is_the_same_each_time(
    simulator: VapiSimulator, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minute in range(3):
        add(simulator, NOON + timedelta(minutes=minute))
    export("calls.jsonl.gz")
    first = (tmp_path / "calls.jsonl.gz").read_bytes()
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert export("calls.jsonl.gz")["bytes"] == len(first)
    assert (tmp_path / "calls.jsonl.gz").read_bytes() == first
    assert len(lines(tmp_path / "calls.jsonl.gz")) == 3


def test_no_calls_give_an_empty_object(simulator: VapiSimulator, export: Export, tmp_path: Path) -> None:
    result = export()
    assert (result["calls"], result["bytes"], result["cost"]) == (0, 0, 0)
    assert (tmp_path / "calls.jsonl").read_bytes() == b""


@pytest.mark.parametrize(("cost", "total"), [(0.25, 0.5), (1e308, None), (-1e308, None)])
def test_sum_of_costs_is_valid_json(
    simulator: VapiSimulator, export: Export, tmp_path: Path, cost: float, total: float | None
) -> None:
    for _ in range(2):
        add(simulator, NOON, cost=cost)
    assert json.loads(json.dumps(export(), allow_nan=False))["cost"] == total
    lines = (tmp_path / "calls.jsonl").read_text().splitlines()
    assert [json.loads(line)["cost"] for line in lines] == [cost] * 2


class ShuffledList:
    """Lists calls newest first, with ties in random order."""

    def __init__(self, calls: list[tuple[str, str]], late: list[tuple[str, str]] | None = None) -> None:
        self.calls = calls
        self._late = late or []

    def __call__(self, request: Any, context: Any) -> Any:
        if request.qs.get("createdatle"):
            self.calls = self.calls + self._late
            self._late = []
        query = request.qs
        bound = query.get("createdatle", ["9999"])[0].upper().replace(" ", "+")
        before = query.get("createdatlt", ["9999"])[0].upper().replace(" ", "+")
        rows = [
            call
            for call in self.calls
            if datetime.fromisoformat(call[1]) <= _parsed(bound)
            and datetime.fromisoformat(call[1]) < _parsed(before)
        ]
        random.shuffle(rows)
        rows.sort(key=lambda call: call[1], reverse=True)
        return [
            {"id": call_id, "createdAt": at, "status": "ended", "cost": 0.1}
            for call_id, at in rows[: int(query["limit"][0])]
        ]


def _parsed(bound: str) -> datetime:
    return datetime.max.replace(tzinfo=timezone.utc) if bound == "9999" else datetime.fromisoformat(bound)


@pytest.mark.usefixtures("simulator")
def test_ties_are_sorted_by_id(export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", json.dumps({"conn_type": "vapi", "password": "the-key"}))
    # Ties across page boundaries, and calls closer together than the overlap of pages.
    instants = [(NOON + timedelta(microseconds=300 * (number // 40))).isoformat() for number in range(350)]
    calls = [(f"call-{number:03}", at) for number, at in enumerate(instants)]
    contents = set()
    with requests_mock.Mocker() as api:
        api.get("https://api.vapi.ai/call", json=ShuffledList(calls))
        for _ in range(5):
            assert export()["cost"] == 35
            contents.add((tmp_path / "calls.jsonl").read_bytes())
    [content] = contents
    written = [json.loads(line) for line in content.splitlines()]
    assert [line["id"] for line in written] == [
        call_id for call_id, _ in sorted(sorted(calls), key=lambda call: call[1], reverse=True)
    ]


@pytest.mark.usefixtures("simulator")
def test_late_call_of_the_list_is_sorted(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", json.dumps({"conn_type": "vapi", "password": "the-key"}))
    calls = [(f"call-{number:03}", (NOON - timedelta(seconds=number)).isoformat()) for number in range(150)]
    # Newer than the last two calls of the first page, but listed only on the second.
    last = NOON - timedelta(seconds=99)
    calls[98] = ("call-098", (last + timedelta(microseconds=300)).isoformat())
    late = ("call-late", (last + timedelta(microseconds=500)).isoformat())
    with requests_mock.Mocker() as api:
        api.get("https://api.vapi.ai/call", json=ShuffledList(calls, [late]))
        export()
    written = [line["id"] for line in lines(tmp_path / "calls.jsonl")]
    expected = [call_id for call_id, _ in sorted([*calls, late], key=lambda call: call[1], reverse=True)]
    assert written == expected


def test_call_in_the_millisecond_of_the_first_bound_is_exported(
    simulator: VapiSimulator, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", json.dumps({"conn_type": "vapi", "password": "the-key"}))
    first = (NOON + timedelta(microseconds=123_000)).isoformat()
    with requests_mock.Mocker() as api:
        api.get("https://api.vapi.ai/call", json=ShuffledList([("call-1", first)]))
        assert export(created_at_ge=NOON + timedelta(microseconds=123_456))["calls"] == 1
        with pytest.raises(VapiTransientError, match="created outside the interval"):
            export(created_at_ge=NOON + timedelta(microseconds=124_000))


def test_filters_are_sent(simulator: VapiSimulator, export: Export) -> None:
    assistant = "0198a3f0-0000-7000-8000-00000000000a"
    add(simulator, assistantId=assistant)
    add(simulator)
    assert export(assistant_id=assistant)["calls"] == 1
    assert export(phone_number_id=assistant, if_exists="replace")["calls"] == 0
    assert {request.query.get("assistantId") for request in simulator.requests} == {assistant, None}


# Unfinished exports


def test_unfinished_calls_are_written_then_retried(
    simulator: VapiSimulator, export: Export, tmp_path: Path, context: Any, clock: ManualClock
) -> None:
    simulator.add_call(status="in-progress", body={"createdAt": stamp(NOON)})
    add(simulator, endedAt=stamp(clock.now() - timedelta(seconds=59)))
    add(simulator, endedAt=stamp(clock.now() - timedelta(seconds=60)))
    with pytest.raises(VapiTransientError, match="2 calls are live or ended less than 60 s ago"):
        export()
    assert len(lines(tmp_path / "calls.jsonl")) == 3
    context["ti"].try_number = 2
    with pytest.raises(VapiTransientError):
        export()
    context["ti"].try_number = 3
    assert export()["unfinished"] == 2


def test_unfinished_calls_may_be_kept(
    simulator: VapiSimulator, export: Export, caplog: pytest.LogCaptureFixture
) -> None:
    simulator.add_call(status="ringing", body={"createdAt": stamp(NOON)})
    with caplog.at_level(logging.WARNING):
        assert export(unfinished="keep")["unfinished"] == 1
    assert "1 call is live or ended less than 60 s ago" in caplog.text


def test_live_status_with_an_end_counts_as_over(simulator: VapiSimulator, export: Export) -> None:
    ended = {"createdAt": stamp(NOON), "endedAt": stamp(NOON), "endedReason": "customer-ended-call"}
    simulator.add_call(status="in-progress", body=ended)
    assert export()["unfinished"] == 0


def test_scheduled_calls_are_counted_apart(simulator: VapiSimulator, export: Export) -> None:
    simulator.add_call(status="scheduled", body={"createdAt": stamp(NOON)})
    result = export()
    assert (result["calls"], result["unfinished"], result["scheduled"]) == (1, 0, 1)


@pytest.mark.parametrize("has_calls", [True, False])
def test_interval_that_ends_in_the_future_is_unfinished(
    simulator: VapiSimulator, export: Export, context: Any, clock: ManualClock, has_calls: bool
) -> None:
    if has_calls:
        add(simulator)
    # By Vapi's clock, which is behind the clock of this machine.
    end = stamp(clock.now() + timedelta(seconds=1))
    with pytest.raises(VapiTransientError, match="the interval ends in the future, at 2026-03-12T00:00:01"):
        export(created_at_lt=end)
    for seconds in (1, 29):
        clock.advance(seconds)
        with pytest.raises(
            VapiTransientError, match="ended less than 30 s ago, so Vapi's list may lack calls"
        ):
            export(created_at_lt=end)
    clock.advance(1)
    assert export(created_at_lt=end)["unfinished"] == 0
    context["ti"].try_number = 3
    assert export(created_at_lt=stamp(clock.now() + timedelta(seconds=1)))["unfinished"] == 1


@pytest.mark.parametrize("if_exists", ["skip", "fail"])
def test_unfinished_export_does_not_block_its_retry(
    simulator: VapiSimulator, export: Export, tmp_path: Path, if_exists: str
) -> None:
    call_id = simulator.add_call(status="in-progress", body={"createdAt": stamp(NOON)})
    with pytest.raises(VapiTransientError):
        export(if_exists=if_exists)
    assert list(tmp_path.iterdir()) == []
    simulator.end_call(call_id)
    simulator.clock.advance(60)  # type: ignore[attr-defined]
    assert export(if_exists=if_exists)["unfinished"] == 0


@pytest.mark.parametrize(("seconds", "naps"), [(-33, []), (-10, [22]), (10, [42]), (31, []), (86_400, [])])
def test_list_is_read_30_seconds_after_the_end(
    simulator: VapiSimulator, export: Export, monkeypatch: pytest.MonkeyPatch, seconds: int, naps: list[int]
) -> None:
    slept: list[tuple[int, int]] = []
    monkeypatch.setattr(
        "vapi_provider.transfers.export.time",
        SimpleNamespace(
            sleep=lambda nap: slept.append((round(nap), len(simulator.requests))), monotonic=lambda: 0.0
        ),
    )
    simulator.clock.advance(86_400 * 3650)  # type: ignore[attr-defined]
    export(created_at_lt=datetime.now(timezone.utc) + timedelta(seconds=seconds))
    assert slept == [(nap, 0) for nap in naps]


def test_progress_is_logged_every_30_seconds(
    simulator: VapiSimulator,
    export: Export,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for minute in range(9):
        add(simulator, NOON + timedelta(minutes=minute))
    ticks = iter(range(0, 10_000, 10))
    monkeypatch.setattr("vapi_provider.transfers.export.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    with caplog.at_level(logging.INFO):
        export()
    assert "Exporting (calls so far: 3, back to 2026-03-10 12:06:00+00:00)." in caplog.text
    assert caplog.text.count("so far") in (2, 3)


# Existing objects


@pytest.mark.parametrize("name", ["calls.jsonl", "calls.jsonl.gz"])
def test_object_is_not_replaced_by_a_smaller_one(
    simulator: VapiSimulator, export: Export, tmp_path: Path, name: str
) -> None:
    add(simulator)
    add(simulator)
    export(name)
    former = (tmp_path / name).read_bytes()
    fewer = {"assistant_id": "0198a3f0-0000-7000-8000-00000000000a"}
    add(simulator, assistantId=fewer["assistant_id"])
    with pytest.raises(
        VapiPermanentError, match=r"more calls \(2\) than Vapi now lists for the interval \(1\)"
    ):
        export(name, **fewer)
    assert (tmp_path / name).read_bytes() == former
    assert export(name)["calls"] == 3
    assert export(name, **fewer, if_exists="replace")["calls"] == 1


def test_damaged_object_is_not_replaced(simulator: VapiSimulator, export: Export, tmp_path: Path) -> None:
    add(simulator)
    export("calls.jsonl.gz")
    path = tmp_path / "calls.jsonl.gz"
    damaged = path.read_bytes()[:-9]
    path.write_bytes(damaged)
    with pytest.raises(VapiPermanentError, match="not a complete gzip file"):
        export("calls.jsonl.gz")
    assert path.read_bytes() == damaged
    assert export("calls.jsonl.gz", if_exists="replace")["calls"] == 1


def test_existing_object_is_checked_before_any_request(
    simulator: VapiSimulator, export: Export, tmp_path: Path
) -> None:
    (tmp_path / "calls.jsonl").write_text("there\n")
    with pytest.raises(AirflowSkipException, match="already exists"):
        export(if_exists="skip")
    with pytest.raises(VapiPermanentError, match="already exists"):
        export(if_exists="fail")
    assert simulator.requests == []
    assert (tmp_path / "calls.jsonl").read_text() == "there\n"


@pytest.mark.parametrize("if_exists", ["overwrite", "replace", "skip"])
def test_folder_as_path_is_refused(
    simulator: VapiSimulator, export: Export, tmp_path: Path, if_exists: str
) -> None:
    (tmp_path / "calls.jsonl").mkdir()
    with pytest.raises(VapiConfigurationError, match="is a folder"):
        export(if_exists=if_exists)
    assert simulator.requests == []


# Refusals


@pytest.mark.parametrize(
    "bound", [None, "", "None", " ", "yesterday", "2026-03-10T00:00:00", 1773100800, True]
)
@pytest.mark.parametrize("name", ["created_at_ge", "created_at_lt"])
def test_unusable_bound_is_refused(
    simulator: VapiSimulator, export: Export, tmp_path: Path, name: str, bound: Any
) -> None:
    with pytest.raises(VapiConfigurationError, match=f"^{name} "):
        export(**{name: bound})
    assert simulator.requests == []
    assert list(tmp_path.iterdir()) == []


def test_reversed_interval_is_refused(simulator: VapiSimulator, export: Export) -> None:
    with pytest.raises(
        VapiConfigurationError, match="ends before it begins. Pass the earlier time"
    ) as caught:
        export(created_at_lt="2026-03-09T00:00:00Z")
    # The schedule is not the cause.
    assert "@daily" not in str(caught.value)
    assert simulator.requests == []


@pytest.mark.parametrize("name", ["created_at_ge", "created_at_lt"])
def test_missing_bound_is_explained(export: Export, name: str) -> None:
    with pytest.raises(VapiConfigurationError, match="without a logical date has no data interval") as caught:
        export(**{name: ""})
    assert "@daily" not in str(caught.value)


@pytest.mark.parametrize("end", ["2026-03-10T00:00:00Z", "2026-03-10T01:00:00+01:00"])
def test_empty_interval_is_refused_and_explained(simulator: VapiSimulator, export: Export, end: str) -> None:
    with pytest.raises(VapiConfigurationError, match="@daily.*CronDataIntervalTimetable") as caught:
        export(created_at_lt=end)
    assert "interval=timedelta(days=1)" in str(caught.value)
    assert simulator.requests == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        pytest.param({"path": ""}, "path is empty", id="empty"),
        pytest.param({"path": "None"}, "path is empty", id="rendered-none"),
        pytest.param({"path": None}, "path is empty", id="none"),
        pytest.param({"path": "/data/calls.jsonl"}, "has no scheme", id="no-scheme"),
        pytest.param({"path": "s3:/bucket/calls.jsonl"}, "has no scheme", id="one-slash"),
        pytest.param({"path": "file:///data/"}, "no object name", id="folder"),
        pytest.param({"path": "s3://bucket"}, "no object name", id="bucket"),
        pytest.param({"path": "s3://bucket/a::b.jsonl"}, "chains filesystems", id="chain"),
        pytest.param({"path": "s3://bucket/a?versionId=1"}, "id of a version", id="version"),
        pytest.param({"path": "s3:///calls.jsonl"}, "has no bucket", id="no-bucket"),
        pytest.param({"path": "file://data/calls.jsonl"}, "three slashes", id="two-slashes"),
        pytest.param({"path": "file:///data/a\nb"}, "line break", id="line-break"),
        pytest.param({"path": "ftps-x://host/calls"}, "cannot open ftps-x", id="unknown-scheme"),
        pytest.param({"storage_conn_id": ""}, "must be the id", id="empty-connection"),
        pytest.param({"storage_conn_id": "nowhere"}, "no connection 'nowhere'", id="no-connection"),
        pytest.param(
            {"path": "file://a@/data/x", "storage_conn_id": "b"}, "names a connection", id="two-connections"
        ),
        pytest.param({"path": "s3://user:word@bucket/x"}, "contains credentials", id="credentials"),
        pytest.param(
            {"path": "file://nowhere@/data/x"}, "no connection 'nowhere'", id="no-connection-of-url"
        ),
        pytest.param({"include": ["everything"]}, "include must be", id="include"),
        pytest.param({"unfinished": "wait"}, "unfinished must be one of retry, keep", id="unfinished"),
        pytest.param({"if_exists": "append"}, "if_exists must be one of", id="if-exists"),
        pytest.param({"assistant_id": ""}, "assistant_id must be an id", id="assistant"),
        pytest.param({"vapi_conn_id": "nowhere"}, "no connection 'nowhere'", id="no-vapi-connection"),
    ],
)
def test_bad_argument_is_refused_before_any_request(
    simulator: VapiSimulator, export: Export, tmp_path: Path, arguments: dict[str, Any], problem: str
) -> None:
    with pytest.raises(VapiConfigurationError, match=problem) as caught:
        export(**arguments)
    assert "user:word" not in str(caught.value)
    assert simulator.requests == []
    assert list(tmp_path.iterdir()) == []


def test_result_has_no_storage_connection(
    simulator: VapiSimulator, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MY_STORE", json.dumps({"conn_type": "fs"}))
    assert export(path=f"file://my_store@{tmp_path}/a.jsonl")["path"] == f"file://{tmp_path}/a.jsonl"
    assert export("b.jsonl", storage_conn_id="my_store")["path"] == f"file://{tmp_path}/b.jsonl"


def test_list_with_a_gap_is_an_error(simulator: VapiSimulator, export: Export, tmp_path: Path) -> None:
    add(simulator)
    export()
    former = (tmp_path / "calls.jsonl").read_bytes()
    rows = [{"id": f"call-{number}", "createdAt": stamp(NOON)} for number in range(1000)]
    simulator.faults.add(Fault(path="/call", times=None, body=json.dumps(rows)))
    with pytest.raises(VapiTransientError, match="cannot continue"):
        export()
    assert (tmp_path / "calls.jsonl").read_bytes() == former


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"createdAt": "2020-01-01T00:00:00Z"}, "created outside the interval"),
        ({"createdAt": "2026-03-11T00:00:00Z"}, "created outside the interval"),
        ({"createdAt": stamp(NOON), "assistantId": "another"}, "of another assistant"),
    ],
    ids=["long ago", "end of the interval", "another assistant"],
)
def test_call_that_was_not_asked_for_is_an_error(
    simulator: VapiSimulator, export: Export, tmp_path: Path, row: dict[str, str], says: str
) -> None:
    rows = [{"id": "0198a3f0-0000-7000-8000-000000000001", **row}]
    simulator.faults.add(Fault(path="/call", times=None, body=json.dumps(rows)))
    with pytest.raises(VapiTransientError, match=says):
        export(assistant_id="mine")
    assert list(tmp_path.iterdir()) == []


def test_last_line_without_an_end_counts(simulator: VapiSimulator, export: Export, tmp_path: Path) -> None:
    add(simulator)
    (tmp_path / "calls.jsonl").write_text('{"id": 1}\n{"id": 2}')
    with pytest.raises(VapiPermanentError, match=r"more calls \(2\)"):
        export()
