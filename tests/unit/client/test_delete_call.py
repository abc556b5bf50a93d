# SPDX-License-Identifier: Apache-2.0
"""Deleting a call: a second DELETE would erase a call that the first one cancelled, so it is not sent blindly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from case_tables import in_turn
from http_helpers import CALL, CALL_ID, CALL_URL, KEY, OTHER_ID, client_of, failure, make_client
from late_responses import LATE

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

SAID = "what the customer said"
HTML = "<html><head><title>Something in between</title></head></html>"
LOST: dict[str, dict[str, Any]] = {
    "502": {"status": 502},
    "408": {"status": 408},
    "302": {"status": 302, "headers": {"Location": "/call"}},
    "404 in HTML": {"status": 404, "body": HTML, "content_type": "text/html"},
    "reset": {"reset": "before"},
    "time-out": {"headers": LATE, "status": 503},
    "200 in HTML": {"status": 200, "body": HTML, "content_type": "text/html"},
    "200 and empty": {"status": 200, "body": ""},
    "200 and a list": {"status": 200, "body": "[]"},
    "200 and another call": {"status": 200, "body": f'{{"id": "{OTHER_ID}", "status": "ended"}}'},
}
pytestmark = pytest.mark.usefixtures("late_responses_time_out")
EACH_LOSS = pytest.mark.parametrize("loss", LOST.values(), ids=LOST)


def sent(simulator: VapiSimulator) -> list[str]:
    return [request.method for request in simulator.requests]


def lose(simulator: VapiSimulator, loss: dict[str, Any], *, effect: bool, times: int | None = 1) -> Any:
    """Return a client whose DELETE gets no response."""
    simulator.faults.add(Fault(method="DELETE", effect=effect, times=times, **loss))
    return client_of(simulator)


@pytest.mark.parametrize("given", [CALL_ID, f" {CALL_ID.upper()}\n"])
@pytest.mark.parametrize("method", ["delete_call", "erase_call"])
@pytest.mark.parametrize(
    "response",
    [{"json": CALL}, {"json": {"id": CALL_ID}, "status_code": 201}, {"json": {"id": f" {CALL_ID.upper()} "}}],
    ids=str,
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


@pytest.mark.parametrize(
    ("call_id", "method"),
    in_turn([None, "", "None", "../x", f"{CALL_ID}/", [CALL_ID], 7], ["delete_call", "erase_call"]),
)
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
    # The first DELETE takes effect after the call was read.
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
    assert (
        str(error)
        == f"This request may have cancelled call {call_id} without erasing it; delete it again to erase its data."
    )
    assert (error.method, error.path) == ("DELETE", f"/call/{call_id}")
    assert sent(simulator) == ["DELETE", "GET"]
    assert simulator.get_call(call_id)["endedReason"] == "scheduled-call-deleted"
    # As the message says, a retry of the task erases it.
    client.erase_call(call_id)
    assert simulator.calls == {}


AFTER_A_LOSS: dict[str, tuple[dict[str, Any], bool]] = {
    **{
        str(reason): ({"endedReason": reason}, False)
        for reason in (
            "scheduled-call-deleted",
            " Scheduled-Call-Deleted",
            "scheduled-call-expired",
            "call-deleted",
            "manually-canceled",
            "manually-cancelled",
            "a-new-reason",
            "",
            None,
        )
    },
    "not-found": ({"status": "not-found"}, False),
    "deletion-failed": ({"status": "deletion-failed"}, False),
    "not-found with a reason": ({"status": "not-found", "endedReason": "customer-ended-call"}, False),
    **{
        reason: ({"endedReason": reason}, True)
        for reason in (
            "customer-ended-call",
            "assistant-ended-call",
            "silence-timed-out",
            "customer-did-not-answer",
            "pipeline-error-openai-llm-failed",
        )
    },
}


@pytest.mark.parametrize(("fields", "took_place"), AFTER_A_LOSS.values(), ids=AFTER_A_LOSS)
def test_call_is_deleted_again_only_if_it_took_place(
    api: requests_mock.Mocker, fields: dict[str, Any], took_place: bool
) -> None:
    """A call that the lost DELETE may have cancelled is erased only by another task or try."""
    api.delete(CALL_URL, [{"status_code": 502}, {"json": CALL}])
    api.get(CALL_URL, json={**CALL, **fields})
    if took_place:
        make_client().erase_call(CALL_ID)
    else:
        error = failure(VapiTransientError, lambda: make_client().erase_call(CALL_ID))
        assert (
            str(error)
            == f"This request may have cancelled call {CALL_ID} without erasing it; delete it again to erase its data."
        )
    methods = [request.method for request in api.request_history]
    assert methods == ["DELETE", "GET", "DELETE"][: 3 if took_place else 2]


@pytest.mark.parametrize(
    "given", [f" {CALL_ID.upper()}\n", {**CALL, "transcript": SAID}], ids=["text", "summary"]
)
def test_error_shows_nothing_but_the_id(api: requests_mock.Mocker, given: Any) -> None:
    api.delete(CALL_URL, status_code=502)
    api.get(CALL_URL, json={**CALL, "endedReason": "call-deleted"})
    error = failure(VapiTransientError, lambda: make_client().erase_call(given), secret=SAID)
    assert str(error).startswith(f"This request may have cancelled call {CALL_ID} without erasing it;")


@pytest.mark.parametrize(("loss", "status"), in_turn(LOST, ["scheduled", "in-progress"]))
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


@pytest.mark.parametrize(
    ("response", "says"),
    [
        ({"text": HTML}, "not JSON"),
        ({"text": ""}, "empty"),
        ({"status_code": 204}, "empty"),
        ({"text": "[]"}, "a list in place of a call"),
        ({"text": "null"}, "null in place of a call"),
        ({"json": {}}, "a call without an id"),
        ({"json": {**CALL, "id": OTHER_ID}}, "another call"),
    ],
    ids=str,
)
def test_unreadable_success_is_transient(
    api: requests_mock.Mocker, naps: list[float], response: dict[str, Any], says: str
) -> None:
    """The response may be from a proxy, so the call may or may not be deleted."""
    api.delete(CALL_URL, **response)
    error = failure(VapiTransientError, lambda: make_client().delete_call(CALL_ID))
    assert says in str(error)
    assert (error.method, error.path, error.had_no_effect) == ("DELETE", f"/call/{CALL_ID}", False)
    assert (api.call_count, naps) == (1, [])


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
