# SPDX-License-Identifier: Apache-2.0
"""
Start a whole Airflow to try in the browser, with a simulated Vapi: ``make play``.

Airflow and the simulator listen on free ports of 127.0.0.1 and keep their data in a temporary folder. Ctrl-C stops
everything and removes the folder.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from local_airflow import HOST, LocalAirflow, ServiceError, free_port, stopped_at_the_end

from vapi_provider.simulator.server import DEFAULT_API_KEY

FIRST_DAG = "example_vapi_place_and_label"
# Calls that take a minute in the simulator's time, of which some are not answered.
SIMULATOR_OPTIONS: tuple[str, ...] = ()
READY = """
Ready. Click first:

  1. Open {airflow}/dags/{dag}
     and press Trigger twice: on the page and in the dialog.
  2. Watch the calls ring and end at {simulator}
  3. Open the run and a task of call_person: its tab Details has the button "Vapi Call".

The other examples are at {airflow}/dags. No real call is placed. Ctrl-C stops everything."""


def say(line: str) -> None:
    print(line, flush=True)


def start(airflow: LocalAirflow) -> str:
    """Start everything, the API server first, and return the simulator's URL."""
    port = free_port()
    simulator_url = f"http://{HOST}:{port}"
    airflow.start("simulator", "vapi_provider.simulator", "--port", str(port), *SIMULATOR_OPTIONS)
    airflow.start_page()
    say(
        f"Airflow      {airflow.url}\nSimulator    {simulator_url}\nStarting scheduler, triggerer and dag-processor ..."
    )
    connection = {"connection_id": "vapi_default", "conn_type": "vapi", "host": simulator_url}
    airflow.request("POST", "connections", {**connection, "password": DEFAULT_API_KEY})
    airflow.request("POST", "pools", {"name": "vapi_calls", "slots": 10, "include_deferred": True})
    airflow.start_rest(FIRST_DAG)
    return simulator_url


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="vapi-play-") as folder:
        airflow = LocalAirflow(Path(folder), Path(__file__).resolve().parent)
        try:
            with stopped_at_the_end(airflow):
                say("Setting up a temporary Airflow ...")
                simulator_url = start(airflow)
                say(READY.format(airflow=airflow.url, dag=FIRST_DAG, simulator=simulator_url))
                while True:
                    airflow.check()
                    time.sleep(1)
        except ServiceError as error:
            say(str(error))
            return 1
        except KeyboardInterrupt:
            say("\nStopped everything.")
            return 0


if __name__ == "__main__":
    sys.exit(main())
