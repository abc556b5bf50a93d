# SPDX-License-Identifier: Apache-2.0
"""The connection of a poller: read in the event loop, kept for a minute, and never mixed up with another."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import requests_mock
from polling_world import CONN_ID, THREADS, World, come_true, run_in_loop, verdicts, watching

from airflow.providers.common.compat.sdk import BaseHook
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ConnectionResult, ErrorResponse, GetConnection
from vapi_provider.polling import connection, poller
from vapi_provider.polling.connection import CONNECTION_SECONDS, MISSING_SECONDS
from vapi_provider.simulator import Fault, VapiSimulator

KEYS = [f"0b5e8c1a-key-number-{number}" for number in range(3)]
MINUTE = 60


class Organization:
    """
    A world whose Vapi accepts other keys than the simulator, which a test can change.

    :param world: the world
    """

    def __init__(self, world: World) -> None:
        self.keys = {KEYS[0]}
        self.uses: list[tuple[float, str]] = []
        self._world = world
        world.mocker.get(requests_mock.ANY, text=self._answer)

    def _answer(self, request: Any, context: Any) -> str:
        key = request.headers["Authorization"].removeprefix("Bearer ")
        self.uses.append((self._world.clock.now, key))
        if key not in self.keys:
            context.status_code = 401
            return '{"message": "Invalid Key.", "error": "Unauthorized", "statusCode": 401}'
        calls = self._world.simulator.calls
        return json.dumps(
            calls[request.path.rpartition("/")[2]] if "/call/" in request.path else [*calls.values()][:1]
        )


@pytest.fixture
def organization(world: World, set_connection: Callable[..., None]) -> Organization:
    set_connection(world.simulator, password=KEYS[0])
    return Organization(world)


def test_new_key_is_used_within_a_minute(
    world: World, organization: Organization, set_connection: Callable[..., None]
) -> None:
    call_ids = world.add_calls(3)
    organization.keys = set(KEYS)

    async def main() -> None:
        async with watching(call_ids) as tasks:
            for key in KEYS[1:]:
                await asyncio.sleep(13)
                set_connection(world.simulator, password=key)
                changed = world.clock.now
                await asyncio.sleep(MINUTE + 6)
                assert organization.uses[-1][1] == key
                first = next(at for at, used in organization.uses if used == key)
                assert first - changed <= MINUTE + 5.1
            assert verdicts(tasks) == {}

    world.run(main())
    # Once the new one is known the old one is not used again.
    assert [key for at, key in organization.uses] == sorted(key for at, key in organization.uses)


def test_rotated_key_ends_no_wait(
    world: World, organization: Organization, set_connection: Callable[..., None]
) -> None:
    call_ids = world.add_calls(40)

    async def main() -> None:
        async with watching(call_ids, since=world.since(*call_ids)) as tasks:
            for key in KEYS[1:]:
                await asyncio.sleep(33)
                set_connection(world.simulator, password=key)
                organization.keys = {key}
                await asyncio.sleep(2 * 5 + 0.1)
                assert organization.uses[-1][1] == key
            await asyncio.sleep(30)
            assert verdicts(tasks) == {}
            world.end(call_ids[0])
            await world.seconds_until(tasks[call_ids[0]])
            assert tasks[call_ids[0]].result().status == "done"

    world.run(main())
    # Each old key was refused once, and not used again.
    assert sum(key == KEYS[1] for _, key in organization.uses) > 1
    refused = [place for place, (_, key) in enumerate(organization.uses) if key != KEYS[2]]
    assert refused == list(range(len(refused)))


@pytest.mark.parametrize(("status", "worked_for", "number"), [(401, 0, 3), (401, 21, 40), (403, 0, 40)])
def test_refused_key_ends_waits_of_its_connection_only(
    world: World, set_connection: Callable[..., None], number: int, status: int, worked_for: float
) -> None:
    other = world.beside(api_key=KEYS[1])
    set_connection(other.simulator, "other")
    call_ids = world.add_calls(number)
    (other_id,) = other.add_calls(1)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(watching(call_ids))
            others = await stack.enter_async_context(watching([other_id], conn_id="other"))
            await asyncio.sleep(worked_for)
            world.simulator.faults.add(Fault(status=status, times=None))
            # The poll in which it is refused, and one with the connection read afresh.
            assert await world.seconds_until(*tasks.values()) <= 2 * 5 + 0.1
            for task in tasks.values():
                assert task.result().status == "error"
                assert CONN_ID in task.result().message
                assert str(status) in task.result().message
            await asyncio.sleep(30)
            assert not others[other_id].done()

    world.run(main())
    assert [len(poll) for poll in world.polls()[-2:]] == [1, 1]


@pytest.mark.parametrize("number", [3, 40], ids="{} waiting".format)
def test_forbidden_call_ends_only_its_own_wait(world: World, number: int) -> None:
    call_ids = world.add_calls(number)
    world.simulator.faults.add(Fault(path=f"/call/{call_ids[-1]}", status=403, times=None))

    async def main() -> None:
        async with watching(call_ids) as tasks:
            await world.seconds_until(tasks[call_ids[-1]])
            assert tasks[call_ids[-1]].result().status == "error"
            assert "403" in tasks[call_ids[-1]].result().message
            await asyncio.sleep(30)
            assert [call_id for call_id in call_ids if tasks[call_id].done()] == call_ids[-1:]

    world.run(main())


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"password": ""}, "password"),
        ({"password": "***"}, "password"),
        ({"host": "http://vapi.example.com"}, "http://"),
        ({"extra": {"timeout": "soon"}}, "timeout"),
    ],
    ids=["no key", "the mask of a key", "a host in the clear", "a bad time limit"],
)
def test_unusable_connection_ends_waits_with_reason(
    world: World, set_connection: Callable[..., None], fields: dict[str, Any], problem: str
) -> None:
    call_ids = world.add_calls(2)
    set_connection(world.simulator, **fields)

    async def main() -> None:
        async with watching(call_ids) as tasks:
            assert await world.seconds_until(*tasks.values()) <= 2 * 5 + 0.1
            for task in tasks.values():
                assert task.result().status == "error"
                assert problem in task.result().message
                assert CONN_ID in task.result().message

    world.run(main())
    assert not world.simulator.requests


def test_briefly_unusable_connection_ends_no_wait(world: World, set_connection: Callable[..., None]) -> None:
    (call_id,) = world.add_calls(1)
    set_connection(world.simulator, password="")

    async def main() -> None:
        async with watching([call_id]) as tasks:
            await asyncio.sleep(6)
            set_connection(world.simulator)
            await asyncio.sleep(6)
            world.end(call_id)
            assert await world.seconds_until(tasks[call_id]) <= 5.1
            assert tasks[call_id].result().status == "done"

    world.run(main())


def test_missing_connection_ends_its_waits(world: World) -> None:
    (call_id,) = world.add_calls(1)

    async def main() -> None:
        async with watching([call_id], conn_id="nowhere") as tasks:
            took = await world.seconds_until(tasks[call_id])
            # Not sooner: Airflow also reports this while its secrets backend is unreachable.
            assert MISSING_SECONDS <= took <= MISSING_SECONDS + 3 * 5
            assert tasks[call_id].result().status == "error"
            assert "'nowhere'" in tasks[call_id].result().message

    world.run(main())


@pytest.mark.parametrize(
    ("fields", "is_new"),
    [
        ({}, False),
        ({"password": KEYS[1]}, True),
        ({"host": "https://api.eu.vapi.ai"}, True),
        ({"port": 8443}, True),
        ({"extra": {"timeout": 9}}, True),
    ],
    ids=str,
)
def test_changed_connection_gets_a_new_client(
    world: World, set_connection: Callable[..., None], fields: dict[str, Any], is_new: bool
) -> None:
    async def main() -> None:
        polled = connection.PolledConnection(CONN_ID)
        await polled.refresh()
        client = polled._client
        set_connection(world.simulator, **fields)
        world.clock.now += CONNECTION_SECONDS
        await polled.refresh()
        assert (polled._client is not client) is is_new
        polled.close()

    world.run(main())


class Comms:
    """
    In place of a triggerer's channel to Airflow, which on 3.0 and 3.1 fails in a thread of one's own.

    :param simulator: where the only connection leads to that there is
    :param fields: what this connection has beside that
    """

    def __init__(self, simulator: VapiSimulator, **fields: Any) -> None:
        self.connection = {**json.loads(simulator.connection), **fields}
        self.is_down = False
        self.asked: list[tuple[str, str]] = []

    def send(self, message: Any = None, **fields: Any) -> Any:
        message = message if message is not None else fields["msg"]
        thread = threading.current_thread().name
        self.asked.append((type(message).__name__, thread))
        if thread.startswith(THREADS):
            raise RuntimeError("Airflow was asked for something in a thread")
        if self.is_down:
            return ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 500})
        if isinstance(message, GetConnection):
            nothing = dict.fromkeys(("host", "schema", "login", "password", "port", "extra"))
            return ConnectionResult(conn_id=message.conn_id, **{**nothing, **self.connection})
        return None

    async def asend(self, message: Any) -> Any:
        return self.send(message)


@pytest.fixture
def make_comms(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Comms]:
    """Be a triggerer, in which ``vapi_default`` comes over the channel to Airflow and from nowhere else."""

    def make(simulator: VapiSimulator, **fields: Any) -> Comms:
        comms = Comms(simulator, **fields)
        monkeypatch.delenv("AIRFLOW_CONN_VAPI_DEFAULT")
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
        return comms

    return make


@pytest.mark.parametrize("at_first", [True, False], ids=["from the beginning", "once it was read"])
def test_waits_survive_half_a_minute_without_connections(
    world: World, make_comms: Callable[..., Comms], at_first: bool
) -> None:
    """Airflow 3.1 and later say then that there is no such connection."""
    (call_id,) = world.add_calls(1)
    comms = make_comms(world.simulator)

    async def main() -> None:
        comms.is_down = at_first
        async with watching([call_id]) as tasks:
            await asyncio.sleep(0 if at_first else CONNECTION_SECONDS)
            comms.is_down = True
            await asyncio.sleep(30)
            comms.is_down = False
            assert not tasks[call_id].done(), tasks[call_id].result()
            world.end(call_id)
            assert await world.seconds_until(tasks[call_id]) <= 2 * 5 + 0.1
            assert tasks[call_id].result().status == "done"

    world.run(main())


def test_last_connection_is_used_while_airflow_is_down(
    world: World, make_comms: Callable[..., Comms]
) -> None:
    (call_id,) = world.add_calls(1)
    comms = make_comms(world.simulator)

    async def main() -> None:
        async with watching([call_id]) as tasks:
            await asyncio.sleep(CONNECTION_SECONDS)
            comms.is_down = True
            await asyncio.sleep(10)
            world.end(call_id)
            assert await world.seconds_until(tasks[call_id]) <= 5.1
            assert tasks[call_id].result().status == "done"

    world.run(main())
    # It was asked for the connection a second time, in vain.
    assert [kind for kind, _ in comms.asked].count("GetConnection") >= 2


def test_waits_survive_an_error_of_airflow(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (call_id,) = world.add_calls(1)

    async def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a secrets backend is down, and here is a secret: 4711")

    async def main() -> None:
        async with watching([call_id]) as tasks:
            with monkeypatch.context() as broken:
                broken.setattr("vapi_provider.polling.connection.get_async_connection", fail)
                await asyncio.sleep(3 * CONNECTION_SECONDS)
            assert not tasks[call_id].done()
            world.end(call_id)
            assert await world.seconds_until(tasks[call_id]) <= 2 * 5 + 0.1
            assert tasks[call_id].result().status == "done"

    world.run(main())


def test_calls_of_two_connections_never_mix(world: World, set_connection: Callable[..., None]) -> None:
    """Both know a call of the same id, which they would not in real life."""
    there = world.beside(api_key=KEYS[1])
    set_connection(there.simulator, "other")
    call_ids = world.add_calls(30)
    for call_id in call_ids:
        there.simulator.add_call(status="in-progress", body={"id": call_id})

    async def main() -> None:
        async with AsyncExitStack() as stack:
            here = await stack.enter_async_context(watching(call_ids, since=world.since(*call_ids)))
            since = there.since(*call_ids)
            others = await stack.enter_async_context(watching(call_ids, since=since, conn_id="other"))
            await asyncio.sleep(8)
            world.end(call_ids[3])
            there.end(call_ids[4])
            await asyncio.sleep(5.1)
            await asyncio.sleep(30)
            assert [call_id for call_id in call_ids if here[call_id].done()] == [call_ids[3]]
            assert [call_id for call_id in call_ids if others[call_id].done()] == [call_ids[4]]
            # One is down, and the other goes on.
            world.simulator.stop()
            await asyncio.sleep(30)
            there.end(call_ids[5])
            assert await world.seconds_until(others[call_ids[5]]) <= 5.1
            assert not here[call_ids[5]].done()

    world.run(main())


@pytest.mark.usefixtures("short_pauses")
def test_two_event_loops_of_one_process_never_mix(simulator: VapiSimulator) -> None:
    """Each has a call of its own and one that both wait for; a future of the wrong loop would never be heard."""
    shared = simulator.add_call(status="in-progress")
    verdicts: dict[str, list[str]] = {}
    both_wait = threading.Barrier(3)

    def wait(name: str, own: str) -> None:
        async def main() -> None:
            async with watching([own, shared], poll_interval=0.02) as tasks:
                both_wait.wait(60)
                await tasks[shared]
                assert not tasks[own].done()
                both_wait.wait(60)
                await tasks[own]
                verdicts[name] = [task.result().status for task in tasks.values()]

        run_in_loop(main())

    own = {name: simulator.add_call(status="in-progress") for name in ("first", "second")}
    threads = [threading.Thread(target=wait, args=item) for item in own.items()]
    for thread in threads:
        thread.start()
    both_wait.wait(60)
    assert len(poller._pollers) == 2
    simulator.end_call(shared)
    both_wait.wait(60)
    for call_id in own.values():
        simulator.end_call(call_id)
    for thread in threads:
        thread.join(60)
    assert verdicts == {"first": ["done", "done"], "second": ["done", "done"]}


@pytest.mark.usefixtures("short_pauses")
def test_worker_thread_never_calls_airflow(
    run: Callable[..., Any],
    simulator: VapiSimulator,
    make_comms: Callable[..., Comms],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    comms = make_comms(simulator, extra='{"timeout": "5", "max_retries": 1}')
    # So that the connection is read afresh for each poll.
    monkeypatch.setattr(connection, "CONNECTION_SECONDS", 0.0)
    looked_up_in: list[str] = []
    for name in ("get_connection", "aget_connection"):
        if hasattr(BaseHook, name):
            original = getattr(BaseHook, name)

            def note(*args: Any, original: Any = original, **named: Any) -> Any:
                looked_up_in.append(threading.current_thread().name)
                return original(*args, **named)

            monkeypatch.setattr(BaseHook, name, note)
    call_ids = [simulator.add_call(status="in-progress") for _ in range(25)]

    async def main() -> None:
        async with watching(call_ids, poll_interval=0.02) as tasks:
            await come_true(lambda: len(simulator.requests) > 60, "three polls")
            simulator.end_call(call_ids[0])
            await tasks[call_ids[0]]
            # And with so few that each is read.
        async with watching(call_ids[1:3], poll_interval=0.02) as tasks:
            simulator.end_call(call_ids[1])
            await tasks[call_ids[1]]

    run(main())
    threads = {thread for _, thread in comms.asked} | set(looked_up_in)
    assert "GetConnection" in {kind for kind, _ in comms.asked}
    assert looked_up_in
    assert not [name for name in threads if name.startswith(THREADS)]


def test_key_is_in_no_verdict_and_no_log(
    world: World, set_connection: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    (call_id,) = world.add_calls(1)
    set_connection(world.simulator, password=KEYS[2])

    async def main() -> None:
        async with watching([call_id]) as tasks:
            await world.seconds_until(tasks[call_id])
            assert KEYS[2] not in tasks[call_id].result().message

    world.run(main())
    assert KEYS[2] not in caplog.text


def test_reading_that_never_returns_stops_no_poll(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's channel can lose a response."""
    call_ids = world.add_calls(3)
    read_connection, readings = connection.get_async_connection, []
    released = []

    async def lose_some(conn_id: str) -> Any:
        readings.append(conn_id)
        if len(readings) in (1, 3):
            lost = asyncio.Event()
            released.append(lost)
            await lost.wait()
        return await read_connection(conn_id)

    monkeypatch.setattr(connection, "get_async_connection", lose_some)

    async def main() -> None:
        async with watching(call_ids, poll_interval=15) as tasks:
            # Without an earlier connection it is an outage, and later the earlier one is used.
            for call_id in call_ids:
                await asyncio.sleep(130)
                world.end(call_id)
                assert await world.seconds_until(tasks[call_id]) <= 80
        for lost in released:
            lost.set()

    world.run(main())
    assert len(released) == 2
