# SPDX-License-Identifier: Apache-2.0
"""The routes that a browser on this machine may open without the key: the pages and the rings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from vapi_provider.simulator import bodies
from vapi_provider.simulator.access import REFUSAL, is_loopback
from vapi_provider.simulator.call_page import call_page, unknown_call_page
from vapi_provider.simulator.errors import ApiError
from vapi_provider.simulator.list_page import SHOWN_CALLS, list_page
from vapi_provider.simulator.page import HEADERS

if TYPE_CHECKING:
    from starlette.requests import Request

    from vapi_provider.simulator.request_log import RequestRecord
    from vapi_provider.simulator.store import CallStore

CALLS = "/calls/"
RINGS = "/__simulator/rings"


def is_page(path: str) -> bool:
    """Return True if a path is not part of the API, so that its requests are not logged and have no faults."""
    return path in ("/", RINGS) or path.startswith(CALLS)


def page_routes(store: CallStore, log: list[RequestRecord]) -> list[Route]:
    """
    Make the routes of the pages.

    :param store: the organization's calls.
    :param log: the requests to the API so far.
    """

    async def show_calls(request: Request) -> Response:
        _check_peer(request)
        return _page(list_page(store.overview(SHOWN_CALLS), list(log), store.base_url))

    async def show_call(request: Request) -> Response:
        _check_peer(request)
        call_id = request.path_params["call_id"]
        call = store.view(call_id)
        if call is None:
            return _page(unknown_call_page(call_id), 404)
        return _page(call_page(call, list(log)))

    async def count_rings(request: Request) -> Response:
        _check_peer(request)
        return Response(bodies.encode(store.rings()), media_type="application/json")

    return [
        Route("/", show_calls, methods=["GET"]),
        Route(f"{CALLS}{{call_id:path}}", show_call, methods=["GET"]),
        Route(RINGS, count_rings, methods=["GET"]),
    ]


def _check_peer(request: Request) -> None:
    # The pages do not need the key.
    if not is_loopback(request.client.host if request.client else ""):
        raise ApiError(403, REFUSAL)


def _page(content: bytes, status: int = 200) -> Response:
    return Response(content, status, HEADERS, "text/html")
