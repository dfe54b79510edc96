"""uvicorn, with the manners of a server that strangers may connect to."""

import asyncio
import contextlib
import signal
import socket
import ssl
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from nextmv_exporter.errors import ConfigurationError
from nextmv_exporter.units import Address
from nextmv_exporter.web.app import Exporter

if TYPE_CHECKING:
    from nextmv_exporter.web.toolkit.reloading import ReloadingWebConfig

REQUEST_TIMEOUT = 10.0
"""Seconds in which a client must have sent a whole request."""

WRITE_TIMEOUT = 30.0
"""Seconds in which a client must have read what is held back for it."""

MAX_HEAD_BYTES = 16 * 1024
DRAIN_TIMEOUT = 3.0
"""Seconds that scrapes in flight get to finish once the program is asked to end."""


def listen(address: Address) -> socket.socket:
    """Open the listening socket.

    Args:
        address: where; an empty host means all interfaces, IPv6 and IPv4.

    Returns:
        The socket.

    Raises:
        ConfigurationError: the address is in use, not this machine's, or not allowed.
    """
    try:
        listener = _create_listener(address)
    except OSError as error:
        where = f"[{address.host}]" if ":" in address.host else address.host
        raise ConfigurationError(
            f"can't listen on {where}:{address.port}: {error.strerror or error}: "
            "choose another --web.listen-address"
        ) from None
    # Connections inherit it. asyncio would set it only on sockets that name TCP as their protocol,
    # and without it the body waits 40 ms for the client to acknowledge the head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _create_listener(address: Address) -> socket.socket:
    if not address.host and socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", address.port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
        )
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    return socket.create_server(address, family=family, backlog=1024)


_REFUSAL = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nInvalid HTTP request.\n"


class _Protocol(H11Protocol):
    """Closes connections whose request comes too slowly, or whose answer is not read."""

    _request_timeout: asyncio.TimerHandle | None = None
    _write_timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        if self._request_timeout is None:
            self._await_request()
        # h11 refuses a head that is too large only while it is incomplete: not one that comes
        # in a single piece.
        for start in range(0, len(data), MAX_HEAD_BYTES):
            if not self.transport.is_closing():
                super().data_received(data[start : start + MAX_HEAD_BYTES])
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._forget_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_request()
        self._forget_write()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self._forget_write()
        self._write_timeout = self.loop.call_later(WRITE_TIMEOUT, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        self._forget_write()
        super().resume_writing()

    def _await_request(self) -> None:
        self._request_timeout = self.loop.call_later(REQUEST_TIMEOUT, self.transport.close)

    def _forget_request(self) -> None:
        if self._request_timeout:
            self._request_timeout.cancel()
            self._request_timeout = None

    def _forget_write(self) -> None:
        if self._write_timeout:
            self._write_timeout.cancel()
            self._write_timeout = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, where uvicorn trips over an answer that it has begun."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_REFUSAL)
        else:
            self.cycle.disconnected = True  # what the application still sends goes nowhere
        self.transport.close()


def _guarded(app: ASGIApp, web_config: "ReloadingWebConfig | None") -> ASGIApp:
    if web_config is None:
        return app
    from nextmv_exporter.web.toolkit.authentication import Guard

    return Guard(app, web_config.config)


def _context_factory(
    web_config: "ReloadingWebConfig | None",
) -> Callable[[object, object], ssl.SSLContext] | None:
    if web_config is None or not web_config.tls:
        return None
    from nextmv_exporter.web.toolkit.tls import ReloadingContext

    return lambda _config, _default: ReloadingContext(web_config.context)


class Server(uvicorn.Server):
    """Serves the exporter until it is told to end, then lets scrapes finish.

    Args:
        exporter: what is served.
        on_hangup: called on SIGHUP.
        on_started: called once requests and signals are taken.
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
            _guarded(exporter.app(), web_config),
            http=_Protocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            timeout_keep_alive=65,
            timeout_graceful_shutdown=1,
            ssl_context_factory=_context_factory(web_config),
        )
        super().__init__(config)
        self._exporter = exporter
        self._on_started = on_started
        self._on_hangup = on_hangup

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal.

        Args:
            sockets: where to listen.
        """
        with contextlib.suppress(ValueError, RuntimeError):  # not the main thread, as in tests
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_hangup)
        await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer.

        Args:
            sockets: where to listen.
        """
        await super().startup(sockets)
        self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain on the first signal, end at once on the second.

        uvicorn would end with the signal's own status; a drained exporter ends with 0.
        """
        if self._exporter.draining:
            self.should_exit = self.force_exit = True
        else:
            self._exporter.draining = True
            self._drain_until = time.monotonic() + DRAIN_TIMEOUT

    async def on_tick(self, counter: int) -> bool:
        """Tell uvicorn, ten times a second, whether to end.

        Args:
            counter: counts the calls.

        Returns:
            Whether nothing is left to wait for.
        """
        ending = await super().on_tick(counter)
        if not self._exporter.draining:
            return ending
        drained = not self.server_state.tasks or time.monotonic() > self._drain_until
        return ending or drained
