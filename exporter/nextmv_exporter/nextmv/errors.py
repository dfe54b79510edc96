"""Errors of the configuration and of requests, a type for each that is handled differently."""

import http.client
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

MAX_MESSAGE = 200
"""Characters of a server's text that a message holds, at most."""

_REDACTED = "<redacted>"


class ConfigurationError(ValueError):
    """A setting, variable or file is invalid. The message names it, the cause and the fix.

    Args:
        message: one line that names no command line flag and contains no secret.
        setting: the setting to change, such as `config-file`, where the message does not name it;
            a command line adds its flag.
    """

    def __init__(self, message: str, setting: str = "") -> None:
        super().__init__(message)
        self.setting = setting


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


class NextmvError(requests.RequestException):
    """A request to the Nextmv API got no valid response. Messages never contain the key."""

    reason: Reason
    transient = False
    """Whether the same request may succeed right away."""


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
        self.reason = _reason_of_status(status)
        self.transient = status in (502, 503, 504) and retry_after is None

    @property
    def gone(self) -> bool:
        """Whether what was requested does not exist, or no longer does."""
        return self.status in (404, 410)


def _reason_of_status(status: int) -> Reason:
    if status in (401, 403):
        return Reason.AUTH
    if status == 429:
        return Reason.RATE_LIMITED
    if status >= 500:
        return Reason.SERVER_ERROR
    if status >= 400:
        return Reason.CLIENT_ERROR
    return Reason.REDIRECT if status >= 300 else Reason.INVALID_RESPONSE


def plain(text: str, secrets: Sequence[str], *, cut: bool = False) -> str:
    """Return a text from elsewhere as a short line of printable characters, without secrets.

    Args:
        text: the text.
        secrets: what is replaced, the longest first.
        cut: whether the text may end in the middle of a secret.

    Returns:
        The line.
    """
    for secret in secrets:
        text = text.replace(secret, _REDACTED)
    if cut:
        text = text[: -len(secrets[0])]
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:MAX_MESSAGE]


def status_error(
    response: requests.Response, excerpt: str, name: str, secrets: Sequence[str]
) -> StatusError:
    """Return the error for a response whose status is not 2xx.

    Args:
        response: the response.
        excerpt: a plain line of its body.
        name: the path as the message names it.
        secrets: what the message must not contain.

    Returns:
        The error, with the start of the body or the host of a redirect in its message.
    """
    message = f"{name}: the API responded {response.status_code}"
    message += f" {plain(response.reason or '', secrets)}".rstrip()
    if location := response.headers.get("Location"):
        host = plain(_host(location, response.url), secrets)
        message += f", a redirect to host {host}, not followed"
    elif excerpt:
        message += f": {excerpt}"
    # The request holds the key; it must not be found in the exception's parts.
    response.request.headers.pop("Authorization", None)
    overloaded = response.status_code == 429 or response.status_code >= 500
    return StatusError(
        message,
        status=response.status_code,
        retry_after=_retry_after(response.headers) if overloaded else None,
        response=response,
    )


def _host(location: str, base: str) -> str:
    try:
        return urlsplit(urljoin(base, location)).hostname or "unknown"
    except ValueError:
        return "unknown"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Parse `Retry-After`, a number of seconds or a date, into seconds.

    A date is compared with the response's own `Date`, since this machine's clock may be wrong.
    """
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]+", value):
        return float(value)
    if (until := parse_date(value)) is None:
        return None
    now = parse_date(headers.get("Date")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def parse_date(value: str | None) -> datetime | None:
    """Parse the date of a header.

    Args:
        value: the header's value.

    Returns:
        The date; None if it is missing or invalid.
    """
    try:
        moment = parsedate_to_datetime(value or "")
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


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
    root = next((str(cause) for cause in reversed(causes) if str(cause)), "failed")

    def caused_by(*types: type[BaseException]) -> bool:
        return any(isinstance(cause, types) for cause in causes)

    def described(text: str) -> str:
        return f"{name}: {plain(text, secrets)} ({peer})"

    # urllib3 makes a refused connection a kind of timeout.
    refused = caused_by(urllib3.exceptions.NewConnectionError) and not caused_by(TimeoutError)
    timeouts = (requests.Timeout, TimeoutError, urllib3.exceptions.TimeoutError)
    if not refused and caused_by(*timeouts):
        return DeadlineExceededError(described("timed out before the full response was received"))
    if caused_by(requests.exceptions.SSLError, urllib3.exceptions.SSLError):
        if "WRONG_VERSION_NUMBER" in root:
            root += ": the port does not speak TLS: is the endpoint or proxy http:// there?"
        return TLSError(described(root))
    if caused_by(urllib3.exceptions.DecodeError):
        return InvalidResponseError(described("the body can't be decompressed"))
    closed = caused_by(http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
    broken = closed or caused_by(http.client.IncompleteRead)
    if caused_by(http.client.HTTPException) and not broken:
        return InvalidResponseError(described(f"the response is not valid HTTP: {root}"))
    if caused_by(ValueError) and "://" in root:  # the URL of a proxy, which may hold a password
        root = "the URL is invalid"
    failure = ConnectionFailedError(described(root))
    failure.transient = closed  # a connection that was kept alive for too long
    return failure


def _causes(error: BaseException) -> list[BaseException]:
    """Follow an exception to its causes, through the wrappers of `requests` and `urllib3`."""
    causes: list[BaseException] = []
    pending: list[object] = [error]
    while pending:
        cause = pending.pop()
        if isinstance(cause, BaseException) and cause not in causes:
            causes.append(cause)
            pending += [*cause.args, cause.__cause__]
    return causes
