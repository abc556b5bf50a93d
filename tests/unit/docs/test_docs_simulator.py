# SPDX-License-Identifier: Apache-2.0
"""``docs/simulator.md`` matches the simulator: its options, arguments, attributes, commands and outcomes."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shlex

import pytest
import requests
from markdown_pages import blocks_of, code_in, path_of, read, table

from vapi_provider.simulator import Fault, Scenario, VapiSimulator
from vapi_provider.simulator.__main__ import make_simulator
from vapi_provider.simulator.timeline import DEFAULT_TIMELINE

PAGE = "simulator.md"


def commands(program: str) -> list[list[str]]:
    """Return the page's commands of a program, in words."""
    shell = [block.text for block in blocks_of(path_of(PAGE)) if block.language == "shell"]
    text = "\n".join(shell).replace("\\\n", " ")
    lines = re.findall(r"(?:'[^']*'|[^\n'])+", text)
    return [words for line in lines if (words := shlex.split(line))[:1] == [program]]


def defaults_of(kind: type) -> dict[str, object]:
    parameters = inspect.signature(kind.__init__).parameters
    return {name: each.default for name, each in parameters.items() if name != "self"}


def test_options_and_their_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_simulator(["--help"])
    usage = " ".join(capsys.readouterr().out.split())
    shown = {code_in(row[0])[0]: "".join(code_in(row[1])) for row in table(PAGE, "| option |")}
    assert shown.pop("--outcome") == ""
    for option, default in shown.items():
        described = usage.split(f" {option} ", 1)[1].partition(" --")[0]
        assert f"(default: {default}" in described, option
    assert set(re.findall(r"--[a-z-]+", usage)) == {*shown, "--outcome", "--help"}


def test_commands_of_the_page_start_a_simulator() -> None:
    started = [words[3:] for words in commands("python") if words[2] == "vapi_provider.simulator"]
    assert len(started) == 2
    for arguments in started:
        make_simulator(arguments)


def test_curl_commands_work() -> None:
    responses = []
    with VapiSimulator() as simulator:
        for words in commands("curl"):
            given = [word for flag, word in zip(words, words[1:], strict=False) if flag == "-H"]
            headers = dict(each.split(": ") for each in given)
            data = words[words.index("-d") + 1] if "-d" in words else None
            url = words[-1].replace("http://127.0.0.1:8765", simulator.url)
            method = "POST" if data else "GET"
            response = requests.request(method, url, headers=headers, data=data, timeout=10)
            responses.append((method, url.removeprefix(simulator.url), response.status_code))
        assert len(simulator.calls) == 1
    assert responses == [("GET", "/__simulator/rings", 200), ("POST", "/call", 201), ("GET", "/call", 200)]


def test_reasons_have_the_stated_effect() -> None:
    request = {"assistantId": "a", "customer": {"number": "+12025550143"}}
    rows = table(PAGE, "| reason | rings |")
    reasons = {reason.replace("*", "some-thing"): row for row in rows for reason in code_in(row[0])}
    assert len(reasons) == 6
    for reason, (_, rings, answered, results) in {**reasons, "exceeded-max-duration": rows[-1]}.items():
        timeline = Scenario(outcomes={"*": reason})(request)
        skipped = {output.is_skipped for output in timeline.structured_outputs}
        assert (timeline.ringing is not None) == (rings == "yes"), reason
        assert (timeline.answered is not None) == (answered == "yes"), reason
        assert (timeline.analysis is not None) == (results != "none"), reason
        assert skipped == (set() if results == "none" else {"skipped" in results}), reason


def test_made_up_output_of_a_saved_assistant() -> None:
    [output] = Scenario()({"assistantId": "a"}).structured_outputs
    assert output.result is True
    assert f"`{output.name}`, which is true" in " ".join(read(path_of(PAGE)).split())


@pytest.mark.parametrize(
    ("header", "kind"), [("| argument of `VapiSimulator`", VapiSimulator), ("| field |", Fault)]
)
def test_arguments_and_their_defaults(header: str, kind: type) -> None:
    rows = table(PAGE, header)
    defaults = defaults_of(kind)
    assert [code_in(row[0])[0] for row in rows] == list(defaults)
    for first, _, default, _ in rows:
        if code := code_in(default):
            assert repr(defaults[code_in(first)[0]]) == code[0].replace('"', "'"), first
    assert DEFAULT_TIMELINE.ended == 10


def test_options_of_the_same_names_as_a_scenario() -> None:
    options = {code_in(row[0])[0].removeprefix("--").replace("-", "_") for row in table(PAGE, "| option |")}
    names = {field.name for field in dataclasses.fields(Scenario)}
    assert {name.removesuffix("s") if name == "outcomes" else name for name in names} <= options


def test_attributes_of_the_simulator() -> None:
    simulator = VapiSimulator()
    named = {code_in(row[0])[0] for row in table(PAGE, "| attribute |")}
    properties = {name for name, each in vars(VapiSimulator).items() if isinstance(each, property)}
    assert named == properties | (vars(simulator).keys() & named)
    assert {"calls", "rings", "requests", "faults"} <= named
