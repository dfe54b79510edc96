"""uvicorn, hardened against slow and hostile clients."""

import asyncio
import contextlib
import re
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING
from urllib.parse import unquote

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from nextmv_exporter.web.app import Exporter
from nextmv_exporter.web.listener import Acceptor
from nextmv_exporter.web.protocol import MAX_HEAD_BYTES, Idle, Protocol

if TYPE_CHECKING:
    from nextmv_exporter.web.toolkit.reloading import ReloadingWebConfig

DRAIN_TIMEOUT = 3.0
"""Grace period for scrapes in progress after a termination signal, seconds."""

CLOSE_TIMEOUT = 1.0
"""Grace period for clients to then read what is buffered for them, seconds."""

_ABSOLUTE_FORM = re.compile(rb"https?://([^/]*)(.*)", re.IGNORECASE)


class Server(uvicorn.Server):
    """Server that runs until a termination signal, then lets scrapes finish.

    Args:
        exporter: the endpoints.
        on_hangup: called on SIGHUP.
        on_started: called once requests and signals are handled.
        web_config: TLS, passwords and headers.
    """

    def __init__(
        self,
        exporter: Exporter,
        on_hangup: Callable[[], None],
        on_started: Callable[[], None] = lambda: None,
        web_config: "ReloadingWebConfig | None" = None,
    ) -> None:
        config = uvicorn.Config(
            _outermost(_guarded(exporter.app(), web_config)),
            http="h11",
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            timeout_keep_alive=65,
        )
        super().__init__(config)
        self._exporter = exporter
        self._on_started = on_started
        self._on_hangup = on_hangup
        self._web_config = web_config

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal.

        Args:
            sockets: where to listen.
        """
        with contextlib.suppress(ValueError, RuntimeError):  # not the main thread, as in tests
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_hangup)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # see __main__.py
        await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections.

        Args:
            sockets: where to listen.
        """
        idle: Idle = {}
        state = self.server_state
        context = self._web_config.context if self._web_config and self._web_config.tls else None
        self._acceptor = Acceptor(
            lambda: Protocol(self.config, state, idle, context), context, state.connections, idle
        )
        for listener in sockets or ():
            self._acceptor.start(listener)
        self.started = True
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all sockets; those with a request in progress once its response is sent.

        Args:
            sockets: where the server listens.
        """
        for listener in sockets or ():
            self._acceptor.stop(listener)
        connections = self.server_state.connections
        for connection in list(connections):
            connection.shutdown()
        close_until = time.monotonic() + CLOSE_TIMEOUT
        while connections and not self.force_exit and time.monotonic() < close_until:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for connection in list(connections):
            connection.transport.abort()
        await asyncio.sleep(0.01)  # lets `connection_lost` be called

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain on the first signal, end immediately on the second.

        uvicorn would exit with the signal's status; a drained exporter exits with 0.

        Args:
            sig: the signal's number.
            frame: the interrupted frame; not used.
        """
        if self._exporter.draining:
            self.should_exit = self.force_exit = True
        else:
            self._exporter.draining = True
            self._drain_until = time.monotonic() + DRAIN_TIMEOUT

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end; called ten times a second.

        Args:
            counter: counts the calls.

        Returns:
            Whether draining is complete.
        """
        ending = await super().on_tick(counter)
        if not self._exporter.draining:
            return ending
        drained = not self.server_state.tasks or time.monotonic() > self._drain_until
        return ending or drained


def _guarded(app: ASGIApp, web_config: "ReloadingWebConfig | None") -> ASGIApp:
    if web_config is None:
        return app
    from nextmv_exporter.web.toolkit.authentication import Guard

    return Guard(app, web_config.config)


def _outermost(app: ASGIApp) -> ASGIApp:
    """Accept targets in absolute form, as proxies get them, and cancellation at the end."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if absolute := _ABSOLUTE_FORM.fullmatch(scope["raw_path"]):
            host, path = absolute[1], absolute[2] or b"/"
            # RFC 9112: the host of the target replaces that of the Host header.
            headers = [(b"host", host), *(h for h in scope["headers"] if h[0] != b"host")]
            scope.update(path=unquote(path.decode()), raw_path=path, headers=headers)
        # The server cancels remaining requests when it ends, after closing the connections.
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return call
