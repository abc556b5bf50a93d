# SPDX-License-Identifier: Apache-2.0
"""Apache Airflow provider for Vapi, the voice-AI API that places and answers phone calls."""

from __future__ import annotations

__version__ = "0.1.0"
