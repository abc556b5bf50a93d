# SPDX-License-Identifier: Apache-2.0
"""Where an artifact may be fetched from: what a redirect may name, and which addresses may be connected to."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from vapi_provider.connection import HOST_NAME
from vapi_provider.exceptions import VapiArtifactRefusedError

if TYPE_CHECKING:
    from vapi_provider.connection import VapiSettings

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ALWAYS_REFUSED = ("loopback", "link_local", "unspecified", "multicast", "reserved")


@dataclass(frozen=True)
class AddressRules:
    """
    Which addresses a file may come from, so that a redirect reaches nothing within the network.

    :param private_hosts: the hosts whose addresses may be private
    :param loopback_host: the host that may be on this machine and be reached over http; None for none
    """

    private_hosts: frozenset[str]
    loopback_host: str | None

    @classmethod
    def of(cls, settings: VapiSettings) -> AddressRules:
        """Make the rules of a connection."""
        base = urlsplit(settings.base_url)
        # http is used to loopback only.
        return cls(settings.artifact_hosts, base.hostname if base.scheme == "http" else None)

    def check_url(self, url: str) -> str:
        """
        Check where a redirect leads.

        :raises VapiArtifactRefusedError: for a place that no file is fetched from
        :return: scheme and host, which is all of the URL that may be shown
        """
        parts = _split(url)
        if parts is None:
            raise VapiArtifactRefusedError("Vapi redirected to something that is not a plain URL.")
        host = str(parts.hostname)
        origin = f"{parts.scheme}://{host}"
        if parts.scheme != "https" and not (parts.scheme == "http" and host == self.loopback_host):
            raise VapiArtifactRefusedError(
                f"Vapi redirected to {origin}; files are fetched over https:// only."
            )
        literal = _literal(host)
        if literal is not None:
            self.check_address(host, literal)
        return origin

    def check_address(self, host: str, address: str) -> None:
        """
        Check an address of a host before anything connects to it.

        :raises VapiArtifactRefusedError: for an address that is not public, or contains another
        :raises OSError: for a name that could not be resolved
        """
        try:
            ip: _Address = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            # Resolving it again could return another address.
            raise socket.gaierror("the host name could not be resolved") from None
        if host == self.loopback_host and ip.is_loopback:
            return
        kind = _kind_of(ip)
        if kind is None or (kind == "private" and host.lower().rstrip(".") in self.private_hosts):
            return
        advice = (
            " If it is meant to be there, name the host in the connection's extra field artifact_hosts."
            if kind == "private"
            else ""
        )
        raise VapiArtifactRefusedError(
            f"Vapi redirected to {host}, which has the {kind.replace('_', '-')} address {ip}; nothing was fetched.{advice}"
        )


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    is_plain = url.isascii() and url.isprintable() and not {" ", "\\"} & set(url) and "@" not in parts.netloc
    return parts if is_plain and HOST_NAME.fullmatch(parts.hostname or "") else None


def _literal(host: str) -> str | None:
    """Return the address that a host name is, in any notation; None for a name."""
    with suppress(ValueError):
        return str(ipaddress.ip_address(host))
    with suppress(OSError):
        # Such as 127.1 and 0x7f000001.
        return socket.inet_ntoa(socket.inet_aton(host))
    return None


def _kind_of(ip: _Address) -> str | None:
    """Return why an address may not be connected to; None if it may."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            # How a network without IPv4 reaches IPv4 addresses.
            return _kind_of(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF))
        if ip.ipv4_mapped or ip.sixtofour or ip.teredo:
            return "mapped"
    for kind in _ALWAYS_REFUSED:
        if getattr(ip, f"is_{kind}"):
            return kind
    return None if ip.is_global else "private"
