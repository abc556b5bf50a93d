# SPDX-License-Identifier: Apache-2.0
"""Operators that work on one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator
from vapi_provider.links.call import VapiCallLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class VapiUpdateCallOperator(BaseOperator):
    """
    Set the name of a call, by which people find it in Vapi's dashboard.

    It sends ``PATCH /call/{id}`` with nothing but the name (https://docs.vapi.ai/api-reference/calls/update). Running
    it twice has the effect of running it once.

    :param call_id: the call's id. (templated)
    :param name: the new name, 1 to 40 characters. (templated)
    :param vapi_conn_id: the connection's id. (templated)
    """

    template_fields: Sequence[str] = ("call_id", "name", "vapi_conn_id")
    operator_extra_links = (VapiCallLink(),)
    ui_color = "#d9f2ea"

    def __init__(
        self,
        *,
        call_id: str,
        name: str,
        vapi_conn_id: str = "vapi_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.call_id = call_id
        self.name = name
        self.vapi_conn_id = vapi_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Set the name.

        :param context: the context of the running task
        :raises VapiConfigurationError: when id, name or connection is unusable; nothing is sent then
        :raises VapiError: when the name could not be set
        :return: the call's summary, see :meth:`vapi_provider.models.call.Call.summary`
        """
        # Here, not at the top: a DAG file is parsed every few seconds and needs none of it.
        from vapi_provider.hooks.arguments import check_call_id
        from vapi_provider.hooks.vapi import VapiHook

        call_id = check_call_id(self.call_id)
        VapiCallLink().persist(context, call_id)
        call = VapiHook(self.vapi_conn_id).update_call(call_id, name=self.name)
        summary = call.summary()
        self.log.info("Call %s has the name %r.", call_id, summary["name"])
        return summary
