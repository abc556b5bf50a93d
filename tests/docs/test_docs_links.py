# SPDX-License-Identifier: Apache-2.0
"""Every link of README and documentation leads somewhere, and every picture shows something; for ``make docs``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_pages import DOCS, PAGES, README, label, read

EACH_PAGE = pytest.mark.parametrize("page", [*PAGES, README], ids=label)


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def broken_links_of(page: Path) -> Iterator[str]:
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", read(page)):
        path = page.parent / target if target else page
        if not path.exists():
            yield target
        elif anchor and anchor not in map(slug, re.findall(r"^#+ (.*)", read(path), re.MULTILINE)):
            yield f"{target}#{anchor}"


@EACH_PAGE
def test_links_to_files_and_headings_lead_somewhere(page: Path) -> None:
    assert list(broken_links_of(page)) == []


@EACH_PAGE
def test_pictures_are_png_files_with_a_description(page: Path) -> None:
    for described, target in re.findall(r"!\[([^\]]*)\]\((?!http)([^)]+)\)", read(page)):
        assert len(described) > 20, f"{target} needs a description of what it shows"
        content = (page.parent / target).read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n"), f"{target} is not a PNG file"


def test_every_picture_is_shown() -> None:
    texts = [read(README).replace("(docs/", "("), *map(read, PAGES)]
    shown = {target for text in texts for target in re.findall(r"\]\((images/[^)]+)\)", text)}
    assert {f"images/{path.name}" for path in DOCS.glob("images/*")} == shown
