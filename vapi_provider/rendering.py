# SPDX-License-Identifier: Apache-2.0
"""Decides which template fields are rendered, and what Airflow stores and shows of them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

if TYPE_CHECKING:
    from jinja2 import Environment, UndefinedError

    from airflow.providers.common.compat.sdk import Context


_TEXT_FILTERS = frozenset(
    "capitalize center e escape forceescape indent lower pprint replace safe string striptags title tojson trim truncate "
    "upper urlencode urlize wordwrap".split()
)
"""Jinja filters that convert None to the string "None"."""


class MissingText(str):
    """The result of a template in which a value was None, undefined or empty."""

    problem: str = ""
    """Why the template could not be rendered at all; empty if it could."""

    @classmethod
    def because(cls, error: UndefinedError, template: str) -> MissingText:
        """Return the result of a template that failed."""
        text, problem = cls(), str(error)
        # In x[y] the name that is missing is the value of y, so it is shown only if the template contains it.
        name = re.search(r"has no (?:attribute|element) '?(.*?)'?\Z", problem, re.DOTALL)
        is_harmless = name is None or re.search(rf"\b{re.escape(name[1])}\b", template)
        text.problem = problem if is_harmless else "it reads a value that does not exist"
        return text


class RendersFields(BaseOperator):
    """
    Base class of all operators.

    It renders only templates that are written in the DAG file. Airflow would also render upstream values that are passed
    through ``expand_kwargs``, where ``{{ conn... }}`` may be a customer's name. Airflow stores the rendered attributes
    and shows them as Rendered Templates, so this class replaces personal data in them.
    """

    shown_fields: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    """A template field's name, and the function that returns what to show instead of its value."""
    rendered_fields: Mapping[str, Any] = {}
    """The rendered values of those fields."""
    given_fields: frozenset[str] = frozenset()
    """The template fields that were not None before they were rendered."""

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
        self.given_fields = frozenset(name for name in template_fields if getattr(self, name) is not None)
        if (mapped := self._mapped_over_kwargs()) is not None:
            if _is_literal(mapped.expand_input.value, context):
                # Airflow marks the XComArgs in it as resolved although they are not.
                seen_oids = set()
            else:
                template_fields = self._fields_of_the_dag_file(template_fields, mapped)
        others = []
        for name in template_fields:
            if name in self.shown_fields:
                # If a template fails, Airflow logs the whole field, and these contain personal data.
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

    def _mapped(self) -> Any:
        """Return the DAG's mapped operator of this task, or None."""
        dag = self.get_dag()
        mapped: Any = dag.get_task(self.task_id) if dag else None
        return mapped if hasattr(mapped, "expand_input") else None

    def _mapped_over_kwargs(self) -> Any:
        """Return the DAG's mapped operator if it uses ``expand_kwargs``, else None."""
        mapped = self._mapped()
        kind = mapped and getattr(mapped.expand_input, "EXPAND_INPUT_TYPE", None)
        return mapped if kind == "list-of-dicts" else None

    def is_mapped_over(self, name: str) -> bool:
        """Return whether this task got an argument through ``expand`` or ``expand_kwargs``."""
        mapped = self._mapped()
        if mapped is None:
            # In a mapped task group, the argument is the same for every task, or an XComArg.
            return False
        if isinstance(mapped.expand_input.value, Mapping):
            return name in mapped.expand_input.value
        # With expand_kwargs, only the arguments of this task are known, and those of the DAG file are among them.
        passed = vars(self).get("_BaseOperator__init_kwargs", {})
        return name in passed and not self._fields_of_the_dag_file((name,), mapped)

    def _fields_of_the_dag_file(self, template_fields: Iterable[str], mapped: Any) -> list[str]:
        """Return the template fields whose values are written in the DAG file."""
        # This operator's own default_args may come from upstream, so use those of the DAG and the group.
        group = mapped.partial_kwargs.get("task_group")
        defaults = {**mapped.dag.default_args, **(group.default_args if group else {})}
        literals = {**defaults, **mapped.partial_kwargs}
        # "in" compares identity first, for values whose == cannot be used.
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
        Render templates and mark those with a missing value.

        :param content: a string, or a structure with strings in it
        :param context: the context of the running task
        :param jinja_env: the environment to render in; the DAG's by default
        :param seen_oids: the ids of objects that have been rendered
        :return: the rendered content, with a :class:`MissingText` where a value was missing
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

        # A DAG with its own finalize function decides how None is rendered.
        environment = jinja_env.overlay() if jinja_env.finalize else jinja_env.overlay(finalize=check)
        environment.filters = {**jinja_env.filters, **_checking_filters(jinja_env, check)}
        try:
            rendered = super().render_template(content, context, environment, seen_oids)
        except UndefinedError as error:
            return MissingText.because(error, content)
        is_nothing = rendered is None or (isinstance(rendered, str) and rendered.strip() in ("", "None"))
        return MissingText("" if rendered is None else rendered) if is_missing or is_nothing else rendered

    def refuse_missing(self, *fields: str) -> None:
        """
        Raise an error if a template had a missing value.

        :param fields: the names of the fields to check
        :raises VapiConfigurationError: if one had; the message names its place, such as ``customer.name``
        """
        from vapi_provider.exceptions import VapiConfigurationError

        self.refuse_failed(*fields)
        places = [place for place, _ in self._missing(fields)]
        if places:
            raise VapiConfigurationError(
                f"{', '.join(places)}: a template, or an expression in it, rendered to None or an empty string. Nothing "
                "was sent. Check the value that it reads, or give it a default with {{ ... | default('...', true) }}."
            )

    def refuse_failed(self, *fields: str) -> None:
        """
        Raise an error if a template could not be rendered at all.

        :param fields: the names of the fields to check
        :raises VapiConfigurationError: if one could not; the message names its place and what failed
        """
        from vapi_provider.exceptions import VapiConfigurationError

        for place, problem in self._missing(fields):
            if problem:
                raise VapiConfigurationError(f"{place}: its template failed ({problem}). Nothing was sent.")

    def _missing(self, fields: Iterable[str]) -> list[tuple[str, str]]:
        values = {name: self.rendered_fields.get(name, getattr(self, name)) for name in fields}
        return [each for name, value in values.items() for each in _missing_places(value, name)]

    def refuse_none(self, *fields: str) -> None:
        """
        Raise an error if an optional argument was given, but an upstream task returned None for it.

        :param fields: the names of the fields to check, which have None as their default
        :raises VapiConfigurationError: if one is None although it was given
        """
        from vapi_provider.exceptions import VapiConfigurationError

        for name in fields:
            if getattr(self, name) is None and (name in self.given_fields or self.is_mapped_over(name)):
                raise VapiConfigurationError(
                    f"{name} is None, although the DAG passes it. Nothing was sent. Check the task that returns it, or leave "
                    f"out {name}."
                )


def _is_literal(kwargs: Any, context: Context) -> bool:
    """Return whether this task instance's keyword arguments are written in the DAG file."""
    return isinstance(kwargs, Sized) and isinstance(kwargs[context["ti"].map_index], Mapping)  # type: ignore[index]


def _checking_filters(jinja_env: Environment, check: Callable[[Any], Any]) -> dict[str, Callable[..., Any]]:
    """Return the filters that convert to text, each with a check of its input."""

    def checking(convert: Callable[..., Any]) -> Callable[..., Any]:
        # Filters that receive a jinja context take it as their first argument.
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


def _missing_places(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield each place of a missing value, and why its template failed; empty if it did not."""
    if isinstance(value, MissingText):
        yield place, value.problem
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _missing_places(item, f"{place}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _missing_places(item, f"{place}[{index}]")


def show_call_id(call_id: Any) -> Any:
    """Return the call id to show, without the rest of a summary."""
    if isinstance(call_id, Mapping):
        call_id = call_id.get("id")
        return show_call_id(call_id) if isinstance(call_id, str) else {}
    if isinstance(call_id, str):
        # A template converts a summary to text.
        start = call_id.strip()[:1]
        return {"{": "{...}", "[": "[...]"}.get(start, str(call_id))
    return "[...]" if isinstance(call_id, Iterable) else call_id
