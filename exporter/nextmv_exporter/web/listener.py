"""Listening sockets, and the limit on the connections that they accept."""

import asyncio
import resource
import socket
import ssl
from collections.abc import Callable, Sized
from dataclasses import dataclass, field

from nextmv_exporter.logs import CLIENTS, get_logger
from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.units import Address
from nextmv_exporter.web.protocol import REQUEST_TIMEOUT, Idle

MAX_CONNECTIONS = 1000
"""Maximum number of open client connections, if there are enough file descriptors."""

RETRY_SECONDS = 1.0
"""Pause after the system failed to accept a connection."""

_RESERVED_DESCRIPTORS = 32

log = get_logger(CLIENTS)


def listen(address: Address) -> socket.socket:
    """Open a listening socket.

    Args:
        address: where to listen; an empty host means all interfaces, IPv6 and IPv4.

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
            f"can't listen on {where}:{address.port}: {_reason(error)}: "
            "choose another --web.listen-address"
        ) from None
    # Connections inherit it. asyncio would set it only on sockets with TCP as explicit protocol,
    # and without it the body waits 40 ms for the client to acknowledge the head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _reason(error: OSError) -> str:
    """Describe an error, without what `socket.create_server` appends to the system's text."""
    return (error.strerror or str(error)).partition(" (while attempting")[0]


def _create_listener(address: Address) -> socket.socket:
    if not address.host and socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", address.port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
        )
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    return socket.create_server(address, family=family, backlog=1024)


def max_connections() -> int:
    """Return the maximum number of client connections.

    A quarter of the process's limit of file descriptors, and some more, is reserved for requests
    to the API and for files.

    Returns:
        The number.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(4, min(MAX_CONNECTIONS, (limit - _RESERVED_DESCRIPTORS) * 3 // 4))


@dataclass
class Acceptor:
    """Acceptor of connections up to a limit, where it closes the longest idle one first.

    asyncio's own server logs thousands of tracebacks a second once the process runs out of file
    descriptors, and has no limit.

    Args:
        create_protocol: creates the protocol of a connection.
        context: returns the TLS context for the next connection; None without TLS.
        connections: the connections that are open.
        idle: those without a request in progress.
        limit: how many connections there may be.
    """

    create_protocol: Callable[[], asyncio.Protocol]
    context: Callable[[], ssl.SSLContext] | None
    connections: Sized
    idle: Idle
    limit: int = field(default_factory=max_connections)
    _handshakes: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self, listener: socket.socket) -> None:
        """Accept the connections of a listening socket until it is closed by `stop`.

        Args:
            listener: the socket.
        """
        if listener.fileno() >= 0:
            listener.setblocking(False)  # noqa: FBT003
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def stop(self, listener: socket.socket) -> None:
        """Close a listening socket."""
        asyncio.get_running_loop().remove_reader(listener)
        listener.close()

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            log.warning("Can't accept connections", err=error.strerror)
            loop.remove_reader(listener)
            loop.call_later(RETRY_SECONDS, self.start, listener)
            return
        if len(self.connections) + len(self._handshakes) >= self.limit:
            log.warning("Too many connections, closing the longest idle", limit=self.limit)
            if not self.idle:
                connection.close()
                return
            self.idle.pop(next(iter(self.idle)))()
        handshake = loop.create_task(self._connect(connection))
        self._handshakes.add(handshake)
        self.idle[handshake] = handshake.cancel
        handshake.add_done_callback(self._handshakes.discard)
        handshake.add_done_callback(lambda done: self.idle.pop(done, None))

    async def _connect(self, connection: socket.socket) -> None:
        context = self.context() if self.context else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self.create_protocol,
                connection,
                ssl=context,
                ssl_handshake_timeout=REQUEST_TIMEOUT if context else None,
            )
        except OSError as error:
            # Otherwise the client disconnected, or was too slow.
            if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
                log.warning("TLS handshake failed", err=error.reason)
