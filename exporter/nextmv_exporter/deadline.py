"""The time by which a scrape must have responded, passed down as one value."""

import time


class Deadline:
    """A time on the monotonic clock that later scrapes may extend.

    It is created where a request enters and passed down to the socket, so that every step
    works with the same remaining time.

    Args:
        seconds: time from now.
        longest: time from now to which it may be extended; by default not at all.

    Example:
        >>> Deadline(5).remaining() <= 5
        True
    """

    def __init__(self, seconds: float, longest: float | None = None) -> None:
        now = time.monotonic()
        # When it passes, and when at the latest, as what blocks can't be extended; monotonic
        # seconds.
        self.at = now + seconds
        self.limit = now + (seconds if longest is None else longest)

    def remaining(self) -> float:
        """Return the seconds left, never below 0."""
        return max(0.0, self.at - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether it has passed or was cancelled."""
        return self.remaining() == 0.0

    def extend(self, other: "Deadline") -> None:
        """Extend it to another deadline, if that one is later.

        Args:
            other: the other deadline.
        """
        self.at = max(self.at, min(other.at, self.limit))

    def cancel(self) -> None:
        """End it now: no one waits for the response any more."""
        self.at = float("-inf")

    def sleep(self, seconds: float) -> None:
        """Wait, but not past the deadline.

        Args:
            seconds: time to wait.
        """
        time.sleep(min(seconds, self.remaining()))
