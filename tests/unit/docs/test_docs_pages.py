# SPDX-License-Identifier: Apache-2.0
"""The pages of the documentation as such: blocks, contents, licence, and no number that could ring."""

from __future__ import annotations

import re

from markdown_pages import BLOCKS, DOCS, PAGES, README, blocks_in, blocks_of, label, prose, read

DIRECTIVES = {"{eval-rst}", "{include}", "{literalinclude}", "{toctree}"}
LANGUAGES = {"ini", "json", "python", "shell", "text"}


def test_every_fence_belongs_to_a_block() -> None:
    # A fence that the tests do not see hides a block from all of them.
    fences = {page.name: len(re.findall(r"^ *(?:```|~~~)", read(page), re.MULTILINE)) for page in PAGES}
    assert fences == {page.name: 2 * len(blocks_of(page)) for page in PAGES}


def test_every_block_is_of_a_language_with_tests() -> None:
    others = {label(block): block.language for block in BLOCKS}
    assert {
        where: language for where, language in others.items() if language not in LANGUAGES | DIRECTIVES
    } == {}


def test_every_page_is_in_the_table_of_contents() -> None:
    lines = [line for block in blocks_in("{toctree}") for line in block.text.splitlines()]
    listed = [line for line in lines if re.fullmatch(r"[\w-]+", line)]
    assert sorted([*listed, "index"]) == sorted(page.stem for page in DOCS.glob("*.md"))


def test_no_page_has_a_number_that_could_ring() -> None:
    numbers = [
        (page.name, number.strip())
        for page in (*PAGES, README)
        for number in re.findall(r"\+\d[\dx -]{6,}\*?", read(page))
    ]
    # A glob pattern ends early, in a star.
    reserved = r"\+1 ?202 ?555 ?01(?:[\dx]{2}|\d\*)"
    assert [found for found in numbers if not re.fullmatch(reserved, found[1])] == []


def test_every_page_begins_with_its_licence() -> None:
    pages = [*PAGES, README, DOCS / "conf.py"]
    licence = "SPDX-License-Identifier: Apache-2.0"
    assert [page.name for page in pages if licence not in read(page).partition("\n")[0]] == []


def test_no_sentence_is_longer_than_35_words() -> None:
    sentences = [(page.name, found) for page in (*PAGES, README) for found in prose(page)]
    assert len(sentences) > 1000
    assert [found for found in sentences if len(found[1].split()) > 35] == []


def test_pages_say_who_in_plain_words() -> None:
    words = r"\b(whom|whoever|nobody|somebody|told|tells)\b"
    found = [
        f"{page.name}: {line}" for page in DOCS.glob("*.md") for line in read(page).splitlines()
        if re.search(words, line, re.IGNORECASE)
    ]  # fmt: skip
    assert len(found) < 5, found
