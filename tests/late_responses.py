# SPDX-License-Identifier: Apache-2.0
"""Late responses of the simulator, without any real waiting in tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from time import monotonic, sleep
from typing import Any, NoReturn

import pytest
import requests
from urllib3.exceptions import ReadTimeoutError

from vapi_provider.simulator.wire import Wire

LATE = {"X-Of-The-Tests": "late"}
"""Headers of a fault whose response arrives after the request's time limit."""

LATE_BODY = {"X-Of-The-Tests": "late body"}
"""Headers of a fault whose response begins in time but does not end in time."""

HELD_SECONDS = 60.0
"""The delay after which a held response arrives even if the test does not release it."""


def wait_until(is_so: Callable[[], Any], what: str) -> None:
    """Wait for another thread, and fail only if it certainly hangs."""
    # Real time: a test with virtual clocks would advance them by each sleep here.
    gives_up_at = monotonic() + 60
    while not is_so():
        assert monotonic() < gives_up_at, f"it never came true: {what}"
        sleep(0.005)


@pytest.fixture
def late_responses_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make requests time out when a ``LATE`` response arrives, after the request took effect."""
    send = requests.adapters.HTTPAdapter.send

    def send_in_time(
        adapter: Any, request: requests.PreparedRequest, *args: Any, **named: Any
    ) -> requests.Response:
        response = send(adapter, request, *args, **named)
        how = response.headers.get("X-Of-The-Tests")

        def never_end(*_args: Any, **_named: Any) -> NoReturn:
            raise ReadTimeoutError(None, request.url, "late")  # type: ignore[arg-type]

        if how == LATE_BODY["X-Of-The-Tests"]:
            response.raw.stream = never_end
        elif how is not None:
            response.close()
            raise requests.ReadTimeout(TimeoutError(), request=request)
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send_in_time)


class HeldResponses:
    """Controls when held responses, or the bytes of slow ones, arrive."""

    def __init__(self) -> None:
        self._let_go = threading.Semaphore(0)
        self._is_open = False

    def let_go(self, number: int = 1) -> None:
        self._let_go.release(number)

    def let_all_go(self) -> None:
        self._is_open = True

    def may_go(self) -> bool:
        return self._is_open or self._let_go.acquire(blocking=False)


@pytest.fixture
def held_responses(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldResponses]:
    """Hold each delayed response of a simulator until the test releases it, whatever its delay."""
    held = HeldResponses()
    gone_within = Wire._gone_within

    async def gone_before_let_go(wire: Wire, _seconds: float) -> bool:
        for _ in range(int(HELD_SECONDS / 0.005)):
            if held.may_go():
                return False
            if await gone_within(wire, 0.005):
                return True
        return False

    monkeypatch.setattr(Wire, "_gone_within", gone_before_let_go)
    yield held
    held.let_all_go()
