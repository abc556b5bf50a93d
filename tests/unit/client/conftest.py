# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from http_fixtures import (
    addresses as addresses,
    api as api,
    fake_time as fake_time,
    naps as naps,
    raw_server as raw_server,
)
