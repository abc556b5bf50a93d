# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator

NUMBER = "+12025550143"


@pytest.fixture
def api(simulator: VapiSimulator) -> Callable[..., requests.Response]:
    return client_of(simulator)


@pytest.fixture
def client() -> Callable[[VapiSimulator], Callable[..., requests.Response]]:
    """Return a function that makes a client for a simulator."""
    return client_of


@pytest.fixture
def request_body() -> dict[str, Any]:
    return {"assistantId": "assistant-1", "phoneNumberId": "phone-1", "customer": {"number": NUMBER}}


def client_of(simulator: VapiSimulator) -> Callable[..., requests.Response]:
    def send(method: str, path: str, **options: Any) -> requests.Response:
        options.setdefault("headers", {})
        options["headers"] = {"Authorization": f"Bearer {simulator.api_key}", **options["headers"]}
        options.setdefault("timeout", 20)
        return requests.request(method, simulator.url + path, allow_redirects=False, **options)

    return send
