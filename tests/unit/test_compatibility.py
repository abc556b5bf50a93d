# SPDX-License-Identifier: Apache-2.0
"""The compatibility page matches the metadata and the pinned versions."""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from importlib.metadata import requires, version as installed_version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "compatibility.md"
PINS = sorted((ROOT / "constraints").glob("airflow-*.txt"))
COMPAT = "apache-airflow-providers-common-compat"


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def needed() -> dict[str, SpecifierSet]:
    """Return the package's requirements by name."""
    found = map(Requirement, project()["project"]["dependencies"])
    return {requirement.name: requirement.specifier for requirement in found}


def lowest(specifiers: SpecifierSet) -> str:
    """Return the version in ``>=version``, the only kind of specifier in use."""
    [specifier] = specifiers
    assert specifier.operator == ">="
    return specifier.version


def pythons() -> list[str]:
    """Return the Python versions in the package's classifiers."""
    start = "Programming Language :: Python :: 3."
    found = [line for line in project()["project"]["classifiers"] if line.startswith(start)]
    return [line.rpartition(" ")[2] for line in found]


def pinned(path: Path) -> dict[str, str]:
    return dict(line.split("==") for line in path.read_text(encoding="utf-8").splitlines())


def rows(header: str, page: Path = PAGE) -> list[list[str]]:
    """Return the cells of a page's table whose header row begins with the given text."""
    pattern = rf"^\| {re.escape(header)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)"
    [found] = re.findall(pattern, page.read_text(encoding="utf-8"), re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found.splitlines()]


TESTED = rows("Airflow | tested with")


def test_page_lists_each_constraints_file_and_its_airflow() -> None:
    stated = {re.findall(r"\(\.\./(.*)\)", file)[0]: (minor, patch) for minor, patch, _, file in TESTED}
    there = {
        str(path.relative_to(ROOT)): (path.stem.removeprefix("airflow-"), pinned(path)["apache-airflow"])
        for path in PINS
    }
    assert stated == there
    assert [pair for pair in there.values() if Version(pair[1]).release[:2] != Version(pair[0]).release] == []


def test_every_allowed_minor_is_tested() -> None:
    oldest = Version(lowest(needed()["apache-airflow"]))
    minors = [Version(row[0]) for row in TESTED]
    assert minors == [Version(f"{oldest.major}.{minor}") for minor in range(oldest.minor, len(minors))]


def test_only_tested_pythons_are_claimed() -> None:
    tested = {version for row in TESTED for version in row[2].split(", ")}
    assert sorted(tested, key=Version) == pythons()
    # The page lists newer ones as untested, and they are claimed only once tested.
    [untested] = re.findall(r"Expected to work, and not tested: Python ([\d., ]+),", PAGE.read_text())
    assert min(map(Version, untested.split(", "))) > Version(pythons()[-1])
    assert pythons()[0] == lowest(SpecifierSet(project()["project"]["requires-python"]))


def test_readme_names_the_claimed_pythons() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"on Python ([\d.]+) to ([\d.]+)\.\s", text) == [(pythons()[0], pythons()[-1])]


def test_page_lists_the_packages_requirements() -> None:
    stated = {
        name.strip("`"): version.removesuffix(" or newer") for name, version, _ in rows("package | version")
    }
    assert stated.pop("Python") == lowest(SpecifierSet(project()["project"]["requires-python"]))
    assert stated == {name: lowest(specifiers) for name, specifiers in needed().items()}


def test_dependency_review_lists_the_lowest_versions() -> None:
    reviewed = {
        name.strip("`"): version for name, _, version, _ in rows("package | why", ROOT / "CONTRIBUTING.md")
    }
    assert reviewed == {name: lowest(specifiers) for name, specifiers in needed().items()}


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.stem)
def test_pinned_versions_are_allowed_and_complete(path: Path) -> None:
    versions = pinned(path)
    assert {name for name, specifiers in needed().items() if versions[name] not in specifiers} == set()
    groups = project()["dependency-groups"]
    tools = {
        Requirement(tool).name
        for tool in [
            *groups["test"],
            *groups["e2e"],
            "pip",
            "hatchling",
            "hatch-fancy-pypi-readme",
            "editables",
        ]
    }
    assert tools <= versions.keys()


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.stem)
def test_constraints_hold_only_pinned_versions(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[a-z0-9.]+", line)] == []
    assert len(pinned(path)) == len(lines)


def test_oldest_allowed_compat_is_tested() -> None:
    assert pinned(PINS[0])[COMPAT] == lowest(needed()[COMPAT])


@pytest.mark.skipif("TEST_LOWEST" not in os.environ, reason="only in make test-lowest")
def test_lowest_allowed_versions_are_installed() -> None:
    installed = {name: Version(installed_version(name)) for name in needed()}
    assert installed == {name: Version(lowest(specifiers)) for name, specifiers in needed().items()}


@pytest.mark.parametrize(
    ("version", "is_allowed"),
    [
        *((version, False) for version in ("2.9.3", "2.10.5", "2.11.0", "2.99.0")),
        *((row[1], True) for row in TESTED),
        ("3.0.4", False),
        *((f"{row[0]}.0", True) for row in TESTED[1:]),
    ],
)
def test_package_refuses_airflow_2_only(version: str, is_allowed: bool) -> None:
    found = map(Requirement, requires("airflow-provider-vapi") or [])
    [airflow] = [requirement for requirement in found if requirement.name == "apache-airflow"]
    assert airflow.specifier.contains(version) == is_allowed
