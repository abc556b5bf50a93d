# SPDX-License-Identifier: Apache-2.0
"""A uvicorn server in a thread, reachable only from this machine."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

if TYPE_CHECKING:
    from starlette.types import ASGIApp

HOST = "127.0.0.1"


class _Protocol(H11Protocol):
    """HTTP/1.1 that gives the application its connection, and writes no access log."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class LocalServer:
    """
    Serves an ASGI application over HTTP/1.1.

    :param app: the application.
    :param port: the port to listen on; 0 picks a free one and keeps it.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.port: int = port
        # The process's own logging configuration stays untouched.
        self._config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=None,
            proxy_headers=False,
            # Polling every 5 s is common, and uvicorn's default of 5 s would close connections just as they are reused.
            timeout_keep_alive=75,
        )
        self._config.load()
        self._state = ServerState()
        self._running: tuple[threading.Thread, asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def start(self) -> None:
        """
        Listen; connections are accepted once this returns.

        :raises RuntimeError: if it is already listening.
        :raises OSError: if the port is in use.
        """
        if self._running is not None:
            raise RuntimeError("the simulator is already running")
        listener = self._listen()
        loop, stopping = asyncio.new_event_loop(), asyncio.Event()
        serving = self._serve(loop, listener, stopping)
        thread = threading.Thread(
            target=loop.run_until_complete, args=(serving,), name="vapi-simulator", daemon=True
        )
        self._running = thread, loop, stopping
        thread.start()

    def stop(self) -> None:
        """Close every connection at once and end the thread; do nothing if it is not running."""
        if self._running is None:
            return
        thread, loop, stopping = self._running
        self._running = None
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()

    def _listen(self) -> socket.socket:
        # asyncio disables Nagle's algorithm only for a socket that names its protocol; otherwise each
        # response over a kept-alive connection takes 40 ms.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, self.port))
            listener.listen(self._config.backlog)
        except OSError:
            listener.close()
            raise
        self.port = listener.getsockname()[1]
        return listener

    async def _serve(
        self, loop: asyncio.AbstractEventLoop, listener: socket.socket, stopping: asyncio.Event
    ) -> None:
        def make_protocol() -> _Protocol:
            return _Protocol(config=self._config, server_state=self._state, app_state={}, _loop=loop)

        server = await loop.create_server(make_protocol, sock=listener)
        await stopping.wait()
        server.close()
        # uvicorn's graceful shutdown would wait for responses that may drip for hours.
        while self._state.connections or self._state.tasks:
            for connection in list(self._state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)
        await server.wait_closed()
