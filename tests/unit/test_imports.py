# SPDX-License-Identifier: Apache-2.0
"""What a DAG file loads: every scheduler parses it every few seconds."""

from __future__ import annotations

import json
import subprocess
import sys

# What Airflow's own bases load is not ours to avoid, so only what comes on top counts.
PROGRAM = """
import json, sys
from airflow.sdk import BaseOperator, BaseSensorOperator
before = set(sys.modules)
from vapi_provider.operators.call import *
from vapi_provider.sensors.call import *
from vapi_provider.links.call import *
print(json.dumps(sorted(set(sys.modules) - before)))
"""
HEAVY = ("airflow.triggers", "pydantic", "requests", "tenacity", "urllib3", "vapi_provider.hooks")


def test_a_dag_file_loads_neither_http_nor_models_nor_triggers() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "vapi_provider.sensors.call" in loaded
    heavy = [name for name in loaded if name.startswith(HEAVY) or name == "vapi_provider.models.call"]
    assert heavy == []
