# SPDX-License-Identifier: Apache-2.0
"""The retry budget of a request that is repeated only if it certainly had no effect."""

from __future__ import annotations

import random

import pytest
from http_helpers import FakeTime, make_client

from vapi_provider.client.transport import RepeatBudget
from vapi_provider.exceptions import VapiError, VapiPermanentError, VapiRateLimitError, VapiTransientError


def repeatable(retry_after: float | None = None) -> VapiTransientError:
    error = VapiRateLimitError("too many")
    error.is_repeatable, error.retry_after = True, retry_after
    return error


def budget(**limits: float) -> RepeatBudget:
    return RepeatBudget(make_client(**limits).settings)


@pytest.mark.parametrize("max_retries", [0, 1, 4, 10])
def test_budget_allows_max_retries(fake_time: FakeTime, max_retries: int) -> None:
    repeats = budget(max_retries=max_retries)
    pauses = [repeats.pause_after(repeatable(1)) for _ in range(max_retries + 2)]
    assert [pause is not None for pause in pauses] == [True] * max_retries + [False] * 2
    assert repeats.failed == max_retries + 2


def test_budget_honours_the_requested_pause(fake_time: FakeTime) -> None:
    pauses = [budget().pause_after(repeatable(7)) for _ in range(30)]
    assert [pause for pause in pauses if pause is None or not 7 <= pause <= 8] == []
    assert len(set(pauses)) > 10


def test_budget_pauses_grow_with_each_failure(fake_time: FakeTime) -> None:
    random.seed(7)
    rounds = []
    for _ in range(40):
        repeats = budget(max_retries=4)
        rounds.append([repeats.pause_after(repeatable()) or 0 for _ in range(4)])
    for position, pauses in enumerate(zip(*rounds, strict=True)):
        assert max(pauses) <= 2**position
        assert max(pauses) > 0.75 * 2**position


@pytest.mark.parametrize(
    "error",
    [VapiPermanentError("no"), VapiTransientError("not at once"), repeatable(61), repeatable(float("inf"))],
    ids=["permanent", "not repeatable", "a longer pause", "an endless pause"],
)
def test_budget_does_not_retry_permanent_failures(fake_time: FakeTime, error: VapiError) -> None:
    assert budget().pause_after(error) is None


@pytest.mark.parametrize("timeout", [1, 30, 75])
@pytest.mark.parametrize(("each_takes", "retry_after"), [(0.0, None), (10.0, 10), (29.0, 40), (10.0, 60)])
def test_all_tries_of_a_budget_end_within_75_seconds(
    fake_time: FakeTime, timeout: float, each_takes: float, retry_after: float | None
) -> None:
    for seed in range(25):
        random.seed(seed)
        began = fake_time.now
        repeats = budget(max_retries=10, timeout=timeout)
        tries = 0
        pause: float | None = 0
        while pause is not None:
            # The last request uses its whole time limit.
            ends_at = fake_time.now + timeout
            fake_time.now += min(each_takes, timeout)
            tries += 1
            pause = repeats.pause_after(repeatable(retry_after))
            fake_time.now += pause or 0
        assert ends_at - began <= 75.01, f"seed {seed}"
        # It does not give up too early, either.
        if each_takes + (retry_after or 1) + 2 < 75 - timeout:
            assert tries >= 2, f"seed {seed}"
