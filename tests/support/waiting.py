"""Waiting for something that another thread or program does."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(find: Callable[[], Found], *, seconds: float = 120, what: str = "") -> Found:
    """Call a function until what it returns is truthy.

    Args:
        find: called again and again. An `OSError`, `AssertionError` or `LookupError` of it counts
            as nothing found; the message of the last one is reported.
        seconds: the longest time to wait.
        what: what is waited for, for the message.

    Returns:
        What it found.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := find():
                return found
            last = f"still {found!r}"
        except (OSError, AssertionError, LookupError) as error:
            last = repr(error)
        assert time.monotonic() < deadline, f"{what or find}: not within {seconds} s: {last}"
        time.sleep(0.05)
