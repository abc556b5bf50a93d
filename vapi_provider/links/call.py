# SPDX-License-Identifier: Apache-2.0
"""The link from a task to its call's page in the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context, TaskInstanceKey


class VapiCallLink(BaseOperatorLink):
    """The *Vapi Call* button on a task's page, which opens the task's call."""

    name = "Vapi Call"

    def persist(self, context: Context, url: str) -> None:
        """
        Publish the link while the task is running.

        Airflow itself stores links only when a task ends.

        :param context: the context of the running task
        :param url: the URL of the call's page, see :meth:`vapi_provider.hooks.vapi.VapiHook.dashboard_url`
        """
        from airflow.providers.common.compat.sdk import XCom
        from airflow.sdk.bases.xcom import BaseXCom

        ti: Any = context.get("ti")
        if ti is None:
            # An operator executed outside Airflow has no task instance.
            return
        if XCom is BaseXCom:
            ti.xcom_push(key=self.xcom_key, value=url)
            return
        # The button reads the URL from the database, where a custom backend would store a reference.
        BaseXCom.set(
            self.xcom_key,
            url,
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=ti.map_index,
        )

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the link that the task published.

        :param operator: the operator that the link is attached to
        :param ti_key: the task instance
        :return: the URL; empty if the task has not published one
        """
        from airflow.sdk.bases.xcom import BaseXCom

        # The protocol has writable attributes; those of a key are read-only.
        return BaseXCom.get_value(key=self.xcom_key, ti_key=ti_key) or ""  # type: ignore[arg-type]
