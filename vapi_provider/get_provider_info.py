# SPDX-License-Identifier: Apache-2.0
"""The provider metadata that Airflow reads."""

from __future__ import annotations

from typing import Any

from vapi_provider import __version__
from vapi_provider.connection import CONN_FIELDS, CONN_TYPE, HOOK_NAME, UI_FIELD_BEHAVIOUR


def get_provider_info() -> dict[str, Any]:
    """
    Return the provider metadata for the ``apache_airflow_provider`` entry point.

    :return: metadata that follows Airflow's ``provider_info.schema.json`` and, for the connection type,
        ``provider.yaml.schema.json``
    """
    integration = "Vapi"
    return {
        "package-name": "airflow-provider-vapi",
        "name": HOOK_NAME,
        "description": "Place phone calls with `Vapi <https://vapi.ai>`__, wait for them, and read and label them.",
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
        "transfers": [
            {
                "source-integration-name": integration,
                # Airflow's own integration for object storage.
                "target-integration-name": "Common IO",
                "python-module": f"vapi_provider.transfers.{module}",
            }
            for module in ("calls_to_object_storage", "recording_to_object_storage")
        ],
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
