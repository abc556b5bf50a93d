# SPDX-License-Identifier: Apache-2.0
"""Phoning the on-call when a task, a DAG or a deadline fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

if TYPE_CHECKING:
    from collections.abc import Generator

    from jinja2 import Environment

    from airflow.providers.common.compat.sdk import Context
    from vapi_provider.client.client import VapiClient
    from vapi_provider.placing.request import Customer

_LONGEST_MESSAGE = 1_000
_NAME = "Airflow alert"
_UNKNOWN = "Something failed in Airflow. The message of this alert could not be rendered."
_DEDUP_KEY = "{{ dag.dag_id }}/{{ run_id }}"


class VapiNotifier(BaseNotifier):
    """
    Place a call that says what failed.

    For ``on_failure_callback`` and the other callbacks of tasks and DAGs, for deadline alerts, and for the notifiers of
    human-in-the-loop operators. It sends ``POST /call`` (https://docs.vapi.ai/api-reference/calls/create) once for all
    notifications with one ``dedup_key``, and never changes the state of what failed: errors are logged.

    :param customer: the callee: ``number`` in E.164 or ``sip_uri``, and more, see
        :class:`~vapi_provider.placing.request.Customer`. (templated)
    :param assistant_id: the assistant that talks; this, ``squad_id`` or ``assistant``. (templated)
    :param squad_id: the squad that talks. (templated)
    :param assistant: an assistant made for this call, as the API takes it. (templated)
    :param phone_number_id: the phone number of yours to call from. (templated)
    :param assistant_overrides: what differs from the assistant for this call, as the API takes it. (templated)
    :param message: what to say, at most 1,000 characters; the variable value ``message`` of the call. (templated)
    :param dedup_key: notifications with the same key ring once; one DAG run by default. (templated)
    :param quiet_for: for how long a key does not ring again, a timedelta or seconds; 15 minutes by default
    :param speak_first: whether the message is also the first thing that the assistant says; False by default
    :param vapi_conn_id: the connection's id. (templated)
    :param context: the context to notify of, where Airflow gives it here
    :raises VapiConfigurationError: when arguments are missing or exclude each other
    """

    template_fields: Sequence[str] = (
        "customer",
        "assistant_id",
        "squad_id",
        "assistant",
        "phone_number_id",
        "assistant_overrides",
        "message",
        "dedup_key",
        "vapi_conn_id",
    )
    # A number stays text where the DAG renders natively.
    render_template_as_native_obj = False

    def __init__(
        self,
        *,
        customer: Customer,
        phone_number_id: str,
        assistant_id: str | None = None,
        squad_id: str | None = None,
        assistant: Mapping[str, Any] | None = None,
        assistant_overrides: Mapping[str, Any] | None = None,
        message: str = "{{ dag.dag_id }} failed: {{ exception | default(reason) }}",
        dedup_key: str = _DEDUP_KEY,
        quiet_for: timedelta | float = timedelta(minutes=15),
        speak_first: bool = False,
        vapi_conn_id: str = "vapi_default",
        context: Context | None = None,
    ) -> None:
        # In Airflow 3.0 it takes no context.
        super().__init__()
        self.context = context or {}
        self.customer = customer
        self.phone_number_id = phone_number_id
        self.assistant_id = assistant_id
        self.squad_id = squad_id
        self.assistant = assistant
        self.assistant_overrides = assistant_overrides
        self.message = message
        self.dedup_key = dedup_key
        self.quiet_for = quiet_for
        self.speak_first = speak_first
        self.vapi_conn_id = vapi_conn_id
        self._refuse_misuse()

    def _refuse_misuse(self) -> None:
        from vapi_provider.exceptions import VapiConfigurationError
        from vapi_provider.placing.request import find_misuse
        from vapi_provider.waiting.policy import seconds_of

        misuse = find_misuse({**vars(self), "extra_body": None})
        if misuse is None and self.speak_first and self.squad_id is not None:
            misuse = "speak_first has no effect with squad_id: a squad's first message is its own"
        if misuse is not None:
            raise VapiConfigurationError(f"{type(self).__name__}: {misuse}.")
        self.quiet_seconds = seconds_of("quiet_for", self.quiet_for)

    def __call__(self, *args: Any) -> None:
        """
        Notify; errors are logged and not raised.

        :param args: the context, as Airflow gives it to callbacks
        """
        self.notify(args[0] if len(args) == 1 else {})

    def __await__(self) -> Generator[Any, None, None]:
        """Notify of the context that the notifier was made with; errors are logged and not raised."""
        return self.async_notify(self.context).__await__()

    def notify(self, context: Context) -> None:
        """
        Place the call; errors are logged and not raised.

        :param context: the context of the callback, which stays as it is
        """
        from vapi_provider.hooks.vapi import VapiHook

        try:
            values = self._rendered(context)
            self._ring(VapiHook(values["vapi_conn_id"]).client, values)
        except Exception as error:
            self._log_failure(error)

    async def async_notify(self, context: Context) -> None:
        """
        Place the call without blocking the event loop; errors are logged and not raised.

        :param context: the context of the callback, which stays as it is
        """
        from airflow.providers.common.compat.connection import get_async_connection
        from vapi_provider.polling.connection import open_client

        try:
            values = self._rendered(context)
            client = open_client(await get_async_connection(values["vapi_conn_id"]))
            await asyncio.to_thread(self._ring, client, values)
        except Exception as error:
            self._log_failure(error)

    def _log_failure(self, error: Exception) -> None:
        from vapi_provider.exceptions import VapiError

        # Any other text may hold the values of a template.
        problem = str(error) if isinstance(error, VapiError) else type(error).__name__
        self.log.error("The alert was not placed: %s", problem)

    def _ring(self, client: VapiClient, values: Mapping[str, Any]) -> None:
        from vapi_provider.notifications.alert import ring_once
        from vapi_provider.placing.request import build_request

        ring_once(
            client,
            build_request(self._arguments(values)),
            key=values["dedup_key"],
            quiet_seconds=self.quiet_seconds,
            log=self.log,
        )

    def _arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the call, with the message in its variable values."""
        message = values["message"]
        arguments = {**values, "name": _NAME, "schedule_plan": None, "extra_body": None}
        if values["squad_id"] is not None:
            return {**arguments, "extra_body": {"squadOverrides": {"variableValues": {"message": message}}}}
        overrides = dict(values["assistant_overrides"] or {})
        overrides["variableValues"] = {**(overrides.get("variableValues") or {}), "message": message}
        if self.speak_first:
            overrides["firstMessage"] = message
        return {**arguments, "assistant_overrides": overrides}

    def _rendered(self, context: Context) -> dict[str, Any]:
        """Render the fields into a copy: Airflow gives one notifier and one context to several callbacks."""
        from airflow.providers.common.compat.sdk import redact

        known = _with_dag_run_of_a_deadline(context)
        environment = self._environment(context.get("dag"))
        values = {name: self._render_field(name, known, environment) for name in self.template_fields}
        values["message"] = str(redact(values["message"]))[:_LONGEST_MESSAGE]
        return values

    def _render_field(self, name: str, context: dict[str, Any], environment: Environment) -> Any:
        try:
            return self.render_template(getattr(self, name), context, environment)  # type: ignore[arg-type]
        except Exception as error:
            if name not in ("message", "dedup_key"):
                raise
            self.log.warning("The template of %s cannot be rendered (%s).", name, type(error).__name__)
            return _UNKNOWN if name == "message" else self.render_template(_DEDUP_KEY, context, environment)  # type: ignore[arg-type]

    def _environment(self, dag: Any) -> Environment:
        from jinja2 import ChainableUndefined

        # What this kind of callback does not know renders as nothing: silence would be worse.
        environment: Environment = (
            dag.get_template_env(force_sandboxed=True) if dag else self.get_template_env()
        )
        return environment.overlay(undefined=ChainableUndefined)


def _with_dag_run_of_a_deadline(context: Context) -> dict[str, Any]:
    """Return a copy of the context; that of a deadline alert has the DAG run as a dictionary, and no DAG."""
    known: dict[str, Any] = dict(context)
    run = known.get("dag_run")
    if isinstance(run, Mapping):
        known.setdefault("dag", {"dag_id": run.get("dag_id")})
        known.setdefault("run_id", run.get("dag_run_id") or run.get("run_id"))
        known.setdefault("reason", "a deadline was missed")
    return known
