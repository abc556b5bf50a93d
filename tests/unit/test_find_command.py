# SPDX-License-Identifier: Apache-2.0
"""``python -m vapi_provider find`` finds calls by token, and shows personal data only on demand."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from vapi_provider.__main__ import main
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.simulator import Fault, ManualClock

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator

TOKEN, OTHER = "abcd2345", "abcd2346"
PEOPLE = ("Ada", "+12025550143", "Reminder", "A-1")


@pytest.fixture
def clock() -> ManualClock:
    # The command's default depends on the real time.
    return ManualClock(datetime.now(timezone.utc))


def add_call(simulator: VapiSimulator, **fields: Any) -> str:
    body = {
        "name": f"Reminder #{TOKEN}",
        "customer": {"number": "+12025550143", "name": "Ada", "externalId": "A-1"},
        "assistantOverrides": {"variableValues": {"airflow_token": TOKEN, "first_name": "Ada"}},
    }
    return simulator.add_call(body={**body, **fields})


def test_call_is_shown_by_id_status_outcome_and_link(
    simulator: VapiSimulator, capsys: pytest.CaptureFixture[str]
) -> None:
    call_id = add_call(simulator)
    add_call(simulator, name=f"Reminder #{OTHER}", assistantOverrides={})
    simulator.end_call(call_id, "customer-busy")
    assert main(["find", TOKEN]) == 0
    line, summary = capsys.readouterr().out.splitlines()
    assert line == f"{call_id}  ended  no_answer  {VapiHook().dashboard_url(call_id)}"
    assert summary.startswith(f"1 call with token {TOKEN} created since ")
    assert not any(word in line for word in PEOPLE)


def test_call_is_found_by_name_or_variable_value(
    simulator: VapiSimulator, capsys: pytest.CaptureFixture[str]
) -> None:
    by_name = add_call(simulator, assistantOverrides={})
    by_value = add_call(simulator, name="Renamed")
    assert main(["find", f"#{TOKEN.upper()}"]) == 0
    *lines, summary = capsys.readouterr().out.splitlines()
    assert {line.partition("  ")[0] for line in lines} == {by_name, by_value}
    assert all("  queued  no outcome yet  " in line for line in lines)
    assert summary.startswith("2 calls ")


def test_callee_is_shown_on_demand(simulator: VapiSimulator, capsys: pytest.CaptureFixture[str]) -> None:
    add_call(simulator)
    assert main(["find", TOKEN, "--show"]) == 0
    shown = capsys.readouterr().out.splitlines()[0].split("  ")[4:]
    assert shown == [f"Reminder #{TOKEN}", "+12025550143", "Ada", "A-1"]


def test_search_ends_at_the_given_time(
    simulator: VapiSimulator, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    placed_at = clock.now()
    add_call(simulator, createdAt=(placed_at - timedelta(days=3)).isoformat())
    assert main(["find", TOKEN]) == 1
    assert capsys.readouterr().out.startswith(f"No calls with token {TOKEN} created since ")
    assert main(["find", TOKEN, "--since", f"{placed_at - timedelta(days=4):%Y-%m-%dT%H:%MZ}"]) == 0
    assert main(["find", TOKEN, "--since", f"{placed_at - timedelta(days=4):%Y-%m-%d}"]) == 0
    assert main(["find", TOKEN, "--since", f"{placed_at - timedelta(days=2):%Y-%m-%d}"]) == 1


def test_conn_id_option_selects_the_connection(
    simulator: VapiSimulator, set_connection: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    call_id = add_call(simulator)
    set_connection(simulator, "vapi_sales")
    set_connection(simulator, password="wrong")
    assert main(["find", TOKEN, "--conn-id", "vapi_sales"]) == 0
    assert call_id in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (
            {"status": 403, "body": '{"message": "No", "error": "x", "statusCode": 403}'},
            "lacks the permission",
        ),
        ({"status": 503}, "A later try may succeed"),
    ],
)
@pytest.mark.parametrize("connection_extra", [{"max_retries": 0}], ids=["no-retries"])
def test_failed_search_is_not_a_miss(
    simulator: VapiSimulator, fault: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    add_call(simulator)
    simulator.faults.add(Fault(method="GET", **fault))
    assert main(["find", TOKEN]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert says in printed.err
    assert simulator.api_key not in printed.err


@pytest.mark.parametrize("connection_extra", [{"max_retries": 0}], ids=["no-retries"])
def test_found_call_counts_although_the_search_failed_later(
    simulator: VapiSimulator, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    older, newer = (
        add_call(simulator, createdAt=(clock.now() - timedelta(minutes=age)).isoformat()) for age in (2, 1)
    )
    simulator.faults.add(Fault(method="GET", path=f"/call/{older}", status=503))
    assert main(["find", TOKEN, "--show"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(newer)
    assert len(printed.out.splitlines()) == 1
    assert "A later try may succeed" in printed.err


def test_page_that_is_empty_by_mistake_is_not_a_miss(simulator: VapiSimulator) -> None:
    add_call(simulator)
    simulator.faults.add(Fault(method="GET", path="/call", body="[]"))
    assert main(["find", TOKEN]) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "required: find"),
        (["find"], "required: token"),
        (["find", "12025550143"], "must be 8 letters and digits"),
        (["find", TOKEN, "--since", "yesterday"], "must look like 2026-11-22"),
    ],
)
def test_usage_is_explained(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert says in capsys.readouterr().err


def test_help_works_without_airflow() -> None:
    program = "import sys; sys.modules['airflow'] = None; from vapi_provider.__main__ import main; main(['find', '-h'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--conn-id" in done.stdout


def test_unexpected_error_is_not_a_miss(
    simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("requests.Session.send", lambda *_, **__: 1 / 0)
    assert main(["find", TOKEN]) == 2
    assert (
        capsys.readouterr().err.strip()
        == "The search failed (ZeroDivisionError). The call may exist; check the Vapi dashboard."
    )
