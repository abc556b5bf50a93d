# SPDX-License-Identifier: Apache-2.0
"""Run the simulator by itself: ``python -m vapi_provider.simulator``."""

from __future__ import annotations

import argparse
import shlex
import signal
import threading

from vapi_provider.simulator.server import DEFAULT_API_KEY, VapiSimulator


def main(arguments: list[str] | None = None) -> None:
    """
    Serve until a SIGINT or SIGTERM arrives.

    :param arguments: the command line without the program's name; by default that of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m vapi_provider.simulator",
        description="A local Vapi that rings nobody; it listens on 127.0.0.1 only.",
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on; by default a free one")
    parser.add_argument(
        "--api-key",
        default=DEFAULT_API_KEY,
        help=f"key to ask for (default: {DEFAULT_API_KEY}, not a secret)",
    )
    options = parser.parse_args(arguments)

    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stopping.set())
    with VapiSimulator(port=options.port, api_key=options.api_key) as simulator:
        print(f"Vapi simulator listening on {simulator.url}")
        print(f"export AIRFLOW_CONN_VAPI_DEFAULT={shlex.quote(simulator.connection)}", flush=True)
        stopping.wait()


if __name__ == "__main__":
    main()
