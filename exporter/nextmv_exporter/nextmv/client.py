"""HTTP client of the Nextmv API: one deadline for the whole of each request."""

import os
import random
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import requests
import urllib3
from requests.utils import get_environ_proxies

from nextmv_exporter import __version__
from nextmv_exporter.deadline import Deadline
from nextmv_exporter.forks import repair_after_fork
from nextmv_exporter.nextmv import errors
from nextmv_exporter.nextmv.connections import DeadlineAdapter, Exchange, exchanging
from nextmv_exporter.nextmv.credentials import DEFAULT_PROFILE, Credentials, resolve
from nextmv_exporter.nextmv.failures import failure_of, peer_closed, status_error, timed_out
from nextmv_exporter.nextmv.trust import tls_context

TIMEOUT = 10.0
"""Seconds that a request may take in all, unless its caller says otherwise."""

MAX_RESPONSE_BYTES = 64 * 1024 * 1024

MAX_REQUESTS = 8
"""Requests of one account that are in flight at once, at most."""

_FIRST_PIECE = 16 * 1024
_PIECE = 64 * 1024
# No queue compresses that well: each of its runs has a different ID and time.
_BOMB_RATIO = 500
_BOMB_BYTES = 4 * 1024 * 1024
_RETRY_PAUSE = (0.05, 0.25)
_RETRIED_STATUSES = frozenset({502, 503, 504})

RequestObserver = Callable[[str, str, float], None]
"""Called after each request with its endpoint, its status or `error`, and its seconds."""


class Budget:
    """The bytes that the responses of one fetch may hold together, decompressed.

    Args:
        limit: that many.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.received = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> str | None:
        """Count bytes received.

        Args:
            size: that many.

        Returns:
            What is wrong, if more than `limit` were received.
        """
        with self._lock:
            self.received += size
            return f"is larger than {self.limit} bytes" if self.received > self.limit else None


class Client:
    """Client of the Nextmv Cloud API, safe to use from several threads.

    Key and endpoint are found as Nextmv's own SDK finds them: given here, in the
    environment, or in `~/.nextmv/config.yaml`. The key is sent to that endpoint only:
    redirects are not followed, cookies are not kept, and `~/.netrc` is not read.

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
        if credentials is None:
            profile = os.environ.get("NEXTMV_PROFILE", "").strip() or profile or DEFAULT_PROFILE
            found = resolve(profile, api_key=api_key, url=url)
            self._credentials: Callable[[], Credentials] = lambda: found
        else:
            self._credentials = credentials
        self.timeout = timeout
        self.max_response_bytes = max_response_bytes
        self.after_fork()
        repair_after_fork(self)
        self._prepared: tuple[Credentials, requests.PreparedRequest, dict[str, str]] | None = None

    def get(  # noqa: PLR0913 - what one request of a fetch shares with the others
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        endpoint: str | None = None,
        deadline: Deadline | None = None,
        budget: Budget | None = None,
        on_request: RequestObserver | None = None,
    ) -> bytearray:
        """Fetch a path of the API.

        A kept-alive connection that the API had closed meanwhile is replaced at once;
        502, 503 and 504 are tried once more after a short pause.

        Args:
            path: the path, quoted, without a slash in front, such as `v1/account/queue`.
            params: the query.
            endpoint: the path as errors and `on_request` name it; without it the path itself.
            deadline: by when the full response must be received; by default `timeout` from now.
            budget: counts the bytes received; by default at most `max_response_bytes`.
            on_request: called after each request sent.

        Returns:
            The body, decompressed.

        Raises:
            StatusError: the status is not 2xx; a `requests.HTTPError`.
            NextmvError: no full response was received.
        """
        request = _Request(
            path=path,
            query=f"?{urlencode(params)}" if params else "",
            endpoint=endpoint or path,
            deadline=deadline or Deadline(self.timeout),
            budget=budget or Budget(self.max_response_bytes),
            observe=on_request or (lambda _endpoint, _code, _seconds: None),
        )
        gone = False
        try:
            return self._send(request)
        except _ConnectionGoneError:
            gone = True
        except errors.StatusError as error:
            pause = random.uniform(*_RETRY_PAUSE)  # noqa: S311 - spreads retries, hides nothing
            asked_to_wait = error.retry_after is not None
            if error.status not in _RETRIED_STATUSES or asked_to_wait:
                raise
            if request.deadline.remaining() <= 2 * pause:
                raise
            request.deadline.sleep(pause)
        return self._send(request, fresh=gone)

    @property
    def credentials(self) -> Credentials:
        """The key and the endpoint of the next request."""
        return self._credentials()

    def close(self) -> None:
        """Close the connections that are kept alive."""
        self._adapter.close()

    def _prepare(self, credentials: Credentials) -> tuple[requests.PreparedRequest, dict[str, str]]:
        """Return a request without its path, and the proxies; both change with the credentials."""
        prepared = self._prepared  # which another thread may replace
        if prepared is None or prepared[0] != credentials:
            proxies = get_environ_proxies(credentials.url)
            prepared = self._prepared = credentials, _prepare(credentials), proxies
        return prepared[1].copy(), prepared[2]

    def after_fork(self) -> None:
        """Replace the connections, which a forked process must not share."""
        self._adapter = DeadlineAdapter(tls_context(), MAX_REQUESTS)

    def _send(self, request: "_Request", *, fresh: bool = False) -> bytearray:
        endpoint, deadline = request.endpoint, request.deadline
        if deadline.over:
            raise timed_out(endpoint)
        code = "error"
        credentials = self.credentials
        start = time.monotonic()
        exchange = Exchange(deadline, fresh=fresh)
        with exchanging(exchange):
            try:
                prepared, proxies = self._prepare(credentials)
                prepared.url = f"{credentials.url}/{request.path}{request.query}"
                # No timeout: the sockets keep the deadline.
                with self._adapter.send(prepared, stream=True, proxies=proxies) as response:
                    code = str(response.status_code)
                    if not 200 <= response.status_code < 300:
                        # The status is reported even if the error's body takes too long.
                        with exchanging(Exchange(Deadline(deadline.remaining() / 2))):
                            raise status_error(response, endpoint, credentials.api_key)
                    body = _read(response, request)
            except errors.NextmvError:
                raise
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                _clear_frames(error)
                if deadline.over:
                    raise timed_out(endpoint) from None
                if code == "error" and not exchange.connected and peer_closed(error):
                    raise _ConnectionGoneError from None
                raise failure_of(error, endpoint, credentials.api_key) from None
            finally:
                request.observe(endpoint, code, time.monotonic() - start)
        if deadline.over:  # a body that ends with the connection looks whole when it is cut
            raise timed_out(endpoint)
        return body


@dataclass(frozen=True)
class _Request:
    path: str
    query: str
    endpoint: str
    deadline: Deadline
    budget: Budget
    observe: RequestObserver


def _read(response: requests.Response, request: _Request) -> bytearray:
    if "html" in response.headers.get("Content-Type", "").lower():
        raise errors.InvalidResponseError(
            f"{request.endpoint}: the response is an HTML page, not JSON: is there a proxy with a "
            "login page between here and the API?"
        )
    body = bytearray()
    # Not `stream`, which does not count what comes over the wire in chunks.
    # Small pieces at first, since the whole of a piece counts as what a bomb grew from.
    while chunk := response.raw.read(
        _PIECE if len(body) > _BOMB_BYTES else _FIRST_PIECE, decode_content=True
    ):
        body += chunk
        fault = request.budget.take(len(chunk))
        if len(body) > max(_BOMB_BYTES, _BOMB_RATIO * response.raw.tell()):
            fault = f"grew to more than {_BOMB_RATIO} times its size when it was decompressed"
        if fault:
            body.clear()  # the exception keeps this frame for as long as it is kept
            raise errors.ResponseTooLargeError(f"{request.endpoint}: the response {fault}")
    return body


def _clear_frames(error: BaseException) -> None:
    """Clear the frames that an error passed through.

    Those of urllib3 refer to the error itself, and so would keep the frames of all callers, with
    what these have received, until the next garbage collection.
    """
    link: BaseException | None = error
    while link:
        traceback.clear_frames(link.__traceback__)
        link = link.__context__


class _ConnectionGoneError(errors.ConnectionFailedError):
    """A kept-alive connection was found closed before any of the response was received."""


def _prepare(credentials: Credentials) -> requests.PreparedRequest:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "Authorization": f"Bearer {credentials.api_key}",
        "Connection": "keep-alive",
        "User-Agent": f"nextmv-exporter/{__version__}",
    }
    return requests.Request("GET", credentials.url, headers=headers).prepare()
