# SPDX-License-Identifier: Apache-2.0
"""Listing calls: each once, newest first, lazily, and an error rather than a gap."""

from __future__ import annotations

import gc
import operator
import random
import uuid
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hook_helpers import API, failure, make_hook

from vapi_provider.exceptions import VapiTransientError
from vapi_provider.hooks.vapi import VapiHook

if TYPE_CHECKING:
    import requests_mock

    from vapi_provider.models.call import Call
    from vapi_provider.simulator import VapiSimulator

START = datetime(2026, 8, 1, 9, 30, tzinfo=timezone.utc)
ASSISTANT = "0197aaaa-5f00-7000-8000-000000000001"


def ms(milliseconds: float) -> datetime:
    return START + timedelta(milliseconds=milliseconds)


def stamp(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class ListServer:
    """
    A list of calls behind ``GET /call``, which need not be as tidy as the simulator's.

    :param instants: when each call was created; finer than a millisecond, which the answers do not show
    :param cap: the most calls that a page holds, whatever is asked for
    :param order: puts a page in order; by default newest first, and calls of one instant in any order, another
        one each time
    """

    def __init__(
        self,
        api: requests_mock.Mocker,
        instants: list[datetime],
        *,
        cap: int = 1000,
        order: Callable[[list[tuple[datetime, str]]], None] | None = None,
    ) -> None:
        self.rows = [(instant, str(uuid.UUID(int=number + 1))) for number, instant in enumerate(instants)]
        self.queries: list[dict[str, list[str]]] = []
        self._cap = cap
        self._order = order or self._newest_first
        api.get(f"{API}/call", json=self._answer)

    @property
    def ids(self) -> set[str]:
        return {call_id for _, call_id in self.rows}

    @staticmethod
    def _newest_first(rows: list[tuple[datetime, str]]) -> None:
        random.shuffle(rows)
        rows.sort(key=lambda row: row[0], reverse=True)

    def _answer(self, request: Any, _: Any) -> list[dict[str, Any]]:
        self.queries.append(request.qs)
        assert len(self.queries) < 1000, "it asks without end"
        rows = list(self.rows)
        for name, compare in (
            ("lt", operator.lt),
            ("le", operator.le),
            ("gt", operator.gt),
            ("ge", operator.ge),
        ):
            for bound in request.qs.get(f"createdat{name}", []):
                instant = datetime.fromisoformat(bound.upper())
                rows = [row for row in rows if compare(row[0], instant)]
        self._order(rows)
        rows = rows[: min(int(request.qs["limit"][0]), self._cap)]
        return [{"id": call_id, "createdAt": stamp(instant)} for instant, call_id in rows]


def check(listed: list[Call], server: ListServer) -> None:
    """Look whether all calls came, each once, newest first."""
    ids = [call.id for call in listed]
    assert len(ids) == len(set(ids))
    assert set(ids) == server.ids
    shown = [call.created_at for call in listed]
    assert shown == sorted(shown, reverse=True)  # type: ignore[type-var]


def assert_whole_or_error(calls: Iterator[Call], server: ListServer) -> None:
    """Look whether a list that cannot always be walked has no gap that nobody is told of."""
    listed: list[Call] = []
    message = ""
    try:
        listed.extend(calls)
    except VapiTransientError as error:
        message = str(error)
    if message:
        assert "created_at_lt" in message or "in no order" in message
    else:
        check(listed, server)


@pytest.fixture
def hook(simulator: VapiSimulator) -> VapiHook:
    return make_hook(simulator.url, password=simulator.api_key)


@pytest.mark.parametrize(("count", "page_size"), [(0, 10), (1, 1), (7, 3), (30, 10), (31, 10), (250, 100)])
def test_all_calls_of_the_api_are_listed_newest_first(
    simulator: VapiSimulator, hook: VapiHook, count: int, page_size: int
) -> None:
    for number in range(count):
        simulator.add_call(body={"createdAt": stamp(ms(number * 10)), "name": f"call {number}"})
    names = [call.name for call in hook.list_calls(page_size=page_size)]
    assert names == [f"call {number}" for number in reversed(range(count))]
    assert simulator.requests[0].query == {"limit": str(page_size)}


def test_the_filters_are_those_of_the_api(simulator: VapiSimulator, hook: VapiHook) -> None:
    number_id = str(uuid.uuid4())
    for position in range(10):
        simulator.add_call(
            body={
                "name": f"call {position}",
                "assistantId": ASSISTANT if position % 2 else str(uuid.uuid4()),
                "phoneNumberId": number_id if position < 8 else str(uuid.uuid4()),
                "createdAt": stamp(ms(position * 1000)),
                "updatedAt": stamp(ms(position * 1000 + 500)),
            }
        )

    def names(**filters: Any) -> str:
        return "".join((call.name or "")[-1] for call in hook.list_calls(page_size=2, **filters))

    assert names() == "9876543210"
    assert names(assistant_id=ASSISTANT.upper()) == "97531"
    assert names(phone_number_id=number_id) == "76543210"
    assert names(created_at_ge=ms(3000), created_at_lt=ms(6000)) == "543"
    assert names(updated_at_ge=ms(3500), updated_at_lt=ms(6500)) == "543"
    assert names(created_at_ge=ms(3000).astimezone(timezone(timedelta(hours=-7)))) == "9876543"
    assert names(assistant_id=ASSISTANT, created_at_lt=stamp(ms(6000)), updated_at_ge=ms(2000)) == "53"
    assert all("limit" in request.query for request in simulator.requests)


def test_filters_stay_the_same_from_page_to_page(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [ms(number) for number in range(0, 50, 5)])
    check(list(make_hook().list_calls(page_size=4, assistant_id=ASSISTANT, updated_at_ge=ms(0))), server)
    assert len(server.queries) > 2
    assert {(q["assistantid"][0], q["updatedatge"][0]) for q in server.queries} == {
        (ASSISTANT, ms(0).isoformat().lower())
    }


def test_nothing_is_sent_before_the_first_call_is_wanted_and_no_page_before_its_time(
    simulator: VapiSimulator, hook: VapiHook
) -> None:
    for number in range(9):
        simulator.add_call(body={"createdAt": stamp(ms(number * 10)), "name": str(number)})
    listed = hook.list_calls(page_size=4)
    assert simulator.requests == []
    assert [next(listed).name for _ in range(4)] == ["8", "7", "6", "5"]
    assert len(simulator.requests) == 1
    assert next(listed).name == "4"
    assert len(simulator.requests) == 2
    assert isinstance(listed, Iterator)


def test_an_unusable_connection_is_told_when_the_first_call_is_wanted() -> None:
    listed = VapiHook("vapi_nowhere").list_calls()
    with pytest.raises(Exception, match="There is no connection 'vapi_nowhere'"):
        next(listed)


def test_one_page_is_held_at_a_time(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [ms(number * 10) for number in range(40)])
    alive: list[int] = []
    seen: list[weakref.ref[Call]] = []
    answer = server._answer

    def count_the_living(request: Any, context: Any) -> Any:
        gc.collect()
        alive.append(sum(ref() is not None for ref in seen))
        return answer(request, context)

    api.get(f"{API}/call", json=count_the_living)
    for call in make_hook().list_calls(page_size=10):
        seen.append(weakref.ref(call))
    assert len(seen) == 40
    assert len(alive) >= 4
    # The one that the loop still holds.
    assert max(alive) <= 1


@pytest.mark.parametrize("page_size", [2, 3, 4, 5, 100])
def test_equal_instants_across_the_border_of_a_page_lose_and_repeat_nothing(
    api: requests_mock.Mocker, page_size: int
) -> None:
    for seed in range(10):
        random.seed(seed)
        server = ListServer(api, [ms(at) for at in (0, 1, 1, 1, 2, 2, 5, 5, 5, 5, 9, 9)])
        check(list(make_hook().list_calls(page_size=page_size)), server)


def test_a_page_that_lies_within_one_instant_makes_it_ask_for_more(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [ms(20), *[ms(10)] * 30, ms(0)])
    check(list(make_hook().list_calls(page_size=5)), server)
    limits = [int(query["limit"][0]) for query in server.queries]
    assert limits[0] == 5
    assert 30 < max(limits) <= 1000


def test_a_thousand_calls_of_one_instant_are_listed(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [*[ms(10)] * 999, ms(0)])
    check(list(make_hook().list_calls(page_size=100)), server)


@pytest.mark.parametrize("page_size", [100, 1000])
def test_more_than_a_thousand_calls_of_one_instant_are_an_error_and_no_endless_loop(
    api: requests_mock.Mocker, page_size: int
) -> None:
    # Always the same thousand, as a database would answer.
    server = ListServer(api, [*[ms(10)] * 1500, ms(0)], order=lambda rows: rows.sort(reverse=True))
    listed: list[Call] = []
    error = failure(VapiTransientError, lambda: listed.extend(make_hook().list_calls(page_size=page_size)))
    assert "GET /call cannot go on" in str(error)
    assert stamp(ms(10))[:19] in str(error)
    assert "created_at_lt" in str(error)
    assert (error.method, error.path) == ("GET", "/call")
    assert len(server.queries) < 10
    assert len({call.id for call in listed}) == len(listed)


def test_the_way_on_that_the_error_names_works(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [*[ms(10)] * 1500, ms(5), ms(0)])
    with pytest.raises(VapiTransientError, match="ask for them with created_at_lt"):
        list(make_hook().list_calls(page_size=1000))
    listed = [call.id for call in make_hook().list_calls(created_at_lt=ms(10))]
    assert listed == [call_id for _, call_id in server.rows[-2:]]


@pytest.mark.parametrize("cap", [2, 7, 50])
def test_a_server_that_gives_less_than_it_is_asked_for_is_walked_to_the_end(
    api: requests_mock.Mocker, cap: int
) -> None:
    server = ListServer(api, [ms(number * 10) for number in range(60)], cap=cap)
    check(list(make_hook().list_calls(page_size=100)), server)


def test_equal_instants_under_a_server_that_gives_less(api: requests_mock.Mocker) -> None:
    for seed in range(10):
        random.seed(seed)
        server = ListServer(api, [ms(random.randrange(12)) for _ in range(20)], cap=10)
        check(list(make_hook().list_calls(page_size=100)), server)


@pytest.mark.parametrize("older", [[ms(0)], []], ids=["with older calls", "at the end"])
def test_an_instant_that_fills_a_capped_page_is_an_error_and_no_gap(
    api: requests_mock.Mocker, older: list[datetime]
) -> None:
    ListServer(
        api, [ms(30), ms(20), *[ms(10)] * 8, *older], cap=4, order=lambda rows: rows.sort(reverse=True)
    )
    listed: list[Call] = []
    error = failure(VapiTransientError, lambda: listed.extend(make_hook().list_calls(page_size=100)))
    assert "GET /call cannot go on" in str(error)
    assert "created_at_lt" in str(error)


def test_a_first_page_that_lies_within_one_instant_under_a_server_that_gives_less(
    api: requests_mock.Mocker,
) -> None:
    instants = [*[ms(10)] * 8, *[ms(0)] * 3]
    server = ListServer(api, instants, cap=4, order=lambda rows: rows.sort(reverse=True))
    assert_whole_or_error(make_hook().list_calls(page_size=100), server)


@pytest.mark.parametrize("order", [list.reverse, random.shuffle, list.sort], ids=["reversed", "none", "old"])
def test_a_full_page_without_order_is_an_error_rather_than_a_gap(
    api: requests_mock.Mocker, order: Callable[[list[Any]], None]
) -> None:
    random.seed(3)
    server = ListServer(api, [ms(100 - number) for number in range(40)], order=order)
    error = failure(VapiTransientError, lambda: list(make_hook().list_calls(page_size=10)))
    assert "GET /call lists calls in no order" in str(error)
    assert "fewer than 10 calls" in str(error)
    assert len(server.queries) == 1


@pytest.mark.parametrize("order", [list.reverse, random.shuffle], ids=["reversed", "none"])
def test_a_short_list_without_order_is_put_in_order(
    api: requests_mock.Mocker, order: Callable[[list[Any]], None]
) -> None:
    random.seed(3)
    server = ListServer(api, [ms(100 - number) for number in range(9)], order=order)
    check(list(make_hook().list_calls(page_size=10)), server)


@pytest.mark.parametrize("order", [lambda rows: rows.sort(), random.shuffle], ids=["oldest first", "none"])
def test_a_list_without_order_under_a_server_that_gives_less_has_no_silent_gap(
    api: requests_mock.Mocker, order: Callable[[list[Any]], None]
) -> None:
    for seed in range(10):
        random.seed(seed)
        server = ListServer(api, [ms(number * 10) for number in range(60)], cap=10, order=order)
        assert_whole_or_error(make_hook().list_calls(page_size=100), server)


def page_of(*rows: tuple[str, datetime | None]) -> list[dict[str, Any]]:
    return [{"id": call_id, "createdAt": at and stamp(at)} for call_id, at in rows]


def test_rows_that_are_repeated_within_a_page_come_once(api: requests_mock.Mocker) -> None:
    first = page_of(("a", ms(30)), ("a", ms(30)), ("b", ms(20)), ("b", ms(20)))
    api.get(f"{API}/call", [{"json": first}, {"json": page_of(("b", ms(20)), ("c", ms(10)))}, {"json": []}])
    assert [call.id for call in make_hook().list_calls(page_size=4)] == ["a", "b", "c"]


def test_a_call_without_an_instant_is_listed_once(api: requests_mock.Mocker) -> None:
    first = page_of(("a", ms(30)), ("x", None), ("b", ms(20)))
    second = page_of(("b", ms(20)), ("x", None), ("c", ms(10)))
    api.get(f"{API}/call", [{"json": first}, {"json": second}, {"json": page_of(("c", ms(10)))}])
    listed = [call.id for call in make_hook().list_calls(page_size=3)]
    assert sorted(listed) == ["a", "b", "c", "x"]
    assert [call_id for call_id in listed if call_id != "x"] == ["a", "b", "c"]


def test_calls_that_all_lack_an_instant_are_listed_or_refused_but_never_without_end(
    api: requests_mock.Mocker,
) -> None:
    api.get(f"{API}/call", json=page_of(*[(f"x{number}", None) for number in range(3)]))
    assert len(list(make_hook().list_calls(page_size=10))) == 3
    assert api.call_count < 5
    api.get(
        f"{API}/call",
        json=lambda request, _: page_of(*[(f"x{n}", None) for n in range(int(request.qs["limit"][0]))]),
    )
    failure(VapiTransientError, lambda: list(make_hook().list_calls(page_size=100)))
    assert api.call_count < 15


@pytest.mark.parametrize("year", [1, 9999])
def test_an_absurd_instant_does_not_end_the_list(api: requests_mock.Mocker, year: int) -> None:
    absurd = datetime(year, 12, 31, 23, 59, 59, 999_000, tzinfo=timezone.utc)
    server = ListServer(api, [absurd, ms(0), absurd, ms(10)])
    check(list(make_hook().list_calls(page_size=2)), server)


def test_calls_that_are_placed_meanwhile_do_not_disturb(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [ms(number * 10) for number in range(20)])
    expected = server.ids
    listed = []
    for number, call in enumerate(make_hook().list_calls(page_size=3)):
        listed.append(call.id)
        server.rows.append((ms(1000 + number), str(uuid.uuid4())))
    assert len(listed) == 20
    assert set(listed) == expected


def test_an_error_in_the_middle_comes_after_the_calls_before_it(api: requests_mock.Mocker) -> None:
    api.get(
        f"{API}/call",
        [{"json": page_of(("a", ms(30)), ("b", ms(20)))}, {"status_code": 503}],
    )
    listed: list[str] = []
    failure(
        VapiTransientError,
        lambda: listed.extend(call.id for call in make_hook(max_retries=1).list_calls(page_size=2)),
    )
    assert listed == ["a", "b"]


def test_a_page_that_fails_for_a_moment_is_asked_for_again(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [ms(number * 10) for number in range(20)])
    answer, failed = server._answer, []

    def fail_every_other(request: Any, context: Any) -> Any:
        if len(failed) == len(server.queries):
            failed.append(1)
            context.status_code = 502
            return None
        return answer(request, context)

    api.get(f"{API}/call", json=fail_every_other)
    check(list(make_hook().list_calls(page_size=4)), server)
    assert len(failed) == len(server.queries) >= 5


@pytest.mark.parametrize("seed", range(40))
def test_whatever_was_created_when_comes_once_and_newest_first(api: requests_mock.Mocker, seed: int) -> None:
    chance = random.Random(seed)
    random.seed(seed)
    for _ in range(5):
        count = chance.randrange(0, 80)
        span = chance.choice([1, 3, 10, 100, 10_000])
        finer = chance.choice([0, 0, 1])
        instants = [ms(chance.randrange(span) + finer * chance.random()) for _ in range(count)]
        server = ListServer(api, instants)
        listed = list(make_hook().list_calls(page_size=chance.choice([1, 2, 3, 5, 10, 40, 80, 100, 1000])))
        check(listed, server)
        assert len(server.queries) < 2 * count + 10


@pytest.mark.parametrize("seed", range(10))
def test_a_capped_list_is_whole_or_an_error(api: requests_mock.Mocker, seed: int) -> None:
    chance = random.Random(seed)
    random.seed(seed)
    for _ in range(10):
        instants = [ms(chance.randrange(60)) for _ in range(chance.randrange(0, 60))]
        cap = chance.randrange(1, 20)
        server = ListServer(api, instants, cap=cap)
        page_size = chance.choice([cap, cap + 1, 2 * cap, 1000])
        assert_whole_or_error(make_hook().list_calls(page_size=page_size), server)


@pytest.mark.parametrize("page_size", [1, 2, 3, 100])
@pytest.mark.parametrize("instants", [[20, 10], [10, 20], [10, 10], [10]], ids=str)
def test_a_server_that_ignores_the_bound_does_not_make_the_list_endless(
    api: requests_mock.Mocker, instants: list[int], page_size: int
) -> None:
    rows = page_of(*((f"call-{position}", ms(instant)) for position, instant in enumerate(instants)))[
        :page_size
    ]

    def answer(request: Any, context: Any) -> list[dict[str, Any]]:
        assert api.call_count < 10, "it asks without end"
        return rows

    api.get(f"{API}/call", json=answer)
    try:
        listed = [call.id for call in make_hook().list_calls(page_size=page_size)]
    except VapiTransientError:
        # A full page may hide others, and nothing else can be asked for.
        assert len(rows) == page_size
    else:
        assert sorted(listed) == sorted(row["id"] for row in rows)
