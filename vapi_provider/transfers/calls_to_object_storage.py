# SPDX-License-Identifier: Apache-2.0
"""The transfer that exports calls to object storage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from os import SEEK_END
from typing import IO, TYPE_CHECKING, Any, Literal, TypedDict, cast

from vapi_provider.outlets import add_to_events
from vapi_provider.rendering import RendersFields

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg
    from vapi_provider.transfers.export import Export, Interval
    from vapi_provider.transfers.target import Target

_UNFINISHED = ("retry", "keep")
_IF_EXISTS = ("overwrite", "replace", "skip", "fail")


class CallsExport(TypedDict):
    """
    The result of an export.

    ``bytes`` is the size of the object, ``cost`` is in US dollars (None if the sum is too large for a number), and ``outcomes`` has the number of calls for every
    :class:`~vapi_provider.models.outcome.CallOutcome`.
    """

    path: str
    calls: int
    unfinished: int
    scheduled: int
    bytes: int
    cost: float | None
    outcomes: dict[str, int]
    schema_version: int


class VapiCallsToObjectStorageOperator(RendersFields):
    """
    Export the calls of an interval to object storage (https://docs.vapi.ai/api-reference/calls/list).

    The object is JSON Lines: one :class:`~vapi_provider.models.summary.CallSummary` per line, newest first. It appears as
    a whole or not at all. Once the calls are over, the same interval gives the same bytes. By default, an object is
    never replaced by one with fewer calls.

    :param path: the URL of the object, such as ``s3://bucket/calls/{{ data_interval_start | ds }}.jsonl.gz``;
        ``.gz`` compresses it. (templated)
    :param storage_conn_id: the connection to the storage, unless the URL names it; None by default. (templated)
    :param created_at_ge: only calls created at or after this time; the start of the data interval by default.
        (templated)
    :param created_at_lt: only calls created before this time; the end of the data interval by default. (templated)
    :param assistant_id: only calls of this assistant. (templated)
    :param phone_number_id: only calls over your phone number with this id. (templated)
    :param include: content to add to each line, by name; see :meth:`vapi_provider.models.call.Call.summary`
    :param unfinished: what to do if calls are live or ended less than 60 seconds ago: ``retry`` writes the object and
        then fails while the task has retries left, ``keep`` succeeds with a warning
    :param if_exists: what to do with an existing object: ``overwrite`` it unless it has more calls, ``replace`` it in any
        case, ``skip`` the task, or ``fail``; with the last two, an unfinished export is written only by the last try
    :param vapi_conn_id: the connection to Vapi. (templated)
    """

    template_fields: Sequence[str] = (
        "path",
        "storage_conn_id",
        "created_at_ge",
        "created_at_lt",
        "assistant_id",
        "phone_number_id",
        "vapi_conn_id",
    )
    ui_color = "#d9f2ea"

    def __init__(
        self,
        *,
        path: str | XComArg,
        storage_conn_id: str | None = None,
        created_at_ge: datetime | str | XComArg = "{{ data_interval_start | default('', true) }}",
        created_at_lt: datetime | str | XComArg = "{{ data_interval_end | default('', true) }}",
        assistant_id: str | XComArg | None = None,
        phone_number_id: str | XComArg | None = None,
        include: Iterable[str] = (),
        unfinished: Literal["retry", "keep"] = "retry",
        if_exists: Literal["overwrite", "replace", "skip", "fail"] = "overwrite",
        vapi_conn_id: str = "vapi_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.storage_conn_id = storage_conn_id
        self.created_at_ge = created_at_ge
        self.created_at_lt = created_at_lt
        self.assistant_id = assistant_id
        self.phone_number_id = phone_number_id
        self.include = include
        self.unfinished = unfinished
        self.if_exists = if_exists
        self.vapi_conn_id = vapi_conn_id

    def execute(self, context: Context) -> CallsExport:
        """
        Export the calls.

        :param context: the context of the running task
        :raises VapiConfigurationError: if an argument or a connection is invalid, or an S3 bucket does not exist; nothing is
            sent to Vapi
        :raises VapiTransientError: for a transient failure, for a list that cannot be paged without gaps, and after an
            unfinished export while the task has retries left
        :raises VapiPermanentError: if Vapi refuses, if the object exists and ``if_exists`` is ``fail``, and if it has
            more calls
        :raises AirflowSkipException: if the object exists and ``if_exists`` is ``skip``
        :return: the path, the counts, and the size of the object
        """
        # Here, not at the top, to keep DAG parsing fast.
        from vapi_provider.client.arguments import check_choice
        from vapi_provider.models.summary import check_include
        from vapi_provider.transfers.export import read_interval
        from vapi_provider.transfers.target import Target, read_location

        include = check_include(self.include)
        check_choice(self.unfinished, _UNFINISHED, parameter="unfinished")
        check_choice(self.if_exists, _IF_EXISTS, parameter="if_exists")
        self.refuse_failed("created_at_ge", "created_at_lt")
        interval = read_interval(self.created_at_ge, self.created_at_lt)
        self.refuse_missing("path", "storage_conn_id", "assistant_id", "phone_number_id", "vapi_conn_id")
        # Without the filter, it would export all calls.
        self.refuse_none("storage_conn_id", "assistant_id", "phone_number_id")
        target = Target(read_location(self.path, self.storage_conn_id))
        target.refuse_missing_bucket()
        target.refuse_existing(self.if_exists)
        if self.if_exists == "overwrite":
            # A folder is refused before the list is read.
            target.exists()
        return self._export(context, interval, include, target)

    def _export(
        self, context: Context, interval: Interval, include: tuple[str, ...], target: Target
    ) -> CallsExport:
        from vapi_provider.exceptions import VapiTransientError
        from vapi_provider.hooks.vapi import VapiHook
        from vapi_provider.transfers.export import Export, refuse_others, wait_for_list
        from vapi_provider.transfers.target import compressing, spool

        hook = VapiHook(self.vapi_conn_id)
        # Rendered by now.
        assistant_id, phone_number_id = cast(
            "tuple[str | None, str | None]", (self.assistant_id, self.phone_number_id)
        )
        calls = hook.list_calls(
            assistant_id=assistant_id,
            phone_number_id=phone_number_id,
            created_at_ge=interval.begin,
            created_at_lt=interval.end,
        )
        wait_for_list(interval.end, self.log)
        with spool(target.location) as file:
            with compressing(file, target.location) as lines:
                export = Export(lines.write, include, self.log)
                export.run(refuse_others(calls, interval, assistant_id, phone_number_id))
            if export.responded_at is None:
                # An empty list has not shown Vapi's clock yet.
                export.responded_at = hook.client.list_statuses({"limit": 1}).responded_at
            problem = export.find_unfinished(interval.end)
            ends_try = problem is not None and self.unfinished == "retry" and _has_retries_left(context)
            # With skip or fail, the next try would stop at the object of this one.
            if not ends_try or self.if_exists in ("overwrite", "replace"):
                self._put(target, file, export)
            size = file.seek(0, SEEK_END)
        if problem is not None and ends_try:
            raise VapiTransientError(f"{problem} The next try exports the interval again.")
        if problem is not None:
            self.log.warning("%s", problem)
        return self._report(
            context, cast("CallsExport", {"path": target.url, **export.counts, "bytes": size})
        )

    def _put(self, target: Target, file: IO[bytes], export: Export) -> None:
        from vapi_provider.exceptions import VapiPermanentError

        if self.if_exists == "overwrite" and target.exists():
            former = target.count_lines()
            if former > export.calls:
                raise VapiPermanentError(
                    f"{target.url} contains more calls ({former}) than Vapi now lists for the interval ({export.calls}), "
                    "perhaps because Vapi has deleted old calls. The object was not changed; to replace it, pass "
                    "if_exists='replace'."
                )
        target.put(file)

    def _report(self, context: Context, result: CallsExport) -> CallsExport:
        add_to_events(context, self.outlets, result)
        self.log.info(
            "Exported to %s (calls: %d, bytes: %d).", result["path"], result["calls"], result["bytes"]
        )
        return result


def _has_retries_left(context: Context) -> bool:
    # There is no task instance if execute() is called directly.
    ti: Any = context.get("ti")
    return ti is not None and ti.try_number <= ti.max_tries
