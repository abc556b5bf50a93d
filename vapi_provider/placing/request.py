# SPDX-License-Identifier: Apache-2.0
"""The arguments of a call to place, checked and turned into the body that Vapi accepts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, TypedDict

from vapi_provider.placing.hours import CallingHours, Hours, check_calling_hours, check_open, refuse
from vapi_provider.placing.masking import MASK, mask_ending
from vapi_provider.placing.schedule import SCHEDULE_FIELDS, check_schedule_plan, fit_schedule

MAX_NAME_LENGTH = 30
"""The longest name in characters; Vapi accepts 40, and the token's suffix takes the rest."""

TOKEN_LENGTH = 8
TOKEN_VARIABLE = "airflow_token"
"""The variable value that carries the token; the assistant's script does not use it."""

# Who talks, under the names of the arguments and of the API; ``squad`` only within ``extra_body``.
_TALKERS = {"assistant_id": "assistantId", "assistant": "assistant", "squad_id": "squadId", "squad": "squad"}
_OVERRIDES = {"assistant": "assistantOverrides", "squad": "squadOverrides"}

# What ``extra_body`` must not contain, since there is an argument for it.
_ARGUMENTS = {
    "assistantId": "assistant_id",
    "squadId": "squad_id",
    "assistant": "assistant",
    "phoneNumberId": "phone_number_id",
    "customer": "customer",
    "name": "name",
    "assistantOverrides": "assistant_overrides",
    "schedulePlan": "schedule_plan",
}

_CUSTOMER_TEXTS = {
    "number": ("number", 40),
    "sip_uri": ("sipUri", 500),
    "name": ("name", 40),
    "extension": ("extension", 10),
    "email": ("email", 40),
    "external_id": ("externalId", 40),
}

_NONE_COUNTS = "(None counts as not given)"
# As text, which re compiles on first use: a DAG file imports this module.
_E164 = r"\+[1-9][0-9]{1,14}"
_ANY_NUMBER = r"(?=.{3,40}$)\+?[A-Za-z0-9]+"
_SIP_URI = r"sips?:[^\s]+"


class Customer(TypedDict, total=False):
    """The callee: ``number`` in E.164 or ``sip_uri``, and what else Vapi accepts for a customer."""

    number: str | None
    sip_uri: str | None
    name: str | None
    extension: str | None
    email: str | None
    external_id: str | None
    number_e164_check_enabled: bool | None
    assistant_overrides: Mapping[str, Any] | None


@dataclass(frozen=True)
class CallRequest:
    """
    A call to place.

    :param body: the body for Vapi, without the token
    :param person: the callee
    :param caller: the assistant or squad, and the phone number
    :param overrides: the field of the body with the overrides of the call
    :param assistant_id: the assistant, to search the call by; None without one
    :param phone_number_id: the phone number, to search the call by
    :param hours: when the callee may be called; None for any time
    """

    body: dict[str, Any]
    person: str
    caller: str
    overrides: str
    assistant_id: str | None
    phone_number_id: str | None
    hours: Hours | None = None

    def timed(self, now: float) -> CallRequest:
        """
        Return the request as it may be sent now.

        :param now: the time, in seconds since 1970
        :raises VapiOutsideHoursError: if the callee must not be called now
        :raises VapiConfigurationError: if no instant of the schedule is within the calling hours
        """
        if self.hours is None:
            return self
        instant, plan = datetime.fromtimestamp(now, timezone.utc), self.body.get("schedulePlan")
        if plan:
            return replace(self, body={**self.body, "schedulePlan": fit_schedule(plan, self.hours, instant)})
        check_open(self.hours, instant)
        return self

    def carrying(self, token: str) -> dict[str, Any]:
        """Return the body with the token in the name and in the variable values."""
        overrides = self.body.get(self.overrides) or {}
        values = {**(overrides.get("variableValues") or {}), TOKEN_VARIABLE: token}
        name = " ".join(part for part in (self.body.get("name"), f"#{token}") if part)
        return {**self.body, "name": name, self.overrides: {**overrides, "variableValues": values}}


def find_misuse(arguments: Mapping[str, Any]) -> str | None:
    """Find arguments that are missing or exclude each other, by which are given and not by their values."""
    extra = arguments["extra_body"]
    if not isinstance(extra, (Mapping, type(None))):
        # What a template or a task makes of it is known later.
        return None
    given = _talkers(arguments, extra := extra or {})
    if len(given) != 1:
        return (
            "exactly one of assistant_id, squad_id and assistant is required; got "
            f"{' and '.join(given) or f'none of them {_NONE_COUNTS}'}"
        )
    if arguments["assistant_overrides"] is not None and not given[0].startswith("assistant"):
        return f"assistant_overrides requires an assistant; with {given[0]}, use squadOverrides in extra_body"
    for argument, field in (("customer", "customerId"), ("phone_number_id", "phoneNumber")):
        if (arguments[argument] is None) == (extra.get(field) is None):
            found = f"neither {_NONE_COUNTS}" if arguments[argument] is None else "both"
            return f"either {argument} or {field} in extra_body is required; got {found}"
    return None


def build_request(arguments: Mapping[str, Any]) -> CallRequest:
    """
    Check a call's arguments, all of them rendered, and build its request.

    :raises VapiConfigurationError: naming the argument that is wrong; nothing is sent then
    """
    checked = {
        name: check(name, arguments[name])
        for name, check in _CHECKS.items()
        if arguments.get(name) is not None
    }
    misuse = find_misuse(arguments)
    if misuse is not None:
        raise refuse(misuse)
    extra = checked.get("extra_body", {})
    (talker,) = _talkers(arguments, extra)
    body = {**extra, **{field: checked[name] for field, name in _ARGUMENTS.items() if name in checked}}
    phone_number = body.get("phoneNumberId")
    return CallRequest(
        body=body,
        person=_person(body.get("customer", {}), extra.get("customerId")),
        # An inline assistant can differ in each try, so only the fact that there is one counts.
        caller=f"{talker}={body[_TALKERS[talker]] if talker.endswith('_id') else ''};phone={phone_number or ''}",
        overrides=_OVERRIDES[talker.removesuffix("_id")],
        assistant_id=body.get("assistantId"),
        phone_number_id=phone_number,
        hours=checked.get("calling_hours"),
    )


def _talkers(arguments: Mapping[str, Any], extra: Mapping[str, Any]) -> list[str]:
    given = {**arguments, "squad": extra.get("squad")}
    return [name for name in _TALKERS if given[name] is not None]


def _refuse_token(overrides: Any, name: str) -> None:
    if overrides is None:
        return
    if not isinstance(overrides, Mapping):
        raise refuse(f"{name} must be an object; got {type(overrides).__name__}")
    values = overrides.get("variableValues")
    if values is not None and not isinstance(values, Mapping):
        raise refuse(f"variableValues in {name} must be an object; got {type(values).__name__}")
    if TOKEN_VARIABLE in (values or {}):
        raise refuse(
            f"variableValues in {name} must not contain {TOKEN_VARIABLE!r}, which carries the token of the call"
        )


def _person(customer: Mapping[str, Any], customer_id: Any) -> str:
    number = customer.get("number") or customer.get("sipUri") or f"customer:{customer_id}"
    return f"{number};ext={customer.get('extension') or ''}"


def _check_text(parameter: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        shown = repr(value[:50]) if isinstance(value, str) else type(value).__name__
        raise refuse(f"{parameter} must be a non-empty string; got {shown}")
    return value.strip()


def _check_name(parameter: str, value: Any) -> str:
    name = _check_text(parameter, value)
    if len(name) > MAX_NAME_LENGTH:
        raise refuse(
            f"{parameter} has {len(name)} characters; the limit is {MAX_NAME_LENGTH}, because a token is "
            f"appended. In a template, use [:{MAX_NAME_LENGTH}]"
        )
    return name


def _check_mapping(parameter: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return dict(value)
    hint = " (a template renders to a string; template the values, or set render_template_as_native_obj=True)"
    raise refuse(
        f"{parameter} must be a dictionary that is not empty; got {type(value).__name__}"
        f"{hint if isinstance(value, str) else ''}"
    )


def _check_keys(parameter: str, value: Any, known: Iterable[str]) -> dict[str, Any]:
    checked = _check_mapping(parameter, value)
    _refuse_unknown(parameter, checked, known)
    return checked


def _check_object(parameter: str, value: Any) -> dict[str, Any]:
    checked = _check_mapping(parameter, value)
    try:
        json.dumps(checked, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise refuse(f"{parameter} cannot be written as JSON: {error}") from None
    return checked


def _check_overrides(parameter: str, value: Any) -> dict[str, Any]:
    overrides = _check_object(parameter, value)
    _refuse_token(overrides, parameter)
    return overrides


def _check_customer(parameter: str, value: Any) -> dict[str, Any]:
    customer = _check_object(parameter, value)
    _refuse_unknown(parameter, customer, Customer.__annotations__)
    checked: dict[str, Any] = {}
    for name, (field, longest) in _CUSTOMER_TEXTS.items():
        text = _check_customer_text(name, customer.get(name), longest)
        if text:
            checked[field] = text
    is_checked = customer.get("number_e164_check_enabled")
    if isinstance(is_checked, bool):
        checked["numberE164CheckEnabled"] = is_checked
    elif is_checked is not None:
        raise refuse(f"customer's number_e164_check_enabled must be a bool; got {type(is_checked).__name__}")
    if (overrides := customer.get("assistant_overrides")) is not None:
        checked["assistantOverrides"] = _check_overrides("customer's assistant_overrides", overrides)
    _check_destination(checked)
    return checked


def _check_customer_text(name: str, value: Any, longest: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        hint = " (render_template_as_native_obj turns digits into a number)" * isinstance(value, int)
        raise refuse(f"customer's {name} must be a string; got {type(value).__name__}{hint}")
    text = value.strip()
    if len(text) > longest:
        raise refuse(f"customer's {name} has {len(text)} characters; Vapi accepts at most {longest}")
    return text


def _check_destination(customer: Mapping[str, Any]) -> None:
    """Check the number or SIP URI of a customer, under the API's own names."""
    number, sip_uri = customer.get("number"), customer.get("sipUri")
    if (number is None) == (sip_uri is None):
        found = f"neither {_NONE_COUNTS}" if number is None else "both"
        raise refuse(f"customer must have either a number or a sip_uri; got {found}")
    if sip_uri is not None and not re.fullmatch(_SIP_URI, sip_uri):
        raise refuse("customer's sip_uri must begin with sip: or sips:")
    if number is None:
        return
    if customer.get("numberE164CheckEnabled") is False:
        if not re.fullmatch(_ANY_NUMBER, number):
            raise refuse(
                f"customer's number {mask_ending(number)} must be letters and digits with an optional leading plus, 3 to 40 characters in all"
            )
    elif not re.fullmatch(_E164, number):
        raise refuse(
            f"customer's number {mask_ending(number)} is not in E.164 (a plus sign, the country code and the number; "
            "digits only, such as +12025550143). For the numbers of a SIP trunk, set number_e164_check_enabled to False"
        )


def _check_extra(parameter: str, value: Any) -> dict[str, Any]:
    checked = _check_object(parameter, value)
    for field, argument in _ARGUMENTS.items():
        if field in checked:
            raise refuse(f"extra_body must not contain {field}; use the argument {argument}")
    if "customers" in checked:
        raise refuse(
            "extra_body must not contain customers; map the operator over them: .expand(customer=[...])"
        )
    _refuse_token(checked.get("squadOverrides"), "squadOverrides in extra_body")
    return {field: value for field, value in checked.items() if value is not None}


def _refuse_unknown(parameter: str, given: Mapping[Any, Any], known: Iterable[str]) -> None:
    # A key that is not a word may be a person's number.
    unknown = sorted(
        str(name) if re.fullmatch(r"[A-Za-z_]{1,40}", str(name)) else MASK
        for name in given
        if name not in known
    )
    if unknown:
        raise refuse(f"{parameter} has unknown keys {unknown}; valid keys are {', '.join(known)}")


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "assistant_id": _check_text,
    "squad_id": _check_text,
    "assistant": _check_object,
    "phone_number_id": _check_text,
    "customer": _check_customer,
    "name": _check_name,
    "assistant_overrides": _check_overrides,
    "schedule_plan": lambda name, value: check_schedule_plan(_check_keys(name, value, SCHEDULE_FIELDS)),
    "extra_body": _check_extra,
    "calling_hours": lambda name, value: check_calling_hours(
        _check_keys(name, value, CallingHours.__annotations__)
    ),
}
