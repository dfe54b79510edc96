"""Parse the values of settings: durations, sizes, addresses, URLs and names."""

import os
import re
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

_SECONDS = {"y": 365 * 86400.0, "w": 7 * 86400.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0,
            "ms": 0.001}  # fmt: skip
_DURATION = re.compile("".join(rf"(?:([0-9]+(?:\.[0-9]+)?){unit})?" for unit in _SECONDS))
_BYTES = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip
_SIZE = re.compile(r"([0-9]+)\s*([A-Za-z]*)")
_ADDRESS = re.compile(r"(\[(?P<bracketed>.*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]+)")
_MAX_PORT = 65535
_MAX_YEARS = 100
MAX_DURATION = _MAX_YEARS * _SECONDS["y"]
"""Longest duration, seconds: the clocks of the standard library overflow beyond 292 years."""


class Address(NamedTuple):
    """An address to listen on.

    Args:
        host: name or address; empty for all interfaces.
        port: the port; 0 for any free one.
    """

    host: str
    port: int


def duration_or_zero(text: str) -> float:
    """Parse a duration in Prometheus's format.

    Args:
        text: such as `500ms`, `10s` or `1h30m`, units from large to small; or `0`.

    Returns:
        Seconds.

    Raises:
        ValueError: it is not a duration, or too long.

    Example:
        >>> duration_or_zero("1h30m")
        5400.0
    """
    match = _DURATION.fullmatch("0s" if text == "0" else text)
    if not text or not match:
        raise ValueError(f"{text!r} is not a duration: write it like 500ms, 10s, 5m or 1h30m")
    amounts = zip(match.groups(), _SECONDS.values(), strict=True)
    total = sum(float(amount) * seconds for amount, seconds in amounts if amount)
    if total > MAX_DURATION:
        raise ValueError(f"{text!r} is longer than {_MAX_YEARS}y, the longest duration allowed")
    return total


def duration(text: str) -> float:
    """Parse a duration that is longer than 0, as `duration_or_zero` does."""
    seconds = duration_or_zero(text)
    if not seconds:
        raise ValueError(f"{text!r} must be longer than 0")
    return seconds


def buckets(text: str) -> tuple[float, ...]:
    """Parse the upper bounds of a histogram.

    Args:
        text: durations in ascending order, separated by commas.

    Returns:
        Seconds.

    Raises:
        ValueError: one is not a duration, or they are not in ascending order.
    """
    bounds = tuple(duration(part.strip()) for part in text.split(","))
    if list(bounds) != sorted(set(bounds)):
        raise ValueError(f"{text!r} is not in ascending order")
    return bounds


def size(text: str) -> int:
    """Parse a size.

    Args:
        text: such as `64MiB` or `1000000`.

    Returns:
        Bytes, at least 1.

    Raises:
        ValueError: it is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match or match[2] not in _BYTES or int(match[1]) == 0:
        raise ValueError(f"{text!r} is not a size: write it like 64MiB or 1000000")
    return int(match[1]) * _BYTES[match[2]]


def address(text: str) -> Address:
    """Parse an address to listen on.

    Args:
        text: `host:port`, with IPv6 in brackets.

    Returns:
        The address.

    Raises:
        ValueError: it is not an address.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match and int(match["port"]) <= _MAX_PORT:
        host = match["bracketed"] or match["host"] or ""
        with suppress(UnicodeError):  # the system's functions encode it with IDNA
            host.encode("idna")
            return Address(host, int(match["port"]))
    raise ValueError(
        f"{text!r} is not host:port: write it like :10057, 127.0.0.1:10057 or [::]:10057"
    )


def path(text: str) -> str:
    """Check the path under which metrics are served.

    Args:
        text: the path.

    Returns:
        The path, unchanged.

    Raises:
        ValueError: it is not a path, or another endpoint's.
    """
    taken = text == "/sd" or text.startswith("/-/")
    if taken or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", text):
        raise ValueError(
            f"{text!r} is not a free path: write it like /metrics (/, /sd and /-/ have other uses)"
        )
    return text


def url(text: str) -> str:
    """Check a URL of http or https.

    Args:
        text: the URL, without a query.

    Returns:
        The URL, unchanged.

    Raises:
        ValueError: it is not such a URL, or holds a user. The message quotes no password.
    """
    if not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", text) or not _has_host(text):
        raise ValueError(
            f"{without_secrets(text)!r} is not a URL: write it like https://exporter.example:10057"
        )
    return text


def without_secrets(url: str) -> str:
    """Return what is meant to be a URL, without what may be a user, a password or a query.

    Args:
        url: the text.

    Returns:
        The text for an error message.
    """
    return re.sub(r"(?s)^.*@|[?#].*", "<redacted>", url)


def _has_host(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # no number, or brackets around what is no address
        return False


def name_or_empty(text: str) -> str:
    """Check the name of a profile.

    Args:
        text: the name, as decoded by the locale.

    Returns:
        The name, without white space around it, decoded as UTF-8 where the locale could not.

    Raises:
        ValueError: it can't be printed.
    """
    name = text.strip()
    with suppress(UnicodeError):
        name = os.fsencode(name).decode()
    if not name.isprintable():
        raise ValueError(f"{text!r} has characters that can't be printed")
    return name


def name(text: str) -> str:
    """Check the name of an account, as `name_or_empty` does; it must not be empty."""
    if not (checked := name_or_empty(text)):
        raise ValueError("it is empty")
    return checked
