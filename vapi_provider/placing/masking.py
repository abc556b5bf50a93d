# SPDX-License-Identifier: Apache-2.0
"""What Airflow shows of personal arguments on the page Rendered Templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MASK = "***"
_RECOGNISED_BY = ("number", "sip_uri")


def mask_customer(customer: Any) -> Any:
    """Mask a customer, except for the last two characters of the number."""
    if not isinstance(customer, Mapping):
        return mask_values(customer)
    return {
        name: mask_ending(value) if name in _RECOGNISED_BY and isinstance(value, str) else mask_values(value)
        for name, value in customer.items()
    }


def mask_values(value: Any) -> Any:
    """Mask every value of a structure and keep its keys."""
    if isinstance(value, Mapping):
        return {name: mask_values(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [mask_values(item) for item in value]
    return None if value is None else MASK


def mask_ending(text: str) -> str:
    """Mask a phone number or SIP URI, except for its end, by which its owner recognises it."""
    return f"{MASK}{text[-2:]}" if len(text) > 4 else MASK
