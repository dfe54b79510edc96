"""uvicorn's HTTP/1.1 protocol, hardened against slow and hostile clients."""

import asyncio
import ssl
from collections.abc import Callable
from email.utils import formatdate

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

REQUEST_TIMEOUT = 10.0
"""Seconds in which a client must send a whole request, including the TLS handshake before it."""

WRITE_TIMEOUT = 30.0
"""Seconds in which a client must read what is buffered for it."""

MAX_HEAD_BYTES = 16 * 1024

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nInvalid HTTP request.\n"

Idle = dict[object, Callable[[], object]]
"""Connections without a request in progress, each with a function that closes it; the longest idle
first."""


class Protocol(H11Protocol):
    """Protocol that disconnects clients that send a request too slowly or stop reading.

    Args:
        config: uvicorn's configuration.
        state: the shared state of uvicorn's connections.
        idle: where the connection is listed while it has no request in progress.
        context: returns the TLS context for the next connection; None without TLS.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        idle: Idle,
        context: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        super().__init__(config, state, app_state={})
        self._idle = idle
        self._context = context
        self._accepted = self.loop.time()
        self._timeouts: dict[str, asyncio.TimerHandle] = {}
        self._half_closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        # With a higher limit, that much could stay unread without a call of `pause_writing`.
        transport.set_write_buffer_limits(high=1)
        self._abort_at("request", self._accepted + REQUEST_TIMEOUT)
        self._update_idle()

    def data_received(self, data: bytes) -> None:
        """Handle a part of a request."""
        if self._context and not self._is_admitted(self._context()):
            self.transport.abort()
            return
        if "request" not in self._timeouts:
            self._abort_at("request", self.loop.time() + REQUEST_TIMEOUT)
        self.server_state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        # h11 rejects a head that is too large only while it is incomplete: not one that is
        # received in a single piece.
        for start in range(0, len(data), MAX_HEAD_BYTES):
            if not self.transport.is_closing():
                super().data_received(data[start : start + MAX_HEAD_BYTES])
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._forget("request")
        self._update_idle()

    def on_response_complete(self) -> None:
        """Wait for the next request, of which a part may have been received with the last one."""
        super().on_response_complete()
        if self._half_closed and self.cycle.response_complete:  # and no other request is waiting
            self.transport.close()
            return
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._abort_at("request", self.loop.time() + REQUEST_TIMEOUT)
        self._update_idle()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep a connection whose client sends no more until it has its response."""
        self._half_closed = not self._context and self not in self._idle
        return self._half_closed

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all timers."""
        self._forget("request")
        self._forget("write")
        self._idle.pop(self, None)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        self._abort_at("write", self.loop.time() + WRITE_TIMEOUT)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Continue: the client has read everything."""
        self._forget("write")
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Respond to invalid HTTP; uvicorn's own fails if a response has been started."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_BAD_REQUEST)
        else:
            self.cycle.disconnected = True  # drop what the application still sends
        self.transport.close()

    def _should_upgrade(self) -> bool:
        """Ignore requests for another protocol, which uvicorn would log."""
        return False

    def _is_admitted(self, latest: ssl.SSLContext) -> bool:
        """Return whether client verification is unchanged since the handshake."""
        own = self.transport.get_extra_info("ssl_object").context
        return own is latest or _client_verification(own) == _client_verification(latest)

    def _update_idle(self) -> None:
        if self.cycle and not self.cycle.response_complete:
            self._idle.pop(self, None)
        else:
            self._idle.setdefault(self, self.transport.abort)

    def _abort_at(self, name: str, when: float) -> None:
        self._forget(name)
        self._timeouts[name] = self.loop.call_at(when, self.transport.abort)

    def _forget(self, name: str) -> None:
        if timeout := self._timeouts.pop(name, None):
            timeout.cancel()


def _client_verification(context: ssl.SSLContext) -> tuple[ssl.VerifyMode, list[bytes]]:
    return context.verify_mode, context.get_ca_certs(binary_form=True)
