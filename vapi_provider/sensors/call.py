# SPDX-License-Identifier: Apache-2.0
"""The sensor that waits for a call to end."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)
from vapi_provider.links.call import VapiCallLink
from vapi_provider.outlets import show_end
from vapi_provider.rendering import show_call_id
from vapi_provider.waiting.given import as_given
from vapi_provider.waiting.mixin import WaitsForCall

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context, XComArg
    from vapi_provider.models.outcome import CallOutcome
    from vapi_provider.models.summary import CallSummary
    from vapi_provider.waiting.wait import CallWait

_REFUSED = {
    "exponential_backoff": "the end of a long call would be noticed late; raise poke_interval instead",
    "never_fail": "it would skip the task even after a transient error, which a retry may fix; use soft_fail instead",
    "silent_fail": "the sensor has its own rules: a transient error at the first poke fails the try, and retries apply; later "
    "ones only log a warning, and the wait goes on; any other error fails the task without retries, or skips it with soft_fail",
}
"""Arguments of Airflow's sensors that this one does not support, with the reasons."""


class VapiCallSensor(WaitsForCall, BaseSensorOperator):
    """
    Wait for a call to end and return its summary.

    The sensor polls ``GET /call/{id}`` (https://docs.vapi.ai/api-reference/calls/get) until the call has ended. The
    task fails without retries on a permanent error, or if the call was erased or never took place. A transient error
    fails the task only at the first poke; later ones are waited out.

    :param call_id: the call's id, or its summary such as ``call.output``. (templated)
    :param vapi_conn_id: the connection's id. (templated)
    :param fail_on: outcomes that fail the task without retries, such as ``["failed", "no_answer"]``; none by default
    :param wait_for_analysis: after the end, also wait for the results that ``include`` names (``analysis``,
        ``structured_outputs``); if it names neither, for whichever arrives first
    :param analysis_timeout: how long after the call's end to wait for them, in seconds; then the task succeeds with a
        warning that names what is missing. 60 by default
    :param include: content to add to the summary, by name, see :meth:`vapi_provider.models.call.Call.summary`
    :param deferrable: wait in the triggerer, which takes no worker slot and shares requests between all waits;
        Airflow's ``[operators] default_deferrable`` by default
    :param poke_interval: seconds between two pokes, at least 5 if deferrable. 15 by default
    :param timeout: seconds after which the task fails; Airflow's ``[sensors] default_timeout`` by default
    :param soft_fail: skip the task instead of failing it permanently
    :param mode: if not deferrable, ``poke`` keeps the worker slot between pokes and ``reschedule`` releases it
    """

    template_fields: Sequence[str] = ("call_id", "vapi_conn_id")
    shown_fields: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"call_id": show_call_id}
    operator_extra_links: Collection[BaseOperatorLink] = (VapiCallLink(),)
    ui_color = "#d9f2ea"
    interval_argument = "poke_interval"

    def __init__(
        self,
        *,
        call_id: str | CallSummary | XComArg,
        vapi_conn_id: str = "vapi_default",
        fail_on: Iterable[CallOutcome | str] = (),
        wait_for_analysis: bool = False,
        analysis_timeout: float | timedelta = 60,
        include: Iterable[str] = (),
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: float | timedelta = 15,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self._refuse_arguments()
        self.call_id = call_id
        self.vapi_conn_id = vapi_conn_id
        self.fail_on: Iterable[CallOutcome | str] = as_given(fail_on)
        self.wait_for_analysis = wait_for_analysis
        self.analysis_timeout = analysis_timeout
        self.include: Iterable[str] = as_given(include)
        self.deferrable = deferrable
        self._wait: CallWait | None = None

    def execute(self, context: Context) -> CallSummary:
        """
        Wait for the call to end.

        :param context: the context of the running task
        :raises VapiConfigurationError: if an argument or the connection is invalid; nothing was sent
        :raises VapiCallFailedError: if the call ended in a way that fails the task
        :raises VapiError: if the call could not be read
        :raises AirflowSensorTimeout: if the call had not ended after ``timeout`` seconds
        :raises AirflowSkipException: with ``soft_fail``, instead of the above, except for transient errors
        :return: the call's summary, see :class:`~vapi_provider.models.summary.CallSummary`
        """
        summary = self._begin_anew(context) if self.deferrable else self._wait_in_the_worker(context)
        return show_end(context, self.outlets, summary) if self.outlets else summary

    def _wait_in_the_worker(self, context: Context) -> CallSummary:
        wait = self._begin(context)
        try:
            return cast("CallSummary", super().execute(context))
        except (AirflowSensorTimeout, AirflowSkipException) as error:
            if error is wait.verdict:
                raise
            if isinstance(error.__cause__, AirflowTaskTimeout):
                # execution_timeout hit during a poke; it fails the task, as it does between pokes.
                raise error.__cause__ from None
        # Airflow's own timeout message names neither the call nor its status.
        return wait.time_out()

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """
        Read the call once.

        :param context: the context of the running task
        :return: False to keep waiting, or the summary
        """
        wait = self._wait or self._begin(context)
        summary = wait.poke()
        if summary is not None:
            return PokeReturnValue(is_done=True, xcom_value=summary)
        if self.reschedule and (wait.saw_call or wait.state.missing_since):
            self._save_state(context, wait.state)
        return False

    def _begin_anew(self, context: Context) -> CallSummary:
        wait = self._begin(context)
        return wait.poke() or self._defer_wait(context, wait)

    def _begin(self, context: Context) -> CallWait:
        from vapi_provider.waiting.wait import WaitState

        # In reschedule mode, each poke runs in a process of its own.
        is_first = context.get("task_reschedule_count", 0) == 0
        state = WaitState(started_at=time.time()) if is_first else self._load_state(context)
        # A sensor executed outside Airflow has no task instance.
        state.try_number = getattr(context.get("ti"), "try_number", None)
        pokes_once = self.reschedule and not self.deferrable
        self._wait = self._begin_wait(
            context, state, self._wait_policy(), is_first=is_first, pokes_once=pokes_once
        )
        return self._wait

    def _awaited_call_id(self, context: Context) -> Any:
        self.refuse_failed("call_id")
        return self.call_id

    def _refuse_arguments(self) -> None:
        from vapi_provider.exceptions import VapiConfigurationError

        for argument, reason in _REFUSED.items():
            if getattr(self, argument, False):
                raise VapiConfigurationError(
                    f"Task {self.task_id!r}: {type(self).__name__} does not support {argument}: {reason}."
                )
