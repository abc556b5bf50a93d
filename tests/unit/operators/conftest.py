# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from http_fixtures import naps as naps
from task_instances import TaskInstance


@pytest.fixture
def task_instance() -> TaskInstance:
    return TaskInstance()
