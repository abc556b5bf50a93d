# SPDX-License-Identifier: Apache-2.0
"""The mutations of ``make mutations`` still have targets, and tests that must catch them."""

from __future__ import annotations

from tests.mutations import BREAKS, ROOT, find


def test_targets_of_all_breaks_exist() -> None:
    found = {broken.target: find(broken) for broken in BREAKS.values()}
    assert [target for target, (owner, attribute) in found.items() if attribute not in vars(owner)] == []


def test_tests_of_all_breaks_exist() -> None:
    named = {path for broken in BREAKS.values() for path in broken.tests}
    assert [path for path in sorted(named) if not (ROOT / "tests" / path).exists()] == []
