# SPDX-License-Identifier: Apache-2.0
"""VapiCallEndedTrigger: its arguments, what it reports, and what it never does."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from end_listening import AssetStore, Listening, listening
from polling_world import World, read, watching, written

from vapi_provider.models.outcome import CallOutcome
from vapi_provider.simulator import Fault
from vapi_provider.triggers.ended import VapiCallEndedTrigger

ASSISTANT_ID = "0198a3f0-0000-7000-8000-0000000000a1"
PHONE_NUMBER_ID = "0198a3f0-0000-7000-8000-0000000000b1"
NOT_FOUND = '{"message": "Not found", "error": "Not Found", "statusCode": 404}'


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    # Airflow's own logger writes past pytest.
    monkeypatch.setattr(VapiCallEndedTrigger, "log", logging.getLogger("vapi_provider.trigger"))
    caplog.set_level(logging.INFO, logger="vapi_provider")


def add_ended(world: World, *, age: float, reason: str = "customer-ended-call", **fields: Any) -> str:
    """Add a call that ended some seconds ago, and did not change since."""
    at = written(world.simulator.clock.now() - timedelta(seconds=age))
    body = {"createdAt": at, "updatedAt": at, "endedAt": at, "endedReason": reason, **fields}
    return world.simulator.add_call(status="ended", body=body)


def date_of(world: World, off: timedelta) -> str:
    """Return a Date header that is off by a while."""
    return format_datetime(world.simulator.clock.now() + off, usegmt=True)


def hear(world: World, seconds: float = 15, **arguments: Any) -> list[dict[str, Any]]:
    """Listen for some seconds, and return the events."""

    async def main() -> list[dict[str, Any]]:
        async with listening(**{"poll_interval": 5, **arguments}) as heard:
            await asyncio.sleep(seconds)
            return heard.events  # type: ignore[no-any-return]

    return world.run(main())


# Arguments


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"poll_interval": 4.9}, "poll_interval must be a number of seconds, from 5 to 86400; got 4.9"),
        ({"poll_interval": math.nan}, "got nan"),
        ({"poll_interval": math.inf}, "got inf"),
        ({"poll_interval": timedelta(minutes=1)}, "poll_interval must be a number of seconds"),
        ({"poll_interval": True}, "got True"),
        ({"poll_interval": 86_401}, "got 86401"),
        ({"poll_interval": 1e300}, "got 1e+300"),
        ({"poll_interval": 10**400}, "got a number of many digits"),
        ({"lookback": -(10**5000)}, "got a number of many digits"),
        ({"lookback": -1}, "lookback must be a number of seconds, from 0 to 86400; got -1"),
        ({"lookback": 86_401}, "got 86401"),
        ({"outcomes": ["busy"]}, "outcomes must be a list of known outcomes (completed, no_answer,"),
        ({"outcomes": "completed"}, "got 'completed'"),
        ({"outcomes": None}, "got None"),
        ({"assistant_id": ""}, "assistant_id must be a non-empty string"),
        ({"assistant_id": "{{ var.value.assistant }}"}, "assistant_id must be a constant"),
        ({"phone_number_id": 5}, "phone_number_id must be a non-empty string"),
        ({"vapi_conn_id": None}, "vapi_conn_id must be a non-empty string"),
    ],
)
def test_unusable_argument_is_a_value_error(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match="^[a-z_]+ must be") as raised:
        VapiCallEndedTrigger(**arguments)
    assert problem in str(raised.value)


def test_unknown_argument_is_refused() -> None:
    with pytest.raises(TypeError):
        VapiCallEndedTrigger(interval=60)  # type: ignore[call-arg]


def test_equal_arguments_serialize_alike() -> None:
    first = VapiCallEndedTrigger(
        poll_interval=60, lookback=900, outcomes=["no_answer", CallOutcome.COMPLETED]
    )
    second = VapiCallEndedTrigger(outcomes=("completed", "no_answer", "completed"), poll_interval=60.0)
    assert json.dumps(first.serialize()) == json.dumps(second.serialize())
    assert first.state_key == second.state_key
    assert first.serialize()[1]["outcomes"] == ["completed", "no_answer"]
    assert first.state_key != VapiCallEndedTrigger().state_key


def test_stored_trigger_can_be_made_again() -> None:
    trigger = VapiCallEndedTrigger("other", ASSISTANT_ID, PHONE_NUMBER_ID, ["failed"], 30, 0)
    path, arguments = trigger.serialize()
    assert path == "vapi_provider.triggers.ended.VapiCallEndedTrigger"
    again = VapiCallEndedTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == trigger.serialize()


def test_state_key_is_the_same_in_every_process() -> None:
    assert (
        VapiCallEndedTrigger().state_key
        == "vapi_ended_d55bb7520c33b4f8da4941612a823e50184f9d31d22f2075225f7c8c335fba3f"
    )


def test_airflow_knows_it_as_an_event_trigger() -> None:
    from airflow.sdk import Asset, AssetWatcher
    from airflow.triggers.base import BaseEventTrigger

    trigger = VapiCallEndedTrigger()
    asset = Asset("vapi_calls", watchers=[AssetWatcher(name="ended", trigger=trigger)])
    assert asset.watchers[0].trigger is trigger
    path, arguments = trigger.serialize()
    assert BaseEventTrigger.hash(path, arguments) == BaseEventTrigger.hash(path, dict(arguments))


# Events


def test_event_describes_the_end_and_no_person(world: World) -> None:
    call_id = add_ended(
        world,
        age=60,
        type="inboundPhoneCall",
        assistantId=ASSISTANT_ID,
        phoneNumberId=PHONE_NUMBER_ID,
        cost=0.25,
        customer={"number": "+12025550143", "name": "Ada"},
        transcript="Hello",
    )
    (event,) = hear(world)
    assert event == {
        "call_id": call_id,
        "ended_at": read(world.simulator.get_call(call_id)["endedAt"]).isoformat(),
        "ended_reason": "customer-ended-call",
        "outcome": "completed",
        "type": "inboundPhoneCall",
        "assistant_id": ASSISTANT_ID,
        "phone_number_id": PHONE_NUMBER_ID,
        "cost": 0.25,
    }


def test_event_has_none_for_what_is_missing(world: World) -> None:
    missing = ("endedAt", "endedReason", "type", "assistantId", "phoneNumberId")
    call_id = add_ended(world, age=60, **dict.fromkeys(missing))
    (event,) = hear(world)
    assert event == {**dict.fromkeys(event), "call_id": call_id, "outcome": "unknown"}


@pytest.mark.parametrize("status", ["not-found", "deletion-failed", "scheduled", "queued", "in-progress"])
def test_call_that_has_not_ended_makes_no_event(world: World, status: str) -> None:
    world.simulator.add_call(status=status)
    assert hear(world, 60) == []


@pytest.mark.parametrize("kind", ["inboundPhoneCall", "webCall", "vapi.websocketCall", "newKind"])
def test_every_type_of_call_makes_an_event(world: World, kind: str) -> None:
    add_ended(world, age=1, type=kind)
    assert [event["type"] for event in hear(world)] == [kind]


@pytest.mark.parametrize(
    ("arguments", "heard"),
    [
        ({}, [0, 1, 2, 3]),
        ({"assistant_id": ASSISTANT_ID}, [0, 1]),
        ({"assistant_id": ASSISTANT_ID.upper()}, [0, 1]),
        ({"phone_number_id": PHONE_NUMBER_ID}, [0, 2]),
        ({"outcomes": ["no_answer", "failed"]}, [1]),
        ({"assistant_id": ASSISTANT_ID, "outcomes": ["completed"]}, [0]),
        ({"assistant_id": "another"}, []),
    ],
    ids=str,
)
def test_filters(world: World, arguments: dict[str, Any], heard: list[int]) -> None:
    ids = [
        add_ended(world, age=9, assistantId=ASSISTANT_ID, phoneNumberId=PHONE_NUMBER_ID),
        add_ended(world, age=8, assistantId=ASSISTANT_ID, reason="customer-did-not-answer"),
        add_ended(world, age=7, phoneNumberId=PHONE_NUMBER_ID),
        add_ended(world, age=6),
    ]
    events = hear(world, **arguments)
    assert sorted(event["call_id"] for event in events) == sorted(ids[place] for place in heard)


@pytest.mark.parametrize("quietly", [False, True], ids=["noticeably", "quietly"])
def test_live_call_is_reported_once_when_it_ends(world: World, quietly: bool) -> None:
    (call_id,) = world.add_calls(1, age=1)

    async def main() -> None:
        async with listening(poll_interval=5) as heard:
            await asyncio.sleep(30)
            assert heard.events == []
            world.end(call_id, quietly=quietly)
            await asyncio.sleep(5.1)
            assert heard.call_ids == [call_id]
            await asyncio.sleep(4_000)
            assert heard.call_ids == [call_id]

    world.run(main())


def test_scheduled_call_is_not_read_by_turn(world: World) -> None:
    world.simulator.add_call(status="scheduled")
    hear(world, 60)
    assert {request.path for request in world.simulator.requests} == {"/call"}


def test_reason_may_follow_the_end(world: World) -> None:
    (call_id,) = world.add_calls(1, age=1)

    async def main() -> None:
        async with listening(poll_interval=5, outcomes=["completed"]) as heard:
            await asyncio.sleep(11)
            world.change(call_id, status="ended", endedAt=written(world.simulator.clock.now()))
            await asyncio.sleep(8)
            assert heard.events == []
            world.change(call_id, quietly=True, endedReason="customer-ended-call")
            await asyncio.sleep(6)
            assert [event["ended_reason"] for event in heard.events] == ["customer-ended-call"]

    world.run(main())


def test_erased_live_call_is_forgotten(world: World, caplog: pytest.LogCaptureFixture) -> None:
    (call_id,) = world.add_calls(1, age=1)

    async def main() -> None:
        async with listening(poll_interval=5) as heard:
            # Until the list has nothing to repeat.
            await asyncio.sleep(200)
            world.simulator.faults.add(Fault(path=f"/call/{call_id}", status=404, body=NOT_FOUND))
            await asyncio.sleep(30)
            assert heard.events == []

    world.run(main())
    assert caplog.text.count(f"Call {call_id} cannot be read") == 1
    assert [request.path for request in world.simulator.requests][-1] == "/call"


# By endedAt


def test_renamed_call_is_not_reported_again(world: World) -> None:
    call_id = add_ended(world, age=5)

    async def main() -> None:
        async with listening(poll_interval=5) as heard:
            for _ in range(100):
                await asyncio.sleep(61)
                world.change(call_id, name="Renamed")
            assert heard.call_ids == [call_id]

    world.run(main())


def test_old_call_that_is_renamed_is_not_reported(world: World) -> None:
    call_id = add_ended(world, age=1_000)

    async def main() -> None:
        async with listening(poll_interval=5) as heard:
            await asyncio.sleep(11)
            world.change(call_id, name="Renamed")
            await asyncio.sleep(11)
            assert heard.events == []

    world.run(main())


@pytest.mark.parametrize("lookback", [0, 60, 900, 7_200, 86_400])
def test_first_start_looks_back_as_told(world: World, lookback: float) -> None:
    recent = [add_ended(world, age=lookback - 2)] if lookback else []
    add_ended(world, age=lookback + 2)
    assert [event["call_id"] for event in hear(world, 6, lookback=lookback)] == recent


@pytest.mark.parametrize("age", [0, 3_500])
def test_end_may_be_shown_an_hour_late(world: World, age: float) -> None:
    async def main() -> None:
        async with listening(poll_interval=60) as heard:
            await asyncio.sleep(7_200)
            assert len(heard.events) == 1
            call_id = add_ended(world, age=age)
            world.change(call_id, name="Shown now")
            await asyncio.sleep(61)
            assert heard.call_ids[1:] == [call_id]

    add_ended(world, age=1)
    world.run(main())


# Failures


@pytest.mark.parametrize(
    "fault",
    [{"status": 401}, {"status": 403}, {"status": 503}, {"reset": "before"}, {"body": "<html>"}],
    ids=["401", "403", "503", "reset", "html"],
)
def test_outage_is_logged_once_and_outlasted(
    world: World, caplog: pytest.LogCaptureFixture, fault: dict[str, Any]
) -> None:
    async def main() -> None:
        async with listening(poll_interval=5) as heard:
            await asyncio.sleep(11)
            world.simulator.faults.add(Fault(times=None, **fault))
            await asyncio.sleep(7_200)
            world.simulator.faults.clear()
            call_id = add_ended(world, age=0)
            await asyncio.sleep(611)
            assert heard.call_ids == [call_id]

    world.run(main())
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("Polling Vapi failed (connection 'vapi_default', 1 asset trigger)")


def test_pauses_grow_to_ten_minutes(world: World) -> None:
    world.simulator.faults.add(Fault(times=None, status=503))

    async def main() -> None:
        async with listening(poll_interval=5):
            await asyncio.sleep(7_200)

    world.run(main())
    starts = [poll[0].at for poll in world.polls()]
    gaps = [(later - earlier).total_seconds() for earlier, later in zip(starts, starts[1:], strict=False)]
    assert gaps[0] <= 10.1
    assert max(gaps) <= 600.1
    assert min(gaps[8:]) >= 300
    assert len(gaps) < 30


@pytest.mark.parametrize("poll_interval", [5, 86_400])
def test_task_that_joins_ends_a_long_pause(world: World, poll_interval: float) -> None:
    (call_id,) = world.add_calls(1)
    world.simulator.faults.add(Fault(times=None, status=503))

    async def main() -> None:
        async with listening(poll_interval=poll_interval):
            await asyncio.sleep(3_600)
            world.simulator.faults.clear()
            world.end(call_id)
            async with watching([call_id]) as tasks:
                assert await world.seconds_until(tasks[call_id]) <= 21

    world.run(main())


def test_refused_key_ends_waits_and_not_listeners(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (call_id,) = world.add_calls(1)

    async def main() -> None:
        async with listening(poll_interval=5) as heard:
            async with watching([call_id]) as tasks:
                await asyncio.sleep(11)
                world.simulator.faults.add(Fault(times=None, status=401))
                await world.seconds_until(tasks[call_id])
                assert tasks[call_id].result().status == "error"
            world.simulator.faults.clear()
            conn = {**json.loads(world.simulator.connection), "password": "revoked"}
            monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", json.dumps(conn))
            await asyncio.sleep(1_300)
            monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", world.simulator.connection)
            world.end(call_id)
            await asyncio.sleep(600)
            assert heard.call_ids == [call_id]

    world.run(main())


def test_missing_connection_is_outlasted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_VAPI_DEFAULT")

    async def main() -> None:
        async with listening(poll_interval=5) as heard:
            await asyncio.sleep(3_600)
            monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", world.simulator.connection)
            call_id = add_ended(world, age=0)
            await asyncio.sleep(611)
            assert heard.call_ids == [call_id]

    world.run(main())


def test_defect_does_not_end_it(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from vapi_provider.triggers.memory import EndMemory

    call_id = add_ended(world, age=5)
    is_new = EndMemory.is_new

    def break_once(memory: Any, call: Any) -> bool:
        monkeypatch.setattr(EndMemory, "is_new", is_new)
        raise KeyError(call.id)

    monkeypatch.setattr(EndMemory, "is_new", break_once)
    assert [event["call_id"] for event in hear(world, 90)] == [call_id]
    assert "Bug in airflow-provider-vapi (KeyError)" in caplog.text


# Vapi's clock


@pytest.mark.parametrize(
    ("responses", "off"),
    [(1, timedelta(minutes=10)), (2, timedelta(hours=1)), (3, timedelta(days=400))],
    ids=str,
)
def test_wrong_first_time_hides_no_end(world: World, responses: int, off: timedelta) -> None:
    before = add_ended(world, age=890)
    add_ended(world, age=920)
    world.simulator.faults.add(Fault(times=responses, headers={"Date": date_of(world, off)}))

    async def main() -> None:
        async with listening(poll_interval=5, store=AssetStore()) as heard:
            await asyncio.sleep(8)
            meanwhile = add_ended(world, age=0)
            await asyncio.sleep(25)
            later = add_ended(world, age=0)
            await asyncio.sleep(11)
            assert sorted(heard.call_ids) == sorted([before, meanwhile, later])
            await asyncio.sleep(4_000)
            assert len(heard.call_ids) == 3

    world.run(main())


@pytest.mark.parametrize("off", [timedelta(hours=1), timedelta(hours=-1)], ids=str)
def test_wrong_time_in_the_middle_repeats_and_hides_nothing(world: World, off: timedelta) -> None:
    async def main() -> None:
        async with listening(poll_interval=5, store=AssetStore()) as heard:
            await asyncio.sleep(130)
            ends = [add_ended(world, age=0)]
            await asyncio.sleep(4_000)
            world.simulator.faults.add(Fault(times=3, headers={"Date": date_of(world, off)}))
            await asyncio.sleep(20)
            ends.append(add_ended(world, age=0))
            await asyncio.sleep(20)
            assert heard.call_ids == ends

    world.run(main())


def test_state_is_not_lost_by_a_wrong_first_time(world: World) -> None:
    store = AssetStore()

    async def main() -> None:
        async with listening(poll_interval=5, store=store) as heard:
            await asyncio.sleep(11)
            known = add_ended(world, age=0)
            await asyncio.sleep(16)
            assert heard.call_ids == [known]
        ends = [add_ended(world, age=0)]
        await asyncio.sleep(3_000)
        ends.append(add_ended(world, age=0))
        world.simulator.faults.add(Fault(times=1, headers={"Date": date_of(world, timedelta(hours=1))}))
        async with listening(poll_interval=5, store=store) as heard:
            await asyncio.sleep(21)
            assert sorted(heard.call_ids) == sorted(ends)

    world.run(main())


def test_list_in_no_order_hides_no_end(world: World) -> None:
    def in_no_order(query: dict[str, str], fetch: Any) -> Any:
        rows = fetch({**query, "limit": "1000"})
        random.Random(len(rows)).shuffle(rows)
        return rows[: int(query["limit"])]

    world.lie(in_no_order)

    async def main() -> None:
        async with listening(poll_interval=60) as heard:
            await asyncio.sleep(125)
            ends = [add_ended(world, age=place / 10) for place in range(300)]
            await asyncio.sleep(121)
            assert sorted(heard.call_ids) == sorted(ends)

    world.run(main())


@pytest.mark.parametrize("places", [[10], [10, 11], [0, 19]], ids=str)
def test_oversized_calls_hide_no_other_end(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, places: list[int]
) -> None:
    monkeypatch.setattr("vapi_provider.polling.connection.MAX_RESPONSE_BYTES", 100_000)

    async def main() -> None:
        async with listening(poll_interval=5) as heard:
            await asyncio.sleep(125)
            sizes = {place: "x" * 110_000 for place in places}
            ends = [add_ended(world, age=place, transcript=sizes.get(place, "")) for place in range(20)]
            await asyncio.sleep(120)
            expected = [call_id for place, call_id in enumerate(ends) if place not in places]
            assert sorted(heard.call_ids) == sorted(expected)

    world.run(main())
    assert "An asset trigger may miss the ends of calls that last changed between 20" in caplog.text


# One poll for all


def test_triggers_and_tasks_share_one_walk(world: World) -> None:
    call_ids = world.add_calls(3, age=7_200)

    async def main() -> None:
        async with (
            listening(poll_interval=60),
            listening(poll_interval=10, outcomes=["failed"]),
            watching(call_ids, poll_interval=30),
        ):
            await asyncio.sleep(605)

    world.run(main())
    polls = world.polls()
    assert 58 <= len(polls) <= 61
    # One page, and the three calls that tasks wait for.
    assert {len(poll) for poll in polls[2:]} == {4}


def test_no_poll_has_more_than_20_requests(world: World) -> None:
    calls = world.add_calls(400, age=5, spacing=0.01)

    async def main() -> None:
        async with listening(poll_interval=5), watching(calls[:100]):
            await asyncio.sleep(120)

    world.run(main())
    assert max(len(poll) for poll in world.polls()) == 20


def test_listener_that_joins_hears_what_the_poll_read_before(world: World) -> None:
    async def main() -> None:
        async with listening(poll_interval=5) as first:
            await asyncio.sleep(60)
            call_id = add_ended(world, age=0)
            await asyncio.sleep(300)
            async with listening(poll_interval=5, lookback=600) as second:
                await asyncio.sleep(6)
                assert second.call_ids == first.call_ids == [call_id]

    world.run(main())


def test_1000_ends_in_a_minute_are_reported_in_two_intervals(world: World) -> None:
    async def main() -> None:
        async with listening(poll_interval=60) as heard:
            call_ids = world.add_calls(1_000, age=0, transcript="x" * 19_000)
            await asyncio.sleep(125)
            world.end(*call_ids, within=60)
            await asyncio.sleep(121)
            assert sorted(heard.call_ids) == sorted(call_ids)

    world.run(main())
    assert max(len(poll) for poll in world.polls()) <= 20


def test_killed_trigger_leaves_no_poller(world: World) -> None:
    add_ended(world, age=5)

    async def main() -> None:
        # Its consumer goes away right after an event.
        heard = Listening(VapiCallEndedTrigger(poll_interval=5), most=1)
        await heard.task
        assert len(heard.events) == 1

    world.run(main())


def test_store_that_is_absent_is_not_missed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    add_ended(world, age=5)
    assert len(hear(world, store=None)) == 1
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert len(hear(world, store=AssetStore())) == 1
