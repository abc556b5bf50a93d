# SPDX-License-Identifier: Apache-2.0
"""HTML in which everything is escaped, unless it was made here."""

from __future__ import annotations

import html


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(content: object) -> Html:
    """Return anything as HTML: None is empty, and all that is not HTML yet is escaped."""
    if isinstance(content, Html):
        return content
    return Html("" if content is None else html.escape(str(content)))


def joined(*contents: object) -> Html:
    """Return several contents as HTML, one after the other."""
    return Html("".join(map(escaped, contents)))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """
    Return an element.

    :param name: its name.
    :param children: its content, escaped.
    :param attributes: its attributes; one of None is left out, and a trailing ``_`` is dropped from a name.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{shown}>{joined(*children)}</{name}>")
