# SPDX-License-Identifier: Apache-2.0
"""The connection, read and checked: what the hook needs to know to talk to Vapi."""

from __future__ import annotations

import ipaddress
import json
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.get_provider_info import (
    CONN_FIELDS,
    CONN_TYPE,
    DEFAULT_HOST,
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT,
    MAX_MAX_RETRIES,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

KEYS_PAGE = "https://dashboard.vapi.ai/org/api-keys"
"""Where a person finds the private API key."""


@dataclass(frozen=True)
class VapiSettings:
    """
    A checked connection.

    :param label: what messages call the connection
    :param base_url: the API's base URL, without a slash at its end
    :param api_key: the private API key; not part of the repr
    :param timeout: the seconds that one request may take in all
    :param max_retries: how often a request that is safe to repeat is sent again
    :param max_response_bytes: the most bytes that are read of an answer
    """

    label: str
    base_url: str
    api_key: str = field(repr=False)
    timeout: float
    max_retries: int
    max_response_bytes: float = math.inf


@dataclass(frozen=True)
class RequestLimits:
    """
    What a user of the hook allows a request, where that is less than what the connection says.

    :param timeout: the seconds that one request may take in all
    :param max_retries: how often a request is sent again
    :param max_response_bytes: the most bytes of an answer to read; a larger one is an error
    """

    timeout: float = math.inf
    max_retries: float = math.inf
    max_response_bytes: float = math.inf

    def tighten(self, settings: VapiSettings) -> VapiSettings:
        """
        Lay these limits over a connection's.

        :param settings: the connection
        :return: the settings with the tighter limit of each kind
        """
        return replace(
            settings,
            timeout=min(settings.timeout, self.timeout),
            max_retries=int(min(settings.max_retries, self.max_retries)),
            max_response_bytes=min(settings.max_response_bytes, self.max_response_bytes),
        )


NO_LIMITS = RequestLimits()
"""Leaves a connection's own limits as they are."""


def read_settings(conn: Connection) -> VapiSettings:
    """
    Read a connection of type ``vapi``.

    It looks at nothing but the object, and asks Airflow nothing, so that any thread may call it.

    :param conn: the connection; ``password`` holds the key, ``host`` the base URL, ``extra`` timeout and max_retries
    :raises VapiConfigurationError: naming the connection and the field that is missing or unusable
    :return: the settings
    """
    reader = _ConnectionReader(conn)
    return VapiSettings(
        label=f"connection {reader.conn_id!r}",
        base_url=reader.base_url(),
        api_key=reader.api_key(),
        timeout=reader.timeout(),
        max_retries=reader.max_retries(),
    )


class _ConnectionReader:
    """Reads one field after another and knows how to say what is wrong with it, without showing a secret."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.conn_id = str(conn.conn_id)
        if conn.conn_type and conn.conn_type != CONN_TYPE:
            raise self._wrong("type", f"is {conn.conn_type!r}; it must be {CONN_TYPE!r}")
        self.extra = self._extra()

    def _wrong(self, where: str, what: str) -> VapiConfigurationError:
        return VapiConfigurationError(f"Connection {self.conn_id!r}: {where} {what}. Nothing was sent.")

    def _extra(self) -> dict[str, Any]:
        # Not conn.extra_dejson: it asks Airflow to mask what it finds, which a plain thread may not.
        raw: Any = self.conn.extra or {}
        try:
            extra = json.loads(raw) if isinstance(raw, str) else raw
        except ValueError:
            extra = None
        if not isinstance(extra, dict):
            raise self._wrong("extra", 'must be a JSON object, such as {"timeout": 30}')
        unknown = sorted(str(name)[:40] for name in extra.keys() - CONN_FIELDS.keys())
        if unknown:
            raise self._wrong("extra", f"has unknown fields {unknown}; it takes {sorted(CONN_FIELDS)}")
        return extra

    def api_key(self) -> str:
        key = (self.conn.password or "").strip()
        problem = None
        if not key:
            problem = "is empty"
        elif set(key) == {"*"}:
            problem = "holds the mask that Airflow shows in place of the key, not the key"
        elif key.lower().startswith("bearer ") or key.lower() == "bearer":
            problem = 'starts with "Bearer", which is not part of the key'
        elif not (key.isascii() and key.isprintable()) or " " in key:
            problem = "has white space or characters in it that no key has"
        if problem is not None:
            raise self._wrong(
                "password (API key)", f"{problem}. Put the private key there that {KEYS_PAGE} shows"
            )
        return key

    def base_url(self) -> str:
        host = (self.conn.host or "").strip() or DEFAULT_HOST
        parts = self._split(host)
        if parts.username or parts.password or "@" in parts.netloc:
            raise self._wrong("host (API base URL)", "must not hold a user name or a password")
        if "?" in host or "#" in host or not host.isprintable() or " " in host:
            raise self._wrong("host (API base URL)", f"must be no more than a URL such as {DEFAULT_HOST}")
        if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            raise self._wrong(
                "host (API base URL)",
                "starts with http://, and an API key does not travel in the clear; only a loopback address may do so",
            )
        return host.rstrip("/")

    def _split(self, host: str) -> SplitResult:
        try:
            parts = urlsplit(host)
            complete = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
            # Fails, with a UnicodeError, for a name with an empty part or one that is too long.
            (parts.hostname or "").encode("idna")
        except ValueError:
            complete = False
        if not complete:
            raise self._wrong(
                "host (API base URL)",
                f"must be a whole URL such as {DEFAULT_HOST}, with https:// and a host name",
            )
        return parts

    def timeout(self) -> float:
        value = self._number("timeout", DEFAULT_TIMEOUT)
        if value <= 0:
            raise self._wrong("extra field timeout", "must be a number of seconds above 0")
        return value

    def max_retries(self) -> int:
        value = self._number("max_retries", DEFAULT_MAX_RETRIES)
        if not (0 <= value <= MAX_MAX_RETRIES and value == int(value)):
            raise self._wrong(
                "extra field max_retries", f"must be a whole number from 0 to {MAX_MAX_RETRIES}"
            )
        return int(value)

    def _number(self, name: str, default: float) -> float:
        """Read a number; the form stores an empty field as null, and a URI makes a string of everything."""
        value = self.extra.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return default
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self._wrong(f"extra field {name}", "must be a number")
        return number


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
