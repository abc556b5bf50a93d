# SPDX-License-Identifier: Apache-2.0
"""What a trigger remembers between two runs: nothing is lost, little is repeated, and the state stays small."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from end_listening import AssetStore, Listening, listening
from polling_world import World, come_true, written

from vapi_provider.models.call import CallStatusView
from vapi_provider.polling.listeners import MOST_LIVE_CALLS, ListenedPoll
from vapi_provider.triggers.ended import VapiCallEndedTrigger
from vapi_provider.triggers.memory import EndMemory
from vapi_provider.triggers.state import SEVERAL_ASSETS, AssetState

NOW = datetime(2026, 8, 1, 12, tzinfo=timezone.utc)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the warnings of the trigger."""
    # Airflow's own logger writes past pytest.
    monkeypatch.setattr(VapiCallEndedTrigger, "log", logging.getLogger("vapi_provider.trigger"))
    return lambda: [
        record.getMessage() for record in caplog.records if record.name == "vapi_provider.trigger"
    ]


@pytest.fixture
def store() -> AssetStore:
    return AssetStore()


def add_ended(world: World, age: float = 0.0) -> str:
    at = written(world.simulator.clock.now() - timedelta(seconds=age))
    body = {"createdAt": at, "updatedAt": at, "endedAt": at, "endedReason": "customer-ended-call"}
    return world.simulator.add_call(status="ended", body=body)


def ended(number: int, seconds_ago: float = 0.0) -> CallStatusView:
    at = (NOW - timedelta(seconds=seconds_ago)).isoformat()
    return CallStatusView.model_validate({"id": f"call-{number}", "status": "ended", "endedAt": at})


def poll_until(seconds_ago: float, live: list[str] | None = None) -> ListenedPoll:
    return ListenedPoll([], NOW - timedelta(seconds=seconds_ago), live or [])


def begun(seconds_ago: float = 900) -> EndMemory:
    memory = EndMemory()
    memory.begin(NOW - timedelta(seconds=seconds_ago))
    return memory


def stored(memory: EndMemory) -> EndMemory:
    again = EndMemory.of(json.loads(json.dumps(memory.state())))
    assert again is not None
    return again


# When it is saved


def test_first_state_is_saved_before_the_first_event(world: World, store: AssetStore) -> None:
    add_ended(world)

    async def main() -> None:
        heard = Listening(VapiCallEndedTrigger(poll_interval=5), store, most=1)
        await heard.task
        (state,) = store.saved
        assert state["reported"] == {}
        assert state["mark"] == int(state["floor"])

    world.run(main())


def test_poll_is_saved_with_the_next_one(world: World, store: AssetStore) -> None:
    call_id = add_ended(world)

    async def main() -> None:
        async with listening(store=store, poll_interval=60) as heard:
            await asyncio.sleep(61)
            assert heard.call_ids == [call_id]
            assert [len(state["reported"]) for state in store.saved] == [0]
            later = add_ended(world)
            await asyncio.sleep(60)
            assert heard.call_ids == [call_id, later]
            assert [len(state["reported"]) for state in store.saved] == [0, 1]

    world.run(main())


def test_airflow_has_four_seconds_to_store_an_event(
    world: World, store: AssetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Polls that follow each other faster than that.
    monkeypatch.setattr("vapi_provider.polling.poller.MIN_INTERVAL_SECONDS", 1.0)
    add_ended(world)

    async def main() -> None:
        heard = Listening(VapiCallEndedTrigger(poll_interval=5), store)
        heard.trigger.poll_interval = 1.0
        await asyncio.sleep(1.5)
        saves = len(store.saved)
        assert len(heard.events) == 1
        # Polls go on.
        await asyncio.sleep(3.4)
        assert len(store.saved) == saves
        await asyncio.sleep(0.7)
        assert len(store.saved[saves]["reported"]) == 1
        await heard.kill()

    world.run(main())


# Kills


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_kill_right_after_an_event_loses_nothing(world: World, store: AssetStore, most: int) -> None:
    first = [add_ended(world, age=9) for _ in range(2)]

    async def main() -> None:
        before = Listening(VapiCallEndedTrigger(poll_interval=5), store, most)
        await asyncio.sleep(16)
        second = [add_ended(world) for _ in range(3)]
        await asyncio.sleep(16)
        await before.kill()
        async with listening(store=store, poll_interval=5) as after:
            await asyncio.sleep(16)
            assert {*before.call_ids, *after.call_ids} == {*first, *second}
            # What is repeated was found by the last poll.
            last = first if most <= 2 else second
            assert {*before.call_ids} & {*after.call_ids} <= {*last}
            assert len(after.call_ids) == len({*after.call_ids})

    world.run(main())


def test_restart_without_an_end_repeats_nothing(world: World, store: AssetStore) -> None:
    call_id = add_ended(world)

    async def main() -> None:
        heard = []
        for _ in range(5):
            async with listening(store=store, poll_interval=5) as listener:
                await asyncio.sleep(16)
                heard += listener.call_ids
        assert heard == [call_id]

    world.run(main())


@pytest.mark.parametrize("hours", [1, 23])
def test_what_ended_during_an_absence_is_reported(world: World, store: AssetStore, hours: int) -> None:
    async def main() -> None:
        async with listening(store=store, poll_interval=5):
            await asyncio.sleep(16)
        ends = []
        for _ in range(hours):
            ends.append(add_ended(world))
            await asyncio.sleep(3_600)
        async with listening(store=store, poll_interval=5) as heard:
            await asyncio.sleep(16)
            assert sorted(heard.call_ids) == sorted(ends)

    world.run(main())


def test_absence_is_made_good_for_a_day(world: World, store: AssetStore) -> None:
    async def main() -> None:
        async with listening(store=store, poll_interval=5):
            await asyncio.sleep(16)
        add_ended(world)
        await asyncio.sleep(10_000)
        recent = add_ended(world)
        await asyncio.sleep(86_000)
        async with listening(store=store, poll_interval=5) as heard:
            await asyncio.sleep(16)
            assert heard.call_ids == [recent]

    world.run(main())


def test_live_calls_survive_a_restart(world: World, store: AssetStore) -> None:
    (call_id,) = world.add_calls(1, age=1)

    async def main() -> None:
        async with listening(store=store, poll_interval=5):
            # Long enough that the list no longer shows it.
            await asyncio.sleep(300)
        world.end(call_id, quietly=True)
        async with listening(store=store, poll_interval=5) as heard:
            await asyncio.sleep(16)
            assert heard.call_ids == [call_id]

    world.run(main())


def test_backlog_that_takes_many_polls_is_read_step_by_step(world: World, store: AssetStore) -> None:
    async def main() -> None:
        async with listening(store=store, poll_interval=5):
            await asyncio.sleep(16)
        ends = []
        for _ in range(10):
            ends += [add_ended(world, age=place / 10) for place in range(60)]
            await asyncio.sleep(3_600)
        seen: list[str] = []
        for _ in range(40):
            async with listening(store=store, poll_interval=5) as heard:
                await asyncio.sleep(11)
                seen += heard.call_ids
        assert {*seen} == {*ends}
        marks = [state["mark"] for state in store.saved]
        assert marks == sorted(marks)

    world.run(main())


def test_trigger_starts_anew_with_unreadable_state(world: World, store: AssetStore) -> None:
    trigger = VapiCallEndedTrigger(poll_interval=5)
    call_id = add_ended(world)

    async def main() -> None:
        for state in ("text", [], {}, {"mark": "soon", "floor": 0}, {"mark": 10**30, "floor": 0}):
            store.values[trigger.state_key] = state
            async with listening(store=store, poll_interval=5) as heard:
                await asyncio.sleep(6)
                assert heard.call_ids == [call_id]

    world.run(main())


# Stores that fail


def test_several_assets_are_logged_once_and_need_no_store(
    world: World, store: AssetStore, logged: Callable[[], list[str]]
) -> None:
    store.error = ValueError("Task has 2 concrete inlets and outlets")
    call_id = add_ended(world)

    async def main() -> None:
        async with listening(store=store, poll_interval=5) as heard:
            await asyncio.sleep(60)
            assert heard.call_ids == [call_id]

    world.run(main())
    assert logged() == [SEVERAL_ASSETS]


def test_store_that_cannot_be_read_at_first_is_waited_for(
    world: World, store: AssetStore, logged: Callable[[], list[str]]
) -> None:
    call_id = add_ended(world)

    async def main() -> None:
        async with listening(store=store, poll_interval=5):
            await asyncio.sleep(16)
        store.error = RuntimeError("a secret")
        async with listening(store=store, poll_interval=5) as heard:
            await asyncio.sleep(120)
            store.error = None
            other = add_ended(world)
            await asyncio.sleep(30)
            # With the state, so nothing is repeated.
            assert heard.call_ids == [other]
        assert call_id != other

    world.run(main())
    (line,) = logged()
    assert line.startswith("The state store of the asset failed (RuntimeError); will keep retrying.")


def test_store_that_never_works_is_given_up_and_not_overwritten(world: World, store: AssetStore) -> None:
    async def main() -> None:
        async with listening(store=store, poll_interval=5):
            await asyncio.sleep(16)
        saves, store.error = len(store.saved), RuntimeError("down")
        async with listening(store=store, poll_interval=5) as heard:
            await asyncio.sleep(700)
            store.error = None
            call_id = add_ended(world)
            await asyncio.sleep(16)
            assert heard.call_ids == [call_id]
        assert len(store.saved) == saves

    world.run(main())


def test_store_that_fails_later_costs_no_event(
    world: World, store: AssetStore, logged: Callable[[], list[str]]
) -> None:
    async def main() -> None:
        async with listening(store=store, poll_interval=5) as heard:
            await asyncio.sleep(16)
            store.error = RuntimeError("down")
            call_id = add_ended(world)
            await asyncio.sleep(60)
            assert heard.call_ids == [call_id]
            store.error = None
            await asyncio.sleep(11)
        assert len(store.saved[-1]["reported"]) == 1

    world.run(main())
    assert len(logged()) == 1


def test_first_start_counts_before_a_store_that_fails(world: World, store: AssetStore) -> None:
    ends = [add_ended(world, age=age) for age in (890, 10)]
    store.error = RuntimeError("down")

    async def main() -> None:
        async with listening(store=store, poll_interval=5) as heard:
            await asyncio.sleep(630)
            assert sorted(heard.call_ids) == sorted(ends)

    world.run(main())


@pytest.mark.parametrize("how", ["hang", "cancel"])
@pytest.mark.parametrize("method", ["aget", "aset"])
def test_store_that_hangs_or_is_cancelled_stops_no_event(
    world: World, store: AssetStore, logged: Callable[[], list[str]], how: str, method: str
) -> None:
    async def stop(*_: Any) -> None:
        if how == "cancel":
            raise asyncio.CancelledError
        await asyncio.sleep(1e9)

    setattr(store, method, stop)

    async def main() -> None:
        async with listening(store=store, poll_interval=5) as heard:
            await asyncio.sleep(640)
            call_id = add_ended(world)
            await asyncio.sleep(60)
            assert heard.call_ids == [call_id]
            assert not heard.task.done()

    world.run(main())
    [line] = logged()
    assert line.startswith("The state store of the asset failed (")


def test_killed_trigger_leaves_no_access_to_the_store(world: World, store: AssetStore) -> None:
    cancelled = []

    async def hang(*_: Any) -> None:
        try:
            await asyncio.sleep(1e9)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    store.aget = hang  # type: ignore[method-assign]

    async def main() -> None:
        async with listening(store=store, poll_interval=5):
            await asyncio.sleep(1)

    world.run(main())
    assert cancelled == [True]


def test_store_of_airflow_3_3_0_is_used_in_a_thread(world: World, store: AssetStore) -> None:
    class OlderStore:
        def get(self, key: str) -> Any:
            return store.values.get(key)

        def set(self, key: str, value: Any) -> None:
            store.values[key] = value

    call_id = add_ended(world)

    async def main() -> None:
        for expected in ([call_id], []):
            async with listening(store=OlderStore(), poll_interval=5) as heard:  # type: ignore[arg-type]
                await asyncio.sleep(16)
                assert heard.call_ids == expected

    world.run(main())


def test_hanging_store_of_airflow_3_3_0_takes_one_thread(run: Callable[..., Any]) -> None:
    let_go, entered = threading.Event(), []

    class HangingStore:
        def set(self, key: str, value: Any) -> None:
            entered.append(value)
            let_go.wait(60)

    async def main() -> None:
        state = AssetState(HangingStore(), "key", logging.getLogger("vapi_provider.trigger"))
        for number in range(5):
            await state.save(number)
        # Before any assertion, because the event loop waits for its threads.
        let_go.set()
        assert entered == [0]
        await come_true(lambda: not state._is_in_thread, "the thread is free")
        await state.save(5)
        assert entered == [0, 5]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vapi_provider.triggers.state.CALL_SECONDS", 0.2)
        run(main())


# The memory itself


def test_memory_survives_storing() -> None:
    memory = begun()
    memory.add(ended(1, 20))
    memory.finish_poll(poll_until(10, ["a", "b"]))
    again = stored(memory)
    assert again.state() == memory.state()
    assert (again.mark, again.live) == (memory.mark, ["a", "b"])
    assert not again.is_new(ended(1, 20))
    assert again.is_new(ended(2, 20))


def test_floor_is_first_start_and_later_an_hour_before_the_mark() -> None:
    memory = begun(900)
    assert memory.is_new(ended(1, 900))
    assert not memory.is_new(ended(1, 900.1))
    memory.finish_poll(poll_until(0))
    assert memory.is_new(ended(1, 900))
    memory.finish_poll(poll_until(-3_000))
    assert memory.is_new(ended(1, 600))
    assert not memory.is_new(ended(1, 601))


def test_memory_forgets_nothing_above_the_floor() -> None:
    memory = begun(900)
    memory.add(ended(1, 599.5))
    # The floor is now in the very second of its end.
    memory.finish_poll(poll_until(-3_000.4))
    assert not memory.is_new(ended(1, 599.5))
    memory.finish_poll(poll_until(-3_002))
    assert memory.state()["reported"] == {}


@pytest.mark.parametrize("number", [1_000, 10_000, 60_000])
def test_state_stays_below_60_kb(number: int) -> None:
    memory = begun(900)
    for each in range(number):
        memory.add(ended(each, seconds_ago=each * 800 / number))
    live = [f"0198a3f0-0000-7000-8000-{each:012d}" for each in range(MOST_LIVE_CALLS)]
    memory.finish_poll(poll_until(0, live))
    assert len(json.dumps(memory.state())) <= 60_000
    again = stored(memory)
    # The latest are known; what had to go is below the floor.
    assert not any(again.is_new(ended(each, each * 800 / number)) for each in range(0, number, 97))
    assert again.is_new(ended(number + 1, 0))


def test_cut_state_raises_the_floor_never_beyond_what_was_read() -> None:
    memory = begun(900)
    for each in range(10_000):
        memory.add(ended(each, seconds_ago=each / 100))
    memory.finish_poll(poll_until(300))
    # All of them ended after the mark, so others that did may be unread.
    assert stored(memory).is_new(ended(20_000, 299))


def test_stored_mark_in_the_future_is_taken_back() -> None:
    memory = begun(0)
    memory.finish_poll(poll_until(-100_000))
    again = stored(memory)
    again.begin(NOW)
    assert again.mark == int(NOW.timestamp())
    assert again.is_new(ended(1, 0))
