# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from http_fixtures import (
    api as api,
    naps as naps,
)
