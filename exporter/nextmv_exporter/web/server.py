"""The server: uvicorn's HTTP protocol, hardened against slow and hostile clients."""

import asyncio
import contextlib
import re
import signal
import socket
from collections.abc import Callable, Sized
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

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


class Server:
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
        on_hangup: Callable[[], object],
        on_started: Callable[[], object] = lambda: None,
        web_config: "ReloadingWebConfig | None" = None,
    ) -> None:
        self._exporter = exporter
        self._on_hangup = on_hangup
        self._on_started = on_started
        self._context = web_config.context if web_config and web_config.tls else None
        self._config = uvicorn.Config(
            _outermost(_guarded(exporter.app(), web_config)),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            timeout_keep_alive=65,
        )
        self._state = ServerState()
        self._ending = asyncio.Event()
        self._ending_at_once = False

    def run(self, listeners: list[socket.socket]) -> None:
        """Serve on these sockets until a signal, or a call of `end`."""
        asyncio.run(self._serve(listeners))

    def end(self) -> None:
        """Drain; at the second call, end at once."""
        self._ending_at_once = self._ending.is_set()
        self._ending.set()

    async def _serve(self, listeners: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        self._config.load()  # or the first connection would, which takes 10 ms
        idle: Idle = {}
        acceptor = Acceptor(
            lambda: Protocol(self._config, self._state, idle, self._context),
            self._context,
            self._state.connections,
            idle,
        )
        for listener in listeners:
            acceptor.start(listener)
        with contextlib.suppress(ValueError, RuntimeError):  # not the main thread, as in tests
            loop.add_signal_handler(signal.SIGTERM, self.end)
            loop.add_signal_handler(signal.SIGINT, self.end)
            loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # see __main__.py
        self._on_started()
        await self._ending.wait()
        self._exporter.draining = True
        await self._until_none_of(self._state.tasks, DRAIN_TIMEOUT)
        for listener in listeners:
            acceptor.stop(listener)
        for connection in list(self._state.connections):
            connection.shutdown()
        await self._until_none_of(self._state.connections, CLOSE_TIMEOUT)
        for connection in list(self._state.connections):
            connection.transport.abort()
        await asyncio.sleep(0.01)  # lets `connection_lost` be called

    async def _until_none_of(self, things: Sized, seconds: float) -> None:
        for _ in range(int(seconds / 0.05)):
            if not things or self._ending_at_once:
                return
            await asyncio.sleep(0.05)


def _guarded(app: ASGIApp, web_config: "ReloadingWebConfig | None") -> ASGIApp:
    if web_config is None:
        return app
    from nextmv_exporter.web.toolkit.authentication import Guard

    return Guard(app, web_config.config)


def _outermost(app: ASGIApp) -> ASGIApp:
    """Accept targets in absolute form, as proxies get them, and cancellation at the end."""
    not_found = PlainTextResponse("Not Found\n", HTTPStatus.NOT_FOUND)

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if absolute := _ABSOLUTE_FORM.fullmatch(scope["raw_path"]):
            host, path = absolute[1], absolute[2] or b"/"
            # RFC 9112: the host of the target replaces that of the Host header. The first is read.
            headers = [(b"host", host), *scope["headers"]]
            scope.update(path=unquote(path.decode()), headers=headers)
        # The server cancels remaining requests when it ends, after closing the connections.
        with contextlib.suppress(asyncio.CancelledError):
            # A route matches a path with a line break at its end too: its pattern ends with "$".
            found = not_found if scope["path"].endswith("\n") else app
            await found(scope, receive, send)

    return call


# Stand-in until the parts are merged.
from collections.abc import Sequence  # noqa: E402

from nextmv_exporter.accounts import Accounts  # noqa: E402
from nextmv_exporter.settings import Settings  # noqa: E402


def serve(
    settings: Settings, accounts: Accounts, on_listening: Callable[[Sequence[str]], None]
) -> None:
    """Serve until a signal."""
    import threading

    from nextmv_exporter.web.listener import listen

    web_config = None
    if settings.web_config_file:
        from nextmv_exporter.web.toolkit.reloading import ReloadingWebConfig

        web_config = ReloadingWebConfig(settings.web_config_file)
    scheme = "https" if web_config and web_config.tls else "http"
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(listen(each)) for each in settings.web_listen_address]
        names = [listener.getsockname()[:2] for listener in listeners]
        urls = [f"{scheme}://{f'[{h}]' if ':' in h else h}:{port}" for h, port in names]
        Server(
            Exporter(settings, accounts),
            on_hangup=lambda: threading.Thread(target=accounts.reload).start(),
            on_started=lambda: on_listening(urls),
            web_config=web_config,
        ).run(listeners)
