"""Parameter types of the command line: durations, sizes, addresses."""

import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit

import click

_SECONDS = {
    "y": 365 * 86400.0,
    "w": 7 * 86400.0,
    "d": 86400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 0.001,
}
_DURATION = re.compile("".join(rf"(?:([0-9]+(?:\.[0-9]+)?){unit})?" for unit in _SECONDS))
_BYTES = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip
_SIZE = re.compile(r"([0-9]+)\s*([A-Za-z]*)")
_MAX_PORT = 65535


def parse_duration(text: str) -> float:
    """Parse a duration in Prometheus's format.

    Args:
        text: such as `500ms`, `10s` or `1h30m`; units from large to small.

    Returns:
        Seconds.

    Raises:
        ValueError: it is not a duration.

    Example:
        >>> parse_duration("1h30m")
        5400.0
    """
    match = _DURATION.fullmatch(text)
    if not text or not match:
        raise ValueError(f"{text!r} is not a duration: write it like 500ms, 10s, 5m or 1h30m")
    amounts = zip(match.groups(), _SECONDS.values(), strict=True)
    return sum(float(amount) * seconds for amount, seconds in amounts if amount)


class Address(NamedTuple):
    """An address to listen on.

    Args:
        host: name or address; empty for all interfaces.
        port: the port; 0 for any free one.
    """

    host: str
    port: int


class Duration(click.ParamType[float]):
    """A duration, converted to seconds.

    Args:
        zero: whether 0 is allowed.
    """

    name = "duration"

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Convert a value for click; raise `click.BadParameter` if it is invalid."""
        if isinstance(value, float):
            return value
        try:
            seconds = 0.0 if value == "0" else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds == 0 and not self._zero:
            self.fail(f"{value!r} must be longer than 0", param, ctx)
        return seconds


class Buckets(click.ParamType[tuple[float, ...]]):
    """Upper bounds of a histogram, durations in ascending order, converted to seconds."""

    name = "durations"

    def convert(
        self,
        value: str | tuple[float, ...],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[float, ...]:
        """Convert a value for click; raise `click.BadParameter` if it is invalid."""
        if isinstance(value, tuple):
            return value
        bounds = tuple(Duration().convert(part.strip(), param, ctx) for part in value.split(","))
        if list(bounds) != sorted(set(bounds)):
            self.fail(f"{value!r} is not in ascending order", param, ctx)
        return bounds


class Bytes(click.ParamType[int]):
    """A size, converted to bytes."""

    name = "size"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Convert a value for click; raise `click.BadParameter` if it is invalid."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(value.strip())
        if not match or match[2] not in _BYTES or int(match[1]) == 0:
            self.fail(f"{value!r} is not a size: write it like 64MiB or 1000000", param, ctx)
        return int(match[1]) * _BYTES[match[2]]


class ListenAddress(click.ParamType[Address]):
    """A `host:port`, converted to an `Address`; in the environment, several with commas."""

    name = "host:port"
    envvar_list_splitter = ","

    def convert(
        self, value: str | Address, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        """Convert a value for click; raise `click.BadParameter` if it is invalid."""
        if isinstance(value, Address):
            return value
        host, colon, port = value.strip().rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        valid_host = bracketed or (":" not in host and "[" not in host and "]" not in host)
        if not (
            colon and port.isascii() and port.isdigit() and int(port) <= _MAX_PORT and valid_host
        ):
            self.fail(
                f"{value!r} is not host:port: write it like :10057, 127.0.0.1:10057 or [::]:10057",
                param,
                ctx,
            )
        return Address(host[1:-1] if bracketed else host, int(port))


class UrlPath(click.ParamType[str]):
    """A path of a URL."""

    name = "path"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Convert a value for click; raise `click.BadParameter` if it is invalid."""
        taken = value == "/sd" or value.startswith("/-/")
        if taken or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value):
            self.fail(
                f"{value!r} is not a free path: write it like /metrics "
                "(/, /sd and /-/ have other uses)",
                param,
                ctx,
            )
        return value


class Url(click.ParamType[str]):
    """A URL of http or https, without a query."""

    name = "URL"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Convert a value for click; raise `click.BadParameter` if it is invalid."""
        if not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", value) or not _has_host(value):
            shown = re.sub(r"(?s)^.*@|[?#].*", "<redacted>", value)  # a password may be among it
            self.fail(
                f"{shown!r} is not a URL: write it like https://exporter.example:10057", param, ctx
            )
        return value


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # no number, or brackets around what is no address
        return False


class ProfileName(click.ParamType[str]):
    """Name of a profile; in the environment, several are separated by commas."""

    name = "name"
    envvar_list_splitter = ","

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Convert a value for click; raise `click.BadParameter` if it is invalid."""
        name = _decoded(value.strip())
        if not name.isprintable():
            self.fail(f"{value!r} has characters that can't be printed", param, ctx)
        return name


class AccountName(ProfileName):
    """Name of an account."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Convert a value for click; raise `click.BadParameter` if it is invalid."""
        return super().convert(value, param, ctx) or self.fail("it is empty", param, ctx)


def _decoded(value: str) -> str:
    """Decode an argument as UTF-8, where the locale could not decode it."""
    try:
        return os.fsencode(value).decode()
    except UnicodeError:
        return value
