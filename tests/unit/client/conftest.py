# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from http_fixtures import (
    api as api,
    fake_time as fake_time,
    naps as naps,
    no_surroundings as no_surroundings,
    raw_server as raw_server,
    simulator as simulator,
)
