# SPDX-License-Identifier: Apache-2.0
"""Reads the README and the documentation: code blocks, tables and inline code."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"

PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
"""All pages except the README, which has its own tests."""


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    info: str
    text: str

    @property
    def language(self) -> str:
        return self.info.partition(" ")[0]

    @property
    def file(self) -> str | None:
        """The file of the block, if its first line names one."""
        named = re.match(r"# ([\w/]+\.py)\n", self.text)
        return named[1] if named else None


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def path_of(page: str) -> Path:
    """Return the path of a page in ``docs`` or at the top level."""
    return DOCS / page if (DOCS / page).exists() else ROOT / page


@cache
def blocks_of(page: Path) -> tuple[Block, ...]:
    text, blocks = read(page), []
    for found in re.finditer(r"^( *)(```+)([^`\n]*)\n(.*?)^\1\2 *$", text, re.DOTALL | re.MULTILINE):
        indent, _, language, body = found.groups()
        line = text.count("\n", 0, found.start()) + 1
        blocks.append(
            Block(page, line, language.strip(), re.sub(rf"^{indent}", "", body, flags=re.MULTILINE))
        )
    return tuple(blocks)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def label(where: Block | Path) -> str:
    """Return the name of a page, or of a block by page and line, for test ids and messages."""
    return where.name if isinstance(where, Path) else f"{where.page.name}:{where.line}"


def blocks_in(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def block_with(page: str, text: str) -> str:
    """Return the only block of a page that contains a text."""
    found = [block for block in blocks_of(path_of(page)) if text in block.text]
    assert len(found) == 1, f"{len(found)} blocks of {page} contain {text!r}: {[*map(label, found)]}"
    return found[0].text


def table(page: str, header: str) -> list[list[str]]:
    """Return the cells of the table whose header row begins with the given text."""
    found = re.findall(
        rf"^{re.escape(header)}.*\n\|[-|]+\|\n((?:\|.*\n)+)", read(path_of(page)), re.MULTILINE
    )
    assert len(found) == 1, f"{len(found)} tables of {page} begin with {header!r}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[0].splitlines()]


def columns(page: str, header: str) -> list[dict[str, str]]:
    """Return a table's rows as its columns' headings and their cells; the first heading is ``""``."""
    [heading] = re.findall(rf"^{re.escape(header)}.*", read(path_of(page)), re.MULTILINE)
    names = ["", *(cell.strip() for cell in heading.strip("|").split("|")[1:])]
    return [dict(zip(names, row, strict=True)) for row in table(page, header)]


def sentence(page: str, pattern: str) -> str:
    """Return the group of a pattern that occurs once on a page, ignoring line breaks."""
    found = re.findall(pattern, " ".join(read(path_of(page)).split()))
    assert len(found) == 1, f"{pattern!r} occurs {len(found)} times on {page}"
    return str(found[0])


def code_in(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def prose(page: Path) -> list[str]:
    """Return a page's sentences, with the cells of its tables; a piece of code counts as one word."""
    text = read(page)
    for block in blocks_of(page):
        text = text.replace(block.text, "")
    text = re.sub(r"<!--.*?-->|^ *```[^\n]*$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`]*`", "code", re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text))
    # A paragraph, an item of a list, a heading and a cell of a table each end what is before them.
    parts = re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.|#+) |\|", text)
    return [
        " ".join(found.split())
        for part in parts
        for found in re.split(r"(?<=[.!?])[\"*)]*\s+(?=[\"*(A-Z]|code)", part)
        if found.strip()
    ]
