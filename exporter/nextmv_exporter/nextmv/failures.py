"""Map the exceptions of `requests` and `urllib3` to the errors of this package."""

import http.client
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from nextmv_exporter.nextmv import errors
from nextmv_exporter.nextmv.connections import InvalidChunkError
from nextmv_exporter.nextmv.proxies import proxy_secrets
from nextmv_exporter.nextmv.redaction import Redactor

_EXCERPT = 200
_READ_FOR_EXCERPT = 4096


def timed_out(endpoint: str) -> errors.DeadlineExceededError:
    """Return the error for a response that was not received in full in time.

    Args:
        endpoint: the path as the message names it.

    Returns:
        The error.
    """
    return errors.DeadlineExceededError(
        f"{endpoint}: timed out before the full response was received"
    )


def status_error(response: requests.Response, endpoint: str, api_key: str) -> errors.StatusError:
    """Return the error for a response whose status is not 2xx.

    Args:
        response: the response, its body not read yet.
        endpoint: the path as the message names it.
        api_key: the key, which is removed from the response's text.

    Returns:
        The error, with the start of the body in its message.
    """
    redactor = Redactor(api_key, *proxy_secrets())
    status = f"{response.status_code} {redactor.clean(response.reason or '', _EXCERPT)}".rstrip()
    message = f"{endpoint}: the API responded {status}"
    if location := response.headers.get("Location"):
        host = _host(redactor.hide(location[:_READ_FOR_EXCERPT]), response.url)
        message += f", a redirect to host {redactor.clean(host, _EXCERPT)}, not followed"
    elif excerpt := _excerpt(response, redactor):
        message += f": {excerpt}"
    reason = errors.reason_of_status(response.status_code)
    overloaded = reason in (errors.Reason.RATE_LIMITED, errors.Reason.SERVER_ERROR)
    # The request holds the key; it must not be found in the exception's parts.
    response.request.headers.pop("Authorization", None)
    return errors.StatusError(
        message,
        status=response.status_code,
        retry_after=retry_after(response.headers) if overloaded else None,
        response=response,
    )


def _host(location: str, base: str) -> str:
    try:
        return urlsplit(urljoin(base, location)).hostname or "unknown"
    except ValueError:
        return "unknown"


def _excerpt(response: requests.Response, redactor: Redactor) -> str:
    """Read the start of an error's body, on one line."""
    try:
        body = response.raw.read(_READ_FOR_EXCERPT, decode_content=True)
    except (urllib3.exceptions.HTTPError, OSError):
        return ""
    response._content = body  # noqa: SLF001 - `response.text` then returns it without reading more
    cut = len(body) >= _READ_FOR_EXCERPT
    return redactor.clean(body.decode("utf-8", "replace"), _EXCERPT, cut=cut)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Parse a `Retry-After` header, which may be a number or a date (RFC 9110).

    A date is compared with the response's own `Date`, since this machine's clock may be wrong.

    Args:
        headers: of the response.

    Returns:
        Seconds to wait; None if there is no such header, or no valid one.
    """
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]+", value):
        return float(value)
    if (until := _date(value)) is None:
        return None
    now = _date(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def peer_closed(error: BaseException) -> bool:
    """Return whether the peer closed the connection.

    Args:
        error: what `requests` raised.

    Returns:
        Whether that is its cause.
    """
    closed = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
    return any(isinstance(cause, closed) for cause in _causes(error))


def failure_of(error: Exception, endpoint: str, api_key: str) -> errors.NextmvError:
    """Map an exception to the error that names its cause.

    Args:
        error: what `requests` or `urllib3` raised.
        endpoint: the path as the message names it.
        api_key: the key, which is removed from the message.

    Returns:
        The error to raise.
    """
    causes = list(_causes(error))
    root = next((c for c in reversed(causes) if str(c)), error)
    redactor = Redactor(api_key, *proxy_secrets())
    message = f"{endpoint}: {redactor.clean(str(root), _EXCERPT)}"
    if peer := _peer(error, causes):
        message += f" ({redactor.clean(peer, _EXCERPT)})"

    def caused_by(*types: type[BaseException]) -> bool:
        return any(isinstance(cause, types) for cause in causes)

    if caused_by(requests.Timeout, TimeoutError, urllib3.exceptions.TimeoutError):
        return timed_out(endpoint)
    if caused_by(requests.exceptions.SSLError, urllib3.exceptions.SSLError):
        if "WRONG_VERSION_NUMBER" in message:
            message += " (the port does not speak TLS: is the endpoint or proxy http:// there?)"
        return errors.TLSError(message)
    if caused_by(urllib3.exceptions.DecodeError):
        return errors.InvalidResponseError(f"{endpoint}: the body can't be decompressed")
    if caused_by(InvalidChunkError):
        return errors.InvalidResponseError(f"{endpoint}: the body has an invalid chunk size")
    if caused_by(http.client.HTTPException) and not (
        caused_by(http.client.IncompleteRead) or peer_closed(error)
    ):
        # Over 100 headers, or a line that is too long.
        limit = f": {root}" if str(root).startswith("got more than ") else ""
        return errors.InvalidResponseError(f"{endpoint}: the response is not valid HTTP{limit}")
    return errors.ConnectionFailedError(message)


def _peer(error: Exception, causes: Sequence[BaseException]) -> str:
    """Name the host or the proxy that was connected to, without a user or password."""
    if any(isinstance(cause, urllib3.exceptions.ProxyError) for cause in causes):
        pools = (c.pool for c in causes if isinstance(c, urllib3.exceptions.PoolError))
        if proxy := getattr(next(pools, None), "proxy", None):
            return f"proxy {proxy.host}:{proxy.port}"
    request = getattr(error, "request", None)
    return f"host {urlsplit(request.url).netloc}" if request else ""


def _causes(error: BaseException | None) -> "list[BaseException]":
    """Follow an exception to its causes, through `requests`' and `urllib3`'s wrappers."""
    causes: list[BaseException] = []
    pending: list[object] = [error]
    while pending:
        cause = pending.pop()
        if isinstance(cause, BaseException) and cause not in causes:
            causes.append(cause)
            pending += [*cause.args, cause.__cause__]
    return causes
