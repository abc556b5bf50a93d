# SPDX-License-Identifier: Apache-2.0
"""The hook: the only code of the package that speaks HTTP."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from vapi_provider.client.arguments import (
    check_call_id,
    check_filter_id,
    check_instant,
    check_name,
    check_page_size,
    check_request,
)
from vapi_provider.client.control import end_live_call
from vapi_provider.client.pagination import newest_first
from vapi_provider.client.transport import VapiTransport, open_session
from vapi_provider.connection import NO_LIMITS, RequestLimits, VapiSettings, read_settings
from vapi_provider.exceptions import (
    VapiConfigurationError,
    VapiConnectionNotFoundError,
    VapiError,
    VapiPermanentError,
)
from vapi_provider.get_provider_info import CONN_FIELDS, CONN_TYPE, HOOK_NAME, UI_FIELD_BEHAVIOUR
from vapi_provider.models.call import Call, CallPage, CallStatusView, PlacedCallView, ViewT

if TYPE_CHECKING:
    import requests

    from airflow.providers.common.compat.sdk import Connection
    from vapi_provider.client.responses import ApiResponse


class VapiHook(BaseHook):
    """
    Talks to Vapi's call API (https://docs.vapi.ai/api-reference/calls/list).

    The connection, of type ``vapi``: ``password`` is the private API key; ``host`` the API's base URL, empty for
    https://api.vapi.ai; ``extra`` may hold ``timeout`` (the seconds that one request may take in all, 30 by default)
    and ``max_retries`` (4 by default). It is looked up when it is first needed, never when a DAG is parsed.

    A request that does no harm when repeated is sent again after a passing error, within 75 seconds in all. Whatever
    else is not the wanted answer is a :class:`~vapi_provider.exceptions.VapiError`, whose class says whether a later
    try may work.

    :param vapi_conn_id: the connection's id
    """

    conn_name_attr = "vapi_conn_id"
    default_conn_name = "vapi_default"
    conn_type = CONN_TYPE
    hook_name = HOOK_NAME

    def __init__(self, vapi_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.vapi_conn_id = vapi_conn_id
        self._connection: Connection | None = None
        self._limits = NO_LIMITS

    @classmethod
    def from_connection(cls, conn: Connection, limits: RequestLimits = NO_LIMITS) -> VapiHook:
        """
        Make a hook over a connection that was read before, so that it asks Airflow for nothing.

        It is for threads that may not ask, such as those of a triggerer.

        :param conn: the connection
        :param limits: tighter limits than the connection's own
        :return: the hook
        """
        hook = cls(str(conn.conn_id))
        hook._connection, hook._limits = conn, limits
        return hook

    def with_limits(self, limits: RequestLimits) -> VapiHook:
        """
        Make a hook of its own over the same connection, which is not read again.

        :param limits: tighter limits than the connection's own
        :return: the hook
        """
        return VapiHook.from_connection(self._get_connection(), limits)

    @property
    def has_connection(self) -> bool:
        """Whether the connection was read, so that nobody has to be asked for it any more."""
        return self._connection is not None

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """
        Say how the connection form of Airflow 3.0 and 3.1 shows Airflow's own fields.

        :return: hidden fields, labels and placeholders
        """
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """
        Make the connection form's own fields for Airflow 3.0 and 3.1.

        :return: a wtforms field by name; nothing where wtforms is not installed, as the form needs none then
        """
        try:
            from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
            from wtforms import IntegerField, StringField
            from wtforms.validators import Optional
        except ImportError:
            return {}
        kinds = {"integer": IntegerField, "number": StringField}
        return {
            name: kinds[field["schema"]["type"][0]](
                field["label"],
                widget=BS3TextFieldWidget(),
                description=field["description"],
                validators=[Optional()],
            )
            for name, field in CONN_FIELDS.items()
        }

    @cached_property
    def _settings(self) -> VapiSettings:
        return self._limits.tighten(read_settings(self._get_connection()))

    def _get_connection(self) -> Connection:
        self._connection = self._connection or self._look_up()
        return self._connection

    def _look_up(self) -> Connection:
        conn_id = self.vapi_conn_id
        if not isinstance(conn_id, str) or not conn_id.strip():
            raise VapiConfigurationError(
                f"vapi_conn_id is {conn_id!r}; it must be a connection's id. Nothing was sent."
            )
        try:
            return self.get_connection(conn_id)
        except AirflowNotFoundException:
            pass
        raise VapiConnectionNotFoundError(
            f"There is no connection {conn_id!r} that Airflow can read. Create it on Airflow's Connections page (type "
            f"{HOOK_NAME}), or set AIRFLOW_CONN_{conn_id.upper()} to JSON or a URI. Nothing was sent."
        )

    @cached_property
    def _session(self) -> requests.Session:
        return open_session(self._settings)

    @cached_property
    def _transport(self) -> VapiTransport:
        return VapiTransport(self._settings, self._session, self.log)

    def get_conn(self) -> requests.Session:
        """
        Return the session that the hook sends its requests over, for requests that it has no method for.

        It adds the API key to requests for the API's own origin and to no others, and has the connection's time
        limit; it neither retries nor checks answers.

        :raises VapiConfigurationError: when the connection is missing or unusable
        :return: the session, the same one each time
        """
        return self._session

    def get_call(self, call_id: str) -> Call:
        """
        Read a call (https://docs.vapi.ai/api-reference/calls/get).

        :param call_id: the call's id
        :raises VapiConfigurationError: when the id or the connection is unusable; nothing is sent then
        :raises VapiCallNotFoundError: when Vapi knows no such call
        :raises VapiTransientError: for a passing trouble that outlived all tries
        :raises VapiPermanentError: when Vapi refuses
        :return: the call
        """
        checked_id = check_call_id(call_id)
        return self._send_about(checked_id, "GET")

    def update_call(self, call_id: str, *, name: str) -> Call:
        """
        Set a call's name, the one thing of a call that Vapi lets be changed.

        https://docs.vapi.ai/api-reference/calls/update

        :param call_id: the call's id
        :param name: the new name, 1 to 40 characters
        :raises VapiConfigurationError: when id, name or connection is unusable; nothing is sent then
        :raises VapiCallNotFoundError: when Vapi knows no such call
        :raises VapiTransientError: for a passing trouble that outlived all tries; the name may have been set
        :raises VapiPermanentError: when Vapi refuses
        :return: the call as it is after the change
        """
        checked_id = check_call_id(call_id)
        body = {"name": check_name(name, call_id=checked_id)}
        return self._send_about(checked_id, "PATCH", json=body)

    def create_call(
        self, request: Mapping[str, Any], *, before_send: Callable[[], None] | None = None
    ) -> Call:
        """
        Place a call (https://docs.vapi.ai/api-reference/calls/create).

        Vapi knows no idempotency key, so the request is sent again only when it certainly had no effect: when no
        connection was made, or for a 429. Whatever else goes wrong leaves in doubt whether somebody's phone rings;
        :class:`~vapi_provider.operators.call.VapiCreateCallOperator` resolves that doubt.

        :param request: the body, under the API's own names, for one customer
        :param before_send: called directly before each sending; what it raises is passed on, and nothing is sent then
        :raises VapiConfigurationError: when request or connection is unusable; nothing is sent then
        :raises VapiConcurrencyLimitError: when the organization has too many calls at once; nobody was called
        :raises VapiCallInDoubtError: when nobody knows whether the call was placed
        :raises VapiTransientError: for a passing trouble; nothing was placed
        :raises VapiPermanentError: when Vapi refuses; nothing was placed
        :return: the call
        """
        body = check_request(request)
        return self._transport.send_unrepeatable(
            "/call",
            lambda answer: _read_call(answer, answer.json(), Call),
            json=body,
            before_send=before_send,
        )

    def end_call(self, call: Call) -> None:
        """
        Hang up a live call, through its control URL (https://docs.vapi.ai/calls/call-features).

        The control URL takes no API key and gets none. It is used only over https, and only when its host is the
        API's own or one under vapi.ai; it appears in no log and no error. A call that is over is left alone.

        :param call: the call as it was just read
        :raises VapiPermanentError: when the call is scheduled (see :meth:`delete_call`), or has no such control URL
        :raises VapiTransientError: when the answer did not say that it worked
        """
        if call.is_terminal:
            return
        if call.is_scheduled:
            raise VapiPermanentError(
                f"Call {call.id} is scheduled, so there is nothing to hang up; cancel it with delete_call."
            )
        end_live_call(call, self._settings, self.log)

    def delete_call(self, call_id: str) -> None:
        """
        Cancel a scheduled call, or erase the data of one that is over.

        https://docs.vapi.ai/api-reference/calls/delete; what it does to a live call is documented nowhere. It is sent
        again after a passing error, and so may erase what an earlier try has cancelled.

        :param call_id: the call's id
        :raises VapiConfigurationError: when the id or the connection is unusable; nothing is sent then
        :raises VapiCallNotFoundError: when Vapi knows no such call, or an earlier try has erased it
        :raises VapiTransientError: for a passing trouble that outlived all tries; it may have been deleted
        :raises VapiPermanentError: when Vapi refuses
        """
        checked_id = check_call_id(call_id)
        # Empty, for the call in the path; a list of ids would be for others.
        self._transport.send("DELETE", f"/call/{checked_id}", lambda _answer: None, json={})

    @property
    def request_timeout(self) -> float:
        """The seconds that one request may take in all."""
        return self._settings.timeout

    def _send_about(self, call_id: str, method: str, json: dict[str, Any] | None = None) -> Call:
        """Send a request about one call; an unusable connection is told with the call that it was needed for."""
        try:
            transport = self._transport
        except VapiConfigurationError as error:
            raise type(error)(f"Call {call_id}: {error}") from None
        read = _expect(call_id, lambda answer: _read_call(answer, answer.json(), Call))
        return transport.send(method, f"/call/{call_id}", read, json=json)

    def list_calls(
        self,
        *,
        assistant_id: str | None = None,
        phone_number_id: str | None = None,
        created_at_ge: datetime | str | None = None,
        created_at_lt: datetime | str | None = None,
        updated_at_ge: datetime | str | None = None,
        updated_at_lt: datetime | str | None = None,
        page_size: int = 100,
    ) -> Iterator[Call]:
        """
        List calls, newest first, each once (https://docs.vapi.ai/api-reference/calls/list).

        Pages are asked for as the iterator gets there, and one is held at a time. Each call is whole, so that a page
        of 100 can be megabytes.

        :param assistant_id: only calls of this assistant
        :param phone_number_id: only calls over this number of yours
        :param created_at_ge: only calls created at this instant or later; a datetime with a time zone, or ISO 8601
        :param created_at_lt: only calls created before this instant
        :param updated_at_ge: only calls changed at this instant or later
        :param updated_at_lt: only calls changed before this instant
        :param page_size: how many calls to ask for at once, 1 to 1000
        :raises VapiConfigurationError: when an argument or the connection is unusable; nothing is sent then
        :raises VapiTransientError: for a passing trouble, and for a list that cannot be paged without a gap
        :raises VapiPermanentError: when Vapi refuses
        :return: an iterator over the calls
        """
        filters: dict[str, str | None] = {
            "assistantId": check_filter_id(assistant_id, parameter="assistant_id"),
            "phoneNumberId": check_filter_id(phone_number_id, parameter="phone_number_id"),
            "createdAtGe": check_instant(created_at_ge, parameter="created_at_ge"),
            "createdAtLt": check_instant(created_at_lt, parameter="created_at_lt"),
            "updatedAtGe": check_instant(updated_at_ge, parameter="updated_at_ge"),
            "updatedAtLt": check_instant(updated_at_lt, parameter="updated_at_lt"),
        }
        given = {name: value for name, value in filters.items() if value is not None}
        return newest_first(lambda page: self._page({**given, **page}), check_page_size(page_size))

    def _page(self, params: dict[str, Any]) -> list[Call]:
        return self._transport.send("GET", "/call", _read_calls, params=params)

    def get_status(self, call_id: str) -> CallStatusView:
        """
        Read as much of a call as tells whether it is over (https://docs.vapi.ai/api-reference/calls/get).

        It costs a fraction of :meth:`get_call`, and raises the same.

        :param call_id: the call's id
        :return: the glimpse
        """
        checked_id = check_call_id(call_id)
        return self._transport.send("GET", f"/call/{checked_id}", _expect(checked_id, _read_glimpse))

    def list_statuses(self, params: Mapping[str, Any]) -> CallPage[CallStatusView]:
        """
        Read one page of the list, and of each call as much as tells whether it is over.

        https://docs.vapi.ai/api-reference/calls/list

        :param params: the query, under the API's own names: ``limit``, ``updatedAtGe`` and the like
        :raises VapiTransientError: for a passing trouble that outlived all tries
        :raises VapiPermanentError: when Vapi refuses
        :return: the page
        """
        return self._transport.send(
            "GET", "/call", lambda answer: _read_page(answer, _GLIMPSES), params=params
        )

    def list_placed(self, params: Mapping[str, Any]) -> CallPage[PlacedCallView]:
        """
        Read one page of the list, and of each call as much as tells by whom it was placed and what became of it.

        https://docs.vapi.ai/api-reference/calls/list

        :param params: the query, under the API's own names
        :raises VapiTransientError: for a passing trouble that outlived all tries
        :raises VapiPermanentError: when Vapi refuses
        :return: the page
        """
        return self._transport.send("GET", "/call", lambda answer: _read_page(answer, _TRACES), params=params)

    def close(self) -> None:
        """Close the connections to Vapi; the next request opens them again."""
        self._session.close()

    def test_connection(self) -> tuple[bool, str]:
        """
        Try the connection with one read of at most one call, which changes nothing; for the Test button.

        :return: whether it works, and a sentence that says so or what is wrong
        """
        try:
            # Airflow makes up an id for a connection that is being tested; no message should show it.
            settings = dataclasses.replace(self._settings, label="this connection")
            transport = VapiTransport(settings, self._session, self.log)
            transport.send("GET", "/call", _read_calls, params={"limit": 1}, max_retries=0)
        except VapiError as error:
            return False, str(error)
        return True, f"{self._settings.base_url} accepts the API key."


_JSON_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _read_call(answer: ApiResponse, body: Any, kind: type[ViewT]) -> ViewT:
    if not isinstance(body, dict):
        raise answer.unreadable(f"{_JSON_NAMES[type(body)]} in place of a call")
    try:
        call = kind.model_validate(body)
    except ValidationError:
        call = None
    if call is None:
        # Out of the handler: its error holds the body.
        raise answer.unreadable("a call without an id")
    call._responded_at = answer.responded_at
    return call


def _read_rows(answer: ApiResponse) -> list[Any]:
    body = answer.json()
    if not isinstance(body, list):
        raise answer.unreadable(f"{_JSON_NAMES[type(body)]} in place of a list of calls")
    return body


def _read_calls(answer: ApiResponse) -> list[Call]:
    return [_read_call(answer, row, Call) for row in _read_rows(answer)]


_GLIMPSE = TypeAdapter(CallStatusView)
_GLIMPSES = TypeAdapter(list[CallStatusView])
_TRACES = TypeAdapter(list[PlacedCallView])


def _read_glimpse(answer: ApiResponse) -> CallStatusView:
    try:
        glimpse = _GLIMPSE.validate_json(answer.body)
    except ValidationError:
        # What pydantic's reader of JSON does not take, a lone surrogate or another encoding, may be fine all the same.
        return _read_call(answer, answer.json(), CallStatusView)
    glimpse._responded_at = answer.responded_at
    return glimpse


def _read_page(answer: ApiResponse, rows_kind: TypeAdapter[list[ViewT]]) -> CallPage[ViewT]:
    try:
        rows = rows_kind.validate_json(answer.body)
    except ValidationError:
        # One row that makes no sense must not hide all the others.
        listed = _read_rows(answer)
        rows, length = _sound_rows(listed, rows_kind), len(listed)
    else:
        length = len(rows)
    responded_at = answer.responded_at
    for row in rows:
        row._responded_at = responded_at
    return CallPage(rows, length, len(answer.body), responded_at)


def _sound_rows(listed: list[Any], rows_kind: TypeAdapter[list[ViewT]]) -> list[ViewT]:
    sound: list[ViewT] = []
    for row in listed:
        with suppress(ValidationError):
            sound += rows_kind.validate_python([row])
    return sound


def _expect(call_id: str, read: Callable[[ApiResponse], ViewT]) -> Callable[[ApiResponse], ViewT]:
    """Make a reader of an answer that must be the call of the given id."""

    def read_and_compare(answer: ApiResponse) -> ViewT:
        call = read(answer)
        if call.id.strip().lower() != call_id:
            raise answer.unreadable("another call")
        return call

    return read_and_compare
