# SPDX-License-Identifier: Apache-2.0
"""Vapi's end-of-call webhook starts a DAG through airflow-provider-inbound-webhooks, as docs/events.md shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from airflow_services import AirflowServices
    from planted import Planted

pytest.importorskip("airflow_inbound_webhooks", reason="requires Airflow 3.1.1")

# Needs a package that CI installs only for it, so .ci/run leaves it out.
pytestmark = pytest.mark.slow

CALL_ID = "0198a3f0-0000-7000-8000-0000000000f1"
SECRET = "secret-of-the-webhook"
PAGE = Path(__file__).parents[2] / "docs" / "events.md"


def documented_extra() -> dict[str, Any]:
    """Return the extra of the connection, as the page shows it."""
    (block,) = re.findall(r"```text\s*(\{.*?\})\s*```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    extra: dict[str, Any] = json.loads(block)
    return extra


def message(kind: str, **fields: Any) -> dict[str, Any]:
    call = {"id": CALL_ID, "monitor": {"controlUrl": "https://phone-call.vapi.ai/x/control"}}
    return {"message": {"type": kind, "call": call, **fields}}


def test_report_starts_a_dag_once_and_is_not_stored(airflow: AirflowServices, planted: Planted) -> None:
    connection = {"connection_id": "webhook_vapi", "conn_type": "inbound_webhook", "password": SECRET}
    body = {**connection, "extra": json.dumps(documented_extra())}
    airflow.client.ask("POST", "/api/v2/connections", json=body)

    def post(body: dict[str, Any], secret: str = SECRET) -> requests.Response:
        headers = {"X-Vapi-Secret": secret}
        return requests.post(f"{airflow.url}/webhooks/vapi", json=body, headers=headers, timeout=60)

    report = message("end-of-call-report", transcript=f"{planted.words} " * 50_000)
    assert len(json.dumps(report)) > 1_500_000
    assert post(message("status-update", status="ended")).json()["outcome"] == "no_subscribers"
    assert post(report, "another secret").status_code == 401
    assert post(report).status_code == 202
    assert post(report).json()["outcome"] == "duplicate"

    def events() -> list[Any]:
        rows = airflow.postgres.query(
            "select e.extra from asset_event e join asset a on a.id = e.asset_id"
            " where a.name = 'vapi/end-of-call-report'",
            [],
        )
        return [row[0] for row in rows]

    airflow.wait_until(
        lambda: airflow.client.ask("GET", "/api/v2/dags/on_report/dagRuns")["total_entries"] == 1,
        60,
        "the report has started a run",
    )
    (extra,) = events()
    assert extra["delivery_id"] == CALL_ID
    assert extra.get("payload") is None
