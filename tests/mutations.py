# SPDX-License-Identifier: Apache-2.0
"""
Single breaks of the package, one per promise, and the tests that must catch each.

``make mutations`` runs every break in a process of its own, with the tests that it names and ``-x``, and fails when one
of them survives. To see one by hand::

    python -m pytest -p tests.mutations --break post_is_repeated tests/unit/client/test_sending_once.py

A break that only ``make test-deep`` catches is marked ``is_deep``.
"""

from __future__ import annotations

import gzip
import importlib
import itertools
import math
import os
import pkgutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Break:
    """
    One thing that no longer holds.

    :param target: what is replaced, as ``module:name`` or ``module:Class.name`` below ``vapi_provider``
    :param replace: makes the replacement of the original
    :param tests: the files that must notice, below ``tests/``
    :param is_deep: whether only the deep suite does
    """

    target: str
    replace: Callable[[Any], Any]
    tests: tuple[str, ...]
    is_deep: bool = False


def always(value: Any) -> Callable[[Any], Any]:
    """Replace a function by one that returns a constant."""
    return lambda _original: lambda *_args, **_kwargs: value


def constant(value: Any) -> Callable[[Any], Any]:
    """Replace a constant."""
    return lambda _original: value


def prop(value: Any) -> Callable[[Any], Any]:
    """Replace a property by one with a constant value."""
    return lambda _original: property(lambda _self: value)


def first_argument(_original: Any) -> Any:
    """Replace a function or method by one that returns what it was given."""
    return lambda *args, **_kwargs: args[-1]


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
            lambda kind: type(
                kind.__name__, (kind,), {"is_repeatable": property(lambda _s: False, lambda _s, _v: None)}
            ),
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
            lambda _original: __import__("requests").Session.merge_environment_settings,
            ("unit/client/test_session.py",),
        ),
        "netrc_replaces_the_key": Break(
            "client.session:_Session.rebuild_auth",
            lambda _original: __import__("requests").Session.rebuild_auth,
            ("unit/client/test_session.py",),
        ),
        "user_agent_is_missing": Break(
            "client.session:USER_AGENT",
            constant(""),
            ("unit/client/test_session.py", "unit/client/test_retries.py"),
        ),
        "time_limit_starts_anew": Break(
            "client.deadline:DeadlineAdapter",
            lambda _original: __import__("requests").adapters.HTTPAdapter,
            ("unit/client/test_time_limit.py",),
        ),
        "failure_shows_no_reason": Break(
            "client.failures:_reason",
            always(("something", None)),
            ("unit/client/test_retries.py", "unit/client/test_time_limit.py"),
        ),
        "pages_do_not_overlap": Break(
            "client.pagination:_later",
            lambda original: lambda instant: instant - __import__("datetime").timedelta(milliseconds=1),
            ("unit/client/test_pagination.py",),
        ),
        "unsorted_list_is_accepted": Break(
            "client.pagination:_Pager._check_order", always(None), ("unit/client/test_pagination.py",)
        ),
        "full_page_without_news_is_the_last": Break(
            "client.pagination:_Pager._widen",
            lambda _original: lambda self: setattr(self, "is_done", True),
            ("unit/client/test_pagination.py",),
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
            lambda original: (
                lambda self, call_id: self._transport.send(
                    __import__("vapi_provider.client.responses", fromlist=["x"]).ApiRequest(
                        "DELETE", f"/call/{call_id}", json={}, parses=False
                    )
                )
            ),
            ("unit/client/test_hang_up.py",),
        ),
        "cancelled_call_is_erased": Break(
            "client.client:VapiClient.erase_call",
            lambda _original: lambda self, call_id: [self.delete_call(call_id), self.delete_call(call_id)],
            ("unit/client/test_delete_call.py",),
        ),
        "control_url_is_trusted": Break(
            "client.hang_up:_is_trusted", always(True), ("unit/client/test_hang_up.py",)
        ),
        "control_url_gets_the_key": Break(
            "client.session:_NoAuth.__call__",
            lambda _original: (
                lambda self, request: (request.headers.__setitem__("Authorization", "Bearer x"), request)[1]
            ),
            ("unit/client/test_hang_up.py",),
        ),
        "control_url_is_logged": Break(
            "client.hang_up:_is_secret",
            lambda _original: SimpleNamespace(
                get=lambda: False, set=lambda _value: None, reset=lambda _token: None
            ),
            ("unit/client/test_control_url.py",),
        ),
        "ended_call_is_hung_up": Break(
            "models.call:CallStatusView.is_terminal", prop(False), ("unit/client/test_hang_up.py",)
        ),
        "http_to_other_hosts": Break(
            "connection:is_loopback", always(True), ("unit/client/test_connection.py",)
        ),
        "unknown_extras_are_ignored": Break(
            "connection:CONN_FIELDS",
            lambda original: type(
                "Any", (dict,), {"keys": lambda self: type("K", (), {"__rsub__": lambda s, o: set()})()}
            )(original),
            ("unit/client/test_connection.py",),
        ),
        "bounds_of_the_form_do_not_count": Break(
            "connection:_ConnectionParser.number",
            lambda original: lambda self, name, default: float(self.extra.get(name) or default),
            ("unit/client/test_connection.py",),
        ),
        "port_is_ignored": Break(
            "connection:_ConnectionParser._port",
            lambda original: lambda self: 1,
            ("unit/client/test_connection.py",),
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
            "models.summary:check_include",
            lambda _original: lambda include: tuple(include),
            ("unit/models/test_call.py",),
        ),
        "state_is_not_recorded": Break(
            "placing.state:PlacementStore.write",
            always(None),
            ("unit/placing/test_placing_mutations.py", "unit/placing/test_placing_faults.py"),
        ),
        "state_is_not_read": Break(
            "placing.state:PlacementStore.read",
            lambda _original: lambda self, blank: blank,
            ("unit/placing/test_placing_faults.py",),
        ),
        "search_finds_nothing": Break(
            "placing.tokens:carries", always(False), ("unit/placing/test_placing_faults.py",)
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
            "operators.call:VapiCreateCallOperator._publish",
            always(None),
            ("unit/placing/test_placing_faults.py", "unit/placing/test_create_call_ending.py"),
        ),
        "token_depends_on_the_try": Break(
            "placing.tokens:_scope",
            lambda original: lambda context: [*original(context), str(context["ti"].try_number)],
            ("unit/placing/test_tokens.py",),
        ),
        "token_is_the_same_for_all": Break(
            "placing.tokens:make_token", always("aaaaaaaa"), ("unit/placing/test_tokens.py",)
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
            ("unit/placing/test_create_call_arguments.py",),
        ),
        "rendered_people_are_shown": Break(
            "placing.masking:mask_values", first_argument, ("unit/placing/test_create_call_masking.py",)
        ),
        "useless_arguments_are_accepted": Break(
            "waiting.mixin:useless_without_wait",
            always([]),
            ("unit/placing/test_create_call_useless_arguments.py",),
        ),
        "missing_arguments_are_accepted": Break(
            "placing.request:find_misuse", always(None), ("unit/placing/test_create_call_arguments.py",)
        ),
        "hang_up_takes_its_time": Break(
            "client.hang_up:HANG_UP_SECONDS", constant(60.0), ("unit/client/test_hang_up.py",)
        ),
        "fail_on_is_ignored": Break(
            "models.outcome:check_fail_on", always(()), ("unit/waiting", "unit/sensors")
        ),
        "erased_call_succeeds": Break(
            "waiting.policy:WaitPolicy._check_end", always(None), ("unit/waiting", "unit/sensors")
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
            "models.call:CallStatusView.analysis_due_in", always(0.0), ("unit/waiting", "unit/sensors")
        ),
        "wait_never_ends": Break(
            "waiting.wait:CallWait.ends_at", prop(math.inf), ("unit/waiting", "unit/sensors")
        ),
        "unknown_event_is_accepted": Break(
            "waiting.mixin:_read_event", always(("done", "")), ("unit/waiting", "unit/sensors")
        ),
        "link_is_not_published": Break(
            "links.call:VapiCallLink.persist", always(None), ("unit/waiting", "unit/sensors", "unit/links")
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
        "kill_ends_no_call": Break(
            "triggers.call:VapiCallTrigger.on_kill",
            lambda _original: __import__("asyncio").sleep.__get__(0),
            ("unit/triggers/test_trigger_kill.py",),
        ),
        "poll_has_no_budget": Break("polling.poller:REQUESTS_PER_POLL", constant(10_000), ("unit/polling",)),
        "interval_has_no_floor": Break(
            "polling.poller:MIN_INTERVAL_SECONDS", constant(0.01), ("unit/polling",)
        ),
        "outage_has_no_backoff": Break(
            "polling.poller:CallPoller._back_off", always(None), ("unit/polling",)
        ),
        "missing_connection_is_believed": Break(
            "polling.connection:MISSING_SECONDS", constant(0.0), ("unit/polling",)
        ),
        "changed_key_is_not_read": Break(
            "polling.connection:CONNECTION_SECONDS", constant(1e9), ("unit/polling",)
        ),
        "turns_are_skipped": Break(
            "polling.poller:CallPoller._read_calls",
            lambda _original: (
                __import__("asyncio").coroutines and (lambda self, *args: __import__("asyncio").sleep(0))
            ),
            ("unit/polling",),
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
        "redirect_leads_anywhere": Break(
            "client.addresses:AddressRules.check_url",
            lambda _original: lambda self, url: "https://anywhere.example.org",
            ("unit/client/test_artifact.py",),
        ),
        "addresses_are_not_checked": Break(
            "client.addresses:AddressRules.check_address", always(None), ("unit/client/test_artifact.py",)
        ),
        "signed_urls_are_logged": Break(
            "client.artifact:_hide_signed_urls", always(None), ("unit/client/test_artifact.py",)
        ),
        "artifact_gets_the_key": Break(
            "client.artifact:open_session",
            lambda original: lambda settings, with_key: _with_key_everywhere(original(settings), settings),
            ("unit/client/test_artifact.py",),
        ),
        "download_has_no_pace": Break(
            "client.deadline:_Pace.begin_body",
            lambda _original: lambda self: setattr(self, "ends_at", math.inf),
            ("unit/client/test_artifact.py",),
        ),
        "cut_body_is_a_file": Break(
            "client.artifact:ArtifactDownload._check", always(None), ("unit/client/test_artifact.py",)
        ),
        "list_is_not_asked": Break("polling.changes:ChangeFeed.next_query", always(None), ("unit/polling",)),
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


def apply(name: str) -> None:
    """Replace the target of a break, in every module that has imported it."""
    broken = BREAKS[name]
    package = importlib.import_module("vapi_provider")
    for found in pkgutil.walk_packages(package.__path__, "vapi_provider."):
        if "simulator" not in found.name and not found.ispkg:
            importlib.import_module(found.name)
    module_name, _, path = broken.target.partition(":")
    owner: Any = importlib.import_module(f"vapi_provider.{module_name}")
    *parents, attribute = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = vars(owner)[attribute]
    replacement = broken.replace(original)
    setattr(owner, attribute, replacement)
    if not parents:
        for name_, module in list(sys.modules.items()):
            if name_.startswith("vapi_provider.") and vars(module).get(attribute) is original:
                setattr(module, attribute, replacement)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--break", dest="broken", choices=sorted(BREAKS), help="break the package before the tests"
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    # After the conftest files, which prepare Airflow's settings.
    if session.config.option.broken:
        apply(session.config.option.broken)


def run(name: str) -> tuple[bool, float, str]:
    """Run the tests of one break; return whether they noticed, how long it took, and what noticed."""
    began_at = time.monotonic()
    tests = [f"tests/{path}" for path in BREAKS[name].tests]
    command = [sys.executable, "-m", "pytest", "-p", "tests.mutations", "--break", name, "-x", "-q", *tests]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "--no-header", "--tb=no"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    lines = done.stdout.splitlines()
    failed = next((line for line in lines if line.startswith(("FAILED", "ERROR"))), "\n".join(lines[-5:]))
    # 1 means that a test failed; anything else that none ran as it should.
    return (
        done.returncode == 1 and failed.startswith(("FAILED", "ERROR")),
        time.monotonic() - began_at,
        failed,
    )


def main(names: list[str]) -> int:
    """Run all breaks, or the given ones."""
    chosen = names or [name for name, broken in BREAKS.items() if not broken.is_deep]
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
