# SPDX-License-Identifier: Apache-2.0
"""The ``vapi`` connection type: form fields, defaults, bounds and the parser."""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection
    from vapi_provider.exceptions import VapiConfigurationError, VapiConnectionNotFoundError

CONN_TYPE = "vapi"
HOOK_NAME = "Vapi"

DEFAULT_BASE_URL = "https://api.vapi.ai"
DEFAULT_TIMEOUT = 30.0
DEFAULT_MAX_RETRIES = 4

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema", "port", "login"],
    "relabeling": {"password": "API key", "host": "API base URL"},
    "placeholders": {
        "password": "the private key from dashboard.vapi.ai, not the public one",
        "host": f"{DEFAULT_BASE_URL} (leave empty for this)",
    },
}
"""How the form shows Airflow's own fields."""

CONN_FIELDS: dict[str, Any] = {
    "timeout": {
        "label": "Request timeout (seconds)",
        "description": f"Time limit per request; {DEFAULT_TIMEOUT:g} if empty.",
        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 75},
    },
    "max_retries": {
        "label": "Retries",
        "description": "How many times to repeat a safe request after a transient error; "
        f"{DEFAULT_MAX_RETRIES} if empty.",
        "schema": {"type": ["integer", "null"], "minimum": 0, "maximum": 10},
    },
}
"""The form's extra fields, with bounds that the parser enforces, too."""

ARTIFACT_HOSTS = "artifact_hosts"
"""An extra field that the form does not show."""

_HOST = "host (API base URL)"
_MAX_PORT = 65_535
HOST_NAME = re.compile(r"[\w.:-]+", re.ASCII)
"""A host name or IP address on which all URL parsers agree."""

_VAPI_DOMAIN = ".vapi.ai"


@dataclass(frozen=True)
class VapiSettings:
    """
    A validated connection.

    :param conn_id: the connection's id
    :param label: the connection's name in messages
    :param base_url: the API's base URL, without a trailing slash
    :param api_key: the private API key; not part of the repr
    :param timeout: the time limit per request, in seconds
    :param max_retries: how many times a safe request is repeated
    :param artifact_hosts: private hosts from which recordings may be downloaded
    :param max_response_bytes: the largest response that is read, in bytes
    """

    conn_id: str
    label: str
    base_url: str
    api_key: str = field(repr=False)
    timeout: float
    max_retries: int
    artifact_hosts: frozenset[str] = frozenset()
    max_response_bytes: float = math.inf

    def limited(
        self,
        *,
        timeout: float = math.inf,
        max_retries: int | None = None,
        max_response_bytes: float = math.inf,
    ) -> VapiSettings:
        """Return the same connection with tighter limits."""
        return replace(
            self,
            timeout=min(self.timeout, timeout),
            max_retries=self.max_retries if max_retries is None else min(self.max_retries, max_retries),
            max_response_bytes=min(self.max_response_bytes, max_response_bytes),
        )

    def dashboard_url(self, call_id: str) -> str:
        """Return the URL of a call's page in the dashboard or, on a loopback address, in the simulator."""
        if is_loopback(urlsplit(self.base_url).hostname or ""):
            return f"{self.base_url}/calls/{call_id}"
        return f"{_dashboard(self.base_url)}/calls/{call_id}"

    @property
    def keys_page(self) -> str:
        """The dashboard page that shows the private API key."""
        return _keys_page(self.base_url)


def _dashboard(base_url: str) -> str:
    host = urlsplit(base_url).hostname or ""
    region = host.removeprefix("api") if host.startswith("api.") else ""
    return f"https://dashboard{region if region.endswith(_VAPI_DOMAIN) else _VAPI_DOMAIN}"


def _keys_page(base_url: str) -> str:
    return f"{_dashboard(base_url)}/org/api-keys"


def read_settings(conn: Connection, conn_id: str | None = None) -> VapiSettings:
    """
    Read a connection of type ``vapi``.

    Does not call Airflow, so it is safe in any thread.

    :param conn_id: the id used for the look-up, because Airflow 3.0 drops an id that contains a space
    :raises VapiConfigurationError: if a field is missing or invalid; the message names it
    """
    parser = _ConnectionParser(conn, conn_id or str(conn.conn_id))
    return VapiSettings(
        conn_id=parser.conn_id,
        label=f"connection {parser.conn_id!r}",
        base_url=parser.base_url(),
        api_key=parser.api_key(),
        timeout=parser.number("timeout", DEFAULT_TIMEOUT),
        max_retries=int(parser.number("max_retries", DEFAULT_MAX_RETRIES)),
        artifact_hosts=parser.hosts(ARTIFACT_HOSTS),
    )


def missing_connection(conn_id: str) -> VapiConnectionNotFoundError:
    """Return the error for a connection that Airflow cannot find."""
    from vapi_provider.exceptions import VapiConnectionNotFoundError

    problem = variable_problem(conn_id)
    advice = f"Create it on Airflow's Connections page (type {HOOK_NAME}), or set {_variable(conn_id)} to JSON or a URI."
    return VapiConnectionNotFoundError(
        f"Airflow found no connection {conn_id!r}{f': {problem}' if problem else f'. {advice}'} The request was not sent."
    )


def variable_problem(conn_id: str) -> str | None:
    """
    Return why Airflow cannot read a connection from its environment variable, or None if it is not set.

    The variable's value is never part of the message.
    """
    name = _variable(conn_id)
    text = os.environ.get(name)
    if text is None:
        return None
    if not text.startswith("{"):
        return f"{name} is set but is neither a JSON object nor a valid URI such as vapi://:KEY@api.vapi.ai."
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"{name} is not valid JSON ({error.msg} at line {error.lineno}, column {error.colno})."
    except ValueError:
        return f"{name} is not valid JSON."
    return f"{name} is JSON but not a valid connection; its fields are conn_type, password, host, port and extra."


def _variable(conn_id: str) -> str:
    return f"AIRFLOW_CONN_{conn_id.upper()}"


def is_loopback(host: str) -> bool:
    """Return whether a host name refers to this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class _ConnectionParser:
    """Parses a connection, with errors that name the field and contain no secret."""

    def __init__(self, conn: Connection, conn_id: str) -> None:
        self.conn = conn
        self.conn_id = conn_id
        if conn.conn_type and conn.conn_type != CONN_TYPE:
            raise self._error("type", f"is {conn.conn_type!r}; it must be {CONN_TYPE!r}")
        self.extra = self._extra()

    def _error(self, where: str, what: str) -> VapiConfigurationError:
        # Imported here: Airflow reads this module for the metadata before Airflow itself can be imported.
        from vapi_provider.exceptions import VapiConfigurationError

        return VapiConfigurationError(
            f"Connection {self.conn_id!r}: {where} {what}. The request was not sent."
        )

    def _extra(self) -> dict[str, Any]:
        # Not conn.extra_dejson: it calls Airflow, which fails in a plain thread.
        raw: Any = self.conn.extra or {}
        try:
            extra = json.loads(raw) if isinstance(raw, str) else raw
        except ValueError:
            extra = None
        if not isinstance(extra, dict):
            raise self._error("extra", 'must be a JSON object, such as {"timeout": 30}')
        known = {*CONN_FIELDS, ARTIFACT_HOSTS}
        unknown = sorted(str(name)[:40] for name in extra.keys() - known)
        if unknown:
            raise self._error("extra", f"has unknown fields {unknown}; valid fields are {sorted(known)}")
        return extra

    def api_key(self) -> str:
        key = (self.conn.password or "").strip()
        problem = None
        if not key and not self.conn.conn_type and _variable(self.conn_id) in os.environ:
            # Airflow parses a bare key as a connection without fields.
            problem = f"is empty ({_variable(self.conn_id)} must be a JSON object or a URI such as vapi://:KEY@api.vapi.ai)"
        elif not key:
            problem = "is empty"
        elif set(key) == {"*"}:
            problem = "is the *** mask that Airflow shows instead of the key"
        elif key.lower().startswith("bearer ") or key.lower() == "bearer":
            problem = 'starts with "Bearer", which is not part of the key'
        elif not (key.isascii() and key.isprintable()) or " " in key:
            problem = "contains whitespace or characters that are not allowed in a key"
        if problem is not None:
            page = _keys_page(self.base_url())
            raise self._error("password (API key)", f"{problem}. Enter the private key from {page}")
        return key

    def base_url(self) -> str:
        host = (self.conn.host or "").strip() or DEFAULT_BASE_URL
        url = host if "://" in host else f"https://{host}"
        parts = self._split(url)
        if "@" in parts.netloc:
            raise self._error(_HOST, "must not contain a user name or a password")
        if "?" in host or "#" in host or not host.isprintable() or " " in host:
            raise self._error(_HOST, f"must be a plain URL such as {DEFAULT_BASE_URL}")
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise self._error(_HOST, "must use https:// (http:// is allowed only for localhost)")
        if self.conn.port and parts.port is None:
            parts = parts._replace(netloc=f"{parts.netloc.removesuffix(':')}:{self._port()}")
        return parts.geturl().rstrip("/")

    def _split(self, url: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            is_complete = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
            # Raises UnicodeError for a name with an empty or overlong label.
            (parts.hostname or "").encode("idna")
            # With other characters, requests and urllib disagree on the host, so the key would not be sent.
            is_complete = is_complete and bool(HOST_NAME.fullmatch(parts.hostname or ""))
        except ValueError:
            is_complete = False
        if not is_complete:
            raise self._error(_HOST, f"must be a host name or a URL such as {DEFAULT_BASE_URL}")
        return parts

    def _port(self) -> int:
        port = self.conn.port
        if isinstance(port, bool) or not isinstance(port, int) or not 0 < port <= _MAX_PORT:
            raise self._error("port", f"must be a whole number from 1 to {_MAX_PORT}")
        return port

    def number(self, name: str, default: float) -> float:
        """Return a number from the extra."""
        # The form stores an empty field as null, and a URI stores numbers as strings.
        value = self.extra.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return default
        schema = CONN_FIELDS[name]["schema"]
        low, high, is_whole = schema["minimum"], schema["maximum"], "integer" in schema["type"]
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not low <= number <= high or (is_whole and not number.is_integer()):
            kind = "whole number" if is_whole else "number"
            raise self._error(f"extra field {name}", f"must be a {kind} from {low} to {high}")
        return number

    def hosts(self, name: str) -> frozenset[str]:
        """Return the host names in an extra field: a list, or a comma-separated string."""
        value = self.extra.get(name) or ()
        hosts = value.split(",") if isinstance(value, str) else value
        if isinstance(hosts, (list, tuple)) and all(isinstance(host, str) for host in hosts):
            names = [host.strip().lower() for host in hosts if host.strip()]
            if all(HOST_NAME.fullmatch(host) for host in names):
                return frozenset(names)
        raise self._error(f"extra field {name}", "must be host names separated by commas")
