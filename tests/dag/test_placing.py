# SPDX-License-Identifier: Apache-2.0
"""DAG runs place calls: the examples work as described, and each phone rings once per run."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import AirflowTaskTimeout
from vapi_provider.simulator import Fault, ManualClock, Timeline, VapiSimulator

EXAMPLES = Path(__file__).resolve().parents[2] / "example_dags"
ADA, GRACE, EDSGER, BARBARA = (f"+1202555010{digit}" for digit in range(1, 5))
OVER_LIMIT = "call.start.error-subscription-concurrency-limit-reached"
AT_ONCE = Timeline(ringing=0, answered=0, ended=0, analysis=0)
RINGS_ON = Timeline(ringing=0, answered=None, ended=None, analysis=None)

VERSION = tuple(map(int, airflow_version.split(".")[:2]))
# Before 3.2, Airflow counts the clears only of finished runs; docs/placing.md explains the consequences.
COUNTS_EVERY_CLEAR = VERSION >= (3, 2)
HAS_STORE = VERSION >= (3, 3)

RunDag = Callable[..., Any]


class SkippedPauses:
    """Replaces the module ``time``: real time, with instant pauses."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def time(self) -> float:
        return time.time() + self._skipped

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped

    def sleep(self, seconds: float) -> None:
        self._skipped += seconds


@pytest.fixture(autouse=True)
def nothing_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vapi_provider.triggers.call.SETTLE_SECONDS", 0.05)
    monkeypatch.setattr("vapi_provider.polling.poller.MIN_INTERVAL_SECONDS", 0.05)
    clock = SkippedPauses()
    for module in ("placement", "search"):
        monkeypatch.setattr(f"vapi_provider.placing.{module}.time", clock)


@pytest.fixture
def vapi_options() -> dict[str, Any]:
    return {"timeline": AT_ONCE}


@pytest.fixture
def connection_extra() -> dict[str, Any]:
    """Disable repetition of requests, so that one fault is one failed request."""
    return {"max_retries": 0}


@pytest.fixture
def people(dag_module: ModuleType) -> Callable[..., None]:
    """Set the callees of the test DAGs, and the arguments of their calls."""

    def be(*numbers: str, **how: Any) -> None:
        dag_module.people[:] = [
            {"customer": {"number": number}, "wait_for_completion": False, **how} for number in numbers
        ]

    return be


@contextmanager
def answering(simulator: VapiSimulator, reasons: dict[str, str], after: int = 1) -> Iterator[None]:
    """End each call after so many reads, with its callee's reason."""
    over = threading.Event()

    def end_what_is_waited_for() -> None:
        read = 0
        reads: Counter[str] = Counter()
        while not over.wait(0.01):
            for request in simulator.requests[read:]:
                read += 1
                if request.method == "GET" and request.path != "/call":
                    call_id = request.path.removeprefix("/call/")
                    call = simulator.get_call(call_id)
                    reads[call_id] += 1
                    if call["status"] != "ended" and reads[call_id] >= after:
                        simulator.end_call(call_id, reasons[call["customer"]["number"]])

    thread = threading.Thread(target=end_what_is_waited_for)
    thread.start()
    yield
    over.set()
    thread.join()


def calls_by_number(simulator: VapiSimulator) -> dict[str, str]:
    return {call["customer"]["number"]: call_id for call_id, call in simulator.calls.items()}


def posts(simulator: VapiSimulator) -> int:
    return sum(request.method == "POST" for request in simulator.requests)


def rows_with(database: Path, text: str) -> dict[str, int]:
    """Return how many rows of each table contain a text."""
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = lambda content: content.decode(errors="replace")
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        found = {
            name: sum(text in repr(row) for row in connection.execute(f'SELECT * FROM "{name}"'))
            for (name,) in names
        }
    return {name: count for name, count in found.items() if count}


# The operator in DAG runs


def test_mapped_call_rings_once_and_returns_its_summary(
    simulator: VapiSimulator, run_dag: RunDag, people: Callable[..., None]
) -> None:
    people(ADA, GRACE, EDSGER)
    run = run_dag("place_each")
    assert run.state == "success"
    assert simulator.rings == {ADA: 1, GRACE: 1, EDSGER: 1}
    assert [request.method for request in simulator.requests] == ["POST"] * 3
    called = calls_by_number(simulator)
    assert [result["id"] for result in run.results("call")] == [called[ADA], called[GRACE], called[EDSGER]]
    assert run.call_ids("call") == [called[ADA], called[GRACE], called[EDSGER]]
    assert run.labels("call") == ["***01", "***02", "***03"]
    assert run.links("call") == [f"{simulator.url}/calls/{call_id}" for call_id in run.call_ids("call")]


def test_deferred_wait_leaves_no_number_in_the_database(
    simulator: VapiSimulator, run_dag: RunDag, dag_module: ModuleType, database: Path
) -> None:
    simulator.timeline = RINGS_ON
    number, said = "+12025550107", "said in confidence"
    dag_module.people[:] = [{"number": number, "said": said}]
    with answering(simulator, {number: "customer-ended-call"}):
        run = run_dag("place_and_defer")
    assert run.state == "success"
    [call_id] = simulator.calls
    assert (run.call_ids("call"), run.results("call")[0]["outcome"]) == ([call_id], "completed")
    assert run.links("call") == [f"{simulator.url}/calls/{call_id}"]
    assert simulator.rings == {number: 1}
    # Only the upstream task's own XCom contains its result.
    assert rows_with(database, number) == {"xcom": 1}
    assert rows_with(database, said) == {"xcom": 1}
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT rendered_fields FROM rendered_task_instance_fields WHERE dag_id = 'place_and_defer' AND task_id = 'call'"
        [(rendered,)] = connection.execute(query)
    assert json.loads(rendered)["customer"] == {"number": "***07"}
    assert json.loads(rendered)["assistant_overrides"] == {"variableValues": {"said": "***"}}


def test_mapped_task_leaves_no_number_in_the_database(
    simulator: VapiSimulator, run_dag: RunDag, people: Callable[..., None], database: Path
) -> None:
    number = "+12025550108"
    people(number)
    assert run_dag("place_each").state == "success"
    assert rows_with(database, number) == {"xcom": 1}


def test_lost_response_places_no_second_call(
    simulator: VapiSimulator, run_dag: RunDag, people: Callable[..., None]
) -> None:
    simulator.faults.add(Fault(method="POST", path="/call", reset="before", effect=True))
    people(ADA, GRACE)
    run = run_dag("place_each")
    assert run.states("call") == ["success", "success"]
    assert simulator.rings == {ADA: 1, GRACE: 1}
    assert posts(simulator) == 2
    called = calls_by_number(simulator)
    assert run.call_ids("call") == [called[ADA], called[GRACE]]


def test_next_try_of_a_stopped_task_finds_its_call(
    simulator: VapiSimulator, run_dag: RunDag, dag_module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator.timeline = RINGS_ON
    dag_module.people[:] = [{"number": ADA, "said": "Hello"}]

    def strike(_seconds: float) -> None:
        # Like Airflow's alarm signal; the call ends before the next try.
        [call_id] = simulator.calls
        simulator.end_call(call_id)
        raise AirflowTaskTimeout("execution_timeout")

    clock = SimpleNamespace(time=time.time, sleep=strike)
    monkeypatch.setattr("vapi_provider.waiting.wait.time", clock)
    run = run_dag("place_within_an_hour")
    assert (run.states("call"), run.tries("call")) == (["success"], [2])
    assert run.results("call")[0]["outcome"] == "completed"
    assert simulator.rings == {ADA: 1}
    assert posts(simulator) == 1


@pytest.mark.parametrize("dag_id", ["place_and_poke", "place_and_defer"])
def test_404_right_after_placing_is_waited_out(
    simulator: VapiSimulator, run_dag: RunDag, dag_module: ModuleType, dag_id: str
) -> None:
    simulator.timeline = RINGS_ON
    dag_module.people[:] = [{"number": ADA, "said": "Hello"}]
    body = json.dumps({"message": "Call not found", "error": "Not Found", "statusCode": 404})
    # If deferred, the worker gets one of them and the triggerer the other.
    simulator.faults.add(Fault(method="GET", status=404, body=body, times=2))
    with answering(simulator, {ADA: "customer-ended-call"}, after=3):
        run = run_dag(dag_id)
    assert (run.states("call"), run.tries("call")) == (["success"], [1])
    assert run.results("call")[0]["outcome"] == "completed"
    assert simulator.rings == {ADA: 1}
    assert [request.status for request in simulator.requests if request.status == 404] == [404, 404]


@pytest.fixture
def pauses_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defer each wait before a call, for a moment."""
    monkeypatch.setattr("vapi_provider.placing.deferral.SHORT_SECONDS", 0.0)
    monkeypatch.setattr("vapi_provider.placing.line._FIRST_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr("vapi_provider.placing.line._LONGEST_PAUSE_SECONDS", 0.2)


WAYS_TO_WAIT = pytest.mark.parametrize(
    "how",
    [{}, {"deferrable": True}, {"wait_for_completion": True, "deferrable": True}],
    ids=["poke", "placing deferred", "deferrable"],
)


@WAYS_TO_WAIT
def test_refusal_over_the_limit_is_waited_out(
    simulator: VapiSimulator,
    run_dag: RunDag,
    people: Callable[..., None],
    pauses_are_short: None,
    how: dict[str, Any],
) -> None:
    body = json.dumps({"message": "Over Concurrency Limit.", "statusCode": 400, "error": "Bad Request"})
    simulator.faults.add(Fault(method="POST", path="/call", status=400, body=body))
    people(ADA, **how)
    run = run_dag("place_each")
    assert (run.states("call"), run.tries("call")) == (["success"], [1])
    assert simulator.rings == {ADA: 1}
    assert run.failures == []


@WAYS_TO_WAIT
def test_calling_hours_are_waited_for(
    simulator: VapiSimulator,
    run_dag: RunDag,
    people: Callable[..., None],
    pauses_are_short: None,
    monkeypatch: pytest.MonkeyPatch,
    how: dict[str, Any],
) -> None:
    if not how.get("deferrable"):
        # Only a short wait is slept.
        monkeypatch.setattr("vapi_provider.placing.deferral.SHORT_SECONDS", 10.0)
    opens_at = time.time() + 0.5
    monkeypatch.setattr(
        "vapi_provider.placing.hours.Hours.is_open", lambda _, instant: instant.timestamp() >= opens_at
    )
    monkeypatch.setattr(
        "vapi_provider.placing.hours.Hours.next_opening",
        lambda _, instant: max(instant, datetime.fromtimestamp(opens_at, timezone.utc)),
    )
    monkeypatch.setattr(
        "vapi_provider.placing.deferral.time", SimpleNamespace(time=time.time, sleep=time.sleep)
    )
    hours = {"opens": "09:00", "closes": "20:00", "timezone": "America/New_York"}
    people(ADA, **how, calling_hours=hours)
    run = run_dag("place_each")
    assert (run.states("call"), run.tries("call")) == (["success"], [1])
    assert simulator.rings == {ADA: 1}
    assert time.time() >= opens_at


def test_callee_outside_calling_hours_is_skipped(
    simulator: VapiSimulator, run_dag: RunDag, people: Callable[..., None]
) -> None:
    yesterday = datetime.now(timezone.utc) - timedelta(days=2)
    hours = {"opens": "00:00", "closes": "24:00", "timezone": "UTC", "days": [f"{yesterday:%a}".lower()]}
    people(ADA, calling_hours=hours, outside_hours="skip")
    run = run_dag("place_each")
    assert run.states("call") == ["skipped"]
    assert simulator.requests == []


@pytest.mark.parametrize("deferrable", [False, *([True] if HAS_STORE else [])])
def test_unreached_callee_is_called_again_in_each_retry(
    simulator: VapiSimulator,
    run_dag: RunDag,
    clear_and_run: RunDag,
    people: Callable[..., None],
    deferrable: bool,
) -> None:
    simulator.timeline = replace(AT_ONCE, ended_reason="customer-did-not-answer")
    people(ADA, redial_on=["no_answer"], wait_for_completion=True, deferrable=deferrable)
    run = run_dag("place_each")
    assert (run.states("call"), run.tries("call")) == (["success"], [3])
    [result] = run.results("call")
    assert (result["outcome"], result["attempts"]) == ("no_answer", 3)
    assert simulator.rings == {ADA: 3}
    # Cleared, it returns what it ended with.
    again = clear_and_run(run)
    assert again.results("call") == [result]
    assert simulator.rings == {ADA: 3}


def test_reached_callee_is_not_called_again(
    simulator: VapiSimulator, run_dag: RunDag, people: Callable[..., None]
) -> None:
    people(ADA, redial_on=["no_answer"], wait_for_completion=True)
    run = run_dag("place_each")
    assert run.tries("call") == [1]
    assert run.results("call")[0]["attempts"] == 1
    assert simulator.rings == {ADA: 1}


def test_call_that_was_not_dialled_is_placed_again(
    simulator: VapiSimulator, run_dag: RunDag, people: Callable[..., None], pauses_are_short: None
) -> None:
    # It never rings by itself.
    simulator.timeline = Timeline(ringing=None, answered=None, ended=None, analysis=None)
    people(ADA, wait_for_completion=True, deferrable=True)
    with answering(simulator, {ADA: OVER_LIMIT}):

        def ring_from_the_second_on() -> None:
            while not simulator.calls:
                threading.Event().wait(0.005)
            simulator.timeline = AT_ONCE

        thread = threading.Thread(target=ring_from_the_second_on)
        thread.start()
        run = run_dag("place_each")
        thread.join()
    assert (run.states("call"), run.tries("call")) == (["success"], [1])
    assert simulator.rings == {ADA: 1}
    assert posts(simulator) == 2


@pytest.mark.parametrize(
    ("while_running", "then"),
    [
        pytest.param(False, (BARBARA, GRACE, ADA), id="after the list has grown and changed its order"),
        pytest.param(True, (ADA, GRACE), id="of a run that is still active"),
        pytest.param(True, (GRACE,), id="of one whose list has shrunk"),
        *(
            [pytest.param(True, (BARBARA, GRACE, ADA), id="of one whose list has changed its order, too")]
            if COUNTS_EVERY_CLEAR
            else []
        ),
    ],
)
def test_cleared_task_does_not_dial_again(
    simulator: VapiSimulator,
    run_dag: RunDag,
    clear_and_run: RunDag,
    people: Callable[..., None],
    while_running: bool,
    then: tuple[str, ...],
) -> None:
    people(ADA, GRACE)
    first = run_dag("place_each")
    before = dict(zip((ADA, GRACE), first.call_ids("call"), strict=True))
    people(*then)
    second = clear_and_run(first, while_running=while_running)
    assert second.run_id == first.run_id
    assert set(second.states("call")[: len(then)]) == {"success"}
    assert simulator.rings == dict.fromkeys({ADA, GRACE, *then}, 1)
    now = dict(zip(then, second.call_ids("call"), strict=False))
    assert {number: now[number] for number in then if number in before} == {
        number: before[number] for number in then if number in before
    }


def test_another_run_calls_again(
    simulator: VapiSimulator, run_dag: RunDag, people: Callable[..., None]
) -> None:
    people(ADA)
    for _ in range(2):
        assert run_dag("place_each").state == "success"
    assert simulator.rings == {ADA: 2}


@pytest.mark.parametrize("vapi_options", [{"timeline": RINGS_ON, "concurrency_limit": 40}], ids=["40"])
def test_many_callees_are_called_once_each(
    simulator: VapiSimulator, run_dag: RunDag, people: Callable[..., None]
) -> None:
    numbers = [f"+120255501{number}" for number in range(10, 50)]
    people(*numbers)
    run = run_dag("place_each")
    assert run.state == "success"
    assert simulator.rings == dict.fromkeys(numbers, 1)
    assert [request.method for request in simulator.requests] == ["POST"] * len(numbers)


# The examples


@pytest.fixture
def run_example(
    machinery: None,
    load_dag_file: Callable[[Path], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Any]:
    """Run an example to its end, with the given appointments if it has any."""
    from airflow.sdk.definitions.mappedoperator import MappedOperator

    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.02)))

    def run(name: str, people: str | None = None, **arguments: Any) -> Any:
        module = load_dag_file(EXAMPLES / f"example_vapi_{name}.py")
        if people is not None:
            module.PEOPLE = people
        for task in module.dag.tasks:
            if isinstance(task, MappedOperator):
                task.partial_kwargs.update(retry_delay=timedelta(0), poll_interval=0.01)
                # Without a store, a triggerer would wait in earnest until a search is conclusive.
                task.partial_kwargs["deferrable"] &= HAS_STORE
            elif hasattr(task, "poll_interval"):
                task.poll_interval = 0.01
        return module.dag.test(**arguments)

    return run


def result(run: Any, task_id: str, key: str = "return_value") -> Any:
    return run.get_task_instance(task_id).xcom_pull(task_ids=task_id, key=key)


def csv_of(*numbers: str) -> str:
    rows = (f"{number},Person {number[-1]},America/New_York" for number in numbers)
    return "\n".join(["number,name,zone", *rows])


ALL_DAY = {"opens": "00:00", "closes": "24:00"}


def test_campaign_calls_each_person_until_reached(
    run_example: Callable[..., Any],
    simulator: VapiSimulator,
    database: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    simulator.timeline = RINGS_ON
    reasons = {
        ADA: "customer-ended-call",
        GRACE: "customer-did-not-answer",
        EDSGER: "pipeline-error-openai-llm-failed",
    }
    with answering(simulator, reasons):
        run = run_example("campaign", csv_of(ADA, GRACE, EDSGER), run_conf=ALL_DAY)
    assert str(run.state) == "success"
    assert simulator.rings == {ADA: 1, GRACE: 3, EDSGER: 1}
    report = result(run, "report")
    assert report["outcomes"] == {"completed": 1, "no_answer": 1, "failed": 1}
    assert (report["people"], report["calls"]) == (3, 5)
    printed = capfd.readouterr()
    assert "Placed call" in printed.out
    assert GRACE not in printed.out + printed.err
    # The numbers are in the list of people, and nowhere else; Airflow keeps the source of the examples, too.
    assert rows_with(database, GRACE).keys() <= {"xcom", "dag_code"}
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT DISTINCT task_id FROM xcom WHERE dag_id = 'example_vapi_campaign' AND instr(value, ?)"
        assert connection.execute(query, (GRACE,)).fetchall() == [("people",)]


def test_campaign_reports_people_who_were_not_called(
    run_example: Callable[..., Any], simulator: VapiSimulator
) -> None:
    simulator.faults.add(Fault(method="POST", path="/call", status=402))
    run = run_example("campaign", csv_of("+12025550105", "+12025550106"), run_conf=ALL_DAY)
    report = result(run, "report")
    assert (report["people"], report["outcomes"], report["calls"]) == (2, {"completed": 1}, 1)


def test_schedule_call_leaves_the_call_to_vapi(
    run_example: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    with VapiSimulator(clock=clock) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", simulator.connection)
        run = run_example("schedule_call", run_conf={"hours": 3})
        assert str(run.state) == "success"
        call_id = result(run, "schedule_call", "call_id")
        call = simulator.get_call(call_id)
        assert result(run, "schedule_call")["status"] == call["status"] == "scheduled"
        plan = {name: datetime.fromisoformat(at) for name, at in call["schedulePlan"].items()}
        assert plan["earliestAt"] == run.run_after + timedelta(hours=3)
        assert plan["latestAt"] == run.run_after + timedelta(hours=4)
        clock.advance(3 * 60 * 60 - 60)
        assert simulator.rings == {}
        clock.advance(120)
        assert simulator.rings == {BARBARA: 1}
        assert posts(simulator) == 1


def test_place_and_label_names_the_call_after_its_outcome(
    run_example: Callable[..., Any], simulator: VapiSimulator
) -> None:
    simulator.timeline = Timeline(ringing=0, answered=0.2, ended=0.4, analysis=0.6, cost=0.25)
    run = run_example("place_and_label", run_conf={"first_name": "Grace"})
    assert str(run.state) == "success"
    [(call_id, call)] = simulator.calls.items()
    assert call["name"] == "Reminder: completed"
    values = call["assistantOverrides"]["variableValues"]
    assert values["first_name"] == "Grace"
    # The token by which a retry finds the call.
    assert len(values["airflow_token"]) == 8
    report = result(run, "report")
    assert report.startswith("completed, 0.2 s, 0.25 US dollars: The customer confirmed")
    assert result(run, "call_person", "call_id") == call_id
    assert simulator.rings == {"+12025550105": 1}
