"""The demo's API on a loopback port, served by a thread inside any program."""

import socket
import threading
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp

_PATIENCE = 5.0
"""Seconds to wait for the thread; with a frozen clock it might never end, but it is a daemon."""


class DemoServer:
    """Serves an ASGI application over HTTP on 127.0.0.1 while its context lasts.

    It runs an event loop of its own in a thread of its own, beside whatever the program does.

    Args:
        app: Usually a `DemoAPI`.
        port: 0 takes a free one.

    Raises:
        OSError: On entering, when the port is taken.

    Example:
        >>> with DemoServer(api) as server:
        ...     print(server.url)
        http://127.0.0.1:41233
    """

    def __init__(self, app: ASGIApp, port: int = 0) -> None:
        config = _Config(
            app, lifespan="off", ws="none", access_log=False, timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._port = port
        self._thread = threading.Thread(target=self._serve, name="nextmv-demo", daemon=True)

    def __enter__(self) -> Self:
        """Starts serving; `url` answers from here on."""
        self._socket = socket.create_server(("127.0.0.1", self._port))
        # Connections inherit it; without it a short answer takes 40 ms, as Nextmv's do not.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops serving, within about a second when requests are under way."""
        self._server.should_exit = True
        self._thread.join(_PATIENCE)

    @property
    def url(self) -> str:
        """The base URL, to use as the Nextmv endpoint; without a slash at the end."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def _serve(self) -> None:
        # The socket listens already: whoever connects before uvicorn is up only waits.
        # uvicorn leaves it open when it's told to stop before that.
        with self._socket:
            self._server.run(sockets=[self._socket])


class _Config(uvicorn.Config):
    def configure_logging(self) -> None:
        """Leaves logging alone, where uvicorn would change the whole program's."""
