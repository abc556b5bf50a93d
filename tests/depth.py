# SPDX-License-Identifier: Apache-2.0
"""The depth of search tests: ``make test`` takes samples, and ``make test-deep`` (``TEST_DEEP=1``) searches fully."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

IS_DEEP = os.environ.get("TEST_DEEP") == "1"


def at_depth(sample: T, search: T) -> T:
    """Return the first value for ``make test``, and the second for ``make test-deep``."""
    return search if IS_DEEP else sample
