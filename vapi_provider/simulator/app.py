# SPDX-License-Identifier: Apache-2.0
"""The routes of the simulated API, and the check of its key."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from vapi_provider.simulator import bodies, validation
from vapi_provider.simulator.artifacts import KINDS, Artifacts
from vapi_provider.simulator.errors import ApiError, error_body
from vapi_provider.simulator.local_server import HOST
from vapi_provider.simulator.page_routes import page_routes

if TYPE_CHECKING:
    from vapi_provider.simulator.request_log import RequestRecord
    from vapi_provider.simulator.store import CallStore

OVER_LIMIT = "Over Concurrency Limit. Wait until a live call ends, or raise the limit."


def create_app(store: CallStore, artifacts: Artifacts, api_key: str, log: list[RequestRecord]) -> FastAPI:
    """
    Make the application.

    :param store: the organization's calls.
    :param artifacts: the recordings and other files of the calls.
    :param api_key: the private key that every request to ``/call`` must carry.
    :param log: the requests so far, for the pages.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_exception_handler(ApiError, _respond_with_error)
    app.add_exception_handler(HTTPException, _respond_to_unknown_route)
    with_key = [Depends(_key_check(api_key))]
    app.include_router(_call_routes(store), dependencies=with_key)
    app.include_router(_artifact_routes(store, artifacts), dependencies=with_key)
    app.include_router(_control_routes(store))
    app.include_router(page_routes(store, log))
    return app


def _call_routes(store: CallStore) -> APIRouter:
    router = APIRouter(redirect_slashes=False)

    @router.get("/call")
    async def list_calls(request: Request) -> Response:
        matches, limit = validation.read_filters(request.query_params.multi_items())
        return _json(store.search(matches, limit))

    @router.post("/call")
    async def create_call(request: Request) -> Response:
        body = await _read_body(request)
        validation.check_create(body)
        if "customers" in body:
            return _json(bodies.encode(_place_batch(store, body)), 201)
        [placed] = store.place([body])
        if placed is None:
            raise ApiError(400, OVER_LIMIT, {"subscriptionLimits": store.limits(True)})
        return _json(bodies.encode(placed), 201)

    @router.get("/call/{call_id}")
    async def get_call(call_id: str) -> Response:
        validation.check_call_id(call_id)
        return _found(store.find(call_id))

    @router.patch("/call/{call_id}")
    async def update_call(call_id: str, request: Request) -> Response:
        validation.check_call_id(call_id)
        body = await _read_body(request)
        validation.check_update(body)
        return _found(store.rename(call_id, body))

    @router.delete("/call/{call_id}")
    async def delete_call(call_id: str, request: Request) -> Response:
        validation.check_call_id(call_id)
        body = await _read_body(request)
        validation.check_delete(body)
        return _found(store.delete(body.get("ids", [call_id])))

    return router


def _artifact_routes(store: CallStore, artifacts: Artifacts) -> APIRouter:
    router = APIRouter(redirect_slashes=False)

    @router.get("/call/{call_id}/{kind}")
    async def get_artifact(call_id: str, kind: str, request: Request) -> Response:
        if kind not in KINDS:
            raise ApiError(404, f"Cannot GET {request.url.path}")
        validation.check_call_id(call_id)
        call = store.find(call_id)
        if call is None:
            raise ApiError(404, "There is no call with this id")
        link = artifacts.link(json.loads(call), kind, request.url.hostname or HOST)
        if link is None:
            raise ApiError(404, "The call has no such artifact")
        return Response(status_code=302, headers={"Location": link})

    return router


def _control_routes(store: CallStore) -> APIRouter:
    router = APIRouter(redirect_slashes=False)

    @router.post("/control/{token}")
    async def control_call(token: str, request: Request) -> Response:
        # The URL alone grants access. Vapi would ignore a key, but a client should not send it here.
        if "authorization" in request.headers:
            raise ApiError(400, "A control URL must not be sent the private key")
        if await _read_body(request) != {"type": "end-call"}:
            raise ApiError(400, ["the simulator only understands the type end-call"])
        if not store.hang_up(token):
            raise ApiError(404, "No live call has this control URL")
        return _json(b"{}")

    return router


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


def _key_check(api_key: str) -> Any:
    expected = f"Bearer {api_key}".encode()

    async def check_key(request: Request) -> None:
        sent = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(sent, expected):
            raise ApiError(401, "Invalid Key. This is not the private key of the simulated organization.")

    return check_key


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
