"""Basic authentication and headers in front of the endpoints."""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from http import HTTPStatus

import bcrypt
from anyio import CapacityLimiter, to_thread
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
"""Maximum number of remembered and pending checks."""

_AT_ONCE = 2
_BCRYPT_BYTES = 72

log = get_logger(CLIENTS)


class Guard:
    """An ASGI application that requires a password before it calls another.

    Results of checks are remembered, since bcrypt is slow. Requests with the same password wait
    for the same check, which goes on after they have given up.

    Args:
        app: the other application.
        config: returns the latest configuration.
    """

    def __init__(self, app: ASGIApp, config: Callable[[], WebConfig]) -> None:
        self._app = app
        self._config = config
        self._limiter = CapacityLimiter(_AT_ONCE)
        self._right: set[bytes] = set()
        self._checks: dict[bytes, asyncio.Task[bool]] = {}

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
            app = await self._refusal(scope, config.basic_auth_users) or app
        await app(scope, receive, send_with_headers)

    async def _refusal(self, scope: Scope, users: dict[str, str]) -> ASGIApp | None:
        credentials = _credentials(Headers(scope=scope).get("Authorization", ""))
        if not credentials:
            return _unauthorized
        user, password = credentials
        # An unknown user costs as much as the most costly known one, and matches no password.
        cost = max(hashed[4:6] for hashed in users.values())
        hashed = users.get(user, f"$2b${cost}${'.' * 53}").encode()
        password = password[:_BCRYPT_BYTES]
        ticket = hashlib.sha256(hashed + password).digest()
        if ticket in self._right:
            return None
        if len(self._checks) >= MAX_CHECKS:
            self._checks = {each: c for each, c in self._checks.items() if not c.done()}
        if ticket not in self._checks and len(self._checks) < MAX_CHECKS:
            self._checks[ticket] = asyncio.create_task(self._check(ticket, password, hashed))
        if check := self._checks.get(ticket):
            await asyncio.wait({check}, timeout=CHECK_TIMEOUT)
        if check is None or not check.done():
            log.warning("Passwords can't be checked in time", pending=len(self._checks))
            return PlainTextResponse(
                "The password could not be checked in time\n",
                HTTPStatus.SERVICE_UNAVAILABLE,
                {"Retry-After": "5"},
            )
        return None if check.result() else _unauthorized

    async def _check(self, ticket: bytes, password: bytes, hashed: bytes) -> bool:
        right = await to_thread.run_sync(bcrypt.checkpw, password, hashed, limiter=self._limiter)
        if right:
            self._right.add(ticket)
        return right


_unauthorized = PlainTextResponse(
    "Unauthorized\n", HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Basic"}
)


def _credentials(header: str) -> tuple[str, bytes] | None:
    """Parse the user and the password from an `Authorization` header."""
    scheme, _, encoded = header.partition(" ")
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except ValueError:
        return None
    if scheme.lower() != "basic" or not colon:
        return None
    return user.decode("utf-8", "replace"), password
