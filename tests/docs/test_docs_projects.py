# SPDX-License-Identifier: Apache-2.0
"""The tests that README and documentation show pass; for ``make docs``, since each is a pytest of its own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from markdown_pages import BLOCKS, ROOT, block_with, blocks_in


def run_pytest(folder: Path, *arguments: str) -> str:
    """Run pytest in a folder, without the Airflow of these tests; return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, "--no-cov", "-p", "no:cacheprovider"],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_project_of_the_simulator_page_passes(tmp_path: Path) -> None:
    files = {block.file: block.text for block in blocks_in("python") if block.file}
    for file, text in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text, encoding="utf-8")
    (tmp_path / "dags").mkdir()
    shutil.copy(ROOT / "example_dags" / "example_vapi_rename_call.py", tmp_path / "dags")
    python, option, pytest, *arguments = shlex.split(block_with("simulator.md", "-m pytest"))
    assert (python, option, pytest) == ("python", "-m", "pytest")
    printed = run_pytest(tmp_path, *arguments)
    tests = sum(text.count("\ndef test_") for text in files.values())
    assert re.search(rf"\b{tests} passed\b", printed), printed


def test_test_of_the_readme_passes(tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(block_with("README.md", "pytest_plugins"), encoding="utf-8")
    printed = run_pytest(tmp_path)
    assert re.search(r"\b1 passed\b", printed), printed


def test_every_file_is_part_of_the_simulator_page() -> None:
    assert {block.page.name for block in BLOCKS if block.file} == {"simulator.md"}
    # A test outside a file would be defined but not run.
    outside = [block for block in blocks_in("python") if "def test_" in block.text and not block.file]
    assert outside == []
