# SPDX-License-Identifier: Apache-2.0
"""Listing calls: newest first, each once, page by page, without gaps."""

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
from case_tables import row_and_diagonal
from http_helpers import API, failure, make_hook

from vapi_provider.client import pagination
from vapi_provider.exceptions import VapiTransientError

if TYPE_CHECKING:
    import requests_mock

    from vapi_provider.hooks.vapi import VapiHook
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
    A list of calls behind ``GET /call``, less tidy than the simulator's.

    :param instants: the times of creation; responses show milliseconds
    :param cap: the maximum length of a page, whatever is requested
    :param order: sorts a page; by default newest first, with ties in random order
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
        api.get(f"{API}/call", json=self._respond)

    @property
    def ids(self) -> set[str]:
        return {call_id for _, call_id in self.rows}

    @staticmethod
    def _newest_first(rows: list[tuple[datetime, str]]) -> None:
        random.shuffle(rows)
        rows.sort(key=lambda row: row[0], reverse=True)

    def _respond(self, request: Any, _: Any) -> list[dict[str, Any]]:
        self.queries.append(request.qs)
        assert len(self.queries) < 1000, "it never ends"
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
    """Check that all calls were listed, each once, newest first."""
    ids = [call.id for call in listed]
    assert len(ids) == len(set(ids))
    assert set(ids) == server.ids
    shown = [call.created_at for call in listed]
    assert shown == sorted(shown, reverse=True)  # type: ignore[type-var]


def assert_whole_or_error(calls: Iterator[Call], server: ListServer) -> None:
    """Check that a list that may fail has no silent gap."""
    listed: list[Call] = []
    message = ""
    try:
        listed.extend(calls)
    except VapiTransientError as error:
        message = str(error)
    if message:
        assert any(text in message for text in ("created_at_lt", "out of order", "without a gap"))
    else:
        check(listed, server)


@pytest.fixture
def hook(simulator: VapiSimulator) -> VapiHook:
    return make_hook(simulator.url, password=simulator.api_key)


@pytest.mark.parametrize(("count", "page_size"), [(0, 10), (1, 1), (7, 3), (30, 10), (31, 10), (250, 100)])
def test_all_calls_are_listed_newest_first(
    simulator: VapiSimulator, hook: VapiHook, count: int, page_size: int
) -> None:
    for number in range(count):
        simulator.add_call(body={"createdAt": stamp(ms(number * 10)), "name": f"call {number}"})
    names = [call.name for call in hook.list_calls(page_size=page_size)]
    assert names == [f"call {number}" for number in reversed(range(count))]
    assert simulator.requests[0].query == {"limit": str(page_size)}


def test_filters_have_the_names_of_the_api(simulator: VapiSimulator, hook: VapiHook) -> None:
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
    assert [request for request in simulator.requests if "limit" not in request.query] == []


def test_filters_stay_the_same_from_page_to_page(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [ms(number) for number in range(0, 50, 5)])
    check(list(make_hook().list_calls(page_size=4, assistant_id=ASSISTANT, updated_at_ge=ms(0))), server)
    assert len(server.queries) > 2
    assert {(q["assistantid"][0], q["updatedatge"][0]) for q in server.queries} == {
        (ASSISTANT, ms(0).isoformat().lower())
    }


def test_pages_are_requested_on_demand(simulator: VapiSimulator, hook: VapiHook) -> None:
    for number in range(9):
        simulator.add_call(body={"createdAt": stamp(ms(number * 10)), "name": str(number)})
    listed = hook.list_calls(page_size=4)
    assert simulator.requests == []
    assert [next(listed).name for _ in range(4)] == ["8", "7", "6", "5"]
    assert len(simulator.requests) == 1
    assert next(listed).name == "4"
    assert len(simulator.requests) == 2
    assert isinstance(listed, Iterator)


def test_one_page_is_in_memory_at_a_time(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [ms(number * 10) for number in range(40)])
    alive: list[int] = []
    seen: list[weakref.ref[Call]] = []
    response = server._respond

    def count_the_living(request: Any, context: Any) -> Any:
        gc.collect()
        alive.append(sum(ref() is not None for ref in seen))
        return response(request, context)

    api.get(f"{API}/call", json=count_the_living)
    for call in make_hook().list_calls(page_size=10):
        seen.append(weakref.ref(call))
    assert len(seen) == 40
    assert len(alive) >= 4
    # The loop variable still refers to one.
    assert max(alive) <= 1


@pytest.mark.parametrize("page_size", [2, 3, 4, 5, 100])
def test_equal_instants_across_pages_are_listed_once(api: requests_mock.Mocker, page_size: int) -> None:
    for seed in range(10):
        random.seed(seed)
        server = ListServer(api, [ms(at) for at in (0, 1, 1, 1, 2, 2, 5, 5, 5, 5, 9, 9)])
        check(list(make_hook().list_calls(page_size=page_size)), server)


def test_page_within_one_instant_is_widened(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [ms(20), *[ms(10)] * 30, ms(0)])
    check(list(make_hook().list_calls(page_size=5)), server)
    limits = [int(query["limit"][0]) for query in server.queries]
    assert limits[0] == 5
    assert 30 < max(limits) <= 1000


def test_nearly_a_thousand_calls_of_one_instant_are_listed(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [*[ms(10)] * 999, ms(0)])
    check(list(make_hook().list_calls(page_size=100)), server)


@pytest.mark.parametrize("page_size", [100, 1000])
def test_too_many_calls_of_one_instant_are_an_error(api: requests_mock.Mocker, page_size: int) -> None:
    # Always the same thousand, as from a database.
    server = ListServer(api, [*[ms(10)] * 1500, ms(0)], order=lambda rows: rows.sort(reverse=True))
    listed: list[Call] = []
    error = failure(VapiTransientError, lambda: listed.extend(make_hook().list_calls(page_size=page_size)))
    assert "GET /call cannot continue" in str(error)
    assert stamp(ms(10))[:19] in str(error)
    assert "created_at_lt" in str(error)
    assert (error.method, error.path) == ("GET", "/call")
    assert len(server.queries) < 10
    assert len({call.id for call in listed}) == len(listed)


def test_advice_of_the_error_works(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [*[ms(10)] * 1500, ms(5), ms(0)])
    with pytest.raises(VapiTransientError, match="set created_at_lt"):
        list(make_hook().list_calls(page_size=1000))
    listed = [call.id for call in make_hook().list_calls(created_at_lt=ms(10))]
    assert listed == [call_id for _, call_id in server.rows[-2:]]


@pytest.mark.parametrize("cap", [2, 7, 50])
def test_capped_list_is_read_to_its_end(api: requests_mock.Mocker, cap: int) -> None:
    server = ListServer(api, [ms(number * 10) for number in range(60)], cap=cap)
    check(list(make_hook().list_calls(page_size=100)), server)


def test_equal_instants_in_a_capped_list_are_listed_once(api: requests_mock.Mocker) -> None:
    for seed in range(10):
        random.seed(seed)
        server = ListServer(api, [ms(random.randrange(12)) for _ in range(20)], cap=10)
        check(list(make_hook().list_calls(page_size=100)), server)


def newest_first(rows: list[tuple[datetime, str]]) -> None:
    """Sort calls of one instant in the same order each time, as a database does."""
    rows.sort(reverse=True)


CUT_INSTANTS = [
    (100, 150, 3),
    (100, 150, 0),
    (50, 60, 3),
    (50, 60, 0),
    (10, 10, 3),
    (10, 10, 0),
    (10, 11, 3),
    (10, 11, 0),
]


@pytest.mark.parametrize(
    ("cap", "same", "newer", "page_size"), row_and_diagonal(CUT_INSTANTS, [100, 10, 50, 1000])
)
def test_instant_cut_by_a_cap_is_an_error(
    api: requests_mock.Mocker, cap: int, same: int, newer: int, page_size: int
) -> None:
    """With a cap of the server, a widened page is not longer than before."""
    older = [ms(number) for number in range(5)]
    instants = [*[ms(1000 + number) for number in range(newer)], *[ms(500)] * same, *older]
    server = ListServer(api, instants, cap=cap, order=newest_first)
    listed: list[Call] = []
    calls = make_hook().list_calls(page_size=page_size)
    if page_size < cap:
        # The cap cuts no page until the pages reach it.
        assert_whole_or_error(calls, server)
        return
    error = failure(VapiTransientError, lambda: listed.extend(calls))
    assert "GET /call cannot continue" in str(error)
    assert stamp(ms(500))[:19] in str(error)
    assert "set created_at_lt" in str(error)
    assert (error.method, error.path) == ("GET", "/call")
    assert len({call.id for call in listed}) == len(listed)
    assert len(server.queries) < 15


def test_advice_works_for_a_capped_list_too(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [*[ms(10)] * 60, ms(5), ms(0)], cap=50, order=newest_first)
    with pytest.raises(VapiTransientError, match="set created_at_lt"):
        list(make_hook().list_calls())
    listed = [call.id for call in make_hook().list_calls(created_at_lt=ms(10))]
    assert listed == [call_id for _, call_id in server.rows[-2:]]


@pytest.mark.parametrize("seed", range(20))
def test_capped_list_has_no_gap_above_its_oldest_instant(api: requests_mock.Mocker, seed: int) -> None:
    chance = random.Random(seed)
    random.seed(seed)
    for _ in range(10):
        cap = chance.randrange(2, 12)
        instants = [ms(chance.choice([10, 20, 30])) for _ in range(chance.randrange(40))]
        order = chance.choice([None, newest_first])
        server = ListServer(api, [*instants, ms(0)], cap=cap, order=order)
        assert_whole_or_error(make_hook().list_calls(page_size=chance.choice([cap, 100])), server)


@pytest.mark.parametrize(("count", "page_size"), [(1, 1), (1, 100), (2, 2), (2, 100), (10, 10), (100, 100)])
def test_list_within_one_instant_ends_after_one_probe(
    api: requests_mock.Mocker, count: int, page_size: int
) -> None:
    server = ListServer(api, [ms(10)] * count, order=newest_first)
    check(list(make_hook().list_calls(page_size=page_size, created_at_lt=ms(20))), server)
    *_, last = server.queries
    assert (last["limit"], last["createdatlt"]) == (["1"], [ms(10).isoformat().lower()])
    assert sum(query["limit"] == ["1"] and "createdatle" not in query for query in server.queries[1:]) == 1
    assert len(server.queries) == (3 if count < page_size else 4)


def test_list_ends_after_one_probe(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [ms(number * 10) for number in range(5)])
    check(list(make_hook().list_calls(page_size=100)), server)
    assert [query["limit"] for query in server.queries] == [["100"], ["100"], ["1"]]


def test_search_of_several_instants_needs_no_probe(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [ms(number * 10) for number in range(5)])
    client = make_hook().client
    assert len(list(pagination.newest_first(lambda query: client.list_placed(query).rows, 100))) == 5
    assert [query["limit"] for query in server.queries] == [["100"], ["100"]]


Rows = list[tuple[datetime, str]]
FLAWED_PAGES: dict[str, Callable[[int, Rows], Rows]] = {
    "first page empty": lambda number, rows: [] if number == 1 else rows,
    "second page empty": lambda number, rows: [] if number == 2 else rows,
    "third page empty": lambda number, rows: [] if number == 3 else rows,
    "overlap only": lambda number, rows: rows[:1] if number == 2 else rows,
    "shorter overlap": lambda number, rows: rows[: {2: 4, 3: 2}.get(number, 10)],
}


@pytest.mark.parametrize("flaw", FLAWED_PAGES.values(), ids=FLAWED_PAGES)
def test_incomplete_page_does_not_end_the_list(
    api: requests_mock.Mocker, flaw: Callable[[int, Rows], Rows]
) -> None:
    server = ListServer(api, [ms(number * 10) for number in range(25)])

    def respond(request: Any, context: Any) -> list[dict[str, Any]]:
        return flaw(len(server.queries) + 1, server._respond(request, context))  # type: ignore[arg-type,return-value]

    api.get(f"{API}/call", json=respond)
    assert_whole_or_error(make_hook().list_calls(page_size=10), server)


def test_page_that_is_empty_by_mistake_is_read_again(api: requests_mock.Mocker) -> None:
    rows = page_of(("a", ms(30)))
    pages = api.get(f"{API}/call", [{"json": page} for page in ([], rows, rows, [], [])])
    assert [call.id for call in make_hook().list_calls()] == [rows[0]["id"]]
    assert pages.call_count == 5


def test_list_that_is_empty_again_and_again_is_an_error(api: requests_mock.Mocker) -> None:
    rows = page_of(("a", ms(30)))
    api.get(f"{API}/call", [{"json": page} for page in ([], rows, [], rows)])
    with pytest.raises(VapiTransientError, match="gap: calls exist, but they are missing"):
        list(make_hook().list_calls())


def test_error_of_an_incomplete_page_names_its_time(api: requests_mock.Mocker) -> None:
    older = page_of(("c", ms(10)))
    api.get(f"{API}/call", [{"json": page_of(("a", ms(30)), ("b", ms(20)))}, {"json": []}, {"json": older}])
    error = failure(VapiTransientError, lambda: list(make_hook().list_calls(page_size=2)))
    assert "The list cannot be paged without a gap" in str(error)
    assert ms(20).isoformat() in str(error)


def test_erasing_listed_calls_does_not_end_the_list(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [ms(number * 10) for number in range(25)])
    expected = server.ids
    erased = set()
    for call in make_hook().list_calls(page_size=10):
        erased.add(call.id)
        server.rows = [row for row in server.rows if row[1] != call.id]
    assert erased == expected


@pytest.mark.parametrize("order", [list.reverse, random.shuffle, list.sort], ids=["reversed", "none", "old"])
def test_full_page_out_of_order_is_an_error(
    api: requests_mock.Mocker, order: Callable[[list[Any]], None]
) -> None:
    random.seed(3)
    server = ListServer(api, [ms(100 - number) for number in range(40)], order=order)
    error = failure(VapiTransientError, lambda: list(make_hook().list_calls(page_size=10)))
    assert "GET /call returned calls out of order" in str(error)
    assert "fewer than 10 calls" in str(error)
    assert len(server.queries) == 1


@pytest.mark.parametrize("order", [list.reverse, random.shuffle], ids=["reversed", "none"])
def test_short_list_out_of_order_is_sorted(
    api: requests_mock.Mocker, order: Callable[[list[Any]], None]
) -> None:
    random.seed(3)
    server = ListServer(api, [ms(100 - number) for number in range(9)], order=order)
    check(list(make_hook().list_calls(page_size=10)), server)


@pytest.mark.parametrize("order", [lambda rows: rows.sort(), random.shuffle], ids=["oldest first", "none"])
def test_capped_list_out_of_order_has_no_silent_gap(
    api: requests_mock.Mocker, order: Callable[[list[Any]], None]
) -> None:
    for seed in range(10):
        random.seed(seed)
        server = ListServer(api, [ms(number * 10) for number in range(60)], cap=10, order=order)
        assert_whole_or_error(make_hook().list_calls(page_size=100), server)


def page_of(*rows: tuple[str, datetime | None]) -> list[dict[str, Any]]:
    return [{"id": call_id, "createdAt": at and stamp(at)} for call_id, at in rows]


def test_rows_repeated_within_a_page_are_listed_once(api: requests_mock.Mocker) -> None:
    first = page_of(("a", ms(30)), ("a", ms(30)), ("b", ms(20)), ("b", ms(20)))
    api.get(f"{API}/call", [{"json": first}, {"json": page_of(("b", ms(20)), ("c", ms(10)))}, {"json": []}])
    assert [call.id for call in make_hook().list_calls(page_size=4)] == ["a", "b", "c"]


def test_call_without_an_instant_is_listed_once(api: requests_mock.Mocker) -> None:
    first = page_of(("a", ms(30)), ("x", None), ("b", ms(20)))
    second = page_of(("b", ms(20)), ("x", None), ("c", ms(10)))
    api.get(
        f"{API}/call", [{"json": first}, {"json": second}, {"json": page_of(("c", ms(10)))}, {"json": []}]
    )
    listed = [call.id for call in make_hook().list_calls(page_size=3)]
    assert sorted(listed) == ["a", "b", "c", "x"]
    assert [call_id for call_id in listed if call_id != "x"] == ["a", "b", "c"]


def test_list_without_any_instant_ends(
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
def test_extreme_instants_do_not_end_the_list(api: requests_mock.Mocker, year: int) -> None:
    absurd = datetime(year, 12, 31, 23, 59, 59, 999_000, tzinfo=timezone.utc)
    server = ListServer(api, [absurd, ms(0), absurd, ms(10)])
    check(list(make_hook().list_calls(page_size=2)), server)


def test_calls_placed_meanwhile_do_no_harm(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [ms(number * 10) for number in range(20)])
    expected = server.ids
    listed = []
    for number, call in enumerate(make_hook().list_calls(page_size=3)):
        listed.append(call.id)
        server.rows.append((ms(1000 + number), str(uuid.uuid4())))
    assert len(listed) == 20
    assert set(listed) == expected


def test_error_comes_after_the_calls_before_it(api: requests_mock.Mocker) -> None:
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


def test_page_that_fails_is_requested_again(api: requests_mock.Mocker) -> None:
    server = ListServer(api, [ms(number * 10) for number in range(20)])
    response, failed = server._respond, []

    def fail_every_other(request: Any, context: Any) -> Any:
        if len(failed) == len(server.queries):
            failed.append(1)
            context.status_code = 502
            return None
        return response(request, context)

    api.get(f"{API}/call", json=fail_every_other)
    check(list(make_hook().list_calls(page_size=4)), server)
    assert len(failed) == len(server.queries) >= 5


@pytest.mark.parametrize("seed", range(40))
def test_any_list_is_listed_once_and_newest_first(api: requests_mock.Mocker, seed: int) -> None:
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
def test_capped_list_of_different_instants_is_whole(api: requests_mock.Mocker, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(10):
        instants = [ms(at) for at in chance.sample(range(0, 400, 2), chance.randrange(0, 60))]
        cap = chance.randrange(2, 20)
        server = ListServer(api, instants, cap=cap)
        page_size = chance.choice([cap, cap + 1, 2 * cap, 1000])
        check(list(make_hook().list_calls(page_size=page_size)), server)


@pytest.mark.parametrize("page_size", [1, 2, 3, 100])
@pytest.mark.parametrize("instants", [[20, 10], [10, 20], [10, 10], [10]], ids=str)
def test_server_that_ignores_the_bound_is_an_error(
    api: requests_mock.Mocker, instants: list[int], page_size: int
) -> None:
    rows = page_of(*((f"call-{position}", ms(instant)) for position, instant in enumerate(instants)))[
        :page_size
    ]

    def response(request: Any, context: Any) -> list[dict[str, Any]]:
        assert api.call_count < 10, "it never ends"
        return rows

    api.get(f"{API}/call", json=response)
    error = failure(VapiTransientError, lambda: list(make_hook().list_calls(page_size=page_size)))
    # A full page may hide others, and no other query is possible.
    assert "cannot continue" in str(error) or "out of order" in str(error) or "createdAtLt" in str(error)
    if len(rows) < page_size:
        assert "without a gap" in str(error)
        client = make_hook().client
        searched = pagination.newest_first(lambda query: client.list_placed(query).rows, page_size)
        assert sorted(call.id for call in searched) == sorted(row["id"] for row in rows)
