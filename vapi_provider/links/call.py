# SPDX-License-Identifier: Apache-2.0
"""The link from a task to the page of its call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context, TaskInstanceKey


class VapiCallLink(BaseOperatorLink):
    """The button "Vapi Call" on a task's page; it opens the call that the task works on."""

    name = "Vapi Call"

    def persist(self, context: Context, url: str) -> None:
        """
        Make the button work from now on.

        Airflow itself stores links only when a task is over, and a running call is the interesting one.

        :param context: the context of the running task
        :param url: the page of the call, see :meth:`vapi_provider.hooks.vapi.VapiHook.dashboard_url`
        """
        # An operator that is run by hand has no task instance.
        if ti := context.get("ti"):
            ti.xcom_push(key=self.xcom_key, value=url)

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the link that the task stored.

        :param operator: the operator that the link is attached to
        :param ti_key: the task instance
        :return: the URL; empty before the task knew its call
        """
        from airflow.providers.common.compat.sdk import XCom

        return XCom.get_value(key=self.xcom_key, ti_key=ti_key) or ""
