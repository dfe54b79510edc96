"""The moment by which a scrape must have answered, passed down as one value."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Deadline:
    """A moment on the monotonic clock, which may also be called off before it comes.

    One is made where a request enters and handed down to the socket, so that every
    step sees the same time running out.

    Args:
        seconds: time from now.

    Example:
        >>> Deadline(5).remaining() <= 5
        True
    """

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._closers: list[Callable[[], None]] = []

    def remaining(self) -> float:
        """Seconds left, never below 0; 0 once cancelled."""
        return 0.0 if self._cancelled.is_set() else max(0.0, self._at - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether it has passed or was cancelled."""
        return self.remaining() == 0.0

    def cancel(self) -> None:
        """End it now: nobody waits for the answer any more."""
        with self._lock:
            self._cancelled.set()
            closers = list(self._closers)
        for close in closers:
            close()

    def sleep(self, seconds: float) -> None:
        """Wait, but not past the end.

        Args:
            seconds: how long.
        """
        self._cancelled.wait(min(seconds, self.remaining()))

    @contextmanager
    def closing(self, close: Callable[[], None]) -> Iterator[None]:
        """Call `close` from another thread if the deadline ends inside the block.

        This frees a thread that is blocked in a socket, whatever it waits for there.

        Args:
            close: called at most once for each way of ending; must not block.
        """
        with self._lock:
            self._closers.append(close)
        # Only now, so that a deadline cancelled before `cancel` knew of `close` is seen here.
        timer = threading.Timer(self.remaining(), close)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._closers.remove(close)
