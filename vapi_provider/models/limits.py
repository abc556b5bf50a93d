# SPDX-License-Identifier: Apache-2.0
"""How many calls at once an organization may have, and what a call that was one too many looks like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vapi_provider.models.summary import finite_number

# As text, which re compiles and keeps at first use: a DAG file imports this module and needs no pattern.
_NOBODY_RANG = r"call[.-]start[.-].*error.*"
_OVER_LIMIT = r"call[.-]start[.-].*concurrency-limit.*"


def rang_nobody(ended_reason: str | None) -> bool:
    """
    Say whether a call that ended so cannot have made a phone ring.

    :param ended_reason: Vapi's ``endedReason``
    :return: True for a call that failed before it was dialled; any other end counts as one that somebody noticed
    """
    return bool(re.fullmatch(_NOBODY_RANG, (ended_reason or "").strip().lower()))


def is_over_limit(ended_reason: str | None) -> bool:
    """
    Say whether a call ended because it was one too many at once.

    :param ended_reason: Vapi's ``endedReason``
    """
    return bool(re.fullmatch(_OVER_LIMIT, (ended_reason or "").strip().lower()))


def is_blocked(limits: Any) -> bool:
    """
    Say whether Vapi announces that a call which it took will not be dialled for now.

    :param limits: the ``subscriptionLimits`` of the answer
    """
    return isinstance(limits, Mapping) and limits.get("concurrencyBlocked") is True


def over_limit(limits: Any) -> str:
    """
    Say that nobody was called, by which limit, and what to do.

    :param limits: the ``subscriptionLimits`` of the answer, as far as there are any
    :return: some sentences
    """
    told = limits if isinstance(limits, Mapping) else {}
    limit, left = (
        finite_number(told.get("concurrencyLimit")),
        finite_number(told.get("remainingConcurrentCalls")),
    )
    known = [
        f"the organization may have {limit:g} at once" if limit is not None else None,
        f"{left:g} are left" if left is not None else None,
    ]
    says = (
        ", ".join(part for part in known if part) or "Vapi does not say how many it may have (10 by default)"
    )
    return (
        f"The organization has too many calls at once, so nobody was called: {says}. A later try may get through; "
        "run fewer tasks at once (pool, max_active_tis_per_dag)."
    )
