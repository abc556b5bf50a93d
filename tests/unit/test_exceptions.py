# SPDX-License-Identifier: Apache-2.0
"""Exceptions survive being copied and pickled, with all that they carry."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from vapi_provider import exceptions
from vapi_provider.client import responses
from vapi_provider.exceptions import (
    VapiCallInDoubtError,
    VapiError,
    VapiNotReachedError,
    VapiOutsideHoursError,
    VapiRateLimitError,
)

KINDS = sorted(
    {
        kind
        for module in (exceptions, responses)
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, VapiError)
    },
    key=lambda kind: kind.__name__,
)

MADE: dict[type[VapiError], Callable[[], VapiError]] = {
    VapiNotReachedError: lambda: VapiNotReachedError("0198a3f0", "no_answer", 2),
    VapiOutsideHoursError: lambda: VapiOutsideHoursError(
        "Closed.", opening=datetime(2026, 11, 26, 14, tzinfo=timezone.utc)
    ),
}

WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


def make(kind: type[VapiError]) -> VapiError:
    usual = lambda: kind("It failed.", status_code=503, method="GET", path="/call", detail="Busy.")
    return MADE.get(kind, usual)()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_exception_survives_with_its_attributes(kind: type[VapiError], way: str) -> None:
    error = make(kind)
    again = WAYS[way](error)
    assert type(again) is kind
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def test_attributes_that_are_set_later_survive() -> None:
    limit = VapiRateLimitError("Slow down.")
    limit.retry_after = 7.5
    doubt = VapiCallInDoubtError("It may have been placed.")
    doubt.failure = limit
    again = pickle.loads(pickle.dumps(doubt))
    assert (str(again.failure), again.failure.retry_after) == ("Slow down.", 7.5)


def test_all_exceptions_are_covered() -> None:
    assert {VapiNotReachedError, VapiOutsideHoursError} < set(KINDS)
    assert len(KINDS) > 15
