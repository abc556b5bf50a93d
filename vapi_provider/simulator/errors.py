# SPDX-License-Identifier: Apache-2.0
"""The errors of the simulated API, as JSON in the shape of NestJS."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class ApiError(Exception):
    """
    Raised to refuse a request.

    :param status: the HTTP status.
    :param message: what is wrong; a list if it concerns the request's properties.
    :param fields: further fields of the error's JSON.
    """

    def __init__(
        self, status: int, message: str | list[str], fields: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.fields: Mapping[str, Any] = fields or {}


def error_body(status: int, message: str | list[str] | None = None) -> dict[str, Any]:
    """Return the JSON of an error; its message defaults to the phrase of its status."""
    phrase = _phrase(status)
    return {"message": phrase if message is None else message, "error": phrase, "statusCode": status}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # such as Cloudflare's 520 to 526
        return "Error"
