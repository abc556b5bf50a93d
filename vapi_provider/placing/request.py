# SPDX-License-Identifier: Apache-2.0
"""What a DAG says about a call to place, checked and made into the body that Vapi takes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vapi_provider.client.arguments import check_instant, check_request
from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.placing.masking import mask_ending

MAX_NAME_LENGTH = 30
"""The longest name in characters; Vapi takes 40, and the token's suffix needs the rest."""

TOKEN_VARIABLE = "airflow_token"
"""The variable value that carries the token; the assistant's script does not see it unless it asks for it."""

# Who talks, under the names of the arguments, and of the API for what only ``request`` can say.
_TALKERS = {
    "assistant_id": "assistantId",
    "assistant": "assistant",
    "squad_id": "squadId",
    "squad": "squad",
    "workflow_id": "workflowId",
    "workflow": "workflow",
}
_OVERRIDES = {"assistant": "assistantOverrides", "squad": "squadOverrides", "workflow": "workflowOverrides"}
_ONLY_IN_REQUEST = ("squad", "workflow")

# What ``request`` must not say, since an argument does.
_ARGUMENTS = {
    "assistantId": "assistant_id",
    "squadId": "squad_id",
    "workflowId": "workflow_id",
    "assistant": "assistant",
    "phoneNumberId": "phone_number_id",
    "customer": "customer",
    "name": "name",
    "assistantOverrides": "assistant_overrides",
    "schedulePlan": "schedule_plan",
}

_CUSTOMER = {
    "number": ("number", 40),
    "sip_uri": ("sipUri", 500),
    "name": ("name", 40),
    "extension": ("extension", 10),
    "email": ("email", 40),
    "external_id": ("externalId", 40),
}
_SCHEDULE_PLAN = {"earliest_at": "earliestAt", "latest_at": "latestAt"}

_LATER = object()
"""Stands for a part of an argument that is known only when the task runs."""

# As text, which re compiles and keeps at first use: a DAG file imports this module.
_E164 = r"\+[1-9][0-9]{1,14}"
_SIP_URI = r"sips?:[^\s]+"
_TEMPLATE = r"\{\{|\{%|\{#"


@dataclass(frozen=True)
class CallRequest:
    """
    A call to place.

    :param body: the body for Vapi, without the token
    :param person: whom it rings
    :param caller: with what: the assistant, squad or workflow, and the phone number
    :param overrides: the field of the body that holds the overrides which the call uses
    :param assistant_id: the assistant, to look for the call by; None when it has none of its own
    :param phone_number_id: the phone number, to look for the call by
    """

    body: dict[str, Any]
    person: str
    caller: str
    overrides: str
    assistant_id: str | None
    phone_number_id: str | None

    def carrying(self, token: str) -> dict[str, Any]:
        """
        Return the body with the token in both places from which it can be read back.

        :param token: the token
        """
        overrides = self.body.get(self.overrides) or {}
        values = {**(overrides.get("variableValues") or {}), TOKEN_VARIABLE: token}
        name = " ".join(part for part in (self.body.get("name"), f"#{token}") if part)
        return {**self.body, "name": name, self.overrides: {**overrides, "variableValues": values}}


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """
    Check what can be told of a call when a DAG is parsed: everything that holds no template.

    :param arguments: the operator's arguments by name
    :raises VapiConfigurationError: saying which argument is wrong
    """
    request = arguments["request"]
    if isinstance(request, Mapping) or not is_template(request):
        # What a template makes a request of is known later; the keys of a dictionary are not rendered.
        _check_talker(arguments)
        _check_parties(arguments)
    for name, check in _CHECKS.items():
        known = _known(arguments[name])
        if known is not None and known is not _LATER:
            check(known)


def build_request(arguments: Mapping[str, Any]) -> CallRequest:
    """
    Check a call's arguments, all of them rendered, and make a request of them.

    :param arguments: the operator's arguments by name
    :raises VapiConfigurationError: saying which argument is wrong; nothing is sent then
    :return: the request
    """
    talker = _check_talker(arguments)
    _check_parties(arguments)
    checked = {name: check(arguments[name]) for name, check in _CHECKS.items() if arguments[name] is not None}
    extra = checked.get("request", {})
    overrides = _overrides_field(talker)
    body = {**extra}
    for field, argument in _ARGUMENTS.items():
        if argument in checked:
            body[field] = checked[argument]
    customer = body.get("customer", {})
    phone_number = body.get("phoneNumberId")
    return CallRequest(
        body=check_request(body),
        person=_person(customer, extra.get("customerId")),
        # A transient one is written anew for each try; it is told by the task that writes it.
        caller=f"{talker}={body[_TALKERS[talker]] if talker.endswith('_id') else ''};phone={phone_number or ''}",
        overrides=overrides,
        assistant_id=body.get("assistantId"),
        phone_number_id=phone_number,
    )


def is_template(value: Any) -> bool:
    """
    Say whether a value is known only when the task runs.

    :param value: an argument, or a part of one
    """
    if isinstance(value, str):
        return bool(re.search(_TEMPLATE, value))
    if isinstance(value, Mapping):
        return any(is_template(item) for item in value.values())
    if isinstance(value, (list, tuple, set)):
        return any(is_template(item) for item in value)
    # What a task will return, an element of what is mapped, or (from Airflow 3.3 on) what makes the argument.
    return hasattr(value, "resolve") or callable(value)


def _known(value: Any) -> Any:
    """Return what is known of a value when a DAG is parsed; keys are never rendered."""
    if isinstance(value, Mapping):
        return {key: _known(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(part) for part in value]
    return _LATER if is_template(value) else value


def _refuse(problem: str) -> VapiConfigurationError:
    return VapiConfigurationError(f"{problem}. Nothing was sent.")


def _given(arguments: Mapping[str, Any], name: str) -> bool:
    if name in _ONLY_IN_REQUEST:
        request = arguments["request"]
        return isinstance(request, Mapping) and request.get(name) is not None
    return arguments[name] is not None


def _check_talker(arguments: Mapping[str, Any]) -> str:
    """Return which of the ways to say who talks was taken; it must be one."""
    given = [name for name in _TALKERS if _given(arguments, name)]
    if len(given) != 1:
        raise _refuse(
            "Exactly one of assistant_id, squad_id, workflow_id and assistant must say who talks; got "
            f"{' and '.join(given) or 'none of them'}"
        )
    if arguments["assistant_overrides"] is not None and not given[0].startswith("assistant"):
        raise _refuse(
            f"assistant_overrides goes with an assistant; with {given[0]}, put {_overrides_field(given[0])} into request"
        )
    return given[0]


def _check_parties(arguments: Mapping[str, Any]) -> None:
    """See that there is one customer and one phone number to call from."""
    request = arguments["request"] or {}
    if not isinstance(request, Mapping):
        # Its own check says so.
        return
    if (arguments["customer"] is None) == (request.get("customerId") is None):
        raise _refuse("Either customer must say who is called, or customerId in request, and not both")
    if (arguments["phone_number_id"] is None) == (request.get("phoneNumber") is None):
        raise _refuse(
            "Either phone_number_id must say which number to call from, or phoneNumber in request, and not both"
        )


def _overrides_field(talker: str) -> str:
    return _OVERRIDES[talker.removesuffix("_id")]


def _refuse_token(overrides: Any) -> None:
    if overrides is None or overrides is _LATER:
        return
    if not isinstance(overrides, Mapping):
        raise _refuse(f"The overrides must be an object; got {type(overrides).__name__}")
    values = overrides.get("variableValues")
    if values is _LATER:
        return
    if values is not None and not isinstance(values, Mapping):
        raise _refuse(f"The overrides' variableValues must be an object; got {type(values).__name__}")
    if TOKEN_VARIABLE in (values or {}):
        raise _refuse(
            f"The variable value {TOKEN_VARIABLE!r} is taken: it carries the token that the call is found by"
        )


def _person(customer: Mapping[str, Any], customer_id: Any) -> str:
    number = customer.get("number") or customer.get("sipUri") or f"customer:{customer_id}"
    return f"{number};ext={customer.get('extension') or ''}"


def _check_id(parameter: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value.strip() in ("", "None"):
            raise _refuse(f"{parameter} must be an id; got {_kind(value)}")
        return value.strip()

    return check


def _check_name(name: Any) -> str:
    if not isinstance(name, str) or name.strip() in ("", "None"):
        raise _refuse(f"name must be a text; got {_kind(name)}")
    if len(name.strip()) > MAX_NAME_LENGTH:
        raise _refuse(
            f"name has {len(name.strip())} characters; at most {MAX_NAME_LENGTH} leave room for the token behind it"
        )
    return name.strip()


def _check_object(parameter: str) -> Callable[[Any], dict[str, Any]]:
    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not value:
            raise _refuse(
                f"{parameter} must be a dictionary as the API takes it, and not an empty one; got "
                f"{type(value).__name__}{_hint(value)}"
            )
        try:
            json.dumps(value, allow_nan=False, default=_write_later)
        except (TypeError, ValueError, RecursionError) as error:
            raise _refuse(f"{parameter} cannot be written as JSON: {error}") from None
        return dict(value)

    return check


def _write_later(value: Any) -> None:
    if value is not _LATER:
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _check_overrides(overrides: Any) -> dict[str, Any]:
    checked = _check_object("assistant_overrides")(overrides)
    _refuse_token(checked)
    return checked


def _check_customer(customer: Any) -> dict[str, str]:
    if not isinstance(customer, Mapping):
        raise _refuse(
            f"customer must be a dictionary with number or sip_uri; got {type(customer).__name__}{_hint(customer)}"
        )
    _refuse_unknown("customer", customer, _CUSTOMER)
    checked = {}
    for name, (field, longest) in _CUSTOMER.items():
        value = customer.get(name)
        if value is None or value is _LATER:
            continue
        if not isinstance(value, str):
            hint = "; with render_template_as_native_obj it is made a number" if name == "number" else ""
            raise _refuse(f"customer's {name} must be a text; got {type(value).__name__}{hint}")
        text = value.strip()
        if text == "None":
            raise _refuse(f"customer's {name} is 'None', which is what a template makes of a None")
        if len(text) > longest:
            raise _refuse(f"customer's {name} has {len(text)} characters; Vapi takes at most {longest}")
        if text:
            checked[field] = text
    ways = [customer.get("number"), customer.get("sip_uri")]
    if _LATER not in ways and ("number" in checked) == ("sipUri" in checked):
        raise _refuse("customer must have either a number or a sip_uri")
    if "number" in checked and not re.fullmatch(_E164, checked["number"]):
        raise _refuse(
            f"customer's number {mask_ending(checked['number'])} is not in E.164, such as +12025550143: a plus, the "
            "country code and the number, digits only"
        )
    if "sipUri" in checked and not re.fullmatch(_SIP_URI, checked["sipUri"]):
        raise _refuse("customer's sip_uri must begin with sip: or sips:")
    return checked


def _check_schedule_plan(plan: Any) -> dict[str, str]:
    if not isinstance(plan, Mapping):
        raise _refuse(
            f"schedule_plan must be a dictionary with earliest_at; got {type(plan).__name__}{_hint(plan)}"
        )
    _refuse_unknown("schedule_plan", plan, _SCHEDULE_PLAN)
    checked = {}
    for name, field in _SCHEDULE_PLAN.items():
        if plan.get(name) is _LATER:
            continue
        instant = check_instant(plan.get(name), parameter=f"schedule_plan's {name}")
        if instant is not None:
            checked[field] = instant
    if plan.get("earliest_at") is None:
        raise _refuse("schedule_plan must have earliest_at")
    earliest, latest = checked.get("earliestAt"), checked.get("latestAt")
    if earliest and latest and datetime.fromisoformat(latest) <= datetime.fromisoformat(earliest):
        raise _refuse("schedule_plan's latest_at must be after its earliest_at")
    return checked


def _check_extra(request: Any) -> dict[str, Any]:
    checked = _check_object("request")(request)
    for field, argument in _ARGUMENTS.items():
        if field in checked:
            raise _refuse(f"request must not have {field}; use the argument {argument}")
    if "customers" in checked:
        raise _refuse(
            "request must not have customers: each person is called by a task instance of its own; use "
            "VapiCreateCallOperator.partial(...).expand(customer=[...])"
        )
    for field in _OVERRIDES.values():
        _refuse_token(checked.get(field))
    return {field: value for field, value in checked.items() if value is not None}


def _refuse_unknown(parameter: str, given: Mapping[Any, Any], known: Mapping[str, Any]) -> None:
    unknown = sorted(str(name)[:40] for name in given if name not in known)
    if unknown:
        raise _refuse(f"{parameter} has unknown keys {unknown}; it takes {', '.join(known)}")


def _hint(value: Any) -> str:
    """Say what makes a text of a dictionary; the text itself may hold what is nobody's business."""
    return " (a template makes a text of it, unless the DAG has render_template_as_native_obj)" * isinstance(
        value, str
    )


def _kind(value: Any) -> str:
    return repr(value[:50]) if isinstance(value, str) else type(value).__name__


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "assistant_id": _check_id("assistant_id"),
    "squad_id": _check_id("squad_id"),
    "workflow_id": _check_id("workflow_id"),
    "assistant": _check_object("assistant"),
    "phone_number_id": _check_id("phone_number_id"),
    "customer": _check_customer,
    "name": _check_name,
    "assistant_overrides": _check_overrides,
    "schedule_plan": _check_schedule_plan,
    "request": _check_extra,
}
