# SPDX-License-Identifier: Apache-2.0
"""
Start a complete Airflow to try in the browser, with a simulated Vapi: ``make play``.

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

FIRST_DAG = "example_vapi_campaign"
# Always open, and the next attempt after seconds, so that you see something at any time of the day.
CHANGES = {
    'Param("09:00"': 'Param("00:00"',
    'Param("20:00"': 'Param("24:00"',
    "timedelta(hours=2)": "timedelta(seconds=10)",
}
ARCHIVE = "file:///tmp/vapi-archive"
SIMULATOR_OPTIONS = ("--outcome", "+12025550103=customer-did-not-answer")
READY = """
Ready. Click first:

  1. Open {airflow}/dags/{dag}
     and press Trigger twice: on the page and in the dialog.
  2. Watch the calls ring and end at {simulator}
  3. Open the run and an instance of the task call: its tab Details has the button "Vapi Call".

The other examples are at {airflow}/dags. No real call is placed. Ctrl-C stops everything."""


def say(line: str) -> None:
    print(line, flush=True)


def copy_examples(folder: Path) -> Path:
    """Copy the example DAGs, and change the campaign's times and the folder of the export."""
    folder.mkdir()
    for file in Path(__file__).resolve().parent.glob("example_*.py"):
        text = file.read_text().replace(ARCHIVE, f"file://{folder.parent}/archive")
        for old, new in CHANGES.items() if file.stem == FIRST_DAG else ():
            if old not in text:
                raise ServiceError(f"{file.name} does not contain {old!r}.")
            text = text.replace(old, new)
        (folder / file.name).write_text(text)
    return folder


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
    airflow.start_rest(len(list(airflow.dags_folder.glob("*.py"))))
    return simulator_url


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="vapi-play-") as folder:
        try:
            airflow = LocalAirflow(Path(folder), copy_examples(Path(folder) / "dags"))
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
            say("Stopped everything.")
            return 0


if __name__ == "__main__":
    sys.exit(main())
