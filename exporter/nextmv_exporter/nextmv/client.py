"""HTTP client of the Nextmv API: one kept-alive session, one deadline a request."""

import os
import random
import time
from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy

import requests
import urllib3

from nextmv_exporter import __version__
from nextmv_exporter.deadline import Deadline
from nextmv_exporter.nextmv import errors
from nextmv_exporter.nextmv.connections import Exchange, WatchedAdapter
from nextmv_exporter.nextmv.credentials import DEFAULT_PROFILE, Credentials, resolve
from nextmv_exporter.nextmv.failures import failure_of, peer_closed, status_error, too_late

TIMEOUT = 10.0
"""Seconds that a request may take in all, unless its caller says otherwise."""

MAX_RESPONSE_BYTES = 64 * 1024 * 1024

_FIRST_PIECE = 16 * 1024
_PIECE = 64 * 1024
# No queue shrinks to that little: each of its runs has an ID and a time of its own.
_BOMB_RATIO = 500
_BOMB_BYTES = 4 * 1024 * 1024
_RETRY_PAUSE = (0.05, 0.25)
_RETRIED_STATUSES = frozenset({502, 503, 504})

RequestObserver = Callable[[str, str, float], None]
"""Called after each request with its endpoint, its status or `error`, and its seconds."""


class Client:
    """Client of the Nextmv Cloud API.

    Key and endpoint are found as Nextmv's own SDK finds them: given here, in the
    environment, or in `~/.nextmv/config.yaml`. The key is sent to that endpoint only:
    redirects are not followed.

    Args:
        api_key: the API key.
        url: base URL of the API.
        profile: profile of the configuration file; `NEXTMV_PROFILE` goes before it.
        credentials: gives key and endpoint anew for each request; goes before all of these.
        timeout: seconds that a request may take in all, from connecting to the last byte.
        max_response_bytes: largest decompressed response accepted.
        on_request: told of each request sent.

    Raises:
        ConfigurationError: no usable key or endpoint.

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
        on_request: RequestObserver | None = None,
    ) -> None:
        if credentials is None:
            profile = os.environ.get("NEXTMV_PROFILE", "").strip() or profile or DEFAULT_PROFILE
            found = resolve(profile, api_key=api_key, url=url)
            self._credentials: Callable[[], Credentials] = lambda: found
        else:
            self._credentials = credentials
        self.timeout = timeout
        self.max_response_bytes = max_response_bytes
        self._on_request = on_request or (lambda _endpoint, _code, _seconds: None)
        self._session = _new_session()

    def get(
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        endpoint: str | None = None,
        deadline: Deadline | None = None,
    ) -> bytearray:
        """Fetch a path of the API.

        A kept-alive connection that the API had closed meanwhile is replaced at once;
        502, 503 and 504 are tried once more after a short pause.

        Args:
            path: the path, without a slash in front, such as `v1/account/queue`.
            params: the query.
            endpoint: the path as `on_request` is told of it; without it the path itself.
            deadline: by when the whole answer must be there; without it, `timeout` from now.

        Returns:
            The body, decompressed.

        Raises:
            StatusError: the status is not 2xx; a `requests.HTTPError`.
            NextmvError: no whole answer came.
        """
        deadline = deadline or Deadline(self.timeout)
        gone = False
        try:
            return self._send(path, params, endpoint or path, deadline)
        except _ConnectionGoneError:
            gone = True
        except errors.StatusError as error:
            pause = random.uniform(*_RETRY_PAUSE)  # noqa: S311 - spreads retries, hides nothing
            asked_to_wait = error.retry_after is not None
            if error.status not in _RETRIED_STATUSES or asked_to_wait:
                raise
            if deadline.remaining() <= 2 * pause:
                raise
            deadline.sleep(pause)
        return self._send(path, params, endpoint or path, deadline, fresh=gone)

    def close(self) -> None:
        """Close the connections that are kept alive."""
        self._session.close()

    def _send(
        self,
        path: str,
        params: Mapping[str, str] | None,
        endpoint: str,
        deadline: Deadline,
        *,
        fresh: bool = False,
    ) -> bytearray:
        if deadline.over:
            raise errors.DeadlineExceededError(f"{endpoint}: no time was left to ask the API")
        code = "error"
        credentials = self._credentials()
        start = time.monotonic()
        with Exchange(deadline, fresh=fresh) as exchange, deadline.closing(exchange.abort):
            try:
                with self._session.get(
                    f"{credentials.url}/{path}",
                    params=params,
                    auth=_BearerAuth(credentials.api_key),
                    timeout=deadline.remaining() or 0.001,
                    allow_redirects=False,
                    stream=True,
                ) as response:
                    code = str(response.status_code)
                    if not 200 <= response.status_code < 300:
                        raise status_error(response, endpoint, credentials.api_key)
                    body = self._read(response, endpoint)
            except errors.NextmvError:
                raise
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                if deadline.over:
                    raise too_late(endpoint) from None
                if code == "error" and not exchange.connected and peer_closed(error):
                    raise _ConnectionGoneError(
                        f"{endpoint}: the API closed the connection"
                    ) from None
                raise failure_of(error, endpoint, credentials.api_key) from None
            finally:
                self._on_request(endpoint, code, time.monotonic() - start)
        if deadline.over:  # a body that ends with the connection looks whole when it is cut
            raise too_late(endpoint)
        return body

    def _read(self, response: requests.Response, endpoint: str) -> bytearray:
        body = bytearray()
        # Not `stream`, which does not count what comes over the wire in chunks.
        # Small pieces at first, since the whole of a piece counts as what a bomb grew from.
        while chunk := response.raw.read(
            _PIECE if len(body) > _BOMB_BYTES else _FIRST_PIECE, decode_content=True
        ):
            body += chunk
            if fault := self._too_large(len(body), response.raw.tell()):
                body.clear()  # the exception keeps this frame for as long as it is kept
                raise errors.ResponseTooLargeError(f"{endpoint}: the response {fault}")
        return body

    def _too_large(self, size: int, sent: int) -> str | None:
        if size > self.max_response_bytes:
            return f"is larger than {self.max_response_bytes} bytes (--nextmv.max-response-bytes)"
        if size > max(_BOMB_BYTES, _BOMB_RATIO * sent):
            return f"is a bomb: it grew to {_BOMB_RATIO} times its size when it was decompressed"
        return None


class _ConnectionGoneError(errors.ConnectionFailedError):
    """A kept-alive connection was found closed before any of the answer came."""


class _BearerAuth(requests.auth.AuthBase):
    """Sends the key. Given as `auth`, so that `requests` never looks into `~/.netrc`."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request


class _Session(requests.Session):
    """A session that leaves redirects alone.

    Even where it does not follow them, `requests` prepares the next request: it reads the
    whole body for that, however large, and trips over a malformed `Location`.
    """

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Tell that there is nothing to prepare."""


def _new_session() -> requests.Session:
    session = _Session()
    session.headers.update(
        {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": f"nextmv-exporter/{__version__}",
        }
    )
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("http://", "https://"):
        session.mount(scheme, WatchedAdapter())
    return session
