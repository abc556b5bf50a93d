# SPDX-License-Identifier: Apache-2.0
"""The way from a task to its call in Vapi's dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context, TaskInstanceKey


def dashboard_url(call_id: str) -> str:
    """
    Return the page of a call in Vapi's dashboard.

    :param call_id: the call's id, checked
    :return: the URL; who opens it needs an account of the organization
    """
    return f"https://dashboard.vapi.ai/calls/{call_id}"


class VapiCallLink(BaseOperatorLink):
    """The button "Vapi Call" on a task's page; it leads to the call that the task works on."""

    name = "Vapi Call"

    def persist(self, context: Context, call_id: str) -> None:
        """
        Make the button work from now on.

        Airflow itself stores links only when a task is over; a person wants to look while it runs.

        :param context: the context of the running task
        :param call_id: the call's id, checked
        """
        # Whoever tries an operator by hand has no task instance to show a button on.
        if ti := context.get("ti"):
            ti.xcom_push(key=self.xcom_key, value=dashboard_url(call_id))

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the link that the task stored.

        :param operator: the operator that the link is attached to
        :param ti_key: the task instance
        :return: the URL; empty before the task knew its call
        """
        from airflow.providers.common.compat.sdk import XCom

        return XCom.get_value(key=self.xcom_key, ti_key=ti_key) or ""
