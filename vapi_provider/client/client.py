# SPDX-License-Identifier: Apache-2.0
"""The client of Vapi's API: one method per request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from vapi_provider.client.arguments import check_call_id, check_endpoint, check_name
from vapi_provider.client.artifact import (
    MAX_BYTES,
    ArtifactDownload,
    ArtifactInfo,
    artifact_path,
    check_file,
    check_max_bytes,
    missing_artifact,
)
from vapi_provider.client.pagination import newest_first
from vapi_provider.client.responses import ApiRequest
from vapi_provider.client.transport import VapiTransport
from vapi_provider.exceptions import (
    VapiCallInDoubtError,
    VapiCallNotFoundError,
    VapiError,
    VapiPermanentError,
    VapiTransientError,
)
from vapi_provider.models.call import Call, CallPage, CallStatusView, PlacedCallView, ViewT
from vapi_provider.models.outcome import CallOutcome

if TYPE_CHECKING:
    import requests

    from vapi_provider.client.responses import ApiResponse
    from vapi_provider.connection import VapiSettings

T = TypeVar("T")

_JSON_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


class VapiClient:
    """
    Sends requests to Vapi's API and returns parsed calls.

    It does not use Airflow, so it works in any thread. After a transient failure, a request that is safe to repeat is
    sent again for up to 75 seconds. An unexpected response raises a :class:`~vapi_provider.exceptions.VapiError`.
    """

    def __init__(self, settings: VapiSettings, log: Any) -> None:
        self.settings = settings
        self.log = log
        self._transport = VapiTransport(settings, log)

    @property
    def session(self) -> requests.Session:
        """The session with the key, opened on first use."""
        return self._transport.session

    def close(self) -> None:
        """Close the connections to Vapi; the next request opens them again."""
        self._transport.close()

    def get_call(self, call_id: str) -> Call:
        """Read a call; see :meth:`~vapi_provider.hooks.vapi.VapiHook.get_call`."""
        checked_id = check_call_id(call_id)
        return _call(self._transport.send(ApiRequest("GET", f"/call/{checked_id}")), checked_id)

    def get_status(self, call_id: str) -> CallStatusView:
        """Read the status of a call; much cheaper than the whole call."""
        checked_id = check_call_id(call_id)
        response = self._send_for_views(f"/call/{checked_id}")
        view = _parse_bytes(_STATUS_VIEW, response.body)
        if view is None:
            view = _parse(response, response.json, CallStatusView)
        view._responded_at = response.responded_at
        return _same_call(response, view, checked_id)

    def update_call(self, call_id: str, *, name: str) -> Call:
        """Set the name of a call; see :meth:`~vapi_provider.hooks.vapi.VapiHook.update_call`."""
        checked_id = check_call_id(call_id)
        body = {"name": check_name(name, call_id=checked_id)}
        return _call(self._transport.send(ApiRequest("PATCH", f"/call/{checked_id}", json=body)), checked_id)

    def create_call(self, request: Mapping[str, Any]) -> Call:
        """Place a call; see :meth:`~vapi_provider.hooks.vapi.VapiHook.create_call`."""
        failure: VapiError
        try:
            return _call(self._transport.send_once(ApiRequest("POST", "/call", json=request)))
        except VapiError as error:
            failure = error
        raise failure if failure.had_no_effect else _in_doubt(failure)

    def delete_call(self, call_id: str) -> None:
        """
        Send one DELETE: it cancels a scheduled call, and erases the data of an ended one.

        :raises VapiTransientError: if the response was lost, so the call may or may not be deleted
        """
        # An empty body deletes the call in the path; a list of ids would delete others.
        checked_id = check_call_id(call_id)
        _call(self._transport.send_once(ApiRequest("DELETE", f"/call/{checked_id}", json={})), checked_id)

    def erase_call(self, call_id: str) -> None:
        """Erase a call; see :meth:`~vapi_provider.hooks.vapi.VapiHook.delete_call`."""
        try:
            return self.delete_call(call_id)
        except VapiTransientError as error:
            if error.had_no_effect:
                raise
            lost = error
        try:
            call = self.get_call(call_id)
        except VapiCallNotFoundError:
            return None
        if not call.is_terminal:
            raise lost
        if call.outcome in (CallOutcome.CANCELLED, CallOutcome.UNKNOWN) or not call.has_ended:
            text = f"This request may have cancelled call {call.id} without erasing it; delete it again to erase its data."
            raise VapiTransientError(text, method="DELETE", path=lost.path)
        # The call took place, so it was not cancelled, and another DELETE can only erase it.
        with suppress(VapiCallNotFoundError):
            self.delete_call(call_id)
        return None

    def download_artifact(
        self, call_id: str, kind: str, file: IO[bytes], *, max_bytes: int = MAX_BYTES
    ) -> ArtifactInfo:
        """Download a recording; see :meth:`~vapi_provider.hooks.vapi.VapiHook.download_artifact`."""
        path = artifact_path(check_call_id(call_id), kind)
        check_file(file)
        download = ArtifactDownload(self._transport, self.settings, path, file, check_max_bytes(max_bytes))
        try:
            return self._transport.repeat(download.run)
        except VapiCallNotFoundError:
            # Either the call does not exist, or the file.
            pass
        raise missing_artifact(self.get_call(call_id), path)

    def list_calls(self, filters: Mapping[str, str | None], page_size: int) -> Iterator[Call]:
        """List calls, newest first; filters are checked and have the API's names, and None means no filter."""
        given = {name: value for name, value in filters.items() if value is not None}
        return newest_first(lambda page: self.list_page({**given, **page}), page_size, is_exhaustive=True)

    def list_page(self, params: Mapping[str, Any]) -> list[Call]:
        """Read one page of the list (https://docs.vapi.ai/api-reference/calls/list)."""
        response = self._transport.send(ApiRequest("GET", "/call", params=params))
        return [_parse(response, row, Call) for row in _rows(response)]

    def list_statuses(self, params: Mapping[str, Any]) -> CallPage[CallStatusView]:
        """Read the statuses on one page of the list."""
        return self._page(params, _STATUS_VIEWS)

    def list_placed(self, params: Mapping[str, Any]) -> CallPage[PlacedCallView]:
        """Read one page of the list, with the part of each call that identifies the task that placed it."""
        return self._page(params, _PLACED_VIEWS)

    def run(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, json: Any = None
    ) -> Any:
        """Send a request to any other endpoint; see :meth:`~vapi_provider.hooks.vapi.VapiHook.run`."""
        verb = check_endpoint(method, path, params, json)
        send = self._transport.send if verb == "GET" else self._transport.send_once
        failure: VapiError
        try:
            response = send(ApiRequest(verb, path, params, json, may_be_empty=True))
        except VapiTransientError as error:
            failure = error
        else:
            return None if response.is_empty else response.json
        if verb == "GET" or failure.had_no_effect:
            raise failure
        raise VapiPermanentError(
            f"{failure} The request may have taken effect; check before you send it again.",
            status_code=failure.status_code,
            method=verb,
            path=path,
            detail=failure.detail,
        )

    def _send_for_views(self, path: str, params: Mapping[str, Any] | None = None) -> ApiResponse:
        # pydantic parses views from bytes; parsing the JSON only serves to retry a response that is not JSON.
        return self._transport.send(ApiRequest("GET", path, params, parses=self.settings.max_retries > 0))

    def _page(self, params: Mapping[str, Any], views: TypeAdapter[list[ViewT]]) -> CallPage[ViewT]:
        response = self._send_for_views("/call", params)
        rows = _parse_bytes(views, response.body)
        length = len(rows or ())
        if rows is None:
            # One invalid row must not hide the others.
            listed = _rows(response)
            rows, length = _parsable(listed, views), len(listed)
        responded_at = response.responded_at
        for row in rows:
            row._responded_at = responded_at
        return CallPage(rows, length, len(response.body), responded_at)


_STATUS_VIEW = TypeAdapter(CallStatusView)
_STATUS_VIEWS = TypeAdapter(list[CallStatusView])
_PLACED_VIEWS = TypeAdapter(list[PlacedCallView])


def _parse_bytes(views: TypeAdapter[T], body: bytes) -> T | None:
    """Parse JSON fast; None if pydantic rejects it, as it does lone surrogates and other encodings."""
    try:
        return views.validate_json(body)
    except ValidationError:
        return None


def _call(response: ApiResponse, call_id: str | None = None) -> Call:
    """Return the call in a response, which must have the given id."""
    call = _parse(response, response.json, Call)
    return call if call_id is None else _same_call(response, call, call_id)


def _same_call(response: ApiResponse, view: ViewT, call_id: str) -> ViewT:
    if view.id.strip().lower() != call_id:
        raise response.unreadable("another call")
    return view


def _parse(response: ApiResponse, body: Any, kind: type[ViewT]) -> ViewT:
    if not isinstance(body, dict):
        raise response.unreadable(f"{_JSON_NAMES[type(body)]} in place of a call")
    try:
        call = kind.model_validate(body)
    except ValidationError:
        call = None
    if call is None or not call.id.strip():
        # Outside the handler: the handled error contains the body.
        raise response.unreadable("a call without an id")
    call._responded_at = response.responded_at
    return call


def _rows(response: ApiResponse) -> list[Any]:
    body = response.json
    if not isinstance(body, list):
        raise response.unreadable(f"{_JSON_NAMES[type(body)]} in place of a list of calls")
    return body


def _parsable(listed: list[Any], views: TypeAdapter[list[ViewT]]) -> list[ViewT]:
    rows: list[ViewT] = []
    for row in listed:
        with suppress(ValidationError):
            rows += views.validate_python([row])
    return rows


def _in_doubt(error: VapiError) -> VapiCallInDoubtError:
    in_doubt = VapiCallInDoubtError(
        f"{error} A call may have been placed: before you try again, look for it in Vapi's dashboard.",
        status_code=error.status_code,
        method=error.method,
        path=error.path,
        detail=error.detail,
    )
    in_doubt.failure = error
    return in_doubt
