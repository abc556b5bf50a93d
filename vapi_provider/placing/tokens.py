# SPDX-License-Identifier: Apache-2.0
"""The token of a call: what makes one task instance's call to one person recognisable in Vapi's list."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf
from vapi_provider.placing.request import TOKEN_VARIABLE

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from vapi_provider.models.call import PlacedCallView
    from vapi_provider.placing.request import CallRequest

_LENGTH = 8


def make_token(context: Context, request: CallRequest) -> str:
    """
    Make the token of a call: the same for every try, and another for another person, run, task or Airflow.

    :param context: the context of the running task
    :param request: the call
    :return: eight letters and digits
    """
    return _digest([*_scope(context), request.person, request.caller])


def fingerprint_person(context: Context, request: CallRequest) -> str:
    """
    Tell whom a call rings, without saying so.

    :param context: the context of the running task
    :param request: the call
    :return: letters and digits
    """
    return _digest([*_scope(context), request.person])


def carries(call: PlacedCallView, token: str) -> bool:
    """
    Say whether a call has the token, in either of the places that it was put into.

    People and tasks rename calls, and which fields Vapi shows is not certain.

    :param call: the call
    :param token: the token
    """
    if (call.name or "").rstrip().endswith(f"#{token}"):
        return True
    overrides = (call.assistant_overrides, call.squad_overrides, call.workflow_overrides)
    return any(_variable(each) == token for each in overrides)


def _scope(context: Context) -> list[str]:
    """Return what tells this task apart from all others that use the same organization."""
    ti = context["ti"]
    # Not the map index: a list that is mapped over changes its order.
    return [conf.get("api", "base_url", fallback=""), ti.dag_id, ti.run_id, ti.task_id]


def _digest(parts: list[str]) -> str:
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return base64.b32encode(digest).decode().lower()[:_LENGTH]


def _variable(overrides: Mapping[str, Any] | None) -> Any:
    values = (overrides or {}).get("variableValues")
    return values.get(TOKEN_VARIABLE) if isinstance(values, Mapping) else None
