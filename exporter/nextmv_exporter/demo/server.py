"""Serve the demo's API on a loopback port, in a thread of any program."""

import socket
import threading
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp

_PATIENCE = 5.0
"""Seconds to wait for the daemon thread, which with a frozen clock might never end."""


class DemoServer:
    """HTTP server on 127.0.0.1 for an ASGI application, running while its context lasts.

    It has its own event loop in its own thread.

    Args:
        app: Usually a `DemoAPI`.
        port: The port; 0 for any free one.

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
        """Start serving; `url` is reachable from then on."""
        self._socket = socket.create_server(("127.0.0.1", self._port))
        # Connections inherit it; without it a short response is delayed by 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop serving, within about a second if requests are in progress."""
        self._server.should_exit = True
        self._thread.join(_PATIENCE)

    @property
    def url(self) -> str:
        """The base URL, to use as the Nextmv endpoint; without a slash at the end."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def _serve(self) -> None:
        # The socket listens already: clients that connect before uvicorn has started wait.
        # uvicorn does not close it when it is stopped before that.
        with self._socket:
            self._server.run(sockets=[self._socket])


class _Config(uvicorn.Config):
    def configure_logging(self) -> None:
        """Do nothing, where uvicorn would change the logging of the whole program."""
