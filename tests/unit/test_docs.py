# SPDX-License-Identifier: Apache-2.0
"""What the pages of the documentation say is what the code does, and every block of code in them is run or checked."""

from __future__ import annotations

import ast
import configparser
import dataclasses
import importlib.util
import inspect
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import requests

import vapi_provider.exceptions
from airflow.configuration import conf
from airflow.providers.common.compat.sdk import AirflowFailException, Connection
from airflow.sdk import DAG, task
from vapi_provider.client import artifact, deadline, hang_up, responses, transport
from vapi_provider.client.client import VapiClient
from vapi_provider.connection import (
    ARTIFACT_HOSTS,
    CONN_FIELDS,
    DEFAULT_BASE_URL,
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT,
    UI_FIELD_BEHAVIOUR,
    VapiSettings,
    read_settings,
)
from vapi_provider.exceptions import VapiError
from vapi_provider.hooks.vapi import VapiHook
from vapi_provider.links.call import VapiCallLink
from vapi_provider.models.call import Call, CallStatus
from vapi_provider.models.outcome import CallOutcome, outcome_of
from vapi_provider.models.summary import CallSummary, check_include
from vapi_provider.operators.call import VapiCreateCallOperator, VapiUpdateCallOperator
from vapi_provider.placing import placement, search
from vapi_provider.placing.decision import RULES, Rule
from vapi_provider.placing.request import MAX_NAME_LENGTH, Customer
from vapi_provider.polling import changes, connection, poller
from vapi_provider.rendering import RendersFields, show_call_id
from vapi_provider.sensors.call import VapiCallSensor
from vapi_provider.simulator import Fault, VapiSimulator
from vapi_provider.simulator.__main__ import main as run_simulator
from vapi_provider.simulator.timeline import DEFAULT_TIMELINE
from vapi_provider.transfers import export
from vapi_provider.transfers.calls_to_object_storage import CallsExport, VapiCallsToObjectStorageOperator
from vapi_provider.transfers.recording_to_object_storage import (
    RecordingExport,
    VapiRecordingToObjectStorageOperator,
)
from vapi_provider.triggers import call as trigger
from vapi_provider.waiting import mixin, wait

pytest_plugins = ["vapi_provider.simulator.pytest_plugin"]

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
CALL_ID = "0198a3f0-0000-7000-8000-000000000001"

DIRECTIVES = {"{eval-rst}", "{include}", "{literalinclude}", "{toctree}"}
LANGUAGES = {"ini", "json", "python", "shell", "text"}
PROGRAMS = {"airflow", "curl", "export", "make", "pip", "python"}


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    info: str
    text: str

    @property
    def language(self) -> str:
        return self.info.partition(" ")[0]

    @property
    def file(self) -> str | None:
        """The file that the block is, where its first line says so."""
        named = re.match(r"# ([\w/]+\.py)\n", self.text)
        return named[1] if named else None


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks_of(page: Path) -> Iterator[Block]:
    text = read(page)
    for found in re.finditer(r"^( *)(```+)([^`\n]*)\n(.*?)^\1\2 *$", text, re.DOTALL | re.MULTILINE):
        indent, _, language, body = found.groups()
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, language.strip(), re.sub(rf"^{indent}", "", body, flags=re.MULTILINE))


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def name(where: Block | Path) -> str:
    return where.name if isinstance(where, Path) else f"{where.page.name}:{where.line}"


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def block_with(page: str, text: str) -> str:
    [block] = [block for block in BLOCKS if block.page.name == page and text in block.text]
    return block.text


def table(page: str, header: str) -> list[list[str]]:
    """Return the cells of a table's rows, below the heading row that begins with the given text."""
    path = DOCS / page if (DOCS / page).exists() else ROOT / page
    [found] = re.findall(rf"^{re.escape(header)}.*\n\|[-|]+\|\n((?:\|.*\n)+)", read(path), re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found.splitlines()]


def code_in(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# The pages as such


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_fence_belongs_to_a_block(page: Path) -> None:
    fences = re.findall(r"^ *(?:```|~~~)", read(page), re.MULTILINE)
    assert len(fences) == 2 * len(list(blocks_of(page)))


@pytest.mark.parametrize("block", BLOCKS, ids=name)
def test_every_block_is_of_a_kind_that_is_checked_here(block: Block) -> None:
    assert block.language in LANGUAGES | DIRECTIVES


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", read(page)):
        path = page.parent / target if target else page
        assert path.exists(), target
        if anchor:
            assert anchor in map(slug, re.findall(r"^#+ (.*)", read(path), re.MULTILINE)), anchor


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_picture_is_one_and_says_what_it_shows(page: Path) -> None:
    for described, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", read(page)):
        assert len(described) > 20
        assert (page.parent / target).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_every_picture_is_shown() -> None:
    shown = {target for page in PAGES for target in re.findall(r"\]\((images/[^)]+)\)", read(page))}
    assert {f"images/{path.name}" for path in DOCS.glob("images/*")} == shown


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = [
        line for block in of("{toctree}") for line in block.text.splitlines() if re.fullmatch(r"\w+", line)
    ]
    assert sorted([*listed, "index"]) == sorted(page.stem for page in DOCS.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_page_holds_a_number_that_could_ring(page: Path) -> None:
    for number in re.findall(r"\+\d[\dx -]{6,}", read(page)):
        assert re.fullmatch(r"\+1 ?202 ?555 ?01[\dx]{2}", number.strip()), number


@pytest.mark.parametrize("page", [*PAGES, DOCS / "conf.py"], ids=name)
def test_every_page_begins_with_its_licence(page: Path) -> None:
    assert "SPDX-License-Identifier: Apache-2.0" in read(page).partition("\n")[0]


# Blocks of Python

# What the operator that contributors are shown takes from modules.
FOR_CONTRIBUTORS = {
    "Any": Any,
    "RendersFields": RendersFields,
    "Sequence": Sequence,
    "VapiCallLink": VapiCallLink,
    "show_call_id": show_call_id,
}


@pytest.mark.parametrize("block", [block for block in of("python") if block.file is None], ids=name)
def test_every_block_of_python_runs(block: Block, vapi_simulator: VapiSimulator) -> None:
    for _ in range(3):
        vapi_simulator.end_call(vapi_simulator.add_call(), cost=0.5)
    # The simulator knows calls only.
    vapi_simulator.faults.add(Fault(method="GET", path="/assistant", status=200, body="[]"))
    names = {
        **FOR_CONTRIBUTORS,
        "VapiCallSensor": VapiCallSensor,
        "VapiCreateCallOperator": VapiCreateCallOperator,
        "VapiCallsToObjectStorageOperator": VapiCallsToObjectStorageOperator,
        "VapiUpdateCallOperator": VapiUpdateCallOperator,
        "task": task,
    }
    with DAG("documentation"):
        exec(block.text, names)


def test_the_hooks_examples_return_what_they_say(vapi_simulator: VapiSimulator) -> None:
    for cost in (0.5, 0.25):
        vapi_simulator.end_call(vapi_simulator.add_call(), cost=cost)
    longest = vapi_simulator.add_call(
        status="ended", body={"startedAt": "2026-11-22T22:00:00Z", "endedAt": "2026-11-22T23:00:00Z"}
    )
    names: dict[str, Any] = {"task": task}
    exec(block_with("operators.md", "sum(call.cost"), names)
    assert names["cost"] == 0.75
    exec(block_with("operators.md", "def longest_call"), names)
    assert names["longest_call"].function(hours=1) == longest


def test_the_operator_that_contributors_are_shown_works(vapi_simulator: VapiSimulator) -> None:
    names: dict[str, Any] = dict(FOR_CONTRIBUTORS)
    exec(block_with("CONTRIBUTING.md", "class VapiGetCallOperator"), names)
    call_id = vapi_simulator.add_call(status="ringing")
    operator = names["VapiGetCallOperator"](task_id="get", call_id={"id": call_id, "transcript": "secret"})
    operator.render_template_fields({})
    assert operator.call_id == call_id
    pushed: dict[str, str] = {}
    ti = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
    assert operator.execute({"ti": ti})["status"] == "ringing"
    assert pushed == {VapiCallLink().xcom_key: f"{vapi_simulator.url}/calls/{call_id}"}


def project_of(page: str, folder: Path) -> int:
    """Write the files that a page shows; return how many tests are in them."""
    files = {block.file: block.text for block in of("python") if block.file and block.page.name == page}
    for file, text in files.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")
    return sum(text.count("\ndef test_") for text in files.values())


def test_every_file_is_part_of_the_project_of_its_page() -> None:
    assert {block.page.name for block in BLOCKS if block.file} == {"testing.md"}
    # A test that is no file would be defined and not run.
    assert all(block.file for block in of("python") if "def test_" in block.text)


def test_the_project_on_the_page_on_testing_passes_its_tests(tmp_path: Path) -> None:
    tests = project_of("testing.md", tmp_path)
    (tmp_path / "dags").mkdir()
    shutil.copy(ROOT / "example_dags" / "example_vapi_rename_call.py", tmp_path / "dags")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    arguments = shlex.split(block_with("testing.md", "-m pytest"))[1:]
    done = subprocess.run(
        [sys.executable, *arguments, "--no-cov"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"\b{tests} passed\b", done.stdout), done.stdout


@pytest.mark.parametrize("block", of("{literalinclude}", "{include}"), ids=name)
def test_what_is_included_is_run_by_other_tests_or_is_a_page(block: Block) -> None:
    directive, _, target = block.info.partition(" ")
    path = (block.page.parent / target).resolve()
    if directive == "{include}":
        assert path.parent == ROOT
        assert read(path).partition("-->")[2].strip().startswith("# ") or read(path).startswith("# ")
        return
    assert path.parent == ROOT / "example_dags"
    assert path.name.startswith("example_")
    shown = re.search(r"^:lines: (\d+)-$", block.text, re.MULTILINE)
    assert shown is not None
    # It shows whole statements, not the end of a comment.
    text = "\n".join(read(path).splitlines()[int(shown[1]) - 1 :])
    assert text.startswith(('"""', "from __future__"))
    ast.parse(text)


# Connections and settings


def settings_of(**fields: Any) -> VapiSettings:
    return read_settings(Connection(conn_id="vapi_default", **fields))


def test_the_connections_in_blocks_of_json_can_be_read() -> None:
    for block in of("json"):
        shown = json.loads(block.text)
        if "Rules" in shown:
            # A lifecycle rule of S3, which the command of AWS takes as it is.
            [rule] = shown["Rules"]
            assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
            continue
        if "ended_reason" in shown:
            assert list(shown) == list(Call.model_validate({"id": CALL_ID}).summary())
            continue
        connections = [shown] if "conn_type" in shown else list(shown.values())
        for fields in connections:
            assert settings_of(**fields).api_key == "YOUR_PRIVATE_KEY"


def exports() -> list[str]:
    lines = [line for block in of("shell") for line in block.text.splitlines()]
    return [shlex.split(line)[1] for line in lines if line.startswith("export ")]


@pytest.mark.parametrize("assignment", exports())
def test_a_connection_in_an_environment_variable_can_be_read(
    assignment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable, _, value = assignment.partition("=")
    assert variable == "AIRFLOW_CONN_VAPI_DEFAULT"
    monkeypatch.setenv(variable, value)
    settings = read_settings(VapiHook.get_connection("vapi_default"))
    host = "api.eu.vapi.ai" if "eu" in value else "api.vapi.ai"
    assert (settings.api_key, settings.base_url) == ("YOUR_PRIVATE_KEY", f"https://{host}")
    assert (settings.timeout, settings.max_retries) == ((10, 2) if "timeout" in value else (30, 4))


def test_a_file_of_connections_works_with_the_backend_that_is_shown(tmp_path: Path) -> None:
    shown = configparser.ConfigParser()
    shown.read_string(block_with("connection.md", "[secrets]"))
    module, _, name = shown["secrets"]["backend"].rpartition(".")
    arguments = json.loads(shown["secrets"]["backend_kwargs"])
    assert arguments.keys() == {"connections_file_path"}
    file = tmp_path / Path(arguments["connections_file_path"]).name
    file.write_text(block_with("connection.md", '"vapi_default": {'), encoding="utf-8")
    backend = getattr(importlib.import_module(module), name)(connections_file_path=str(file))
    assert read_settings(backend.get_connection("vapi_default")).api_key == "YOUR_PRIVATE_KEY"


def options_of_airflow(page: Path) -> Iterator[tuple[str, str]]:
    text = read(page)
    # As prose has them, as environment variables have them, and as the file has them.
    yield from re.findall(r"`\[(\w+)\]\s+(\w+)`", text)
    for section, option in re.findall(r"AIRFLOW__([A-Z_]+?)__([A-Z_]+)", text):
        yield section.lower(), option.lower()
    for block in blocks_of(page):
        if block.language == "ini":
            parser = configparser.ConfigParser(interpolation=None)
            parser.read_string(block.text)
            yield from ((section, option) for section in parser.sections() for option in parser[section])


@pytest.mark.parametrize("page", [page for page in PAGES if list(options_of_airflow(page))], ids=name)
def test_every_option_of_airflow_exists(page: Path) -> None:
    for section, option in options_of_airflow(page):
        if section == "state_store" and section not in conf.configuration_description:
            # From Airflow 3.3 on.
            continue
        assert option in conf.configuration_description.get(section, {}).get("options", {}), (section, option)


def test_the_pages_do_name_options_of_airflow() -> None:
    named = {option for page in PAGES for option in options_of_airflow(page)}
    assert {
        ("core", "test_connection"),
        ("operators", "default_deferrable"),
        ("core", "dags_folder"),
    } <= named


# Commands


def commands() -> list[tuple[str, list[str]]]:
    found = []
    for block in of("shell"):
        # A line break within quotes is part of the command.
        for line in re.findall(r"(?:'[^']*'|\"[^\"]*\"|[^\n])+", block.text.replace("\\\n", " ")):
            if words := shlex.split(line, comments=True):
                found.append((name(block), words))
    return found


def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", read(ROOT / "Makefile"), re.MULTILINE))


def test_every_command_is_of_a_program_that_is_checked_here() -> None:
    assert {words[0] for _, words in commands()} <= PROGRAMS


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_target_of_make_exists(page: Path) -> None:
    inline = re.findall(r"`make ([\w-]+)", read(page))
    lines = [words[1] for where, words in commands() if words[0] == "make" and where.startswith(page.name)]
    assert {*inline, *lines} <= targets()


def test_contributing_names_every_target_of_make() -> None:
    named = {code_in(row[0])[0].removeprefix("make ") for row in table("CONTRIBUTING.md", "| command |")}
    assert targets() - named == {"help", "clean"}


def test_what_make_is_given_is_there() -> None:
    makefile = read(ROOT / "Makefile")
    for _, words in [command for command in commands() if command[1][0] == "make"]:
        for variable, value in (word.split("=", 1) for word in words[2:]):
            assert re.search(rf"^{variable} \?=", makefile, re.MULTILINE), variable
            for part in value.split():
                assert "/" not in part or (ROOT / part).exists(), part


def airflow_commands() -> list[list[str]]:
    return [words for _, words in commands() if words[0] == "airflow"]


@pytest.mark.parametrize("words", airflow_commands(), ids=" ".join)
def test_every_command_of_airflow_is_one(words: list[str]) -> None:
    from airflow.cli.cli_parser import get_parser

    given = get_parser().parse_args(words[1:])
    if words[2] == "add":
        fields = {"conn_type": given.conn_type, "password": given.conn_password, "extra": given.conn_extra}
        # The column that it is stored in makes a number of it.
        settings = settings_of(**fields, port=int(given.conn_port) if given.conn_port else None)
        assert settings.timeout == (60 if given.conn_extra else 30)
        assert settings.base_url == DEFAULT_BASE_URL + (":443" if given.conn_port else "")


def test_every_module_that_is_run_is_there() -> None:
    run = [words[2] for _, words in commands() if words[:2] == ["python", "-m"]]
    assert "vapi_provider.simulator" in run
    assert all(importlib.util.find_spec(module) for module in run)


def test_the_simulator_answers_what_curl_sends() -> None:
    answered = []
    with VapiSimulator() as simulator:
        for _, words in [command for command in commands() if command[1][0] == "curl"]:
            headers = dict(
                re.split(": ", words[place + 1]) for place, word in enumerate(words) if word == "-H"
            )
            data = words[words.index("-d") + 1] if "-d" in words else None
            url = words[-1].replace("http://127.0.0.1:8765", simulator.url)
            answer = requests.request("POST" if data else "GET", url, headers=headers, data=data, timeout=10)
            answered.append(answer.status_code)
        assert len(simulator.calls) == 1
    assert answered == [201, 200]


def test_the_simulators_options_are_those_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_simulator(["--help"])
    options = set(re.findall(r"(--[\w-]+)", capsys.readouterr().out)) - {"--help"}
    rows = table("simulator.md", "| option |")
    assert {code_in(row[0])[0] for row in rows} == options
    assert [code_in(row[2])[0] for row in rows] == ["0", VapiSimulator().api_key]


# Tables


def check_arguments(rows: list[list[str]], kind: type, *, inherited: Sequence[str] = ()) -> None:
    """Compare a table of arguments with a class: every one is there, and a default that is named is the one."""
    parameters = dict(inspect.signature(kind.__init__).parameters)
    own = parameters.keys() - {"self", "kwargs"}
    assert {code_in(row[0])[0] for row in rows} == own | set(inherited)
    for first, _, default in rows:
        argument = code_in(first)[0]
        if re.fullmatch(r"`[^`]+`", default) and argument in own:
            assert repr(parameters[argument].default) == default.strip("`").replace('"', "'"), argument
        if not default:
            assert parameters[argument].default is inspect.Parameter.empty, argument
        templated = getattr(kind, "template_fields", ())
        assert ("(templated)" in first) == (argument in templated), argument


def test_the_operators_arguments_are_those_of_the_code() -> None:
    check_arguments(table("operators.md", "| argument |"), VapiUpdateCallOperator)


def test_the_arguments_for_placing_are_those_of_the_code() -> None:
    rows = table("placing.md", "| argument |")
    check_arguments(rows, VapiCreateCallOperator)
    names = [name for name in inspect.signature(VapiCreateCallOperator).parameters if name != "kwargs"]
    assert [code_in(row[0])[0] for row in rows] == names
    made = VapiCreateCallOperator(
        task_id="call", assistant_id="x", phone_number_id="y", customer={"number": "+12025550143"}
    )
    shown = {code_in(row[0])[0]: row[2] for row in rows}
    assert shown["deferrable"].endswith(f"`{made.deferrable}`")
    assert (made.timeout, shown["timeout"]) == (12 * 3600, "12 hours")


def test_the_arguments_of_the_transfers_are_those_of_the_code() -> None:
    check_arguments(table("exporting.md", "| argument |"), VapiCallsToObjectStorageOperator)
    check_arguments(table("exporting.md", "| argument of it |"), VapiRecordingToObjectStorageOperator)


def test_what_the_transfers_return_is_that_of_the_code() -> None:
    text = read(DOCS / "exporting.md")
    calls = re.search(r"The task returns (.*?)\. The same", text, re.DOTALL)
    recording = re.search(r"It returns (.*?)\. The extension", text, re.DOTALL)
    assert calls is not None
    assert recording is not None
    assert code_in(calls[1]) == list(CallsExport.__annotations__)
    assert code_in(recording[1]) == list(RecordingExport.__annotations__)


def test_the_columns_of_an_export_are_those_of_a_line() -> None:
    rows = table("exporting.md", "| column |")
    assert [code_in(row[0])[0] for row in rows if row[2] == "always"] == list(
        Call.model_validate({"id": CALL_ID}).summary()
    )
    assert {code_in(row[0])[0] for row in rows} == CallSummary.__annotations__.keys()
    call = Call.model_validate({"id": CALL_ID, "messages": [{}], "analysis": {}, "customer": {}})
    summary: dict[str, Any] = {**call.summary(["messages", "analysis", "customer"])}
    shown = {code_in(row[0])[0]: code_in(row[1]) for row in rows}
    assert shown["messages"] == list(summary["messages"][0])
    assert shown["analysis"] == list(summary["analysis"])
    assert shown["customer"] == list(summary["customer"])


def test_the_arguments_without_effect_are_those_of_the_code() -> None:
    text = " ".join(read(DOCS / "placing.md").split())
    listed = re.search(r"the arguments without effect are (.*?), unless they have their default", text)
    assert listed is not None
    assert {name.partition("=")[0] for name in code_in(listed[1])} == mixin._ONLY_WHILE_WAITING.keys()


def test_the_keys_of_a_customer_are_those_of_the_code() -> None:
    rows = table("placing.md", "| key of `customer` |")
    assert [code_in(row[0])[0] for row in rows] == list(Customer.__annotations__)


def row_of(rule: Rule) -> list[str]:
    """Write a rule of the decision as the page shows it."""
    besides = {
        "try 1 of a run that was never cleared": rule.is_first_try is True,
        "the last possible sending is too recent": rule.is_settled is False,
        "this try has sent the request": rule.has_sent is True,
        "this try has sent nothing": rule.has_sent is False,
    }
    conditions = [rule.is_first_try, rule.is_settled, rule.has_sent]
    assert sum(besides.values()) == sum(condition is not None for condition in conditions)
    return [
        rule.name,
        ", ".join(recorded.value for recorded in rule.recorded or ()) or "any",
        ", ".join(found.value for found in rule.found or ()) or "any",
        "; ".join(text for text, holds in besides.items() if holds),
        rule.step.value,
        rule.because,
    ]


def test_the_table_of_decisions_is_that_of_the_code() -> None:
    assert table("placing.md", "| row | recorded") == [row_of(rule) for rule in RULES]


def test_the_sensors_arguments_are_those_of_the_code() -> None:
    rows = table("sensor.md", "| argument |")
    check_arguments(rows, VapiCallSensor, inherited=["timeout", "soft_fail", "mode"])
    made = VapiCallSensor(task_id="wait", call_id=CALL_ID)
    shown = {code_in(row[0])[0]: row[2] for row in rows}
    assert shown["soft_fail"] == f"`{made.soft_fail}`"
    assert shown["mode"] == f'`"{made.mode}"`'
    assert shown["deferrable"].endswith(f"`{made.deferrable}`")
    assert (made.timeout, shown["timeout"].partition(", ")[2]) == (7 * 24 * 3600, "7 days")


def test_the_simulators_arguments_are_those_of_the_code() -> None:
    check_arguments(table("simulator.md", "| argument of `VapiSimulator`"), VapiSimulator)
    assert DEFAULT_TIMELINE.ended == 10


def test_the_fields_of_a_fault_are_those_of_the_code() -> None:
    named = [field for row in table("simulator.md", "| field |") for field in code_in(row[0])]
    assert sorted(named) == sorted(field.name for field in dataclasses.fields(Fault))


def test_the_fields_of_a_call_are_those_of_the_code() -> None:
    sentence = re.search(r"A call's fields are (.*?)\.\n", read(DOCS / "api.md"), re.DOTALL)
    assert sentence is not None
    assert sorted(code_in(sentence[1])) == sorted(Call.model_fields)


def test_the_names_to_include_are_those_of_the_code() -> None:
    named = [code_in(row[0])[0] for row in table("operators.md", "| name | adds |")]
    with pytest.raises(ValueError, match="include must be") as refused:
        check_include(["x"])
    among = re.search(r"among (.*);", str(refused.value))
    assert among is not None
    assert sorted(named) == sorted(among[1].split(", "))


def test_the_summary_is_typed_as_it_is() -> None:
    named = {code_in(row[0])[0] for row in table("operators.md", "| name | adds |")}
    base = Call.model_validate({"id": CALL_ID}).summary()
    assert CallSummary.__annotations__.keys() == base.keys() | named


def test_the_fields_of_the_connection_are_those_of_the_code() -> None:
    rows = {row[0]: row[1:] for row in table("connection.md", "| field |")}
    extra = {code_in(field)[-1]: cells for field, cells in rows.items() if field.startswith("extra")}
    assert list(extra) == [*CONN_FIELDS, ARTIFACT_HOSTS]
    for name, default in (("timeout", f"{DEFAULT_TIMEOUT:g}"), ("max_retries", str(DEFAULT_MAX_RETRIES))):
        schema = CONN_FIELDS[name]["schema"]
        assert extra[name][0].endswith(f"; {schema['minimum']} to {schema['maximum']}")
        assert extra[name][1] == default
    assert rows["host (*API base URL*)"][1] == f"`{DEFAULT_BASE_URL}`"
    labels = re.findall(r"^\| (\w+) \(\*(.*?)\*\)", read(DOCS / "connection.md"), re.MULTILINE)
    assert dict(labels) == UI_FIELD_BEHAVIOUR["relabeling"]


def test_the_form_has_no_field_for_the_port() -> None:
    assert "port" in UI_FIELD_BEHAVIOUR["hidden-fields"]
    assert "The form has no field for the\nport." in read(DOCS / "connection.md")


def test_the_hooks_methods_are_those_of_the_code() -> None:
    listed = {code_in(row[0])[0] for row in table("operators.md", "| method |")}
    public = {name for name in vars(VapiHook) if not name.startswith("_")}
    airflows = {"conn_name_attr", "default_conn_name", "conn_type", "hook_name", "get_ui_field_behaviour"}
    assert listed == public - airflows - {"get_connection_form_widgets", "client"}
    reference = re.search(r"VapiHook\n +:members: (.*)", read(DOCS / "api.md"))
    assert reference is not None
    assert set(reference[1].split(", ")) == listed


def test_the_exceptions_are_those_of_the_code() -> None:
    rows = {code_in(row[0])[0]: row[2] for row in table("operators.md", "| exception |")}
    kinds = {
        name: kind
        for name, kind in vars(vapi_provider.exceptions).items()
        if inspect.isclass(kind) and issubclass(kind, VapiError) and kind is not VapiError
    }
    assert rows.keys() == kinds.keys()
    for name, fate in rows.items():
        assert (fate == "fails, no retry") == issubclass(kinds[name], AirflowFailException), name


def test_the_outcomes_and_their_examples_are_right() -> None:
    rows = table("outcomes.md", "| outcome | meaning")
    assert {row[0].strip("`") for row in rows} == {outcome.value for outcome in CallOutcome}
    for outcome, _, reasons in rows:
        for reason in code_in(reasons):
            assert outcome_of(reason) == outcome.strip("`"), reason


def test_the_families_are_told_as_the_page_says() -> None:
    families = 0
    for outcome, listed in table("outcomes.md", "| outcome | families"):
        for family in code_in(listed):
            families += 1
            assert outcome_of(family.replace("*", "some-thing")) == outcome.strip("`"), family
    assert families > 30


def test_the_statuses_are_those_of_the_code() -> None:
    live, ended, other = (set(code_in(row[0])) for row in table("outcomes.md", "| status |"))
    assert live == CallStatus.LIVE
    assert (ended, ended | other) == ({CallStatus.ENDED}, CallStatus.TERMINAL)


def test_the_page_on_the_sensor_has_the_table_of_the_readme() -> None:
    rows = re.findall(r"^\| situation \|.*\n(?:\|.*\n)+", read(ROOT / "README.md"), re.MULTILINE)
    assert len(rows) == 1
    assert rows[0].strip() in read(DOCS / "sensor.md")


@pytest.mark.parametrize(
    "named", sorted(set(re.findall(r"`([\w.]+/[\w./]*)`", read(ROOT / "CONTRIBUTING.md"))))
)
def test_what_contributing_names_is_there(named: str) -> None:
    places = (ROOT, ROOT / "vapi_provider", ROOT / "tests")
    assert named.startswith(("build/", "apache/")) or any((place / named).exists() for place in places)


def test_contributing_maps_every_room() -> None:
    named = {code_in(row[0])[0] for row in table("CONTRIBUTING.md", "| where |")}
    paths = [path for path in (ROOT / "vapi_provider").iterdir() if not path.name.startswith(("_", "py."))]
    rooms = {f"vapi_provider/{path.name}{'/' if path.is_dir() else ''}" for path in paths}
    assert {name for name in named if name.startswith("vapi_provider/")} == rooms


# Messages


def of_connection(**fields: Any) -> Callable[[VapiSimulator], Any]:
    def connect(simulator: VapiSimulator) -> Any:
        base = {"conn_id": "vapi_default", "conn_type": "vapi", "password": "key"}
        client = VapiClient(read_settings(Connection(**{**base, **fields})), logging.getLogger(__name__))
        return client.get_call(CALL_ID)

    return connect


def of_response(extra: dict[str, Any], **fault: Any) -> Callable[[VapiSimulator], Any]:
    def request(simulator: VapiSimulator) -> Any:
        simulator.faults.add(Fault(times=None, **fault))
        fields = {**json.loads(simulator.connection), "extra": json.dumps({"max_retries": 0, **extra})}
        return of_connection(**fields)(simulator)

    return request


def without_bundle(simulator: VapiSimulator) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/certificates.pem")
        return of_connection(host="https://127.0.0.1:1")(simulator)


def wait_for_erased(simulator: VapiSimulator) -> Any:
    call_id = simulator.add_call(status="not-found")
    return VapiCallSensor(task_id="wait", call_id=call_id).poke({})


def sensor_with(**arguments: Any) -> Callable[[VapiSimulator], Any]:
    return lambda simulator: VapiCallSensor(task_id="wait", call_id=CALL_ID, **arguments).poke({})


CALL = {"assistant_id": "x", "phone_number_id": "y", "customer": {"number": "+12025550143"}}


def operator_with(**arguments: Any) -> VapiCreateCallOperator:
    return VapiCreateCallOperator(task_id="call", **{**CALL, **arguments})


def place_to_unusable_number(simulator: VapiSimulator) -> Any:
    return operator_with(customer={"number": "0151"})._place_and_wait({})


def place_without_writing(simulator: VapiSimulator) -> Any:
    def refuse(key: str, value: Any) -> None:
        raise ConnectionError

    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="call", try_number=1, map_index=-1)
    store = SimpleNamespace(get=lambda key: None, set=refuse)
    return operator_with()._place_and_wait({"ti": ti, "task_state_store": store})


def lose_response_to_run(simulator: VapiSimulator) -> Any:
    simulator.faults.add(Fault(method="POST", path="/assistant", status=502))
    return VapiHook().run("POST", "/assistant", json={"name": "Ada"})


def lose_response_to_delete(simulator: VapiSimulator) -> Any:
    simulator.faults.add(Fault(method="DELETE", status=502, effect=True))
    return VapiHook().delete_call(simulator.add_call(status="scheduled"))


# Raised by a constructor, which Airflow runs when it parses the DAG.
def exporting(**arguments: Any) -> Callable[[VapiSimulator], Any]:
    given = {
        "path": "file:///tmp/vapi-archive/calls.jsonl",
        "created_at_ge": "2026-03-10T00:00:00Z",
        "created_at_lt": "2026-03-11T00:00:00Z",
        **arguments,
    }
    operator = VapiCallsToObjectStorageOperator(task_id="export", **given)
    return lambda simulator: type(operator).execute.__wrapped__(operator, {})  # type: ignore[attr-defined]


def export_what_is_live(simulator: VapiSimulator) -> None:
    with TemporaryDirectory() as folder:
        simulator.add_call(status="ringing", body={"createdAt": "2026-03-10T12:00:00Z"})
        operator = VapiCallsToObjectStorageOperator(
            task_id="export",
            path=f"file://{folder}/calls.jsonl",
            created_at_ge="2026-03-10T00:00:00Z",
            created_at_lt="2026-03-11T00:00:00Z",
        )
        context = {"ti": SimpleNamespace(try_number=1, max_tries=1)}
        type(operator).execute.__wrapped__(operator, context)  # type: ignore[attr-defined]


def export_fewer(simulator: VapiSimulator) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "calls.jsonl").write_text("{}\n")
        exporting(path=f"file://{folder}/calls.jsonl")(simulator)


def download_after(**fault: Any) -> Callable[[VapiSimulator], Any]:
    def download(simulator: VapiSimulator) -> None:
        simulator.faults.add(Fault(**fault))
        VapiHook().download_artifact(CALL_ID, "mono", BytesIO())

    return download


IMPORT_ERRORS: dict[str, Callable[[VapiSimulator], Any]] = {
    "exactly one of assistant_id, squad_id and assistant is required": lambda _: operator_with(squad_id="z"),
    "has no effect with wait_for_completion=False": lambda _: operator_with(wait_for_completion=False, timeout=5),
    "does not take exponential_backoff": lambda _: VapiCallSensor(
        task_id="wait", call_id=CALL_ID, exponential_backoff=True
    ),
}  # fmt: skip

MESSAGES: dict[str, Callable[[VapiSimulator], Any]] = {
    **IMPORT_ERRORS,
    'starts with "Bearer"': of_connection(password="Bearer key"),
    "has unknown fields": of_connection(extra='{"timeot": 5}'),
    "must be a number from 1 to 75": of_connection(extra='{"timeout": 86400}'),
    "must be a host name or a URL such as": of_connection(host="https://"),
    "call_id is the text of a mapping": lambda simulator: VapiHook().get_call("{'id': 'x'}"),
    "call_id must be the id of a call, a UUID": lambda simulator: VapiHook().get_call("+12025550117"),
    "A later try may succeed": of_response({}, status=503),
    "the connection was refused": of_connection(host="http://127.0.0.1:1", extra='{"max_retries": 0}'),
    "no complete response within": of_response({"timeout": 1}, delay=2),
    "the certificate file that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names does not exist": without_bundle,
    "it never took place or was erased, and will not end": wait_for_erased,
    "is not in E.164": place_to_unusable_number,
    "Could not write the task's state": place_without_writing,
    "The request may have taken effect": lose_response_to_run,
    "delete it again to erase its data": lose_response_to_delete,
    "must be a datetime with a time zone": lambda simulator: VapiHook().list_calls(created_at_ge="yesterday"),
    "fail_on must be a list of outcomes among": sensor_with(fail_on="failed"),
    "include must be a list of names among": sensor_with(include=["recording"]),
    "an export needs both bounds": exporting(created_at_ge=""),
    "No call can be created from": exporting(created_at_lt="2026-03-10T00:00:00Z"),
    "The export is unfinished": export_what_is_live,
    "and Vapi now lists": export_fewer,
    "for the storage. Create it": exporting(storage_conn_id="nowhere"),
    "has no scheme; pass a URL": exporting(path="/data/calls.jsonl"),
    "Vapi no longer keeps this file": download_after(
        status=400, body='{"message": "expired", "error": "Bad Request", "statusCode": 400}'
    ),
    "Vapi redirected to": download_after(status=302, headers={"Location": "https://169.254.169.254/"}),
}  # fmt: skip


def test_troubleshooting_lists_the_messages_of_the_readme_and_those_that_are_checked_here() -> None:
    listed = [row[0].strip("`") for row in table("troubleshooting.md", "| message |")]
    front = re.search(r"^\| message \|.*\n((?:\|.*\n)+)", read(ROOT / "README.md"), re.MULTILINE)
    assert front is not None
    # test_readme.py sees to these.
    readme = re.findall(r"^\| `([^`]+)` \|", front[1], re.MULTILINE)
    assert sorted(listed) == sorted([*readme, *MESSAGES])


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_what_troubleshooting_says(message: str, vapi_simulator: VapiSimulator) -> None:
    with pytest.raises(VapiError, match=re.escape(message)):
        MESSAGES[message](vapi_simulator)


def test_the_page_says_which_mistakes_are_import_errors() -> None:
    rows = table("troubleshooting.md", "| message |")
    assert {row[0].strip("`") for row in rows if "does not import" in row[1]} == IMPORT_ERRORS.keys()


# Figures


@pytest.mark.parametrize(
    ("page", "said", "meant"),
    [
        ("waiting", "at most 20 requests", poller.REQUESTS_PER_POLL == 20),
        ("waiting", "Up to 20 calls are read one by one", poller.REQUESTS_PER_POLL == 20),
        ("waiting", "at most 14 pages of about 1.5 MB", (poller.PAGES_PER_POLL, changes.PAGE_BYTES) == (14, 1_500_000)),
        ("waiting", "up to 15 minutes before the triggerer began to wait", changes.CATCH_UP_SECONDS == 900),
        ("waiting", "N/19 to N/6 polls", (poller.REQUESTS_PER_POLL - 1, poller.REQUESTS_PER_POLL - poller.PAGES_PER_POLL) == (19, 6)),
        ("waiting", "never less than 5 seconds", poller.MIN_INTERVAL_SECONDS == 5),
        ("waiting", "reads the connection once a minute", connection.CONNECTION_SECONDS == 60),
        ("waiting", "as long as Vapi asks (up to an hour)", poller.MAX_RETRY_AFTER_SECONDS == 3600),
        ("waiting", "ends them after five minutes", connection.MISSING_SECONDS == 300),
        ("waiting", "some two minutes later", mixin.BACKSTOP_SECONDS == 120),
        ("waiting", "every 15 seconds, the default interval", VapiCallSensor(task_id="wait", call_id="x").poke_interval == 15),
        ("connection", "All tries of a request end within 75 seconds", transport.ALL_TRIES_SECONDS == 75),
        ("connection", "after a transient error; 0 to 10", CONN_FIELDS["max_retries"]["schema"]["maximum"] == 10),
        ("connection", "triggerers do within a minute", connection.CONNECTION_SECONDS == 60),
        ("connection", "triggers share one look-up a minute", connection.CONNECTION_SECONDS == 60),
        ("operators", "within 75 seconds in all", transport.ALL_TRIES_SECONDS == 75),
        ("operators", "408, 425, 429, 5xx", sorted(responses._RETRY_STATUSES) == [408, 425, 429]),
        ("operators", "a requested pause that is longer than a minute", transport.MAX_RETRY_AFTER_SECONDS == 60),
        ("sensor", "deferred, never less than 5", poller.MIN_INTERVAL_SECONDS == 5),
        ("exporting", "ended less than 60 seconds ago", export.SETTLE_SECONDS == 60),
        ("exporting", "until 30 seconds after the end of the interval", export.LIST_LAG_SECONDS == 30),
        ("exporting", "Until 5 minutes after it", artifact.ARRIVAL_SECONDS == 300),
        ("exporting", "64 KiB arrive in 30 seconds", (deadline.PACE_BYTES, deadline.PACE_SECONDS) == (65_536, 30)),
        ("exporting", "| 1 GiB |", artifact.MAX_BYTES == 2**30),
        ("placing", "at most 30 characters", MAX_NAME_LENGTH == 30),
        ("placing", "a killed task goes on for 5 seconds", search.KILL_SECONDS == 5),
        ("placing", "the list may lag by 30", search.LIST_LAG_SECONDS == 30),
        ("placing", "its time limit (30 seconds", DEFAULT_TIMEOUT == 30),
        ("placing", "from an hour before", search.CLOCK_DIFFERENCE.total_seconds() == 3600),
        ("placing", "up to 200 pages of 100 calls or 512 MiB", (search.MAX_PAGES, search.PAGE_SIZE, search.MAX_BYTES) == (200, 100, 2**29)),
        ("placing", "A worker has 3 seconds", hang_up.HANG_UP_SECONDS == 3),
        ("placing", "in the first 30 seconds after its placement", wait.READ_LAG_SECONDS == 30),
        ("placing", "if its last search is more than 5 seconds old", placement.FRESH_SECONDS == 5),
        ("placing", "The default of 12 hours", mixin.DEFAULT_TIMEOUT == 12 * 3600),
        ("troubleshooting", "`VapiCreateCallOperator` is 12 hours by default", mixin.DEFAULT_TIMEOUT == 12 * 3600),
        ("testing", "for 5 seconds at least", trigger.SETTLE_SECONDS == 5),
        ("troubleshooting", "Airflow's default of 7 days", VapiCallSensor(task_id="wait", call_id="x").timeout == 604_800),
        ("troubleshooting", "[core] max_map_length`, 1,024 by default", conf.getint("core", "max_map_length") == 1024),
    ],
)  # fmt: skip
def test_the_pages_have_the_figures_of_the_code(page: str, said: str, meant: bool) -> None:
    text = read(DOCS / f"{page}.md").replace("*", "")
    assert re.search(r"\s+".join(map(re.escape, said.split())), text)
    assert meant
