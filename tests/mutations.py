# SPDX-License-Identifier: Apache-2.0
"""
Mutations of the package, one per promise, and the tests that must catch each.

``make mutations`` applies every mutation in a separate process, runs the tests that it names with ``-x``, and fails if
one survives. To run one by hand::

    python -m tests.mutations post_is_repeated
    python -m pytest -p tests.mutations --break post_is_repeated tests/unit/client/test_sending_once.py

A mutation that only ``make test-deep`` catches is marked ``is_deep`` and runs the tests at that depth.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import importlib
import ipaddress
import itertools
import json
import math
import os
import pkgutil
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[1]
_LONGEST_SECONDS = 600
"""The time limit for the tests of one mutation."""


@dataclass(frozen=True)
class Break:
    """
    A mutation that breaks one promise.

    :param target: the object to replace, as ``module:name`` or ``module:Class.name`` below ``vapi_provider``
    :param replace: returns the replacement of the original
    :param tests: the files below ``tests/`` that must catch it
    :param is_deep: whether only the deep suite catches it
    """

    target: str
    replace: Callable[[Any], Any]
    tests: tuple[str, ...]
    is_deep: bool = False


def always(value: Any) -> Callable[[Any], Any]:
    """Replace a function with one that returns a constant."""
    return lambda _original: lambda *_args, **_kwargs: value


def _until_it_ends(pieces: Iterator[bytes]) -> Iterator[bytes]:
    with suppress(EOFError):
        yield from pieces


def constant(value: Any) -> Callable[[Any], Any]:
    """Replace a constant."""
    return lambda _original: value


def prop(value: Any) -> Callable[[Any], Any]:
    """Replace a property with one that has a constant value."""
    return lambda _original: property(lambda _self: value)


def first_argument(_original: Any) -> Any:
    """Replace a function or method with one that returns its first argument."""
    return lambda *args, **_kwargs: args[-1]


def of_requests(name: str) -> Callable[[Any], Any]:
    """Replace a method of our session with that of a plain requests session."""
    return lambda _original: getattr(requests.Session, name)


def without_deadline(_original: Any) -> Any:
    """Replace our adapter with that of requests, whose limit applies between two bytes."""
    return requests.adapters.HTTPAdapter


def outcome_of_reason(call: Any) -> Any:
    """Return the outcome of a reason, whatever the status."""
    from vapi_provider.models.outcome import outcome_of

    return outcome_of(call.ended_reason)


def judge_and_begin_poll(original: Any) -> Any:
    """Compare results with those of the same poll instead of the previous one."""

    def judge(self: Any, view: Any) -> None:
        original(self, view)
        self.begin_poll()

    return judge


def keep_deadlines(original: Any) -> Any:
    """Keep the deadlines of waits that have ended."""

    def remove(self: Any) -> None:
        heap = self._heap
        original(self)
        self._heap = heap

    return remove


def set_timer_for_each_wait(original: Any) -> Any:
    """Set a timer for each wait."""

    def add(self: Any, *args: Any) -> None:
        original(self, *args)
        self._loop.call_later(30.0, self._set_alarm)

    return add


def never_repeatable(kind: Any) -> Any:
    """Replace an exception with one after which no request is repeated."""

    class NeverRepeatable(kind):  # type: ignore[misc]
        is_repeatable = property(lambda _self: False, lambda _self, _value: None)

    NeverRepeatable.__name__ = kind.__name__
    return NeverRepeatable


def refuse_misuse_always(original: Any) -> Any:
    """Refuse misuse in the constructor of a notifier, also with a context."""

    def construct(self: Any, **arguments: Any) -> None:
        original(self, **arguments)
        self._refuse_misuse()

    return construct


def read_up_to_the_mark(original: Any, feed: Any, since: Any) -> None:
    """Read a feed from an instant on as if no walk were in progress."""
    walk, feed._walk = feed._walk, None
    original(feed, since)
    feed._walk = walk


def access_in_the_trigger(_original: Any) -> Any:
    """Access the store of an asset without a task of its own."""

    async def call(self: Any, name: str, *args: Any) -> Any:
        return await self._access(name, *args)

    return call


def push_link(_original: Any) -> Any:
    """Push the link like any other XCom."""
    return lambda self, context, url: context["ti"].xcom_push(self.xcom_key, url)


def hang_up_and_say_nothing(original: Any) -> Any:
    """End the call after a timeout without mentioning it in the exception."""

    def hang_up(self: Any) -> None:
        original(self)
        self.fate = ""

    return hang_up


def a_millisecond_earlier(_original: Any) -> Any:
    """Continue a list one millisecond too early."""
    return lambda instant: instant - timedelta(milliseconds=1)


def not_exhaustively(original: Any) -> Any:
    """Read a list without the request that verifies its end."""
    return lambda read_page, page_size, **_: original(read_page, page_size)


def send_delete_repeatedly(original: Any) -> Any:
    """Send a DELETE like a request that may be repeated."""

    def delete_call(self: Any, call_id: str) -> None:
        transport = SimpleNamespace(send_once=self._transport.send)
        original(SimpleNamespace(_transport=transport), call_id)

    return delete_call


def send_delete_twice(_original: Any) -> Any:
    """Delete a call again that the first DELETE, whose response was lost, may only have cancelled."""

    def erase_call(self: Any, call_id: str) -> None:
        from vapi_provider.exceptions import VapiCallNotFoundError, VapiTransientError

        try:
            return self.delete_call(call_id)
        except VapiTransientError as error:
            if error.had_no_effect:
                raise
        with suppress(VapiCallNotFoundError):
            self.get_call(call_id)
            self.delete_call(call_id)

    return erase_call


def add_a_key(_original: Any) -> Any:
    """Replace the authentication that adds nothing with one that adds a key."""

    def __call__(self: Any, request: Any) -> Any:
        request.headers["Authorization"] = "Bearer x"
        return request

    return __call__


def accept_unknown_fields(original: Any) -> Any:
    """Accept unknown extra fields of a connection, but refuse any other mistake."""

    def _extra(self: Any) -> Any:
        from vapi_provider.exceptions import VapiConfigurationError

        try:
            return original(self)
        except VapiConfigurationError as error:
            if "unknown fields" not in str(error):
                raise
            return json.loads(self.conn.extra)

    return _extra


def read_any_event_as_the_end(original: Any) -> Any:
    """Treat any event of a triggerer as the report of an end."""
    return lambda _event, call_id: original({"status": "done", "call_id": call_id}, call_id)


def do_nothing_in_the_loop(_original: Any) -> Any:
    """Replace a coroutine with one that does nothing."""

    async def nothing(*_args: Any) -> None:
        await asyncio.sleep(0)

    return nothing


def render_as_airflow_does(_original: Any) -> Any:
    """Render a notifier's fields as Airflow's own notifiers do."""
    from airflow.providers.common.compat.sdk import BaseNotifier

    return BaseNotifier._render


def raise_it(_notifier: Any, error: Exception) -> None:
    """Raise an error that was to be logged."""
    raise error


def forget_what_the_wait_began_with(original: Any) -> Any:
    """Resume a wait with the values that its templates render now."""

    def load(self: Any, context: Any) -> Any:
        return dataclasses.replace(original(self, context), call_id=None, vapi_conn_id=None)

    return load


def read_the_state_again(original: Any) -> Any:
    """Read what the previous process has saved once more."""

    def resume(self: Any, context: Any, event: Any = None) -> Any:
        self._saved = self._load_state(context)
        return original(self, context, event)

    return resume


def count_attempts_by_tries(original: Any) -> Any:
    """Take the number of the try for that of the attempt."""

    def begin(self: Any, resumed: Any) -> Any:
        return dataclasses.replace(original(self, resumed), attempt=self._try_number)

    return begin


def record_every_end_as_not_reached(original: Any) -> Any:
    """Record that another attempt may follow, whatever the end of the task."""

    def record_end(self: Any, context: Any, _state: Any) -> None:
        from vapi_provider.placing.decision import Recorded

        original(self, context, Recorded.NOT_REACHED)

    return record_end


def record_ends_with_redial_on_only(original: Any) -> Any:
    """Record the end of a task only if it may call again."""

    def record_end(self: Any, context: Any, state: Any) -> None:
        if self.redial_on:
            original(self, context, state)

    return record_end


def check_hours_once(original: Any) -> Any:
    """Check a request against the calling hours once, and not again right before it is sent."""
    checked: set[int] = set()

    def timed(self: Any, now: float) -> Any:
        if id(self) in checked:
            return self
        checked.add(id(self))
        return original(self, now)

    return timed


def forget_the_wait_for_a_line(original: Any) -> Any:
    """Let the wait for a free line begin with each process of the task."""

    def load(self: Any) -> Any:
        state = original(self)
        self._limit_since = None
        return state

    return load


def _with_time_stamp(file: Any, location: Any) -> Any:
    if not location.is_compressed:
        yield file
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=file) as compressed:
        yield compressed


def _with_key_everywhere(session: Any, settings: Any) -> Any:
    session.auth = None
    session.headers["Authorization"] = f"Bearer {settings.api_key}"
    return session


BREAKS: dict[str, Break] = {}

BREAKS.update(
    {
        "get_is_not_repeated": Break(
            "client.transport:may_repeat", always(False), ("unit/client/test_retries.py",)
        ),
        "long_retry_after_is_sat_out": Break(
            "client.transport:MAX_RETRY_AFTER_SECONDS", constant(math.inf), ("unit/client/test_retries.py",)
        ),
        "retry_after_is_ignored": Break(
            "client.responses:ApiResponse.retry_after",
            prop(None),
            ("unit/client/test_retries.py", "unit/client/test_responses.py"),
        ),
        "tries_go_on_for_ever": Break(
            "client.transport:ALL_TRIES_SECONDS", constant(math.inf), ("unit/client/test_retries.py",)
        ),
        "backoff_has_no_jitter": Break(
            "client.transport:pause_after", always(1.0), ("unit/client/test_retries.py",)
        ),
        "unparsable_body_is_not_repeated": Break(
            "client.responses:UnreadableResponseError",
            never_repeatable,
            ("unit/client/test_retries.py", "unit/client/test_responses.py"),
        ),
        "post_is_repeated": Break(
            "client.transport:VapiTransport.send_once",
            lambda original: (
                lambda self, request, *args: original(self, request, *args) if args else self.send(request)
            ),
            ("unit/client/test_sending_once.py",),
        ),
        "lost_response_is_no_doubt": Break(
            "client.client:_in_doubt",
            lambda _original: lambda error: error,
            ("unit/client/test_sending_once.py",),
        ),
        "json_400_is_doubt": Break(
            "client.responses:ApiResponse.is_refusal",
            lambda original: property(lambda self: original.fget(self) and self.is_in_vapis_shape),
            ("unit/client/test_sending_once.py",),
        ),
        "refusal_counts_as_effect": Break(
            "client.responses:ApiResponse.is_refusal", prop(False), ("unit/client/test_sending_once.py",)
        ),
        "over_limit_is_not_recognised": Break(
            "client.responses:ApiResponse._is_over_limit",
            prop(False),
            ("unit/client/test_sending_once.py", "unit/placing/test_create_call_limit.py"),
        ),
        "proxy_pages_are_vapis": Break(
            "client.responses:ApiResponse.is_in_vapis_shape", prop(True), ("unit/client/test_responses.py",)
        ),
        "another_call_is_accepted": Break(
            "client.client:_same_call",
            lambda _original: lambda response, view, call_id: view,
            ("unit/client/test_responses.py", "unit/client/test_status_views.py"),
        ),
        "key_goes_to_any_host": Break(
            "client.session:_origin", always(("https", "x", 1)), ("unit/client/test_session.py",)
        ),
        "key_is_in_errors": Break(
            "client.session:KeyMask.in_text", first_argument, ("unit/client/test_responses.py",)
        ),
        "key_is_in_parsed_values": Break(
            "client.session:KeyMask.in_json",
            lambda _original: lambda self, value, text: value,
            ("unit/client/test_responses.py",),
        ),
        "http_goes_through_proxies": Break(
            "client.session:_Session.merge_environment_settings",
            of_requests("merge_environment_settings"),
            ("unit/client/test_session.py",),
        ),
        "netrc_replaces_the_key": Break(
            "client.session:_Session.rebuild_auth",
            of_requests("rebuild_auth"),
            ("unit/client/test_session.py",),
        ),
        "user_agent_is_missing": Break(
            "client.session:USER_AGENT",
            constant(""),
            ("unit/client/test_session.py", "unit/client/test_retries.py"),
        ),
        "time_limit_starts_anew": Break(
            "client.deadline:DeadlineAdapter", without_deadline, ("unit/client/test_time_limit.py",)
        ),
        "failure_shows_no_reason": Break(
            "client.failures:_reason",
            always(("something", None)),
            ("unit/client/test_retries.py", "unit/client/test_time_limit.py"),
        ),
        "pages_do_not_overlap": Break(
            "client.pagination:later", a_millisecond_earlier, ("unit/client/test_pagination.py",)
        ),
        "unsorted_list_is_accepted": Break(
            "client.pagination:_Pager._check_order", always(None), ("unit/client/test_pagination.py",)
        ),
        "full_page_without_news_is_the_last": Break(
            "client.pagination:_Pager._widen",
            lambda _original: lambda self: setattr(self, "is_done", True),
            ("unit/client/test_pagination.py",),
        ),
        "filter_of_none_exports_all_calls": Break(
            "rendering:RendersFields.refuse_none", always(None), ("dag/test_transfers.py",)
        ),
        "export_trusts_the_workers_clock": Break(
            "transfers.export:LIST_LAG_SECONDS", constant(0.0), ("unit/transfers/test_calls_export.py",)
        ),
        "cut_gzip_is_a_file": Break(
            "client.artifact:decompressed",
            lambda original: lambda chunks: _until_it_ends(original(chunks)),
            ("unit/client/test_artifact.py",),
        ),
        "link_request_reads_any_body": Break(
            "client.artifact:_MAX_LINK_BYTES", constant(math.inf), ("unit/client/test_artifact.py",)
        ),
        "incomplete_page_ends_the_list": Break(
            "client.client:newest_first",
            not_exhaustively,
            ("unit/client/test_pagination.py",),
        ),
        "incomplete_page_ends_the_search": Break(
            "placing.search:newest_first",
            not_exhaustively,
            ("unit/placing/test_placing_faults.py",),
        ),
        "call_id_is_not_checked": Break(
            "client.arguments:_uuid",
            lambda _original: lambda text: text,
            ("unit/client/test_client_arguments.py",),
        ),
        "run_places_calls": Break(
            "client.arguments:check_endpoint",
            lambda _original: lambda method, path, params, json: method.upper(),
            ("unit/hooks",),
        ),
        "delete_is_repeated": Break(
            "client.client:VapiClient.delete_call",
            send_delete_repeatedly,
            ("unit/client/test_delete_call.py", "unit/client/test_hang_up.py"),
        ),
        "cancelled_call_is_erased": Break(
            "client.client:VapiClient.erase_call",
            send_delete_twice,
            ("unit/client/test_delete_call.py",),
        ),
        "control_url_is_trusted": Break(
            "client.hang_up:_is_trusted", always(True), ("unit/client/test_hang_up.py",)
        ),
        "control_url_gets_the_key": Break(
            "client.session:_NoAuth.__call__",
            add_a_key,
            ("unit/client/test_hang_up.py",),
        ),
        "control_url_is_logged": Break(
            "client.hang_up:hide_signed_urls", constant(nullcontext), ("unit/client/test_control_url.py",)
        ),
        "ended_call_is_hung_up": Break(
            "models.call:CallStatusView.is_terminal", prop(False), ("unit/client/test_hang_up.py",)
        ),
        "http_to_other_hosts": Break("connection:is_loopback", always(True), ("unit/test_connection.py",)),
        "unknown_extras_are_ignored": Break(
            "connection:_ConnectionParser._extra",
            accept_unknown_fields,
            ("unit/test_connection.py",),
        ),
        "bounds_of_the_form_do_not_count": Break(
            "connection:_ConnectionParser.number",
            lambda original: lambda self, name, default: float(self.extra.get(name) or default),
            ("unit/test_connection.py",),
        ),
        "port_is_ignored": Break(
            "connection:_ConnectionParser._port",
            lambda original: lambda self: 1,
            ("unit/test_connection.py",),
        ),
        "dashboard_is_always_american": Break(
            "connection:VapiSettings.dashboard_url",
            lambda _original: lambda self, call_id: f"https://dashboard.vapi.ai/calls/{call_id}",
            ("unit/hooks",),
        ),
        "connection_is_looked_up_again": Break(
            "hooks.vapi:VapiHook.client",
            lambda original: property(original.func),
            ("unit/test_connections_per_task.py",),
        ),
        "unknown_status_never_ends": Break(
            "models.call:CallStatusView.is_terminal",
            lambda original: property(
                lambda self: self._status() in ("ended", "not-found", "deletion-failed")
            ),
            ("unit/models",),
        ),
        "erased_call_has_ended": Break(
            "models.call:CallStatusView.has_ended",
            lambda original: property(lambda self: self.is_terminal),
            ("unit/models",),
        ),
        "erased_call_has_an_outcome": Break(
            "models.call:CallStatusView.outcome",
            lambda original: property(lambda self: outcome_of_reason(self) if self.is_terminal else None),
            ("unit/models/test_outcome.py",),
        ),
        "outputs_of_one_name_are_lost": Break(
            "models.summary:_unused_name",
            lambda original: lambda name, output_id, _used: original(name, output_id, {}),
            ("unit/models/test_call.py",),
        ),
        "voicemail_is_a_conversation": Break(
            "models.outcome:_RULES",
            lambda original: tuple(sorted(original, key=lambda rule: rule[0] != "completed")),
            ("unit/models/test_outcome.py",),
        ),
        "prompts_are_in_messages": Break(
            "models.summary:_INCLUDES",
            lambda original: {**original, "messages": lambda call: call.messages},
            ("unit/models/test_call.py",),
        ),
        "control_characters_stay": Break(
            "models.cleaning:clean_json",
            lambda _original: lambda value, depth=0: value,
            ("unit/models/test_call.py",),
        ),
        "numbers_need_not_be_finite": Break(
            "models.cleaning:finite_number",
            lambda _original: lambda value: value,
            ("unit/models/test_call.py",),
        ),
        "repr_shows_content": Break(
            "models.call:CallStatusView.__repr_args__",
            lambda _original: lambda self: list(self.__dict__.items()),
            ("unit/models/test_call.py",),
        ),
        "include_is_not_checked": Break(
            "models.summary:_checked_names",
            lambda _original: lambda include: tuple(include),
            ("unit/models/test_call.py",),
        ),
        "state_is_not_recorded": Break(
            "placing.attempts:PlacementStore.write",
            always(None),
            ("unit/placing/test_placing_mutations.py", "unit/placing/test_placing_faults.py"),
        ),
        "state_is_not_read": Break(
            "placing.attempts:PlacementStore.read",
            lambda _original: lambda self, blank: blank,
            ("unit/placing/test_placing_faults.py",),
        ),
        "search_finds_nothing": Break(
            "placing.search:carried_token", always(None), ("unit/placing/test_placing_faults.py",)
        ),
        "search_is_trusted_at_once": Break(
            "placing.search:CallSearch.settles_at", always(0.0), ("unit/placing/test_placing_faults.py",)
        ),
        "stop_flag_is_ignored": Break(
            "placing.placement:CallPlacement._check_stop",
            always(None),
            ("unit/placing/test_placing_faults.py", "unit/placing/test_create_call_ending.py"),
        ),
        "old_search_is_fresh": Break(
            "placing.placement:FRESH_SECONDS", constant(math.inf), ("unit/placing/test_placing_faults.py",)
        ),
        "refusal_is_not_recorded": Break(
            "placing.placement:CallPlacement._record_unsent",
            always(None),
            ("unit/placing/test_placing_faults.py",),
        ),
        "id_is_published_after_the_read": Break(
            "placing.mixin:PlacesCall._publish",
            always(None),
            ("unit/placing/test_placing_faults.py", "unit/placing/test_create_call_ending.py"),
        ),
        "token_depends_on_the_try": Break(
            "placing.attempts:_scope",
            lambda original: lambda context: [*original(context), str(context["ti"].try_number)],
            ("unit/placing/test_tokens.py",),
        ),
        "token_is_the_same_for_all": Break(
            "placing.attempts:make_token", always("aaaaaaaa"), ("unit/placing/test_tokens.py",)
        ),
        "attempts_share_a_token": Break(
            "placing.attempts:make_token",
            lambda original: lambda context, request, _attempt=1: original(context, request),
            ("unit/placing/test_redial.py",),
        ),
        "attempts_are_counted_by_tries": Break(
            "placing.attempts:Attempts.begin", count_attempts_by_tries, ("unit/placing/test_redial.py",)
        ),
        "end_of_an_attempt_is_not_recorded": Break(
            "placing.attempts:PlacementStore.record_end", always(None), ("unit/placing/test_redial.py",)
        ),
        "end_without_a_recorded_id_is_not_recorded": Break(
            "placing.attempts:_is_of",
            lambda _original: lambda recorded, call_id, _token: recorded.get("call_id") == call_id,
            ("unit/placing/test_redial.py",),
        ),
        "cleared_task_redials": Break(
            "placing.mixin:PlacesCall._record_end",
            record_every_end_as_not_reached,
            ("unit/placing/test_redial.py",),
        ),
        "cleared_task_redials_without_a_store": Break(
            "placing.attempts:Attempts._was_cleared", prop(False), ("unit/placing/test_redial.py",)
        ),
        "last_try_redials": Break(
            "placing.attempts:Attempts.may_follow",
            lambda _original: lambda self, state: self._redial.allows_after(state.attempt),
            ("unit/placing/test_redial.py",),
        ),
        "undialled_call_is_an_attempt": Break(
            "waiting.policy:was_never_dialled", always(False), ("unit/placing/test_redial.py",)
        ),
        "undialled_call_uses_up_the_last_attempt": Break(
            "placing.attempts:Attempts.may_follow",
            lambda original: (
                lambda self, state: original(self, state) and self._redial.allows_after(state.attempt)
            ),
            ("unit/placing/test_redial.py",),
        ),
        "undialled_call_is_over": Break(
            "placing.placement:never_rang", always(False), ("unit/placing/test_redial.py",)
        ),
        "failed_transfer_is_redialled": Break(
            "models.outcome:_RULES",
            lambda original: ((original[1][0], r"call\.forwarding\..*"), *original),
            ("unit/placing/test_redial.py", "unit/models/test_outcome.py"),
        ),
        "unlisted_attempt_is_overlooked": Break(
            "placing.attempts:Attempts.may_go_on", always(False), ("unit/placing/test_redial.py",)
        ),
        "hours_are_not_checked": Break(
            "placing.request:CallRequest.timed",
            lambda _original: lambda self, _now: self,
            ("unit/placing/test_outside_hours.py",),
        ),
        "hours_that_are_lost_mean_any_time": Break(
            "rendering:RendersFields.refuse_none",
            always(None),
            ("unit/placing/test_outside_hours.py",),
        ),
        "hours_are_checked_once": Break(
            "placing.request:CallRequest.timed", check_hours_once, ("unit/placing/test_outside_hours.py",)
        ),
        "closing_is_within_the_hours": Break(
            "placing.hours:Hours.is_open",
            lambda original: (
                lambda self, instant: (
                    original(self, instant) or original(self, instant - timedelta(microseconds=1))
                )
            ),
            ("unit/placing/test_calling_hours.py",),
        ),
        "hours_are_slept_out": Break(
            "placing.deferral:SHORT_SECONDS", constant(math.inf), ("unit/placing/test_outside_hours.py",)
        ),
        "wait_for_a_line_begins_anew": Break(
            "placing.deferral:DefersPlacing._load_try",
            forget_the_wait_for_a_line,
            ("unit/placing/test_free_line.py",),
        ),
        "pauses_for_a_line_do_not_grow": Break(
            "placing.line:pause_for_line", always(20.0), ("unit/placing/test_free_line.py",)
        ),
        "undialled_call_is_read_after_a_pause": Break(
            "placing.attempts:Attempts.begin",
            lambda original: (
                lambda self, resumed: original(
                    self, dataclasses.replace(resumed, started_at=-1.0) if resumed else None
                )
            ),
            ("unit/placing/test_free_line.py",),
        ),
        "call_placed_since_a_pause_is_overlooked": Break(
            "placing.attempts:Attempts.begin",
            lambda original: (
                lambda self, resumed: original(
                    self, dataclasses.replace(resumed, started_at=math.inf) if resumed else None
                )
            ),
            ("unit/placing/test_free_line.py",),
        ),
        "settled_doubt_is_forgotten": Break(
            "placing.attempts:Attempts.begin",
            lambda original: lambda self, _resumed: original(self, None),
            ("unit/placing/test_free_line.py", "unit/placing/test_outside_hours.py"),
        ),
        "schedule_is_refitted_by_vapis_clock": Break(
            "placing.schedule:latest_ring",
            lambda original: (
                lambda call, plan, _sent, hours: original(
                    call.model_copy(update={"schedule_plan": None}), plan, None, hours
                )
            ),
            ("unit/placing/test_outside_hours.py",),
        ),
        "schedule_is_sent_at_the_closing": Break(
            "placing.schedule:_SENDING_TIME", constant(timedelta()), ("unit/placing/test_outside_hours.py",)
        ),
        "end_without_redial_on_is_not_recorded": Break(
            "placing.mixin:PlacesCall._record_end",
            record_ends_with_redial_on_only,
            ("unit/placing/test_redial.py",),
        ),
        "end_is_recorded_in_one_go": Break(
            "placing.mixin:_RECORD_PAUSES", constant(()), ("unit/placing/test_redial.py",)
        ),
        "got_a_line_before_the_call_is_dialled": Break(
            "placing.dialling:watch_dialling",
            lambda _original: lambda _client, call, _log: call.model_copy(update={"status": "ringing"}),
            ("unit/placing/test_free_line.py",),
        ),
        "call_id_of_an_earlier_attempt_is_lost": Break(
            "placing.attempts:Attempts._following",
            lambda original: (
                lambda self, state: dataclasses.replace(original(self, state), earlier_call_id=None)
            ),
            ("unit/placing/test_outside_hours.py",),
        ),
        "an_opening_is_a_rush": Break(
            "placing.line:OPENING_SECONDS", constant(0.0), ("unit/placing/test_outside_hours.py",)
        ),
        "iterator_of_days_is_accepted": Break(
            "placing.hours:_is_collection",
            lambda _original: (
                lambda value: hasattr(value, "__iter__") and not isinstance(value, (str, bytes, dict))
            ),
            ("unit/placing/test_calling_hours.py",),
        ),
        "refused_hours_show_any_word": Break(
            "placing.hours:_TIME_OR_ZONE",
            constant(r"(?!.*\d{3})[\w/:+-]{1,40}"),
            ("unit/placing/test_calling_hours.py",),
        ),
        "zone_of_the_machine_is_accepted": Break(
            "placing.hours:_NO_PLACE", constant("(?!)"), ("unit/placing/test_calling_hours.py",)
        ),
        "long_deferral_overflows": Break(
            "waiting.mixin:_LONGEST_DEFERRAL",
            constant(timedelta.max),
            ("unit/placing/test_free_line.py",),
        ),
        "exceptions_cannot_be_pickled": Break(
            "exceptions:VapiError.__reduce__",
            lambda _original: Exception.__reduce__,
            ("unit/test_exceptions.py",),
        ),
        "dialled_although_over_limit": Break(
            "waiting.policy:check_dialled", always(None), ("unit/placing/test_create_call_limit.py",)
        ),
        "early_404_is_permanent": Break(
            "waiting.wait:is_read_too_soon", always(False), ("unit/placing", "unit/waiting")
        ),
        "numbers_are_not_checked": Break(
            "placing.request:_check_destination",
            always(None),
            ("unit/placing/test_request_checks.py",),
        ),
        "rendered_people_are_shown": Break(
            "placing.masking:mask_values", first_argument, ("unit/placing/test_create_call_masking.py",)
        ),
        "useless_arguments_are_accepted": Break(
            "waiting.given:useless_without_wait",
            always([]),
            ("unit/placing/test_create_call_useless_arguments.py",),
        ),
        "missing_arguments_are_accepted": Break(
            "placing.request:find_misuse", always(None), ("unit/placing/test_create_call_arguments.py",)
        ),
        "hang_up_takes_its_time": Break(
            "client.hang_up:HANG_UP_SECONDS", constant(60.0), ("unit/client/test_hang_up.py",)
        ),
        "hang_up_requests_take_their_time": Break(
            "client.hang_up:HANG_UP_REQUEST_SECONDS", constant(60.0), ("unit/client/test_hang_up.py",)
        ),
        "fail_on_is_ignored": Break(
            "models.outcome:check_outcomes", always(()), ("unit/waiting", "unit/sensors")
        ),
        "erased_call_succeeds": Break(
            "waiting.policy:WaitPolicy.check_end", always(None), ("unit/waiting", "unit/sensors")
        ),
        "soft_fail_is_ignored": Break(
            "waiting.policy:refused",
            lambda _original: lambda error, *, soft_fail: error,
            ("unit/waiting", "unit/sensors"),
        ),
        "first_error_is_waited_out": Break(
            "waiting.wait:CallWait._is_waited_out", always(True), ("unit/waiting", "unit/sensors")
        ),
        "later_error_fails": Break(
            "waiting.wait:CallWait._is_waited_out", always(False), ("unit/waiting", "unit/sensors")
        ),
        "analysis_is_not_waited_for": Break(
            "models.call:CallStatusView.results_due_in", always(0.0), ("unit/waiting", "unit/sensors")
        ),
        "include_does_not_name_the_results": Break(
            "models.results:wanted_results", always(()), ("unit/waiting/test_wait_results.py",)
        ),
        "results_are_complete_at_first_sight": Break(
            "models.results:Progress.has_arrived",
            lambda original: lambda self, *, is_unchanged: original(self, is_unchanged=True),
            ("unit/waiting/test_wait_results.py",),
        ),
        "plan_of_the_results_is_not_read": Break(
            "models.results:_planned_outputs", always([]), ("unit/waiting/test_wait_results.py",)
        ),
        "one_poll_counts_as_two": Break(
            "polling.calls:Waiter.judge", judge_and_begin_poll, ("unit/polling/test_poller_results.py",)
        ),
        "poller_does_not_see_results": Break(
            "polling.calls:Waiter.begin_poll", always(None), ("unit/polling/test_poller_results.py",)
        ),
        "seen_results_are_not_trusted": Break(
            "waiting.report:Report.says_complete", prop(False), ("unit/waiting/test_wait_results.py",)
        ),
        "unanswered_calls_have_results": Break(
            "models.outcome:had_conversation", always(True), ("unit/waiting/test_wait_results.py",)
        ),
        "missing_results_are_not_named": Break(
            "models.results:Results.missing", prop(""), ("unit/waiting/test_wait_results.py",)
        ),
        "reason_is_not_waited_for": Break(
            "models.call:CallStatusView.reason_due_in", prop(0.0), ("unit/waiting/test_wait_results.py",)
        ),
        "timeout_does_not_judge_the_end": Break(
            "waiting.wait:CallWait._check_end", always(None), ("unit/waiting/test_wait_results.py",)
        ),
        "stuck_status_never_ends": Break(
            "models.call:CallStatusView.over_in", prop(None), ("unit/waiting/test_wait_results.py",)
        ),
        "poller_forgets_a_stuck_status": Break(
            "polling.calls:PolledCall.judge",
            lambda original: (
                lambda self, view, *waiters: original(self, view, *waiters) if view.is_terminal else None
            ),
            ("unit/polling/test_poller_results.py",),
        ),
        "wait_never_ends": Break(
            "waiting.wait:CallWait.ends_at", prop(math.inf), ("unit/waiting", "unit/sensors")
        ),
        "unknown_event_is_accepted": Break(
            "waiting.report:read_report", read_any_event_as_the_end, ("unit/waiting", "unit/sensors")
        ),
        "link_is_not_published": Break(
            "links.call:VapiCallLink.persist", always(None), ("unit/waiting", "unit/sensors", "unit/links")
        ),
        "link_is_left_to_the_xcom_backend": Break(
            "links.call:VapiCallLink.persist", push_link, ("dag/test_custom_xcom_backend.py",)
        ),
        "found_people_are_shown": Break(
            "__main__:_find",
            lambda original: lambda *found, shows_people: original(*found, shows_people=True),
            ("unit/test_find_command.py",),
        ),
        "command_does_not_look_back": Break(
            "placing.doubt:how_to_find",
            lambda original: lambda token, conn_id, since: original(token, conn_id, None),
            ("unit/placing/test_placing_log.py",),
        ),
        "fate_of_the_call_is_not_said": Break(
            "waiting.wait:CallWait.hang_up",
            hang_up_and_say_nothing,
            ("unit/placing/test_create_call_ending.py",),
        ),
        "wrong_id_is_shown": Break(
            "client.arguments:show_kind", lambda _original: repr, ("unit/client/test_client_arguments.py",)
        ),
        "bad_variable_is_not_explained": Break(
            "connection:variable_problem", always(None), ("unit/hooks/test_vapi_hook.py",)
        ),
        "wrong_base_url_is_a_missing_call": Break(
            "client.responses:ApiResponse._is_of_no_endpoint", prop(False), ("unit/client/test_responses.py",)
        ),
        "simulator_takes_any_overrides": Break(
            "simulator.validation:_overrides_errors",
            always([]),
            ("unit/simulator/test_simulator_placing.py",),
        ),
        "simulator_pages_escape_nothing": Break(
            "simulator.markup:html",
            constant(SimpleNamespace(escape=str)),
            ("unit/simulator/test_simulator_page_safety.py",),
        ),
        "simulator_pages_are_for_everyone": Break(
            "simulator.page_routes:is_loopback",
            always(True),
            ("unit/simulator/test_simulator_page_safety.py",),
        ),
        "simulator_serves_any_host_name": Break(
            "simulator.gateway:names_other_host",
            always(False),
            ("unit/simulator/test_simulator_access.py",),
        ),
        "simulator_pages_show_whole_texts": Break(
            "simulator.markup:shortened",
            lambda _original: lambda content, *_: str(content),
            ("unit/simulator/test_simulator_page_safety.py",),
        ),
        "simulator_makes_no_outputs": Break(
            "simulator.scenario:_outputs", always(()), ("unit/simulator/test_simulator_scenario.py",)
        ),
        "simulator_ignores_the_speed": Break(
            "simulator.scenario:Scenario._seconds",
            lambda _original: lambda _self, *spans: sum(spans),
            ("unit/simulator/test_simulator_scenario.py",),
        ),
        "state_of_the_wait_is_lost": Break(
            "waiting.mixin:WaitsForCall._save_state", always(None), ("unit/waiting", "unit/sensors")
        ),
        "summary_is_shown": Break("rendering:show_call_id", first_argument, ("unit/test_rendering.py",)),
        "event_comes_too_early": Break(
            "triggers.call:time",
            lambda original: SimpleNamespace(time=original.time, monotonic=itertools.count(0, 100).__next__),
            ("unit/triggers",),
        ),
        "waits_end_all_at_once": Break(
            "polling.calls:LOT", constant(1_000_000), ("unit/polling/test_waits_at_scale.py",)
        ),
        "waits_time_out_all_at_once": Break(
            "polling.deadlines:LOT", constant(1_000_000), ("unit/polling/test_waits_at_scale.py",)
        ),
        "each_wait_has_a_timer": Break(
            "polling.deadlines:Deadlines._add",
            set_timer_for_each_wait,
            ("unit/polling/test_waits_at_scale.py",),
        ),
        "deadlines_are_kept_for_ever": Break(
            "polling.deadlines:Deadlines._remove", keep_deadlines, ("unit/polling/test_waits_at_scale.py",)
        ),
        "wall_clock_is_not_checked": Break(
            "polling.deadlines:CLOCK_CHECK_SECONDS", constant(1e9), ("unit/triggers/test_trigger.py",)
        ),
        "page_has_few_calls": Break(
            "polling.changes:PAGE_BYTES", constant(1_500_000), ("unit/polling/test_changes.py",)
        ),
        "kill_ends_no_call": Break(
            "triggers.call:VapiCallTrigger.on_kill",
            do_nothing_in_the_loop,
            ("unit/triggers/test_trigger_kill.py",),
        ),
        "poll_has_no_budget": Break(
            "polling.poller:REQUESTS_PER_POLL", constant(10_000), ("unit/polling/test_poller_requests.py",)
        ),
        "interval_has_no_floor": Break(
            "polling.poller:MIN_INTERVAL_SECONDS", constant(0.01), ("unit/polling/test_poller_requests.py",)
        ),
        "outage_has_no_backoff": Break(
            "polling.poller:CallPoller._back_off", always(None), ("unit/polling/test_poller_outages.py",)
        ),
        "undialled_call_is_not_read_again": Break(
            "placing.dialling:PAUSES", constant(()), ("unit/placing/test_create_call_limit.py",)
        ),
        "doubt_holds_a_worker_slot": Break(
            "placing.placement:SHORT_SECONDS",
            constant(math.inf),
            ("unit/placing/test_placing_deferred.py",),
        ),
        "deferred_doubt_is_forgotten": Break(
            "placing.deferral:DefersPlacing._go_on_placing",
            lambda _original: lambda self, context, _state: self._begin_anew(context),
            ("unit/placing/test_placing_deferred.py",),
        ),
        "deferred_wait_follows_its_templates": Break(
            "waiting.mixin:WaitsForCall._load_state", forget_what_the_wait_began_with, ("unit/waiting",)
        ),
        "state_is_read_for_each_use": Break(
            "waiting.mixin:WaitsForCall._resume_wait", read_the_state_again, ("unit/test_writes_per_task.py",)
        ),
        "state_of_another_version_is_an_error": Break(
            "waiting.wait:WaitState.of",
            lambda _original: classmethod(lambda kind, stored: kind(**stored)),
            ("unit/placing/test_state_of_0_1_0.py",),
        ),
        "execution_timeout_spares_missing_results": Break(
            "waiting.wait:CallWait._execution_ends_at", prop(math.inf), ("unit/waiting/test_wait_limits.py",)
        ),
        "sigterm_leaves_a_trigger_in_the_process": Break(
            "waiting.mixin:WaitsForCall.on_kill", always(None), ("unit/waiting/test_wait_stopped.py",)
        ),
        "new_call_is_not_found_and_goes_on": Break(
            "client.hang_up:hang_up",
            lambda original: lambda client, call_id, **_: original(client, call_id),
            ("unit/client/test_hang_up.py",),
        ),
        "remembered_connection_is_not_used": Break(
            "hooks.vapi:remembered_connection",
            always(None),
            ("unit/polling/test_poller_lost_connection.py",),
        ),
        "deleted_connection_is_used_for_ever": Break(
            "polling.connection:MISSING_SECONDS",
            constant(math.inf),
            ("unit/polling/test_poller_lost_connection.py",),
        ),
        "deleted_connection_is_waited_for": Break(
            "waiting.wait:CallWait._is_connection_gone",
            always(False),
            ("unit/waiting/test_wait_lost_connection.py",),
        ),
        "broken_backend_ends_the_try": Break(
            "hooks.vapi:VapiHook._look_up",
            lambda _original: lambda self, conn_id: self.get_connection(conn_id),
            ("unit/waiting/test_wait_lost_connection.py",),
        ),
        "missing_connection_is_believed": Break(
            "polling.connection:MISSING_SECONDS", constant(0.0), ("unit/polling/test_poller_connection.py",)
        ),
        "changed_key_is_not_read": Break(
            "polling.connection:CONNECTION_SECONDS",
            constant(1e9),
            ("unit/polling/test_poller_connection.py",),
        ),
        "turns_are_skipped": Break(
            "polling.poller:CallPoller._read_calls",
            do_nothing_in_the_loop,
            ("unit/polling/test_poller_requests.py", "unit/polling/test_poller_ends.py"),
        ),
        "list_is_not_asked": Break(
            "polling.changes:ChangeFeed.next_query", always(None), ("unit/polling/test_changes.py",)
        ),
        "object_may_shrink": Break(
            "transfers.target:Target.count_lines", always(0), ("unit/transfers/test_calls_export.py",)
        ),
        "object_is_seen_after_requests": Break(
            "transfers.target:Target.refuse_existing",
            always(None),
            ("unit/transfers/test_calls_export.py", "unit/transfers/test_recording.py"),
        ),
        "object_is_written_in_place": Break(
            "transfers.target:_replace",
            lambda _original: lambda target, source: target.write_bytes(Path(source).read_bytes()),
            ("unit/transfers/test_whole_object.py",),
        ),
        "compressed_object_has_a_time": Break(
            "transfers.target:compressing",
            lambda _original: contextmanager(_with_time_stamp),
            ("unit/transfers/test_calls_export.py",),
        ),
        "storage_connection_is_not_looked_up": Break(
            "transfers.target:_check_connection", always(None), ("unit/transfers/test_calls_export.py",)
        ),
        "lineage_is_not_reported": Break(
            "transfers.target:Target._report_lineage",
            always(None),
            ("unit/transfers/test_whole_object.py",),
        ),
        "unfinished_calls_are_finished": Break(
            "transfers.export:_is_finished", always(True), ("unit/transfers/test_calls_export.py",)
        ),
        "open_interval_is_finished": Break(
            "transfers.export:Export.find_unfinished",
            lambda original: lambda self, end: original(self, datetime.min.replace(tzinfo=timezone.utc)),
            ("unit/transfers/test_calls_export.py",),
        ),
        "late_call_is_out_of_place": Break(
            "transfers.export:OVERLAP", constant(timedelta(0)), ("unit/transfers/test_calls_export.py",)
        ),
        "list_is_read_at_once": Break(
            "transfers.export:wait_for_list", always(None), ("unit/transfers/test_calls_export.py",)
        ),
        "mapped_recordings_share_a_path": Break(
            "transfers.recording_to_object_storage:VapiRecordingToObjectStorageOperator._refuse_shared_path",
            always(None),
            ("unit/transfers/test_recording.py",),
        ),
        "mapped_kinds_share_a_path": Break(
            "rendering:RendersFields.is_mapped_over",
            always(False),
            ("unit/transfers/test_recording.py",),
        ),
        "missing_bucket_is_found_at_the_end": Break(
            "transfers.target:Target.refuse_missing_bucket",
            always(None),
            ("unit/transfers/test_whole_object.py",),
        ),
        "sum_of_costs_overflows": Break(
            "transfers.export:_sum",
            lambda _original: sum,
            ("unit/transfers/test_calls_export.py",),
        ),
        "redirect_leads_anywhere": Break(
            "client.addresses:AddressRules.check_url",
            lambda _original: lambda self, url: "https://anywhere.example.org",
            ("unit/client/test_artifact.py",),
        ),
        "addresses_are_not_checked": Break(
            "client.addresses:AddressRules.check_address", always(None), ("unit/client/test_artifact.py",)
        ),
        "unallocated_addresses_are_public": Break(
            "client.addresses:_GLOBAL_UNICAST",
            constant(ipaddress.IPv6Network("::/0")),
            ("unit/client/test_artifact.py",),
        ),
        "signed_urls_are_logged": Break(
            "client.artifact:hide_signed_urls", constant(nullcontext), ("unit/client/test_artifact.py",)
        ),
        "artifact_gets_the_key": Break(
            "client.artifact:open_session",
            lambda original: lambda settings, with_key: _with_key_everywhere(original(settings), settings),
            ("unit/client/test_artifact.py",),
        ),
        "download_has_no_pace": Break(
            "client.deadline:_Pace.begin_body",
            lambda _original: lambda self: setattr(self, "ends_at", time.monotonic() + 1000),
            ("unit/client/test_artifact.py",),
        ),
        "cut_body_is_a_file": Break(
            "client.artifact:ArtifactDownload._check", always(None), ("unit/client/test_artifact.py",)
        ),
        "alert_is_dialled_by_every_task": Break(
            "notifications.alert:_claim", always(True), ("unit/notifications/test_ring_once.py",)
        ),
        "alert_searches_no_earlier_call": Break(
            "notifications.alert:_age_of_last_call",
            always(None),
            ("unit/notifications/test_ring_once.py",),
        ),
        "alert_has_the_limits_of_the_connection": Break(
            "notifications.alert:REQUEST_SECONDS",
            constant(math.inf),
            ("unit/notifications/test_ring_once.py",),
        ),
        "alert_renders_natively": Break(
            "notifications.call:VapiNotifier._render",
            render_as_airflow_does,
            ("unit/notifications/test_notifier.py",),
        ),
        "alert_speaks_control_characters": Break(
            "notifications.call:_UNSPEAKABLE",
            constant(re.compile("$^")),
            ("unit/notifications/test_notifier.py",),
        ),
        "alert_with_a_context_raises": Break(
            "notifications.call:VapiNotifier.__init__",
            refuse_misuse_always,
            ("unit/notifications/test_notifier.py",),
        ),
        "alert_key_may_be_nothing": Break(
            "notifications.call:_is_nothing",
            always(False),
            ("unit/notifications/test_notifier.py", "unit/notifications/test_ring_once.py"),
        ),
        "alerts_are_remembered_for_ever": Break(
            "notifications.alert:_Dialled",
            lambda original: lambda at, quiet_seconds: original(at, math.inf),
            ("unit/notifications/test_ring_once.py",),
        ),
        "alert_raises": Break(
            "notifications.call:VapiNotifier._log_failure",
            lambda _original: raise_it,
            ("unit/notifications/test_notifier.py",),
        ),
        "reported_ends_are_forgotten": Break(
            "triggers.memory:EndMemory.add", always(None), ("unit/triggers/test_ended.py",)
        ),
        "ends_are_judged_by_updated_at": Break(
            "triggers.memory:_ended_at",
            lambda _original: lambda call: call.updated_at.timestamp(),
            ("unit/triggers/test_ended.py",),
        ),
        "state_is_saved_at_once": Break(
            "triggers.ended:STORING_SECONDS", constant(0.0), ("unit/triggers/test_ended_state.py",)
        ),
        "state_is_not_saved": Break(
            "triggers.state:AssetState.save", do_nothing_in_the_loop, ("unit/triggers/test_ended_state.py",)
        ),
        "state_store_may_hang": Break(
            "triggers.state:CALL_SECONDS", constant(1e12), ("unit/triggers/test_ended_state.py",)
        ),
        "store_is_accessed_in_the_trigger": Break(
            "triggers.state:AssetState._call",
            access_in_the_trigger,
            ("unit/triggers/test_ended_state.py",),
        ),
        "first_start_is_after_the_store": Break(
            "triggers.ended:VapiCallEndedTrigger._listener",
            lambda original: (
                lambda self, memory, _at: original(self, memory, asyncio.get_running_loop().time())
            ),
            ("unit/triggers/test_ended_state.py",),
        ),
        "first_time_of_vapi_is_trusted": Break(
            "polling.changes:ChangeFeed.take",
            lambda original: lambda self, page: [original(self, page), setattr(self, "is_misled", False)],
            ("unit/polling/test_changes.py", "unit/triggers/test_ended.py"),
        ),
        "wrong_time_stays_in_the_memory": Break(
            "polling.listeners:ListenedPoll",
            lambda original: lambda ended, read_until, live, _anew_from: original(ended, read_until, live),
            ("unit/triggers/test_ended.py",),
        ),
        "list_in_another_order_is_given_up": Break(
            "polling.walk:Walk.split",
            lambda _original: lambda self, _now, problem="": self._leave_out(len(self._parts), problem),
            ("unit/polling/test_changes.py", "unit/triggers/test_ended.py"),
        ),
        "page_is_never_longer": Break(
            "polling.walk:Walk._widen", always(False), ("unit/polling/test_changes.py",)
        ),
        "state_grows_without_bounds": Break(
            "triggers.memory:MAX_STATE_BYTES", constant(10**9), ("unit/triggers/test_ended_state.py",)
        ),
        "new_listener_waits_a_whole_interval": Break(
            "polling.listeners:EndListeners.has_new", prop(False), ("unit/triggers/test_ended_troubles.py",)
        ),
        "late_list_hides_ends": Break(
            "polling.changes:LIST_LAG_SECONDS", constant(5.0), ("unit/triggers/test_ended_troubles.py",)
        ),
        "newcomer_misses_the_first_pages_of_a_walk": Break(
            "polling.changes:ChangeFeed.read_from",
            lambda original: (
                lambda self, since: (
                    None
                    if self.mark is None or since >= self.mark
                    else read_up_to_the_mark(original, self, since)
                )
            ),
            ("unit/triggers/test_ended_troubles.py",),
        ),
        "hanging_store_takes_a_thread_per_access": Break(
            "triggers.state:AssetState._access_in_thread",
            lambda _original: lambda self, name, *args: getattr(self._accessors, name)(*args),
            ("unit/triggers/test_ended_state.py",),
        ),
        "connection_may_be_read_for_ever": Break(
            "polling.connection:READING_SECONDS",
            constant(10_000.0),
            ("unit/polling/test_poller_connection.py",),
        ),
        "alert_logs_the_numbers_of_its_key": Break(
            "notifications.alert:_shown",
            lambda _original: lambda key: key,
            ("unit/notifications/test_notifier.py",),
        ),
        "live_calls_have_no_turn": Break(
            "polling.listeners:EndListeners.next_in_turn", always([]), ("unit/triggers/test_ended.py",)
        ),
        "long_absence_is_reported_whole": Break(
            "polling.listeners:LONGEST_ABSENCE",
            constant(timedelta(days=30)),
            ("unit/triggers/test_ended_state.py",),
        ),
        "backlog_is_not_read": Break(
            "polling.changes:ChangeFeed.read_from", always(None), ("unit/triggers/test_ended_state.py",)
        ),
        "listeners_poll_a_dead_vapi_as_often": Break(
            "polling.poller:MAX_BACK_OFF_SECONDS", constant(0.0), ("unit/triggers/test_ended.py",)
        ),
        "asset_events_show_no_end": Break("outlets:show_end", always(None), ("dag/test_outlets.py",)),
        "link_is_not_registered": Break(
            "get_provider_info:get_provider_info",
            lambda original: lambda: {**original(), "extra-links": []},
            ("unit/test_metadata.py",),
        ),
        "form_has_no_fields": Break(
            "get_provider_info:CONN_FIELDS", constant({}), ("unit/test_metadata.py",)
        ),
    }
)


def find(broken: Break) -> tuple[Any, str]:
    """Return the module or class that contains a mutation's target, and the target's name in it."""
    module_name, _, path = broken.target.partition(":")
    owner: Any = importlib.import_module(f"vapi_provider.{module_name}")
    *parents, attribute = path.split(".")
    for parent in parents:
        owner = vars(owner)[parent]
    return owner, attribute


def apply(name: str) -> None:
    """Replace a mutation's target in every module that has imported it."""
    broken = BREAKS[name]
    package = importlib.import_module("vapi_provider")
    for found in pkgutil.walk_packages(package.__path__, "vapi_provider."):
        if "simulator" not in found.name and not found.ispkg:
            importlib.import_module(found.name)
    owner, attribute = find(broken)
    original = vars(owner)[attribute]
    replacement = broken.replace(original)
    setattr(owner, attribute, replacement)
    if isinstance(owner, ModuleType):
        for name_, module in list(sys.modules.items()):
            if name_.startswith("vapi_provider.") and vars(module).get(attribute) is original:
                setattr(module, attribute, replacement)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--break", dest="broken", choices=sorted(BREAKS), help="break the package before the tests"
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    # After the conftest files, which set up Airflow.
    if session.config.option.broken:
        apply(session.config.option.broken)


def run(name: str) -> tuple[bool, float, str]:
    """Run the tests of one mutation, and return whether they caught it, in how many seconds, and which test did."""
    began_at = time.monotonic()
    broken = BREAKS[name]
    tests = [f"tests/{path}" for path in broken.tests]
    command = [sys.executable, "-m", "pytest", "-p", "tests.mutations", "--break", name, "-x", "-q", *tests]
    if broken.is_deep:
        command += ["-m", "deep or searches"]
    try:
        done = _run_tests(command, is_deep=broken.is_deep)
    except subprocess.TimeoutExpired:
        # A test that never ends counts as caught, too.
        return True, time.monotonic() - began_at, f"ERROR still running after {_LONGEST_SECONDS} s"
    lines = done.stdout.splitlines()
    failed = next((line for line in lines if line.startswith(("FAILED", "ERROR"))), "\n".join(lines[-5:]))
    # 1 means that a test failed; any other code means that the tests did not run properly.
    return (
        done.returncode == 1 and failed.startswith(("FAILED", "ERROR")),
        time.monotonic() - began_at,
        failed,
    )


def _run_tests(command: list[str], *, is_deep: bool) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "--no-header", "--tb=no"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LONGEST_SECONDS,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "TEST_DEEP": "1" if is_deep else "0"},
    )


def main(names: list[str]) -> int:
    """Run all mutations, or the given ones."""
    chosen = names or list(BREAKS)
    survived = []
    with ThreadPoolExecutor(max_workers=2) as pool:
        for name, (is_caught, seconds, notice) in zip(chosen, pool.map(run, chosen), strict=True):
            print(
                f"{'caught  ' if is_caught else 'SURVIVED'} {seconds:5.1f} s  {name}: {notice[:150]}",
                flush=True,
            )
            if not is_caught:
                survived.append(name)
    print(f"{len(chosen) - len(survived)} passed, {len(survived)} failed")
    return bool(survived)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
