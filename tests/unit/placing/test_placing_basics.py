# SPDX-License-Identifier: Apache-2.0
"""Placing a call where nothing goes wrong, and what the simplest failures leave behind."""

from __future__ import annotations

import pytest
from airflow_model import NUMBER, AirflowModel

from vapi_provider.exceptions import VapiTransientError
from vapi_provider.simulator import Fault


def test_callee_is_called_once(model: AirflowModel) -> None:
    slot = model.slot()
    summary = slot.attempt()
    assert summary["status"] == "queued"
    assert slot.xcoms["call_id"] == summary["id"]
    assert model.rings() == {NUMBER: 1}
    assert model.posts() == 1
    assert [request.method for request in model.simulator.requests] == ["POST"]


def test_retry_after_success_returns_the_same_call(model: AirflowModel) -> None:
    slot = model.slot()
    first = slot.attempt()
    assert slot.attempt()["id"] == first["id"]
    assert model.rings() == {NUMBER: 1}


@pytest.mark.parametrize("effect", [True, False])
def test_lost_response_causes_no_second_call(model: AirflowModel, effect: bool) -> None:
    model.simulator.faults.add(Fault(method="POST", path="/call", reset="before", effect=effect))
    slot = model.slot()
    slot.until_done()
    assert model.rings() == {NUMBER: 1}


def test_call_over_the_limit_is_refused(model: AirflowModel) -> None:
    for number in range(10):
        model.slot(number=f"+1202555010{number}").attempt()
    with pytest.raises(VapiTransientError, match="the limit is 10, 0 left"):
        model.slot(on_limit="fail").attempt()
