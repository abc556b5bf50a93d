# SPDX-License-Identifier: Apache-2.0
"""What the page on campaigns adds to its example: an approval, and a retry policy."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from markdown_pages import ROOT, block_with, read
from task_instances import TaskInstance

from airflow import __version__ as airflow_version
from vapi_provider.exceptions import VapiNotReachedError, VapiTransientError
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.simulator import Fault, Timeline, VapiSimulator

VERSION = tuple(map(int, airflow_version.split(".")[:2]))
# conftest.py makes it a bundle of DAGs.
WRITTEN_DAGS = Path(os.environ["AIRFLOW_HOME"]) / "dags"
ALL_DAY = {"opens": "00:00", "closes": "24:00"}


def example_with_approval() -> str:
    """Return the example of the page, changed as the page says."""
    example = read(ROOT / "example_dags" / "example_vapi_campaign.py")
    mapped = ").expand_kwargs(people())"
    assert mapped in example
    example = example.replace("    call = Vapi", "    listed = people()\n\n    call = Vapi")
    example = example.replace(mapped, ").expand_kwargs(listed)")
    block = block_with("campaigns.md", "ApprovalOperator")
    added = "".join(f"    {line}\n" for line in [*block.splitlines(), "approve >> listed"])
    return f"{example.replace('example_vapi_campaign', 'campaign_with_approval')}\n{added}"


def respond(choice: str, patch: pytest.MonkeyPatch) -> None:
    """Let a user respond at once, as Airflow passes the response on to the operator."""
    from airflow.providers.standard.operators.hitl import ApprovalOperator

    event = {
        "chosen_options": [choice],
        "params_input": {},
        "responded_at": datetime.now(timezone.utc),
        "responded_by_user": None,
        "timedout": False,
    }
    patch.setattr(
        ApprovalOperator, "execute", lambda self, context: self.execute_complete(context, dict(event))
    )


@pytest.mark.skipif(VERSION < (3, 1), reason="The operator requires Airflow 3.1.")
@pytest.mark.parametrize(("choice", "state", "count"), [("Approve", "success", 3), ("Reject", "skipped", 0)])
def test_approval_decides_whether_people_are_called(
    run_dag: Callable[..., Any],
    load_dag_file: Callable[[Path], ModuleType],
    simulator: VapiSimulator,
    monkeypatch: pytest.MonkeyPatch,
    choice: str,
    state: str,
    count: int,
) -> None:
    simulator.timeline = Timeline(ringing=0, answered=0, ended=0, analysis=0)
    respond(choice, monkeypatch)
    path = WRITTEN_DAGS / "docs_campaign_with_approval.py"
    path.write_text(example_with_approval(), encoding="utf-8")
    run = run_dag(load_dag_file(path).dag, **ALL_DAY)
    assert set(run.states("call")) == {state}
    assert len(simulator.rings) == count
    [report] = run.results("report")
    assert report["people"] == count


@pytest.mark.skipif(VERSION < (3, 3), reason="Retry policies require Airflow 3.3.")
def test_retry_policy_tells_attempts_from_outages(simulator: VapiSimulator) -> None:
    names: dict[str, Any] = {}
    exec(block_with("campaigns.md", "RetryRule"), names)
    policy = names["retry_policy"]

    def delay_after(kind: type[Exception], policy: Any) -> float:
        """Return the delay after a task has failed, in seconds."""
        call = VapiCreateCallOperator(
            task_id="call",
            assistant_id="0198a3f0-0000-7000-8000-000000000002",
            phone_number_id="0198a3f0-0000-7000-8000-000000000003",
            customer={"number": "+12025550143"},
            redial_on=["no_answer"],
            retries=5,
            retry_policy=policy,
        )
        with pytest.raises(kind) as failure:
            call.execute(TaskInstance(max_tries=5).context())
        decision = call.retry_policy.evaluate(failure.value, try_number=1, max_tries=5)
        assert decision.action.value == "retry"
        return float(decision.retry_delay.total_seconds())

    # As it is, and as Airflow stores it with the DAG.
    for each in (policy, type(policy).deserialize(policy.serialize())):
        simulator.timeline = Timeline(
            ringing=0, answered=None, ended=0, analysis=None, ended_reason="customer-did-not-answer"
        )
        assert delay_after(VapiNotReachedError, each) == 7200
        simulator.faults.add(Fault(method="POST", path="/call", status=429, headers={"Retry-After": "3600"}))
        assert delay_after(VapiTransientError, each) == 30
