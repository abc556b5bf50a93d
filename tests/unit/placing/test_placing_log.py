# SPDX-License-Identifier: Apache-2.0
"""What the log of a try says of its call, and the command that finds the call where a person has to."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from ways import kill_at

from vapi_provider.__main__ import main
from vapi_provider.exceptions import VapiCallInDoubtError, VapiTransientError
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.simulator import Fault, Timeline

if TYPE_CHECKING:
    from airflow_model import AirflowModel, Slot

LIVE = Timeline(ringing=1, answered=3, ended=None)


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    # Airflow's own logger writes past pytest.
    monkeypatch.setattr(VapiCreateCallOperator, "log", logging.getLogger("task"))
    caplog.set_level(logging.INFO)


def placed_by_killed_worker(model: AirflowModel, slot: Slot) -> None:
    kill_at(model, slot, "sent.POST")


def placed_and_ended(model: AirflowModel, slot: Slot) -> None:
    kill_at(model, slot, "sent.POST")
    (call_id,) = model.simulator.calls
    model.simulator.end_call(call_id)


def placed_by_an_earlier_try(model: AirflowModel, slot: Slot) -> None:
    slot.attempt()


def response_is_lost(model: AirflowModel, slot: Slot) -> None:
    model.simulator.faults.add(Fault(method="POST", path="/call", status=502, effect=True))


CASES: dict[str, tuple[Callable[[Any, Any], None] | None, str]] = {
    "first-try": (None, "Placed call {}."),
    "killed-worker": (placed_by_killed_worker, "Adopted call {}, placed by an earlier try."),
    "earlier-try": (placed_by_an_earlier_try, "Adopted call {}, placed by an earlier try."),
    "ended": (placed_and_ended, "Call {} had already ended; an earlier try placed it."),
    "lost-response": (response_is_lost, "The response was lost, but call {} was placed."),
}


@pytest.mark.parametrize(("before", "says"), CASES.values(), ids=CASES)
def test_one_line_says_how_the_try_got_its_call(
    model: AirflowModel,
    before: Callable[[Any, Any], None] | None,
    says: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model.simulator.timeline = LIVE
    slot = model.slot()
    if before is not None:
        before(model, slot)
    caplog.clear()
    slot.attempt()
    (call,) = model.simulator.calls.values()
    lines = [record.getMessage() for record in caplog.records if record.name == "task"]
    assert [line for line in lines if call["id"] in line] == [says.format(call["id"])]
    token = call["assistantOverrides"]["variableValues"]["airflow_token"]
    assert [line for line in lines if token in line] == [f"The call's token is {token}."]


def test_token_is_logged_before_the_request(model: AirflowModel, caplog: pytest.LogCaptureFixture) -> None:
    kill_at(model, model.slot(), "send.POST")
    assert re.search(r"The call's token is [a-z2-7]{8}\.", caplog.text)


def refuse_list(model: AirflowModel) -> type[Exception]:
    model.simulator.faults.add(Fault(method="GET", path="/call", status=400, times=None))
    return VapiCallInDoubtError


def break_list(model: AirflowModel) -> type[Exception]:
    model.simulator.faults.add(Fault(method="GET", path="/call", status=503, times=None))
    return VapiTransientError


@pytest.mark.parametrize("spoil", [refuse_list, break_list])
@pytest.mark.parametrize("conn_id", ["vapi_default", "vapi of 'the' sales"])
def test_command_in_an_error_finds_the_call(
    model: AirflowModel,
    spoil: Callable[[Any], type[Exception]],
    conn_id: str,
    set_connection: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_connection(model.simulator, conn_id, extra={"max_retries": 0})
    slot = model.slot(vapi_conn_id=conn_id)
    kill_at(model, slot, "sent.POST")
    model.pass_time(2 * 24 * 3600)
    with pytest.raises(spoil(model), match="A call may have been placed") as failure:
        slot.attempt()
    model.simulator.faults.clear()
    command = shlex.split(str(failure.value).partition("To check whether the call exists, run: ")[2])
    assert command[:3] == ["python", "-m", "vapi_provider"]
    assert main(command[3:]) == 0
    (call,) = model.simulator.calls.values()
    # On Airflow 3.0 its own log is there, too.
    assert f"{call['id']}  ended  completed  {model.simulator.url}/calls/" in capsys.readouterr().out


def test_command_looks_back_to_the_run_without_a_record(model: AirflowModel) -> None:
    began_at = datetime.fromtimestamp(model.now - 3600, timezone.utc)
    slot = model.slot()
    kill_at(model, slot, "sent.POST")
    slot.stored.clear()
    refuse_list(model)
    with pytest.raises(VapiCallInDoubtError, match=re.escape(f" --since {began_at:%Y-%m-%dT%H:%MZ}")):
        slot.attempt()
