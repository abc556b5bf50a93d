# SPDX-License-Identifier: Apache-2.0
"""The package's rooms: imports run only downwards, and no file is too long."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "vapi_provider"
LONGEST_FILE = 330

# The rooms that each room may import besides itself, from the top down; type-only imports count.
ALLOWED: dict[str, str] = {
    "get_provider_info": "connection __init__",
    "__main__": "placing client connection models exceptions",
    "notifications": "placing hooks client connection models exceptions",
    "operators": "placing waiting outlets rendering links hooks client models exceptions",
    "transfers": "outlets rendering links hooks client models exceptions",
    "sensors": "waiting outlets rendering links models exceptions",
    "placing": "waiting outlets links triggers hooks client models exceptions",
    "waiting": "outlets rendering links triggers polling hooks client models exceptions",
    "outlets": "models",
    "rendering": "exceptions",
    "links": "",
    "triggers": "polling client connection models exceptions",
    "polling": "hooks client connection models exceptions",
    "hooks": "client connection models exceptions",
    "client": "connection models exceptions __init__",
    "connection": "exceptions",
    "models": "exceptions",
    "exceptions": "",
    "simulator": "",
    # Except its lazy exports, which name public classes of any room.
    "__init__": "",
}


def files() -> dict[str, Path]:
    """Return the package's files by module, such as ``client.session``; ``__init__`` is the root."""
    folder = ROOT / PACKAGE
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        module = ".".join(parts).removesuffix(".__init__")
        found[module] = path
    return found


FILES = files()


def imported_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(name: str) -> str | None:
    """Return the package's module that a dotted name refers to, directly or to a name in it."""
    package, _, rest = name.partition(".")
    if package != PACKAGE:
        return None
    while rest and rest not in FILES:
        rest = rest.rpartition(".")[0]
    return rest or "__init__"


def imports_of(module: str) -> set[str]:
    found = map(module_of, imported_names(FILES[module]))
    return {imported for imported in found if imported is not None}


IMPORTS = {module: imports_of(module) for module in FILES if module != "__init__"}


def room(module: str) -> str:
    return module.partition(".")[0]


def rooms_that_import(target: str) -> set[str]:
    return {
        room(module) for module, imports in IMPORTS.items() if any(room(each) == target for each in imports)
    }


def test_every_room_has_a_row() -> None:
    assert {room(module) for module in FILES} == ALLOWED.keys()


def test_table_allows_only_downward_imports() -> None:
    rows = list(ALLOWED)
    for above, row in enumerate(rows):
        upwards = [below for below in ALLOWED[row].split() if rows.index(below) <= above]
        assert upwards == [], f"{row} may not import a room above it in this table"


@pytest.mark.parametrize("module", IMPORTS)
def test_module_imports_allowed_rooms_only(module: str) -> None:
    allowed = {room(module), *ALLOWED[room(module)].split()}
    assert {imported for imported in IMPORTS[module] if room(imported) not in allowed} == set()


def test_files_have_no_circular_imports() -> None:
    graph = {module: imports - {module, "__init__"} for module, imports in IMPORTS.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        # Each one is imported by the next, so reverse the order.
        pytest.fail(" imports ".join(reversed(error.args[1])), pytrace=False)


def test_no_module_imports_the_provider_info() -> None:
    assert rooms_that_import("get_provider_info") == set()


def test_simulator_and_package_do_not_import_each_other() -> None:
    assert rooms_that_import("simulator") == {"simulator"}
    imported = {each for module in IMPORTS if room(module) == "simulator" for each in IMPORTS[module]}
    assert {room(each) for each in imported} == {"simulator"}


def test_no_file_is_too_long() -> None:
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in FILES.items()}
    assert {module: lines for module, lines in lengths.items() if lines > LONGEST_FILE} == {}
