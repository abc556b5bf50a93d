# SPDX-License-Identifier: Apache-2.0
"""``python -m vapi_provider find`` with a connection that is stored in Airflow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from vapi_provider.simulator import VapiSimulator

ROOT = Path(__file__).resolve().parents[2]


def test_stored_connection_is_used(
    database: Path, simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    call_id = simulator.add_call(status="ringing", body={"name": "#abcd2345"})
    stored = Connection(
        conn_id="vapi_stored", conn_type="vapi", host=simulator.url, password=simulator.api_key
    )
    with create_session() as session:
        session.add(stored)
    monkeypatch.delenv("AIRFLOW_CONN_VAPI_DEFAULT")
    command = [sys.executable, "-m", "vapi_provider", "find", "abcd2345", "--conn-id", "vapi_stored"]
    done = subprocess.run(command, env=os.environ, cwd=ROOT, capture_output=True, text=True, check=False)
    with create_session() as session:
        # Other tests search the database for this key.
        session.query(Connection).filter_by(conn_id="vapi_stored").delete()
    assert done.returncode == 0, done.stderr
    # Airflow's own log must not be on stdout.
    line, _ = done.stdout.splitlines()
    assert line == f"{call_id}  ringing  no outcome yet  {simulator.url}/calls/{call_id}"
