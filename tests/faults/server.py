"""A server that misbehaves as it is told, on raw sockets: real servers are too polite.

A fault is a function that gets a `Peer`, an accepted connection, and treats it as it likes.
"""

import contextlib
import gzip
import json
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

EMPTY_QUEUE = b'{"runs": []}'
_PATIENCE = 60.0


class PeerGoneError(Exception):
    """The client has closed the connection, or the server stops."""


class Peer:
    """An accepted connection."""

    def __init__(self, server: "FaultServer", connection: socket.socket) -> None:
        self.connection = connection
        self._server = server
        self._pending = b""

    def request(self) -> bytes:
        """Read the head of the next request, or raise that there will be none."""
        while b"\r\n\r\n" not in self._pending:
            data = self._receive()
            self._pending += data
        head, _, self._pending = self._pending.partition(b"\r\n\r\n")
        self._server.requests.append(head)
        return head

    def send(self, *parts: bytes) -> None:
        for part in parts:
            try:
                self.connection.sendall(part)
            except OSError as error:
                raise PeerGoneError from error

    def drip(self, data: Iterable[bytes]) -> None:
        """Send a piece each second, until the client has enough."""
        for piece in data:
            self.send(piece)
            self._server.stopping.wait(1)
            if self._server.stopping.is_set():
                raise PeerGoneError

    def hold(self) -> None:
        """Say nothing until the client gives up."""
        while True:
            self._receive()

    def reset(self) -> None:
        """Break the connection off, so that the client gets a RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        raise PeerGoneError

    def _receive(self) -> bytes:
        try:
            data = self.connection.recv(65536)
        except OSError as error:
            raise PeerGoneError from error
        if not data:
            raise PeerGoneError
        return data


Fault = Callable[[Peer], None]


class FaultServer:
    """Listens on a free port while its context lasts.

    Args:
        fault: what is done to each connection.
        tls: serves TLS with this context.
        scheme: of the URL; without it, what is served.
    """

    def __init__(
        self, fault: Fault, tls: ssl.SSLContext | None = None, scheme: str | None = None
    ) -> None:
        self._fault = fault
        self.requests: list[bytes] = []
        """Heads of all requests."""
        self.stopping = threading.Event()
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.url = f"{scheme or ('https' if tls else 'http')}://{self.address}"

    @property
    def fault(self) -> Fault:
        """What is done to each connection; a change ends those that there are."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        self._end_connections()

    @property
    def open_connections(self) -> int:
        """How many connections the clients have not let go of."""
        with self._lock:
            return len(self._open)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._end_connections()

    def _end_connections(self) -> None:
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_PATIENCE)
        with self._lock:
            self._open.add(connection)
        served = connection
        try:
            if self._tls:
                served = self._tls.wrap_socket(connection, server_side=True)
                with self._lock:
                    self._open.add(served)
            self._fault(Peer(self, served))
        except (PeerGoneError, OSError):
            pass
        finally:
            with self._lock:
                self._open -= {connection, served}
            served.close()
            connection.close()


def head(status: str = "200 OK", **headers: object) -> bytes:
    """Write the head of an answer; `_` in a header's name stands for `-`."""
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def answer(body: bytes = EMPTY_QUEUE, status: str = "200 OK", **headers: object) -> bytes:
    """Write a whole answer."""
    return head(status, Content_Length=len(body), **headers) + body


def queue(*runs: Any) -> bytes:
    return json.dumps({"runs": runs}).encode()


def serves(*answers: bytes) -> Fault:
    """Give these answers one after the other, over all connections, and then the last."""
    left = list(answers)
    lock = threading.Lock()

    def serve(peer: Peer) -> None:
        while True:
            peer.request()
            with lock:
                reply = left.pop(0) if len(left) > 1 else left[0]
            peer.send(reply)

    return serve


def slowly(seconds: float, reply: bytes | None = None) -> Fault:
    """Answer each request, after a while."""

    def serve(peer: Peer) -> None:
        while True:
            peer.request()
            time.sleep(seconds)
            peer.send(reply or answer())

    return serve


def never_answers(peer: Peer) -> None:
    peer.request()
    peer.hold()


def never_shakes_hands(peer: Peer) -> None:
    """To be asked over https, without TLS here."""
    peer.hold()


def drips_headers(peer: Peer) -> None:
    peer.request()
    peer.drip(bytes([byte]) for byte in answer(X_Padding="x" * 600))


def drips_headers_for_ever(peer: Peer) -> None:
    """Sends interim answers without end, of which each is a whole head."""
    peer.request()
    while True:
        peer.drip([b"HTTP/1.1 100 Continue\r\n\r\n"])


def drips_body(peer: Peer) -> None:
    peer.request()
    peer.send(head(Content_Length=600))
    peer.drip(b" " for _ in range(600))


def drips_chunks(peer: Peer) -> None:
    peer.request()
    peer.send(head(Transfer_Encoding="chunked"))
    peer.drip(b"1\r\n \r\n" for _ in range(600))


def drips_body_without_length(peer: Peer) -> None:
    """Cut anywhere, this body looks whole: JSON of an empty queue, then white space."""
    peer.request()
    peer.send(head(Connection="close"), EMPTY_QUEUE)
    peer.drip(b" " for _ in range(600))


def drips_error(peer: Peer) -> None:
    peer.request()
    peer.send(head("500 Internal Server Error", Content_Length=600))
    peer.drip(b"x" for _ in range(600))


def stalls_in_body(peer: Peer) -> None:
    peer.request()
    peer.send(head(Content_Length=600), EMPTY_QUEUE)
    peer.hold()


def resets(peer: Peer) -> None:
    peer.request()
    peer.reset()


def resets_in_body(peer: Peer) -> None:
    peer.request()
    peer.send(head(Content_Length=600), EMPTY_QUEUE)
    peer.reset()


def closes_after(answered: int, then: Callable[[Peer], None] | None = None) -> Fault:
    """Keep connections alive for some answers, then close them when the next request comes."""

    def serve(peer: Peer) -> None:
        for _ in range(answered):
            peer.request()
            peer.send(answer())
        peer.request()
        if then:
            then(peer)

    return serve


def gzipped_zeros(size: int, start: bytes = b"") -> Iterator[bytes]:
    """Compress zeros, a thousandth of their size, without ever holding them."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    yield compressor.compress(start)
    block = bytes(1 << 20)
    for _ in range(size // len(block)):
        if piece := compressor.compress(block):
            yield piece
    yield compressor.flush()


def bomb(size: int, status: str = "200 OK", **headers: object) -> Fault:
    """Send a gzip bomb, in chunks as it is made."""

    def serve(peer: Peer) -> None:
        peer.request()
        peer.send(head(status, Content_Encoding="gzip", Transfer_Encoding="chunked", **headers))
        for piece in gzipped_zeros(size):
            peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        peer.send(b"0\r\n\r\n")

    return serve


def nested_bomb(size: int) -> Fault:
    """Send a gzip bomb in a gzip: a few KiB on the wire, in one piece."""
    body = gzip.compress(b"".join(gzipped_zeros(size)), 9)
    reply = answer(body, Content_Encoding="gzip, gzip")
    return serves(reply)


def endless(peer: Peer) -> None:
    """Send a body without end, as fast as it is read."""
    peer.request()
    peer.send(head(Connection="close"), b'{"runs": [')
    while True:
        peer.send(b'{"id": "run"},' * 4096)
