"""A server that misbehaves on real sockets, in the place of Nextmv's API."""

import contextlib
import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

EMPTY_QUEUE = b'{"runs": []}'


class Conversation:
    """One connection, as the server sees it."""

    def __init__(self, connection: socket.socket, server: "FaultServer") -> None:
        self.connection = connection
        self.server = server

    def hear(self) -> bytes:
        """The head of the next request; empty once the client has closed."""
        head = b""
        with contextlib.suppress(OSError):
            while b"\r\n\r\n" not in head:
                received = self.connection.recv(65536)
                if not received:
                    return b""
                head += received
        if head:
            self.server.requests.append(head)
        return head

    def say(self, data: bytes) -> None:
        self.connection.sendall(data)

    def wait_for_close(self, seconds: float = 60) -> bool:
        """Send nothing more; tells whether the client went."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            readable, _, _ = select.select([self.connection], [], [], left)
            if readable and not self.connection.recv(65536):
                return True
        return False

    def drip(self, data: Iterable[bytes], pause: float) -> None:
        """Send a little at a time, until the client goes."""
        for piece in data:
            self.say(piece)
            if self.wait_for_close(pause):
                return


Behaviour = Callable[[Conversation], None]


def answer(
    body: bytes = EMPTY_QUEUE, status: str = "200 OK", *, length: int | None = None, **headers: str
) -> bytes:
    """A response; `_` in a header's name stands for `-`."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def queue(*runs: Any) -> bytes:
    return answer(json.dumps({"runs": runs}).encode())


def answers(*responses: bytes, keep_alive: bool = True) -> Behaviour:
    """Gives each request the next of these responses, over all connections; the last for ever."""
    left = list(responses)
    lock = threading.Lock()

    def behave(conversation: Conversation) -> None:
        while conversation.hear():
            with lock:
                response = left.pop(0) if len(left) > 1 else left[0]
            conversation.say(response)
            if not keep_alive:
                return

    return behave


def after(seconds: float, response: bytes) -> Behaviour:
    def behave(conversation: Conversation) -> None:
        while conversation.hear():
            time.sleep(seconds)
            conversation.say(response)

    return behave


def never_answers(conversation: Conversation) -> None:
    conversation.hear()
    conversation.wait_for_close()


def drips_the_headers(conversation: Conversation) -> None:
    conversation.hear()
    head = b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 1000
    conversation.drip((bytes([byte]) for byte in head), pause=1)


def drips_the_body(conversation: Conversation) -> None:
    conversation.hear()
    conversation.say(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"runs": [')
    conversation.drip((b" " for _ in range(1000)), pause=1)


def drips_an_errors_body(conversation: Conversation) -> None:
    conversation.hear()
    conversation.say(b"HTTP/1.1 500 Oh\r\n\r\n")
    conversation.drip((b"x" for _ in range(1000)), pause=1)


def stalls_in_the_body(conversation: Conversation) -> None:
    conversation.hear()
    conversation.say(answer(b'{"runs": [', length=1000))
    conversation.wait_for_close()


def stalls_in_the_handshake(conversation: Conversation) -> None:
    conversation.connection.recv(1)  # of the ClientHello, and no more
    conversation.wait_for_close()


def resets(conversation: Conversation) -> None:
    """Closes with RST in the middle of the answer."""
    conversation.hear()
    conversation.say(answer(b'{"runs": [', length=1000))
    conversation.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


class FaultServer:
    """Treats each connection as its behaviour says, while its context lasts."""

    def __init__(self, behave: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self.behave = behave
        self.requests: list[bytes] = []
        self.accepted = 0
        self.scheme = "https" if tls else "http"
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._acceptor = threading.Thread(target=self._accept, name="fault server", daemon=True)
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), name="fault")
            thread.daemon = True
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        connection = plain
        with contextlib.suppress(OSError):
            if self._tls:
                connection = self._tls.wrap_socket(plain, server_side=True)
                self._open.add(connection)
            self.behave(Conversation(connection, self))
        connection.close()
        self._open -= {plain, connection}

    def close_connections(self) -> None:
        """Close all that are open, as a server does that restarts."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        self.close_connections()
        for thread in self._threads:
            thread.join(10)
