# SPDX-License-Identifier: Apache-2.0
"""Which pages of the list of calls are read, and that what changed is on one of them."""

from __future__ import annotations

import dataclasses
import logging
import random
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from polling_world import written
from virtual_time import VirtualClock

from vapi_provider.models.call import CallPage, CallStatusView
from vapi_provider.polling.changes import ChangeFeed

ENOUGH = 1_000
INTERVAL = 15
COUNTS = pytest.mark.parametrize("count", [0, 1, 2, 19, 20, 21, 99, 100, 101, 340, 1_000])


def newest_first(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.created, reverse=True)


def oldest_first(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.created)


def last_changed_first(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.updated, reverse=True)


def in_no_order(rows: list[Row]) -> list[Row]:
    return random.Random(len(rows)).sample(rows, len(rows))


OTHER_ORDERS = pytest.mark.parametrize(
    "order",
    [oldest_first, last_changed_first, in_no_order],
    ids=["oldest first", "last changed first", "in no order"],
)


class Row:
    """A call of the list."""

    def __init__(self, call_id: str, created: datetime, size: int) -> None:
        self.call_id = call_id
        self.created = self.updated = created
        self.size = size
        self.changes = 0

    def glimpse(self) -> CallStatusView:
        shown = {"id": self.call_id, "createdAt": written(self.created), "updatedAt": written(self.updated)}
        return CallStatusView.model_validate(shown)


class Vapi:
    """
    A list of calls, and a poller that reads what a feed asks for.

    :param clock: our clock
    :param order: the order of the list
    """

    def __init__(self, clock: VirtualClock, order: Callable[[list[Row]], list[Row]] = newest_first) -> None:
        self.clock = clock
        self.order = order
        self.off = timedelta()
        self.lag = timedelta()
        self.rows: dict[str, Row] = {}
        self.read: dict[str, int] = {}
        self.queries: list[dict[str, Any]] = []
        self.sizes: list[int] = []
        self.largest_answer = 10**9

    @property
    def now(self) -> datetime:
        now = self.clock.utc() + self.off
        return now.replace(microsecond=now.microsecond // 1_000 * 1_000)

    def add(self, count: int, *, spacing: float = 0.3, size: int = 1_000) -> list[str]:
        """Add calls of long ago."""
        first = self.now - timedelta(days=1)
        call_ids = [f"call-{len(self.rows) + place}" for place in range(count)]
        for place, call_id in enumerate(call_ids):
            self.rows[call_id] = Row(call_id, first + timedelta(seconds=spacing * place), size)
        return call_ids

    def add_and_poll(self, count: int, **calls: Any) -> tuple[list[str], ChangeFeed]:
        """Add calls of long ago, and poll for the first time."""
        call_ids, feed = self.add(count, **calls), ChangeFeed(INTERVAL)
        self.poll(feed)
        return call_ids, feed

    def change(self, call_ids: list[str], *, within: float = 0.0) -> None:
        """Change calls, spread over so many seconds up to now."""
        for place, call_id in enumerate(call_ids, 1):
            row = self.rows[call_id]
            row.updated = self.now - timedelta(seconds=round(within * (1 - place / len(call_ids)), 3))
            row.changes += 1

    def answer(self, query: dict[str, Any]) -> CallPage | None:
        """Return a page; None for one that is larger than may be read."""
        since, until, oldest = (
            datetime.fromisoformat(query[name]) if name in query else None
            for name in ("updatedAtGe", "updatedAtLt", "createdAtLe")
        )
        shown = self.now - self.lag
        found = [
            row
            for row in self.rows.values()
            if (not self.lag or row.updated <= shown)
            and (since is None or row.updated >= since)
            and (until is None or row.updated < until)
            and (oldest is None or row.created <= oldest)
        ]
        listed = self.order(found)[: query["limit"]]
        size = sum(row.size for row in listed) + 2
        if size > self.largest_answer:
            return None
        self.sizes.append(size)
        for row in listed:
            self.read[row.call_id] = row.changes
        # A Date header has no fractions.
        responded_at = self.now.replace(microsecond=0)
        return CallPage(
            rows=[row.glimpse() for row in listed], length=len(listed), size=size, responded_at=responded_at
        )

    def poll(self, feed: ChangeFeed, *, pages: int = ENOUGH) -> int:
        """Read what a poll would; return how many pages that took."""
        feed.begin_poll()
        for page in range(pages):
            query = feed.next_query()
            if query is None:
                return page
            self.queries.append(query)
            answer = self.answer(query)
            if answer is None:
                feed.take_oversized()
            else:
                feed.take(answer)
        return pages

    def unread(self, call_ids: list[str]) -> list[str]:
        return [call_id for call_id in call_ids if self.read.get(call_id, 0) < self.rows[call_id].changes]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:  # type: ignore[override]
    clock = VirtualClock()
    monkeypatch.setattr("vapi_provider.polling.changes.time", clock)
    return clock


@pytest.fixture
def vapi(clock: VirtualClock) -> Vapi:
    return Vapi(clock)


@COUNTS
def test_all_that_changed_since_the_last_poll_is_read(vapi: Vapi, count: int) -> None:
    call_ids, feed = vapi.add_and_poll(1_200)
    for _ in range(3):
        vapi.clock.now += 15
        changed = random.Random(count).sample(call_ids, count)
        vapi.change(changed, within=14)
        vapi.poll(feed)
        assert vapi.unread(changed) == []


@OTHER_ORDERS
def test_page_that_holds_everything_needs_no_order(
    clock: VirtualClock, order: Callable[[list[Row]], list[Row]], caplog: pytest.LogCaptureFixture
) -> None:
    vapi = Vapi(clock, order)
    call_ids, feed = vapi.add_and_poll(1_200)
    for count in (0, 1, 19, 38):
        clock.now += 15
        changed = random.Random(count).sample(call_ids, count)
        vapi.change(changed, within=8)
        vapi.poll(feed)
        assert vapi.unread(changed) == [], f"of {count} changed calls"
    assert not caplog.records


@OTHER_ORDERS
@pytest.mark.parametrize("size", [200, 30_000])
@pytest.mark.parametrize("count", [41, 100, 101, 800, 2_000])
def test_list_in_another_order_is_read_whole(
    clock: VirtualClock,
    order: Callable[[list[Row]], list[Row]],
    caplog: pytest.LogCaptureFixture,
    size: int,
    count: int,
) -> None:
    vapi = Vapi(clock, order)
    call_ids, feed = vapi.add_and_poll(2_100, size=size)
    for _ in range(2):
        clock.now += 200
        changed = random.Random(1).sample(call_ids, count)
        vapi.change(changed, within=190)
        pages = vapi.poll(feed)
        assert vapi.unread(changed) == []
        assert pages <= 8 + count * max(size, 2_500) / 250_000
        clock.now += 15
        assert vapi.poll(feed) <= 8 + count * max(size, 2_500) / 250_000
    assert not caplog.records


def test_calls_that_change_during_a_split_walk_are_read(clock: VirtualClock) -> None:
    vapi = Vapi(clock, in_no_order)
    call_ids, feed = vapi.add_and_poll(500, size=30_000)
    clock.now += 60
    vapi.change(call_ids, within=50)
    answer = vapi.answer

    def answer_while_calls_change(query: dict[str, Any]) -> CallPage | None:
        clock.now += 0.2
        vapi.change(random.Random(len(vapi.queries)).sample(call_ids, 5))
        return answer(query)

    vapi.answer = answer_while_calls_change  # type: ignore[method-assign]
    vapi.poll(feed)
    vapi.answer = answer  # type: ignore[method-assign]
    vapi.poll(feed)
    assert vapi.unread(call_ids) == []


@COUNTS
def test_sorted_list_costs_few_extra_pages(vapi: Vapi, count: int) -> None:
    call_ids = vapi.add(1_200)
    feed = ChangeFeed(INTERVAL)
    vapi.change(call_ids[:150])
    # The second poll knows how large the rows are.
    vapi.poll(feed)
    clock = vapi.clock
    clock.now += 15
    vapi.change(random.Random(1).sample(call_ids, count), within=9)
    # One row of each page is the last of the page before; and one page can be needed to see that it was the last.
    assert vapi.poll(feed) <= count / 99 + 2


@pytest.mark.parametrize("spacing", [0.000_4, 0.001], ids="{} s apart".format)
@pytest.mark.parametrize("count", [101, 450])
def test_calls_created_within_a_millisecond_are_all_read(vapi: Vapi, spacing: float, count: int) -> None:
    call_ids, feed = vapi.add_and_poll(count, spacing=spacing)
    vapi.clock.now += 15
    vapi.change(call_ids, within=4)
    vapi.poll(feed)
    assert vapi.unread(call_ids) == []


@pytest.mark.parametrize("count", [450, 999, 1_500])
def test_calls_of_one_instant_are_all_read(vapi: Vapi, count: int, caplog: pytest.LogCaptureFixture) -> None:
    call_ids, feed = vapi.add_and_poll(count, spacing=0)
    vapi.clock.now += 15
    # Beyond 1,000, which is the longest page, they must not have changed at the same instant, too.
    vapi.change(call_ids, within=0 if count <= 1_000 else 10)
    vapi.poll(feed)
    assert vapi.unread(call_ids) == []
    assert not caplog.records


def test_server_that_sends_at_most_100_rows_hides_no_change(clock: VirtualClock) -> None:
    vapi = Vapi(clock, in_no_order)
    call_ids, feed = vapi.add_and_poll(500, size=200)
    clock.now += 15
    vapi.change(call_ids, within=10)
    answer = vapi.answer
    vapi.answer = lambda query: answer({**query, "limit": min(100, query["limit"])})  # type: ignore[method-assign]
    vapi.poll(feed)
    assert vapi.unread(call_ids) == []


def test_too_many_calls_of_one_change_are_left_out_once(vapi: Vapi, caplog: pytest.LogCaptureFixture) -> None:
    call_ids, feed = vapi.add_and_poll(1_100, spacing=0)
    alone = vapi.add(1)
    for _ in range(3):
        vapi.clock.now += 15
        vapi.change(call_ids)
        changed_at = vapi.now
        vapi.clock.now += 5
        vapi.change(alone)
        vapi.poll(feed)
        assert vapi.unread(call_ids)
        assert vapi.unread(alone) == []
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "too many calls share an instant" in record.getMessage()
    first, last = re.findall(r"20\d\d-[^ ]+", record.getMessage())
    begin, end = (datetime.fromisoformat(text.rstrip(".")) for text in (first, last))
    assert timedelta(0) < end - begin <= timedelta(milliseconds=2)
    assert begin <= changed_at - timedelta(seconds=40) < end


@pytest.mark.parametrize("lie", ["repeats", "ignores bounds", "no times"])
def test_walk_through_a_lying_list_ends(clock: VirtualClock, lie: str) -> None:
    vapi = Vapi(clock, last_changed_first)
    call_ids, feed = vapi.add_and_poll(500)
    clock.now += 15
    vapi.change(call_ids, within=10)
    answer = vapi.answer

    def answer_with_lies(query: dict[str, Any]) -> CallPage | None:
        page = answer({"limit": query["limit"]} if lie == "ignores bounds" else query)
        if page is None or not page.rows:
            return page
        rows = page.rows
        if lie == "repeats":
            rows = rows[:1] * len(rows)
        elif lie == "no times":
            rows = [CallStatusView.model_validate({"id": row.id}) for row in rows]
        return dataclasses.replace(page, rows=rows)

    vapi.answer = answer_with_lies  # type: ignore[method-assign]
    for _ in range(3):
        assert vapi.poll(feed) <= 8
        clock.now += 15


@pytest.mark.parametrize("pages", [1, 2, 5])
def test_long_walk_continues_in_next_poll(clock: VirtualClock, vapi: Vapi, pages: int) -> None:
    call_ids, feed = vapi.add_and_poll(1_000)
    clock.now += 15
    vapi.change(call_ids, within=14)
    for _ in range(ENOUGH):
        if not vapi.unread(call_ids):
            break
        assert vapi.poll(feed, pages=pages) <= pages
        clock.now += 5
    assert vapi.unread(call_ids) == []


@pytest.mark.parametrize("seed", range(6))
def test_every_change_is_read_in_the_end(clock: VirtualClock, seed: int) -> None:
    """Polls are cut short, calls change while they are read, the list lags, clocks differ and drift."""
    dice = random.Random(seed)
    vapi = Vapi(clock)
    vapi.off = timedelta(minutes=dice.choice((-600, -3, 0, 4, 900)))
    vapi.lag = timedelta(seconds=dice.choice((0, 0.5, 20)))
    call_ids = vapi.add(700, size=dice.choice((900, 30_000)))
    clock.now += 30
    feed = ChangeFeed(INTERVAL)
    answer = vapi.answer

    def answer_while_calls_change(query: dict[str, Any]) -> CallPage | None:
        if dice.random() < 0.3:
            vapi.change(dice.sample(call_ids, dice.choice((1, 5, 40))), within=0.1)
        clock.now += dice.uniform(0, 0.4)
        vapi.off += timedelta(seconds=dice.uniform(-0.0002, 0.0002))
        return answer(query)

    vapi.answer = answer_while_calls_change  # type: ignore[method-assign]
    vapi.poll(feed)
    for _ in range(60):
        clock.now += dice.uniform(5, 20)
        vapi.change(dice.sample(call_ids, dice.choice((0, 1, 30, 200))), within=3)
        vapi.poll(feed, pages=dice.choice((1, 3, 14)))
    vapi.answer = answer  # type: ignore[method-assign]
    clock.now += vapi.lag.total_seconds() + 5
    for _ in range(2):
        vapi.poll(feed)
        clock.now += 5
    assert vapi.unread(call_ids) == []


@pytest.mark.parametrize("off", [timedelta(), timedelta(minutes=9), timedelta(days=-40)], ids=str)
@pytest.mark.parametrize(
    ("interval", "reach"), [(15, 17 * 60), (300, 17 * 60), (3_600, 3 * 3_600 + 120)], ids="{} s".format
)
def test_feed_catches_up_with_quarter_of_an_hour(
    vapi: Vapi, off: timedelta, interval: int, reach: int
) -> None:
    """By Vapi's time, which the first page shows; with long intervals it takes three of them."""
    vapi.off = off
    call_ids = vapi.add(40)
    lost, early, late = call_ids[:10], call_ids[10:25], call_ids[25:]
    vapi.clock.now += 100_000
    vapi.change(lost)
    vapi.clock.now += 10
    vapi.change(early)
    vapi.clock.now += reach - 5 - 125
    vapi.change(early[10:])
    vapi.clock.now += 125
    vapi.change(late, within=110)
    feed = ChangeFeed(interval)
    # One page for the time, one from the mark on, and one before it.
    assert vapi.poll(feed) == 3
    assert vapi.queries[0]["limit"] == 1
    assert "updatedAtLt" not in vapi.queries[1]
    assert vapi.unread(call_ids) == lost
    vapi.clock.now += 15
    assert vapi.poll(feed) == 1


@pytest.mark.parametrize("size", [200, 1_000, 50_000, 100_000, 600_000, 3_000_000])
def test_page_size_adapts_to_call_size(vapi: Vapi, size: int) -> None:
    call_ids, feed = vapi.add_and_poll(300, size=size)
    for _ in range(2):
        vapi.sizes.clear()
        vapi.queries.clear()
        vapi.clock.now += 15
        vapi.change(call_ids, within=10)
        vapi.poll(feed)
        assert vapi.unread(call_ids) == []
    assert max(vapi.sizes) <= max(5_100_000, 2 * size + 2)
    limits = [query["limit"] for query in vapi.queries]
    assert 2 <= min(limits) <= max(limits) <= 100
    # Nor are they much smaller than they may be, by then.
    assert max(vapi.sizes) >= min(2_900_000, 80 * size)


def test_oversized_page_is_requested_again_with_fewer_calls(vapi: Vapi) -> None:
    vapi.largest_answer = 1_000_000
    call_ids, feed = vapi.add_and_poll(60, size=150_000)
    vapi.clock.now += 15
    vapi.change(call_ids, within=9)
    vapi.poll(feed)
    assert vapi.unread(call_ids) == []


@pytest.mark.parametrize("places", [[7], [59], [0], [7, 8], [3, 40], [0, 30, 59]], ids=str)
@pytest.mark.parametrize("within", [9, 0.3])
def test_oversized_calls_hide_no_others(
    vapi: Vapi, caplog: pytest.LogCaptureFixture, places: list[int], within: float
) -> None:
    vapi.largest_answer = 1_000_000
    call_ids = vapi.add(60)
    for place in places:
        vapi.rows[call_ids[place]].size = 2_000_000
    feed = ChangeFeed(INTERVAL)
    vapi.poll(feed)
    vapi.clock.now += 15
    vapi.change(call_ids, within=within)
    assert vapi.poll(feed) < 60 * len(places)
    others = [call_id for place, call_id in enumerate(call_ids) if place not in places]
    assert vapi.unread(others) == []
    [record] = caplog.records
    assert "without a gap (a call is too large)" in record.getMessage()
    vapi.clock.now += 200
    vapi.poll(feed)
    vapi.clock.now += 15
    assert vapi.poll(feed) == 1


def test_many_oversized_calls_end_the_walk(vapi: Vapi) -> None:
    vapi.largest_answer = 1_000_000
    call_ids, feed = vapi.add_and_poll(60, size=2_000_000)
    vapi.clock.now += 15
    vapi.change(call_ids, within=9)
    assert vapi.poll(feed) < 200
    vapi.clock.now += 200
    vapi.change(alone := vapi.add(1))
    for _ in range(2):
        vapi.poll(feed)
        vapi.clock.now += 15
    assert vapi.unread(alone) == []


@pytest.mark.parametrize("quiet", [150, 800], ids="{} s without news".format)
def test_changes_of_minutes_ago_are_not_read_again(vapi: Vapi, quiet: float) -> None:
    call_ids, feed = vapi.add_and_poll(1_000)
    vapi.change(call_ids)
    vapi.poll(feed)
    vapi.clock.now += quiet
    vapi.poll(feed)
    vapi.clock.now += 15
    # One page, which is empty.
    assert vapi.poll(feed) == 1
    since = datetime.fromisoformat(vapi.queries[-1]["updatedAtGe"])
    assert since > vapi.now - timedelta(minutes=2, seconds=15 + quiet / 1_000 + 1)


@pytest.mark.parametrize("place", [0, 300, -1])
def test_overlap_after_burst_delays_no_news(vapi: Vapi, place: int) -> None:
    """A burst is more than a poll can read; once it was read twice, it delays nothing."""
    call_ids = vapi.add(600, size=50_000)
    news = [call_ids.pop(place)]
    feed = ChangeFeed(INTERVAL)
    vapi.poll(feed)
    vapi.clock.now += 15
    vapi.change(call_ids, within=1)
    for _ in range(4):
        vapi.poll(feed, pages=14)
        vapi.clock.now += 5
    assert vapi.unread(call_ids) == []
    for _ in range(4):
        vapi.clock.now += 3
        vapi.change(news)
        vapi.poll(feed, pages=14)
        assert vapi.unread(news) == []
        vapi.clock.now += 2


@pytest.mark.parametrize("lag", [0.5, 30, 300])
def test_lagging_list_is_read_from_where_it_is(vapi: Vapi, lag: float) -> None:
    vapi.lag = timedelta(seconds=lag)
    call_ids, feed = vapi.add_and_poll(400)
    for turn in range(40):
        vapi.clock.now += 15
        vapi.change(call_ids[turn::40])
        vapi.poll(feed)
        seen = [call_id for call_id in call_ids if vapi.rows[call_id].updated <= vapi.now - vapi.lag]
        if lag < 120:
            assert vapi.unread(seen) == []


def test_row_from_the_future_moves_no_mark(vapi: Vapi) -> None:
    call_ids = vapi.add(100)
    feed = ChangeFeed(INTERVAL)
    vapi.rows[call_ids[0]].updated = vapi.now + timedelta(hours=1)
    vapi.poll(feed)
    for turn in range(1, 20):
        vapi.clock.now += 15
        vapi.change(call_ids[turn : turn + 1])
        vapi.poll(feed)
        assert vapi.unread(call_ids[turn : turn + 1]) == []


def test_catch_up_takes_only_spare_pages(vapi: Vapi) -> None:
    call_ids = vapi.add(1_500)
    old, new = call_ids[:1_000], call_ids[1_000:]
    vapi.clock.now += 86_400
    vapi.change(old, within=1)
    vapi.clock.now += 200
    feed = ChangeFeed(INTERVAL)
    for turn in range(4):
        vapi.clock.now += 5
        vapi.change(new[turn::4])
        before = len(vapi.queries)
        assert vapi.poll(feed, pages=5) == 5
        assert vapi.unread(new[turn::4]) == []
        assert "updatedAtLt" not in vapi.queries[before]
    assert vapi.unread(old)
    for _ in range(3):
        vapi.clock.now += 5
        vapi.poll(feed, pages=5)
    assert vapi.unread(old) == []


def test_catch_up_reads_calls_of_one_instant(vapi: Vapi) -> None:
    call_ids = vapi.add(450, spacing=0)
    vapi.clock.now += 86_400
    vapi.change(call_ids)
    vapi.clock.now += 300
    feed = ChangeFeed(INTERVAL)
    vapi.poll(feed)
    assert vapi.unread(call_ids) == []
    vapi.clock.now += 15
    vapi.change(call_ids[:1])
    assert vapi.poll(feed) == 1
    assert vapi.unread(call_ids[:1]) == []


# A wrong time of the first response


def first_page_of(vapi: Vapi, feed: ChangeFeed, off: timedelta) -> None:
    vapi.poll(feed, pages=0)
    page = vapi.answer(feed.next_query() or {})
    assert page is not None
    feed.take(dataclasses.replace(page, responded_at=page.responded_at + off))


@pytest.mark.parametrize("off", [timedelta(minutes=3), timedelta(hours=1), timedelta(days=40)], ids=str)
def test_first_time_in_the_future_misleads_until_the_next_page(vapi: Vapi, off: timedelta) -> None:
    vapi.add(40)
    feed = ChangeFeed(INTERVAL)
    first_page_of(vapi, feed, off)
    assert not feed.is_misled
    vapi.poll(feed)
    assert feed.is_misled
    assert feed.is_stale


@pytest.mark.parametrize("off", [timedelta(), timedelta(minutes=2), timedelta(hours=-1)], ids=str)
def test_first_time_that_is_not_too_late_misleads_nothing(vapi: Vapi, off: timedelta) -> None:
    call_ids = vapi.add(40)
    feed = ChangeFeed(INTERVAL)
    first_page_of(vapi, feed, off)
    vapi.poll(feed)
    assert not feed.is_misled
    vapi.clock.now += 121
    vapi.change(call_ids)
    vapi.poll(feed)
    assert vapi.unread(call_ids) == []


def test_later_time_in_the_past_misleads_no_feed_in_use(vapi: Vapi) -> None:
    call_ids, feed = vapi.add_and_poll(40)
    vapi.clock.now += 15
    vapi.change(call_ids)
    vapi.poll(feed)
    vapi.off = timedelta(hours=-1)
    vapi.poll(feed)
    assert not feed.is_misled


@pytest.mark.parametrize(
    ("interval", "silence", "stale"),
    [
        (15, 15, False),
        (15, 890, False),
        (15, 910, True),
        (15, 86_400, True),
        (3_600, 10_790, False),
        (3_600, 10_810, True),
    ],
)
def test_feed_is_stale_after_silence(vapi: Vapi, interval: int, silence: float, stale: bool) -> None:
    vapi.add(5)
    feed = ChangeFeed(interval)
    vapi.clock.now += 100_000
    assert not feed.is_stale
    vapi.poll(feed)
    vapi.clock.now += silence
    assert feed.is_stale is stale
    vapi.poll(feed)
    assert not feed.is_stale


@pytest.mark.parametrize("pages", [1, 2, 14])
def test_unfinished_walk_does_not_move_mark(vapi: Vapi, pages: int) -> None:
    call_ids, feed = vapi.add_and_poll(3_000)
    vapi.clock.now += 15
    vapi.change(call_ids, within=10)
    mark = feed.mark
    vapi.poll(feed, pages=pages)
    assert feed.mark == mark
    assert mark is not None
    assert mark.tzinfo == timezone.utc
