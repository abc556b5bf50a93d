# SPDX-License-Identifier: Apache-2.0
"""Where an artifact may be downloaded from: the URLs and the addresses that are allowed."""

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
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Python versions differ on whether it is public.
_PROTOCOL_ASSIGNMENTS = ipaddress.IPv4Network("192.0.0.0/24")
_ALWAYS_REFUSED = ("loopback", "link_local", "unspecified", "multicast", "reserved")


@dataclass(frozen=True)
class AddressRules:
    """
    The rules that keep a redirect from reaching a private network.

    :param path: the path of the artifact, for error messages
    :param private_hosts: hosts that may have private addresses
    :param loopback_host: the host that may be on this machine and use http; None if there is none
    """

    path: str
    private_hosts: frozenset[str]
    loopback_host: str | None

    @classmethod
    def of(cls, settings: VapiSettings, path: str) -> AddressRules:
        """Return the rules of a connection."""
        base = urlsplit(settings.base_url)
        # A base URL with http is on loopback.
        return cls(path, settings.artifact_hosts, base.hostname if base.scheme == "http" else None)

    def check_url(self, url: str) -> str:
        """
        Check the target of a redirect.

        :raises VapiArtifactRefusedError: if nothing may be downloaded from it
        :return: scheme and host, the only part of a signed URL that is safe to show
        """
        parts = _split(url)
        if parts is None:
            raise self._refused("a malformed URL.")
        host = str(parts.hostname)
        origin = f"{parts.scheme}://{host}"
        if parts.scheme != "https" and not (parts.scheme == "http" and host == self.loopback_host):
            raise self._refused(f"{origin}; files are downloaded over https:// only.")
        # A trailing dot makes a name absolute, and resolvers accept one after an address, too.
        bare = host.rstrip(".")
        if host != self.loopback_host and (bare == "localhost" or bare.endswith(".localhost")):
            raise self._refused(f"{host}, which is the worker itself; nothing was downloaded.")
        literal = _literal(bare)
        if literal is not None:
            self.check_address(host, literal)
        return origin

    def check_address(self, host: str, address: str) -> None:
        """
        Check an address of a host before a connection to it.

        :raises VapiArtifactRefusedError: if the address is not public, or embeds another one
        :raises OSError: if the name could not be resolved
        """
        try:
            ip: _Address = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            # Resolving the name again could return another address.
            raise socket.gaierror("the host name could not be resolved") from None
        if host == self.loopback_host and ip.is_loopback:
            return
        kind = _kind_of(ip)
        if kind is None or (kind == "private" and host.lower().rstrip(".") in self.private_hosts):
            return
        advice = (
            " To allow it, add the host to the extra field artifact_hosts of the connection."
            if kind == "private"
            else ""
        )
        raise self._refused(
            f"{host}, which has the {kind.replace('_', '-')} address {ip}; nothing was downloaded.{advice}"
        )

    def _refused(self, target: str) -> VapiArtifactRefusedError:
        return VapiArtifactRefusedError(
            f"GET {self.path}: Vapi redirected to {target}", status_code=302, method="GET", path=self.path
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
    """Return the address if a host is one, in any notation; None if it is a name."""
    with suppress(ValueError):
        return str(ipaddress.ip_address(host))
    with suppress(OSError):
        # Notations such as 127.1 and 0x7f000001.
        return socket.inet_ntoa(socket.inet_aton(host))
    return None


def _kind_of(ip: _Address) -> str | None:
    """Return why a connection to an address is forbidden; None if it is allowed."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            # Networks without IPv4 reach IPv4 addresses this way.
            return _kind_of(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF))
        if ip.ipv4_mapped or ip.sixtofour or ip.teredo:
            return "mapped"
    for kind in _ALWAYS_REFUSED:
        if getattr(ip, f"is_{kind}"):
            return kind
    is_public = ip.is_global and (
        ip in _GLOBAL_UNICAST if ip.version == 6 else ip not in _PROTOCOL_ASSIGNMENTS
    )
    return None if is_public else "private"
