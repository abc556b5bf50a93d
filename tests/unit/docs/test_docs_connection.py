# SPDX-License-Identifier: Apache-2.0
"""The connections and settings that the documentation shows work."""

from __future__ import annotations

import configparser
import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from markdown_pages import DOCS, PAGES, Block, block_with, blocks_in, blocks_of, code_in, label, read, table

from airflow.configuration import conf
from airflow.providers.common.compat.sdk import Connection
from vapi_provider.connection import (
    ARTIFACT_HOSTS,
    CONN_FIELDS,
    DEFAULT_BASE_URL,
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT,
    UI_FIELD_BEHAVIOUR,
    VapiSettings,
    read_settings,
)
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.models.call import Call

CALL_ID = "0198a3f0-0000-7000-8000-000000000001"


def settings_of(**fields: Any) -> VapiSettings:
    return read_settings(Connection(conn_id="vapi_default", **fields))


@pytest.mark.parametrize("block", blocks_in("json"), ids=label)
def test_json_is_a_summary_a_rule_or_usable_connections(block: Block) -> None:
    shown = json.loads(block.text)
    if "Rules" in shown:
        # A lifecycle rule of S3, as `aws s3api` takes it.
        [rule] = shown["Rules"]
        assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    elif "ended_reason" in shown:
        assert list(shown) == list(Call.model_validate({"id": CALL_ID}).summary())
    else:
        for fields in [shown] if "conn_type" in shown else shown.values():
            assert settings_of(**fields).api_key == "YOUR_PRIVATE_KEY"


def exports() -> list[str]:
    lines = [line for block in blocks_in("shell") for line in block.text.splitlines()]
    return [shlex.split(line)[1] for line in lines if line.startswith("export ")]


@pytest.mark.parametrize("assignment", exports())
def test_exported_connection_can_be_read(assignment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable, _, value = assignment.partition("=")
    assert variable == "AIRFLOW_CONN_VAPI_DEFAULT"
    monkeypatch.setenv(variable, value)
    settings = read_settings(VapiHook.get_connection("vapi_default"))
    host = "api.eu.vapi.ai" if "eu" in value else "api.vapi.ai"
    assert (settings.api_key, settings.base_url) == ("YOUR_PRIVATE_KEY", f"https://{host}")
    assert (settings.timeout, settings.max_retries) == ((10, 2) if "timeout" in value else (30, 4))


def test_file_of_connections_works_with_its_backend(tmp_path: Path) -> None:
    shown = configparser.ConfigParser()
    shown.read_string(block_with("connection.md", "[secrets]"))
    module, _, name = shown["secrets"]["backend"].rpartition(".")
    arguments = json.loads(shown["secrets"]["backend_kwargs"])
    assert arguments.keys() == {"connections_file_path"}
    file = tmp_path / Path(arguments["connections_file_path"]).name
    file.write_text(block_with("connection.md", '"vapi_default": {'), encoding="utf-8")
    backend = getattr(importlib.import_module(module), name)(connections_file_path=str(file))
    assert read_settings(backend.get_connection("vapi_default")).api_key == "YOUR_PRIVATE_KEY"


def options_of_airflow(page: Path) -> Iterator[tuple[str, str]]:
    text = read(page)
    # As prose has them, as environment variables have them, and as the file has them.
    yield from re.findall(r"`\[(\w+)\]\s+(\w+)`", text)
    for section, option in re.findall(r"AIRFLOW__([A-Z_]+?)__([A-Z_]+)", text):
        yield section.lower(), option.lower()
    for block in blocks_of(page):
        if block.language == "ini":
            parser = configparser.ConfigParser(interpolation=None)
            parser.read_string(block.text)
            yield from ((section, option) for section in parser.sections() for option in parser[section])


def test_every_option_of_airflow_exists() -> None:
    options = {name: section.get("options", {}) for name, section in conf.configuration_description.items()}
    # From Airflow 3.3 on, and of a provider.
    newer = {"state_store", "celery"} - options.keys()
    named = {(page.name, *option) for page in PAGES for option in options_of_airflow(page)}
    missing = [
        (page, section, option)
        for page, section, option in sorted(named)
        if section not in newer and option not in options.get(section, {})
    ]
    assert missing == []
    # The pattern still finds what the pages name.
    assert {
        ("core", "test_connection"),
        ("operators", "default_deferrable"),
        ("core", "dags_folder"),
    } <= {(section, option) for _, section, option in named}


def test_connection_fields_match_the_code() -> None:
    rows = {row[0]: row[1:] for row in table("connection.md", "| field |")}
    extra = {code_in(field)[-1]: cells for field, cells in rows.items() if field.startswith("extra")}
    assert list(extra) == [*CONN_FIELDS, ARTIFACT_HOSTS]
    for name, default in (("timeout", f"{DEFAULT_TIMEOUT:g}"), ("max_retries", str(DEFAULT_MAX_RETRIES))):
        schema = CONN_FIELDS[name]["schema"]
        assert extra[name][2].endswith(f"; {schema['minimum']} to {schema['maximum']}")
        assert extra[name][1] == default
    assert rows["host (*API base URL*)"][1] == f"`{DEFAULT_BASE_URL}`"
    labels = re.findall(r"^\| (\w+) \(\*(.*?)\*\)", read(DOCS / "connection.md"), re.MULTILINE)
    assert dict(labels) == UI_FIELD_BEHAVIOUR["relabeling"]


def test_form_has_no_field_for_the_port() -> None:
    assert "port" in UI_FIELD_BEHAVIOUR["hidden-fields"]
    assert "The form has no field for the port." in " ".join(read(DOCS / "connection.md").split())
