"""Basic authentication and headers in front of the endpoints."""

import asyncio
import base64
import hmac
import os
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from http import HTTPStatus
from typing import NamedTuple

import bcrypt
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextmv_exporter.logs import CLIENTS, get_logger
from nextmv_exporter.web.toolkit.config import WebConfig

OPEN_PATHS = frozenset({"/-/healthy", "/-/ready"})
"""Paths that need no password, so that a kubelet can probe them."""

MAX_GUESSES = 500
"""Maximum number of pending passwords of one client address."""

MIN_REFUSAL, MAX_REFUSAL = 2.0, 20.0
"""Seconds after which a wrong password is rejected."""

_SECONDS_PER_GUESS = 1.0
_MAX_REMEMBERED = 1000
_BCRYPT_BYTES = 72
_CHEAP_COST = 12
_CHEAP_THREADS = 4
# A hash of cost 10 that no known password matches.
_UNKNOWN_USER = f"$2b$10${'.' * 53}"

log = get_logger(CLIENTS)


class Guard:
    """An ASGI application that requires a password before it calls another.

    Args:
        app: the other application.
        config: returns the latest configuration.
    """

    def __init__(self, app: ASGIApp, config: Callable[[], WebConfig]) -> None:
        self._app = app
        self._config = config
        self._passwords = Passwords()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request, or pass it on."""
        config = self._config()
        headers = config.http_server_config.headers

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = headers.model_dump(by_alias=True, exclude_defaults=True)
                MutableHeaders(scope=message).update(given)
            await send(message)

        refusal = await self._refusal(scope, config)
        await (refusal or self._app)(scope, receive, send_with_headers)

    async def _refusal(self, scope: Scope, config: WebConfig) -> ASGIApp | None:
        users = config.basic_auth_users
        if not users or scope["path"] in OPEN_PATHS:
            return None
        credentials = _basic_credentials(Headers(scope=scope).get("Authorization", ""))
        address = (scope.get("client") or ("",))[0]
        admitted: bool | None = False
        if credentials:
            admitted = await self._passwords.admit(*credentials, users, address)
        if admitted:
            return None
        if admitted is None:
            log.warning("Too many passwords are being checked", client=address)
            return PlainTextResponse(
                "Too many passwords are being checked\n", HTTPStatus.SERVICE_UNAVAILABLE
            )
        return PlainTextResponse(
            "Unauthorized\n", HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Basic"}
        )


class _Check(NamedTuple):
    ticket: bytes
    password: bytes
    hashed: str
    end: float
    right: Future[bool]


class Passwords:
    """Checker of passwords against bcrypt hashes, which caches the results.

    A correct password is accepted as soon as it has been checked, and immediately from then on. A
    wrong one is rejected after a time that depends only on how many passwords of its client are
    pending, and immediately from then on: neither depends on whether the user is known, nor on the
    cost of the user's hash. That time also limits how fast a client can guess, so that checks
    seldom wait. The latest is checked first, and each costly hash has a queue of its own: neither
    guesses nor the hash of another user delay a correct password.
    """

    def __init__(self) -> None:
        self._salt = os.urandom(16)
        self._guesses: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._right: set[bytes] = set()
        self._wrong: deque[bytes] = deque(maxlen=_MAX_REMEMBERED)
        self._refused: deque[bytes] = deque(maxlen=_MAX_REMEMBERED)
        self._pending: defaultdict[str, deque[_Check]] = defaultdict(
            lambda: deque(maxlen=MAX_GUESSES)
        )
        self._threads: Counter[str] = Counter()

    async def admit(
        self, user: str, password: bytes, users: Mapping[str, str], address: str
    ) -> bool | None:
        """Check a password.

        Args:
            user: the name given.
            password: the password given.
            users: bcrypt hashes by name; at least one.
            address: where the request comes from.

        Returns:
            Whether the user is known and the password correct; None if that can't be checked now,
            since too many of that address are pending, or the system starts no more threads.
        """
        password = password[:_BCRYPT_BYTES]
        hashed = users.get(user, _UNKNOWN_USER)
        known = repr((user, hashed, password)).encode()
        ticket = hmac.digest(self._salt, known, "sha256")
        if ticket in self._right:
            return True
        if self._guesses[address] >= MAX_GUESSES:
            return None
        self._guesses[address] += 1
        try:
            seconds = self._guesses[address] * _SECONDS_PER_GUESS
            end = time.monotonic() + min(MAX_REFUSAL, max(MIN_REFUSAL, seconds))
            check = _Check(ticket, password, hashed, end, Future())
            if ticket not in self._wrong and not self._queue(check):
                return None
            if ticket in self._refused:
                return False  # immediately, whether or not it has been checked by now
            await asyncio.wait({asyncio.wrap_future(check.right)}, timeout=end - time.monotonic())
            if check.right.done() and check.right.result():
                return True
            await asyncio.sleep(end - time.monotonic())
            self._refused.append(ticket)
            return False
        finally:
            self._guesses -= Counter([address])

    def _queue(self, check: _Check) -> bool:
        """Return whether there is a thread that will run the check."""
        costly = int(check.hashed[4:6]) > _CHEAP_COST
        queue = check.hashed if costly else ""
        with self._lock:
            if self._threads[queue] < (1 if costly else _CHEAP_THREADS):
                try:
                    # Not a pool, whose threads the program would wait for at exit.
                    threading.Thread(target=self._run_checks, args=(queue,), daemon=True).start()
                except RuntimeError:
                    return False
                self._threads[queue] += 1
            self._pending[queue].append(check)
            return True

    def _run_checks(self, queue: str) -> None:
        """Run the checks of a queue, the latest first, until there are none."""
        while True:
            with self._lock:
                if not self._pending[queue]:
                    self._threads[queue] -= 1
                    return
                check = self._pending[queue].pop()
            if time.monotonic() < check.end:
                check.right.set_result(self._is_right(check))

    def _is_right(self, check: _Check) -> bool:
        if check.ticket in self._right or check.ticket in self._wrong:
            return check.ticket in self._right
        right = bcrypt.checkpw(check.password, check.hashed.encode())
        with self._lock:
            if right:
                self._right.add(check.ticket)
            else:
                self._wrong.append(check.ticket)
        return right


def _basic_credentials(header: str) -> tuple[str, bytes] | None:
    """Parse the user and the password from an `Authorization` header."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except ValueError:
        return None
    if not colon:
        return None
    return user.decode("utf-8", "replace"), password
