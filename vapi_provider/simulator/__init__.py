# SPDX-License-Identifier: Apache-2.0
"""
A local Vapi for writing and testing DAGs without real phone calls.

In a test, with time under control::

    clock = ManualClock()
    with VapiSimulator(clock=clock) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", simulator.connection)
        call_id = simulator.add_call(timeline=Timeline(ended=60, analysis=70))
        clock.advance(61)
        assert simulator.get_call(call_id)["status"] == "ended"

The pytest plugin ``vapi_provider.simulator.pytest_plugin`` starts one per test in its fixture
``vapi_simulator``; ``python -m vapi_provider.simulator`` runs one on its own. It behaves like the real
API as far as that is known: it checks the key, refuses what Vapi would refuse, and takes calls through
ringing, answer, end and analysis. A :class:`Fault` breaks a request on purpose.
"""

from __future__ import annotations

from vapi_provider.simulator.clock import ManualClock
from vapi_provider.simulator.faults import Fault
from vapi_provider.simulator.scenario import Scenario
from vapi_provider.simulator.server import VapiSimulator
from vapi_provider.simulator.timeline import StructuredOutput, Timeline

__all__ = ["Fault", "ManualClock", "Scenario", "StructuredOutput", "Timeline", "VapiSimulator"]
