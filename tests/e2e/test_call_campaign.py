# SPDX-License-Identifier: Apache-2.0
"""Two campaigns at once share a few lines, call unreached people again, and keep to calling hours."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from vapi_provider.simulator import Timeline, VapiSimulator

if TYPE_CHECKING:
    from airflow_services import AirflowServices
    from planted import Planted

# Minutes, so .ci/run leaves it out.
pytestmark = pytest.mark.slow

DAG_ID = "call_campaign"
LINES = 3
ANSWERED = [f"+120255501{number}" for number in range(40, 48)]
UNANSWERED = ["+12025550138", "+12025550139"]
OUTSIDE = "+12025550137"
SHORT = Timeline(ringing=0, answered=1, ended=4, analysis=None)


def always() -> dict[str, Any]:
    return {"opens": "00:00", "closes": "24:00", "timezone": "America/New_York"}


def never_today() -> dict[str, Any]:
    day = datetime.now(timezone.utc) + timedelta(days=3)
    return {**always(), "timezone": "UTC", "days": [f"{day:%a}".lower()]}


@pytest.fixture(scope="module")
def vapi(running_airflow: AirflowServices, planted: Planted) -> Iterator[VapiSimulator]:
    with VapiSimulator(api_key=planted.api_key, timeline=SHORT, concurrency_limit=LINES) as running:
        running_airflow.client.add_connection("vapi_campaign", running.url, planted.api_key)
        yield running


@pytest.fixture
def _some_do_not_answer(vapi: VapiSimulator) -> Iterator[None]:
    """End the calls to some numbers unanswered."""
    over = threading.Event()

    def end_calls() -> None:
        while not over.wait(0.1):
            for call_id, call in vapi.calls.items():
                if call["customer"].get("number") in UNANSWERED and call["status"] != "ended":
                    vapi.end_call(call_id, "customer-did-not-answer")

    thread = threading.Thread(target=end_calls)
    thread.start()
    yield
    over.set()
    thread.join()


def listed(numbers: list[str]) -> list[dict[str, Any]]:
    return [{"customer": {"number": number}, "calling_hours": always()} for number in numbers]


def states(airflow: AirflowServices, run_id: str) -> list[str]:
    rows = airflow.postgres.query(
        "select state from task_instance where dag_id = %s and run_id = %s and task_id = 'call' order by map_index",
        (DAG_ID, run_id),
    )
    return [str(state) for (state,) in rows]


def test_campaigns_share_lines_and_call_unreached_people_again(
    airflow: AirflowServices,
    vapi: VapiSimulator,
    took: Callable[[str, float], None],
    _some_do_not_answer: None,
) -> None:
    # An inbound call takes a line.
    inbound = vapi.add_call(status="in-progress")
    outside = {"customer": {"number": OUTSIDE}, "calling_hours": never_today()}
    lists = [[*listed([*ANSWERED[:4], UNANSWERED[0]]), outside], listed([*ANSWERED[4:], UNANSWERED[1]])]
    runs = [airflow.client.trigger(DAG_ID, {"people": people}) for people in lists]
    timer = threading.Timer(20, lambda: vapi.end_call(inbound))
    timer.start()
    seconds = airflow.wait_until(
        lambda: all(airflow.client.run_state(DAG_ID, run_id) in ("success", "failed") for run_id in runs),
        420,
        "both campaigns are over",
    )
    timer.join()
    took("2 campaigns of 11 people over 3 lines", seconds)
    assert [Counter(states(airflow, run_id)) for run_id in runs] == [
        Counter(success=5, skipped=1),
        Counter(success=5),
    ]
    assert vapi.rings == {**dict.fromkeys(ANSWERED, 1), **dict.fromkeys(UNANSWERED, 2)}
    summaries = [airflow.client.xcom(DAG_ID, runs[1], "call", "return_value", index) for index in range(5)]
    assert [summary["attempts"] for summary in summaries] == [1, 1, 1, 1, 2]
    assert [summary["outcome"] for summary in summaries] == [*["completed"] * 4, "no_answer"]
    refused = [request for request in vapi.requests if request.method == "POST" and request.status == 400]
    assert refused, "The lines sufficed, so the test proves nothing about waiting."
