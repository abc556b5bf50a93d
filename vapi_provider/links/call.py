# SPDX-License-Identifier: Apache-2.0
"""The link from a task to the page of its call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
        from airflow.providers.common.compat.sdk import XCom
        from airflow.sdk.bases.xcom import BaseXCom

        ti: Any = context.get("ti")
        if ti is None:
            # An operator that is run by hand has no task instance.
            return
        if XCom is BaseXCom:
            ti.xcom_push(key=self.xcom_key, value=url)
            return
        # The button opens what is in the database, which a custom backend would make a reference.
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
        Return the link that the task stored.

        :param operator: the operator that the link is attached to
        :param ti_key: the task instance
        :return: the URL; empty before the task knew its call
        """
        from airflow.sdk.bases.xcom import BaseXCom

        # Its protocol has attributes that can be set, which those of a key cannot.
        return BaseXCom.get_value(key=self.xcom_key, ti_key=ti_key) or ""  # type: ignore[arg-type]
