# SPDX-License-Identifier: Apache-2.0
"""Run the simulator on its own: ``python -m vapi_provider.simulator``."""

from __future__ import annotations

import argparse
import math
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable

from vapi_provider.simulator.reasons import known_reasons, near_reasons
from vapi_provider.simulator.scenario import Scenario
from vapi_provider.simulator.server import DEFAULT_API_KEY, VapiSimulator

_DESCRIPTION = """\
A local Vapi for trying out and testing DAGs. It listens on 127.0.0.1 only and places no real calls:
each call rings, is answered, ends and gets its results by itself, while a browser shows it.
"""
_EXAMPLE = """\
example:
  python -m vapi_provider.simulator --port 8765 --speed 5 \\
      --outcome '+1202555010*=customer-did-not-answer' --outcome '*=customer-ended-call'
"""

# Together, they keep a call within the years that Python's dates have.
_YEAR = 31_536_000
_SLOWEST = 0.001


def main(arguments: list[str] | None = None) -> None:
    """
    Serve until a SIGINT or SIGTERM arrives.

    :param arguments: the command line without the program's name; by default that of the process.
    """
    simulator = make_simulator(arguments)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stopping.set())
    try:
        simulator.start()
    except OSError as error:
        sys.exit(f"Cannot listen: {error.strerror}. Choose another --port, or 0 for a free one.")
    try:
        print(f"Vapi simulator listening on {simulator.url}")
        print(f"export AIRFLOW_CONN_VAPI_DEFAULT={shlex.quote(simulator.connection)}")
        print(f"Watch the calls in a browser: {simulator.url}/", flush=True)
        stopping.wait()
    finally:
        simulator.stop()


def make_simulator(arguments: list[str] | None = None) -> VapiSimulator:
    """
    Make the simulator that the options describe; a wrong one ends the process with a message.

    :param arguments: the command line without the program's name; by default that of the process.
    """
    options = _parser().parse_args(arguments)
    scenario = Scenario(
        answer_after=options.answer_after,
        end_after=options.end_after,
        analysis_after=options.analysis_after,
        speed=options.speed,
        outcomes=_first_of_each(options.outcome),
    )
    return VapiSimulator(
        port=options.port,
        api_key=options.api_key,
        timeline=scenario,
        concurrency_limit=options.concurrency_limit,
        over_limit=options.over_limit,
        list_lag=options.list_lag,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vapi_provider.simulator",
        usage="%(prog)s [options]",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    server = parser.add_argument_group("server")
    server.add_argument(
        "--port",
        type=_whole_number(0, 65535),
        default=0,
        metavar="PORT",
        help="port to listen on; 0 picks a free one (default: %(default)s)",
    )
    server.add_argument(
        "--api-key",
        type=_key,
        default=DEFAULT_API_KEY,
        metavar="KEY",
        help="key that requests must carry (default: %(default)s, not a secret)",
    )
    _add_life(parser.add_argument_group("life of a call"))
    _add_limits(parser.add_argument_group("limits"))
    return parser


def _first_of_each(pairs: list[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pattern, reason in pairs:
        found.setdefault(pattern, reason)
    return found


def _add_life(group: argparse._ArgumentGroup) -> None:
    for name, default, meaning in (
        ("--answer-after", Scenario.answer_after, "how long the phone rings before it is answered"),
        ("--end-after", Scenario.end_after, "how long an answered call lasts"),
        ("--analysis-after", Scenario.analysis_after, "how long after the end the results arrive"),
    ):
        group.add_argument(
            name,
            type=_seconds,
            default=default,
            metavar="SECONDS",
            help=f"{meaning} (default: %(default)s)",
        )
    group.add_argument(
        "--speed",
        type=_speed,
        default=Scenario.speed,
        metavar="FACTOR",
        help="how many times faster all of this happens (default: %(default)s)",
    )
    group.add_argument(
        "--outcome",
        type=_outcome,
        action="append",
        default=[],
        metavar="CALLEE=REASON",
        help="endedReason of calls to a callee, given as a glob pattern; repeat it for more callees, "
        "the first match wins (default: *=customer-ended-call)",
    )


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--concurrency-limit",
        type=_whole_number(0),
        default=10,
        metavar="CALLS",
        help="how many calls may be live at once (default: %(default)s)",
    )
    group.add_argument(
        "--over-limit",
        choices=("refuse", "end", "queue"),
        default="refuse",
        help="what happens to a call beyond that: refuse it, accept and end it without a ring, or "
        "dial it anyway (default: %(default)s)",
    )
    group.add_argument(
        "--list-lag",
        type=_seconds,
        default=0,
        metavar="SECONDS",
        help="how far GET /call is behind, whatever the speed (default: %(default)s)",
    )


def _number(text: str, is_right: Callable[[float], bool], what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and is_right(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def _seconds(text: str) -> float:
    return _number(text, lambda value: 0 <= value <= _YEAR, "a number of seconds from 0 to a year")


def _speed(text: str) -> float:
    return _number(
        text, lambda value: value >= _SLOWEST, f"a factor of {_SLOWEST} or more, such as 10 or 0.5"
    )


def _whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    what = f"a whole number, {least} or more" if most is None else f"a whole number from {least} to {most}"

    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not least <= int(text) <= (most or math.inf):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return int(text)

    return read


def _key(text: str) -> str:
    # The value may be a real key, so the error does not repeat it.
    if not re.fullmatch(r"[!-~]+(?: +[!-~]+)*", text):
        raise argparse.ArgumentTypeError("a key consists of printable ASCII characters and must not be blank")
    return text


def _outcome(text: str) -> tuple[str, str]:
    callee, _, reason = text.rpartition("=")
    if not callee:
        raise argparse.ArgumentTypeError(
            f"{text!r} has no callee; write CALLEE=REASON, such as '+1202555010*=customer-did-not-answer'"
        )
    if reason not in known_reasons():
        examples = near_reasons(reason) or ["customer-busy", "voicemail"]
        raise argparse.ArgumentTypeError(
            f"{reason!r} is not an endedReason of Vapi, such as {' or '.join(examples)}"
        )
    return callee.strip(), reason


if __name__ == "__main__":
    main()
