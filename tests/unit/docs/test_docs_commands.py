# SPDX-License-Identifier: Apache-2.0
"""The commands that the documentation shows work."""

from __future__ import annotations

import importlib.util
import re
import shlex

import pytest
from markdown_pages import PAGES, README, ROOT, blocks_in, code_in, label, read, table

from airflow.providers.common.compat.sdk import Connection
from vapi_provider.connection import DEFAULT_BASE_URL, read_settings

PROGRAMS = {"airflow", "curl", "export", "make", "pip", "python"}


def commands() -> list[tuple[str, list[str]]]:
    found = []
    for block in blocks_in("shell"):
        # A line break within quotes is part of the command.
        for line in re.findall(r"(?:'[^']*'|\"[^\"]*\"|[^\n])+", block.text.replace("\\\n", " ")):
            if words := shlex.split(line, comments=True):
                found.append((label(block), words))
    return found


def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", read(ROOT / "Makefile"), re.MULTILINE))


def test_every_command_is_of_a_program_with_tests() -> None:
    assert [(where, words) for where, words in commands() if words[0] not in PROGRAMS] == []


def test_every_target_of_make_exists() -> None:
    inline = [
        (page.name, target)
        for page in [*PAGES, README]
        for target in re.findall(r"`make ([\w-]+)", read(page))
    ]
    lines = [(where, words[1]) for where, words in commands() if words[0] == "make"]
    assert [found for found in [*inline, *lines] if found[1] not in targets()] == []


def test_contributing_names_every_target_of_make() -> None:
    named = {code_in(row[0])[0].removeprefix("make ") for row in table("CONTRIBUTING.md", "| command |")}
    assert targets() - named == {"help", "clean"}


def test_variables_and_files_given_to_make_exist() -> None:
    makefile = read(ROOT / "Makefile")
    for _, words in [command for command in commands() if command[1][0] == "make"]:
        for variable, value in (word.split("=", 1) for word in words[2:]):
            assert re.search(rf"^{variable} \?=", makefile, re.MULTILINE), variable
            for part in value.split():
                assert "/" not in part or (ROOT / part).exists(), part


def airflow_commands() -> list[list[str]]:
    return [words for _, words in commands() if words[0] == "airflow"]


@pytest.mark.parametrize("words", airflow_commands(), ids=" ".join)
def test_command_of_airflow_is_accepted(words: list[str]) -> None:
    from airflow.cli.cli_parser import get_parser

    given = get_parser().parse_args(words[1:])
    if words[2] == "add":
        fields = {"conn_type": given.conn_type, "password": given.conn_password, "extra": given.conn_extra}
        # The column that it is stored in makes a number of it.
        port = int(given.conn_port) if given.conn_port else None
        settings = read_settings(Connection(conn_id="vapi_default", port=port, **fields))
        assert settings.timeout == (60 if given.conn_extra else 30)
        assert settings.base_url == DEFAULT_BASE_URL + (":443" if given.conn_port else "")


def test_every_module_that_is_run_exists() -> None:
    run = [words[2] for _, words in commands() if words[:2] == ["python", "-m"]]
    assert "vapi_provider.simulator" in run
    assert [module for module in run if not importlib.util.find_spec(module)] == []
