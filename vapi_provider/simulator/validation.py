# SPDX-License-Identifier: Apache-2.0
"""The checks of requests: like Vapi, the simulator refuses what it does not know."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any, NoReturn

from vapi_provider.simulator.errors import ApiError
from vapi_provider.simulator.timestamps import read_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vapi_provider.simulator.record import Version

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000

# A property's type and, after a colon, its maximum length.
_CREATE_FIELDS = {
    "assistantVersion": "string",
    "transport": "object",
    "customers": "array",
    "name": "string:40",
    "schedulePlan": "object",
    "assistantId": "string",
    "assistant": "object",
    "assistantOverrides": "object",
    "squadId": "string",
    "squad": "object",
    "squadOverrides": "object",
    "phoneNumberId": "string",
    "phoneNumber": "object",
    "customerId": "string",
    "customer": "object",
}
_CUSTOMER_FIELDS = {
    "numberE164CheckEnabled": "boolean",
    "extension": "string:10",
    "assistantOverrides": "object",
    "squadOverrides": "object",
    "number": "string:40",
    "sipUri": "string",
    "name": "string:40",
    "email": "string:40",
    "externalId": "string:40",
}
_SCHEDULE_FIELDS = {"earliestAt": "string", "latestAt": "string"}
# Python's dates end in 9999, and the steps of the call come later.
_FIRST_YEAR_TOO_LATE = 3000


def _fields(kind: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), kind)


_ASSISTANT_FIELDS = {
    "name": "string:40",
    **_fields("string", "firstMessage firstMessageMode backgroundSound"),
    **_fields("string:1000", "voicemailMessage endCallMessage"),
    **_fields("boolean", "firstMessageInterruptionsEnabled modelOutputInMessagesEnabled"),
    **_fields("number", "maxDurationSeconds"),
    **_fields("array", "clientMessages serverMessages transportConfigurations credentials credentialIds"),
    **_fields("array", "hooks endCallPhrases"),
    **_fields("object", "transcriber model voice metadata server keypadInputPlan observabilityPlan"),
    **_fields("object", "compliancePlan backgroundSpeechDenoisingPlan analysisPlan artifactPlan"),
    **_fields("object", "startSpeakingPlan stopSpeakingPlan monitorPlan"),
    "voicemailDetection": "any",
}
_OVERRIDES_FIELDS = {**_ASSISTANT_FIELDS, "variableValues": "object", "tools:append": "array"}
_TYPES: dict[str, Any] = {
    "string": str,
    "object": dict,
    "array": list,
    "boolean": bool,
    "number": (int, float),
    "any": object,
}

_KINDS = ("assistantId", "assistant", "squadId", "squad")
_OVERRIDES = ("assistantOverrides", "squadOverrides")
_E164 = re.compile(r"\+[1-9]\d{1,14}", re.ASCII)
_ALPHANUMERIC = re.compile(r"\+?[a-zA-Z0-9]+")

_EXACT_FILTERS = ("id", "assistantId", "phoneNumberId")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "Gt": lambda value, bound: bool(value > bound),
    "Lt": lambda value, bound: bool(value < bound),
    "Ge": lambda value, bound: bool(value >= bound),
    "Le": lambda value, bound: bool(value <= bound),
}
_TIME_FILTERS = {
    f"{name}{comparison}": (attribute, compare)
    for name, attribute in (("createdAt", "created_at"), ("updatedAt", "updated_at"))
    for comparison, compare in _COMPARISONS.items()
}
LIST_FILTERS = frozenset({*_EXACT_FILTERS, *_TIME_FILTERS, "limit"})


def read_object(content_type: str, content: bytes) -> dict[str, Any]:
    """Read a request body; ApiError unless it is a JSON object."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ApiError(400, "The request's Content-Type must be application/json")
    try:
        body = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ApiError(400, "The request's body is not valid JSON") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The request's body must be a JSON object")
    return body


def check_call_id(call_id: str) -> None:
    """Refuse an id in the path that is not a UUID; any version is accepted."""
    try:
        well_formed = str(uuid.UUID(call_id)) == call_id.lower()
    except ValueError:
        well_formed = False
    if not well_formed:
        raise ApiError(400, ["id must be a UUID"])


def check_update(body: Mapping[str, Any]) -> None:
    """Refuse an update of any field other than the name."""
    _refuse(_property_errors(body, {"name": "string:40"}))


def check_delete(body: Mapping[str, Any]) -> None:
    """Refuse a deletion with any field other than the ids."""
    errors = _property_errors(body, {"ids": "array"})
    if not errors and not all(isinstance(call_id, str) for call_id in body.get("ids", [])):
        errors.append("each value in ids must be a string")
    _refuse(errors)


def check_create(body: Mapping[str, Any]) -> None:
    """Refuse a call that Vapi would not place; the customers of a batch are checked separately."""
    errors = _property_errors(body, _CREATE_FIELDS)
    _refuse(errors)
    errors += _property_errors(body.get("assistant", {}), _ASSISTANT_FIELDS, "assistant.")
    errors += _overrides_errors(body)
    errors += _schedule_errors(body.get("schedulePlan"))
    errors += _party_errors(body)
    if "customer" in body:
        errors += customer_errors(body["customer"], "customer.")
    _refuse(errors)


def customer_errors(customer: object, prefix: str = "") -> list[str]:
    """Return what is wrong with a customer."""
    if not isinstance(customer, dict):
        return ["customer must be an object"]
    errors = _property_errors(customer, _CUSTOMER_FIELDS, prefix)
    if errors:
        return errors
    errors += _overrides_errors(customer, prefix)
    number, sip_uri = customer.get("number"), customer.get("sipUri")
    if (number is None) == (sip_uri is None):
        errors.append(f"{prefix}number or {prefix}sipUri must be given, and not both")
    if number is not None:
        errors += _number_errors(number, customer.get("numberE164CheckEnabled", True), prefix)
    if sip_uri is not None and not sip_uri.startswith(("sip:", "sips:")):
        errors.append(f"{prefix}sipUri must be a valid SIP URI")
    return errors


def read_filters(query: list[tuple[str, str]]) -> tuple[Callable[[Version], bool], int]:
    """Read the list's query; return a function that matches calls, and the limit."""
    errors: list[str] = []
    tests: list[Callable[[Version], bool]] = []
    limit = DEFAULT_LIMIT
    for name, value in query:
        if name == "limit":
            limit = _read_limit(value, errors)
        elif name in _TIME_FILTERS:
            tests.append(_time_test(name, value, errors))
        elif name in _EXACT_FILTERS:
            tests.append(_exact_test(name, value))
        else:
            errors.append(f"property {name} should not exist")
    if len(query) > len(dict(query)):
        errors.append("a query parameter must not be repeated")
    _refuse(errors)
    return lambda version: all(test(version) for test in tests), limit


def _refuse(errors: list[str]) -> None:
    if errors:
        raise ApiError(400, errors)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(constant)


def _property_errors(body: Mapping[str, Any], fields: Mapping[str, str], prefix: str = "") -> list[str]:
    errors = []
    for name, value in body.items():
        kind, _, longest = fields.get(name, "").partition(":")
        if not kind:
            errors.append(f"{prefix}property {name} should not exist")
        elif not isinstance(value, _TYPES[kind]):
            errors.append(f"{prefix}{name} must be {'an' if kind in ('object', 'array') else 'a'} {kind}")
        elif longest and len(value) > int(longest):
            errors.append(f"{prefix}{name} must be shorter than or equal to {longest} characters")
    return errors


def _overrides_errors(holder: Mapping[str, Any], prefix: str = "") -> list[str]:
    return [
        error
        for name in _OVERRIDES
        for error in _property_errors(holder.get(name, {}), _OVERRIDES_FIELDS, f"{prefix}{name}.")
    ]


def _number_errors(number: str, is_e164_needed: bool, prefix: str) -> list[str]:
    errors = []
    if len(number) < 3:
        errors.append(f"{prefix}number must be longer than or equal to 3 characters")
    if is_e164_needed and not _E164.fullmatch(number):
        errors.append(f"{prefix}number must be a valid phone number in the E.164 format")
    elif not _ALPHANUMERIC.fullmatch(number):
        errors.append(f"{prefix}number must contain only alphanumeric characters, after an optional plus")
    return errors


def _schedule_errors(plan: Mapping[str, Any] | None) -> list[str]:
    if plan is None:
        return []
    errors = _property_errors(plan, _SCHEDULE_FIELDS, "schedulePlan.")
    if "earliestAt" not in plan:
        errors.append("schedulePlan.earliestAt must be given")
    for name in _SCHEDULE_FIELDS:
        instant = read_timestamp(plan.get(name), offset_needed=True)
        if name in plan and instant is None:
            errors.append(f"schedulePlan.{name} must be a valid ISO 8601 date string with an offset")
        elif instant is not None and instant.year >= _FIRST_YEAR_TOO_LATE:
            errors.append(f"schedulePlan.{name} must be before the year {_FIRST_YEAR_TOO_LATE}")
    return errors


def _party_errors(body: Mapping[str, Any]) -> list[str]:
    errors = []
    if sum(kind in body for kind in _KINDS) != 1:
        errors.append(f"exactly one of {', '.join(_KINDS)} must be given")
    if sum(name in body for name in ("customer", "customers", "customerId")) != 1:
        errors.append("exactly one of customer, customers, customerId must be given")
    if ("phoneNumberId" in body) == ("phoneNumber" in body):
        errors.append("a phone call needs either phoneNumberId or phoneNumber")
    if body.get("customers") == []:
        errors.append("customers must not be empty")
    if "assistantVersion" in body and "assistantId" not in body:
        errors.append("assistantVersion needs assistantId")
    return errors + _phone_number_errors(body.get("phoneNumber"))


def _phone_number_errors(phone_number: Mapping[str, Any] | None) -> list[str]:
    if phone_number is None:
        return []
    return [
        f"phoneNumber.{name} must be a string"
        for name in ("twilioPhoneNumber", "twilioAccountSid")
        if not isinstance(phone_number.get(name), str)
    ]


def _read_limit(value: str, errors: list[str]) -> int:
    if not re.fullmatch(r"\d{1,9}", value, re.ASCII):
        errors.append("limit must be a number")
        return DEFAULT_LIMIT
    if int(value) > LARGEST_LIMIT:
        errors.append(f"limit must not be greater than {LARGEST_LIMIT}")
    return int(value)


def _time_test(name: str, value: str, errors: list[str]) -> Callable[[Version], bool]:
    attribute, compare = _TIME_FILTERS[name]
    bound = read_timestamp(value)
    if bound is None:
        errors.append(f"{name} must be a valid ISO 8601 date string")
    return lambda version: compare(getattr(version, attribute), bound)


def _exact_test(name: str, value: str) -> Callable[[Version], bool]:
    return lambda version: version.body.get(name) == value
