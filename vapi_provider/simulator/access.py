# SPDX-License-Identifier: Apache-2.0
"""Who may send requests: programs and browsers on the simulator's own machine."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import Scope

REFUSAL = "The simulator serves only its own machine. Use http://127.0.0.1 or http://localhost with its port."


def names_other_host(scope: Scope) -> bool:
    """
    Return True if a request's Host header names anything but this machine.

    A website can make its own host name resolve to this machine (DNS rebinding), and its pages could then read responses.

    :param scope: the request's ASGI scope.
    """
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    return not all(is_loopback(_name_of(host)) for host in hosts)


def is_loopback(host: str) -> bool:
    """Return True if a host name or IP address is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name_of(host: str) -> str:
    """Return a host's name in lower case, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
