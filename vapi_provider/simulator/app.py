# SPDX-License-Identifier: Apache-2.0
"""The routes of the simulated API, and the check of its key."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from vapi_provider.simulator import bodies, validation
from vapi_provider.simulator.artifacts import KINDS, Artifacts
from vapi_provider.simulator.errors import ApiError, error_body
from vapi_provider.simulator.local_server import HOST
from vapi_provider.simulator.page_routes import page_routes

if TYPE_CHECKING:
    from starlette.requests import Request

    from vapi_provider.simulator.request_log import RequestRecord
    from vapi_provider.simulator.store import CallStore

OVER_LIMIT = "Over Concurrency Limit. Wait until a live call ends, or raise the limit."


def create_app(store: CallStore, artifacts: Artifacts, api_key: str, log: list[RequestRecord]) -> Starlette:
    """
    Make the application.

    :param store: the organization's calls.
    :param artifacts: the recordings and other files of the calls.
    :param api_key: the private key that every request to ``/call`` must carry.
    :param log: the requests so far, for the pages.
    """
    routes = [*_call_routes(store), _artifact_route(store, artifacts)]
    app = Starlette(
        routes=[
            *[_behind_key(route, f"Bearer {api_key}".encode()) for route in routes],
            _control_route(store),
            *page_routes(store, log),
        ],
        exception_handlers={ApiError: _respond_with_error, HTTPException: _respond_to_unknown_route},
    )
    app.router.redirect_slashes = False
    return app


def _call_routes(store: CallStore) -> list[Route]:
    async def list_calls(request: Request) -> Response:
        matches, limit = validation.read_filters(request.query_params.multi_items())
        return _json(store.search(matches, limit))

    async def create_call(request: Request) -> Response:
        body = await _read_body(request)
        validation.check_create(body)
        if "customers" in body:
            return _json(bodies.encode(_place_batch(store, body)), 201)
        [placed] = store.place([body])
        if placed is None:
            raise ApiError(400, OVER_LIMIT, {"subscriptionLimits": store.limits(True)})
        return _json(bodies.encode(placed), 201)

    async def get_call(request: Request) -> Response:
        call_id = _call_id(request)
        return _found(store.find(call_id))

    async def update_call(request: Request) -> Response:
        call_id = _call_id(request)
        body = await _read_body(request)
        validation.check_update(body)
        return _found(store.rename(call_id, body))

    async def delete_call(request: Request) -> Response:
        call_id = _call_id(request)
        body = await _read_body(request)
        validation.check_delete(body)
        return _found(store.delete(body.get("ids", [call_id])))

    return [
        Route("/call", list_calls, methods=["GET"]),
        Route("/call", create_call, methods=["POST"]),
        Route("/call/{call_id}", get_call, methods=["GET"]),
        Route("/call/{call_id}", update_call, methods=["PATCH"]),
        Route("/call/{call_id}", delete_call, methods=["DELETE"]),
    ]


def _artifact_route(store: CallStore, artifacts: Artifacts) -> Route:
    async def get_artifact(request: Request) -> Response:
        kind: str = request.path_params["kind"]
        if kind not in KINDS:
            raise ApiError(404, f"Cannot GET {request.url.path}")
        call = store.find(_call_id(request))
        if call is None:
            raise ApiError(404, "There is no call with this id")
        link = artifacts.link(json.loads(call), kind, request.url.hostname or HOST)
        if link is None:
            raise ApiError(404, "The call has no such artifact")
        return Response(status_code=302, headers={"Location": link})

    return Route("/call/{call_id}/{kind}", get_artifact, methods=["GET"])


def _control_route(store: CallStore) -> Route:
    async def control_call(request: Request) -> Response:
        # The URL alone grants access. Vapi would ignore a key, but a client should not send it here.
        if "authorization" in request.headers:
            raise ApiError(400, "A control URL must not be sent the private key")
        if await _read_body(request) != {"type": "end-call"}:
            raise ApiError(400, ["the simulator only understands the type end-call"])
        if not store.hang_up(request.path_params["token"]):
            raise ApiError(404, "No live call has this control URL")
        return _json(b"{}")

    return Route("/control/{token}", control_call, methods=["POST"])


def _place_batch(store: CallStore, body: dict[str, Any]) -> dict[str, Any]:
    shared = {name: value for name, value in body.items() if name != "customers"}
    checked = [(customer, validation.customer_errors(customer)) for customer in body["customers"]]
    placed = iter(
        store.place({**shared, "customer": customer} for customer, problems in checked if not problems)
    )
    results: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    blocked = False
    for customer, problems in checked:
        call = None if problems else next(placed)
        if call is None:
            blocked = blocked or not problems
            errors.append({"customer": customer, "error": "; ".join(problems or [OVER_LIMIT])})
        else:
            blocked = call.pop("subscriptionLimits")["concurrencyBlocked"] or blocked
            results.append(call)
    return {"results": results, "errors": errors, "subscriptionLimits": store.limits(blocked)}


def _behind_key(route: Route, expected: bytes) -> Route:
    async def with_key(request: Request) -> Response:
        sent = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(sent, expected):
            raise ApiError(401, "Invalid Key. This is not the private key of the simulated organization.")
        response: Response = await route.endpoint(request)
        return response

    return Route(route.path, with_key, methods=list(route.methods or ()))


def _call_id(request: Request) -> str:
    call_id: str = request.path_params["call_id"]
    validation.check_call_id(call_id)
    return call_id


async def _read_body(request: Request) -> dict[str, Any]:
    return validation.read_object(request.headers.get("content-type", ""), await request.body())


def _found(call: bytes | None) -> Response:
    if call is None:
        raise ApiError(404, "There is no call with this id")
    return _json(call)


def _json(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type="application/json")


async def _respond_with_error(request: Request, error: Any) -> Response:
    return _json(bodies.encode({**error_body(error.status, error.message), **error.fields}), error.status)


async def _respond_to_unknown_route(request: Request, error: Exception) -> Response:
    # A known path with another method is an unknown route as well.
    message = f"Cannot {request.method} {request.url.path}"
    return _json(bodies.encode(error_body(404, message)), 404)
