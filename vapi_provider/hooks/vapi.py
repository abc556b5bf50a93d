# SPDX-License-Identifier: Apache-2.0
"""The hook: Airflow's connection to Vapi."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from vapi_provider.client.arguments import check_filter_id, check_instant, check_page_size, check_request
from vapi_provider.client.artifact import MAX_BYTES, ArtifactInfo
from vapi_provider.client.client import VapiClient
from vapi_provider.client.hang_up import end_call
from vapi_provider.connection import CONN_FIELDS, CONN_TYPE, HOOK_NAME, UI_FIELD_BEHAVIOUR, read_settings
from vapi_provider.exceptions import VapiConfigurationError, VapiConnectionNotFoundError, VapiError

if TYPE_CHECKING:
    import requests

    from vapi_provider.models.call import Call


class VapiHook(BaseHook):
    """
    Connect to Vapi's call API (https://docs.vapi.ai/api-reference/calls/list).

    The connection, of type ``vapi``: ``password`` is the private API key; ``host`` is the API's base URL or host name,
    empty for https://api.vapi.ai; ``extra`` may contain ``timeout`` (the time limit of one request, 30 seconds by
    default), ``max_retries`` (4 by default) and ``artifact_hosts`` (hosts in a private network that recordings may come
    from; none by default). It is looked up once, when it is first needed, and never when a DAG is parsed.

    A request that is safe to repeat is sent again after a transient failure, within 75 seconds in all. Every other
    response than the expected one raises a :class:`~vapi_provider.exceptions.VapiError`, whose class says whether a
    later try may succeed.

    :param vapi_conn_id: the connection's id
    """

    conn_name_attr = "vapi_conn_id"
    default_conn_name = "vapi_default"
    conn_type = CONN_TYPE
    hook_name = HOOK_NAME

    def __init__(self, vapi_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.vapi_conn_id = vapi_conn_id

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """
        Return how the connection form of Airflow 3.0 and 3.1 shows Airflow's own fields.

        :return: hidden fields, labels and placeholders
        """
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """
        Return the connection form's own fields for Airflow 3.0 and 3.1.

        :return: a wtforms field by name; empty where wtforms is not installed, since no form needs them then
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
    def client(self) -> VapiClient:
        """The client over this connection, which is looked up when the client is first used."""
        conn_id = self.vapi_conn_id
        if not isinstance(conn_id, str) or not conn_id.strip():
            raise VapiConfigurationError(
                f"vapi_conn_id must be the id of a connection; got {conn_id!r}. Nothing was sent."
            )
        try:
            conn = self.get_connection(conn_id)
        except AirflowNotFoundException:
            conn = None
        if conn is None:
            raise VapiConnectionNotFoundError(
                f"Airflow finds no connection {conn_id!r}. Create it on Airflow's Connections page (type {HOOK_NAME}), "
                f"or set AIRFLOW_CONN_{conn_id.upper()} to JSON or a URI. Nothing was sent."
            )
        return VapiClient(read_settings(conn), self.log)

    @property
    def base_url(self) -> str:
        """The API's base URL, without a trailing slash."""
        return self.client.settings.base_url

    def dashboard_url(self, call_id: str) -> str:
        """
        Return the web page of a call: in the dashboard of the API's region, or the simulator's own.

        :param call_id: the call's id, checked
        :return: the URL; opening it takes an account of the organization
        """
        return self.client.settings.dashboard_url(call_id)

    def get_conn(self) -> requests.Session:
        """
        Return the session that the hook sends its requests over.

        It adds the API key to requests for the API's own origin and to no others, and has the connection's time
        limit; it neither retries nor checks responses. :meth:`run` does both.

        :raises VapiConfigurationError: when the connection is missing or unusable
        :return: the session, the same one each time
        """
        return self.client.session

    def close(self) -> None:
        """Close the connections to Vapi; the next request opens them again."""
        if "client" in vars(self):
            self.client.close()

    def run(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, json: Any = None
    ) -> Any:
        """
        Send a request to any other endpoint of the API, such as ``hook.run("GET", "/assistant")``.

        It is sent with the key and the time limit, and errors are those of the other methods. Only GET is repeated
        after a transient failure.

        :param method: GET, POST, PATCH, PUT or DELETE
        :param path: the path below the base URL, without a host, ``..`` or a query
        :param params: the query
        :param json: the body
        :raises VapiConfigurationError: when an argument or the connection is unusable, and for ``POST /call``, which
            :meth:`create_call` sends; nothing is sent then
        :raises VapiTransientError: for a transient failure; unless it was a GET, the request had no effect
        :raises VapiPermanentError: when Vapi refuses, or when a request other than GET may have taken effect
        :return: the parsed JSON; None for an empty response
        """
        return self.client.run(method, path, params=params, json=json)

    def get_call(self, call_id: str) -> Call:
        """
        Read a call (https://docs.vapi.ai/api-reference/calls/get).

        :param call_id: the call's id
        :raises VapiConfigurationError: when the id or the connection is unusable; nothing is sent then
        :raises VapiCallNotFoundError: when there is no such call
        :raises VapiTransientError: for a transient failure that outlasted all tries
        :raises VapiPermanentError: when Vapi refuses
        :return: the call
        """
        return self.client.get_call(call_id)

    def update_call(self, call_id: str, *, name: str) -> Call:
        """
        Set a call's name, the only property that Vapi lets you change.

        https://docs.vapi.ai/api-reference/calls/update

        :param call_id: the call's id
        :param name: the new name, 1 to 40 characters
        :raises VapiConfigurationError: when id, name or connection is unusable; nothing is sent then
        :raises VapiCallNotFoundError: when there is no such call
        :raises VapiTransientError: for a transient failure that outlasted all tries; the name may have been set
        :raises VapiPermanentError: when Vapi refuses
        :return: the call after the change
        """
        return self.client.update_call(call_id, name=name)

    def create_call(self, request: Mapping[str, Any]) -> Call:
        """
        Place a call (https://docs.vapi.ai/api-reference/calls/create).

        The request is sent once: Vapi has no idempotency key, so sending it again after a lost response could ring the
        phone twice. :class:`~vapi_provider.operators.call.VapiCreateCallOperator` finds out whether it did.

        :param request: the body, under the API's own names, for one customer
        :raises VapiConfigurationError: when request or connection is unusable; nothing is sent then
        :raises VapiConcurrencyLimitError: when the organization is over its concurrency limit; no call was placed
        :raises VapiCallInDoubtError: when it is unknown whether the call was placed
        :raises VapiTransientError: for a transient failure; no call was placed
        :raises VapiPermanentError: when Vapi refuses; no call was placed
        :return: the call
        """
        return self.client.create_call(check_request(request))

    def end_call(self, call_id: str) -> str:
        """
        End a call: hang up a live one, cancel a scheduled one, leave one that ended.

        A live call is ended through its control URL (https://docs.vapi.ai/calls/call-features), which gets no API key,
        is used only over https on a host of Vapi, and appears in no log and no error.

        :param call_id: the call's id
        :raises VapiConfigurationError: when the id or the connection is unusable; nothing is sent then
        :raises VapiCallNotFoundError: when there is no such call
        :raises VapiTransientError: for a transient failure; the call may go on
        :raises VapiPermanentError: when the live call has no usable control URL, or Vapi refuses
        :return: what was done, in a sentence
        """
        return end_call(self.client, call_id)

    def delete_call(self, call_id: str) -> None:
        """
        Erase the data of a call that is over, or cancel a scheduled one.

        https://docs.vapi.ai/api-reference/calls/delete; what it does to a live call is not documented. When the
        response is lost, the call is read: only one that had ended before is deleted once more.

        :param call_id: the call's id
        :raises VapiConfigurationError: when the id or the connection is unusable; nothing is sent then
        :raises VapiCallNotFoundError: when there is no such call
        :raises VapiTransientError: for a transient failure; also when a scheduled call was cancelled while the response
            was lost, so that deleting it again would erase it
        :raises VapiPermanentError: when Vapi refuses
        """
        self.client.erase_call(call_id)

    def download_artifact(
        self, call_id: str, kind: str, file: IO[bytes], *, max_bytes: int = MAX_BYTES
    ) -> ArtifactInfo:
        """
        Download a recording, the video, the packet capture or the log of a call.

        https://docs.vapi.ai/api-reference/calls/mono-recording. Vapi redirects to a signed URL on another host, which is
        requested without the key, appears in no log and no error, and must be https on a public address. After a
        transient failure the download begins anew; it may take any time, as long as 64 KiB arrive in 30 seconds.

        :param call_id: the call's id
        :param kind: mono, stereo, customer, assistant, video, pcap or call-logs
        :param file: the binary file to write to, from its position on; what is behind that is removed
        :param max_bytes: the most bytes to write; 1 GiB by default
        :raises VapiConfigurationError: when an argument or the connection is unusable; nothing is sent then
        :raises VapiCallNotFoundError: when there is no such call
        :raises VapiArtifactNotFoundError: when the call is over and has no such file
        :raises VapiArtifactExpiredError: when Vapi no longer keeps the file
        :raises VapiArtifactRefusedError: when the file is too large, or Vapi redirects to a place that is not allowed
        :raises VapiTransientError: for a transient failure that outlasted all tries; also while the call is not over, or
            ended less than 5 minutes ago
        :raises VapiPermanentError: when Vapi refuses
        :return: the content type and the size
        """
        return self.client.download_artifact(call_id, kind, file, max_bytes=max_bytes)

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

        Pages are requested as the iterator gets there, and one is held at a time. Each call is whole, so a page of 100
        can be megabytes.

        :param assistant_id: only calls of this assistant
        :param phone_number_id: only calls over this number of yours
        :param created_at_ge: only calls created at this instant or later; a datetime with a time zone, or ISO 8601
        :param created_at_lt: only calls created before this instant
        :param updated_at_ge: only calls changed at this instant or later
        :param updated_at_lt: only calls changed before this instant
        :param page_size: how many calls to request at once, 1 to 1000
        :raises VapiConfigurationError: when an argument or the connection is unusable; nothing is sent then
        :raises VapiTransientError: for a transient failure, and for a list that cannot be paged without gaps
        :raises VapiPermanentError: when Vapi refuses
        :return: an iterator over the calls
        """
        filters = {
            "assistantId": check_filter_id(assistant_id, parameter="assistant_id"),
            "phoneNumberId": check_filter_id(phone_number_id, parameter="phone_number_id"),
            "createdAtGe": check_instant(created_at_ge, parameter="created_at_ge"),
            "createdAtLt": check_instant(created_at_lt, parameter="created_at_lt"),
            "updatedAtGe": check_instant(updated_at_ge, parameter="updated_at_ge"),
            "updatedAtLt": check_instant(updated_at_lt, parameter="updated_at_lt"),
        }
        return self.client.list_calls(filters, check_page_size(page_size))

    def test_connection(self) -> tuple[bool, str]:
        """
        Try the connection with one read of at most one call, for Airflow's Test button.

        :return: whether it works, and a sentence that says so or what is wrong
        """
        try:
            # Airflow makes up an id for a connection under test, which no message should show.
            settings = dataclasses.replace(self.client.settings, label="this connection", max_retries=0)
            VapiClient(settings, self.log).list_page({"limit": 1})
        except VapiError as error:
            return False, str(error).replace(f"Connection {self.vapi_conn_id!r}:", "This connection:")
        return True, f"{self.base_url} accepts the API key."
