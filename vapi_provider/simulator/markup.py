# SPDX-License-Identifier: Apache-2.0
"""HTML elements that escape their content."""

from __future__ import annotations

import html

LONGEST_TEXT = 2000
"""How many characters of a text a page shows."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(content: object) -> Html:
    """Return content as HTML, shortened and escaped unless it already is; None becomes empty."""
    if isinstance(content, Html):
        return content
    return Html("" if content is None else html.escape(shortened(content)))


def shortened(content: object, longest: int = LONGEST_TEXT) -> str:
    """Return content as a text that ends with an ellipsis if it was longer."""
    text = str(content)
    return text if len(text) <= longest else f"{text[:longest]}…"


def joined(*contents: object) -> Html:
    """Return several contents as HTML, one after the other."""
    return Html("".join(map(escaped, contents)))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """
    Return an element.

    :param name: its name.
    :param children: its content, escaped.
    :param attributes: its attributes; None leaves one out, and a trailing ``_`` of a name is dropped.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{shown}>{joined(*children)}</{name}>")
