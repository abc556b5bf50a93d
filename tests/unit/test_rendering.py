# SPDX-License-Identifier: Apache-2.0
"""What Airflow stores and shows of an operator's rendered template fields."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from airflow.sdk import DAG
from vapi_provider.client.arguments import check_call_id
from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.operators.call import VapiCreateCallOperator, VapiUpdateCallOperator
from vapi_provider.rendering import RendersFields, show_call_id
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.transfers.calls_to_object_storage import VapiCallsToObjectStorageOperator
from vapi_provider.transfers.recording_to_object_storage import VapiRecordingToObjectStorageOperator

CALL_ID = "019a7c2e-5f00-7000-8000-000000000001"
SAID = "what the customer said"
SUMMARY = {"id": CALL_ID, "status": "ended", "transcript": SAID, "messages": [{"message": SAID}]}


class Later:
    """A value known only when the task runs, like another task's result."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def resolve(self, context: Any, **_: Any) -> Any:
        return self._value


class OpenMapping(Mapping[str, Any]):
    """A mapping that is not a dict and shows its content in its repr."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Any:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __repr__(self) -> str:
        return repr(self._content)


KINDS: dict[str, Callable[[Any], Any]] = {
    "sensor": lambda call_id: VapiCallSensor(task_id="task", call_id=call_id),
    "update": lambda call_id: VapiUpdateCallOperator(task_id="task", call_id=call_id, name="Reminder"),
}


def render(make: Callable[[], Any], *, native: bool = False, **variables: Any) -> Any:
    """Render a task's templates as a worker does, and return the task."""
    with DAG("rendering", schedule=None, render_template_as_native_obj=native) as dag:
        task = make()
    running = task.prepare_for_execution()
    context: Any = {"dag": dag, "task": running, "params": {}, **variables}
    running.render_template_fields(context, dag.get_template_env())
    return context["task"]


def shown(task: Any) -> str:
    """Return everything that Airflow stores and shows of a task's template fields."""
    return repr([getattr(task, name) for name in task.template_fields])


@pytest.mark.parametrize("summary", [SUMMARY, OpenMapping(SUMMARY)], ids=["dict", "mapping"])
@pytest.mark.parametrize("kind", KINDS)
def test_summary_is_shown_as_its_id(kind: str, summary: Any) -> None:
    task = render(lambda: KINDS[kind](Later(summary)))
    assert task.call_id == CALL_ID
    assert SAID not in shown(task)
    assert check_call_id(task.call_id) == CALL_ID


@pytest.mark.parametrize("kind", KINDS)
def test_summary_from_native_template_is_shown_as_its_id(kind: str) -> None:
    task = render(lambda: KINDS[kind]("{{ summary }}"), native=True, summary=SUMMARY)
    assert task.call_id == CALL_ID
    assert SAID not in shown(task)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param({"transcript": SAID}, "is a dict without an id;", id="mapping-without-id"),
        pytest.param(
            OpenMapping({"transcript": SAID}), "is a dict without an id;", id="open-mapping-without-id"
        ),
        pytest.param({"id": {"transcript": SAID}}, "is a dict without an id;", id="mapping-as-id"),
        pytest.param({"id": {"id": SAID}}, "is a dict without an id;", id="summary-as-id"),
        pytest.param(
            {"id": OpenMapping({"id": CALL_ID, "transcript": SAID})},
            "is a dict without an id;",
            id="open-summary-as-id",
        ),
        pytest.param({"id": [SAID]}, "is a dict without an id;", id="list-as-id"),
        pytest.param({"id": 7, "transcript": SAID}, "is a dict without an id;", id="number-as-id"),
        pytest.param({"id": None, "transcript": SAID}, "is a dict without an id;", id="id-none"),
        pytest.param({"id": str(SUMMARY)}, "is a dict rendered to a string;", id="text-as-id"),
        pytest.param(str(SUMMARY), "is a dict rendered to a string;", id="text-of-a-summary"),
        pytest.param(f"\n {SUMMARY}", "is a dict rendered to a string;", id="text-with-white-space"),
        pytest.param([SUMMARY], "must be the id of a call", id="list"),
        pytest.param(str([SAID]), "must be the id of a call", id="text-of-a-list"),
        pytest.param((SAID,), "must be the id of a call", id="tuple"),
        pytest.param({SAID}, "must be the id of a call", id="set"),
        pytest.param(SAID.encode(), "must be the id of a call", id="bytes"),
    ],
)
def test_other_values_are_refused_and_not_shown(kind: str, value: Any, message: str) -> None:
    task = render(lambda: KINDS[kind](Later(value)))
    with pytest.raises(VapiConfigurationError, match=f"^call_id {message}") as failure:
        check_call_id(task.call_id)
    for text in (shown(task), str(failure.value)):
        assert SAID not in text


@pytest.mark.parametrize("kind", KINDS)
def test_template_of_a_summary_is_refused_and_not_shown(kind: str) -> None:
    task = render(lambda: KINDS[kind]("{{ summary }}"), summary=SUMMARY)
    assert SAID not in shown(task)
    with pytest.raises(
        VapiConfigurationError, match=r"a dict rendered to a string; .*call_id=call\.output"
    ) as failure:
        check_call_id(task.call_id)
    assert SAID not in str(failure.value)


@pytest.mark.parametrize("call_id", [{"id": {"id": CALL_ID}}, {"id": SUMMARY}], ids=["id", "summary"])
def test_summary_whose_id_is_a_mapping_shows_nothing(call_id: Any) -> None:
    assert show_call_id(call_id) == {}
    with pytest.raises(VapiConfigurationError, match="^call_id is a dict without an id;") as failure:
        check_call_id(call_id)
    assert SAID not in str(failure.value)


@pytest.mark.parametrize("call_id", [CALL_ID, f" {CALL_ID.upper()}\n", "", None, 7, "../x"], ids=str)
def test_id_is_shown_unchanged(call_id: Any) -> None:
    assert show_call_id(call_id) == call_id


def test_operator_keeps_values_that_it_does_not_show() -> None:
    customer = {"number": "+12025550143", "name": "Ada"}
    task = render(
        lambda: VapiCreateCallOperator(
            task_id="task",
            assistant_id="0198a3f0-0000-7000-8000-000000000002",
            phone_number_id="0198a3f0-0000-7000-8000-000000000003",
            customer=Later(customer),  # type: ignore[arg-type]
        )
    )
    assert task.customer == {"number": "***43", "name": "***"}
    assert task.rendered_fields["customer"] == customer


@pytest.mark.parametrize("kind", [VapiCallSensor, VapiCreateCallOperator, VapiUpdateCallOperator])
def test_all_operators_show_fields_by_the_same_rule(kind: Any) -> None:
    assert issubclass(kind, RendersFields)
    assert set(kind.shown_fields) <= set(kind.template_fields)
    assert not {"call_id", "customer"} & set(kind.template_fields) - set(kind.shown_fields)


def test_each_try_renders_the_task_again() -> None:
    """Each try renders a copy; the parsed task keeps its own value."""
    with DAG("rendering", schedule=None) as dag:
        parsed = KINDS["sensor"](Later(SUMMARY))
    for _ in range(2):
        running = parsed.prepare_for_execution()
        context: Any = {"dag": dag, "task": running, "params": {}}
        running.render_template_fields(context, dag.get_template_env())
        assert running.call_id == CALL_ID
    assert isinstance(parsed.call_id, Later)


def place(**arguments: Any) -> Callable[[], VapiCreateCallOperator]:
    request: dict[str, Any] = {
        "assistant_id": "0198a3f0-0000-7000-8000-000000000002",
        "phone_number_id": "0198a3f0-0000-7000-8000-000000000003",
        "customer": {"number": "+12025550143"},
        **arguments,
    }
    return lambda: VapiCreateCallOperator(task_id="task", **request)


def says(text: Any) -> dict[str, Any]:
    return {"assistant_overrides": {"variableValues": {"first_name": text}}}


NO_VALUE = {
    "None": "{{ name }}",
    "None in a text": "Hello {{ name }}!",
    "undefined": "{{ missing }}",
    "undefined in a text": "Hello {{ missing }}!",
    "attribute of undefined": "Hello {{ missing.name }}!",
    "text of None": "{{ name | string }}",
    "filtered None in a text": "Hello {{ name | title }}!",
    "filtered undefined in a text": "Hello {{ missing | upper }}!",
    "None as JSON": "{{ name | tojson }}",
    "empty": "{{ '' }}",
    "blank": "{% if name %}{{ name }}{% endif %} ",
}


@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
@pytest.mark.parametrize("template", NO_VALUE.values(), ids=NO_VALUE)
def test_missing_template_value_is_refused(template: str, native: bool) -> None:
    task = render(place(**says(template)), native=native, name=None)
    with pytest.raises(
        VapiConfigurationError, match=r"^assistant_overrides\.variableValues\.first_name: .*Nothing was"
    ):
        task.execute({})


PLACES: dict[str, dict[str, Any]] = {
    "customer.name": {"customer": {"number": "+12025550143", "name": "{{ name }}"}},
    "customer.assistant_overrides.variableValues.x": {
        "customer": {"number": "+12025550143", "assistant_overrides": {"variableValues": {"x": "{{ name }}"}}}
    },
    "name": {"name": "{{ name }}"},
    "phone_number_id": {"phone_number_id": "{{ name }}"},
    "schedule_plan.earliest_at": {"schedule_plan": {"earliest_at": "{{ name }}"}},
    "extra_body.metadata.list[1]": {"extra_body": {"metadata": {"list": ["a", "{{ name }}"]}}},
    "name, assistant_overrides.variableValues.first_name": {"name": "{{ name }}", **says("{{ name }}")},
}


@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
@pytest.mark.parametrize("where", PLACES)
def test_error_names_the_place_of_a_missing_value(where: str, native: bool) -> None:
    task = render(place(**PLACES[where]), native=native, name=None)
    with pytest.raises(VapiConfigurationError) as refusal:
        task.execute({})
    assert str(refusal.value).partition(":")[0] == where


NIGHT = {"created_at_ge": "2026-03-10T00:00Z", "created_at_lt": "2026-03-11T00:00Z"}

ALL_KINDS: dict[str, Callable[..., Any]] = {
    "create": lambda **arguments: place(**arguments)(),
    "update": lambda **arguments: VapiUpdateCallOperator(
        **{"task_id": "task", "call_id": CALL_ID, "name": "A", **arguments}
    ),
    "sensor": lambda **arguments: VapiCallSensor(**{"task_id": "task", "call_id": CALL_ID, **arguments}),
    "deferrable sensor": lambda **arguments: VapiCallSensor(
        **{"task_id": "task", "call_id": CALL_ID, "deferrable": True, **arguments}
    ),
    "recording": lambda **arguments: VapiRecordingToObjectStorageOperator(
        **{"task_id": "task", "call_id": CALL_ID, "path": "file:///tmp/vapi/", **arguments}
    ),
    "export": lambda **arguments: VapiCallsToObjectStorageOperator(
        task_id="task", path="file:///tmp/vapi/calls.jsonl", **NIGHT, **arguments
    ),
}


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_missing_part_of_the_connection_id_is_refused(kind: str) -> None:
    """Otherwise the task would use the connection vapi_None, or that of another organization."""
    task = render(lambda: ALL_KINDS[kind](vapi_conn_id="vapi_{{ name }}"), name=None)
    with pytest.raises(VapiConfigurationError, match="^vapi_conn_id: a template"):
        task.execute({})


@pytest.mark.parametrize("kind", ["update", "sensor", "deferrable sensor", "recording"])
def test_failure_of_the_template_of_a_call_id_is_named(kind: str) -> None:
    task = render(lambda: ALL_KINDS[kind](call_id="{{ listed.first.id }}"), listed={})
    with pytest.raises(
        VapiConfigurationError, match=r"^call_id: its template failed \(.* has no attribute 'first'\)"
    ):
        task.execute({})


def test_update_refuses_a_missing_name() -> None:
    task = render(
        lambda: VapiUpdateCallOperator(task_id="task", call_id=CALL_ID, name="{{ name }}"), name=None
    )
    with pytest.raises(VapiConfigurationError, match=r"^name: a template"):
        task.execute({})


@pytest.mark.parametrize("name", ["None", "{{ name }}", "{brace}", "100 %", " "])
def test_data_is_kept_unchanged(name: str) -> None:
    customer = {"number": "+12025550143", "name": name}
    task = render(place(customer=Later(customer), **says(Later(name))))
    assert task.rendered_fields["customer"] == customer
    assert task.rendered_fields["assistant_overrides"] == says(name)["assistant_overrides"]
    task.refuse_missing("customer", "assistant_overrides")


@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
def test_literals_without_templates_stay_strings(native: bool) -> None:
    customer = {"number": "+12025550143", "name": "None", "external_id": "007"}
    task = render(place(customer=customer), native=native)
    assert task.rendered_fields["customer"] == customer
    task.refuse_missing("customer")


def test_default_replaces_a_missing_value() -> None:
    task = render(place(**says("Hello {{ name or 'there' }}{{ title or '' }}")), name=None, title=None)
    assert task.rendered_fields["assistant_overrides"] == says("Hello there")["assistant_overrides"]
    task.refuse_missing("assistant_overrides")


def test_field_with_a_failing_template_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    # Airflow's logger for fields that cannot be rendered.
    monkeypatch.setattr("airflow.sdk.definitions._internal.templater.log", logging.getLogger("templater"))
    customer = {"number": "+12025550172", "name": "Augusta {{ 1 / 0 }}"}
    with pytest.raises(ZeroDivisionError):
        render(place(customer=customer))
    output = capfd.readouterr()
    shown = output.out + output.err + caplog.text
    assert not [word for word in ("0172", "Augusta") if word in shown]
