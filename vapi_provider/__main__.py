# SPDX-License-Identifier: Apache-2.0
"""Find a task's call by its token: ``python -m vapi_provider find TOKEN``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vapi_provider.client.client import VapiClient

_FOUND, _NONE, _FAILED = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """
    Run the command line.

    :param arguments: the arguments without the program name; ``sys.argv[1:]`` by default
    :return: the exit code: 0 if a call was found, 1 if none was, 2 if the search failed
    """
    options = _parser().parse_args(arguments)
    # Imported here so that --help works without Airflow.
    from vapi_provider.exceptions import VapiError

    since: datetime = options.since or datetime.now(timezone.utc) - timedelta(days=1)
    found = 0
    try:
        # Airflow logs to stdout, which is for the result.
        with contextlib.redirect_stdout(sys.stderr):
            client = _connect(options.conn_id)
        for line in _find(client, options.token, since, shows_people=options.show):
            found += 1
            print(line, flush=True)
    except VapiError as error:
        print(error, file=sys.stderr)
        return _FOUND if found else _FAILED
    except Exception as error:
        # The message may contain secrets, so print only the type.
        problem = type(error).__name__
        print(
            f"The search failed ({problem}). The call may exist; check the Vapi dashboard.", file=sys.stderr
        )
        return _FOUND if found else _FAILED
    count = "1 call" if found == 1 else f"{found or 'No'} calls"
    print(f"{count} with token {options.token} created since {since.isoformat(timespec='minutes')}.")
    return _FOUND if found else _NONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vapi_provider")
    commands = parser.add_subparsers(required=True, metavar="find")
    find = commands.add_parser("find", description="Find the calls that carry a token.")
    find.add_argument("token", type=_token, help="the token from the task log")
    find.add_argument("--conn-id", default="vapi_default", help="the connection id (default: %(default)s)")
    find.add_argument(
        "--since",
        type=_instant,
        help="search calls created since this instant, ISO 8601 (default: one day ago)",
    )
    find.add_argument("--show", action="store_true", help="also show the call's name and the callee")
    return parser


def _token(text: str) -> str:
    token = text.strip().removeprefix("#").lower()
    if not re.fullmatch(r"[a-z0-9]{8}", token, re.ASCII):
        raise argparse.ArgumentTypeError("must be 8 letters and digits")
    return token


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise argparse.ArgumentTypeError("must look like 2026-11-22 or 2026-11-22T15:30Z") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=timezone.utc)


def _connect(conn_id: str) -> VapiClient:
    """Return a client for a connection, wherever Airflow stores it."""
    # Not VapiHook: outside a task, it cannot read Airflow's database.
    from airflow.models.connection import Connection
    from airflow.providers.common.compat.sdk import AirflowNotFoundException
    from vapi_provider.client.client import VapiClient
    from vapi_provider.connection import missing_connection, read_settings

    try:
        conn = Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException:
        conn = None
    if conn is None:
        raise missing_connection(conn_id)
    return VapiClient(read_settings(conn, conn_id), logging.getLogger(__name__))


def _find(client: VapiClient, token: str, since: datetime, *, shows_people: bool) -> Iterator[str]:
    """Yield one line per call that carries the token."""
    from vapi_provider.client.pagination import newest_first
    from vapi_provider.models.cleaning import clean_line
    from vapi_provider.placing.search import PAGE_SIZE, carried_token

    filters = {"createdAtGe": since.isoformat()}
    for call in newest_first(
        lambda page: client.list_placed({**filters, **page}).rows, PAGE_SIZE, is_exhaustive=True
    ):
        if carried_token(call, [token]):
            status, outcome = clean_line(call.status) or "no status", call.outcome or "no outcome yet"
            shown = [clean_line(call.id) or "", status, str(outcome), client.settings.dashboard_url(call.id)]
            yield "  ".join(shown + (_people(client, call.id) if shows_people else []))


def _people(client: VapiClient, call_id: str) -> list[str]:
    summary = client.get_call(call_id).summary(include=["customer"])
    customer = summary["customer"] or {}
    values = [summary["name"], *(customer.get(name) for name in ("number", "sip_uri", "name", "external_id"))]
    return [str(value) for value in values if value]


if __name__ == "__main__":
    # Some versions of Airflow log every plugin that they load.
    logging.disable(logging.INFO)
    sys.exit(main())
