"""HTTP client of the Nextmv API: one deadline for the whole of each request."""

import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy

from nextmv_exporter import __version__
from nextmv_exporter.nextmv import errors
from nextmv_exporter.nextmv.credentials import DEFAULT_PROFILE, Credentials, resolve

TIMEOUT = 10.0
"""Seconds that a request may take in all, unless its caller says otherwise."""

MAX_RESPONSE_BYTES = 64 * 1024 * 1024

MAX_REQUESTS = 8
"""Requests of one account that are in flight at once, at most."""

_PIECE = 64 * 1024
_TICK = 0.001  # the shortest timeout, seconds: 0 would mean none
_MAX_ERROR = 1024 * 1024  # bytes of an error's body
_CONNECT_SHARE = 1 / 3  # of the time left, for each address of the host
_RETRY_PAUSE = 0.1
_SHORTEST_SECRET = 4  # characters of a proxy's user or password; less would spoil the messages
_PROXY = re.compile(r"(?:\w+://)?(?:([^/?#:@]*)(?::([^/?#@]*))?@)?([^/?#@\s]+)/?")
_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
"""Where systems keep their authorities, for a Python that was built to look elsewhere."""


@dataclass(frozen=True)
class Exchange:
    """A request that was sent, and what is known of its response.

    Args:
        path: the path without IDs, such as `v1/account/queue`.
        code: the HTTP status, or `error` if there was no response.
        seconds: time until the full response, or the failure.
        clock_offset: the API's clock, from the response's `Date`, less this machine's, seconds to
            within one; None without a response or without that header.
    """

    path: str
    code: str
    seconds: float
    clock_offset: float | None


Observer = Callable[[Exchange], None]


class Deadline:
    """A time on the monotonic clock that later scrapes may extend.

    It is created where a request enters and passed down to the socket, so that every step
    works with the same remaining time.

    Args:
        seconds: time from now.
        longest: time from now to which it may be extended; by default not at all.

    Example:
        >>> Deadline(5).remaining() <= 5
        True
    """

    def __init__(self, seconds: float, longest: float | None = None) -> None:
        now = time.monotonic()
        # When it passes, and when at the latest, as what blocks can't be extended; monotonic
        # seconds.
        self.at = now + seconds
        self.limit = now + (seconds if longest is None else longest)

    def remaining(self) -> float:
        """Return the seconds left, never below 0."""
        return max(0.0, self.at - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether it has passed or was cancelled."""
        return self.remaining() == 0.0

    def extend(self, other: "Deadline") -> None:
        """Extend it to another deadline, if that one is later.

        Args:
            other: the other deadline.
        """
        self.at = max(self.at, min(other.at, self.limit))

    def cancel(self) -> None:
        """End it now: no one waits for the response any more."""
        self.at = float("-inf")

    def sleep(self, seconds: float) -> None:
        """Wait, but not past the deadline.

        Args:
            seconds: time to wait.
        """
        time.sleep(min(seconds, self.remaining()))


class Budget:
    """The bytes that the responses of one fetch may hold together, decompressed.

    Args:
        limit: that many.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.received = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Count bytes received.

        Args:
            size: that many.

        Returns:
            Whether no more than `limit` were received so far.
        """
        with self._lock:
            self.received += size
            return self.received <= self.limit


@dataclass(frozen=True)
class _Route:
    """What all requests with the same credentials have in common."""

    credentials: Credentials
    request: requests.PreparedRequest
    options: dict[str, Any]
    """For the adapter's `send`."""
    peer: str
    secrets: Sequence[str]
    """The longest first."""


class Client:
    """Client of the Nextmv Cloud API, safe to use from several threads.

    Key and endpoint are found as Nextmv's own SDK finds them: given here, in the
    environment, or in `~/.nextmv/config.yaml`. The key is sent to that endpoint only:
    redirects are not followed, cookies are not kept, and `~/.netrc` is not read. A pickled or
    copied client has the same credentials and connections of its own.

    Args:
        api_key: the API key.
        url: base URL of the API.
        profile: profile of the configuration file; `NEXTMV_PROFILE` takes precedence.
        credentials: returns key and endpoint for each request; takes precedence over all of these.
        timeout: seconds that a request may take in all, from connecting to the last byte.
        max_response_bytes: largest decompressed response accepted.

    Raises:
        ConfigurationError: no valid key or endpoint.

    Example:
        >>> from nextmv_exporter.nextmv import Account, Client
        >>> Account(client=Client(api_key="your-api-key")).queue()  # doctest: +SKIP
    """

    def __init__(  # noqa: PLR0913 - as the SDK has it, and what a scrape needs
        self,
        api_key: str | None = None,
        url: str | None = None,
        profile: str | None = None,
        *,
        credentials: Callable[[], Credentials] | None = None,
        timeout: float = TIMEOUT,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        profile = os.environ.get("NEXTMV_PROFILE", "").strip() or profile or DEFAULT_PROFILE
        self._credentials = credentials or resolve(profile, api_key=api_key, url=url)
        self.timeout = timeout
        self.max_response_bytes = max_response_bytes
        self._adapter = HTTPAdapter(pool_maxsize=4 * MAX_REQUESTS)
        self._route: _Route | None = None

    @property
    def credentials(self) -> Credentials:
        """The key and the endpoint of the next request."""
        given = self._credentials
        return given if isinstance(given, Credentials) else given()

    def get(  # noqa: PLR0913 - what one request of a fetch shares with the others
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        name: str | None = None,
        deadline: Deadline | None = None,
        budget: Budget | None = None,
        on_exchange: Observer | None = None,
    ) -> bytearray:
        """Fetch a path of the API.

        A kept-alive connection that the API had closed meanwhile is replaced at once;
        502, 503 and 504 are tried once more after a short pause.

        Args:
            path: the path, quoted, without a slash in front, such as `v1/account/queue`.
            params: the query.
            name: the path as errors and `on_exchange` name it; without it the path itself.
            deadline: by when the full response must be received; by default `timeout` from now.
                A peer that sends the head of a response byte by byte can delay the call further.
            budget: counts the bytes received; by default at most `max_response_bytes`.
            on_exchange: called after each request sent.

        Returns:
            The body, decompressed.

        Raises:
            StatusError: the status is not 2xx; a `requests.HTTPError`.
            NextmvError: no full response was received.
        """
        name, path = name or path, path + (f"?{urlencode(params)}" if params else "")
        deadline = deadline or Deadline(self.timeout)
        budget = budget or Budget(self.max_response_bytes)
        send = partial(self._send, path, name, deadline, budget, on_exchange)
        try:
            return send()
        except errors.NextmvError as error:
            if not error.transient or deadline.remaining() <= 2 * _RETRY_PAUSE:
                raise
            if isinstance(error, errors.StatusError):
                time.sleep(_RETRY_PAUSE)
        return send()

    def _send(
        self, path: str, name: str, deadline: Deadline, budget: Budget, observe: Observer | None
    ) -> bytearray:
        route, credentials = self._route, self.credentials
        if route is None or route.credentials != credentials:  # to find it takes long
            route = self._route = _route(credentials)
        failed = partial(errors.failure_of, name, route.peer, route.secrets)
        if deadline.over:
            raise failed(TimeoutError())
        prepared = route.request.copy()
        prepared.url = f"{credentials.url}/{path}"
        left = max(deadline.limit - time.monotonic(), _TICK)
        timeout: Any = urllib3.Timeout(connect=left * _CONNECT_SHARE, total=left)
        code, offset = "error", None
        start, sent = time.monotonic(), time.time()
        try:
            with self._adapter.send(prepared, timeout=timeout, **route.options) as response:
                code = str(response.status_code)
                offset = _clock_offset(response.headers.get("Date"), sent)
                if not 200 <= response.status_code < 300:
                    body = _read_error(response, deadline)
                    raise errors.status_error(response, body, name, route.secrets)
                return _read(response, name, deadline, budget)
        except errors.NextmvError:
            raise
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as e:
            raise failed(TimeoutError() if deadline.over else e) from None
        finally:
            if observe:
                observe(Exchange(name, code, time.monotonic() - start, offset))


def _clock_offset(date: str | None, sent: float) -> float | None:
    """Compare the middle of the second that `Date` names with the middle of the exchange."""
    moment = errors.parse_date(date)
    return None if moment is None else moment + 0.5 - (sent + time.time()) / 2


def _read(response: requests.Response, name: str, deadline: Deadline, budget: Budget) -> bytearray:
    """Read what arrives: `read` would wait for more, for ever if a byte comes each second."""
    body = bytearray()
    try:
        while True:
            if deadline.over:
                raise TimeoutError  # noqa: TRY301
            connection = response.raw.connection
            if connection and connection.sock:  # else it is closed after this response
                connection.sock.settimeout(max(deadline.limit - time.monotonic(), _TICK))
            if not (piece := response.raw.read1(_PIECE, decode_content=True)):
                return body
            body += piece
            if not budget.take(len(piece)):
                raise errors.ResponseTooLargeError(  # noqa: TRY301
                    f"{name}: the response is larger than {budget.limit} bytes"
                )
    except BaseException:
        body.clear()  # on Python 3.13, urllib3's errors keep this frame until they are collected
        raise


def _read_error(response: requests.Response, deadline: Deadline) -> bytes:
    """Read an error's body, within half of the time left; a part of it could end within the key."""
    body = b""
    with suppress(requests.RequestException, urllib3.exceptions.HTTPError, OSError):
        within = Deadline(deadline.remaining() / 2)
        body = bytes(_read(response, "", within, Budget(_MAX_ERROR)))
    response._content = body  # noqa: SLF001 - `response.text` then returns it without reading more
    return body


def _route(credentials: Credentials) -> _Route:
    url = credentials.url
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "Authorization": f"Bearer {credentials.api_key}",
        "User-Agent": f"nextmv-exporter/{__version__}",
    }
    request = requests.Request("GET", url, headers=headers).prepare()
    options: dict[str, Any] = {"stream": True}
    if url.lower().startswith("https:"):
        options["verify"] = _authorities()
    peer, secrets = f"host {urlsplit(url).netloc}", {credentials.api_key}
    if proxy := select_proxy(url, get_environ_proxies(url)):
        if not (match := _PROXY.fullmatch(proxy)):
            raise errors.ConnectionFailedError(
                "the proxy in the environment is no URL: percent-encode /, ?, # and @ in passwords"
            )
        *private, host = match.groups("")
        private += [unquote(raw, read) for raw in private for read in ("utf-8", "latin-1")]
        secrets |= {text for text in private if len(text) >= _SHORTEST_SECRET}
        peer += f" through proxy {host}"
        # `requests` reads UTF-8 and sends Latin-1: with this it sends the bytes that were encoded.
        encoded = re.sub("%[89A-Fa-f].", lambda found: quote(unquote(found[0], "latin-1")), proxy)
        options["proxies"] = {"all": encoded}
    return _Route(credentials, request, options, peer, sorted(secrets, key=len, reverse=True))


def _authorities() -> str:
    """Return the file or folder of the certificate authorities that are trusted: the system's.

    `requests` alone would use certifi's, which do not include an organisation's own authority.
    """
    variable = next(filter(os.environ.get, _VARIABLES), "the system")
    path = os.environ.get(variable) or _system_authorities()
    file, folder = (None, path) if os.path.isdir(path) else (path, None)  # noqa: PTH112
    try:
        ssl.create_default_context(cafile=file, capath=folder)
    except OSError as error:
        message = f"{variable}: no certificate authorities in {path}: {error.strerror or error}"
        raise errors.TLSError(message) from None
    return path


@cache
def _system_authorities() -> str:
    paths = ssl.get_default_verify_paths()
    if paths.capath and any(Path(paths.capath).glob("*.0")):  # of which only what is needed is read
        return paths.capath
    files = (paths.cafile, *_BUNDLES)
    return next((file for file in files if file and Path(file).is_file()), DEFAULT_CA_BUNDLE_PATH)
