"""Connections that can be closed from another thread, whatever they are waiting for.

A timeout on a socket bounds one read, and a peer that sends a byte a second never
exceeds it. So each request notes the sockets that it uses, and closing them from
outside ends it at once, be it connecting, in the TLS handshake, or in the body.
"""

import contextlib
import os
import socket
import threading
from contextvars import ContextVar
from typing import Any, Self

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from nextmv_exporter.deadline import Deadline


class Exchange:
    """One request in flight and the sockets that it uses.

    Args:
        deadline: bounds connecting to each of the peer's addresses in turn.
        fresh: whether it must not use a connection that was kept alive.
    """

    def __init__(self, deadline: Deadline, *, fresh: bool = False) -> None:
        self.deadline = deadline
        self.fresh = fresh
        self.connected = False
        """Whether a new connection was made, rather than a kept-alive one used again."""
        self._lock = threading.Lock()
        self._aborted = False
        self._watched: list[socket.socket] = []

    def connect(self, host: str, port: int, options: Any) -> socket.socket:
        """Connect to the first of the host's addresses that answers.

        Each gets an equal share of the time that is left, as in Go: where packets to the first
        are dropped, as they are with IPv6 half set up, the next is still tried.

        Args:
            host: name or address.
            port: the port.
            options: arguments of `setsockopt`, a sequence for each option.

        Returns:
            The connected socket.

        Raises:
            OSError: no address answered in time.
        """
        failure: OSError = TimeoutError("out of time")
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for left, (family, kind, protocol, _, address) in zip(
            range(len(found), 0, -1), found, strict=True
        ):
            if self.deadline.over:
                break
            connection = socket.socket(family, kind, protocol)
            try:
                for option in options or ():
                    connection.setsockopt(*option)
                connection.settimeout(self.deadline.remaining() / left or 0.001)
                self.watch(connection)
                connection.connect(address)
                connection.settimeout(self.deadline.remaining() or 0.001)
            except OSError as error:
                connection.close()
                failure = error
            else:
                self.connected = True
                return connection
        raise failure

    def watch(self, connection: socket.socket) -> None:
        """Note a socket, so that `abort` reaches it.

        Args:
            connection: the socket. A duplicate is kept: TLS takes the original over.
        """
        duplicate = socket.socket(fileno=os.dup(connection.fileno()))
        with self._lock:
            self._watched.append(duplicate)
            aborted = self._aborted
        if aborted:
            _shut(duplicate)

    def abort(self) -> None:
        """Shut the sockets down, waking the thread that waits for them."""
        with self._lock:
            self._aborted = True
            for connection in self._watched:
                _shut(connection)

    def __enter__(self) -> Self:
        """Make it the current exchange, to which new connections belong."""
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the sockets; those of kept-alive connections stay open."""
        _current.reset(self._token)
        with self._lock:
            for connection in self._watched:
                connection.close()
            self._watched.clear()


_current: ContextVar[Exchange] = ContextVar("exchange")


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # not connected yet, or no more
        connection.shutdown(socket.SHUT_RDWR)


class _WatchedConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        exchange = _current.get()
        try:
            return exchange.connect(self._dns_host, self.port, self.socket_options)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"connecting to {self.host} timed out") from error
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error

    @property
    def is_connected(self) -> bool:
        """Whether the pool may use the connection again; it closes and replaces others."""
        return super().is_connected and not _current.get().fresh

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            _current.get().watch(self.sock)
        super().request(*args, **kwargs)


class _WatchedTLSConnection(_WatchedConnection, HTTPSConnection):
    pass


class _WatchedPool(HTTPConnectionPool):
    ConnectionCls = _WatchedConnection


class _WatchedTLSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTLSConnection


class WatchedAdapter(HTTPAdapter):
    """A `requests` adapter whose connections belong to the current `Exchange`."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools, as `requests` does, with watched connections."""
        super().init_poolmanager(*args, **kwargs)
        _watch_pools(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Make the pools for a proxy, as `requests` does, with watched connections."""
        manager = super().proxy_manager_for(*args, **kwargs)
        _watch_pools(manager)
        return manager


def _watch_pools(manager: Any) -> None:
    manager.pool_classes_by_scheme = {"http": _WatchedPool, "https": _WatchedTLSPool}
