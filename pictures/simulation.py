"""A simulated account at simulated times, behind a real HTTP server."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from unittest.mock import patch

from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, Simulator
from nextmv_exporter.demo.catalogue import EXECUTION_CLASSES, ExecutionClass

MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC).timestamp()
"""When the simulated day starts; fixed, so that the pictures change with the code only."""


@dataclass
class Clock:
    """Replaces the wall clock.

    Args:
        now: the time, Unix seconds.
    """

    now: float

    def time(self) -> float:
        """Return the time, as `time.time` does."""
        return self.now


@contextmanager
def simulated_account(
    start: float, execution_classes: Sequence[ExecutionClass] = EXECUTION_CLASSES
) -> Iterator[tuple[Clock, str]]:
    """Serve a simulated account, and let the whole program have the account's time.

    Args:
        start: the time at first, Unix seconds.
        execution_classes: those of the account.

    Yields:
        The clock, to be moved forward, and the endpoint, which `DEMO_KEY` opens.
    """
    clock = Clock(start)
    account = Simulator(seed=1, start=start, execution_classes=execution_classes)
    with (
        patch("time.time", clock.time),
        DemoServer(DemoAPI({DEMO_KEY: account}, clock=clock.time)) as server,
    ):
        yield clock, server.url
