# SPDX-License-Identifier: Apache-2.0
"""The routes that a browser on this machine may open without the key: the pages and the rings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Depends, Request, Response

from vapi_provider.simulator import bodies
from vapi_provider.simulator.access import REFUSAL, is_loopback
from vapi_provider.simulator.call_page import call_page, unknown_call_page
from vapi_provider.simulator.errors import ApiError
from vapi_provider.simulator.list_page import SHOWN_CALLS, list_page
from vapi_provider.simulator.page import HEADERS

if TYPE_CHECKING:
    from vapi_provider.simulator.request_log import RequestRecord
    from vapi_provider.simulator.store import CallStore

CALLS = "/calls/"
RINGS = "/__simulator/rings"


def is_page(path: str) -> bool:
    """Return True if a path is not part of the API, so that its requests are not logged and have no faults."""
    return path in ("/", RINGS) or path.startswith(CALLS)


def page_routes(store: CallStore, log: list[RequestRecord]) -> APIRouter:
    """
    Make the routes of the pages.

    :param store: the organization's calls.
    :param log: the requests to the API so far.
    """
    router = APIRouter(redirect_slashes=False, dependencies=[Depends(_check_peer)])

    @router.get("/")
    async def show_calls() -> Response:
        return _page(list_page(store.overview(SHOWN_CALLS), list(log), store.base_url))

    @router.get(f"{CALLS}{{call_id:path}}")
    async def show_call(call_id: str) -> Response:
        call = store.view(call_id)
        if call is None:
            return _page(unknown_call_page(call_id), 404)
        return _page(call_page(call, list(log)))

    @router.get(RINGS)
    async def count_rings() -> Response:
        return Response(bodies.encode(store.rings()), media_type="application/json")

    return router


async def _check_peer(request: Request) -> None:
    # The pages do not need the key.
    if not is_loopback(request.client.host if request.client else ""):
        raise ApiError(403, REFUSAL)


def _page(content: bytes, status: int = 200) -> Response:
    return Response(content, status, HEADERS, "text/html")
