# SPDX-License-Identifier: Apache-2.0
"""Which template fields are rendered, and what Airflow stores and shows of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

if TYPE_CHECKING:
    from jinja2 import Environment

    from airflow.providers.common.compat.sdk import Context


_TEXT_FILTERS = frozenset(
    "capitalize center e escape forceescape indent lower pprint replace safe string striptags title tojson trim truncate "
    "upper urlencode urlize wordwrap".split()
)
"""The filters of jinja that make the text None of a None."""


class MissingText(str):
    """What a template rendered to where a value was None, undefined or empty."""

    __slots__ = ()


class RendersFields(BaseOperator):
    """
    Base of all operators: it renders templates of the DAG file only, and shows only the harmless part of the values.

    Airflow also renders what an upstream task returns through ``expand_kwargs``, and there ``{{ conn... }}`` may be
    somebody's name. It stores what the attributes hold after rendering, and shows it on the page Rendered Templates.
    """

    shown_fields: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    """For a template field, what to show in place of its value."""
    rendered_fields: Mapping[str, Any] = {}
    """The values of those fields, once they are rendered."""

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: Environment,
        seen_oids: set[int],
    ) -> None:
        if parent is not self:
            super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)
            return
        if (mapped := self._mapped_over_kwargs()) is not None:
            if _is_literal(mapped.expand_input.value, context):
                # Airflow counts the XComArgs in it as resolved, which they are not.
                seen_oids = set()
            else:
                template_fields = self._fields_of_the_dag_file(template_fields, mapped)
        others = []
        for name in template_fields:
            if name in self.shown_fields:
                # Airflow logs the whole field when a template in it fails, and in these it is personal.
                self._render_field(name, context, jinja_env, seen_oids)
            else:
                others.append(name)
        super()._do_render_template_fields(self, others, context, jinja_env, seen_oids)
        self.rendered_fields = {name: getattr(self, name) for name in self.shown_fields}
        for name, show in self.shown_fields.items():
            setattr(self, name, show(self.rendered_fields[name]))

    def _render_field(self, name: str, context: Context, jinja_env: Environment, seen_oids: set[int]) -> None:
        value = getattr(self, name)
        if callable(value):
            setattr(self, name, value(context=context, jinja_env=jinja_env))
        elif value:
            setattr(self, name, self.render_template(value, context, jinja_env, seen_oids))

    def _mapped_over_kwargs(self) -> Any:
        """Return the operator of the DAG file where it is mapped with ``expand_kwargs``; else None."""
        dag = self.get_dag()
        mapped: Any = dag.get_task(self.task_id) if dag else None
        kind = getattr(getattr(mapped, "expand_input", None), "EXPAND_INPUT_TYPE", None)
        return mapped if kind == "list-of-dicts" else None

    def _fields_of_the_dag_file(self, template_fields: Iterable[str], mapped: Any) -> list[str]:
        """Leave out the fields whose values come from upstream."""
        # The default_args that this operator got may come from upstream, too.
        group = mapped.partial_kwargs.get("task_group")
        defaults = {**mapped.dag.default_args, **(group.default_args if group else {})}
        literals = {**defaults, **mapped.partial_kwargs}
        return [
            name for name in template_fields if name in literals and getattr(self, name) in (literals[name],)
        ]

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """
        Render templates, and mark those that lack a value.

        :param content: a string, or a structure with strings in it
        :param context: the context of the running task
        :param jinja_env: the environment to render in; the DAG's by default
        :param seen_oids: the ids of objects that are rendered already
        :return: the content with each template rendered; a :class:`MissingText` where a value was missing
        """
        jinja_env = jinja_env or self.get_template_env()
        if not isinstance(content, str):
            return super().render_template(content, context, jinja_env, seen_oids)
        if not _has_template(content, jinja_env):
            return content
        from jinja2 import Undefined, UndefinedError

        is_missing = False

        def check(value: Any) -> Any:
            nonlocal is_missing
            if value is None or isinstance(value, Undefined):
                is_missing = True
            return "" if isinstance(value, Undefined) else value

        # A DAG with a finalize function of its own decides itself what becomes of None.
        environment = jinja_env.overlay() if jinja_env.finalize else jinja_env.overlay(finalize=check)
        environment.filters = {**jinja_env.filters, **_checking_filters(jinja_env, check)}
        try:
            rendered = super().render_template(content, context, environment, seen_oids)
        except UndefinedError:
            return MissingText()
        is_nothing = rendered is None or (isinstance(rendered, str) and rendered.strip() in ("", "None"))
        return MissingText("" if rendered is None else rendered) if is_missing or is_nothing else rendered

    def refuse_missing(self, *fields: str) -> None:
        """
        Refuse templates that lacked a value.

        :param fields: the names of the fields to check
        :raises VapiConfigurationError: naming where the templates stand, such as ``customer.name``
        """
        from vapi_provider.exceptions import VapiConfigurationError

        values = {name: self.rendered_fields.get(name, getattr(self, name)) for name in fields}
        places = [place for name, value in values.items() for place in _missing_places(value, name)]
        if places:
            raise VapiConfigurationError(
                f"{', '.join(places)}: a template, or an expression in it, rendered to None or to nothing. Nothing was "
                "sent. Check the value that it reads; where it may be missing, give a default in the template."
            )


def _is_literal(kwargs: Any, context: Context) -> bool:
    """Check whether this instance's keyword arguments are written in the DAG file, as Airflow does."""
    return isinstance(kwargs, Sized) and isinstance(kwargs[context["ti"].map_index], Mapping)  # type: ignore[index]


def _checking_filters(jinja_env: Environment, check: Callable[[Any], Any]) -> dict[str, Callable[..., Any]]:
    """Return the filters that make text of anything, with a check of what they get."""

    def checking(convert: Callable[..., Any]) -> Callable[..., Any]:
        # Those that jinja passes the context or itself get that first.
        position = 1 if hasattr(convert, "jinja_pass_arg") else 0

        @functools.wraps(convert)
        def converted(*args: Any, **kwargs: Any) -> Any:
            check(args[position])
            return convert(*args, **kwargs)

        return converted

    return {name: checking(jinja_env.filters[name]) for name in _TEXT_FILTERS if name in jinja_env.filters}


def _has_template(text: str, jinja_env: Environment) -> bool:
    starts = (jinja_env.variable_start_string, jinja_env.block_start_string, jinja_env.comment_start_string)
    return any(start in text for start in starts)


def _missing_places(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, MissingText):
        yield place
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _missing_places(item, f"{place}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _missing_places(item, f"{place}[{index}]")


def show_call_id(call_id: Any) -> Any:
    """Show the id of a call, and nothing else of a call's summary."""
    if isinstance(call_id, Mapping):
        call_id = call_id.get("id")
        return show_call_id(call_id) if isinstance(call_id, str) else {}
    if isinstance(call_id, str):
        # A template makes text of a summary.
        start = call_id.strip()[:1]
        return {"{": "{...}", "[": "[...]"}.get(start, str(call_id))
    return "[...]" if isinstance(call_id, Iterable) else call_id
