# SPDX-License-Identifier: Apache-2.0
"""The errors of the simulated API, in the JSON shape that NestJS gives them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class ApiError(Exception):
    """
    A request is refused.

    :param status: the HTTP status.
    :param message: what is wrong; a list when it is about the request's properties.
    :param fields: what the error's JSON holds besides.
    """

    def __init__(
        self, status: int, message: str | list[str], fields: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.fields = fields or {}


def error_body(status: int, message: str | list[str] | None = None) -> dict[str, Any]:
    """Return the JSON of an error; without a message it says no more than its status."""
    phrase = _phrase(status)
    return {"message": phrase if message is None else message, "error": phrase, "statusCode": status}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # such as Cloudflare's 520 to 526
        return "Error"
