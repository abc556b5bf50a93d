# SPDX-License-Identifier: Apache-2.0
"""What Airflow stores and shows of an operator's template fields once they are rendered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator


class RendersFields(BaseOperator):
    """
    Base of all operators: it keeps the rendered values, and shows only the harmless part of them.

    Airflow stores what the attributes hold after rendering, and shows it on the page Rendered Templates.
    """

    shown_fields: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    """For a template field, what to show in place of its value."""
    rendered_fields: Mapping[str, Any] = {}
    """The values of those fields, once they are rendered."""

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        super()._do_render_template_fields(parent, *args, **kwargs)
        if parent is not self:
            return
        self.rendered_fields = {name: getattr(self, name) for name in self.shown_fields}
        for name, show in self.shown_fields.items():
            setattr(self, name, show(self.rendered_fields[name]))


def show_call_id(call_id: Any) -> Any:
    """Show the id of a call, and nothing else of a call's summary."""
    if isinstance(call_id, Mapping):
        call_id = call_id.get("id")
        return show_call_id(call_id) if isinstance(call_id, str) else {}
    if isinstance(call_id, str):
        # A template makes text of a summary.
        start = call_id.strip()[:1]
        return {"{": "{...}", "[": "[...]"}.get(start, call_id)
    return "[...]" if isinstance(call_id, Iterable) else call_id
