"""Basic authentication and headers in front of the endpoints."""

import asyncio
import base64
import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import LifoQueue
from threading import Thread

import bcrypt
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextmv_exporter.logs import CLIENTS, get_logger
from nextmv_exporter.web.config import WebConfig

OPEN_PATHS = frozenset({"/-/healthy", "/-/ready"})
"""Paths that need no password, so that a kubelet can probe them."""

CHECK_TIMEOUT = 8.0
"""Seconds after which a request whose password is still being checked gets 503."""

MAX_CHECKS = 1000
"""Maximum number of pending checks and of wrong passwords that are remembered."""

log = get_logger(CLIENTS)


class Guard:
    """An ASGI application that requires a password before it calls another.

    Results of checks are remembered, since bcrypt is slow. The latest password is checked first,
    so that guesses do not delay a right one. A check goes on after its request has given up.

    Args:
        app: the other application.
        config: returns the latest configuration.
    """

    def __init__(self, app: ASGIApp, config: Callable[[], WebConfig]) -> None:
        self._app = app
        self._config = config
        self._right: set[bytes] = set()
        self._checks: dict[bytes, Future[bool]] = {}
        self._waiting: LifoQueue[tuple[bytes, bytes, bytes]] = LifoQueue()
        for _ in range(2):
            Thread(target=self._check, name="password", daemon=True).start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request, or pass it on."""
        config = self._config()
        headers = config.http_server_config.headers.model_dump(by_alias=True, exclude_defaults=True)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        app = self._app
        if config.basic_auth_users and scope["path"] not in OPEN_PATHS:
            header = Headers(scope=scope).get("Authorization", "")
            right = await self._is_right(header, config.basic_auth_users)
            if right is None:
                log.warning("A password could not be checked in time")
                app = PlainTextResponse("The password could not be checked in time\n", 503)
            elif not right:
                app = PlainTextResponse("Unauthorized\n", 401, {"WWW-Authenticate": "Basic"})
        await app(scope, receive, send_with_headers)

    async def _is_right(self, header: str, users: Mapping[str, str]) -> bool | None:
        """Return whether a header has a right password; None if that takes too long."""
        try:
            scheme, encoded = header.split()
            name, password = base64.b64decode(encoded, validate=True).split(b":", 1)
        except ValueError:
            return False
        if scheme.lower() != "basic":
            return False
        # An unknown user costs as much as the most costly known one, and no password matches.
        unknown = f"$2b${max(hashed[4:6] for hashed in users.values())}${'.' * 53}"
        hashed = users.get(name.decode("utf-8", "replace"), unknown).encode()
        password = password[:72]  # which is what bcrypt reads
        ticket = hashlib.sha256(hashed + password).digest()
        if ticket in self._right:
            return True
        check = self._checks.setdefault(ticket, Future())
        if len(self._checks) > MAX_CHECKS:
            del self._checks[next(iter(self._checks))]
        if not check.done():
            self._waiting.put((ticket, password, hashed))
            await asyncio.wait({asyncio.wrap_future(check)}, timeout=CHECK_TIMEOUT)
        return check.result() if check.done() else None

    def _check(self) -> None:
        """Check passwords, those that came last first."""
        while True:
            ticket, password, hashed = self._waiting.get()
            check = self._checks.get(ticket)
            if check and not check.done():
                right = bcrypt.checkpw(password, hashed)
                if right:
                    self._right.add(ticket)
                with suppress(InvalidStateError):  # the other thread had the same password
                    check.set_result(right)
