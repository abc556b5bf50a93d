# SPDX-License-Identifier: Apache-2.0
"""Values from upstream are never rendered; templates in the DAG file are, and must not be empty."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vapi_provider.simulator import VapiSimulator

NAMES = ["{{ conn.vapi_default.host }}", "Sale 50{% off", "None", "{# Ada #}"]
NUMBERS = [f"+1202555012{digit}" for digit in range(len(NAMES))]
EXPANDED = [
    {"customer": {"number": number, "name": name}} for number, name in zip(NUMBERS, NAMES, strict=True)
]

RunDag = Callable[..., Any]


@pytest.fixture(scope="session")
def dag_file(load_dag_file: Callable[[Path], ModuleType]) -> ModuleType:
    return load_dag_file(Path(__file__).parent / "dags" / "upstream_data.py")


@pytest.fixture
def returned(dag_file: ModuleType) -> Iterator[list[Any]]:
    """The upstream task's result."""
    yield dag_file.records
    dag_file.records.clear()


@pytest.fixture
def run(run_dag: RunDag, dag_file: ModuleType, returned: list[Any]) -> RunDag:
    def run(name: str) -> Any:
        dag_file.failures.clear()
        return run_dag(getattr(dag_file, name), word="Reminder", connection="vapi_default")

    return run


def placed(simulator: VapiSimulator) -> list[tuple[str, Any]]:
    """Return the number and name of each callee."""
    customers = [call["customer"] for call in simulator.calls.values()]
    return sorted((customer["number"], customer.get("name")) for customer in customers)


def call_names(simulator: VapiSimulator) -> list[str]:
    """Return the names of the calls, without the tokens."""
    return sorted(call["name"].rpartition("#")[0].strip() for call in simulator.calls.values())


EXACTLY = list(zip(NUMBERS, NAMES, strict=True))


@pytest.mark.parametrize("dag", ["expand_kwargs", "expand"])
def test_callees_keep_their_names(
    simulator: VapiSimulator, run: RunDag, returned: list[Any], left_behind: Any, dag: str
) -> None:
    returned += EXPANDED
    assert run(dag).state == "success"
    assert placed(simulator) == EXACTLY
    left = left_behind(simulator)
    assert [where for where, text in left.items() if NUMBERS[1] in text] == ["xcom"]


def test_values_in_data_are_not_rendered_at_any_depth(
    simulator: VapiSimulator, run: RunDag, returned: list[Any]
) -> None:
    deep = {"variableValues": {"list": [{"name": name} for name in NAMES]}}
    returned += [{**EXPANDED[0], "assistant_overrides": deep, "name": NAMES[1]}]
    assert run("expand_kwargs").state == "success"
    (call,) = simulator.calls.values()
    assert call["assistantOverrides"]["variableValues"]["list"] == deep["variableValues"]["list"]
    assert call_names(simulator) == [NAMES[1]]


def test_literals_beside_data_still_render(
    simulator: VapiSimulator, run: RunDag, returned: list[Any]
) -> None:
    # The connection is a template in default_args, and the name is one in partial().
    returned += EXPANDED
    assert run("beside_literals").state == "success"
    assert placed(simulator) == EXACTLY
    assert call_names(simulator) == ["Reminder"] * len(NAMES)


def test_data_that_overrides_a_literal_is_data(
    simulator: VapiSimulator, run: RunDag, returned: list[Any]
) -> None:
    # A record's default_args are data, too.
    sneaky = {**EXPANDED[2], "name": "{{ 2 + 2 }}", "default_args": {"name": "{{ 2 + 2 }}"}}
    returned += [{**EXPANDED[0], "name": "{{ 1 + 1 }}"}, EXPANDED[1], sneaky]
    assert run("overrides_literals").state == "success"
    assert call_names(simulator) == ["Reminder", "{{ 1 + 1 }}", "{{ 2 + 2 }}"]


def test_literal_in_expand_renders(simulator: VapiSimulator, run: RunDag, returned: list[Any]) -> None:
    returned += EXPANDED
    assert run("expand").state == "success"
    assert call_names(simulator) == ["Reminder"] * len(NAMES)


def test_list_mixes_literals_and_data(simulator: VapiSimulator, run: RunDag, returned: list[Any]) -> None:
    returned += EXPANDED[:1]
    assert run("mixed_list").state == "success"
    assert placed(simulator) == [EXACTLY[0], ("+12025550199", "Reminder")]
    values = [
        call.get("assistantOverrides", {}).get("variableValues", {}) for call in simulator.calls.values()
    ]
    assert ["Reminder"] in [value.get("words") for value in values]


def test_data_inside_a_literal_mapping_is_data(
    simulator: VapiSimulator, run: RunDag, returned: list[Any]
) -> None:
    returned += EXPANDED[:1]
    assert run("in_literals").state == "success"
    assert placed(simulator) == EXACTLY[:1]
    assert call_names(simulator) == ["Reminder"]


def test_rendered_values_are_not_rendered_again(
    simulator: VapiSimulator, run: RunDag, returned: list[Any]
) -> None:
    returned += EXPANDED[:1]
    assert run("unmapped").state == "success"
    assert placed(simulator) == EXACTLY[:1]


def test_task_group_passes_data_unchanged(simulator: VapiSimulator, run: RunDag, returned: list[Any]) -> None:
    returned += [{**expanded, "name": name} for expanded, name in zip(EXPANDED, NAMES, strict=True)]
    assert run("in_task_group").state == "success"
    assert placed(simulator) == EXACTLY
    assert call_names(simulator) == sorted(NAMES)
    values = [call["assistantOverrides"]["variableValues"] for call in simulator.calls.values()]
    assert sorted((value["word"], value["name"]) for value in values) == [
        ("Reminder", name) for name in sorted(NAMES)
    ]


def test_update_does_not_render_data(simulator: VapiSimulator, run: RunDag, returned: list[Any]) -> None:
    call_ids = [simulator.add_call(status="ended") for _ in NAMES]
    returned += [{"call_id": id_, "name": name} for id_, name in zip(call_ids, NAMES, strict=True)]
    assert run("update").state == "success"
    assert [simulator.get_call(call_id)["name"] for call_id in call_ids] == NAMES


def test_key_is_not_rendered_into_data(
    simulator: VapiSimulator, run: RunDag, returned: list[Any], left_behind: Any
) -> None:
    attack = "{{ conn.vapi_default.password }}"
    returned += [{"call_id": attack}, {"call_id": simulator.add_call(), "vapi_conn_id": attack}]
    assert run("sensor").state == "failed"
    assert simulator.requests == []
    left = left_behind(simulator)
    # Other tests store connections.
    assert [
        where for where, text in left.items() if simulator.api_key in text and where != "connection"
    ] == []


@pytest.mark.parametrize("dag", ["literal", "literal_native"])
def test_templates_of_the_dag_file_render_at_any_depth(
    simulator: VapiSimulator, run: RunDag, dag: str
) -> None:
    assert run(dag).state == "success"
    (call,) = simulator.calls.values()
    assert placed(simulator) == [("+12025550199", "Reminder")]
    assert call["assistantOverrides"]["variableValues"]["words"] == ["Reminder"]
