# SPDX-License-Identifier: Apache-2.0
"""The connection form: Airflow's Test button, and the form of Airflow 3.0 and 3.1."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from http_helpers import KEY, make_connection

from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.simulator import Fault, VapiSimulator


def hook_of(monkeypatch: pytest.MonkeyPatch, host: str, password: str = KEY) -> VapiHook:
    """Return a hook with a connection like the one that Airflow creates for the Test button."""
    conn = make_connection(conn_id="made-up-id", host=host, password=password)
    monkeypatch.setattr(VapiHook, "get_connection", staticmethod(lambda conn_id: conn))
    return VapiHook("made-up-id")


# The Test button.


def test_button_sends_one_read(simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        simulator.add_call()
    before = simulator.calls
    worked, sentence = hook_of(monkeypatch, simulator.url, simulator.api_key).test_connection()
    assert worked is True
    assert sentence == f"{simulator.url} accepts the API key."
    assert [(r.method, r.path, r.query) for r in simulator.requests] == [("GET", "/call", {"limit": "1"})]
    assert simulator.calls == before


def test_button_reports_a_wrong_key_and_where_to_find_it(
    simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked, sentence = hook_of(monkeypatch, simulator.url).test_connection()
    assert worked is False
    assert "401" in sentence
    assert "Replace the API key" in sentence
    assert "https://dashboard.vapi.ai/org/api-keys" in sentence
    assert "of this connection" in sentence
    assert "made-up-id" not in sentence
    assert KEY not in sentence
    assert len(simulator.requests) == 1


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(status=503), "503"),
        (Fault(status=429, headers={"Retry-After": "1"}), "rate limit"),
        (Fault(reset="before"), "reset"),
        (Fault(body=""), "empty body"),
        (Fault(body="<html>portal</html>"), "not JSON"),
        (Fault(body="{}"), "in place of a list"),
        (Fault(body='[{"name": "x"}]'), "without an id"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_button_does_not_retry(
    simulator: VapiSimulator, monkeypatch: pytest.MonkeyPatch, naps: list[float], fault: Fault, says: str
) -> None:
    simulator.faults.add(fault)
    worked, sentence = hook_of(monkeypatch, simulator.url, simulator.api_key).test_connection()
    assert worked is False
    assert says in sentence
    assert (len(simulator.requests), naps) == (1, [])


def test_button_reports_an_unusable_field(monkeypatch: pytest.MonkeyPatch) -> None:
    worked, sentence = hook_of(monkeypatch, "ftp://x").test_connection()
    assert worked is False
    assert "host (API base URL) must be a host name or a URL" in sentence


def test_button_reports_a_missing_connection() -> None:
    worked, sentence = VapiHook("vapi_nowhere").test_connection()
    assert worked is False
    assert "Airflow found no connection 'vapi_nowhere'" in sentence


def test_button_reports_a_refused_connection(monkeypatch: pytest.MonkeyPatch, naps: list[float]) -> None:
    with VapiSimulator() as simulator:
        hook = hook_of(monkeypatch, simulator.url, simulator.api_key)
    worked, sentence = hook.test_connection()
    assert worked is False
    assert "refused" in sentence
    assert simulator.url in sentence
    assert naps == []


# The form.


def test_form_hides_and_labels_the_fields_of_airflow() -> None:
    behaviour = VapiHook.get_ui_field_behaviour()
    assert set(behaviour) == {"hidden_fields", "relabeling", "placeholders"}
    assert set(behaviour["hidden_fields"]) == {"schema", "port", "login"}
    assert behaviour["relabeling"] == {"password": "API key", "host": "API base URL"}
    assert set(behaviour["placeholders"]) == {"password", "host"}


class StandIn:
    """The substitute for a wtforms field in the API server of Airflow 3.1."""

    def __init__(
        self,
        label: str | None = None,
        validators: Any = None,
        description: str = "",
        default: str | None = None,
        widget: Any = None,
    ) -> None:
        self.label, self.validators, self.description, self.widget = label, validators, description, widget


class StringField(StandIn):
    pass


class IntegerField(StandIn):
    pass


class Optional:
    pass


class BS3TextFieldWidget:
    pass


def install(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)


def test_form_has_its_own_fields_with_wtforms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    validators = SimpleNamespace(Optional=Optional)
    install(monkeypatch, "wtforms", StringField=StringField, IntegerField=IntegerField, validators=validators)
    install(monkeypatch, "wtforms.validators", Optional=Optional)
    install(monkeypatch, "flask_appbuilder")
    install(monkeypatch, "flask_appbuilder.fieldwidgets", BS3TextFieldWidget=BS3TextFieldWidget)
    widgets = VapiHook.get_connection_form_widgets()
    assert {name: type(field) for name, field in widgets.items()} == {
        # A wtforms IntegerField would refuse 2.5 seconds.
        "timeout": StringField,
        "max_retries": IntegerField,
    }
    for field in widgets.values():
        assert field.label
        assert field.description
        assert isinstance(field.widget, BS3TextFieldWidget)
        assert [type(validator) for validator in field.validators] == [Optional]


@pytest.mark.parametrize("missing", ["wtforms", "flask_appbuilder.fieldwidgets"])
def test_form_works_without_wtforms(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert VapiHook.get_connection_form_widgets() == {}
