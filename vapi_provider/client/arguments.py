# SPDX-License-Identifier: Apache-2.0
"""Argument checks, made before any request is sent."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from vapi_provider.exceptions import VapiConfigurationError

MAX_NAME_LENGTH = 40
"""The longest call name that Vapi accepts, in characters."""

MAX_PAGE_SIZE = 1000
"""The most calls that Vapi returns per page."""

_METHODS = ("GET", "POST", "PATCH", "PUT", "DELETE")
_SEGMENT = r"[A-Za-z0-9_~@:+=,-][A-Za-z0-9._~@:+=,-]*"
_RENDERED_NOTHING = "None"
"""What a template renders None to."""


def _shown(value: Any) -> str:
    """Return the start of a bad value; only for arguments in which nothing personal can be misplaced."""
    return f"{str(value)[:50]!r} ({type(value).__name__})"


def show_kind(value: Any) -> str:
    """Describe a bad value without showing it, unless it is empty."""
    if _renders_nothing(value):
        return repr(value)[:12]
    return f"a string of {len(value)} characters" if isinstance(value, str) else type(value).__name__


def check_call_id(call_id: Any) -> str:
    """
    Check a call id, or the id in a call's summary.

    :raises VapiConfigurationError: if it is not a UUID
    :return: the id in lower case
    """
    if isinstance(call_id, Mapping):
        call_id = call_id.get("id", call_id)
    if isinstance(call_id, Mapping) or (isinstance(call_id, str) and call_id.strip().startswith("{")):
        raise VapiConfigurationError(
            f"call_id is {'a dict without an id' if isinstance(call_id, Mapping) else 'a dict rendered to a string'}; pass "
            "a call id, or the summary itself (call_id=call.output, not a template)."
        )
    if _renders_nothing(call_id):
        raise VapiConfigurationError(
            f"call_id is empty (got {show_kind(call_id)}). If it comes from a param, the run may have been triggered "
            "without one; if it comes from XCom, check that the upstream task returned a value."
        )
    checked = _uuid(call_id.strip()) if isinstance(call_id, str) else None
    if checked is not None:
        return checked
    raise VapiConfigurationError(
        f"call_id must be the id of a call, a UUID such as 019a7c2e-5f00-7000-8000-000000000000; got "
        f"{show_kind(call_id)}."
    )


def check_filter_id(resource_id: Any, *, parameter: str) -> str | None:
    """
    Check the id of an assistant or phone number that a list is filtered by.

    :raises VapiConfigurationError: if it is not an id; an empty string does not mean all calls
    """
    if resource_id is None:
        return None
    if not isinstance(resource_id, str) or _renders_nothing(resource_id) or not _is_encodable(resource_id):
        raise VapiConfigurationError(f"{parameter} must be an id; got {show_kind(resource_id)}.")
    return _uuid(resource_id.strip()) or resource_id.strip()


def _uuid(text: str) -> str | None:
    """Return a UUID in lower case, or None if the text is not a complete one."""
    try:
        return text.lower() if len(text) == 36 and str(uuid.UUID(text)) == text.lower() else None
    except ValueError:
        return None


def _renders_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip() in ("", _RENDERED_NOTHING))


def check_name(name: Any, *, call_id: str) -> str:
    """
    Check the new name of a call.

    :raises VapiConfigurationError: if it is not a string of 1 to 40 characters
    """
    problem = None
    if not isinstance(name, str):
        problem = f"must be a string, not {type(name).__name__}"
    elif not name.strip():
        problem = "is empty"
    elif len(name) > MAX_NAME_LENGTH:
        problem = (
            f"has {len(name)} characters; Vapi accepts at most {MAX_NAME_LENGTH}. In a template, shorten it with "
            f"[:{MAX_NAME_LENGTH}]"
        )
    if problem is not None:
        raise VapiConfigurationError(f"name for call {call_id} {problem}.")
    checked: str = name
    return checked


def check_instant(instant: Any, *, parameter: str) -> str | None:
    """
    Check a point in time.

    :raises VapiConfigurationError: if it is not one, or has no time zone
    :return: the time in ISO 8601
    """
    # Here, not at the top: DAG files import this module, and pydantic is slow to import.
    from vapi_provider.models.fields import parse_instant

    if instant is None:
        return None
    parsed = instant if isinstance(instant, datetime) else parse_instant(instant)
    if parsed is None or parsed.tzinfo is None:
        raise VapiConfigurationError(
            f"{parameter} must be a datetime with a time zone, or a string such as 2026-11-26T00:00:00Z; got "
            f"{_shown(instant) if _looks_like_a_date(instant) else show_kind(instant)}. Nothing was sent."
        )
    return parsed.isoformat()


def _looks_like_a_date(value: Any) -> bool:
    """Return True if a value can be shown: a misplaced argument can be a phone number."""
    return isinstance(value, date) or (isinstance(value, str) and bool(re.match(r"\d{4}-\d\d-\d\d", value)))


def check_page_size(page_size: Any) -> int:
    """
    Check a page size.

    :raises VapiConfigurationError: if it is not a whole number from 1 to 1000
    """
    if isinstance(page_size, bool) or not isinstance(page_size, int) or not 1 <= page_size <= MAX_PAGE_SIZE:
        raise VapiConfigurationError(
            f"page_size must be a whole number from 1 to {MAX_PAGE_SIZE}; got {_shown(page_size)}."
        )
    return page_size


def check_choice(value: Any, choices: Sequence[str], *, parameter: str) -> str:
    """
    Check an argument that has a fixed set of values.

    :raises VapiConfigurationError: if it has another value
    """
    if not isinstance(value, str) or value not in choices:
        raise VapiConfigurationError(f"{parameter} must be one of {', '.join(choices)}; got {_shown(value)}.")
    return str(value)


def check_request(request: Any) -> dict[str, Any]:
    """
    Check the body of a request to place a call, apart from its fields.

    :raises VapiConfigurationError: if it is not a JSON object for a single customer
    """
    if not isinstance(request, Mapping) or not request:
        raise VapiConfigurationError(
            f"The request for a call must be a JSON object that is not empty; got {type(request).__name__}. "
            "Nothing was sent."
        )
    if "customers" in request:
        raise VapiConfigurationError(
            "The request for a call has the field customers. Place one call per customer, so that each can be found "
            "again. Nothing was sent."
        )
    body = dict(request)
    _check_json(body, "The request for a call")
    return body


def check_endpoint(method: Any, path: Any, params: Any, json_body: Any) -> str:
    """
    Check a request to an endpoint that the hook has no method for.

    :raises VapiConfigurationError: if a part of it is invalid, or it would place a call
    :return: the HTTP method in upper case
    """
    verb = method.upper() if isinstance(method, str) else None
    if verb not in _METHODS:
        raise VapiConfigurationError(
            f"method must be one of {', '.join(_METHODS)}; got {_shown(method)}. Nothing was sent."
        )
    if not isinstance(path, str) or not re.fullmatch(f"(/{_SEGMENT})+", path):
        raise VapiConfigurationError(
            f"path must be a plain path of the API, such as /assistant, without a host, '..' or a query (use params); "
            f"got {_shown(path)}. Nothing was sent."
        )
    if verb == "POST" and path.split("/")[1].lower() == "call":
        raise VapiConfigurationError(
            f"POST {path} would place a call that no retry can find again; use create_call or "
            "VapiCreateCallOperator. Nothing was sent."
        )
    if not isinstance(params, (Mapping, type(None))):
        raise VapiConfigurationError(
            f"params must be a mapping; got {type(params).__name__}. Nothing was sent."
        )
    _check_query(params and dict(params), f"The query for {verb} {path}")
    _check_json(json_body, f"The body for {verb} {path}")
    return verb


def _check_query(query: Any, what: str) -> None:
    _check_json(query, what)
    if not _is_encodable(json.dumps(query, ensure_ascii=False)):
        raise VapiConfigurationError(
            f"{what} contains a lone surrogate, which is half a character. Nothing was sent."
        )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_json(value: Any, what: str) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        problem = str(error)
    else:
        return
    raise VapiConfigurationError(f"{what} cannot be written as JSON: {problem}. Nothing was sent.")
