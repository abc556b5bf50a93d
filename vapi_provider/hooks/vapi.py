# SPDX-License-Identifier: Apache-2.0
"""The hook: Airflow's connection to Vapi."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from vapi_provider.client.arguments import (
    check_filter_id,
    check_instant,
    check_page_size,
    check_request,
    show_kind,
)
from vapi_provider.client.artifact import MAX_BYTES, ArtifactInfo
from vapi_provider.client.client import VapiClient
from vapi_provider.client.hang_up import end_call
from vapi_provider.connection import (
    CONN_TYPE,
    HOOK_NAME,
    UI_FIELD_BEHAVIOUR,
    missing_connection,
    read_settings,
)
from vapi_provider.exceptions import VapiConfigurationError, VapiError, VapiTransientError
from vapi_provider.hooks.form import form_widgets

if TYPE_CHECKING:
    import requests

    from airflow.providers.common.compat.sdk import Connection
    from vapi_provider.models.call import Call


_looked_up: dict[str, Connection] = {}
"""The connections that tasks in this process have looked up."""


def remembered_connection(conn_id: str) -> Connection | None:
    """
    Return a connection as this process last looked it up.

    Triggers use it in ``dag.test()``, where they run in the task's process. A triggerer runs no tasks, so it has none.
    """
    return _looked_up.get(conn_id)


class VapiHook(BaseHook):
    """
    Connect to Vapi's call API (https://docs.vapi.ai/api-reference/calls/list).

    In a connection of type ``vapi``, ``password`` is the private API key and ``host`` is the API's base URL or host name,
    empty for https://api.vapi.ai. ``extra`` may contain ``timeout`` (the time limit of one request, 30 seconds by
    default), ``max_retries`` (4 by default) and ``artifact_hosts`` (private hosts that recordings may come from; none by
    default). The hook looks the connection up once, on first use and never when a DAG is parsed.

    After a transient failure, a request that is safe to repeat is sent again for up to 75 seconds. An unexpected response
    raises a :class:`~vapi_provider.exceptions.VapiError`, whose class says whether a later try may succeed.

    :param vapi_conn_id: the id of the connection
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
        Return how the connection form of Airflow 3.0 and 3.1 shows the standard fields.

        :return: hidden fields, labels and placeholders
        """
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """
        Return the fields that the connection form of Airflow 3.0 and 3.1 adds for the extra.

        :return: a wtforms field by name; empty where wtforms is not installed
        """
        return form_widgets()

    @cached_property
    def client(self) -> VapiClient:
        """The client; the connection is looked up on first use."""
        conn_id = self.vapi_conn_id
        if not isinstance(conn_id, str) or not conn_id.strip():
            raise VapiConfigurationError(
                f"vapi_conn_id must be the id of a connection; got {show_kind(conn_id)}. Nothing was sent."
            )
        return VapiClient(read_settings(self._look_up(conn_id), conn_id), self.log)

    def _look_up(self, conn_id: str) -> Connection:
        problem = None
        try:
            conn = self.get_connection(conn_id)
        except AirflowNotFoundException:
            conn = None
        except Exception as error:
            # The message may contain secrets, so show only the type.
            problem = type(error).__name__
        # Outside the handlers: a cause would be logged with its message.
        if problem is not None:
            raise VapiTransientError(
                f"Airflow could not read connection {conn_id!r} ({problem}). The request was not sent."
            )
        if conn is None:
            _looked_up.pop(conn_id, None)
            raise missing_connection(conn_id)
        _looked_up[conn_id] = conn
        return conn

    @property
    def base_url(self) -> str:
        """The API's base URL, without a trailing slash."""
        return self.client.settings.base_url

    def dashboard_url(self, call_id: str) -> str:
        """
        Return the URL of a call in the Vapi dashboard, or in the simulator.

        :param call_id: the id of the call, checked
        :return: the URL; opening it requires access to the organization
        """
        return self.client.settings.dashboard_url(call_id)

    def get_conn(self) -> requests.Session:
        """
        Return the session that the hook sends requests with.

        It adds the API key, to requests to the API only, and applies the connection's time limit. It does not retry and
        does not check responses; use :meth:`run` for both.

        :raises VapiConfigurationError: if the connection is missing or invalid
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
        Send a request to any other endpoint, such as ``hook.run("GET", "/assistant")``.

        The key, the time limit and the errors are those of the other methods. Only GET is retried after a transient
        failure.

        :param method: GET, POST, PATCH, PUT or DELETE
        :param path: the path below the base URL, without a host, ``..`` or a query
        :param params: the query parameters
        :param json: the body
        :raises VapiConfigurationError: if an argument or the connection is invalid, and for ``POST /call``, which
            :meth:`create_call` sends; no request is sent
        :raises VapiTransientError: for a transient failure; a request other than GET had no effect
        :raises VapiPermanentError: if Vapi refuses, or if a request other than GET may have taken effect
        :return: the parsed JSON; None for an empty response
        """
        return self.client.run(method, path, params=params, json=json)

    def get_call(self, call_id: str) -> Call:
        """
        Read a call (https://docs.vapi.ai/api-reference/calls/get).

        :param call_id: the id of the call
        :raises VapiConfigurationError: if the id or the connection is invalid; no request is sent
        :raises VapiCallNotFoundError: if the call does not exist
        :raises VapiTransientError: for a transient failure that outlasted all retries
        :raises VapiPermanentError: if Vapi refuses
        :return: the call
        """
        return self.client.get_call(call_id)

    def update_call(self, call_id: str, *, name: str) -> Call:
        """
        Set the name of a call (https://docs.vapi.ai/api-reference/calls/update).

        :param call_id: the id of the call
        :param name: the new name, 1 to 40 characters
        :raises VapiConfigurationError: if the id, name or connection is invalid; no request is sent
        :raises VapiCallNotFoundError: if the call does not exist
        :raises VapiTransientError: for a transient failure that outlasted all retries; the name may have been set
        :raises VapiPermanentError: if Vapi refuses
        :return: the call after the change
        """
        return self.client.update_call(call_id, name=name)

    def create_call(self, request: Mapping[str, Any]) -> Call:
        """
        Place a call (https://docs.vapi.ai/api-reference/calls/create).

        The request is sent once: Vapi has no idempotency key, so a retry after a lost response could dial the callee
        twice. :class:`~vapi_provider.operators.call.VapiCreateCallOperator` finds the call instead.

        :param request: the body, with the API's field names, for one customer
        :raises VapiConfigurationError: if the request or the connection is invalid; no request is sent
        :raises VapiConcurrencyLimitError: if the organization is over its concurrency limit; no call was placed
        :raises VapiCallInDoubtError: if the call may or may not have been placed
        :raises VapiTransientError: for a transient failure; no call was placed
        :raises VapiPermanentError: if Vapi refuses; no call was placed
        :return: the call
        """
        return self.client.create_call(check_request(request))

    def end_call(self, call_id: str) -> str:
        """
        End a call: hang up a live one, cancel a scheduled one, leave an ended one.

        A live call is ended through its control URL (https://docs.vapi.ai/calls/call-features). That URL never receives
        the API key, must be https on one of Vapi's hosts, and never appears in logs or errors.

        :param call_id: the id of the call
        :raises VapiConfigurationError: if the id or the connection is invalid; no request is sent
        :raises VapiCallNotFoundError: if the call does not exist
        :raises VapiTransientError: for a transient failure; the call may go on
        :raises VapiPermanentError: if the live call has no usable control URL, or Vapi refuses
        :return: a sentence that says what was done
        """
        return end_call(self.client, call_id)

    def delete_call(self, call_id: str) -> None:
        """
        Erase the data of an ended call, or cancel a scheduled call.

        See https://docs.vapi.ai/api-reference/calls/delete; the effect on a live call is undocumented. If the response is
        lost, the call is read, and deleted again only if it had ended before.

        :param call_id: the id of the call
        :raises VapiConfigurationError: if the id or the connection is invalid; no request is sent
        :raises VapiCallNotFoundError: if the call does not exist
        :raises VapiTransientError: for a transient failure, and if a scheduled call was cancelled but the response was
            lost, because deleting it again would erase it
        :raises VapiPermanentError: if Vapi refuses
        """
        self.client.erase_call(call_id)

    def download_artifact(
        self, call_id: str, kind: str, file: IO[bytes], *, max_bytes: int = MAX_BYTES
    ) -> ArtifactInfo:
        """
        Download a recording, or the video, packet capture or log of a call.

        See https://docs.vapi.ai/api-reference/calls/mono-recording. Vapi redirects to a signed URL on another host. It is
        requested without the key, must be https on a public address, and never appears in logs or errors. After a
        transient failure the download starts over. There is no overall time limit, but 64 KiB must arrive every 30 seconds.

        :param call_id: the id of the call
        :param kind: mono, stereo, customer, assistant, video, pcap or call-logs
        :param file: a binary file; it is written from its current position on and truncated after the last byte
        :param max_bytes: the size limit in bytes; 1 GiB by default
        :raises VapiConfigurationError: if an argument or the connection is invalid; no request is sent
        :raises VapiCallNotFoundError: if the call does not exist
        :raises VapiArtifactNotFoundError: if the call is over and has no such file
        :raises VapiArtifactExpiredError: if the file is past its retention
        :raises VapiArtifactRefusedError: if the file is too large, or Vapi redirects to a forbidden address
        :raises VapiTransientError: for a transient failure that outlasted all retries, and if the file is missing while
            the call is live or ended less than 5 minutes ago
        :raises VapiPermanentError: if Vapi refuses
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

        Pages are requested as you iterate, and one page is in memory at a time. A page of 100 calls can be megabytes.

        :param assistant_id: only calls of this assistant
        :param phone_number_id: only calls over your phone number with this id
        :param created_at_ge: only calls created at or after this time; a datetime with a time zone, or ISO 8601
        :param created_at_lt: only calls created before this time
        :param updated_at_ge: only calls updated at or after this time
        :param updated_at_lt: only calls updated before this time
        :param page_size: the number of calls per page, 1 to 1000; 100 by default
        :raises VapiConfigurationError: if an argument or the connection is invalid; no request is sent
        :raises VapiTransientError: for a transient failure, and if the list cannot be paged without gaps
        :raises VapiPermanentError: if Vapi refuses
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
        Test the connection by listing at most one call.

        :return: whether it works, and a message for Airflow's Test button
        """
        try:
            # Airflow gives a connection under test a random id, which means nothing to the user.
            settings = dataclasses.replace(self.client.settings, label="this connection", max_retries=0)
            VapiClient(settings, self.log).list_page({"limit": 1})
        except VapiError as error:
            return False, str(error).replace(f"Connection {self.vapi_conn_id!r}:", "This connection:")
        return True, f"{self.base_url} accepts the API key."
