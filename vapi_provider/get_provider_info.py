# SPDX-License-Identifier: Apache-2.0
"""The provider metadata that Airflow reads."""

from __future__ import annotations

from typing import Any

from vapi_provider import __version__
from vapi_provider.connection import CONN_FIELDS, CONN_TYPE, HOOK_NAME, UI_FIELD_BEHAVIOUR


def get_provider_info() -> dict[str, Any]:
    """
    Describe the package to Airflow; the target of its ``apache_airflow_provider`` entry point.

    :return: metadata as Airflow's ``provider_info.schema.json`` and, for the connection type,
        ``provider.yaml.schema.json`` describe it
    """
    integration = "Vapi"
    return {
        "package-name": "airflow-provider-vapi",
        "name": HOOK_NAME,
        "description": "Place, wait for, label and read phone calls of `Vapi <https://vapi.ai>`__, the voice-AI API.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://docs.vapi.ai/",
                "tags": ["service"],
            }
        ],
        "operators": [{"integration-name": integration, "python-modules": ["vapi_provider.operators.call"]}],
        "sensors": [{"integration-name": integration, "python-modules": ["vapi_provider.sensors.call"]}],
        "triggers": [
            {
                "integration-name": integration,
                "python-modules": ["vapi_provider.triggers.call", "vapi_provider.triggers.ended"],
            }
        ],
        "hooks": [{"integration-name": integration, "python-modules": ["vapi_provider.hooks.vapi"]}],
        "extra-links": ["vapi_provider.links.call.VapiCallLink"],
        "notifications": ["vapi_provider.notifications.call.VapiNotifier"],
        "connection-types": [
            {
                "connection-type": CONN_TYPE,
                "hook-class-name": "vapi_provider.hooks.vapi.VapiHook",
                "hook-name": HOOK_NAME,
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
                "conn-fields": CONN_FIELDS,
            }
        ],
    }
