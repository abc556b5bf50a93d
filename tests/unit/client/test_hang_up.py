# SPDX-License-Identifier: Apache-2.0
"""Ending a call in any state, within seconds, without repeating a request that may have worked."""

from __future__ import annotations

import dataclasses
import inspect
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from case_tables import in_turn
from http_helpers import CALL_ID, OTHER_ID, client_of, failure
from late_responses import HELD_SECONDS, LATE, HeldResponses, wait_until

from airflow.sdk.execution_time.supervisor import WatchedSubprocess
from vapi_provider.client.hang_up import (
    HANG_UP_REQUEST_SECONDS,
    HANG_UP_SECONDS,
    end_call,
    hang_up,
    hang_up_soon,
)
from vapi_provider.exceptions import (
    VapiCallNotFoundError,
    VapiConfigurationError,
    VapiError,
    VapiPermanentError,
    VapiTransientError,
)
from vapi_provider.simulator import Fault, VapiSimulator

if TYPE_CHECKING:
    from vapi_provider.client.client import VapiClient

TOKEN = "8c1e-the-capability-of-this-call"
UNKNOWN_ID = "019a7c2e-5f00-7000-8000-0000000000bb"
NOT_FOUND = '{"message": "Call not found", "error": "Not Found", "statusCode": 404}'
HTML = "<html><head><title>Something in between</title></head></html>"


def sent(simulator: VapiSimulator) -> list[str]:
    """Return the methods of the requests; each POST is one to the control URL."""
    return [request.method for request in simulator.requests]


@pytest.fixture(autouse=True)
def set_limits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the time limits of ``hang_up_soon``, by default long enough never to matter."""

    def set_to(*, request: float = 60.0, all_in_all: float = 60.0) -> None:
        monkeypatch.setattr("vapi_provider.client.hang_up.HANG_UP_REQUEST_SECONDS", request)
        monkeypatch.setattr("vapi_provider.client.hang_up.HANG_UP_SECONDS", all_in_all)

    set_to()
    return set_to


@pytest.fixture
def client(simulator: VapiSimulator) -> VapiClient:
    return client_of(simulator, max_retries=0)


LIVE = ("queued", "ringing", "in-progress", "forwarding", "a new status")
OVER: dict[str, dict[str, Any]] = {
    "ended": {},
    "ENDED": {},
    "not-found": {},
    "deletion-failed": {},
    "a new end": {"endedAt": "2026-08-01T10:00:00Z"},
}
STATES = [
    *(pytest.param(s, {}, ["GET", "POST"], "ended", "Call {} was ended.", id=s) for s in LIVE),
    pytest.param(
        "scheduled", {}, ["GET", "DELETE"], "ended", "Scheduled call {} was cancelled.", id="scheduled"
    ),
    *(
        pytest.param(status, fields, ["GET"], status, "Call {} had already ended.", id=status)
        for status, fields in OVER.items()
    ),
]


@pytest.mark.parametrize(
    ("status", "fields", "requests", "became", "says", "end"), in_turn(STATES, [end_call, hang_up])
)
def test_call_is_ended_according_to_its_state(
    simulator: VapiSimulator,
    client: VapiClient,
    end: Any,
    status: str,
    fields: dict[str, Any],
    requests: list[str],
    became: str,
    says: str,
) -> None:
    monitor = {"controlUrl": f"{simulator.url}/control/x"} if status == "a new status" else None
    if monitor:
        # The simulator has control URLs for known statuses only.
        fields = {**fields, "monitor": monitor}
        simulator.faults.add(Fault(method="POST", status=200, body="{}"))
        became = status
    call_id = simulator.add_call(status=status, body=fields)
    assert end(client, call_id) == says.format(call_id)
    assert sent(simulator) == requests
    assert simulator.get_call(call_id)["status"] == became


NOT_ENDABLE = {
    "no monitor": ({"monitor": None}, "no control URL"),
    "no control URL": ({"monitor": {}}, "no control URL"),
    "an empty control URL": ({"monitor": {"controlUrl": ""}}, "no control URL"),
    **{
        url: ({"monitor": {"controlUrl": url}}, "nothing was sent to it")
        for url in (
            f"https://evil.example/{TOKEN}",
            f"http://127.0.0.1:9/{TOKEN}",
            f"http://api.vapi.ai/{TOKEN}",
        )
    },
}


@pytest.mark.parametrize(("fields", "says"), NOT_ENDABLE.values(), ids=NOT_ENDABLE)
def test_live_call_without_usable_control_url_is_reported(
    simulator: VapiSimulator, client: VapiClient, fields: dict[str, Any], says: str
) -> None:
    call_id = simulator.add_call(status="in-progress", body=fields)
    error = failure(VapiPermanentError, lambda: end_call(client, call_id), secret=TOKEN)
    assert says in str(error)
    result = hang_up(client, call_id)
    assert result == f"Call {call_id} could not be ended and may still be live. {error}"
    assert sent(simulator) == ["GET", "GET"]
    assert simulator.get_call(call_id)["status"] == "in-progress"


@pytest.mark.parametrize(
    "argument",
    [lambda call_id: f" {call_id.upper()}\n", lambda call_id: {"id": call_id, "transcript": "hush-hush"}],
    ids=["text", "summary"],
)
def test_result_shows_only_the_id(simulator: VapiSimulator, argument: Callable[[str], Any]) -> None:
    call_id = simulator.add_call(status="in-progress")
    assert end_call(client_of(simulator), argument(call_id)) == f"Call {call_id} was ended."


@pytest.mark.parametrize("call_id", [None, "", "None", "../x", 7])
def test_end_call_refuses_bad_ids(simulator: VapiSimulator, call_id: Any) -> None:
    failure(VapiConfigurationError, lambda: end_call(client_of(simulator), call_id))
    assert sent(simulator) == []


def test_missing_call_is_an_error_of_end_call(simulator: VapiSimulator, client: VapiClient) -> None:
    failure(VapiCallNotFoundError, lambda: end_call(client, OTHER_ID), secret=simulator.api_key)
    assert sent(simulator) == ["GET"]


LOST = {
    "503": Fault(status=503),
    "429": Fault(status=429, headers={"Retry-After": "30"}),
    "404 in HTML": Fault(status=404, body=HTML, content_type="text/html"),
    "reset": Fault(reset="before"),
}


@pytest.mark.parametrize(("fault", "end"), in_turn(LOST, [end_call, hang_up]))
@pytest.mark.parametrize(
    ("status", "failing", "requests"),
    [
        ("in-progress", "GET", ["GET", "GET", "POST"]),
        ("in-progress", "POST", ["GET", "POST", "GET", "POST"]),
        ("scheduled", "GET", ["GET", "GET", "DELETE"]),
        ("scheduled", "DELETE", ["GET", "DELETE", "GET", "DELETE"]),
    ],
)
def test_transient_failure_is_followed_by_a_second_try(
    simulator: VapiSimulator,
    client: VapiClient,
    naps: list[float],
    end: Any,
    status: str,
    failing: str,
    requests: list[str],
    fault: Fault,
) -> None:
    call_id = simulator.add_call(status=status)
    simulator.faults.add(dataclasses.replace(fault, method=failing))
    done = end(client, call_id)
    assert "was cancelled" in done if status == "scheduled" else "was ended" in done
    assert sent(simulator) == requests
    assert simulator.get_call(call_id)["status"] == "ended"
    assert naps == []


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
@pytest.mark.parametrize(
    ("status", "failing", "requests"),
    [
        ("in-progress", "GET", ["GET", "GET"]),
        ("in-progress", "POST", ["GET", "POST", "GET", "POST"]),
        ("scheduled", "DELETE", ["GET", "DELETE", "GET", "DELETE"]),
    ],
)
def test_repeated_failure_is_tried_twice_and_reported(
    simulator: VapiSimulator,
    client: VapiClient,
    status: str,
    failing: str,
    requests: list[str],
    fault: Fault,
) -> None:
    call_id = simulator.add_call(status=status)
    simulator.faults.add(dataclasses.replace(fault, method=failing, times=None))
    done = hang_up(client, call_id)
    assert done.startswith(f"Call {call_id} could not be ended and may still be live. ")
    assert simulator.api_key not in done
    if failing == "POST":
        control_url = urlsplit(simulator.get_call(call_id)["monitor"]["controlUrl"])
        assert control_url.path.rpartition("/")[2] not in done
    assert sent(simulator) == requests
    assert simulator.get_call(call_id)["status"] == status
    with pytest.raises(VapiTransientError):
        end_call(client, call_id)


EFFECTIVE = {
    "reset": {"reset": "before"},
    "reset midway": {"reset": "midway"},
    "502": {"status": 502},
    "429": {"status": 429},
    "404 in HTML": {"status": 404, "body": HTML},
    "time-out": {"headers": LATE},
}


@pytest.mark.usefixtures("late_responses_time_out")
@pytest.mark.parametrize(("fault", "end"), in_turn(EFFECTIVE, [end_call, hang_up, hang_up_soon]))
@pytest.mark.parametrize(("status", "failing"), [("in-progress", "POST"), ("scheduled", "DELETE")])
def test_call_ended_by_a_lost_request_is_not_ended_twice(
    simulator: VapiSimulator, end: Any, status: str, failing: str, fault: dict[str, Any]
) -> None:
    call_id = simulator.add_call(status=status)
    simulator.faults.add(Fault(method=failing, effect=True, **fault))
    assert end(client_of(simulator), call_id) == f"Call {call_id} has ended."
    assert sent(simulator) == ["GET", failing, "GET"]
    # A second DELETE would erase a cancelled call.
    assert simulator.get_call(call_id)["status"] == "ended"


PROXIES = {"HTML": HTML, "empty": "", "a list": "[]", "another call": f'{{"id": "{OTHER_ID}"}}'}


@pytest.mark.parametrize(("body", "end"), in_turn(PROXIES, [end_call, hang_up, hang_up_soon]))
@pytest.mark.parametrize("effect", [True, False], ids=["effect", "no-effect"])
def test_unreadable_success_is_followed_by_a_read(
    simulator: VapiSimulator, end: Any, effect: bool, body: str
) -> None:
    call_id = simulator.add_call(status="scheduled")
    simulator.faults.add(Fault(method="DELETE", status=200, body=body, effect=effect))
    done = end(client_of(simulator), call_id)
    if effect:
        # A second DELETE would erase it.
        assert done == f"Call {call_id} has ended."
        assert sent(simulator) == ["GET", "DELETE", "GET"]
    else:
        assert done == f"Scheduled call {call_id} was cancelled."
        assert sent(simulator) == ["GET", "DELETE", "GET", "DELETE"]
    assert simulator.get_call(call_id)["endedReason"] == "scheduled-call-deleted"


@pytest.mark.parametrize("body", PROXIES.values(), ids=PROXIES)
def test_cancellation_lost_in_a_proxy_is_reported(
    simulator: VapiSimulator, client: VapiClient, body: str
) -> None:
    call_id = simulator.add_call(status="scheduled")
    simulator.faults.add(Fault(method="DELETE", status=200, body=body, effect=False, times=None))
    done = hang_up(client, call_id)
    assert done.startswith(f"Call {call_id} could not be ended and may still be live. ")
    assert sent(simulator) == ["GET", "DELETE", "GET", "DELETE"]
    with pytest.raises(VapiTransientError):
        end_call(client, call_id)


@pytest.mark.parametrize(
    ("status", "failing", "response", "requests"),
    [
        ("in-progress", "GET", 401, ["GET"]),
        ("in-progress", "GET", 403, ["GET"]),
        ("in-progress", "GET", 404, ["GET"]),
        ("in-progress", "POST", 404, ["GET", "POST"]),
        ("scheduled", "DELETE", 400, ["GET", "DELETE"]),
    ],
)
def test_refusals_are_reported_and_not_retried(
    simulator: VapiSimulator,
    client: VapiClient,
    status: str,
    failing: str,
    response: int,
    requests: list[str],
) -> None:
    call_id = simulator.add_call(status=status)
    simulator.faults.add(Fault(method=failing, status=response, times=None))
    done = hang_up(client, call_id)
    assert done.startswith(f"Call {call_id} could not be ended and may still be live. ")
    assert str(response) in done
    assert sent(simulator) == requests


@pytest.mark.parametrize("call_id", ["None", "../x"])
def test_hang_up_reports_bad_ids(simulator: VapiSimulator, client: VapiClient, call_id: str) -> None:
    done = hang_up(client, call_id)
    assert "may still be live" in done
    assert "call_id" in done
    assert sent(simulator) == []


def test_hang_up_reports_a_refused_connection() -> None:
    with VapiSimulator() as simulator:
        client = client_of(simulator)
    assert "the connection was refused" in hang_up(client, CALL_ID)


# Within three seconds.


def test_hang_up_ends_before_airflow_kills_the_task() -> None:
    # Airflow kills a task this long after it has started to stop it.
    patience = inspect.signature(WatchedSubprocess.kill).parameters["escalation_delay"].default
    assert 2 * HANG_UP_REQUEST_SECONDS < HANG_UP_SECONDS <= patience - 1


@pytest.mark.deep
def test_hang_up_soon_takes_three_seconds_at_most(
    simulator: VapiSimulator, set_limits: Callable[..., None]
) -> None:
    """With the real limits, in real time."""
    set_limits(request=HANG_UP_REQUEST_SECONDS, all_in_all=HANG_UP_SECONDS)
    call_id = simulator.add_call(status="in-progress")
    simulator.faults.add(Fault(method="GET", delay=HANG_UP_REQUEST_SECONDS * 0.8, times=2))
    # A fault with a status has no effect, so a second try follows.
    simulator.faults.add(Fault(method="POST", delay=60, status=503, times=2))
    began = time.monotonic()
    done = hang_up_soon(client_of(simulator, timeout=60), call_id)
    # A second for a busy machine; Airflow waits for five.
    assert time.monotonic() - began < HANG_UP_SECONDS + 1
    assert done == f"Call {call_id} could not be ended and may still be live. It did not end within 3 s."


def test_hang_up_soon_reports_a_timeout(
    simulator: VapiSimulator, set_limits: Callable[..., None], held_responses: HeldResponses
) -> None:
    set_limits(all_in_all=0.2)
    call_id = simulator.add_call(status="in-progress")
    simulator.faults.add(Fault(method="GET", delay=HELD_SECONDS))
    done = hang_up_soon(client_of(simulator), call_id)
    assert done == f"Call {call_id} could not be ended and may still be live. It did not end within 0.2 s."
    assert simulator.get_call(call_id)["status"] == "in-progress"
    # The thread goes on as long as the process does, so the call may still be ended.
    held_responses.let_all_go()
    wait_until(lambda: simulator.get_call(call_id)["status"] == "ended", "the call is ended")


def test_hang_up_soon_retries_a_call_not_found_yet(simulator: VapiSimulator) -> None:
    """Vapi may return 404 for a call that was placed moments ago."""
    call_id = simulator.add_call(status="in-progress")
    simulator.faults.add(Fault(method="GET", status=404, body=NOT_FOUND, times=2))
    assert hang_up_soon(client_of(simulator), call_id) == f"Call {call_id} was ended."
    assert sent(simulator) == ["GET", "GET", "GET", "POST"]


def test_hang_up_soon_gives_up_on_a_missing_call(
    simulator: VapiSimulator, set_limits: Callable[..., None]
) -> None:
    set_limits(all_in_all=0.6)
    done = hang_up_soon(client_of(simulator), UNKNOWN_ID)
    assert done.startswith(f"Call {UNKNOWN_ID} could not be ended and may still be live.")


@pytest.mark.parametrize(
    ("status", "says"),
    [("in-progress", "was ended"), ("scheduled", "was cancelled"), ("ended", "had already ended")],
)
def test_hang_up_soon_returns_what_was_done(simulator: VapiSimulator, status: str, says: str) -> None:
    call_id = simulator.add_call(status=status)
    assert says in hang_up_soon(client_of(simulator), call_id)
    assert simulator.get_call(call_id)["status"] == "ended"


def test_hang_up_soon_does_not_wait_for_the_clients_request(simulator: VapiSimulator) -> None:
    call_id = simulator.add_call(status="in-progress")
    client = client_of(simulator, timeout=60, max_retries=0)
    simulator.faults.add(Fault(method="GET", delay=60))
    errors: list[VapiError] = []

    def read() -> None:
        try:
            client.get_call(call_id)
        except VapiError as error:
            errors.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    wait_until(lambda: simulator.requests, "the request is under way")
    assert "was ended" in hang_up_soon(client, call_id)
    assert thread.is_alive()
    simulator.stop()
    wait_until(lambda: errors, "the request fails")


@pytest.mark.parametrize("soon", [False, True], ids=["hang_up", "hang_up_soon"])
def test_each_request_of_a_hang_up_has_its_limit(
    simulator: VapiSimulator, set_limits: Callable[..., None], held_responses: HeldResponses, soon: bool
) -> None:
    set_limits(request=0.2)
    call_id = simulator.add_call(status="in-progress")
    simulator.faults.add(Fault(method="GET", delay=HELD_SECONDS, times=2))
    client = client_of(simulator, timeout=HELD_SECONDS if soon else 0.2, max_retries=0)
    done = (hang_up_soon if soon else hang_up)(client, call_id)
    assert "within 0.2 s" in done
    assert "may still be live" in done
    assert simulator.get_call(call_id)["status"] == "in-progress"
