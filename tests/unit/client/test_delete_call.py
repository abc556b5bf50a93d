# SPDX-License-Identifier: Apache-2.0
"""Deleting a call: a second DELETE would erase what the first one cancelled, so it is never sent blindly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from http_helpers import CALL_ID, CALL_URL, KEY, OTHER_ID, client_of, failure, make_client

from vapi_provider.exceptions import (
    VapiCallNotFoundError,
    VapiConfigurationError,
    VapiPermanentError,
    VapiRateLimitError,
    VapiTransientError,
)
from vapi_provider.simulator import Fault, VapiSimulator

if TYPE_CHECKING:
    import requests_mock

HTML = "<html><head><title>Something in between</title></head></html>"
LOST: dict[str, dict[str, Any]] = {
    "502": {"status": 502},
    "408": {"status": 408},
    "302": {"status": 302, "headers": {"Location": "/call"}},
    "404 in HTML": {"status": 404, "body": HTML, "content_type": "text/html"},
    "reset": {"reset": "before"},
    "time-out": {"delay": 60, "status": 503},
}
EACH_LOSS = pytest.mark.parametrize("loss", LOST.values(), ids=LOST)


def sent(simulator: VapiSimulator) -> list[str]:
    return [request.method for request in simulator.requests]


def lose(simulator: VapiSimulator, loss: dict[str, Any], *, effect: bool, times: int | None = 1) -> Any:
    """Lose the response to a DELETE; return a client."""
    simulator.faults.add(Fault(method="DELETE", effect=effect, times=times, **loss))
    return client_of(simulator, timeout=0.5 if "delay" in loss else 20)


@pytest.mark.parametrize("given", [CALL_ID, f" {CALL_ID.upper()}\n"])
@pytest.mark.parametrize("method", ["delete_call", "erase_call"])
@pytest.mark.parametrize(
    "response", [{"json": {"id": CALL_ID}}, {"text": ""}, {"status_code": 204}, {"text": HTML}], ids=str
)
def test_call_is_deleted_with_an_empty_object(
    api: requests_mock.Mocker, given: str, method: str, response: dict[str, Any]
) -> None:
    api.delete(CALL_URL, **response)
    getattr(make_client(), method)(given)
    [request] = api.request_history
    assert (request.method, request._request.path_url) == ("DELETE", f"/call/{CALL_ID}")
    assert request.body in (b"{}", "{}")
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("call_id", [None, "", "None", "../x", f"{CALL_ID}/", [CALL_ID], 7])
@pytest.mark.parametrize("method", ["delete_call", "erase_call"])
def test_bad_id_deletes_nothing(api: requests_mock.Mocker, method: str, call_id: Any) -> None:
    error = failure(VapiConfigurationError, lambda: getattr(make_client(), method)(call_id))
    assert "call_id" in str(error)
    assert api.call_count == 0


def test_scheduled_call_is_cancelled(simulator: VapiSimulator) -> None:
    call_id, other_id = simulator.add_call(status="scheduled"), simulator.add_call(status="scheduled")
    client_of(simulator).erase_call(call_id)
    call = simulator.get_call(call_id)
    assert (call["status"], call["endedReason"]) == ("ended", "scheduled-call-deleted")
    assert simulator.get_call(other_id)["status"] == "scheduled"
    assert sent(simulator) == ["DELETE"]


def test_ended_call_is_erased(simulator: VapiSimulator) -> None:
    call_id, other_id = simulator.add_call(status="ended"), simulator.add_call(status="ended")
    client_of(simulator).erase_call(call_id)
    assert list(simulator.calls) == [other_id]
    assert sent(simulator) == ["DELETE"]


def test_404_to_the_first_delete_is_an_error(simulator: VapiSimulator) -> None:
    error = failure(
        VapiCallNotFoundError, lambda: client_of(simulator).erase_call(OTHER_ID), secret=simulator.api_key
    )
    assert str(error).startswith(f"DELETE /call/{OTHER_ID} returned 404")
    assert sent(simulator) == ["DELETE"]


@EACH_LOSS
def test_404_after_a_lost_response_is_success(simulator: VapiSimulator, loss: dict[str, Any]) -> None:
    call_id = simulator.add_call(status="ended")
    lose(simulator, loss, effect=True).erase_call(call_id)
    assert simulator.calls == {}
    assert sent(simulator) == ["DELETE", "GET"]


@EACH_LOSS
def test_ended_call_is_deleted_once_more_after_a_loss(
    simulator: VapiSimulator, naps: list[float], loss: dict[str, Any]
) -> None:
    call_id = simulator.add_call(status="ended")
    lose(simulator, loss, effect=False).erase_call(call_id)
    assert simulator.calls == {}
    assert sent(simulator) == ["DELETE", "GET", "DELETE"]
    assert naps == []


def test_404_to_the_second_delete_is_success(simulator: VapiSimulator) -> None:
    # The first DELETE takes effect only after the call was read.
    call_id = simulator.add_call(status="ended")
    client = lose(simulator, {"status": 502}, effect=False)
    simulator.faults.add(Fault(method="DELETE", status=404, effect=True))
    client.erase_call(call_id)
    assert sent(simulator) == ["DELETE", "GET", "DELETE"]


def test_third_delete_is_never_sent(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="ended")
    client = lose(simulator, {"status": 502}, effect=False, times=None)
    error = failure(VapiTransientError, lambda: client.erase_call(call_id), secret=simulator.api_key)
    assert (error.method, error.status_code) == ("DELETE", 502)
    assert sent(simulator) == ["DELETE", "GET", "DELETE"]


@EACH_LOSS
def test_call_cancelled_by_a_lost_delete_is_not_erased(
    simulator: VapiSimulator, loss: dict[str, Any]
) -> None:
    call_id = simulator.add_call(status="scheduled")
    client = lose(simulator, loss, effect=True)
    error = failure(VapiTransientError, lambda: client.erase_call(call_id), secret=simulator.api_key)
    assert str(error) == f"Call {call_id} was scheduled and is cancelled; delete it again to erase its data."
    assert (error.method, error.path) == ("DELETE", f"/call/{call_id}")
    assert sent(simulator) == ["DELETE", "GET"]
    assert simulator.get_call(call_id)["endedReason"] == "scheduled-call-deleted"
    # As the message says, the task's retry erases it.
    client.erase_call(call_id)
    assert simulator.calls == {}


@EACH_LOSS
@pytest.mark.parametrize("status", ["scheduled", "in-progress"])
def test_pending_call_is_left_to_a_retry_after_a_loss(
    simulator: VapiSimulator, status: str, loss: dict[str, Any]
) -> None:
    call_id = simulator.add_call(status=status)
    client = lose(simulator, loss, effect=False)
    error = failure(VapiTransientError, lambda: client.erase_call(call_id), secret=simulator.api_key)
    assert str(error).startswith(f"DELETE /call/{call_id} ")
    assert error.method == "DELETE"
    assert sent(simulator) == ["DELETE", "GET"]
    assert simulator.get_call(call_id)["status"] == status


@pytest.mark.parametrize(
    ("response", "kind"),
    [(429, VapiRateLimitError), (400, VapiPermanentError), (409, VapiPermanentError)],
)
def test_refused_delete_is_not_followed_by_a_read(
    simulator: VapiSimulator, naps: list[float], response: int, kind: type[Any]
) -> None:
    call_id = simulator.add_call(status="scheduled")
    client = lose(simulator, {"status": response, "headers": {"Retry-After": "1"}}, effect=False)
    failure(kind, lambda: client.erase_call(call_id), secret=simulator.api_key)
    assert sent(simulator) == ["DELETE"]
    assert naps == []


def test_delete_that_was_never_sent_is_not_followed_by_a_read() -> None:
    with VapiSimulator() as simulator:
        call_id = simulator.add_call(status="ended")
        client = client_of(simulator)
    error = failure(VapiTransientError, lambda: client.erase_call(call_id), secret=simulator.api_key)
    assert (error.method, error.had_no_effect) == ("DELETE", True)


def test_unreadable_call_after_a_loss_is_a_transient_error(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="scheduled")
    lose(simulator, {"status": 502}, effect=True)
    simulator.faults.add(Fault(method="GET", status=503, times=None))
    client = client_of(simulator, max_retries=1)
    failure(VapiTransientError, lambda: client.erase_call(call_id), secret=simulator.api_key)
    assert sent(simulator) == ["DELETE", "GET", "GET"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_one_delete_is_sent_whatever_happens(
    simulator: VapiSimulator, naps: list[float], status: int
) -> None:
    call_id = simulator.add_call(status="scheduled")
    simulator.faults.add(Fault(status=status, times=None))
    error = failure(
        VapiRateLimitError if status == 429 else VapiTransientError,
        lambda: client_of(simulator).delete_call(call_id),
        secret=simulator.api_key,
    )
    assert error.status_code == status
    assert (sent(simulator), naps) == (["DELETE"], [])
