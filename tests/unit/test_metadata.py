# SPDX-License-Identifier: Apache-2.0
"""What Airflow is told about the package."""

from __future__ import annotations

import importlib
import json
from importlib import metadata, resources
from typing import Any

import jsonschema
import pytest

from airflow.providers_manager import ProvidersManager
from vapi_provider import __version__
from vapi_provider.get_provider_info import get_provider_info


def schema(name: str) -> dict[str, Any]:
    text = resources.files("airflow").joinpath(name).read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def test_the_metadata_is_what_airflow_expects() -> None:
    jsonschema.validate(get_provider_info(), schema("provider_info.schema.json"))


def test_the_connection_type_is_what_the_provider_yaml_allows() -> None:
    connection_types = schema("provider.yaml.schema.json")["properties"]["connection-types"]
    jsonschema.validate(get_provider_info()["connection-types"], connection_types)


def test_everything_that_the_metadata_names_is_there() -> None:
    info = get_provider_info()
    for kind in ("operators", "sensors", "hooks"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                importlib.import_module(module)
    named = [*info["extra-links"], *(entry["hook-class-name"] for entry in info["connection-types"])]
    for name in named:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute)


def test_the_distribution_is_the_one_that_the_metadata_names() -> None:
    info = get_provider_info()
    assert info["package-name"] == "airflow-provider-vapi"
    assert info["versions"] == [__version__]
    assert metadata.version(info["package-name"]) == __version__


def test_airflow_finds_the_provider_its_connection_type_and_its_link() -> None:
    manager = ProvidersManager()
    assert manager.providers["airflow-provider-vapi"].version == __version__
    hook = manager.hooks["vapi"]
    assert hook is not None
    assert (hook.hook_name, hook.connection_id_attribute_name) == ("Vapi", "vapi_conn_id")
    assert "vapi_provider.links.call.VapiCallLink" in manager.extra_links_class_names


def test_the_form_shows_key_and_url_and_hides_what_means_nothing() -> None:
    [connection_type] = get_provider_info()["connection-types"]
    behaviour = connection_type["ui-field-behaviour"]
    assert set(behaviour["hidden-fields"]) == {"schema", "port", "login"}
    assert behaviour["relabeling"] == {"password": "API key", "host": "API base URL"}
    assert set(behaviour["placeholders"]) == {"password", "host"}
    assert "https://api.vapi.ai" in behaviour["placeholders"]["host"]


@pytest.mark.parametrize("name", ["timeout", "max_retries"])
def test_the_forms_own_fields_may_stay_empty(name: str) -> None:
    [connection_type] = get_provider_info()["connection-types"]
    assert "null" in connection_type["conn-fields"][name]["schema"]["type"]
