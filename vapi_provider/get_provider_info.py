# SPDX-License-Identifier: Apache-2.0
"""All that Airflow is told about the package, and the one definition of its connection form."""

from __future__ import annotations

from typing import Any

from vapi_provider import __version__

DEFAULT_HOST = "https://api.vapi.ai"
DEFAULT_TIMEOUT = 30.0
MAX_TIMEOUT = 75.0
DEFAULT_MAX_RETRIES = 4
MAX_MAX_RETRIES = 10

HOOK_NAME = "Vapi"
CONN_TYPE = "vapi"

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema", "port", "login"],
    "relabeling": {"password": "API key", "host": "API base URL"},
    "placeholders": {
        "password": "the private key from dashboard.vapi.ai, not the public one",
        "host": f"{DEFAULT_HOST} (leave empty for this)",
    },
}
"""How the form shows Airflow's own fields."""

CONN_FIELDS: dict[str, Any] = {
    "timeout": {
        "label": "Request timeout (seconds)",
        "description": f"How long one request may take in all; {DEFAULT_TIMEOUT:g} when empty.",
        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": MAX_TIMEOUT},
    },
    "max_retries": {
        "label": "Retries",
        "description": "How often a request that is safe to repeat is sent again after a passing error; "
        f"{DEFAULT_MAX_RETRIES} when empty.",
        "schema": {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_MAX_RETRIES},
    },
}
"""The form's fields that are stored in the connection's extra."""


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
        "triggers": [{"integration-name": integration, "python-modules": ["vapi_provider.triggers.call"]}],
        "hooks": [{"integration-name": integration, "python-modules": ["vapi_provider.hooks.vapi"]}],
        "extra-links": ["vapi_provider.links.call.VapiCallLink"],
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
