# SPDX-License-Identifier: Apache-2.0
"""The temporary Airflow of ``make play`` when another program has taken its port."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import vapi_provider

sys.path.insert(0, str(Path(vapi_provider.__file__).parents[1] / "example_dags"))

from local_airflow import LocalAirflow, ServiceError

# Stands in for Airflow, which takes half a minute to find that the port is taken.
AIRFLOW = """
import socket, sys
if "api-server" in sys.argv:
    port = int(sys.argv[sys.argv.index("--port") + 1])
    try:
        socket.socket().bind(("127.0.0.1", port))
    except OSError as error:
        sys.exit(f"[Errno 98] {error.strerror.lower()}")
"""


class OtherProgram(BaseHTTPRequestHandler):
    """Responds to every request, but not as Airflow does."""

    body = b"<html>"

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def other_port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), OtherProgram) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}"], ids=["html", "list", "object"])
def test_port_of_another_web_server_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, other_port: int, body: bytes
) -> None:
    monkeypatch.setattr(OtherProgram, "body", body)
    (tmp_path / "airflow.py").write_text(AIRFLOW)
    airflow = LocalAirflow(tmp_path, tmp_path / "dags")
    airflow.port, airflow.url = other_port, f"http://127.0.0.1:{other_port}"
    try:
        with pytest.raises(ServiceError, match=r"api-server ended .* has taken its port\. Start again"):
            airflow.start_page()
    finally:
        airflow.stop()
