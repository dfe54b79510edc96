"""Connections that keep a deadline for the whole of a request.

A timeout on a socket bounds one read, and a peer that sends a byte a second never exceeds it.
The sockets here set what is left of the request's deadline before every operation: connecting,
the TLS handshake, each read and each write.

This overrides internals of urllib3 (`_new_conn`, `is_connected`, `pool_classes_by_scheme`) and of
`http.client` (`HTTPResponse._read_status`, `_read_next_chunk_size`, `_close_conn`); for that reason
`pyproject.toml` caps urllib3 below its next major version.
"""

import contextlib
import errno
import http
import http.client
import io
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ProtocolError
from urllib3.util.wait import wait_for_write

from nextmv_exporter.deadline import Deadline

_LONGEST_WAIT = 1.0
"""Seconds after which a blocked operation checks whether the deadline was moved or cancelled."""

_MAX_LINE = 65536
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,16}[ \t]*(;.*)?\r?\n", re.DOTALL)

Result = TypeVar("Result")


class Exchange:
    """One request in flight.

    Args:
        deadline: bounds each operation of the sockets that it uses.
        fresh: whether it must not use a connection that was kept alive.
    """

    def __init__(self, deadline: Deadline, *, fresh: bool = False) -> None:
        self.deadline = deadline
        self.fresh = fresh
        self.connected = False
        """Whether a new connection was tried, rather than a kept-alive one used again."""


class _Current(threading.local):
    exchange = Exchange(Deadline(float("inf")))


_current = _Current()


@contextlib.contextmanager
def exchanging(exchange: Exchange) -> Iterator[None]:
    """Set the exchange to which the sockets of this thread belong.

    Args:
        exchange: the exchange.
    """
    before, _current.exchange = _current.exchange, exchange
    try:
        yield
    finally:
        _current.exchange = before


class InvalidChunkError(http.client.HTTPException):
    """The size of a chunk is not a hexadecimal number."""


class _DeadlineSocket(socket.socket):
    """A socket whose operations end with the deadline of the current exchange."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        return _in_time(self, super().recv_into, *args, **kwargs)

    def recv(self, *args: Any, **kwargs: Any) -> bytes:
        return _in_time(self, super().recv, *args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        # Not repeated: how much was sent before a timeout is unknown.
        self.settimeout(_remaining())
        super().sendall(*args, **kwargs)


class _DeadlineTLSSocket(ssl.SSLSocket):
    """The same with TLS; its `recv_into` and `recv` read, its `sendall` sends."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as in `ssl`
        _in_time(self, super().do_handshake, block)

    def read(self, *args: Any, **kwargs: Any) -> Any:
        return _in_time(self, super().read, *args, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> int:
        return _in_time(self, super().send, *args, **kwargs)


def _remaining() -> float:
    """Return the seconds left, never 0, which would make a socket non-blocking."""
    remaining = _current.exchange.deadline.remaining()
    if not remaining:
        raise TimeoutError
    return remaining


def _in_time(
    sock: socket.socket, operation: Callable[..., Result], *args: Any, **kwargs: Any
) -> Result:
    """Repeat an operation that timed out for as long as the deadline has not passed."""
    while True:
        sock.settimeout(min(_remaining(), _LONGEST_WAIT))
        with contextlib.suppress(TimeoutError):
            return operation(*args, **kwargs)


def _connect(host: str, port: int, options: Any) -> socket.socket:
    """Connect to the first of the host's addresses that accepts.

    Each gets an equal share of the time that is left, as in Go: where packets to the first are
    dropped, as with IPv6 half set up, the next is still tried.
    """
    failure: OSError = TimeoutError()
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for left, (family, kind, protocol, _, address) in zip(
        range(len(found), 0, -1), found, strict=True
    ):
        connection = _DeadlineSocket(family, kind, protocol)
        try:
            for option in options or ():
                connection.setsockopt(*option)
            _connect_to(connection, address, left)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


def _connect_to(connection: socket.socket, address: Any, left: int) -> None:
    """Connect within a share of the time left, which grows if the deadline is extended."""
    start, deadline = time.monotonic(), _current.exchange.deadline
    connection.setblocking(False)  # noqa: FBT003
    error = connection.connect_ex(address)
    while error == errno.EINPROGRESS:
        wait = start + (deadline.at - start) / left - time.monotonic()
        if wait <= 0:
            raise TimeoutError
        if wait_for_write(connection, min(wait, _LONGEST_WAIT)):
            error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
    connection.settimeout(_LONGEST_WAIT)  # TLS needs a blocking socket


class _Response(http.client.HTTPResponse):
    """A response that is read strictly."""

    unexpected = False
    """Whether anything was seen after which the connection must not be used again."""

    def _read_status(self) -> tuple[str, int, str]:
        """Skip informational responses (102, 103), which `http.client` treats as final ones."""
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 101 < status < 200:  # `begin` skips 100, and 101 is no response to GET
                return version, status, reason
            self.unexpected = True
            http.client.parse_headers(self.fp)

    def begin(self) -> None:
        """Read the headers; where two of them give the length, peers may disagree about it."""
        super().begin()
        lengths = ("content-length", "transfer-encoding")
        self.unexpected |= sum(name.lower() in lengths for name in self.headers) > 1

    def _read_next_chunk_size(self) -> int:
        """Reject what `int` would accept, such as a negative size, which reads to the end."""
        line = self.fp.readline(_MAX_LINE)
        if not _CHUNK_SIZE.fullmatch(line):
            raise InvalidChunkError
        return int(line.partition(b";")[0], 16)

    def _close_conn(self) -> None:
        """Look for bytes that the peer sent beyond the end of the response."""
        with contextlib.suppress(OSError, ValueError):
            self.unexpected = self.unexpected or _has_buffered(self.fp)
        super()._close_conn()  # type: ignore[misc]


def _has_buffered(reader: io.BufferedReader) -> bool:
    with exchanging(Exchange(Deadline(0))):
        return bool(reader.peek(1))  # a TimeoutError where it would have to read


class _Connection(HTTPConnection):
    response_class = _Response
    _last: http.client.HTTPResponse | None = None

    def _new_conn(self) -> socket.socket:
        _current.exchange.connected = True
        try:
            return _connect(self._dns_host, self.port, self.socket_options)
        except (ConnectionResetError, BrokenPipeError) as error:  # which urllib3 ignores
            raise ProtocolError(str(error), error) from None

    def getresponse(self) -> Any:
        response = super().getresponse()
        self._last = response._fp  # noqa: SLF001
        return response

    @property
    def is_connected(self) -> bool:
        """Whether the pool may use the connection again; it closes and replaces others."""
        unexpected = getattr(self._last, "unexpected", False)
        # What TLS has decrypted and no one has read can't be seen on the socket.
        unread = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()
        fresh = _current.exchange.fresh
        return super().is_connected and not (unexpected or unread or fresh)


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class DeadlineAdapter(HTTPAdapter):
    """A `requests` adapter whose sockets keep the deadline of the current exchange.

    Args:
        context: verifies certificates; its sockets keep deadlines from then on.
        connections: most connections that are kept alive.
    """

    def __init__(self, context: ssl.SSLContext, connections: int) -> None:
        context.sslsocket_class = _DeadlineTLSSocket
        self._context = context
        super().__init__(pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pools as `requests` does, with connections that keep deadlines."""
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)
        _set_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Create the pools for a proxy as `requests` does, with connections that keep deadlines."""
        manager = super().proxy_manager_for(
            proxy, **kwargs, ssl_context=self._context, proxy_ssl_context=self._context
        )
        _set_pools(manager)
        return manager

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave verification to the context, where `requests` would add certifi's authorities."""


def _set_pools(manager: Any) -> None:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
