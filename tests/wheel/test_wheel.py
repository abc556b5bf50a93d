# SPDX-License-Identifier: Apache-2.0
"""
The built package, installed into a clean environment that has Airflow already.

It is run by ``make wheel``, since it needs the build tools and installs Airflow once more.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints" / "airflow-3.3.txt"
TASKFLOW_DAG = ROOT / "tests" / "wheel" / "taskflow_dag.py"

PROGRAMS = Path(sys.executable).parent

Run = Callable[..., str]


def pinned(name: str) -> str:
    lines = CONSTRAINTS.read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{name}=="))


def python_of(installed: Run) -> str:
    return installed("python", "-c", "import sys; print(sys.executable)").strip()


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        # Not in the checkout, where the package could be imported without being installed.
        cwd=os.environ["AIRFLOW_HOME"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    [path] = dist.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Install the wheel beside Airflow and return how to run a program of that environment."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run(*pip, "install", "--constraint", CONSTRAINTS, pinned("pip"), pinned("apache-airflow"))
    before = run(*pip, "freeze").splitlines()
    run(*pip, "install", wheel)
    after = run(*pip, "freeze").splitlines()
    changed = set(before) ^ set(after)
    assert [line for line in changed if not line.startswith("airflow-provider-vapi")] == []

    def run_installed(program: str, *arguments: str) -> str:
        return run(folder / "bin" / program, *arguments, COLUMNS="300")

    return run_installed


def test_wheel_has_types_licence_and_only_the_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    package = [name for name in names if ".dist-info" not in name]
    assert {name.split("/")[0] for name in package} == {"vapi_provider"}
    assert [name for name in package if not name.endswith(".py")] == [
        "vapi_provider/py.typed",
        "vapi_provider/simulator/ended_reasons.txt",
    ]


def test_wheel_metadata_describes_the_package(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    [name] = [name for name in archive.namelist() if name.endswith("METADATA")]
    text = archive.read(name).decode()
    for line in (
        "Name: airflow-provider-vapi",
        "License-Expression: Apache-2.0",
        "Requires-Python: >=3.10",
        "Requires-Dist: apache-airflow>=3.0.6",
        "Classifier: Framework :: Apache Airflow :: Provider",
    ):
        assert line in text
    # Only addresses that exist.
    assert re.findall(r"^Project-URL: .*(https://[^/]+)", text, re.MULTILINE) == ["https://docs.vapi.ai"]


def test_long_description_has_no_relative_links(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    [name] = [name for name in archive.namelist() if name.endswith("METADATA")]
    text = archive.read(name).decode()
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert "## The shortest useful DAG" in text
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []


def test_sdist_has_what_its_own_tests_need(dist: Path) -> None:
    [path] = dist.glob("*.tar.gz")
    names = {name.partition("/")[2] for name in tarfile.open(path).getnames()}
    assert {"CONTRIBUTING.md", "SECURITY.md"} <= names
    assert {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "constraints/airflow-3.3.txt"} <= names
    assert "tests/conftest.py" in names
    assert "example_dags/example_vapi_rename_call.py" in names


def test_twine_accepts_wheel_and_sdist(dist: Path) -> None:
    checked = run(PROGRAMS / "twine", "check", "--strict", *sorted(dist.iterdir()))
    assert checked.count("PASSED") == 2


def test_check_wheel_contents_finds_nothing(wheel: Path) -> None:
    assert run(PROGRAMS / "check-wheel-contents", wheel).rstrip().endswith(": OK")


def test_pip_builds_the_same_wheel_from_the_sdist(dist: Path, wheel: Path, tmp_path: Path) -> None:
    def contents(path: Path) -> dict[str, int]:
        return {file.filename: file.CRC for file in zipfile.ZipFile(path).infolist()}

    [sdist] = dist.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, sdist)
    [built] = tmp_path.glob("*.whl")
    assert contents(built) == contents(wheel)


def test_pip_refuses_airflow_2(wheel: Path) -> None:
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--dry-run",
        "--ignore-installed",
    ]
    done = subprocess.run(
        [*pip, "apache-airflow==2.11.0", str(wheel)], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert re.search(
        r"airflow-provider-vapi \S+ depends on apache-airflow>=3\.0\.6", done.stdout + done.stderr
    )


def test_airflow_lists_provider_hook_and_link(installed: Run) -> None:
    assert "airflow-provider-vapi" in installed("airflow", "providers", "list")
    assert "vapi_provider.hooks.vapi.VapiHook" in installed("airflow", "providers", "hooks")
    assert "vapi_provider.links.call.VapiCallLink" in installed("airflow", "providers", "links")


def test_taskflow_dag_passes_strict_mypy(installed: Run, tmp_path: Path) -> None:
    checked = run(
        *(sys.executable, "-m", "mypy", "--strict", "--config-file="),
        *("--python-executable", python_of(installed), "--cache-dir", tmp_path, TASKFLOW_DAG),
    )
    assert "no issues found in 1 source file" in checked


def test_types_of_public_names_are_known(installed: Run) -> None:
    # pyright searches the environment of the first python on the path. It fails below 100 %, which Airflow's types
    # do not allow.
    path = f"{Path(python_of(installed)).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [PROGRAMS / "pyright", "--verifytypes", "vapi_provider", "--ignoreexternal", "--outputjson"],
        cwd=os.environ["AIRFLOW_HOME"],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)["typeCompleteness"]
    unknown = [
        symbol["name"] for symbol in found["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]
    ]
    assert found["exportedSymbolCounts"]["withKnownType"] > 1_000
    assert found["completenessScore"] >= 0.98, unknown


def test_taskflow_dag_can_be_imported(installed: Run) -> None:
    program = f"import runpy; print(len(runpy.run_path({str(TASKFLOW_DAG)!r})['dag'].tasks))"
    assert installed("python", "-c", program).split()[-1] == "19"


def test_installed_metadata_is_valid(installed: Run) -> None:
    program = """
import json, importlib.resources, jsonschema
from vapi_provider.get_provider_info import get_provider_info
def schema(name):
    return json.loads(importlib.resources.files("airflow").joinpath(name).read_text())
info = get_provider_info()
jsonschema.validate(info, schema("provider_info.schema.json"))
types = schema("provider.yaml.schema.json")["properties"]["connection-types"]
jsonschema.validate(info["connection-types"], types)
print("valid")
"""
    assert installed("python", "-c", program).strip().endswith("valid")


def test_connection_can_be_added_from_the_command_line(installed: Run) -> None:
    installed("airflow", "db", "migrate")
    [command] = re.findall(
        r"^ *airflow (connections add .*)$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    installed("airflow", *shlex.split(command), "--conn-extra", '{"timeout": 5}')
    program = """
from vapi_provider.client.client import VapiClient
from vapi_provider.connection import read_settings
from airflow.models.connection import Connection
from airflow.utils.session import create_session
with create_session() as session:
    conn = session.query(Connection).filter_by(conn_id="vapi_default").one()
    settings = read_settings(conn)
    print(settings, VapiClient(settings, None).session.auth)
"""
    settings = installed("python", "-c", program)
    assert "base_url='https://api.vapi.ai'" in settings
    assert "timeout=5.0" in settings
    assert "BearerAuth" in settings
    assert "YOUR_PRIVATE_KEY" not in settings


def test_simulator_starts_from_the_installed_package(installed: Run) -> None:
    assert "--port" in installed("python", "-m", "vapi_provider.simulator", "--help")
