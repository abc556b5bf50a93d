# SPDX-License-Identifier: Apache-2.0
"""The README is short, and its commands and connections work."""

from __future__ import annotations

import re
import shlex

import pytest
from markdown_pages import README, ROOT, block_with, read

from vapi_provider.connection import read_settings
from vapi_provider.hooks.vapi import VapiHook


def test_readme_fits_on_a_few_screens() -> None:
    assert len(read(README).splitlines()) <= 150


@pytest.mark.parametrize("target", ["demo", "play", "test", "compare", "docs"])
def test_target_of_make_exists(target: str) -> None:
    assert f"make {target}" in read(README)
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_exported_connections_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [shlex.split(line, comments=True) for line in block_with("README.md", "export").splitlines()]
    found = []
    for words in lines:
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            monkeypatch.setenv(name, value)
            settings = read_settings(VapiHook.get_connection("vapi_default"))
            found.append((settings.base_url, settings.api_key))
    assert found == [("https://api.vapi.ai", "YOUR_PRIVATE_KEY")]


def test_table_of_faults_is_what_make_compare_prints() -> None:
    source = (ROOT / "benchmarks" / "compare.py").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (the (?:response|worker|task).*?) \| 1 \| 2 \| 2 \|$", read(README), re.MULTILINE)
    assert len(rows) == 3
    assert [row for row in rows if row not in source] == []
