"""Errors of the configuration and of requests, a type for each that is handled differently."""

from enum import StrEnum

import requests


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


class UnknownProfileError(ConfigurationError):
    """The configuration file is valid, but does not contain a requested profile."""


class InvalidNameError(ConfigurationError):
    """The name of an account or a profile would break a label, a page or a log line."""


class NextmvError(requests.RequestException):
    """A request to the Nextmv API got no valid response. Messages never contain the key."""

    reason: Reason


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
        status: the HTTP status.
        retry_after: seconds to wait before the next request, as the API demands with 429 or a
            status from 500; or None.
        response: the response, as `requests.HTTPError` has it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        retry_after: float | None = None,
        response: requests.Response | None = None,
    ) -> None:
        super().__init__(message, response=response)
        self.status = status
        self.retry_after = retry_after
        self.reason = reason_of_status(status)

    @property
    def gone(self) -> bool:
        """Whether what was requested does not exist, or no longer does."""
        return self.status in (404, 410)


def reason_of_status(status: int) -> Reason:
    """Return the failure reason for a status outside 2xx.

    Args:
        status: the HTTP status.

    Returns:
        The reason.
    """
    if status in (401, 403):
        return Reason.AUTH
    if status == 429:
        return Reason.RATE_LIMITED
    if status >= 500:
        return Reason.SERVER_ERROR
    if status >= 400:
        return Reason.CLIENT_ERROR
    if status >= 300:
        return Reason.REDIRECT
    return Reason.INVALID_RESPONSE
