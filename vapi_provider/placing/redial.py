# SPDX-License-Identifier: Apache-2.0
"""When a callee who was not reached is called again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vapi_provider.exceptions import VapiConfigurationError
from vapi_provider.models.outcome import CallOutcome, check_outcomes


@dataclass(frozen=True)
class Redial:
    """
    When to call a callee again.

    :param outcomes: the outcomes after which to call again; none for a single attempt
    :param max_attempts: the most attempts; None for no limit but Airflow's retries
    :param retries: how many retries the DAG file gives the task
    """

    outcomes: tuple[CallOutcome, ...] = ()
    max_attempts: int | None = None
    retries: int = 0

    def allows_after(self, attempt: int) -> bool:
        """Return whether there may be another attempt after this one."""
        return bool(self.outcomes) and (self.max_attempts is None or attempt < self.max_attempts)


def check_redial(redial_on: Any, max_attempts: Any, retries: int) -> Redial:
    """
    Check the arguments about redialling.

    :raises VapiConfigurationError: naming the argument; nothing is sent then
    """
    outcomes = check_outcomes("redial_on", redial_on)
    if CallOutcome.COMPLETED in outcomes:
        raise VapiConfigurationError(
            "redial_on must not contain completed, because that callee was reached. Nothing was sent."
        )
    is_number = isinstance(max_attempts, int) and not isinstance(max_attempts, bool)
    if max_attempts is not None and not (is_number and max_attempts >= 1):
        raise VapiConfigurationError(
            f"max_attempts must be an integer of at least 1, or None; got {max_attempts!r:.40}. Nothing was sent."
        )
    return Redial(outcomes, max_attempts, retries)
