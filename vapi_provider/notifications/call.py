# SPDX-License-Identifier: Apache-2.0
"""Phoning the on-call when a task, a DAG run or a deadline fails."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

if TYPE_CHECKING:
    from collections.abc import Generator

    from jinja2 import Environment

    from airflow.providers.common.compat.sdk import Connection, Context
    from vapi_provider.client.client import VapiClient
    from vapi_provider.placing.request import Customer

MAX_MESSAGE_LENGTH = 1_000
"""The longest message in characters; what is longer is cut."""

_REDACTED_LENGTH = 20_000
"""Searching a text for secrets takes time that grows with its length."""

_NAME = "Airflow alert"
_MESSAGE = "{{ dag.dag_id }} failed: {{ exception | default(reason) }}"
_FALLBACK_MESSAGE = "Something failed in Airflow. The message of this alert could not be rendered."
_DEDUP_KEY = "{{ dag.dag_id }}/{{ run_id }}"
# Colours of a terminal, control characters, and halves of characters, which UTF-8 refuses.
_UNSPEAKABLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


class VapiNotifier(BaseNotifier):
    """
    Phone the on-call.

    For the callbacks of tasks and DAGs, for deadline alerts, and for the notifiers of human-in-the-loop operators. It sends
    ``POST /call`` (https://docs.vapi.ai/api-reference/calls/create) once for all notifications with the same
    ``dedup_key``, and never changes the state of what failed: errors are logged, not raised.

    :param customer: the callee: ``number`` in E.164 or ``sip_uri``, and more, see
        :class:`~vapi_provider.placing.request.Customer`. (templated)
    :param phone_number_id: the id of your phone number to call from. (templated)
    :param assistant_id: the assistant that talks; this, ``squad_id`` or ``assistant``. (templated)
    :param squad_id: the squad that talks. (templated)
    :param assistant: an assistant made for this call, as the API takes it. (templated)
    :param assistant_overrides: what differs from the assistant for this call, as the API takes it. (templated)
    :param message: what to say, at most 1,000 characters: the variable value ``message`` of the call. By default the id of
        the DAG and the exception or the reason. (templated)
    :param dedup_key: notifications with the same key and number call once; one key per DAG run by default. (templated)
    :param quiet_for: how long a key is quiet after a call, a timedelta or seconds; 15 minutes by default
    :param speak_first: whether the assistant opens the call with the message; False by default
    :param vapi_conn_id: the connection's id. (templated)
    :param context: the context of the notification, for callers that pass it here
    :raises VapiConfigurationError: at DAG parse time, when arguments are missing, empty or exclude each other; with a
        ``context``, this is logged when it notifies
    """

    template_fields: Sequence[str] = (
        *("customer", "assistant_id", "squad_id", "assistant", "phone_number_id", "assistant_overrides"),
        *("message", "dedup_key", "vapi_conn_id"),
    )

    def __init__(
        self,
        *,
        customer: Customer,
        phone_number_id: str,
        assistant_id: str | None = None,
        squad_id: str | None = None,
        assistant: Mapping[str, Any] | None = None,
        assistant_overrides: Mapping[str, Any] | None = None,
        message: str = _MESSAGE,
        dedup_key: str = _DEDUP_KEY,
        quiet_for: timedelta | float = timedelta(minutes=15),
        speak_first: bool = False,
        vapi_conn_id: str = "vapi_default",
        context: Context | None = None,
    ) -> None:
        # In Airflow 3.0 it takes no context.
        super().__init__()
        self.context: Context = context or {}
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
        self._quiet_seconds = quiet_for.total_seconds() if isinstance(quiet_for, timedelta) else quiet_for
        if context is None:
            # With a context it is made to notify, and Airflow would log all arguments with the exception.
            self._refuse_misuse()

    def _refuse_misuse(self) -> None:
        from vapi_provider.exceptions import VapiConfigurationError
        from vapi_provider.placing.request import find_misuse

        misuse = find_misuse({**vars(self), "extra_body": None})
        if misuse is None and self.speak_first and self.squad_id is not None:
            misuse = "speak_first has no effect with squad_id: the members of a squad have first messages of their own"
        if not isinstance(self._quiet_seconds, (int, float)) or not self._quiet_seconds >= 0:
            misuse = f"quiet_for must be a timedelta or a number of seconds from 0; got {self.quiet_for!r}"
        for name in ("message", "dedup_key"):
            value = getattr(self, name)
            if not isinstance(value, str) or _is_nothing(value):
                misuse = (
                    f"{name} must be a non-empty string; got {str(value)[:20]!r} ({type(value).__name__})"
                )
        if misuse is not None:
            raise VapiConfigurationError(f"{type(self).__name__}: {misuse}.")

    def __call__(self, *args: Any, context: Context | None = None) -> None:
        """
        Notify, as :meth:`notify` does.

        :param args: the context, which Airflow passes to callbacks; without it, the one that the notifier was made with
        :param context: the context, for code that passes it by name
        """
        self.notify(args[0] if len(args) == 1 else context or self.context)

    def __await__(self) -> Generator[Any, None, None]:
        """Notify, as :meth:`async_notify` does, with the context that the notifier was made with."""
        return self.async_notify(self.context).__await__()

    def notify(self, context: Context) -> None:
        """
        Place the call; errors are logged, not raised.

        :param context: the context of the callback, which is not changed
        """
        try:
            from vapi_provider.hooks.vapi import VapiHook

            self._refuse_misuse()
            values = self._render_fields(context)
            self._ring(VapiHook(values["vapi_conn_id"]).client, values)
        except Exception as error:
            self._log_failure(error)

    async def async_notify(self, context: Context) -> None:
        """
        Place the call without blocking the event loop; errors are logged, not raised.

        :param context: the context of the callback, which is not changed
        """
        try:
            from asgiref.sync import sync_to_async

            from airflow.providers.common.compat.connection import get_async_connection

            self._refuse_misuse()
            # In such a thread templates can read Variables; not in asgiref's shared one, in which Airflow reads connections.
            values = await sync_to_async(self._render_fields, thread_sensitive=False)(context)
            conn = await get_async_connection(values["vapi_conn_id"])
            await asyncio.to_thread(self._ring_over, conn, values)
        except Exception as error:
            self._log_failure(error)

    def _log_failure(self, error: Exception) -> None:
        from airflow.providers.common.compat.sdk import AirflowNotFoundException
        from vapi_provider.exceptions import VapiError

        # The message of any other error may contain secrets, so log only the type.
        is_known = isinstance(error, (VapiError, AirflowNotFoundException))
        self.log.error("The alert call failed. %s", error if is_known else f"{type(error).__name__}.")

    def _ring_over(self, conn: Connection, values: Mapping[str, Any]) -> None:
        """Place the call over a connection; in a thread, since importing the client takes a while, too."""
        from vapi_provider.client.client import VapiClient
        from vapi_provider.connection import read_settings

        self._ring(VapiClient(read_settings(conn, values["vapi_conn_id"]), self.log), values)

    def _ring(self, client: VapiClient, values: Mapping[str, Any]) -> None:
        from vapi_provider.notifications.alert import ring_once
        from vapi_provider.placing.request import build_request

        request = build_request(self._arguments(values))
        ring_once(client, request, key=values["dedup_key"], quiet_seconds=self._quiet_seconds, log=self.log)

    def _arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the call, with the message among its variable values."""
        message = values["message"]
        arguments = {**values, "name": _NAME, "schedule_plan": None, "extra_body": None}
        if values["squad_id"] is not None:
            return {**arguments, "extra_body": {"squadOverrides": {"variableValues": {"message": message}}}}
        given = values["assistant_overrides"] or {}
        variables = given.get("variableValues") or {} if isinstance(given, Mapping) else None
        if not isinstance(variables, Mapping):
            # It is refused where all arguments are checked.
            return arguments
        overrides = {**given, "variableValues": {**variables, "message": message}}
        if self.speak_first:
            overrides["firstMessage"] = message
        return {**arguments, "assistant_overrides": overrides}

    def _render_fields(self, context: Context) -> dict[str, Any]:
        """Render the fields into a copy: Airflow passes the same notifier and context to several callbacks."""
        from airflow.providers.common.compat.sdk import redact

        known = _complete(context)
        try:
            environment = self._environment(context.get("dag"))
        except Exception as error:
            # The DAG's own environment is broken, and with it all its tasks.
            self.log.warning("The DAG's template environment fails (%s).", type(error).__name__)
            environment = self._environment(None)
        values = {name: self._render_field(name, known, environment) for name in self.template_fields}
        values["message"] = str(redact(values["message"][:_REDACTED_LENGTH]))[:MAX_MESSAGE_LENGTH]
        return values

    def _render_field(self, name: str, context: dict[str, Any], environment: Environment) -> Any:
        fallback = {"message": _FALLBACK_MESSAGE, "dedup_key": _DEDUP_KEY}.get(name)
        try:
            rendered = self.render_template(getattr(self, name), context, environment)  # type: ignore[arg-type]
            if fallback is None:
                return rendered
            text = _UNSPEAKABLE.sub(" ", str(rendered)).strip()
            if not _is_nothing(text):
                return text
            problem = "the result is empty"
        except Exception as error:
            problem = type(error).__name__
        if fallback is None:
            from vapi_provider.exceptions import VapiConfigurationError

            raise VapiConfigurationError(f"{name} cannot be rendered ({problem}). Nothing was sent.")
        self.log.warning("%s cannot be rendered (%s), so a default is used.", name, problem)
        return self.render_template(fallback, context, environment)  # type: ignore[arg-type]

    def _render(self, template: Any, context: Any, dag: Any = None) -> str:
        """Render to text: a DAG that renders natively would turn a phone number into an integer."""
        return str(template.render(context))

    def _environment(self, dag: Any) -> Environment:
        from jinja2 import ChainableUndefined

        # Names that this kind of callback lacks render as empty: silence would be worse.
        environment: Environment = (
            dag.get_template_env(force_sandboxed=True) if dag else self.get_template_env()
        )
        return environment.overlay(undefined=ChainableUndefined)


def _is_nothing(text: str) -> bool:
    return text.strip() in ("", "None")


def _complete(context: Context) -> dict[str, Any]:
    """Return a copy of the context that has ``var`` and ``conn``, and what the default message and key use."""
    known: dict[str, Any] = dict(context)
    if "var" not in known:
        # As in the contexts of a deadline, and of some callbacks of a DAG.
        from airflow.sdk.execution_time.context import ConnectionAccessor, VariableAccessor

        json, value = VariableAccessor(deserialize_json=True), VariableAccessor(deserialize_json=False)
        known.update(var={"json": json, "value": value}, conn=ConnectionAccessor())
    known.setdefault("reason", "see its logs")
    run = known.get("dag_run")
    if isinstance(run, Mapping):
        # A deadline alert has the DAG run as a dictionary, and no DAG.
        known.update(reason="it missed a deadline", run_id=run.get("dag_run_id") or run.get("run_id"))
        known["dag"] = {"dag_id": run.get("dag_id")}
    return known
