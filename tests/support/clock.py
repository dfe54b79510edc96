"""A clock that stands still, for the threads of fetches too."""

from collections.abc import Iterator
from contextlib import contextmanager

from freezegun import config, freeze_time
from freezegun.api import FrozenDateTimeFactory, StepTickTimeFactory, TickingDateTimeFactory

Clock = FrozenDateTimeFactory | StepTickTimeFactory | TickingDateTimeFactory


@contextmanager
def stopped_clock(at: str = "2026-11-23T12:00:00Z") -> Iterator[Clock]:
    """Stop the wall clock and the monotonic one, which freezegun leaves alone in threads."""
    config.configure(default_ignore_list=["_pytest.terminal", "_pytest.runner"])
    try:
        with freeze_time(at) as clock:
            yield clock
    finally:
        config.reset_config()
