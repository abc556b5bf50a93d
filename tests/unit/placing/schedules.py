# SPDX-License-Identifier: Apache-2.0
"""
Schedules of things that go wrong, while several tasks call several people.

The tries run in threads of their own, of which one at a time goes on: whatever reaches the world outside, and each
sleep, gives the turn back, and what happens next is drawn. So a :class:`Chaos` always plays out the same way.

What is drawn keeps to the limits that the design states: a killed process goes on for at most 5 s, a request for 30 s
after the record that announces it, and the list lags by less than 30 s. A superseded try may go on for minutes where a
store is there to stop it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest
import requests
from airflow_model import ASSISTANT_ID, PHONE_NUMBER_ID, AirflowModel, Killed, Slot, vapis_clock
from hypothesis import strategies as st
from task_instances import SupersededError
from urllib3.exceptions import NewConnectionError, ReadTimeoutError

from airflow.providers.common.compat.sdk import TaskDeferred
from vapi_provider.exceptions import (
    VapiCallInDoubtError,
    VapiError,
    VapiOutsideHoursError,
    VapiPermanentError,
)
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.operators.call import VapiCreateCallOperator
from vapi_provider.simulator import Fault, ManualClock, Timeline, VapiSimulator

BEGIN = 1_795_420_800.0
"""When all schedules begin, in seconds since 1970."""

CLOCK_CHANGES = tuple(
    datetime.fromisoformat(each).timestamp() - 240
    for each in ("2026-11-01T06:00+00:00", "2026-03-08T07:00+00:00", "2026-03-29T01:00+00:00")
)
"""Four minutes before the clocks go back or forward in New York, or forward in Berlin."""

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
RETRIES = 10_000
"""No schedule uses them up."""

KILL_SECONDS = 5.0
REQUEST_SECONDS = 30.0
PAGE_SIZE = 10
MAX_TURNS = 20_000

UNANSWERED = Timeline(
    ringing=1, answered=None, ended=20, analysis=None, ended_reason="customer-did-not-answer"
)

PEOPLE = tuple(f"+1202555010{digit}" for digit in range(5))
ASSISTANT_IDS = (ASSISTANT_ID, "0198a3f0-0000-7000-8000-000000000009")
NAMES = (None, "Reminder", "Reminder, once more")
OVERRIDES = (None, {"variableValues": {"first_name": "Ada"}}, {"firstMessage": "Hello"})

PAGE = "<html><h1>502 Bad Gateway</h1></html>"
REFUSAL = '{"statusCode": 400, "message": ["customer.number is wrong"], "error": "Bad Request"}'
POST_FAULTS = (
    *(Fault(reset="before", effect=effect) for effect in (True, False)),
    *(Fault(status=status, effect=effect) for status in (500, 504, 520) for effect in (True, False)),
    *(Fault(status=502, body=PAGE, content_type="text/html", effect=effect) for effect in (True, False)),
    Fault(reset="midway"),
    Fault(status=201, body="", effect=True),
    Fault(status=201, body='{"id": "0198a3f0-0000-7', effect=True),
    *(Fault(status=429, headers=headers) for headers in ({}, {"Retry-After": "2"}, {"Retry-After": "40"})),
    Fault(status=400, body=REFUSAL),
)
GET_FAULTS = (Fault(status=503), Fault(reset="before"), Fault(reset="midway"), Fault(status=429))


@dataclass(frozen=True)
class Chaos:
    """
    What goes wrong in one schedule, and the seed of all that is drawn on the way.

    :param seed: decides which try is next, and when things happen to which one
    :param people: how many people are called, by a task instance each
    :param seconds: for how long things go wrong
    :param faults: how likely a request meets one
    :param pauses: how likely a process stands still for a while, at each step to the outside
    :param harm: how often processes are killed, stopped or superseded
    :param outage: for how long the list cannot be read at all
    :param list_lag: by how many seconds the list lags
    :param hidden: a field that Vapi does not show
    :param ahead: by how many minutes Vapi's clock is ahead of Airflow's
    :param others: how many other calls the list has
    :param limit: how many calls the organization may have at once
    :param over_limit: what Vapi does with one more
    :param clears: how often a user clears all tasks, after the list of people has changed
    :param emptied: how often the store of a task is emptied
    :param renames: how often a user renames a call
    :param waits: whether the tasks wait for their calls' end
    :param changes_assistant: whether templates render different assistants
    :param deferrable: whether the tasks that wait are deferred meanwhile
    """

    seed: int
    people: int
    seconds: int
    faults: float
    pauses: float
    harm: int
    outage: int
    list_lag: int
    hidden: str
    ahead: int
    others: int
    limit: int
    over_limit: Literal["refuse", "end", "queue"]
    clears: int
    emptied: int
    renames: int
    waits: bool
    changes_assistant: bool
    deferrable: bool = False
    hours: tuple[str, int, int, int] | None = None
    """The callees' time zone, when it opens and closes, in minutes after the beginning, and for how many days of seven."""
    begin: float = BEGIN
    unanswered: float = 0.0
    """How likely a call is not answered; then the callee is called again."""
    max_attempts: int | None = None

    @property
    def is_redialling(self) -> bool:
        return self.unanswered > 0

    def calling_hours(self) -> dict[str, Any] | None:
        """Return the calling hours as the operator takes them."""
        if self.hours is None:
            return None
        zone, opens, closes, days = self.hours
        opens_at, closes_at = (
            datetime.fromtimestamp(self.begin + 60 * minutes, ZoneInfo(zone)) for minutes in (opens, closes)
        )
        opening, closing = f"{opens_at:%H:%M}", f"{closes_at:%H:%M}"
        if closing <= opening:
            # Not across midnight, nor back over a change of the clocks.
            opening, closing = min(opening, "23:50"), "24:00"
        first = opens_at.weekday()
        return {
            "opens": opening,
            "closes": closing,
            "timezone": zone,
            "days": [DAYS[(first + day) % 7] for day in range(days)],
        }


def chaoses() -> st.SearchStrategy[Chaos]:
    """Draw what goes wrong; the least of it is what is drawn first."""
    return st.builds(
        Chaos,
        seed=st.integers(0, 2**32 - 1),
        people=st.integers(1, 3),
        seconds=st.sampled_from([60, 300, 900]),
        faults=st.sampled_from([0.0, 0.3, 0.7]),
        pauses=st.sampled_from([0.0, 0.05, 0.2]),
        harm=st.integers(0, 5),
        outage=st.sampled_from([0, 0, 100]),
        list_lag=st.integers(0, 29),
        hidden=st.sampled_from(["", "name", "assistantOverrides"]),
        ahead=st.integers(-50, 50),
        others=st.sampled_from([0, 3, PAGE_SIZE + 2]),
        limit=st.sampled_from([10, 2, 1]),
        over_limit=st.sampled_from(["refuse", "end", "queue"]),
        clears=st.integers(0, 2),
        emptied=st.integers(0, 2),
        renames=st.integers(0, 2),
        waits=st.booleans(),
        changes_assistant=st.booleans(),
        deferrable=st.booleans(),
        hours=st.none()
        | st.tuples(
            st.sampled_from(["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "UTC"]),
            st.sampled_from([-120, -1, 1, 4]),
            st.sampled_from([6, 8, 20, 120]),
            st.integers(1, 7),
        ),
        begin=st.sampled_from([BEGIN, *CLOCK_CHANGES]),
        unanswered=st.sampled_from([0.0, 0.4, 0.8]),
        max_attempts=st.none() | st.integers(1, 3),
    )


def rough(**changes: Any) -> Chaos:
    """
    Make a chaos with something of what any try has to get over.

    :param changes: what is different, or comes on top
    """
    chaos = Chaos(
        seed=0,
        people=2,
        seconds=300,
        faults=0.3,
        pauses=0.1,
        harm=4,
        outage=0,
        list_lag=20,
        hidden="",
        ahead=0,
        others=0,
        limit=10,
        over_limit="refuse",
        clears=0,
        emptied=0,
        renames=0,
        waits=False,
        changes_assistant=False,
    )
    return dataclasses.replace(chaos, **changes)


class AirflowIsDownError(Exception):
    """What is raised in a try that cannot reach Airflow."""


class Try(threading.Thread):
    """A try of a task, in a thread that only goes on while :meth:`go_on` waits for it."""

    def __init__(self, task: Task, execute: Callable[[], Any]) -> None:
        super().__init__(daemon=True, name=f"task {task.map_index}, try {task.try_number}")
        self.task = task
        self.point = "begin"
        self.recorded_at = task.model.now
        self.superseded_at = math.inf
        self.is_stopped = False
        self.is_cleared = False
        self.is_over = False
        self.error: BaseException | None = None
        self.result: Any = None
        self._operator = task.operator
        self._execute = execute
        self._wakes_at = task.model.now
        self._killed_at = math.inf
        self._turn, self._rest = threading.Semaphore(0), threading.Semaphore(0)
        self.start()

    def run(self) -> None:
        try:
            self._wait_for_turn()
            self.result = self._execute()
        except BaseException as error:
            self.error = error
        self.is_over = True
        self._rest.release()

    @property
    def goes_on_at(self) -> float:
        return min(self._wakes_at, self._killed_at)

    def go_on(self) -> None:
        """Let it run up to its next step to the outside."""
        self._turn.release()
        self._rest.acquire()

    def rest(self, point: str, seconds: float) -> None:
        """Give the turn back; called by itself."""
        self.point = point
        self._wakes_at = self.task.model.now + seconds
        self._rest.release()
        self._wait_for_turn()

    def freeze(self, seconds: float) -> None:
        """Let it stand still for longer; but what is under way to Vapi is limited in time."""
        self._wakes_at += seconds
        if self.point == "send.POST":
            self._wakes_at = min(self._wakes_at, self.recorded_at + REQUEST_SECONDS)

    def stop(self) -> None:
        """Stop it, as Airflow does some seconds before it kills."""
        if self._operator is not None:
            self._operator.on_kill()
        self.is_stopped = True
        self.kill(KILL_SECONDS)

    def kill(self, within: float = 0) -> None:
        self._killed_at = min(self._killed_at, self.task.model.now + within)

    def _wait_for_turn(self) -> None:
        self._turn.acquire()
        if self.task.model.now >= self._killed_at:
            raise Killed


@dataclass
class Task(Slot):
    """A task instance, its callee while the list of people is long enough, and how far it is."""

    person: str | None = None
    begins_at: float = math.inf
    is_done: bool = False
    current: Try | None = None
    resumes_with: tuple[str, dict[str, Any]] | None = None
    """How the try goes on that begins next; None when it is another try."""

    def begin(self, **arguments: Any) -> Try:
        """Begin another try, in the place of one that may still run, or go on with the one that was deferred."""
        self.begins_at = math.inf
        if self.current is not None:
            self.current.superseded_at = self.model.now
        execute = self.prepare_to_resume(**arguments) if self.resumes_with else self.prepare(**arguments)
        self.resumes_with = None
        self.current = Try(self, execute)
        return self.current

    def prepare_to_resume(self, **arguments: Any) -> Callable[[], Any]:
        assert self.resumes_with is not None
        self.operator = operator = self._operator(**arguments)
        method, kwargs = self.resumes_with
        context = self.context()
        return lambda: operator.resume_execution(method, kwargs, context)

    def context(self) -> Any:
        # What a process knows of its run is from when it began.
        return {**super().context(), "dag_run": dataclasses.replace(self.run)}


class _StoryHandler(logging.Handler):
    """Makes what is logged a part of the story."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self._schedule = schedule

    def emit(self, record: logging.LogRecord) -> None:
        self._schedule.tell(record.getMessage())


class Schedule(AirflowModel):
    """
    One schedule, from its beginning to its end.

    :param chaos: what goes wrong
    :param simulator: the Vapi
    :param has_store: whether Airflow has a task state store
    """

    def __init__(self, chaos: Chaos, simulator: VapiSimulator, clock: ManualClock, has_store: bool) -> None:
        super().__init__(simulator, clock, has_store, now=chaos.begin)
        self.at = self._reach
        self.problems: list[str] = []
        self.story: list[str] = []
        self._chaos = chaos
        self._random = random.Random(chaos.seed)
        self._ends_at = chaos.begin + chaos.seconds
        self._hours = chaos.calling_hours()
        self._summaries: dict[str, Any] = {}
        self._harm_left = chaos.harm
        self._run = self.run()
        self._people = list(PEOPLE[: chaos.people])
        self._tasks: list[Task] = []
        self._tries: list[Try] = []
        self._list_tasks(within=10)
        self._events = [
            (self._random.uniform(chaos.begin, self._ends_at), happen)
            for happen, times in (
                (self._clear_all, chaos.clears),
                (self._empty_store, chaos.emptied),
                (self._rename_call, chaos.renames),
            )
            for _ in range(times)
        ]
        outage_at = self._random.uniform(chaos.begin, self._ends_at)
        self._outage = (outage_at, outage_at + chaos.outage)

    @classmethod
    def play(cls, chaos: Chaos, *, has_store: bool) -> Schedule:
        """
        Let a schedule happen, and judge it.

        :param chaos: what goes wrong
        :param has_store: whether Airflow has a task state store
        :return: the schedule, which has no ``problems`` when all is well
        """
        clock = vapis_clock(chaos.begin, timedelta(minutes=chaos.ahead))
        simulator = VapiSimulator(
            clock=clock,
            concurrency_limit=chaos.limit,
            over_limit=chaos.over_limit,
            list_lag=chaos.list_lag,
            hidden_fields=[chaos.hidden] if chaos.hidden else [],
        )
        state = random.getstate()
        try:
            with simulator, pytest.MonkeyPatch.context() as patch:
                patch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", simulator.connection)
                # For the pauses between two requests.
                random.seed(chaos.seed)
                schedule = cls(chaos, simulator, clock, has_store)
                schedule.install(patch)
                schedule._play()
                schedule._judge()
        finally:
            random.setstate(state)
        return schedule

    def tell(self, what: str, who: Try | None = None) -> None:
        """Add a line to the story."""
        thread = who or threading.current_thread()
        name = f"{thread.name}: " if isinstance(thread, Try) else ""
        self.story.append(f"{self.now - self._chaos.begin:8.1f}  {name}{what}")

    def report(self) -> str:
        """Return what happened, and how to replay it."""
        replay = f"PLACING_REPLAY='{json.dumps(dataclasses.asdict(self._chaos))}'"
        how = f"The seed is {self._chaos.seed}. Only this schedule is played when the environment has"
        return "\n".join(["", *self.story, *self.problems, how, replay])

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().install(monkeypatch)
        log = logging.getLogger("schedule")
        monkeypatch.setattr(log, "handlers", [_StoryHandler(self)])
        monkeypatch.setattr(log, "propagate", False)
        monkeypatch.setattr(log, "level", logging.INFO)
        for kind in (VapiCreateCallOperator, VapiHook):
            monkeypatch.setattr(kind, "log", log)
        # A page of 100 calls takes its time, in earnest.
        monkeypatch.setattr("vapi_provider.placing.search.PAGE_SIZE", PAGE_SIZE)

    def sleep(self, seconds: float) -> None:
        self.tell(f"sleeps for {seconds:.1f} s")
        self._acting().rest("sleep", seconds)

    # What is drawn.

    def _happens(self, likelihood: float) -> bool:
        return self.now < self._ends_at and self._random.random() < likelihood

    def _break(self, method: str) -> None:
        """Let something go wrong with the request that is sent next."""
        if method == "GET":
            is_down = self._outage[0] <= self.now < min(self._outage[1], self._ends_at)
            if is_down or self._happens(self._chaos.faults / 2):
                self._add_fault(self._random.choice(GET_FAULTS[:2] if is_down else GET_FAULTS), method)
        elif self._happens(self._chaos.faults):
            if self._random.random() < 0.1:
                self.tell("is not connected")
                raise requests.ConnectionError(NewConnectionError(None, "refused"))  # type: ignore[arg-type]
            self._add_fault(self._random.choice(POST_FAULTS), method)

    def _add_fault(self, fault: Fault, method: str) -> None:
        self.tell(f"meets {fault}")
        self.simulator.faults.add(dataclasses.replace(fault, method=method))

    def _meddle(self, it: Try) -> None:
        """Do something to a try that has reached a point."""
        if self._happens(self._chaos.pauses):
            it.freeze(self._random.choice([1, 6, 40, 400]) * self._random.random())
        # Most steps are reads and pauses, and few of them matter.
        if self._harm_left and self._happens(0.05 if it.point in ("send.GET", "sent.GET", "sleep") else 0.3):
            self._harm_left -= 1
            self._random.choice([self._kill, self._stop, self._supersede])(it)

    def _kill(self, it: Try) -> None:
        self.tell("is killed", it)
        it.kill()

    def _stop(self, it: Try) -> None:
        self.tell("is stopped", it)
        it.stop()

    def _supersede(self, it: Try) -> None:
        """Begin another try while this one still runs."""
        if it is not it.task.current or it.is_cleared:
            return
        if self.has_store and self._random.random() < 0.5:
            self.tell("is superseded, and goes on", it)
            it.freeze(self._random.uniform(0, 300))
        else:
            self.tell("is superseded, and will be killed", it)
            it.kill(self._random.uniform(0, KILL_SECONDS))
        self._begin(it.task)

    def _clear_all(self) -> None:
        """Let a user clear all tasks, after the list of people has changed."""
        self._run.clear_number += 1
        self._random.shuffle(self._people)
        if len(self._people) > 1 and self._random.random() < 0.3:
            self._people.pop()
        elif len(self._people) < len(PEOPLE) and self._random.random() < 0.5:
            self._people.append(self._random.choice([each for each in PEOPLE if each not in self._people]))
        self.tell(f"All tasks are cleared; the people are {self._people}")
        for each in self._tries:
            if each is not each.task.current and each.superseded_at + KILL_SECONDS >= self.now:
                each.kill()
        self._list_tasks(within=5)

    def _list_tasks(self, within: float) -> None:
        """Let the tasks be those of the list of people, and begin."""
        for index in range(len(self._tasks), len(self._people)):
            arguments = {"retries": RETRIES} if self._chaos.is_redialling else {}
            self._tasks.append(Task(self, self._run, arguments, map_index=index))
        for task, person in itertools.zip_longest(self._tasks, self._people):
            task.person, task.is_done, task.begins_at = person, False, math.inf
            task.resumes_with = None
            task.cleared_at_try = task.try_number
            if task.current is not None and not task.current.is_over:
                task.current.is_cleared = True
                task.current.stop()
            elif task.person is not None:
                task.begins_at = self.now + self._random.uniform(0, within)

    def _empty_store(self) -> None:
        task = self._random.choice(self._tasks)
        self.tell(f"The store of task {task.map_index} is emptied")
        task.stored.clear()

    def _rename_call(self) -> None:
        calls = [call for call in self.simulator.calls.values() if call["customer"]["number"] in PEOPLE]
        # With both carriers of the token gone, nothing is left of it.
        if calls and self._chaos.hidden != "assistantOverrides":
            call_id = self._random.choice(calls)["id"]
            self.tell(f"Call {call_id} is renamed")
            VapiHook().update_call(call_id, name="Called")

    def _arguments(self, task: Task) -> dict[str, Any]:
        """Render the templates, which may differ in each try."""
        # Without a record, another assistant makes another token.
        is_recorded = self.has_store and not self._chaos.clears and not self._chaos.emptied
        choices = ASSISTANT_IDS if self._chaos.changes_assistant and is_recorded else ASSISTANT_IDS[:1]
        return {
            "assistant_id": self._random.choice(choices),
            "phone_number_id": PHONE_NUMBER_ID,
            "customer": {"number": task.person},
            "name": self._random.choice(NAMES),
            "assistant_overrides": self._random.choice(OVERRIDES),
            # Without a wait, a call that Vapi accepts and then ends undialled counts as placed.
            "wait_for_completion": self._waits,
            "deferrable": self._chaos.deferrable,
            "calling_hours": self._hours,
            **self._redial,
        }

    @property
    def _waits(self) -> bool:
        return self._chaos.waits or self._chaos.over_limit == "end" or self._chaos.is_redialling

    @property
    def _redial(self) -> dict[str, Any]:
        if not self._chaos.is_redialling:
            return {}
        return {"redial_on": ["no_answer"], "max_attempts": self._chaos.max_attempts}

    # What follows from that.

    def _play(self) -> None:
        for _ in range(self._chaos.others):
            created_at = self.clock.now() - timedelta(seconds=self._random.uniform(0, 3000))
            self.simulator.add_call(
                status="ended", body={"createdAt": created_at.isoformat(), "name": "Reminder #zzzzzzzz"}
            )
        for _ in range(MAX_TURNS):
            if not self._take_turn():
                return
        self.problems.append("It goes on and on.")

    def _take_turn(self) -> bool:
        """Let one thing happen of those that are next; return whether there was any."""
        self._tries = [each for each in self._tries if not each.is_over]
        coming: list[tuple[float, Any]] = [
            *((each.goes_on_at, each) for each in self._tries),
            *((task.begins_at, task) for task in self._tasks if task.begins_at < math.inf),
            *((at, happen) for at, happen in self._events),
        ]
        if not coming:
            return False
        self.pass_time(max(0.0, min(at for at, _ in coming) - self.now))
        at, chosen = self._random.choice([each for each in coming if each[0] <= self.now])
        if isinstance(chosen, Try):
            self._go_on(chosen)
        elif isinstance(chosen, Task):
            self._begin(chosen)
        else:
            self._events.remove((at, chosen))
            chosen()
        return True

    def _begin(self, task: Task) -> None:
        it = task.begin(**self._arguments(task))
        self._tries.append(it)
        self._meddle(it)

    def _go_on(self, it: Try) -> None:
        it.go_on()
        if it.is_over:
            self._follow_up(it)
        else:
            self._meddle(it)

    def _follow_up(self, it: Try) -> None:
        """Do what Airflow, or a user, does when a try is over."""
        self.tell(f"ends: {it.error!r}" if it.error else "succeeds", it)
        task, error = it.task, it.error
        expected: tuple[Any, ...] = (Killed, AirflowIsDownError, TaskDeferred, VapiError, type(None))
        # Of such a try Airflow takes nothing, its deferral included.
        expected += (SupersededError,) * (it is not task.current)
        if not isinstance(error, expected):
            self.problems.append(f"{it.name} has failed with {error!r}.")
        elif isinstance(error, VapiCallInDoubtError):
            self.problems.append(f"{it.name} has given up.")
        elif it is not task.current or task.person is None:
            return
        elif it.is_cleared:
            task.begins_at = self.now + self._random.uniform(0, 5)
        elif error is None:
            task.is_done = True
            self._summaries[task.person] = it.result
        elif isinstance(error, TaskDeferred):
            self._defer(task, error.trigger)
        else:
            if isinstance(error, VapiPermanentError):
                # There are no retries, so a user clears it.
                self._run.clear_number += 1
                task.cleared_at_try = task.try_number
            if isinstance(error, VapiOutsideHoursError) and self._random.random() < 0.7:
                # The retries of a task that cannot wait have to reach the hours.
                task.begins_at = error.opening.timestamp() + self._random.uniform(0, 60)
                return
            task.begins_at = self.now + self._random.choice([0, 5, 60, 300] if self._happens(1) else [300])

    def _defer(self, task: Task, trigger: Any) -> None:
        """Let the triggerer wake a task: in time, too early, or not at all."""
        polls = [] if trigger.call_id is None else [trigger.poll_interval]
        waits = min([max(0.0, trigger.end_time - self.now), *polls])
        event = {"status": "done" if polls else "timeout", "call_id": trigger.call_id, "message": ""}
        task.resumes_with = "execute_complete", {"event": event}
        task.begins_at = self.now + max(5.0, waits + self._random.uniform(0, 10))
        if self._happens(self._chaos.faults / 4):
            event["status"] = "error"
            task.begins_at = self.now + 5
        elif not polls and self._happens(self._chaos.faults / 8):
            task.resumes_with = "__fail__", {"error": "Trigger timeout"}
            task.begins_at += 120

    def _reach(self, point: str) -> None:
        """Stop a try on its way to the world outside."""
        it = threading.current_thread()
        if not isinstance(it, Try):
            return
        self.tell(point)
        if point == "send.POST":
            if it.is_stopped:
                self.problems.append(f"{it.name} sends a request though it was stopped.")
            if not self._may_call():
                self.problems.append(f"{it.name} sends a request outside of the calling hours.")
            is_answered = self._random.random() >= self._chaos.unanswered
            self.simulator.timeline = Timeline() if is_answered else UNANSWERED
        if point == ("store.set" if self.has_store else "send.POST"):
            it.recorded_at = self.now
        it.rest(point, self._random.uniform(0, 0.3))
        if point == "xcom.push" and it.superseded_at + KILL_SECONDS < self.now:
            # It only went on to see whether it could send a request.
            raise Killed
        if point.startswith("send."):
            self._break(point.removeprefix("send."))
        elif point.startswith(("store.", "xcom.")):
            if self._happens(self._chaos.faults / 8):
                self.tell("cannot reach Airflow")
                raise AirflowIsDownError
        elif point == "sent.POST" and self._happens(self._chaos.faults / 4):
            self.tell("waits for a response that does not come")
            it.rest(point, REQUEST_SECONDS)
            raise requests.ReadTimeout(ReadTimeoutError(None, "/call", "too late"))  # type: ignore[arg-type]

    def _may_call(self) -> bool:
        if self._hours is None:
            return True
        local = datetime.fromtimestamp(self.now, ZoneInfo(self._hours["timezone"]))
        is_day = f"{local:%a}".lower() in self._hours["days"]
        return is_day and self._hours["opens"] <= f"{local:%H:%M:%S}" < self._hours["closes"]

    def _judge(self) -> None:
        rings = self.rings()
        for person in PEOPLE:
            count, is_listed = rings.get(person, 0), person in self._people
            if self._chaos.is_redialling:
                self._judge_attempts(person, count, is_listed)
            # A person who is no longer on the list may have been called before.
            elif count not in ([1] if is_listed else [0, 1]):
                self.problems.append(f"{person} was called {count} times.")
        for task in self._tasks[: len(self._people)]:
            call_id = task.xcoms.get("call_id")
            call = self.simulator.get_call(call_id) if call_id else {"customer": {}}
            has_rung = "startedAt" in call or self._chaos.is_redialling
            if not task.is_done or call["customer"].get("number") != task.person or not has_rung:
                self.problems.append(f"Task {task.map_index}, for {task.person}, has published call {call}.")

    def _judge_attempts(self, person: str, count: int, is_listed: bool) -> None:
        """Each attempt rings once, and none follows one that reached the callee."""
        rang = [
            call
            for call in self.simulator.calls.values()
            if call["customer"].get("number") == person and not call["endedReason"].startswith("call.start.")
        ]
        tokens = {_token(call) for call in rang}
        if not len(rang) == len(tokens) == count:
            self.problems.append(f"{person} was called {count} times in {len(tokens)} attempts.")
        earlier = sorted(rang, key=lambda call: str(call["createdAt"]))[:-1]
        if any(call["endedReason"] != UNANSWERED.ended_reason for call in earlier):
            self.problems.append(f"{person} was called again, though reached.")
        if self._chaos.max_attempts and count > self._chaos.max_attempts:
            self.problems.append(f"{person} was called {count} times, more than max_attempts.")
        attempts = self._summaries.get(person, {}).get("attempts")
        if is_listed and not 0 < count == attempts:
            self.problems.append(f"{person} was called {count} times, not {attempts}.")
        # A user may also have cleared a task that failed.
        if is_listed and not self._run.clear_number and not self._chaos.emptied:
            self._judge_last(person, count, rang)

    def _judge_last(self, person: str, count: int, rang: list[dict[str, Any]]) -> None:
        """A callee who was not reached is called until no attempt is left."""
        is_reached = any(call["endedReason"] != UNANSWERED.ended_reason for call in rang)
        if not is_reached and count != self._chaos.max_attempts:
            self.problems.append(f"{person} was called {count} times and then forgotten.")

    def _acting(self) -> Try:
        thread = threading.current_thread()
        assert isinstance(thread, Try)
        return thread


def _token(call: dict[str, Any]) -> str:
    """Return the token of a call, from the carrier of it that is not hidden."""
    values = call.get("assistantOverrides", {}).get("variableValues", {})
    return str(values.get("airflow_token") or call["name"].rpartition("#")[2])
