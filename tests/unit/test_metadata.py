# SPDX-License-Identifier: Apache-2.0
"""The provider metadata that Airflow reads."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
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


def run(program: str) -> str:
    """Run a program in a new process, and return its last line."""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_metadata_matches_airflows_schema() -> None:
    jsonschema.validate(get_provider_info(), schema("provider_info.schema.json"))


def test_connection_type_matches_the_provider_yaml_schema() -> None:
    connection_types = schema("provider.yaml.schema.json")["properties"]["connection-types"]
    jsonschema.validate(get_provider_info()["connection-types"], connection_types)


def test_everything_in_the_metadata_exists() -> None:
    info = get_provider_info()
    for kind in ("operators", "sensors", "triggers", "hooks"):
        for entry in info[kind]:
            assert entry["python-modules"], f"no modules in {kind}: {entry}"
            for module in entry["python-modules"]:
                importlib.import_module(module)
    assert len(info["transfers"]) == 2
    for transfer in info["transfers"]:
        importlib.import_module(transfer["python-module"])
    named = [*info["extra-links"], *(entry["hook-class-name"] for entry in info["connection-types"])]
    for name in named:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_link_is_registered() -> None:
    assert get_provider_info()["extra-links"] == ["vapi_provider.links.call.VapiCallLink"]


def test_distribution_matches_the_metadata() -> None:
    info = get_provider_info()
    assert info["package-name"] == "airflow-provider-vapi"
    assert info["versions"] == [__version__]
    assert metadata.version(info["package-name"]) == __version__


def test_airflow_finds_provider_connection_type_and_link() -> None:
    manager = ProvidersManager()
    assert manager.providers["airflow-provider-vapi"].version == __version__
    hook = manager.hooks["vapi"]
    assert hook is not None
    assert (hook.hook_name, hook.connection_id_attribute_name) == ("Vapi", "vapi_conn_id")
    assert "vapi_provider.links.call.VapiCallLink" in manager.extra_links_class_names


def test_metadata_is_read_without_importing_airflow() -> None:
    # Airflow reads the metadata while Airflow itself is being imported.
    imported = run(
        "import sys\n"
        "from vapi_provider.get_provider_info import get_provider_info\n"
        "assert get_provider_info()['connection-types']\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('airflow', 'vapi_provider')))"
    )
    assert imported == "['vapi_provider', 'vapi_provider.connection', 'vapi_provider.get_provider_info']"


@pytest.mark.parametrize(
    "module",
    ["exceptions", "hooks.vapi", "operators.call", "triggers.call"],
)
def test_any_module_can_be_imported_first(module: str) -> None:
    # Importing Airflow reads this provider's metadata while the module is only half imported.
    assert run(f"import vapi_provider.{module}\nprint('imported')") == "imported"


def test_form_shows_key_and_url_and_hides_the_rest() -> None:
    [connection_type] = get_provider_info()["connection-types"]
    behaviour = connection_type["ui-field-behaviour"]
    assert set(behaviour["hidden-fields"]) == {"schema", "port", "login"}
    assert behaviour["relabeling"] == {"password": "API key", "host": "API base URL"}
    assert set(behaviour["placeholders"]) == {"password", "host"}
    assert "https://api.vapi.ai" in behaviour["placeholders"]["host"]


@pytest.mark.parametrize(
    ("name", "low", "high", "default"), [("timeout", 1, 75, "30"), ("max_retries", 0, 10, "4")]
)
def test_form_fields_may_be_empty_and_have_bounds(name: str, low: int, high: int, default: str) -> None:
    [connection_type] = get_provider_info()["connection-types"]
    field = connection_type["conn-fields"][name]
    assert "null" in field["schema"]["type"]
    assert (field["schema"]["minimum"], field["schema"]["maximum"]) == (low, high)
    assert f"{default} if empty" in field["description"]
