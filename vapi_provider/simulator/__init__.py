# SPDX-License-Identifier: Apache-2.0
"""
A local Vapi, for whoever writes or tests DAGs without wanting to phone people.

In a test, with time under control::

    clock = ManualClock()
    with VapiSimulator(clock=clock) as simulator:
        monkeypatch.setenv("AIRFLOW_CONN_VAPI_DEFAULT", simulator.connection)
        call_id = simulator.add_call(timeline=Timeline(ended=60, analysis=70))
        clock.advance(61)
        assert simulator.get_call(call_id)["status"] == "ended"

The pytest plugin ``vapi_provider.simulator.pytest_plugin`` does the first two lines in its fixture
``vapi_simulator``; ``python -m vapi_provider.simulator`` runs one by itself. It behaves as far as is
known like the real API: it checks the key, refuses what Vapi would refuse, and lets calls ring, be
answered, end and be analysed. A :class:`Fault` makes something go wrong on the way.
"""

from __future__ import annotations

from vapi_provider.simulator.clock import ManualClock
from vapi_provider.simulator.faults import Fault
from vapi_provider.simulator.server import VapiSimulator
from vapi_provider.simulator.timeline import StructuredOutput, Timeline

__all__ = ["Fault", "ManualClock", "StructuredOutput", "Timeline", "VapiSimulator"]
