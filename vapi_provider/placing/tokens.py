# SPDX-License-Identifier: Apache-2.0
"""The token of a call, by which a task finds its call to one callee again in Vapi's list."""

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
    """Make the token of a call: the same for every try, another for another callee, run, task or Airflow."""
    return _digest([*_scope(context), request.person, request.caller])


def fingerprint_person(context: Context, request: CallRequest) -> str:
    """Return a fingerprint of the callee, which shows nothing of the number."""
    return _digest([*_scope(context), request.person])


def carries(call: PlacedCallView, token: str) -> bool:
    """
    Return whether a call has the token, in its name or in its variable values.

    People and tasks rename calls, and which fields Vapi shows is not certain.
    """
    if (call.name or "").rstrip().endswith(f"#{token}"):
        return True
    overrides = (call.assistant_overrides, call.squad_overrides)
    return any(_variable(each) == token for each in overrides)


def _scope(context: Context) -> list[str]:
    """Return what distinguishes this task from all others of the same organization."""
    ti = context["ti"]
    # Not the map index: a list that is mapped over can change its order.
    return [conf.get("api", "base_url", fallback=""), ti.dag_id, ti.run_id, ti.task_id]


def _digest(parts: list[str]) -> str:
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return base64.b32encode(digest).decode().lower()[:_LENGTH]


def _variable(overrides: Mapping[str, Any] | None) -> Any:
    values = (overrides or {}).get("variableValues")
    return values.get(TOKEN_VARIABLE) if isinstance(values, Mapping) else None
