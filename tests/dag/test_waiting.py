# SPDX-License-Identifier: Apache-2.0
"""A waiting task ends in the same state, with the same result and words, whichever way it waits."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from vapi_provider.simulator import Fault, VapiSimulator

UNKNOWN_ID = "019a7c2e-5f00-7000-8000-000000000001"


def at_each_look(simulator: VapiSimulator, *answers: Fault | str, then: str) -> str:
    """Add a call whose first looks get these answers, a text standing for a status; later ones get the call's own."""
    call_id = simulator.add_call(status=then)
    for answer in answers:
        fault = (
            answer if isinstance(answer, Fault) else Fault(body=json.dumps({"id": call_id, "status": answer}))
        )
        simulator.faults.add(
            Fault(path=f"/call/{call_id}", status=fault.status, body=fault.body, reset=fault.reset)
        )
    return call_id


class Situations:
    """Rows of the table of what a wait means: how long to wait for which call, and what comes of it."""

    def __init__(self, simulator: VapiSimulator, *, soft_fail: bool) -> None:
        self.waits: list[dict[str, Any]] = []
        self.expected: dict[str, Any] = {}
        self.messages: list[str] = []
        self._simulator = simulator
        self._final = "skipped" if soft_fail else "failed"

    def succeeds(self, row: str, call_id: str, *, tries: int = 1, **arguments: Any) -> None:
        self._add(row, call_id, ("success", tries, call_id), arguments)

    def fails(self, row: str, call_id: Any, message: str, **arguments: Any) -> None:
        self.messages.append(message)
        self._add(row, call_id, (self._final, 1, None), arguments)

    def _add(self, row: str, call_id: Any, expected: Any, arguments: dict[str, Any]) -> None:
        self.waits.append({"call_id": call_id, **arguments})
        self.expected[row] = expected

    def arrange(self) -> None:
        simulator, outage = self._simulator, Fault(status=503)
        self.succeeds("ended", simulator.add_call(status="ended"))
        self.succeeds("ended later", at_each_look(simulator, "queued", "ringing", then="ended"))
        self.succeeds("new status", at_each_look(simulator, "on-hold", then="ended"))
        self.succeeds("outage at the first look", at_each_look(simulator, outage, then="ended"), tries=2)
        self.succeeds("outage later", at_each_look(simulator, "ringing", outage, outage, then="ended"))
        self.succeeds(
            "no analysis in time",
            simulator.add_call(status="ended"),
            wait_for_analysis=True,
            analysis_timeout=0,
        )
        self.succeeds(
            "no analysis at the timeout",
            simulator.add_call(status="ended"),
            wait_for_analysis=True,
            analysis_timeout=600,
            timeout=0,
        )
        no_answer = simulator.add_call(status="ended", body={"endedReason": "voicemail"})
        self.fails(
            "fail_on",
            no_answer,
            f"Call {no_answer} ended with outcome no_answer (voicemail), which is in fail_on.",
        )
        erased = at_each_look(simulator, "ringing", then="not-found")
        self.fails("erased", erased, f"Call {erased} has status 'not-found'")
        stuck = simulator.add_call(status="deletion-failed")
        self.fails("deletion failed", stuck, f"Call {stuck} has status 'deletion-failed'")
        refused = at_each_look(simulator, "ringing", Fault(status=401), then="ended")
        self.fails("key refused", refused, f"GET /call/{refused} was answered 401")
        self.fails("unknown", UNKNOWN_ID, f"GET /call/{UNKNOWN_ID} was answered 404")
        self.fails("no id", None, "call_id is 'None' (NoneType), so there is no call to work on")
        self.fails("bad id", "../x", "call_id must be a call's id")
        self.fails("no connection", UNKNOWN_ID, "There is no connection 'nowhere'", vapi_conn_id="nowhere")
        late = simulator.add_call(status="ringing")
        self.fails(
            "timeout",
            late,
            f"Call {late} had not ended after",
            timeout=0,
        )


@pytest.mark.parametrize("soft_fail", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_each_situation_ends_as_the_table_says(
    simulator: VapiSimulator,
    run_dag: Callable[..., Any],
    mode: str,
    soft_fail: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    situations = Situations(simulator, soft_fail=soft_fail)
    situations.arrange()
    run = run_dag(f"wait_{mode}_{'soft' if soft_fail else 'hard'}", waits=situations.waits)

    results = [result and result["id"] for result in run.results("wait")]
    seen = zip(run.states("wait"), run.tries("wait"), results, strict=True)
    assert dict(zip(situations.expected, seen, strict=True)) == situations.expected

    # An id that is none has no link; every other task has, whatever became of it.
    ids = [wait["call_id"] for wait in situations.waits]
    expected_links = [
        f"https://dashboard.vapi.ai/calls/{call_id}" if call_id not in (None, "../x") else None
        for call_id in ids
    ]
    assert run.links("wait") == expected_links

    told = capfd.readouterr().out if soft_fail else "\n".join(run.failures)
    assert [message for message in situations.messages if message not in told] == []
    assert len(run.failures) == (0 if soft_fail else len(situations.messages))


def test_a_mapped_wait_hands_its_summaries_on(simulator: VapiSimulator, run_dag: Callable[..., Any]) -> None:
    reached = simulator.add_call(status="ended")
    missed = simulator.add_call(status="ended", body={"endedReason": "customer-busy"})
    run = run_dag("wait_for_list", call_ids=[missed, reached])
    assert run.state == "success"
    assert run.results("reached") == [[reached]]


@pytest.mark.parametrize(
    ("reason", "name", "states"),
    [
        pytest.param("customer-ended-call", "Thank", ("success", "skipped"), id="reached"),
        pytest.param("customer-busy", "Call again", ("skipped", "success"), id="missed"),
    ],
)
def test_a_dag_can_branch_on_the_outcome(
    simulator: VapiSimulator,
    run_dag: Callable[..., Any],
    reason: str,
    name: str,
    states: tuple[str, str],
) -> None:
    call_id = simulator.add_call(status="ended", body={"endedReason": reason})
    run = run_dag("branch_on_outcome", call_id=call_id)
    assert (*run.states("thank"), *run.states("call_again")) == states
    assert simulator.get_call(call_id)["name"] == name
