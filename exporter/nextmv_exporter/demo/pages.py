"""Pagination as the Nextmv API does it: newest first, with an opaque token for the next page.

A token names the item that the next page follows, not a number of items to skip, so that runs
that arrive or end between two pages are neither repeated nor skipped.
"""

import base64
import json
from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter
from typing import Protocol, TypeVar

Position = tuple[float, str]


class Positioned(Protocol):
    """An item with a fixed position in listings."""

    @property
    def position(self) -> Position:
        """Its creation time, in Unix seconds, and its id."""


Item = TypeVar("Item", bound=Positioned)


class InvalidTokenError(ValueError):
    """A page token that `turn` did not return."""


def turn(items: Sequence[Item], token: str, size: int) -> tuple[list[Item], str]:
    """Return one page of a listing.

    Args:
        items: All items, oldest first.
        token: The token that the previous page returned; empty for the first page.
        size: The most items on a page.

    Returns:
        The page, newest first, and the token of the next page; empty after the last.

    Raises:
        InvalidTokenError: The token is not one that was returned.
    """
    older = bisect_left(items, _read(token), key=attrgetter("position")) if token else len(items)
    first = max(0, older - size)
    page = list(reversed(items[first:older]))
    return page, _write(page[-1].position) if first else ""


def _write(position: Position) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def _read(token: str) -> Position:
    try:
        created_at, identifier = json.loads(base64.urlsafe_b64decode(token))
        return float(created_at), str(identifier)
    except (ValueError, TypeError) as error:
        raise InvalidTokenError(token) from error
