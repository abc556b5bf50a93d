# SPDX-License-Identifier: Apache-2.0
"""Checks of what a DAG hands to the hook, made before anything is sent."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from vapi_provider.exceptions import VapiConfigurationError

MAX_NAME_LENGTH = 40
"""The longest name of a call that Vapi takes, in characters."""

MAX_PAGE_SIZE = 1000
"""The most calls that Vapi lists in one answer."""

_RENDERED_NOTHING = "None"
"""What a template makes of a None."""


def _shown(value: Any) -> str:
    """Show a bad value so that its kind is recognised, and no more of it than that needs."""
    return f"{str(value)[:50]!r} ({type(value).__name__})"


def check_call_id(call_id: Any) -> str:
    """
    Check a call id before it becomes part of a path.

    :param call_id: a UUID of any version, in any case, with or without white space around it
    :raises VapiConfigurationError: for anything else
    :return: the id in lower case, without white space
    """
    if _renders_nothing(call_id):
        raise VapiConfigurationError(
            f"call_id is {_shown(call_id)}, so there is no call to work on; nothing was sent. If it is a template or "
            "comes from XCom, the task that it comes from returned nothing."
        )
    checked = _uuid(call_id.strip()) if isinstance(call_id, str) else None
    if checked is not None:
        return checked
    raise VapiConfigurationError(
        f"call_id must be a call's id, a UUID such as 019a7c2e-5f00-7000-8000-000000000000; got {_shown(call_id)}. "
        "Nothing was sent."
    )


def check_filter_id(resource_id: Any, *, parameter: str) -> str | None:
    """
    Check the id of a resource whose calls are asked for.

    :param resource_id: the id, or None for no filter
    :param parameter: the name to use in the error
    :raises VapiConfigurationError: for anything else; an empty text is no request for the calls of everybody
    :return: the id without white space around it, a UUID in lower case; None for no filter
    """
    if resource_id is None:
        return None
    if not isinstance(resource_id, str) or _renders_nothing(resource_id):
        raise VapiConfigurationError(
            f"{parameter} must be an id; got {_shown(resource_id)}. Nothing was sent."
        )
    return _uuid(resource_id.strip()) or resource_id.strip()


def _uuid(text: str) -> str | None:
    """Return a UUID in lower case; None for anything that is not one written in full."""
    try:
        return text.lower() if len(text) == 36 and str(uuid.UUID(text)) == text.lower() else None
    except ValueError:
        return None


def _renders_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip() in ("", _RENDERED_NOTHING))


def check_name(name: Any, *, call_id: str) -> str:
    """
    Check a call's new name.

    :param name: 1 to 40 characters, not blank
    :param call_id: the call to name in the error
    :raises VapiConfigurationError: for anything else, including the text "None", which a template makes of a None
    :return: the name as it is
    """
    problem = None
    if not isinstance(name, str):
        problem = f"must be a string, not {type(name).__name__}"
    elif _renders_nothing(name):
        problem = f"is {name[:MAX_NAME_LENGTH]!r}; if it is a template, it rendered to nothing"
    elif len(name) > MAX_NAME_LENGTH:
        problem = f"has {len(name)} characters; Vapi takes at most {MAX_NAME_LENGTH}"
    if problem is not None:
        raise VapiConfigurationError(f"name for call {call_id} {problem}. Nothing was sent.")
    checked: str = name
    return checked


def check_instant(instant: Any, *, parameter: str) -> str | None:
    """
    Check a bound of a time range and write it as Vapi reads it.

    :param instant: a datetime with a time zone, the same as an ISO 8601 string, or None for no bound
    :param parameter: the name to use in the error
    :raises VapiConfigurationError: for anything else, a datetime without a time zone included
    :return: ISO 8601 with an offset; None for no bound
    """
    if instant is None:
        return None
    try:
        # Python 3.10 reads neither Z nor every number of digits in a fraction; Z is what people write.
        parsed = (
            datetime.fromisoformat(instant.replace("Z", "+00:00")) if isinstance(instant, str) else instant
        )
        if isinstance(parsed, datetime) and parsed.tzinfo is not None:
            return parsed.isoformat()
    except ValueError:
        pass
    raise VapiConfigurationError(
        f"{parameter} must be a datetime with a time zone, or one as an ISO 8601 string; got {_shown(instant)}. "
        "Nothing was sent."
    )


def check_page_size(page_size: Any) -> int:
    """
    Check how many calls a page should hold.

    :param page_size: 1 to 1000
    :raises VapiConfigurationError: for anything else
    :return: the page size
    """
    if isinstance(page_size, bool) or not isinstance(page_size, int) or not 1 <= page_size <= MAX_PAGE_SIZE:
        raise VapiConfigurationError(
            f"page_size must be a whole number from 1 to {MAX_PAGE_SIZE}; got {_shown(page_size)}. Nothing was sent."
        )
    return page_size


def check_request(request: Any) -> dict[str, Any]:
    """
    Check the body of a request to place a call, as far as that can be told without knowing what Vapi takes.

    :param request: a JSON object for one customer
    :raises VapiConfigurationError: for anything else
    :return: the body
    """
    problem = None
    if not isinstance(request, Mapping) or not request:
        problem = f"must be a JSON object, and not an empty one; got {type(request).__name__}"
    elif "customers" in request:
        problem = "has customers; place one call for each of them, so that each can be found again"
    else:
        try:
            json.dumps(dict(request), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            problem = f"cannot be written as JSON: {error}"
    if problem is not None:
        raise VapiConfigurationError(f"The request for a call {problem}. Nothing was sent.")
    return dict(request)
