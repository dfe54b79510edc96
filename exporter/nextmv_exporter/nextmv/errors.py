"""Errors of the configuration and of requests, a type for each that is handled differently."""

import http.client
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from email.utils import mktime_tz, parsedate_tz
from enum import StrEnum
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

MAX_MESSAGE = 200
"""Characters of a server's text that a message holds, at most."""


class ConfigurationError(ValueError):
    """A setting, variable or file is invalid. The message names it, the cause and the fix.

    Args:
        message: one line without secrets.
    """


class UnreadableFileError(ConfigurationError):
    """A file can't be read now. Reading it again may succeed although it has not changed."""


class UnknownProfileError(ConfigurationError):
    """The configuration file is valid, but does not contain a requested profile."""


class Reason(StrEnum):
    """Why an account could not be read; the values of the `reason` label."""

    AUTH = "auth"
    RATE_LIMITED = "rate_limited"
    CLIENT_ERROR = "client_error"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    TLS = "tls"
    REDIRECT = "redirect"
    RESPONSE_TOO_LARGE = "response_too_large"
    INVALID_RESPONSE = "invalid_response"


_REASONS = {
    401: Reason.AUTH, 403: Reason.AUTH, 429: Reason.RATE_LIMITED,
    3: Reason.REDIRECT, 4: Reason.CLIENT_ERROR, 5: Reason.SERVER_ERROR,
}  # fmt: skip
"""By status, and by its first digit."""


class NextmvError(requests.RequestException):
    """A request to the Nextmv API got no valid response. Messages never contain the key."""

    reason: Reason
    transient = False
    """Whether the same request may succeed right away."""
    gone = False
    """Whether what was requested does not exist, or no longer does."""


class ConnectionFailedError(NextmvError, requests.ConnectionError):
    """The API could not be reached, or the connection broke."""

    reason = Reason.CONNECTION


class TLSError(ConnectionFailedError):
    """No trusted TLS connection could be established."""

    reason = Reason.TLS


class DeadlineExceededError(NextmvError, requests.Timeout):
    """Timed out before the full response was received."""

    reason = Reason.TIMEOUT


class ResponseTooLargeError(NextmvError):
    """The response, decompressed, is larger than allowed."""

    reason = Reason.RESPONSE_TOO_LARGE


class InvalidResponseError(NextmvError):
    """The response is not what the API documents."""

    reason = Reason.INVALID_RESPONSE


class StatusError(NextmvError, requests.HTTPError):
    """The API responded with a status other than 2xx.

    Args:
        message: for the operator, without the key.
        status: the HTTP status. Without it, which is how pickle calls this, it is set afterwards.
        retry_after: seconds to wait before the next request, as the API demands with 429 or a
            status from 500; or None.
        response: the response, as `requests.HTTPError` has it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        retry_after: float | None = None,
        response: requests.Response | None = None,
    ) -> None:
        super().__init__(message, response=response)
        self.status = status
        self.retry_after = retry_after
        self.reason = _REASONS.get(status) or _REASONS.get(status // 100, Reason.INVALID_RESPONSE)
        self.transient = status in (502, 503, 504) and retry_after is None
        self.gone = status in (404, 410)


def plain(text: str, secrets: Sequence[str]) -> str:
    """Return a text from elsewhere as a short line of printable characters, without secrets.

    Args:
        text: the text.
        secrets: what is replaced, the longest first.

    Returns:
        The line.
    """
    for secret in secrets:
        text = text.replace(secret, "<redacted>")
    return printable(text)[:MAX_MESSAGE]


def printable(text: str) -> str:
    """Return a text as one line, without characters that could control a terminal.

    Args:
        text: the text.

    Returns:
        The line.
    """
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def status_error(
    response: requests.Response, body: bytes, name: str, secrets: Sequence[str]
) -> StatusError:
    """Return the error for a response whose status is not 2xx.

    Args:
        response: the response.
        body: its body.
        name: the path as the message names it.
        secrets: what the message must not contain, the longest first.

    Returns:
        The error, with the start of the body or the host of a redirect in its message.
    """
    status, text = response.status_code, body.decode("utf-8", "replace")
    if location := response.headers.get("Location"):
        host = ""
        with suppress(ValueError):
            host = urlsplit(urljoin(response.url, location)).hostname or ""
        text = f"a redirect to host {host or 'unknown'}, not followed"
    message = f"{name}: the API responded {status} {plain(response.reason or '', secrets)}".rstrip()
    if text := plain(text, secrets):
        message += f": {text}"
    # The request holds the key; it must not be found in the exception's parts.
    response.request.headers.pop("Authorization", None)
    wait = _retry_after(response.headers) if status == 429 or status >= 500 else None
    return StatusError(message, status=status, retry_after=wait, response=response)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Parse `Retry-After`, seconds or a date, which is compared with the response's own `Date`."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    until, now = parse_date(value), parse_date(headers.get("Date"))
    return None if until is None or now is None else max(0.0, until - now)


def parse_date(value: str | None) -> float | None:
    """Parse the date of a header.

    Args:
        value: the header's value.

    Returns:
        Unix seconds; None if it is missing or invalid.
    """
    try:
        parsed = parsedate_tz(value or "")
        return mktime_tz(parsed) if parsed else None
    except (ValueError, OverflowError):
        return None


def failure_of(name: str, peer: str, secrets: Sequence[str], error: Exception) -> NextmvError:
    """Map an exception to the error that names its cause.

    Args:
        name: the path as the message names it.
        peer: the host and the proxy, as the message names them.
        secrets: what the message must not contain, the longest first.
        error: what `requests` or `urllib3` raised.

    Returns:
        The error to raise.
    """
    causes = _causes(error)
    root = next((text for cause in reversed(causes) if (text := str(cause))), "failed")

    def caused_by(*types: type[BaseException]) -> bool:
        return any(isinstance(cause, types) for cause in causes)

    def described(text: str) -> str:
        return f"{name}: {plain(text, secrets)} ({peer})"

    if caused_by(TimeoutError):  # not urllib3's, of which a refused connection is a kind
        return DeadlineExceededError(described("timed out before the full response was received"))
    if caused_by(ssl.SSLError, urllib3.exceptions.SSLError):
        return TLSError(described(root))
    closed = caused_by(ConnectionResetError, BrokenPipeError)
    broken = closed or caused_by(http.client.IncompleteRead)
    if caused_by(http.client.HTTPException, urllib3.exceptions.DecodeError) and not broken:
        return InvalidResponseError(described(f"the response is not valid HTTP: {root}"))
    if caused_by(ValueError) and "://" in root:  # the URL of a proxy, which may hold a password
        root = "the URL is invalid"
    failure = ConnectionFailedError(described(root))
    # A connection that was kept alive for too long, and no response yet.
    failure.transient = closed and isinstance(error, requests.RequestException)
    return failure


def _causes(error: BaseException) -> Sequence[BaseException]:
    """Follow an exception to its cause, through the wrappers of `requests` and `urllib3`."""
    inner = [each for each in (error.__cause__, *error.args) if isinstance(each, BaseException)]
    return (error, *_causes(inner[0])) if inner else (error,)
