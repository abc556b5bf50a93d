# SPDX-License-Identifier: Apache-2.0
"""How far the tests search: ``make test`` takes samples, ``make test-deep`` (``TEST_DEEP=1``) searches."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

IS_DEEP = os.environ.get("TEST_DEEP") == "1"


def at_depth(sample: T, search: T) -> T:
    """Return how much of something to try: for ``make test``, or for ``make test-deep``."""
    return search if IS_DEEP else sample
