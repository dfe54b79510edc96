"""Basic authentication and headers in front of the endpoints."""

import asyncio
import base64
import binascii
import hashlib
import os
from collections.abc import Callable
from http import HTTPStatus

import bcrypt
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextmv_exporter.web.toolkit.config import WebConfig

OPEN_PATHS = frozenset({"/-/healthy", "/-/ready"})
"""Paths that need no password, so that a kubelet can ask."""

MAX_CHECKS = 16
"""Passwords waiting to be checked at once; beyond that, clients are sent away."""

_BCRYPT_BYTES = 72
_MAX_REMEMBERED = 100


class Guard:
    """An ASGI application in front of another that asks for a password.

    Args:
        app: the application behind.
        config: gives the latest configuration.
    """

    def __init__(self, app: ASGIApp, config: Callable[[], WebConfig]) -> None:
        self._app = app
        self._config = config
        self._passwords = Passwords()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        config = self._config()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(config.http_server_config.headers)
            await send(message)

        refusal = await self._refusal(scope, config)
        await (refusal or self._app)(scope, receive, send_with_headers)

    async def _refusal(self, scope: Scope, config: WebConfig) -> ASGIApp | None:
        if not config.basic_auth_users or scope["path"] in OPEN_PATHS:
            return None
        credentials = _basic_credentials(Headers(scope=scope).get("Authorization", ""))
        try:
            if credentials and await self._passwords.right(*credentials, config.basic_auth_users):
                return None
        except TooManyChecksError:
            return PlainTextResponse(
                "Too many passwords are being checked\n", HTTPStatus.SERVICE_UNAVAILABLE
            )
        return PlainTextResponse(
            "Unauthorized\n", HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Basic"}
        )


class TooManyChecksError(Exception):
    """More passwords wait to be checked than is reasonable."""


class Passwords:
    """Checks passwords against bcrypt hashes, one at a time, and remembers the right ones.

    What bcrypt costs is so paid once for each user, not at each scrape; and guessing
    passwords keeps no more than one thread busy.
    """

    def __init__(self) -> None:
        self._remembered: set[bytes] = set()
        self._salt = os.urandom(16)
        self._checks: dict[bytes, asyncio.Task[bool]] = {}
        self._one_at_a_time = asyncio.Lock()

    async def right(self, user: str, password: bytes, users: dict[str, str]) -> bool:
        """Check a password.

        Args:
            user: the name given.
            password: the password given.
            users: bcrypt hashes by name; at least one.

        Returns:
            Whether the user is known and the password right. For an unknown user this takes
            as long as for a known one.

        Raises:
            TooManyChecksError: too many wait already.
        """
        # The costliest hash, so that an unknown user is not told by a fast answer.
        hashed = users.get(user) or max(users.values(), key=lambda value: value[4:6])
        ticket = self._ticket(user, hashed, password)
        if user in users and ticket in self._remembered:
            return True
        right = await asyncio.shield(self._check(ticket, password, hashed)) and user in users
        if right:
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered.add(ticket)
        return right

    def _check(self, ticket: bytes, password: bytes, hashed: str) -> "asyncio.Task[bool]":
        """Begin a check, or join the one under way for the same user and password."""
        if ticket not in self._checks:
            if len(self._checks) >= MAX_CHECKS:
                raise TooManyChecksError
            check = asyncio.create_task(self._matches(password, hashed))
            check.add_done_callback(lambda _: self._checks.pop(ticket))
            self._checks[ticket] = check
        return self._checks[ticket]

    async def _matches(self, password: bytes, hashed: str) -> bool:
        async with self._one_at_a_time:
            return await asyncio.to_thread(
                bcrypt.checkpw, password[:_BCRYPT_BYTES], hashed.encode()
            )

    def _ticket(self, user: str, hashed: str, password: bytes) -> bytes:
        """What is remembered: it gives no password away and ends with the hash's change."""
        parts = (user.encode(), hashed.encode(), password)
        digest = hashlib.blake2b(key=self._salt)
        for part in parts:
            digest.update(len(part).to_bytes(4) + part)
        return digest.digest()


def _basic_credentials(header: str) -> tuple[str, bytes] | None:
    """Read a user and a password; without both there is nothing to spend bcrypt on."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    if not colon:
        return None
    return user.decode("utf-8", "replace"), password
