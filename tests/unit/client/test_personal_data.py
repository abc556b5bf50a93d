# SPDX-License-Identifier: Apache-2.0
"""Personal data of a request never appears in errors, even if Vapi or a proxy echoes it."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import requests_mock
from http_helpers import API, CALL_ID, CALL_URL, make_client

from vapi_provider.exceptions import VapiCallInDoubtError, VapiError, VapiPermanentError

REQUEST = {
    "assistantId": "0198a3f0-0000-7000-8000-000000000002",
    "customer": {"number": "+12025550143", "name": "Ada Lovelace", "email": "ada@example.org"},
    "name": "Reminder #abcdefgh",
    "assistantOverrides": {
        "variableValues": {"illness": "diabetes", "nested": {"visits": [4711]}, "day": "Tue"}
    },
}
PERSONAL = ("2025550143", "Ada", "Lovelace", "ada@", "Reminder", "diabetes", "4711")


def echo(text: str) -> str:
    return json.dumps({"message": [text, "the rest stays"], "error": "Bad Request", "statusCode": 400})


def failure_of(request: dict[str, Any], **response: Any) -> VapiError:
    with requests_mock.Mocker() as api:
        api.post(f"{API}/call", **response)
        with pytest.raises(VapiError) as caught:
            make_client().create_call(request)
    return caught.value


@pytest.mark.parametrize("shape", [str, str.upper], ids=["as sent", "in capitals"])
def test_echoed_request_is_masked_in_a_refusal(shape: Any) -> None:
    error = failure_of(REQUEST, status_code=400, text=echo(shape(f"cannot call {json.dumps(REQUEST)}")))
    assert type(error) is VapiPermanentError
    shown = f"{error} {error.detail}".lower()
    assert not [word for word in PERSONAL if word.lower() in shown]
    assert "the rest stays" in str(error)
    # Three letters may be a part of any word.
    assert "tue" in shown


def test_echoing_page_of_a_proxy_is_masked() -> None:
    error = failure_of(REQUEST, status_code=502, text=f"upstream failed for {json.dumps(REQUEST)}")
    assert isinstance(error, VapiCallInDoubtError)
    assert not [word for word in PERSONAL if word in f"{error} {error.failure}"]


def test_echoed_name_of_an_update_is_masked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with requests_mock.Mocker() as api:
        api.patch(CALL_URL, status_code=400, text=echo("name 'Ada Lovelace' is taken"))
        with pytest.raises(VapiError) as caught:
            make_client().update_call(CALL_ID, name="Ada Lovelace")
    assert "name '***' is taken" in str(caught.value)
    assert "Lovelace" not in caplog.text


def test_returned_call_is_not_masked() -> None:
    body = {"id": CALL_ID, "status": "queued", "customer": REQUEST["customer"], "name": REQUEST["name"]}
    with requests_mock.Mocker() as api:
        api.post(f"{API}/call", status_code=201, json=body)
        call = make_client().create_call(REQUEST)
    assert (call.customer, call.name) == (REQUEST["customer"], REQUEST["name"])


def test_personal_data_is_masked_at_any_depth() -> None:
    body = {
        "customers": [{"number": "+12025550171", "name": "Augusta"}],
        "assistant": {
            "variableValues": {"street": "Main Street"},
            "model": {"messages": [{"role": "system", "content": "You remind of debts."}]},
            "voicemailMessage": "Pay us.",
            "server": {"secret": "s3cr3t", "headers": {"X-Key": "k3yk3y"}},
            "credentials": [{"provider": "aws", "awsSecretAccessKey": "4ws4ws", "awsAccessKeyId": "AKIA"}],
        },
        "metadata": {"ward": "oncology", "kind": "customers", "limit": "string"},
        "phoneNumber": {"twilioAuthToken": "0123456789abcdef"},
    }
    with requests_mock.Mocker() as api:
        api.post(f"{API}/campaign", status_code=400, text=echo(f"cannot use {json.dumps(body)}"))
        with pytest.raises(VapiPermanentError) as caught:
            make_client().run("POST", "/campaign", json=body)
    shown = str(caught.value)
    personal = ("2025550171", "Augusta", "Main Street", "debts", "Pay us", "oncology")
    secret = ("0123456789abcdef", "s3cr3t", "k3yk3y", "4ws4ws")
    assert not [word for word in (*personal, *secret) if word in shown]
    # What messages are made of stays.
    assert not [word for word in ("cannot use", "system", '"customers"', "string") if word not in shown]


@pytest.mark.parametrize("spelling", ["12025550143", "%2B12025550143", "Ada%20Lovelace"])
def test_encoded_personal_data_is_masked(spelling: str) -> None:
    error = failure_of(REQUEST, status_code=400, text=echo(f"cannot call {spelling} now"))
    assert spelling not in str(error)
    assert "cannot call *** now" in str(error)


def test_lone_surrogate_in_a_request_breaks_no_error() -> None:
    error = failure_of({**REQUEST, "name": "Ada\ud800"}, status_code=400, text=echo("name is not valid"))
    assert type(error) is VapiPermanentError
    assert "name is not valid" in str(error)
