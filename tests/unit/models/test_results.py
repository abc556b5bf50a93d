# SPDX-License-Identifier: Apache-2.0
"""The progress of a call's results: what has arrived, what is missing, and when to stop waiting."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vapi_provider.models.call import Call, CallStatusView
from vapi_provider.models.results import Results, in_words, wanted_results

ANALYSIS, OUTPUTS = ("analysis",), ("structured_outputs",)
BOTH, WHICHEVER = (*ANALYSIS, *OUTPUTS), ()

BOOKED = {"so-1": {"name": "Booked", "result": True}}
MOOD = {"so-2": {"name": "Mood", "result": "good"}}
SKIPPED = {"so-2": {"name": "Mood", "unmetCondition": {"type": "minMessages", "count": 4}}}
TWO = {"structuredOutputIds": ["so-1", "so-2"]}


def results_of(wanted: tuple[str, ...], **fields: Any) -> Results:
    """Return the results of the status view, which must equal those of the whole call."""
    body = {"id": "1", "status": "ended", **fields}
    view = CallStatusView.model_validate_json(json.dumps(body))
    results = view.results(wanted)
    assert Call.model_validate(body).results(wanted) == results
    return results


def artifact(outputs: Any = None, skipped: Any = None) -> dict[str, Any]:
    return {"structuredOutputs": outputs, "skippedStructuredOutputs": skipped}


@pytest.mark.parametrize(
    ("include", "wanted"),
    [
        ((), WHICHEVER),
        (("transcript", "customer"), WHICHEVER),
        (("analysis",), ANALYSIS),
        (("structured_outputs", "transcript"), OUTPUTS),
        (("structured_outputs", "analysis"), BOTH),
    ],
)
def test_include_names_what_is_waited_for(include: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    assert wanted_results(include) == wanted
    both = "analysis and structured outputs" if wanted else "analysis or structured outputs"
    assert in_words(wanted) in ("analysis", "structured outputs", both)


@pytest.mark.parametrize(
    ("outputs", "skipped", "missing"),
    [
        pytest.param({**BOOKED, **MOOD}, None, "", id="all"),
        pytest.param(BOOKED, SKIPPED, "", id="one-skipped"),
        pytest.param({}, {**SKIPPED, "so-1": {}}, "", id="all-skipped"),
        pytest.param(BOOKED, None, "structured outputs (so-2)", id="one-missing"),
        pytest.param(None, None, "structured outputs (so-1, so-2)", id="none"),
        pytest.param(
            {**BOOKED, "so-2": {"name": "Mood"}}, None, "structured outputs (so-2)", id="no-result-yet"
        ),
        pytest.param({**BOOKED, "so-2": None}, None, "structured outputs (so-2)", id="null"),
        pytest.param({**BOOKED, "so-2": {"result": None}}, None, "", id="could-not-be-extracted"),
        pytest.param({**BOOKED, "so-2": {"result": False}}, None, "", id="false"),
        pytest.param({**BOOKED, **MOOD, "so-3": {"result": 1}}, None, "", id="one-more"),
        pytest.param([BOOKED], "x", "structured outputs (so-1, so-2)", id="other-types"),
    ],
)
@pytest.mark.parametrize("where", ["assistant", "assistantOverrides"])
def test_outputs_have_arrived_when_their_plan_is_met(
    outputs: Any, skipped: Any, missing: str, where: str
) -> None:
    results = results_of(OUTPUTS, artifact=artifact(outputs, skipped), **{where: {"artifactPlan": TWO}})
    assert results.have_arrived(None) is (not missing)
    assert results.have_arrived(results.arrived) is (not missing)
    assert results.missing == missing


def test_overrides_replace_the_assistants_plan() -> None:
    plans = {
        "assistant": {"artifactPlan": TWO},
        "assistantOverrides": {"artifactPlan": {"structuredOutputIds": ["so-1"]}},
    }
    assert results_of(OUTPUTS, artifact=artifact(BOOKED), **plans).have_arrived(None)


def test_inline_outputs_are_known_by_name() -> None:
    plan = {"artifactPlan": {"structuredOutputIds": ["so-1"], "structuredOutputs": [{"name": "Mood"}]}}
    some = results_of(OUTPUTS, artifact=artifact(BOOKED), assistant=plan)
    assert (some.have_arrived(some.arrived), some.missing) == (False, "structured outputs (Mood)")
    assert results_of(OUTPUTS, artifact=artifact({**BOOKED, **MOOD}), assistant=plan).have_arrived(None)


NO_PLAN = [
    pytest.param({}, id="no-assistant"),
    pytest.param({"assistant": None, "assistantOverrides": {"variableValues": {}}}, id="null"),
    pytest.param({"assistant": {"artifactPlan": {"recordingEnabled": True}}}, id="no-list"),
    pytest.param({"assistant": {"artifactPlan": {"structuredOutputIds": []}}}, id="empty-list"),
    pytest.param({"assistant": {"artifactPlan": {"structuredOutputIds": [7, None]}}}, id="odd-ids"),
    pytest.param({"assistant": {"artifactPlan": "x"}, "assistantOverrides": ["y"]}, id="other-types"),
]


@pytest.mark.parametrize("plan", NO_PLAN)
def test_outputs_without_plan_have_arrived_when_unchanged(plan: dict[str, Any]) -> None:
    one = results_of(OUTPUTS, artifact=artifact(BOOKED), **plan)
    two = results_of(OUTPUTS, artifact=artifact(BOOKED, SKIPPED), **plan)
    assert (one.arrived, two.arrived) == (1, 2)
    assert [two.have_arrived(before) for before in (None, 0, 1, 2)] == [False, False, False, True]
    assert (one.missing, two.missing) == ("", "")
    none = results_of(OUTPUTS, artifact=artifact({}), **plan)
    assert [none.have_arrived(before) for before in (None, 0)] == [False, False]
    assert none.missing == "structured outputs"


def plan_of(**plans: Any) -> dict[str, Any]:
    return {"assistant": {"analysisPlan": plans}}


@pytest.mark.parametrize(
    ("plan", "missing"),
    [
        pytest.param({"summaryPlan": {}}, "summary", id="summary"),
        pytest.param({"summaryPlan": {"enabled": True}, "successEvaluationPlan": {}}, "summary", id="both"),
        pytest.param({"summaryPlan": {"enabled": False}, "successEvaluationPlan": {}}, "", id="disabled"),
        pytest.param({"successEvaluationPlan": {"enabled": None}}, "", id="null"),
        pytest.param(
            {"structuredDataPlan": {"enabled": True}, "successEvaluationPlan": {}},
            "structuredData",
            id="data",
        ),
        pytest.param(
            {"structuredDataPlan": {"schema": {}}, "successEvaluationPlan": {}}, "", id="data-by-default"
        ),
        pytest.param(
            {"structuredDataMultiPlan": [{"key": "a", "plan": {"enabled": True}}]},
            "structuredDataMulti",
            id="multi",
        ),
    ],
)
def test_analysis_has_arrived_when_its_plan_is_met(plan: dict[str, Any], missing: str) -> None:
    """The success evaluation arrives first."""
    results = results_of(ANALYSIS, analysis={"successEvaluation": "true"}, **plan_of(**plan))
    assert results.have_arrived(None) is results.have_arrived(1) is (not missing)
    assert results.missing == (f"analysis ({missing})" if missing else "")


@pytest.mark.parametrize(
    "plan",
    [
        {},
        plan_of(),
        plan_of(summaryPrompt="Sum it up.", structuredDataSchema={}),
        plan_of(summaryPlan={"enabled": False}),
        plan_of(structuredDataMultiPlan=[{"plan": {}}, None], summaryPlan="x"),
        {"assistant": {"analysisPlan": ["x"]}},
    ],
    ids=["none", "empty", "of-2024", "all-off", "odd", "another-type"],
)
def test_analysis_without_plan_has_arrived_when_unchanged(plan: dict[str, Any]) -> None:
    results = results_of(ANALYSIS, analysis={"summary": "", "successEvaluation": "true"}, **plan)
    assert [results.have_arrived(before) for before in (None, 0, 1)] == [False, False, True]
    none = results_of(ANALYSIS, analysis={"summary": None, "structuredData": {}}, **plan)
    assert (none.have_arrived(0), none.missing) == (False, "analysis")


def test_both_are_waited_for_when_both_are_included() -> None:
    summary = {"analysis": {"summary": "Booked."}, **plan_of(summaryPlan={})}
    some = results_of(BOTH, **summary)
    assert (some.have_arrived(some.arrived), some.missing) == (False, "structured outputs")
    none = results_of(BOTH)
    assert none.missing == "analysis and structured outputs"
    full = results_of(BOTH, **summary, artifact=artifact(BOOKED))
    assert [full.have_arrived(before) for before in (1, 2)] == [False, True]


@pytest.mark.parametrize(
    "there",
    [
        {"analysis": {"summary": "Booked."}},
        {"artifact": artifact(BOOKED)},
        {"artifact": artifact(None, SKIPPED)},
    ],
    ids=["analysis", "outputs", "skipped"],
)
def test_first_result_suffices_if_none_is_included(there: dict[str, Any]) -> None:
    results = results_of(WHICHEVER, **there)
    assert [results.have_arrived(before) for before in (None, 0, 1)] == [False, False, True]
    assert results.missing == ""
    assert results_of(WHICHEVER).missing == "analysis or structured outputs"
    assert not results_of(WHICHEVER).have_arrived(0)


def test_names_of_missing_outputs_are_cleaned() -> None:
    plan = {"assistant": {"artifactPlan": {"structuredOutputIds": ["so\x1b[2J\n"]}}}
    assert results_of(OUTPUTS, **plan).missing == "structured outputs (so[2J)"


def test_view_keeps_only_the_results() -> None:
    body = {
        "id": "1",
        "artifact": {**artifact(BOOKED), "transcript": "AI: Hello.", "messages": [{"message": "Hello."}]},
        "assistant": {"firstMessage": "Hello.", "artifactPlan": TWO},
    }
    view = CallStatusView.model_validate_json(json.dumps(body))
    assert "Hello" not in str(view.__dict__)
    assert view.structured_outputs == BOOKED


@pytest.mark.parametrize("override", [None, {}, {"recordingEnabled": True}, {"structuredOutputIds": None}])
def test_override_without_outputs_keeps_them(override: Any) -> None:
    fields = {
        "assistant": {"artifactPlan": TWO},
        "assistantOverrides": {"artifactPlan": override},
        "artifact": artifact(BOOKED),
    }
    assert results_of(OUTPUTS, **fields).missing == "structured outputs (so-2)"


def test_override_with_outputs_replaces_them() -> None:
    fields = {
        "assistant": {"artifactPlan": TWO},
        "assistantOverrides": {"artifactPlan": {"structuredOutputIds": ["so-1"]}},
        "artifact": artifact(BOOKED),
    }
    assert results_of(OUTPUTS, **fields).have_arrived(None)
